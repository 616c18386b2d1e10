"""repkit train-ser --executor batched against one process per job, as a user types it."""

import json

import pandas as pd
import pytest
import torch
from cli_helpers import cli, ok

import repkit.workflows.train_ser.batched
import repkit.workflows.train_ser.run
from repkit.runs.directory import read_json


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)


def train(stage_one, *more, recipe="tiny.toml"):
    """Train without and with a vector: eight jobs in two programs; without a report there are no scores to print."""
    corpus, vectors = f"toy={stage_one / 'toy'}", f"AE={stage_one / 'emb' / 'ae'}"
    return cli("train-ser", "--recipe", recipe, "--corpus", corpus, "--embeddings", vectors, *more)


def predictions(folder):
    """Return the probabilities of every job under a folder of runs by their keys."""
    parts = [pd.read_parquet(path) for path in sorted(folder.rglob("predictions.parquet"))]
    keys = ["condition", "seed", "fold", "part", "checkpoint", "view", "id"]
    whole = pd.concat(parts).set_index(keys).sort_index()
    return pd.DataFrame(whole["probabilities"].tolist(), index=whole.index)


def test_predictions_do_not_depend_on_the_executor(stage_one, here):
    """Within 1e-4 after two epochs of Adam, by which rounding has grown; most programs of three, so that rows change."""
    train(stage_one, "--runs", "alone", "--workers", 1, "--executor", "processes")
    train(stage_one, "--runs", "together", "--executor", "batched", "--at-once", 3)
    one, other = predictions(here / "alone"), predictions(here / "together")
    assert len(one) == 2 * 2 * (16 + 2 * 4) * 2  # conditions, seeds, tested and selected on in two folds, checkpoints
    pd.testing.assert_index_equal(one.index, other.index)
    assert float((one - other).abs().to_numpy().max()) < 1e-4
    (run,) = (here / "together").glob("*/*")
    assert read_json(run / "status.json")["done"] == 8
    first = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert (first["executor"], first["device"]) == ("batched", "cpu")


def test_finished_jobs_are_kept_when_the_executor_changes(stage_one, here, monkeypatch):
    publish, n = repkit.workflows.train_ser.batched.publish_job, 0

    def stop_at_the_third(*given):
        nonlocal n
        n += 1
        if n == 3:
            raise KeyboardInterrupt
        return publish(*given)

    monkeypatch.setattr(repkit.workflows.train_ser.batched, "publish_job", stop_at_the_third)
    assert train(stage_one, "--executor", "batched").code == 130
    monkeypatch.undo()
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)
    monkeypatch.chdir(here)
    (run,) = (here / "runs").glob("*/*")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("done.json")}
    assert len(before) == 2
    train(stage_one, "--executor", "processes", "--workers", 1)
    assert read_json(run / "status.json")["done"] == 8
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_models_that_cannot_be_batched_run_one_by_one(stage_one, here):
    text = (here / "tiny.toml").read_text()
    text = text.replace("n_filters = 6\npool_size = 8\n", "n_filters = 6\npool_size = 8\nadapters = true\n")
    (here / "adapters.toml").write_text(text.replace('name = "tiny"', 'name = "adapters"'))
    train(stage_one, "--runs", "alone", "--workers", 1, recipe="adapters.toml")
    train(stage_one, "--runs", "together", "--executor", "batched", recipe="adapters.toml")
    pd.testing.assert_frame_equal(predictions(here / "alone"), predictions(here / "together"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cuda"], "torch finds no GPU"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--executor dask"),
    ],
)
def test_what_is_not_there_is_refused(stage_one, here, monkeypatch, options, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = train(stage_one, *options)
    assert done.code == 2
    assert said in done.err


def test_options_are_in_the_help():
    assert "--at-once" in ok("train-ser", "--help").out
