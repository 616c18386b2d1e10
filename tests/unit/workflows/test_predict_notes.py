"""What `repkit predict` says of options that change nothing for the run at hand."""

import pytest

from repkit.workflows.predict.notes import idle_notes

SPEAKER = "--same-speaker (same_speaker) changes nothing: this run standardises nothing by speaker"
CORPUS = "--same-corpus (same_corpus) changes nothing: this run standardises nothing by corpus"


def run(mode, by="train", level="utterance"):
    embeddings = None if level is None else {"level": level}
    return {"normalisation": {"mode": mode}, "vector": {"by": by, "standardise": True}, "embeddings": embeddings}


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (run("global_train"), [SPEAKER, CORPUS]),
        (run("per_speaker"), [CORPUS]),
        (run("global_train", "per_speaker"), [CORPUS]),
        (run("per_corpus", "per_speaker"), []),
        (run("global_train", "per_speaker", "frame"), [SPEAKER, CORPUS]),  # states are not standardised so
        (run("none", "per_corpus", None), [SPEAKER, CORPUS]),
    ],
)
def test_what_is_told_in_vain_is_said(description, said):
    assert idle_notes(description, same_speaker=True, same_corpus=True) == said
    assert idle_notes(description, same_speaker=False, same_corpus=False) == []
