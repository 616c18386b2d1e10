"""A paper of three runs on generated voices, for the tests of ``repkit reproduce``."""

import functools
import json
from pathlib import Path

from cli_helpers import RECIPE, speech, write_corpus

import repkit.workflows.train_ser.run
from repkit.evaluation.results import compute_results
from repkit.plugins import components
from repkit.runs.directory import read_json

PAPER = """
name = "toy"
title = "Tones"
authors = "A & B"
venue = "Nowhere"
year = 2001
notes = ["the second row is a misprint"]

[[corpora]]
name = "one"
title = "One"
clips = 16

[[corpora]]
name = "two"
title = "Two"
clips = 17

[[corpora]]
name = "savee"
title = "SAVEE"

[[systems]]
id = "CNN"
recipe = "tiny.toml"
seeds = 2

[[systems]]
id = "Plain"
recipe = "systems.toml"
condition = "plain"

[[systems]]
id = "Wide"
recipe = "systems.toml"
condition = "wide"

[[systems]]
id = "People"
reason = "listeners"

[[systems]]
id = "Gone"
recipe = "gao2022_cros"

[[tables]]
id = "alone"
caption = "each by itself"
protocol = "two folds of speakers"

[[tables.blocks]]
columns = ["CNN", "Gone", "People"]

[tables.blocks.values]
one = [50.0, 1.0, 90.0]
two = [60.5, 2.0, "-"]
savee = [70.2, 3.0, "-"]

[[tables]]
id = "across"
caption = "trained on one, tested on two"
protocol = "whole corpora"

[[tables.blocks]]
columns = ["two"]
train = ["one"]
hold_out = ["two"]

[tables.blocks.values]
Plain = [50.25]
Wide = [51.50]
"""

SYSTEMS = (
    RECIPE.replace('name = "tiny"', 'name = "systems"')
    .replace("seeds = [0, 1]", 'seeds = [0]\nbaseline = false\nreference = "plain"')
    .replace('name = "leave_one_speaker_group_out"\nn_groups = 2\nmax_speakers = 2', 'name = "leave_one_corpus_out"')
    + '\n[[conditions]]\nname = "plain"\n\n[[conditions]]\nname = "wide"\nset.model = {n_filters = 8}\n'
)


def make_voices(tmp_path_factory):
    """Return two corpora of 16 utterances, by name."""
    root = tmp_path_factory.mktemp("voices")
    return {n: write_corpus(root / n, speech(n, seed=k, style="ab"[k])) for k, n in enumerate(("one", "two"))}


def make_place(here, monkeypatch):
    """Return a folder with the paper and its recipes; reports of runs are not drawn."""
    (here / "systems.toml").write_text(SYSTEMS, encoding="utf-8")
    (here / "toy.toml").write_text(PAPER, encoding="utf-8")
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", score)
    # a third of these tests' time goes into reading the metadata of all distributions hundreds of times
    once = functools.cache(components)
    monkeypatch.setattr("repkit.plugins.discover.components", once)
    monkeypatch.setattr("repkit.config.locate.components", once)
    return here


def score(run):
    """Stand in for the report, whose figures take longer than the training."""
    (run / "results.json").write_text(json.dumps(compute_results(run, n_resamples=10, probes=False)))


def given(voices, *names):
    return [word for name in names or voices for word in ("--corpus", f"{name}={voices[name]}")]


def cells(folder="reproduce/toy"):
    found = read_json(Path(folder) / "cells.json")["cells"]
    return {(c["table"], c["system"], c["corpus"]): c for c in found}


def runs():
    return sorted(str(p.parent) for p in Path("runs").glob("*/*/status.json"))
