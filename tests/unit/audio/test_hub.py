"""The hub is simulated: parquet with exactly its schema, and `datasets.load_dataset` replaced for what is remote."""

import io
import pickle
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from repkit.api import Corpus
from repkit.audio import hub, hub_download
from repkit.audio.hub import HubCorpus
from repkit.audio.hub_download import load_hub
from repkit.audio.open import open_corpus
from repkit.audio.rows import DatasetRows
from repkit.errors import BadAudioError, DataError, RepkitWarning, UsageError

N = 12
SPEAKERS = [103 + i // 4 for i in range(N)]


def sound(i: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * (300 + 25 * i) * np.arange(3200 + 160 * i) / 16000)).astype("float32")


def flac(i: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sound(i), 16000, format="FLAC")
    return stream.getvalue()


def rows(start, stop, **more):
    ids = [f"{SPEAKERS[i]}-1240-{i:04d}" for i in range(start, stop)]
    return {
        "file": [f"/x/{name}.flac" for name in ids],
        "audio": [{"bytes": flac(i), "path": f"{name}.flac"} for i, name in zip(range(start, stop), ids)],
        "text": [f"TEXT {i}" for i in range(start, stop)],
        "speaker_id": SPEAKERS[start:stop],
        "chapter_id": [1240] * (stop - start),
        "id": ids,
        **more,
    }


FEATURES = datasets.Features(
    {
        "file": datasets.Value("string"),
        "audio": datasets.Audio(sampling_rate=16000),
        "text": datasets.Value("string"),
        "speaker_id": datasets.Value("int64"),
        "chapter_id": datasets.Value("int64"),
        "id": datasets.Value("string"),
    }
)


def write(path, start=0, stop=N, group=3, features=FEATURES, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows(start, stop, **more), schema=features.arrow_schema)
    pq.write_table(table, path, row_group_size=group)
    return path


@pytest.fixture
def parquet(tmp_path):
    """Two files of a split, as the hub lays them out."""
    root = tmp_path / "hub"
    write(root / "all" / "train.clean.100" / "0000.parquet", 0, 7)
    write(root / "all" / "train.clean.100" / "0001.parquet", 7, N)
    write(root / "all" / "test.clean" / "0000.parquet", 0, 2)
    return root


class Hub:
    """Stands in for `datasets.load_dataset` and the list of converted files; notes what was asked."""

    def __init__(self, monkeypatch, root, plain=None, converted=(), commits=None):
        self.real, self.root, self.plain, self.asked = datasets.load_dataset, root, plain, []
        monkeypatch.setattr(datasets, "load_dataset", self.load)
        monkeypatch.setattr(hub_download, "list_parquet", self.list)
        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", self.info)
        self.converted, self.commits = converted, commits or {}

    def info(self, id, *, revision=None, timeout=None):
        """Tell the commit of a branch, as the hub does."""
        if revision not in self.commits:
            raise ConnectionError("offline")
        return SimpleNamespace(sha=self.commits[revision])

    def list(self, id, revision):
        self.asked.append(("list", id))
        if isinstance(self.converted, Exception):
            raise self.converted
        return list(self.converted)

    def load(self, id, config=None, *, split, streaming, revision=None, data_files=None):
        self.asked.append((id, config, split, streaming, revision, data_files))
        if id == "parquet":
            files = [
                str(self.root / address[address.index("/all/" if "/all/" in address else "/release2/") + 1 :])
                for address in data_files[split]
            ]
        elif self.plain is None:
            return self.local([str(p) for p in sorted((self.root / config / split).glob("*"))], split, streaming)
        else:
            raise self.plain
        return self.local(files, split, streaming)

    def local(self, files, split, streaming):
        return self.real(
            "parquet", data_files={split: files}, split=split, streaming=streaming, cache_dir=str(self.root / "cache")
        )


def librispeech(streaming):
    return open_corpus("librispeech", options={"streaming": streaming, "allow_partial": True})


def check_whole(corpus):
    listed = corpus.utterances()
    assert [u.id for u in listed] == [f"librispeech/{SPEAKERS[i]}-1240-{i:04d}" for i in range(N)]
    assert listed[5].speaker == "librispeech/104"
    assert listed[5].session == "librispeech/1240"
    assert (listed[5].language, listed[5].text, listed[5].emotion) == ("en", "TEXT 5", None)
    streamed = list(corpus.stream())
    assert [u for u, _ in streamed] == list(listed)
    for i, (_, got) in enumerate(streamed):
        np.testing.assert_allclose(got, sound(i), atol=1e-4)
    for skip in (0, 1, 3, 8, 11, 12):
        assert [u.id for u, _ in corpus.stream(skip)] == [u.id for u in listed[skip:]]
    np.testing.assert_allclose(next(corpus.stream(7, max_duration_s=0.1))[1], sound(7)[:1600], atol=1e-4)


