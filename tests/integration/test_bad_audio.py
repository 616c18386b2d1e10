"""Bad audio through the real commands: every file named with the remedy, or left out and recorded when asked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from bad_input import TRAIN, no_report
from cli_helpers import cli, ok, read_table, speech, write_corpus, write_table

from repkit.runs.directory import read_json
from repkit.store import open_store

SOUND = (0.1 * np.sin(np.arange(16000) * 0.2)).astype(np.float32)


def add(folder, name, speaker="s9", emotion="anger"):
    """Add a row for a file to a corpus folder."""
    write_table(folder, [*read_table(folder), (name, speaker, "female", emotion)])


def spoil(folder):
    """Add every kind of file that cannot be used; returns their names and the word that must be said of each."""
    (folder / "unreadable.wav").write_bytes(b"this is no sound at all" * 10)
    soundfile.write(folder / "whole.wav", SOUND, 16000)
    whole = (folder / "whole.wav").read_bytes()
    (folder / "whole.wav").unlink()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", SOUND[:320], 16000)
    words = {
        "unreadable": ("could not be decoded (Format not recognised)", "convert it to 16 kHz WAV or FLAC"),
        "truncated": ("16022 bytes are there; expected 16022 more", "copy it again from the original or leave it out"),
        "empty": ("has 0 bytes; expected audio", "copy it again from the original or leave it out"),
        "silent": ("every sample is 0; expected speech", "check the channel or leave it out"),
        "nan": ("holds 16000 sample(s) that are NaN", "write it again or leave it out"),
        "short": ("is 0.020 s long; expected at least 0.1 s", "leave it out"),
    }
    for name in words:
        add(folder, f"{name}.wav")
    return words


@pytest.fixture
def spoilt(here):
    """A corpus of 16 good and 6 bad files in ./bad."""
    write_corpus(here / "bad")
    return spoil(here / "bad")


def assert_all_named(done, words, folder="bad"):
    assert done.code == 4, done.err
    text = done.out + done.err
    for name, (value, remedy) in words.items():
        (line,) = [line for line in text.splitlines() if f"{folder}/{name}.wav" in line]
        assert value in line
        assert remedy in line
    assert "Traceback" not in text


def test_check_lists_every_bad_file_at_once(spoilt):
    done = cli("corpora", "check", "bad=bad", "--workers", 1)
    assert_all_named(done, spoilt)
    assert "bad: 22 utterances, 16 usable" in done.out
    assert "6 utterances cannot be used; mend or remove them, or train with --on-bad-audio skip" in done.err


def test_training_stops_before_it_starts_and_lists_every_bad_file_of_every_corpus(spoilt, here):
    write_corpus(here / "worse", speech("worse", seed=3))
    spoil(here / "worse")
    done = cli(*TRAIN, "--corpus", "bad=bad", "--corpus", "worse=worse")
    assert_all_named(done, spoilt)
    assert_all_named(done, spoilt, "worse")
    assert "corpus 'bad': 6 utterances have audio that cannot be used" in done.err
    assert "corpus 'worse': 6 utterances" in done.err
    assert "--on-bad-audio skip" in done.err
    assert not (here / "runs").exists()
    mended = cli(*TRAIN, "--corpus", "bad=bad", "--dry-run")
    assert mended.code == 0  # a plan decodes nothing


def test_without_them_when_asked_and_recorded(spoilt, here, stage_one, monkeypatch):
    """embed and train-ser leave the same files out, also when one is good for one of them only."""
    embed = ("embed", "--encoder", stage_one / "ae", "--corpus", "bad=bad", "--out", "emb")
    assert_all_named(cli(*embed), spoilt)
    assert "16 utterances, 32 dimensions, 6 left out" in ok(*embed, "--on-bad-audio", "skip").out
    assert_all_named(cli(*embed), spoilt)  # done, but whoever does not ask to skip is told
    train = (*TRAIN, "--corpus", "bad=bad", "--embeddings", "emb")
    refused = cli(*train)
    assert refused.code == 4
    assert "emb/ae/bad: 6 of the utterances that condition ae needs are not in the store" in refused.err
    assert "bad/nan: left out, bad/nan.wav: holds 16000 sample(s)" in refused.err
    no_report(monkeypatch)
    ok(*train, "--on-bad-audio", "skip")
    (run,) = (here / "runs/tiny").iterdir()
    left_out = read_json(run / "data.json")["left_out"]
    assert set(left_out) == {f"bad/{name}" for name in spoilt}
    for name, (value, _) in spoilt.items():
        assert value in left_out[f"bad/{name}"]
    assert len(pd.read_parquet(run / "utterances.parquet")) == 16
    tested = [i for p in run.glob("jobs/ae/*/*/split.json") for i in read_json(p)["test"]]
    assert len(tested) == 16
    assert not {f"bad/{name}" for name in spoilt} & set(tested)


def test_unusual_but_good_files_are_taken_by_all_commands(here, stage_one, monkeypatch):
    write_corpus(here / "odd")
    rng = np.random.default_rng(0)
    soundfile.write(here / "odd/8bit.wav", 0.3 * np.sin(np.arange(16000) * 0.2), 16000, subtype="PCM_U8")
    soundfile.write(here / "odd/cd.wav", 0.3 * np.sin(np.arange(44100) * 0.1), 44100)
    soundfile.write(here / "odd/stereo.flac", rng.normal(0, 0.1, (16000, 2)), 16000)
    minute = np.zeros(60 * 16000, np.int16)
    minute[:16000] = rng.normal(0, 3000, 16000)
    with soundfile.SoundFile(here / "odd/two_hours.flac", "w", 16000, 1, subtype="PCM_16") as file:
        for _ in range(120):
            file.write(minute)
    names = ("8bit.wav", "cd.wav", "stereo.flac", "two_hours.flac")
    for name in names:
        add(here / "odd", name, "s1")
    checked = ok("corpora", "check", "odd=odd", "--workers", 1)
    assert "odd: 20 utterances, 20 usable, 2.00 h, 0.5 to 7200.0 s each" in checked.out
    ok("embed", "--encoder", f"statistics:{stage_one / 'ae'}", "--corpus", "odd=odd", "--out", "emb")
    store = open_store("emb/statistics-ae/odd")
    assert {f"odd/{Path(name).stem}" for name in names} <= set(store.ids)
    no_report(monkeypatch)
    ok(*TRAIN, "--corpus", "odd=odd", "--embeddings", "emb")
    (run,) = (here / "runs/tiny").iterdir()
    durations = pd.read_parquet(run / "utterances.parquet").set_index("id")["duration_s"]
    # cut at max_duration_s = 2; one second of 44.1 kHz is one second
    assert durations["odd/two_hours"] == pytest.approx(2.0, abs=0.05)
    assert durations[["odd/8bit", "odd/cd", "odd/stereo"]].tolist() == pytest.approx([1.0] * 3, abs=0.05)
