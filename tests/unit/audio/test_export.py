import csv

import numpy as np
import pytest
import soundfile

from repkit.api import Utterance
from repkit.audio.export import export_corpus
from repkit.audio.folder import FolderCorpus
from repkit.audio.synthetic import SyntheticCorpus
from repkit.errors import BadAudioError, DataError, UsageError


class Rows:
    """A corpus given as utterances and sounds."""

    name = "rows"

    def __init__(self, *items):
        self.items = items

    def utterances(self):
        return [utterance for utterance, _ in self.items]

    def stream(self, skip=0, max_duration_s=None):
        yield from self.items[skip:]


def sound(seconds=0.2):
    return (0.5 * np.sin(np.arange(round(seconds * 16000)) / 7)).astype("float32")


def read_back(path, name="rows"):
    return FolderCorpus(FolderCorpus.Config(name=name, path=path))


def test_a_corpus_read_back_has_the_same_ids_speakers_labels_and_sound(tmp_path):
    corpus = SyntheticCorpus(
        SyntheticCorpus.Config(
            name="synthetic_c", n_speakers=2, emotions=("anger", "sadness"), n_sentences=1, ratings=True
        )
    )
    done = export_corpus(corpus, tmp_path / "out")
    again = read_back(tmp_path / "out", "synthetic_c")
    facts = ("id", "speaker", "session", "gender", "language", "emotion", "arousal", "valence", "text", "extra")
    wanted = [[getattr(u, fact) for fact in facts] for u in corpus.utterances()]
    assert [[getattr(u, fact) for fact in facts] for u in again.utterances()] == wanted
    first, second = corpus.utterances()[0], again.utterances()[0]
    np.testing.assert_allclose(again.read(second), corpus.read(first), atol=1 / 32768)
    assert done.utterances == 4
    assert done.hours == pytest.approx(sum(len(corpus.read(u)) for u in corpus.utterances()) / 16000 / 3600)
    assert soundfile.info(tmp_path / "out" / second.audio.path.relative_to(tmp_path / "out")).subtype == "PCM_16"


def test_names_that_are_no_file_names_keep_their_ids(tmp_path):
    ids = ["rows/a b?", "rows/a_b?", "rows/../x", "rows/A_b_"]
    corpus = Rows(*((Utterance(id=i, corpus="rows", speaker="rows/s 1"), sound()) for i in ids))
    export_corpus(corpus, tmp_path / "out")
    again = read_back(tmp_path / "out").utterances()
    assert [u.id for u in again] == ids
    assert len({str(u.audio.path).casefold() for u in again}) == 4
    assert all((tmp_path / "out" / "data") in u.audio.path.parents for u in again)


def test_an_extra_column_is_never_taken_for_a_position_or_a_label(tmp_path):
    extra = {"start": "9", "label": "W", "emotion": "Wut"}
    utterance = Utterance(id="rows/a", corpus="rows", speaker="rows/s", emotion="anger", extra=extra)
    export_corpus(Rows((utterance, sound())), tmp_path / "out")
    (found,) = read_back(tmp_path / "out").utterances()
    assert (found.emotion, found.audio.start_s) == ("anger", 0.0)
    assert found.extra == {"original_start": "9", "label": "W", "original_emotion": "Wut"}


def test_bad_audio_stops_with_every_file_named_and_leaves_nothing(tmp_path):
    items = [(Utterance(id=f"rows/{n}", corpus="rows"), BadAudioError(f"{n}.wav: is silent")) for n in "ab"]
    good = (Utterance(id="rows/c", corpus="rows"), sound())
    with pytest.raises(DataError, match=r"2 utterances(.|\n)*a\.wav(.|\n)*b\.wav"):
        export_corpus(Rows(*items, good), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"] or not list(tmp_path.iterdir())
    done = export_corpus(Rows(*items, good), tmp_path / "out", on_bad_audio="skip")
    assert done.left_out == {"rows/a": "a.wav: is silent", "rows/b": "b.wav: is silent"}
    with (tmp_path / "out" / "metadata.csv").open() as file:
        assert [row["utterance_id"] for row in csv.DictReader(file)] == ["c"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    corpus = Rows((Utterance(id="rows/c", corpus="rows"), sound()))
    with pytest.raises(UsageError, match="not empty"):
        export_corpus(corpus, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no utterance"):
        export_corpus(Rows(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in ("file/x", "file/x/y"):
        with pytest.raises(UsageError, match=r"file/x.*: cannot be made \(.*\); a new folder was expected"):
            export_corpus(Rows(), tmp_path / place)
