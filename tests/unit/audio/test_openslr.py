import numpy as np
import pytest
import soundfile

from repkit.audio.open import open_corpus
from repkit.audio.openslr import find_openslr
from repkit.errors import DataError, RepkitWarning


@pytest.fixture
def librispeech(tmp_path, write_sound):
    root = tmp_path / "LibriSpeech"
    for split, speaker in (("train-clean-100", 103), ("dev-clean", 84)):
        for n in range(2):
            write_sound(root / split / str(speaker) / "1240" / f"{speaker}-1240-{n:04d}.flac", hz=300 + 10 * n)
    (root / "SPEAKERS.TXT").write_text(
        ";ID |SEX| SUBSET\n103  | F | train-clean-100  | 25.15 | Karen\n84 | M | dev | 8 | X\n"
    )
    (root / "train-clean-100/103/1240/103-1240.trans.txt").write_text("103-1240-0000 CHAPTER ONE\n103-1240-0001 TWO\n")
    return root


@pytest.mark.parametrize("split", [None, "train.clean.100", "train.100", "train-clean-100"])
@pytest.mark.parametrize("above", [False, True])
def test_librispeech_folder(librispeech, split, above):
    corpus = open_corpus("librispeech", str(librispeech.parent if above else librispeech), split=split)
    with pytest.warns(RepkitWarning, match="2 utterances found; expected 28539"):
        a, b = corpus.utterances()
    assert (a.id, a.speaker, a.session, a.gender) == (
        "librispeech/103-1240-0000",
        "librispeech/103",
        "librispeech/1240",
        "female",
    )
    assert (a.text, b.text, a.language, a.emotion) == ("CHAPTER ONE", "TWO", "en", None)
    assert corpus.read(a).shape == (4800,)


def test_librispeech_other_splits(librispeech):
    corpus = open_corpus("librispeech", str(librispeech), split="validation.clean")
    with pytest.warns(RepkitWarning, match="expected 2703"):
        assert {u.gender for u in corpus.utterances()} == {"male"}
    with pytest.raises(DataError, match="no 'test-clean'.*dev-clean; name one with --corpus-set librispeech.split="):
        open_corpus("librispeech", str(librispeech), split="test.clean").utterances()
    with pytest.warns(RepkitWarning, match="expected 28539"):
        assert len(open_corpus("librispeech", str(librispeech / "train-clean-100")).utterances()) == 2


def test_companions_of_macos_are_left_alone(librispeech, tedlium):
    chapter = librispeech / "train-clean-100" / "103" / "1240"
    for path in (
        chapter / "._103-1240-0000.flac",
        chapter / "._103-1240.trans.txt",
        tedlium / "train/stm/._A_2010.stm",
    ):
        path.write_bytes(b"\x00\x05\x16\x07\xff")
    with pytest.warns(RepkitWarning, match="2 utterances found; expected 28539"):
        assert [u.text for u in open_corpus("librispeech", str(librispeech)).utterances()] == ["CHAPTER ONE", "TWO"]
    corpus = open_corpus("tedlium", str(tedlium), split="train")
    with pytest.warns(RepkitWarning):
        assert {u.session for u in corpus.utterances()} == {"tedlium/A_2010", "tedlium/B_2009"}


STM = """;; comment
{talk} 1 {talk} 0.00 0.25 <o,f0,female> i am a talk
{talk} 1 inter_segment_gap 0.25 0.30 <o,,unknown> ignore_time_segment_in_scoring
{talk} 1 {talk} 0.30 0.55 <o,f0,male> and (2) more
{talk} 1 {talk} 0.60 0.80 <F0_F> ignore_time_segment_in_scoring
"""


@pytest.fixture
def tedlium(tmp_path, write_sound):
    root = tmp_path / "TEDLIUM_release2"
    for i, talk in enumerate(("A_2010", "B_2009", "C_2011")):
        for split in ("train",) if i < 2 else ("dev",):
            write_sound(root / split / "sph" / f"{talk}.sph", 1.0, hz=200 + 100 * i)
            (root / split / "stm").mkdir(exist_ok=True, parents=True)
            (root / split / "stm" / f"{talk}.stm").write_text(STM.format(talk=talk))
    return root


