"""``repkit reproduce`` on what earlier runs left: lost predictions, damaged folders, settings that are refused, nothing to do."""

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
from cli_helpers import cli, ok
from reproduce_helpers import PAPER, cells, given, make_place, make_voices, runs

import repkit.workflows.embed
from repkit.errors import RepkitWarning
from repkit.workflows.reproduce.runs import _say_once


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory)


@pytest.fixture
def place(here, monkeypatch):
    return make_place(here, monkeypatch)


ONE = ("--only", "CNN/one", "--workers", 1)
KEY = ("alone", "CNN", "one")


def predictions():
    return {p: p.stat().st_mtime_ns for p in Path("runs").glob("*/*/jobs/*/*/*/predictions.parquet")}


def test_a_run_that_has_lost_predictions_is_continued_and_never_measured_over_the_rest(place, voices):
    ok("reproduce", "toy.toml", *given(voices, "one"), *ONE)
    first = cells()[KEY]
    (run,) = runs()
    whole = predictions()
    assert len(whole) == 4
    assert first["ours"]["folds"].keys() == {p.parent.name for p in whole}
    assert sum(first["ours"]["folds"].values()) / 2 == pytest.approx(first["ours"]["value"])
    lost = [p for p in whole if p.parent.name == min(first["ours"]["folds"])]  # one fold of two, both seeds
    for path in lost:
        path.unlink()
    # the tables written anew keep the number, and say why it could not be measured again
    for _ in range(2):
        done = cli("reproduce", "toy.toml", "--page-only")
        assert (done.code, "2 of 4 jobs of condition 'BL' have no predictions" in done.out) == (4, True), done.out
        assert all(f"  - BL/seed_{seed}/{lost[0].parent.name}" in done.out for seed in (0, 1))
        kept = cells()[KEY]
        assert (kept["state"], kept["ours"]) == ("measured", first["ours"])
        assert [note.partition(":")[0] for note in kept["notes"][len(first["notes"]) :]] == [
            "of an earlier time; measured again, it failed"
        ]
    dry = ok("reproduce", "toy.toml", *given(voices, "one"), *ONE, "--dry-run").out.splitlines()
    assert next(line.split()[-2:] for line in dry if line.startswith("1 ")) == ["to", "do"]
    # run again, the two jobs are trained anew in the same folder
    done = ok("reproduce", "toy.toml", *given(voices, "one"), *ONE)
    assert f"{run}  (continued, 2 of 4 jobs done)" in done.err
    assert runs() == [run]
    after = predictions()
    assert {p for p in whole if after[p] == whole[p]} == set(whole) - set(lost)
    again = cells()[KEY]
    assert (again["ours"], again["notes"]) == (first["ours"], first["notes"])
    # so does train-ser itself
    lost[0].unlink()
    done = ok("train-ser", "--recipe", "tiny.toml", *given(voices, "one"), "--workers", 1)
    assert f"{run}  (continued, 3 of 4 jobs done)" in done.err
    assert predictions().keys() == whole.keys()
    # now it is found, which is said, and nothing is done
    times = predictions()
    done = ok("reproduce", "toy.toml", *given(voices, "one"), *ONE)
    assert f"found      {run}  (BL: finished already, not repeated)" in done.err
    assert predictions() == times
    # nothing is left to do for it, not even its frames, should the cache have been emptied
    shutil.rmtree(os.environ["REPKIT_CACHE"])
    dry = ok("reproduce", "toy.toml", *given(voices, "one"), *ONE, "--dry-run").out.splitlines()
    assert next(line.split()[-1] for line in dry if line.startswith("1 ")) == "done"
    assert not [line for line in dry if line.startswith(("frames ", "vectors "))]


def test_a_condition_is_taken_from_a_larger_run_that_has_lost_another(place, voices):
    ok("reproduce", "toy.toml", *given(voices), "--table", "across", "--workers", 1)
    (run,) = runs()
    (lost,) = (p for p in predictions() if "wide" in p.parts)
    lost.unlink()
    done = ok("reproduce", "toy.toml", *given(voices), "--only", "plain", "--workers", 1)
    assert f"found      {run}  (plain: finished already, not repeated)" in done.err
    done = ok("reproduce", "toy.toml", *given(voices), "--table", "across", "--workers", 1)
    assert f"{run}  (continued, 1 of 2 jobs done)" in done.err
    assert runs() == [run]


