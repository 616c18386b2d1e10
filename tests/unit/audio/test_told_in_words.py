"""Tables, options, silence and clipping: what is said of them, and that what is said can be typed."""

import shlex

import numpy as np
import pytest
import soundfile

from repkit.audio.decode import decode
from repkit.audio.inspect import check_corpus
from repkit.audio.open import open_corpus
from repkit.audio.table import ROLES
from repkit.config.load import assign, parse_assignment
from repkit.errors import BadAudioError, DataError, UsageError

ROWS = [f"a{i}.wav,s{i % 4},{'W' if i % 4 == 0 else 'anger'}" for i in range(48)]
FILES = [f"a{i}.wav" for i in range(48)]


def typed(option):
    """Return the settings that a shown ``NAME.KEY=VALUE`` stands for, typed into a shell as it is shown."""
    (text,) = shlex.split(option)
    settings = {}
    assign(settings, *parse_assignment(text, "--corpus-set"))
    return settings


@pytest.fixture
def one_code(tmp_path):
    (tmp_path / "c").mkdir()
    for name in FILES:
        soundfile.write(tmp_path / "c" / name, np.zeros(8), 16000)  # listing decodes nothing
    (tmp_path / "c" / "metadata.csv").write_text("\n".join(["file_name,speaker_id,emotion", *ROWS]) + "\n")
    return str(tmp_path / "c")


def test_rows_with_the_same_unknown_label_are_one_line_with_an_option_that_works(one_code):
    with pytest.raises(DataError) as caught:
        open_corpus("mine", one_code).utterances()
    assert "12 problem(s) in 48 rows" in caught.value.message
    (line,) = caught.value.problems
    assert line.startswith("metadata.csv line 2 and 11 more rows: emotion 'W' is not known; expected")
    option = line.rpartition("--corpus-set ")[2]
    settings = typed(option.replace("EMOTION", "anger"))["mine"]
    assert len(open_corpus("mine", one_code, options=settings).utterances()) == 48


def test_an_option_for_a_label_with_blanks_is_quoted(make_folder):
    root = make_folder("file_name,speaker_id,emotion", ["a.wav,s,very odd"], ["a.wav"])
    with pytest.raises(DataError) as caught:
        open_corpus("mine", str(root)).utterances()
    option = caught.value.problems[0].rpartition("--corpus-set ")[2]
    assert typed(option) == {"mine": {"emotions": {"very odd": "EMOTION"}}}


def test_two_kinds_of_fault_are_two_lines_in_the_order_met(make_folder):
    rows = ["a.wav,s,angr", "b.wav,s,W", "a.wav,s,angr"]
    root = make_folder("file_name,speaker_id,emotion", rows, ["a.wav", "b.wav"])
    with pytest.raises(DataError) as caught:
        open_corpus("mine", str(root)).utterances()
    first, second, third = caught.value.problems
    assert first.startswith("metadata.csv line 2 and 1 more row: emotion 'angr' is not known; did you mean 'anger'")
    assert second.startswith("metadata.csv line 3: emotion 'W' is not known; expected")
    assert third.startswith("metadata.csv line 4: id 'a' stands already in line 2")


@pytest.mark.parametrize("place", ["folder", "parquet"])
def test_a_typo_in_a_mapping_blames_the_option_and_not_the_table(one_code, tmp_path, place):
    if place == "parquet":
        import pandas as pd

        path = tmp_path / "x.parquet"
        pd.DataFrame({"audio": [b""], "emotion": ["W"]}).to_parquet(path)
    location = one_code if place == "folder" else str(path)
    with pytest.raises(UsageError) as caught:
        open_corpus("mine", location, options={"emotions": {"W": "hapiness", "L": "Trauer"}})
    assert "--corpus-set mine.KEY=VALUE" in caught.value.message
    assert caught.value.problems == (
        "mine.emotions: maps to what is no emotion of repkit's vocabulary: W = 'hapiness'; did you mean 'happiness'?; "
        "correct the setting",
    )


def test_wrong_roles_and_keys_are_told_with_what_was_meant(one_code):
    with pytest.raises(UsageError) as caught:
        open_corpus("mine", one_code, options={"columns": {"gendr": "sex"}, "rating_rnge": [1, 7]})
    role, key = sorted(caught.value.problems)
    assert role.startswith("mine.columns: no such role 'gendr'; did you mean 'gender'?; expected audio, id, speaker")
    assert key == "mine.rating_rnge: unknown key; did you mean 'rating_range'?"
    assert "got" not in role


def test_a_folder_given_without_a_name_is_told_to_be_named(tmp_path, monkeypatch):
    (tmp_path / "wavs").mkdir()
    (tmp_path / "my speech").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"write --corpus wavs=wavs$") as caught:
        open_corpus("wavs")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(UsageError, match=r"write --corpus 'my_speech=\./my speech'$"):
        open_corpus("./my speech")
    with pytest.raises(UsageError, match="is not known; expected one of"):
        open_corpus("wavz")


