"""The hub is simulated: parquet with exactly its schema, and `datasets.load_dataset` replaced for what is remote."""

import pickle
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from parquet_helpers import SPEAKERS, N, sound, write

from repkit.api import Corpus
from repkit.audio import hub_download
from repkit.audio.hub import HubCorpus
from repkit.audio.hub_download import load_hub
from repkit.audio.open import open_corpus
from repkit.errors import DataError, RepkitWarning, UsageError


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