def test_tedlium_segments_are_cut_from_sphere_files(tedlium):
    corpus = open_corpus("tedlium", str(tedlium))
    with pytest.warns(RepkitWarning, match="4 utterances found; expected 92973"):
        listed = corpus.utterances()
    assert [u.id for u in listed] == [
        "tedlium/A_2010-0000000-0000025",
        "tedlium/A_2010-0000030-0000055",
        "tedlium/B_2009-0000000-0000025",
        "tedlium/B_2009-0000030-0000055",
    ]
    assert (listed[1].speaker, listed[1].gender, listed[1].text) == ("tedlium/A_2010", "male", "and (2) more")
    assert listed[0].gender == "female"
    whole, _ = soundfile.read(tedlium / "train/sph/A_2010.sph", dtype="float32")
    np.testing.assert_array_equal(corpus.read(listed[1]), whole[4800:8800])


def test_tedlium_splits_and_draws_of_talks(tedlium):
    with pytest.warns(RepkitWarning, match="expected 591"):
        assert len(open_corpus("tedlium", str(tedlium), split="release2.validation").utterances()) == 2
    drawn = {
        open_corpus("tedlium", str(tedlium), options={"talks": 1, "seed": s}).utterances()[0].session for s in range(9)
    }
    assert drawn == {"tedlium/A_2010", "tedlium/B_2009"}
    with pytest.raises(DataError, match="has 2 talks; expected at least talks = 5"):
        open_corpus("tedlium", str(tedlium), options={"talks": 5}).utterances()
    with pytest.raises(
        DataError, match="has no split 'test'; found .*, dev; name one with --corpus-set tedlium.split="
    ):
        open_corpus("tedlium", str(tedlium), split="test").utterances()


def test_tedlium_release3_keeps_old_parts_under_legacy(tedlium, tmp_path):
    new = tmp_path / "TEDLIUM_release-3"
    new.mkdir()
    (tedlium / "train").rename(new / "data")
    (tedlium / "dev").rename(tmp_path / "dev")
    (new / "legacy").mkdir()
    (tmp_path / "dev").rename(new / "legacy" / "dev")
    with pytest.warns(RepkitWarning, match="expected 268263"):
        assert len(open_corpus("tedlium", str(new)).utterances()) == 4
    with pytest.warns(RepkitWarning, match="expected 591"):
        assert len(open_corpus("tedlium", str(new), split="validation").utterances()) == 2


def test_tedlium_problems_come_all_at_once(tedlium):
    (tedlium / "train/sph/A_2010.sph").unlink()
    (tedlium / "train/stm/B_2009.stm").write_text("B_2009 1 B_2009 zero 2.0 <o> x\n")
    with pytest.raises(DataError) as caught:
        open_corpus("tedlium", str(tedlium)).utterances()
    assert "A_2010.stm: its recording A_2010.sph is missing" in str(caught.value)
    assert "B_2009.stm line 1" in str(caught.value)


def test_layouts_are_told_apart(librispeech, tedlium, tmp_path, write_sound):
    assert find_openslr(librispeech) == "librispeech"
    assert find_openslr(tedlium) == "tedlium"
    write_sound(tmp_path / "none" / "a.wav")
    assert find_openslr(tmp_path / "none") is None
    with pytest.raises(DataError, match="neither metadata.csv, nor the OpenSLR layout"):
        open_corpus("librispeech", str(tmp_path / "none"))


@pytest.mark.realdata
def test_librispeech_subset_with_metadata(real_data):
    corpus = open_corpus("librispeech", str(real_data / "librispeech"))
    listed = corpus.utterances()
    assert len(listed) == 471
    assert len({u.speaker for u in listed}) == 261
    assert {u.emotion for u in listed} == {None}