@pytest.mark.parametrize(
    "files",
    [
        {"status.json": '{"state": "do'},
        {"status.json": '{"state": "done"}'},
        {"status.json": '["done"]'},
        {"status.json": '{"state": "done"}', "protocol.json": "[]"},
        {
            "status.json": '{"state": "done"}',
            "protocol.json": '{"id": "SAME"}',
            "resolved.json": "{",
            "data.json": "{}",
        },
    ],
)
def test_a_damaged_run_of_the_same_recipe_is_passed_over_with_a_note(place, voices, files):
    ok("reproduce", "toy.toml", *given(voices, "one"), *ONE)
    (run,) = runs()
    folder = Path("runs/tiny/20990101T000000Z_deadbeef")  # looked at first
    folder.mkdir()
    own = json.loads((Path(run) / "protocol.json").read_text())["id"]
    for name, text in files.items():
        (folder / name).write_text(text.replace("SAME", own))
    times = predictions()
    _say_once.cache_clear()
    words = ["reproduce", "toy.toml", *given(voices, "one"), *ONE, "--out", "other"]  # which knows of no run
    with warnings.catch_warnings():
        warnings.simplefilter("always", RepkitWarning)
        done = ok(*words)
        assert done.err.count(f"{folder}: this run cannot be read and is passed over (") == 1, done.err
        assert f"found      {run}" in done.err
        dry = ok(
            "reproduce", "toy.toml", *given(voices), "--only", "CNN", "--dry-run", "--workers", 1, "--out", "third"
        )
    assert "passed over" not in dry.err  # said once
    assert predictions() == times


def test_settings_are_refused_before_anything_is_made(place, voices, monkeypatch):
    """CNN reads frames, SVM vectors: each has settings that the other has not."""
    text = PAPER.replace('id = "Gone"\nrecipe = "gao2022_cros"', 'id = "Gone"\nrecipe = "probe"\ncondition = "F"')
    text = text.replace('condition = "F"', 'condition = "F"\nembed = "functionals:prosody"')
    Path("toy.toml").write_text(text, encoding="utf-8")
    made = []
    real = repkit.workflows.embed.embed
    monkeypatch.setattr(repkit.workflows.embed, "embed", lambda *a, **more: made.append(a) or real(*a, **more))
    words = ["reproduce", "toy.toml", *given(voices, "one"), "--only", "*/one", "--workers", 1]
    for more in ([], ["--dry-run"]):
        done = cli(*words, "--set", "foo=1", *more)
        assert done.code == 2
        assert "  - foo: unknown key" in done.out
    assert "not known: training, tiny.toml on one: cannot be planned: recipe tiny.toml: not valid\n" in done.out
    assert (made, Path("embeddings").exists(), Path("runs").exists()) == ([], False, False)
    # what one recipe does not have fails its cell alone, at once
    done = cli(*words, "--set", "model.n_filters=4")
    assert done.code == 2
    assert done.err.index("refused    probe on one: recipe probe") < done.err.index("run 1 of 1: tiny.toml on one")
    assert made == []
    found = cells()
    assert (found[KEY]["state"], found["alone", "Gone", "one"]["state"]) == ("measured", "failed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "list instead of an object"),
        ('{"schema": 1, "paper": "toy", "runs": {}}', "no 'cells'"),
        ('{"schema": 1, "paper": "toy", "cells": []}', "no 'runs'"),
        ('{"schema": 1, "paper": "toy", "runs": [], "cells": []}', "'runs' is no dict"),
        (
            '{"schema": 1, "paper": "toy", "runs": {}, "cells": [{"id": "a", "state": "measured"}]}',
            "cell 0 without differs",
        ),
        ('{"schema": 1, "pa', "Unterminated string"),
    ],
)
def test_a_damaged_list_of_cells_is_named(place, voices, text, said):
    path = Path("reproduce/toy/cells.json")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for more in ((), ("--page-only",), ("--dry-run",)):
        done = cli("reproduce", "toy.toml", *given(voices, "one"), *ONE, *more)
        assert (done.code, f"{path}: damaged ({said}" in done.err) == (4, True), done.err
    assert path.read_text() == text
    assert not Path("runs").exists()


def test_nothing_to_do_beside_numbers_of_before_is_said(place, voices):
    ok("reproduce", "toy.toml", *given(voices, "one"), *ONE)
    done = ok("reproduce", "toy.toml", *given(voices, "one"), "--only", "people")
    assert "1 of 9 cells are measured." in done.out
    assert "the numbers are of an earlier time: nothing of what --only names can be run: listeners" in done.out
