"""The command line in this process, and corpora small enough for it."""

import contextlib
import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import soundfile

from repkit.audio.synthetic import SyntheticCorpus
from repkit.cli import main

RECIPE = """\
schema = 1
command = "train-ser"
name = "tiny"
description = "for tests"
seeds = [0, 1]
max_duration_s = 2.0

[labels]
map = "own"
views = ["emotion"]

[frontend]
name = "log_mel"
bands = 12

[protocol]
name = "leave_one_speaker_group_out"
n_groups = 2
max_speakers = 2

[model]
name = "attentive_cnn"
n_filters = 6
pool_size = 8
dropout = 0.3

[[objectives]]
name = "multi_view"

[training]
epochs = 2
batch_size = 8
"""
"""Two folds, two seeds, two epochs: four jobs of a few milliseconds per condition."""

PRETRAIN = ("--set", "training.hidden_size=8", "--set", "training.epochs=2", "--set", "training.batch_size=8")
PRETRAIN += ("--set", "training.frontend_settings.bands=16", "--set", "training.device=cpu")
"""Options of a pretrain-ae that takes a second."""


@dataclass
class Done:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def cli(*arguments: object) -> Done:
    """Run ``repkit ARGUMENTS`` through its real entry point."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["repkit", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())


def ok(*arguments: object) -> Done:
    """Run a command that must succeed."""
    done = cli(*arguments)
    assert done.code == 0, done.err
    return done


def speech(name: str = "toy", **settings: object) -> SyntheticCorpus:
    """Return 16 short utterances: 4 speakers, 2 emotions."""
    defaults = {"n_speakers": 4, "emotions": ("anger", "sadness"), "n_sentences": 2, "duration_s": 0.6}
    return SyntheticCorpus(SyntheticCorpus.Config(name=name, **{**defaults, **settings}))


def write_corpus(folder: Path, corpus: SyntheticCorpus | None = None) -> Path:
    """Write a corpus as WAV files with a metadata.csv and return its folder."""
    corpus = corpus or speech()
    folder.mkdir(parents=True)
    rows = []
    for utterance in corpus.utterances():
        name = utterance.id.split("/", 1)[1] + ".wav"
        soundfile.write(folder / name, corpus.read(utterance), 16000)
        rows.append((name, utterance.speaker.split("/")[1], utterance.gender, utterance.emotion))
    write_table(folder, rows)
    return folder


def write_table(folder: Path, rows: list, header: tuple = ("file_name", "speaker_id", "gender", "emotion")) -> None:
    """Write metadata.csv."""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def read_table(folder: Path) -> list:
    """Return the rows of metadata.csv below its header."""
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def files_of(folder: Path) -> list[str]:
    """Return the relative paths of all files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