def test_several_tables_are_told_by_an_option_that_works(tmp_path, write_sound):
    write_sound(tmp_path / "a.wav")
    for name in ("one list.csv", "two.csv"):
        (tmp_path / name).write_text("file_name\na.wav\n")
    with pytest.raises(DataError) as caught:
        open_corpus("mine", str(tmp_path)).utterances()
    settings = typed(caught.value.message.rpartition("--corpus-set ")[2])["mine"]
    assert settings == {"table": "one list.csv"}
    assert len(open_corpus("mine", str(tmp_path), options=settings).utterances()) == 1
    with pytest.raises(DataError, match=r"--corpus-set mine\.table=FILE\.csv"):
        open_corpus("mine", str(tmp_path), options={"table": "three.csv"}).utterances()


def encoded(tmp_path, samples):
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    return tmp_path / "x.wav"


def sine(peak):
    # a quarter of the rate, from an eighth on: every sample is at +-peak
    return (peak * np.sign(np.sin(2 * np.pi * 4000 * np.arange(16000) / 16000 + np.pi / 4))).astype("float32")


@pytest.mark.parametrize(("peak", "silent"), [(0.00009, True), (0.00011, False), (0.5, False)])
@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_silence_begins_at_minus_80_dbfs_whatever_the_offset(tmp_path, peak, silent, offset):
    path = encoded(tmp_path, sine(peak) + np.float32(offset))
    if not silent:
        assert decode(path, where="x").shape == (16000,)
        return
    with pytest.raises(BadAudioError, match=r"x: is silent, its peak is -81 dBFS; expected speech, above -80 dBFS"):
        decode(path, where="x")


def test_channels_that_cancel_each_other_are_silent_and_told_so(tmp_path):
    left = sine(0.5)
    path = encoded(tmp_path, np.stack([left, -left + np.float32(2e-5) * sine(1.0)], axis=1))
    with pytest.raises(BadAudioError, match="it is the mean of 2 channels, which cancel each other"):
        decode(path, where="x")
    assert np.abs(decode(path, where="x", channel=0)).max() == pytest.approx(0.5)
    with pytest.raises(BadAudioError) as caught:
        decode(encoded(tmp_path, np.zeros(16000)), where="x")
    assert "channels, which" not in caught.value.message


def test_clipped_utterances_are_listed_with_their_share_and_stay_usable(tmp_path):
    samples = sine(0.5)
    samples[:800] *= 2  # 5 % at full scale
    soundfile.write(tmp_path / "loud.wav", samples, 16000)
    samples = sine(0.5)
    samples[:15] *= 2  # 0.94 per mille
    soundfile.write(tmp_path / "fine.wav", samples, 16000)
    report = check_corpus(open_corpus("mine", str(tmp_path), options={"pattern": "(?P<id>.+)"}), n_jobs=1)
    assert report.clipped == {"mine/loud": pytest.approx(0.05)}
    assert report.usable == 2


def notes(tmp_path, header, row, **options):
    soundfile.write(tmp_path / "a.wav", sine(0.5), 16000)
    (tmp_path / "metadata.csv").write_text(f"{header}\n{row}\n")
    return check_corpus(open_corpus("mine", str(tmp_path), options=options), n_jobs=1).warnings


def test_a_corpus_without_labels_is_told_where_they_were_looked_for(tmp_path):
    (line,) = notes(tmp_path, "file_name,Code,Take", "a.wav,W,3")
    assert f"no column called {' or '.join(ROLES['emotion'])}" in line
    assert "the columns not used are Code, Take" in line
    option = line.rpartition("--corpus-set ")[2].replace("COLUMN", "Code")
    settings = typed(option)["mine"]
    assert notes(tmp_path, "file_name,speaker,Code", "a.wav,s,anger", **settings) == []
    (line,) = notes(tmp_path, "file_name", "a.wav")
    assert "the table has no further column" in line
    (line,) = notes(tmp_path, "file_name,speaker,Code", "a.wav,s,", columns={"emotion": "Code"})
    assert "the column 'Code' is empty in every row" in line
    (line,) = notes(tmp_path, "file_name", "a.wav", pattern="(?P<id>.+)")
    assert "(?P<emotion>...)" in line


def test_unlabelled_parquet_is_told_its_columns_and_generated_speech_nothing(tmp_path):
    import pandas as pd

    path = encoded(tmp_path, sine(0.5))
    pd.DataFrame({"audio": [path.read_bytes()], "Code": ["W"]}).to_parquet(tmp_path / "x.parquet")
    (line,) = check_corpus(open_corpus("mine", str(tmp_path / "x.parquet")), n_jobs=1).warnings
    assert "the columns not used are Code;" in line
    unlabelled = open_corpus("synthetic_unlabelled", options={"n_speakers": 1, "n_sentences": 1})
    assert check_corpus(unlabelled, n_jobs=1).warnings == []


@pytest.mark.realdata
def test_no_real_utterance_is_silent_or_far_from_it(real_data):
    """The quietest corpora: -47 dBFS (RAVDESS, speaker 20) is 33 dB above what counts as silent."""
    corpus = open_corpus("ravdess", str(real_data / "ravdess"))
    peaks = [np.abs(corpus.read(u)).max() for u in corpus.utterances() if u.speaker == "ravdess/20"]
    assert 0.003 < min(peaks) < 0.006
