"""Parquet files of one's own: columns, class numbers, cells that hold nothing, splits, damage, fingerprints."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_helpers import FEATURES, N, flac, rows, write

from repkit.audio import hub
from repkit.audio.hub import HubCorpus
from repkit.audio.open import open_corpus
from repkit.audio.rows import DatasetRows
from repkit.errors import BadAudioError, DataError, RepkitWarning, UsageError


def test_labelled_dataset_with_a_column_map_and_class_names(tmp_path):
    features = datasets.Features(
        {
            **FEATURES,
            "major": datasets.ClassLabel(names=["angry", "Glad", "neutral"]),
            "EmoAct": datasets.Value("float64"),
            "sex": datasets.Value("string"),
        }
    )
    more = {"major": [0, 1, 2] * 4, "EmoAct": [1.0, 3.0, 7.0] * 4, "sex": ["F"] * N}
    path = write(tmp_path / "train.parquet", features=features, **more)
    options = {"columns": {"emotion": "major", "arousal": "EmoAct"}, "rating_range": (1, 7), "language": "en"}
    listed = open_corpus("mine", str(path), options=options).utterances()
    assert [u.emotion for u in listed[:3]] == ["anger", "happiness", "neutral"]
    assert [u.arousal for u in listed[:3]] == pytest.approx([1.0, 1 + 4 / 3, 5.0])
    assert (listed[0].gender, listed[0].language) == ("female", "en")
    with pytest.raises(DataError) as caught:
        open_corpus("mine", str(path), options={**options, "rating_range": (1, 5)}).utterances()
    assert "row 2 and 3 more rows: EmoAct is 7.0; expected a rating from 1 to 5" in str(caught.value)
    with pytest.raises(DataError, match="columns.emotion = 'mayor': no such column; did you mean 'major'"):
        open_corpus("mine", str(path), options={"columns": {"emotion": "mayor"}}).utterances()
    with pytest.raises(UsageError, match="no such role 'mood'"):
        open_corpus("mine", str(path), options={"columns": {"mood": "major"}})


@pytest.mark.parametrize("of_the_hub", [False, True])
def test_class_numbers(tmp_path, monkeypatch, of_the_hub):
    def as_of_the_hub(paths):
        return DatasetRows(
            datasets.Dataset.from_parquet(str(paths[0]), cache_dir=str(tmp_path / "cache")), "audio", "x"
        )

    if of_the_hub:
        monkeypatch.setattr(hub, "ParquetRows", as_of_the_hub)
    features = datasets.Features({**FEATURES, "emotion": datasets.ClassLabel(names=["angry", "sad"])})
    path = write(tmp_path / "train.parquet", 0, 4, features=features, emotion=[1, -1, None, 0])
    assert [u.emotion for u in open_corpus("x", str(path)).utterances()] == ["sadness", None, None, "anger"]
    write(path, 0, 4, features=features, emotion=[1, 2, 2, -2])
    with pytest.raises(DataError) as caught:
        open_corpus("x", str(path)).utterances()
    with pytest.raises(DataError) as streamed:
        next(iter(open_corpus("x", str(path)).stream(skip=1)))
    assert streamed.value.problems == caught.value.problems  # those of all rows, not of the one met
    assert list(caught.value.problems) == [
        "row 1 and 1 more row: emotion is 2; expected a class from 0 to 1, or -1 for no label",
        "row 3: emotion is -2; expected a class from 0 to 1, or -1 for no label",
    ]


def test_cells_that_hold_nothing(tmp_path):
    more = {
        "text": ["null", "NONE", "hi"],
        "id": ["", "NaN", "x"],
        "mood": ["NA", "anger", "none"],
        "session": [1.5, np.nan, 2],
    }
    table = pa.table({"audio": [flac(i) for i in range(3)], "speaker_id": ["NA", "nan", "None"], "rate": [1.0, np.nan, 5.0], **more})  # fmt: skip
    pq.write_table(table, tmp_path / "x.parquet")
    columns = {"emotion": "mood", "arousal": "rate"}
    options = {"columns": columns, "emotions": {"none": "neutral"}}
    found = open_corpus("mine", str(tmp_path / "x.parquet"), options=options).utterances()
    assert [u.id for u in found] == ["mine/row_00000000", "mine/row_00000001", "mine/x"]
    assert [u.speaker for u in found] == [None, None, None]
    assert [u.emotion for u in found] == [None, "anger", "neutral"]  # none is a label that may be mapped
    assert [u.arousal for u in found] == [1, None, 5]
    assert [u.text for u in found] == [None, "NONE", "hi"]
    assert [u.session for u in found] == ["mine/1.5", None, "mine/2.0"]


def test_parquet_behind_a_link_to_a_folder_and_its_hidden_companions(tmp_path):
    write(tmp_path / "elsewhere" / "b.parquet", 4, 6)
    write(tmp_path / "root" / "a.parquet", 0, 4)
    (tmp_path / "root" / "._a.parquet").write_bytes(b"x")
    assert len(open_corpus("mine", str(tmp_path / "root")).utterances()) == 4
    (tmp_path / "root" / "data").symlink_to(tmp_path / "elsewhere")
    assert len(open_corpus("mine", str(tmp_path / "root"), options={"split": "b"}).utterances()) == 2


def test_bad_audio_in_a_row_is_handed_out_and_other_rows_come(tmp_path):
    data = rows(0, 3)
    data["audio"][1] = {"bytes": flac(1)[:200], "path": "cut.flac"}
    data["audio"][2] = {"bytes": None, "path": None}
    pq.write_table(pa.table(data, schema=FEATURES.arrow_schema), tmp_path / "train.parquet")
    got = [sound for _, sound in HubCorpus(HubCorpus.Config(name="x", path=tmp_path)).stream()]
    assert isinstance(got[0], np.ndarray)
    assert isinstance(got[1], BadAudioError)
    assert "x/103-1240-0001 (cut.flac)" in str(got[1])
    assert isinstance(got[2], BadAudioError)


def test_ids_that_stand_twice_and_damaged_files(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", 0, 3)
    write(tmp_path / "train-00001-of-00002.parquet", 2, 4)
    with pytest.raises(DataError, match="1 problem"):
        open_corpus("x", str(tmp_path)).utterances()
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="could not be read as parquet"):
        open_corpus("x", str(tmp_path)).utterances()


def test_splits_of_local_parquet(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00001.parquet", 0, 3)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", 3, 4)
    assert len(open_corpus("x", str(tmp_path), split="test").utterances()) == 1
    with pytest.raises(
        DataError, match="splits test, train; expected one split; name one with --corpus-set NAME.split=SPLIT"
    ):
        open_corpus("x", str(tmp_path)).utterances()
    assert len(open_corpus("x", str(tmp_path), options={"split": "test"}).utterances()) == 1
    with pytest.raises(DataError, match="did you mean 'test'"):
        open_corpus("x", str(tmp_path), split="tests").utterances()
    write(tmp_path / "other" / "partial-dev" / "0000.parquet", 0, 3)
    with pytest.raises(DataError, match="partial copy"):
        open_corpus("x", str(tmp_path), split="dev", options={"config": "other"}).utterances()
    options = {"config": "other", "allow_partial": True}
    assert len(open_corpus("x", str(tmp_path), split="dev", options=options).utterances()) == 3


def test_fingerprint_of_local_parquet_follows_its_files(tmp_path):
    write(tmp_path / "a" / "train.parquet", 0, 3)
    write(tmp_path / "b" / "train.parquet", 0, 3)
    write(tmp_path / "c" / "train.parquet", 0, 4)
    prints = [open_corpus("x", str(tmp_path / folder)).fingerprint() for folder in "abc"]
    assert prints[0] == prints[1] != prints[2]
    # what changes labels or ids, and what does not
    changes = [{"rating_range": (1, 7)}, {"language": "de"}, {"emotions": {"x": "anger"}}, {"columns": {"text": ""}}]
    changed = [open_corpus("x", str(tmp_path / "a"), options=options).fingerprint() for options in changes]
    changed.append(open_corpus("x", str(tmp_path / "a"), split="train").fingerprint())  # part of ids that are made up
    assert len({prints[0], *changed}) == 6
    same = [{"expected_rows": 4}, {"streaming": True}, {"allow_partial": True}]
    with pytest.warns(RepkitWarning, match="3 rows; expected 4"):
        assert {open_corpus("x", str(tmp_path / "a"), options=o).fingerprint() for o in same} == {prints[0]}
