"""Embedding stores on the command line: names that conditions can have, and options that are not overridden."""

import numpy as np
import pytest

import repkit.cli.probe
import repkit.workflows.train_ser.cost
from repkit.audio.open import open_corpus
from repkit.cli import main
from repkit.cli.shared import console
from repkit.cli.train_ser import embedding_conditions
from repkit.errors import UsageError
from repkit.store import StoreSpec, StoreWriter


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with stores of synthetic_a: emb/E1, emb/my enc, and skipping, which left one utterance out."""
    corpus = open_corpus("synthetic_a")
    folder = tmp_path_factory.mktemp("stores")
    for name, skip in (("emb/E1", 0), ("emb/my enc", 0), ("skipping/E2", 1)):
        spec = StoreSpec(kind="vectors", dim=2, dtype="float32", corpus=corpus.name,
                         corpus_fingerprint=corpus.fingerprint(), source={"encoder": name})  # fmt: skip
        with StoreWriter(folder / name / corpus.name, spec) as writer:
            for place, utterance in enumerate(corpus.utterances()):
                if place < skip:
                    writer.leave_out(utterance.id, "cannot be read")
                else:
                    writer.add(utterance.id, np.zeros(2, np.float32))
            writer.finish()
    return folder


@pytest.fixture
def command(place, monkeypatch, capsys):
    """Return what runs a command in the folder and gives exit code and what it says."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr("sys.argv", ["repkit", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code or 0, " ".join((told.out + told.err).split())

    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("my name=emb/E1", r"--embeddings my name=emb/E1: cannot be a condition.*write NAME=emb/E1"),
        ("a=emb/E1+emb/E1", r"a=emb/E1\+emb/E1: .*each folder once were expected; write NAME=emb/E1\n.*each once"),
        ("emb/my enc", r"emb/my enc: cannot be a condition"),
    ],
)
def test_names_and_folders_that_no_condition_can_have_are_refused(place, monkeypatch, text, said):
    monkeypatch.chdir(place)
    with pytest.raises(UsageError, match=f"(?s){said}"):
        embedding_conditions([text])


def test_names_are_those_of_the_encoders(place, monkeypatch):
    monkeypatch.chdir(place)
    one, two, three = embedding_conditions(["emb/E1", "x=emb/E1+skipping", "mine=emb/my enc"])
    assert (one.name, one.folders) == ("E1", ("emb/E1",))
    assert (two.name, two.folders) == ("x", ("emb/E1", "skipping"))
    assert (three.name, three.folders) == ("mine", ("emb/my enc",))


@pytest.mark.parametrize("words", [("probe",), ("compare",), ("train-ser", "--recipe", "demo", "--embeddings")])
def test_every_command_says_so_in_a_sentence(command, words):
    code, said = command(*words, "my name=emb/E1", "--corpus", "synthetic_a")
    assert code == 2
    assert "my name=emb/E1: cannot be a condition" in said
    assert "Traceback" not in said


# ---------------------------------------------------------------- repkit probe


@pytest.mark.parametrize(
    ("words", "protocol", "by"),
    [
        ((), ("leave_one_speaker_group_out", {"dev": "none"}), "train"),
        (("--set", "protocol.name=speaker_k_fold", "--set", "vector.by=per_speaker"), ("speaker_k_fold", {"dev": "none"}), "per_speaker"),
        (("--protocol", "speaker_k_fold", "--set", "protocol.k=2"), ("speaker_k_fold", {"k": 2, "dev": "none"}), "train"),
        (("--by", "per_corpus", "--set", "vector.min_clips=3"), ("leave_one_speaker_group_out", {"dev": "none"}), "per_corpus"),
        (("--protocol", "fixed", "--set", 'protocol.test=["synthetic_a/000"]'), ("fixed", {"test": ["synthetic_a/000"], "dev": "none"}), "train"),
    ],
)  # fmt: skip
def test_what_is_set_is_not_overridden_by_other_options(command, monkeypatch, words, protocol, by):
    given = []
    monkeypatch.setattr(repkit.cli.probe, "execute", lambda *arguments, **more: given.append(arguments))
    assert command("probe", "emb/E1", "--corpus", "synthetic_a", "--on-bad-audio", "skip", *words)[0] == 0
    ((recipe, _, _, _, _, on_bad_audio),) = given
    assert (recipe.protocol.name, recipe.protocol.settings) == protocol
    assert recipe.vector.by == by
    assert on_bad_audio == "skip"


# ---------------------------------------------------------------- repkit train-ser --dry-run


def test_a_plan_leaves_out_what_the_training_would(command, monkeypatch):
    monkeypatch.setattr(repkit.workflows.train_ser.cost, "estimate_seconds", lambda plan, n_workers: 1.0)
    words = ("train-ser", "--recipe", "demo", "--corpus", "synthetic_a", "--embeddings", "skipping", "--dry-run")
    code, said = command(*words)
    assert code == 4
    assert "go on without those left out: --on-bad-audio skip" in said
    code, said = command(*words, "--on-bad-audio", "skip", "--runs", "runs[old] :smile:")
    assert code == 0
    assert "not used 1 whose audio the embedding stores left out" in said


def test_brackets_and_colons_are_printed_as_they_are(capsys):
    console().print("run runs[old]/x :smile:")
    assert capsys.readouterr().err == "run runs[old]/x :smile:\n"