def test_local_parquet(parquet):
    corpus = open_corpus("librispeech", str(parquet), split="train.clean.100")
    with pytest.warns(RepkitWarning, match="12 rows; expected 28539"):
        corpus.utterances()
    assert isinstance(corpus, Corpus)
    check_whole(corpus)
    for i in (11, 0, 6):
        np.testing.assert_allclose(corpus.read(corpus.utterances()[i]), sound(i), atol=1e-4)


@pytest.mark.parametrize("streaming", [False, True])
def test_hub_dataset_map_style_and_streamed(monkeypatch, parquet, streaming):
    fake = Hub(monkeypatch, parquet)
    corpus = librispeech(streaming)
    with pytest.warns(RepkitWarning, match="12 rows; expected 28539"):
        assert len(list(corpus.stream())) == N
    check_whole(corpus)
    assert fake.asked == [("openslr/librispeech_asr", "all", "train.clean.100", streaming, None, None)]
    if streaming:
        with pytest.raises(DataError, match="is streamed.*streaming=false"):
            corpus.read(corpus.utterances()[0])
    else:
        np.testing.assert_allclose(corpus.read(corpus.utterances()[4]), sound(4), atol=1e-4)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_cut_copy_on_the_hub_is_refused(monkeypatch, parquet, streaming):
    Hub(monkeypatch, parquet)
    with pytest.raises(DataError, match="12 rows; expected 28539.*allow_partial=true"):
        list(open_corpus("librispeech", options={"streaming": streaming}).stream())


def test_fall_back_to_the_converted_branch(monkeypatch, parquet):
    script = RuntimeError("Dataset scripts are no longer supported, but found librispeech_asr.py")
    files = [f"all/train.clean.100/000{i}.parquet" for i in range(2)]
    fake = Hub(monkeypatch, parquet, script, ["all/test.clean/0000.parquet", *files])
    corpus = librispeech(True)
    with pytest.warns(RepkitWarning) as caught:
        streamed = list(corpus.stream())
    notes = [str(w.message) for w in caught]
    assert notes[0].endswith("read from the hub's parquet branch refs/convert/parquet")
    assert "12 rows; expected 28539" in notes[1]
    assert len(streamed) == N
    np.testing.assert_allclose(streamed[11][1], sound(11), atol=1e-4)
    plain, listing, converted = fake.asked[:3]
    assert plain[0] == "openslr/librispeech_asr"
    assert listing == ("list", "openslr/librispeech_asr")
    base = "hf://datasets/openslr/librispeech_asr@refs%2Fconvert%2Fparquet/"
    assert converted[5] == {"train.clean.100": [base + file for file in files]}


def test_partial_copies_are_refused_unless_asked_for(monkeypatch, tmp_path):
    write(tmp_path / "release2" / "partial-train" / "0000.parquet", 0, 4)
    Hub(monkeypatch, tmp_path, RuntimeError("no scripts"), ["release2/partial-train/0000.parquet"])
    with pytest.raises(DataError) as caught:
        load_hub("LIUM/tedlium", "release2", "train", None, True, False)
    text = str(caught.value)
    assert "RuntimeError: no scripts" in text
    assert "only a partial copy of release2/train" in text
    assert "--corpus tedlium=PATH (train/sph/<talk>.sph and train/stm/<talk>.stm)" in text
    assert "https://www.openslr.org/19" in text
    found = load_hub("LIUM/tedlium", "release2", "train", None, True, True)
    assert sum(1 for _ in found.dataset.select_columns(["id"])) == 4
    assert "PARTIAL" in found.note


def test_when_nothing_can_be_had_every_reason_is_told(monkeypatch, tmp_path):
    fake = Hub(monkeypatch, tmp_path, ConnectionError("offline"), ConnectionError("still offline"))
    with pytest.raises(DataError) as caught:
        open_corpus("librispeech").utterances()
    assert len(caught.value.problems) == 2
    assert "ConnectionError: still offline" in str(caught.value)
    assert "librispeech=PATH (train-clean-100/<speaker>" in str(caught.value)
    # a revision that was asked for is never replaced by another one
    fake.asked.clear()
    with pytest.raises(DataError):
        open_corpus("librispeech", options={"revision": "abc"}).utterances()
    assert [asked[0] for asked in fake.asked] == ["openslr/librispeech_asr"]


