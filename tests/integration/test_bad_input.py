"""Bad input through the real commands: one message that names where, what and the remedy, and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import RECIPE, cli, files_of, ok, read_table, write_corpus, write_table

from repkit.plugins import discover
from repkit.runs.directory import read_json

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
        "unreadable": "",
        "truncated": "trunc",
        "empty": "0 bytes",
        "silent": "silent",
        "nan": "NaN",
        "short": "0.02",
    }
    for name in words:
        add(folder, f"{name}.wav")
    return words


@pytest.fixture
def spoilt(here):
    """A corpus of 16 good and 6 bad files in ./bad."""
    write_corpus(here / "bad")
    return spoil(here / "bad")


def assert_all_named(done, words):
    assert done.code == 4, done.err
    text = done.out + done.err
    for name, word in words.items():
        lines = [line for line in text.splitlines() if f"bad/{name}" in line or f"{name}.wav" in line]
        assert lines, f"{name} is not named in\n{text}"
        assert any(word.lower() in line.lower() for line in lines), (word, lines)
    assert "Traceback" not in text


def test_check_lists_every_bad_file_at_once(spoilt):
    assert_all_named(cli("corpora", "check", "bad=bad", "--workers", 1), spoilt)


def test_training_stops_before_it_starts_and_lists_every_bad_file(spoilt, here):
    done = cli("train-ser", "--recipe", "tiny.toml", "--corpus", "bad=bad", "--workers", 1)
    assert_all_named(done, spoilt)
    assert "--on-bad-audio skip" in done.err
    assert not (here / "runs").exists()


def test_training_goes_on_without_them_when_asked_and_records_it(spoilt, here):
    ok(
        "train-ser",
        "--recipe",
        "tiny.toml",
        "--corpus",
        "bad=bad",
        "--workers",
        1,
        "--on-bad-audio",
        "skip",
        "--set",
        "seeds=[0]",
    )
    (run,) = (here / "runs/tiny").iterdir()
    left_out = read_json(run / "data.json")["left_out"]
    assert set(left_out) == {f"bad/{name}" for name in spoilt}
    assert read_json(run / "results.json")["n"]["utterances"] == 16


def test_embed_lists_them_too_and_keeps_what_is_done(spoilt, stage_one):
    done = cli("embed", "--encoder", stage_one / "ae", "--corpus", "bad=bad", "--out", "emb")
    assert_all_named(done, spoilt)
    done = ok("embed", "--encoder", stage_one / "ae", "--corpus", "bad=bad", "--out", "emb", "--on-bad-audio", "skip")
    assert "16 utterances" in done.out
    assert "6 left out" in done.out


def test_unusual_but_good_files_are_taken(here):
    write_corpus(here / "odd")
    rng = np.random.default_rng(0)
    soundfile.write(here / "odd/8bit.wav", 0.3 * np.sin(np.arange(16000) * 0.2), 16000, subtype="PCM_U8")
    soundfile.write(here / "odd/cd.wav", 0.3 * np.sin(np.arange(44100) * 0.1), 44100)
    soundfile.write(here / "odd/stereo.flac", rng.normal(0, 0.1, (16000, 2)), 16000)
    with soundfile.SoundFile(here / "odd/two_hours.flac", "w", 16000, 1, subtype="PCM_S8") as file:
        for _ in range(120):
            file.write(np.tile(0.3 * np.sin(np.arange(16000) * 0.2), 60))
    for name in ("8bit.wav", "cd.wav", "stereo.flac", "two_hours.flac"):
        add(here / "odd", name, "s1")
    ok("train-ser", "--recipe", "tiny.toml", "--corpus", "odd=odd", "--workers", 1, "--set", "seeds=[0]")
    (run,) = (here / "runs/tiny").iterdir()
    import pandas as pd

    durations = pd.read_parquet(run / "utterances.parquet").set_index("id")["duration_s"]
    # cut at max_duration_s = 2; one second of 44.1 kHz is one second
    assert durations["odd/two_hours"] == pytest.approx(2.0, abs=0.05)
    assert durations["odd/cd"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("header", "change", "said"),
    [
        (
            ("name", "speaker_id", "gender", "emotion"),
            lambda rows: rows,
            ["no column with the audio files", "--corpus-set"],
        ),
        (("file_name", "talker?", "gender", "emotion"), lambda rows: rows, ["speaker", "--corpus-set"]),
        (
            None,
            lambda rows: [(*rows[0][:3], "angr"), *rows[1:]],
            ["angr", "did you mean 'anger'", "metadata.csv line 2"],
        ),
        (None, lambda rows: [(rows[0][0], "", *rows[0][2:]), *rows[1:]], ["metadata.csv line 2", "speaker"]),
        (None, lambda rows: [("gone.wav", *rows[0][1:]), *rows[1:]], ["gone.wav"]),
        (None, lambda rows: [*rows, rows[0]], ["line 18", "already in line 2"]),
    ],
    ids=["no audio column", "no speaker column", "label typo", "speaker missing", "file missing", "id twice"],
)
def test_faulty_tables_are_refused_with_line_and_remedy(here, header, change, said):
    folder = write_corpus(here / "mine")
    write_table(folder, change(read_table(folder)), header or ("file_name", "speaker_id", "gender", "emotion"))
    done = cli("train-ser", "--recipe", "tiny.toml", "--corpus", "mine=mine", "--workers", 1)
    assert done.code == 4, done.err
    for text in said:
        assert text in done.err
    assert not (here / "runs").exists()


def test_wrong_recipes_tell_all_problems_at_once(here, stage_one):
    Path("wrong.toml").write_text(RECIPE.replace("epochs = 2", 'epochs = "two"\nepoch = 3').replace("seeds", "seds"))
    done = cli("train-ser", "--recipe", "wrong.toml", "--corpus", f"toy={stage_one / 'toy'}")
    assert done.code == 2
    for text in (
        "seds: unknown key; did you mean 'seeds'",
        "training.epochs: got 'two'",
        "training.epoch: unknown key",
    ):
        assert text in done.err
    done = cli(
        "train-ser", "--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}", "--set", "model.dropuot=0.1"
    )
    assert done.code == 2
    assert "model.dropuot: unknown key; did you mean 'dropout'" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train-ser", "--recipe", "dann", "--corpus", "synthetic_a"], 2, "it comes with repkit-dann"),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--set", 'model={name="lstmm"}'],
            3,
            "no component named 'lstmm'",
        ),
        (["train-ser", "--recipe", "tiny.toml"], 2, "--corpus: none given"),
        (["train-ser", "--recipe", "tiny.toml", "--corpus", "emodb"], 2, "emodb=PATH"),
        (["train-ser", "--recipe", "tiny.toml", "--corpus", "mine=nowhere"], 4, "no such folder"),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--embeddings", "nowhere"],
            2,
            "no such folder",
        ),
        (["embed", "--encoder", "nowhere", "--corpus", "synthetic_a", "--out", "emb"], 2, "nowhere"),
        (
            ["pretrain-ae", "--corpus", "synthetic_a", "--out", "ae", "--set", "training.epoch=3"],
            2,
            "did you mean 'epochs'",
        ),
        (["report", "."], 2, "protocol.json is missing"),
    ],
)
def test_wrong_names_are_explained(here, arguments, code, said):
    done = cli(*arguments)
    assert (done.code, said in done.err) == (code, True), done.err
    assert files_of(here) == ["tiny.toml"]


class Leaky:
    """Folds whose first test speaker is also in train."""

    from repkit.api import Config

    def __init__(self, config):
        pass

    def folds(self, utterances):
        from repkit.api import Fold

        ids = [u.id for u in utterances]
        return [Fold("all", train=tuple(ids[:-3]), dev=(), test=tuple(ids[-3:]))]


def test_a_speaker_in_train_and_test_stops_the_run_by_name(here, stage_one, monkeypatch):
    from importlib.metadata import EntryPoint

    real = discover.entry_points
    leaky = EntryPoint("leaky", f"{__name__}:Leaky", "repkit.protocols")
    monkeypatch.setattr(
        discover, "entry_points", lambda group: [*real(group=group), *([leaky] if group == leaky.group else [])]
    )
    done = cli(
        "train-ser", "--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}", "--set", 'protocol={name="leaky"}'
    )
    assert done.code == 4
    speaker = sorted({row[1] for row in read_table(stage_one / "toy")})[-1]
    assert speaker in done.err
    assert not (here / "runs").exists()


def test_embeddings_that_do_not_fit_are_refused(here, stage_one):
    import shutil

    def train(corpus, store):
        return cli(
            "train-ser",
            "--recipe",
            "tiny.toml",
            "--corpus",
            f"toy={corpus}",
            "--embeddings",
            f"C={store}",
            "--workers",
            1,
        )

    # another content under the same name
    changed = shutil.copytree(stage_one / "toy", here / "toy")
    rows = read_table(changed)
    write_table(changed, [(*rows[0][:3], "sadness" if rows[0][3] == "anger" else "anger"), *rows[1:]])
    done = train(changed, stage_one / "emb/ae")
    assert done.code == 4
    assert "fingerprint" in done.err
    assert "repkit embed" in done.err
    # a flipped byte
    damaged = shutil.copytree(stage_one / "emb/ae", here / "emb/ae")
    (shard,) = damaged.rglob("*.h5")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    done = train(stage_one / "toy", damaged)
    assert done.code == 4
    assert shard.name in done.err


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from repkit.cli import main
main()
"""


@pytest.mark.parametrize("command", ["embed", "train-ser"])
def test_a_full_disk_is_named_and_the_same_command_goes_on_with_room(here, stage_one, command):
    """No file may grow beyond a few kilobytes: what a full disk or a quota does, on any machine."""
    toy = f"toy={stage_one / 'toy'}"
    arguments = {
        "embed": ["embed", "--encoder", str(stage_one / "ae"), "--corpus", toy, "--out", "emb"],
        "train-ser": ["train-ser", "--recipe", "tiny.toml", "--corpus", toy, "--workers", "1", "--set", "seeds=[0]"],
    }[command]
    environment = {**os.environ, "REPKIT_CACHE": str(here / "cache")}
    full = subprocess.run(
        [sys.executable, "-c", LIMITED, "6000", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert full.returncode == 4, full.stderr
    assert "disk is full" in full.stderr
    assert "start the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    again = subprocess.run(
        [sys.executable, "-m", "repkit", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert again.returncode == 0, again.stderr
    if command == "train-ser":
        (run,) = [
            r for r in (here / "runs/tiny").iterdir() if json.loads((r / "status.json").read_text())["state"] == "done"
        ]
        assert read_json(run / "results.json")["complete"]
