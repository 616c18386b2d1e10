import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from repkit.audio.inspect import check_corpus
from repkit.audio.open import corpus_names, open_corpus
from repkit.errors import DataError, RepkitWarning, UsageError


@pytest.fixture
def mixed(make_folder):
    rows = [f"{n}.wav,s{i % 2},{'female' if i % 2 else 'male'},{e}" for i, (n, e) in enumerate(
        [("a", "anger"), ("b", "anger"), ("c", "sadness"), ("d", ""), ("e", "fear")])]  # fmt: skip
    root = make_folder("file_name,speaker_id,gender,emotion", rows, [f"{n}.wav" for n in "abcde"])
    (root / "b.wav").write_bytes((root / "a.wav").read_bytes())
    (root / "e.wav").write_bytes(b"")
    return root


def test_report(mixed):
    seen = []
    report = check_corpus(
        open_corpus("mine", str(mixed)), n_jobs=1, progress=lambda done, total: seen.append((done, total))
    )
    assert (report.utterances, report.usable, report.speakers, report.ok) == (5, 4, 2, False)
    assert report.hours == pytest.approx(4 * 0.3 / 3600)
    assert report.genders == {"female": 1, "male": 1}
    assert report.emotions == {
        "": {"female": 1},
        "anger": {"female": 1, "male": 1},
        "fear": {"male": 1},
        "sadness": {"male": 1},
    }
    assert report.duplicates == [["mine/a", "mine/b"]]
    assert list(report.problems) == ["mine/e"]
    assert "e.wav: has 0 bytes" in report.problems["mine/e"]
    assert seen[-1] == (5, 5)
    json.dumps(report.to_dict())


def test_many_files_are_decoded_in_processes_with_the_same_result(tmp_path, write_sound):
    for i in range(70):
        write_sound(tmp_path / f"{i:02d}.wav", 0.12, hz=200 + 10 * i)
    (tmp_path / "33.wav").write_bytes(b"RIFF nonsense")
    corpus = open_corpus("mine", str(tmp_path), options={"pattern": r"(?P<speaker>\d)\d$"})
    seen = []
    parallel = check_corpus(corpus, n_jobs=2, progress=lambda done, total: seen.append(done))
    assert parallel == check_corpus(corpus, n_jobs=1)
    assert list(parallel.problems) == ["mine/33"]
    assert seen == [16, 32, 48, 64, 70]


def test_a_corpus_travels_without_its_listing(mixed):
    corpus = open_corpus("mine", str(mixed))
    corpus.utterances()
    data = pickle.dumps(corpus)
    assert len(data) < 4000
    assert pickle.loads(data).fingerprint() == corpus.fingerprint()


def test_mismatches_with_published_counts_are_in_the_report(tmp_path, write_sound):
    write_sound(tmp_path / "wav" / "03a01Wa.wav")
    with pytest.warns(RepkitWarning):
        report = check_corpus(open_corpus("emodb", str(tmp_path)), n_jobs=1)
    assert any("1 utterances found; expected 535" in line for line in report.warnings)


@pytest.mark.realdata
def test_the_known_duplicate_of_ravdess_is_found(real_data):
    corpus = open_corpus("ravdess", str(real_data / "ravdess"))
    actor = [u for u in corpus.utterances() if u.speaker == "ravdess/07"]
    corpus._utterances = tuple(actor)
    corpus.expected = None
    report = check_corpus(corpus, n_jobs=1)
    assert report.duplicates == [["ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07"]]
    assert report.usable == 60


def test_names_and_mistakes(tmp_path):
    names = corpus_names()
    assert len(names) == 4 + 2 + 18
    assert {kind for _, _, kind in names} == {"synthetic", "hub", "named"}
    with pytest.raises(UsageError, match="needs the folder of your copy; write --corpus iemocap=PATH"):
        open_corpus("iemocap")
    with pytest.raises(UsageError, match="did you mean 'emovo'"):
        open_corpus("emova")
    with pytest.raises(DataError, match="there is no such folder"):
        open_corpus("emodb", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no variant 'x'|has no variant 'x'"):
        open_corpus("ravdess", str(tmp_path), options={"variant": "x"})
    with pytest.raises(UsageError, match="has no splits"):
        open_corpus("emodb", str(tmp_path), split="train")
    with pytest.raises(UsageError, match="is generated and has no place"):
        open_corpus("synthetic_a", str(tmp_path))
    assert open_corpus("mine", "hub:ORG/DATA", split="train").config.id == "ORG/DATA"


def test_silence_is_a_problem_and_nothing_else_stops(make_folder):
    import soundfile

    root = make_folder("file_name", ["a.wav", "b.wav"], ["a.wav", "b.wav"])
    soundfile.write(root / "a.wav", np.zeros(16000), 16000)
    report = check_corpus(open_corpus("mine", str(root)))
    assert report.usable == 1
    assert "is silent" in report.problems["mine/a"]


def test_listing_corpora_imports_no_torch():
    code = "import sys, repkit.audio.open as o; o.corpus_names(); sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