FIRST, SECOND = "1" * 40, "2" * 40


def test_fingerprint_of_the_hub_follows_the_commit_of_its_branch(monkeypatch, parquet):
    fake = Hub(monkeypatch, parquet, commits={None: FIRST})
    options = {"allow_partial": True}
    prints = [open_corpus("librispeech", options=options).fingerprint()]
    fake.commits[None] = SECOND  # the dataset has changed on the hub
    prints.append(open_corpus("librispeech", options=options).fingerprint())
    assert len(set(prints)) == 2
    assert [asked[4] for asked in fake.asked] == [FIRST, SECOND]  # what is loaded is what is hashed
    fake.commits["v1"] = SECOND
    assert open_corpus("librispeech", options={**options, "revision": "v1"}).fingerprint() not in prints
    # a stream of which nobody knows the commit has no identity
    fake.commits.clear()
    with pytest.raises(DataError, match="did not say which commit.*librispeech.revision=COMMIT"):
        open_corpus("librispeech", options=options).fingerprint()


def test_fingerprint_of_a_commit_needs_no_hub_and_stays(monkeypatch, parquet):
    fake = Hub(monkeypatch, parquet, ConnectionError("offline"))
    corpus = HubCorpus(HubCorpus.Config(name="x", id="a/b", split="train", revision=FIRST))
    # sha256 of the JSON of the settings, sorted, as it was before branches were looked up
    assert corpus.fingerprint() == "84641771ccad4e8de21b284864613e35043aa27e0152af7d8e1fd347423c4d8a"
    assert not fake.asked


@pytest.mark.filterwarnings("ignore:.*rows; expected 28539")
def test_a_dataset_of_the_cache_is_known_again_without_the_hub(monkeypatch, parquet):
    Hub(monkeypatch, parquet)
    prints = {librispeech(False).fingerprint() for _ in range(2)}
    write(parquet / "all" / "train.clean.100" / "0001.parquet", 7, N - 1)
    assert len(prints) == 1
    assert librispeech(False).fingerprint() not in prints
    # where the cache has it from the hub, it is called by its commit, as it would be with the hub
    file = f"/cache/openslr___librispeech_asr/all/0.0.0/{FIRST}/librispeech_asr-train.clean.100.arrow"
    cached = SimpleNamespace(cache_files=[{"filename": file}], _fingerprint="12ab")
    assert hub_download._origin(cached, None) == {"commit": FIRST}


def test_a_partial_copy_is_another_corpus(monkeypatch, parquet, tmp_path):
    whole, part = "all/train.clean.100/0000.parquet", "all/partial-train.clean.100/0000.parquet"
    write(tmp_path / "hub" / part, 0, 7)
    commits = {None: FIRST, "refs/convert/parquet": SECOND}
    fake, prints = Hub(monkeypatch, parquet, RuntimeError("no scripts"), commits=commits), set()
    for file in (whole, part):
        fake.converted = [file]
        fake.asked.clear()
        with pytest.warns(RepkitWarning, match="parquet branch"):
            prints.add(librispeech(True).fingerprint())
        assert fake.asked[2][5] == {"train.clean.100": [f"hf://datasets/openslr/librispeech_asr@{SECOND}/{file}"]}
    assert len(prints) == 2


def test_workers_get_no_listing(parquet):
    corpus = open_corpus("librispeech", str(parquet), split="train.clean.100", options={"expected_rows": N})
    corpus.fingerprint()
    before = len(pickle.dumps(corpus))
    listed = corpus.utterances()
    assert len(pickle.dumps(corpus)) == before
    copy = pickle.loads(pickle.dumps(corpus))
    np.testing.assert_allclose(copy.read(listed[5]), sound(5), atol=1e-4)


def test_presets_know_their_splits(monkeypatch):
    corpus = open_corpus("tedlium", split="release1.train")
    assert (corpus.config.id, corpus.config.config, corpus.config.split) == ("LIUM/tedlium", "release1", "train")
    assert corpus.config.expected_rows == 56803
    assert open_corpus("tedlium").config.expected_rows == 92973
    assert open_corpus("librispeech", split="train.100").config.config == "clean"
    with pytest.raises(UsageError, match="did you mean 'train.clean.100'"):
        open_corpus("librispeech", split="train-clean-100x")


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
