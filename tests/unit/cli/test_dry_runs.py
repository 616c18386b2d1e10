"""A dry run refuses what the run itself would refuse at once."""

import json

import pytest
import torch

from repkit.cli import main

TRAIN = ("train-ser", "--recipe", "attentive_cnn", "--corpus", "synthetic_a")
PRETRAIN = ("pretrain-ae", "--recipe", "demo_autoencoder", "--corpus", "synthetic_unlabelled")
SCALE = ("scale", "--pretrain-corpus", "synthetic_unlabelled", "--corpus", "synthetic_a")
NO_SCHEDULER = ("--executor", "dask", "--scheduler", "nowhere/scheduler.json")


def refused(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["repkit", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    return " ".join(shown.err.split())


@pytest.mark.parametrize("words", [TRAIN, ("reproduce", "parry2019")], ids=["train-ser", "reproduce"])
@pytest.mark.parametrize("dry", [("--dry-run",), ()], ids=["dry run", "run"])
def test_executor_scheduler_and_device(words, dry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--scheduler x: the executor is auto" in refused(monkeypatch, capsys, *words, "--scheduler", "x", *dry)
    assert "device cuda: torch finds no GPU on" in refused(monkeypatch, capsys, *words, "--device", "cuda", *dry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [TRAIN, PRETRAIN, SCALE], ids=["train-ser", "pretrain-ae", "scale"])
@pytest.mark.parametrize("dry", [("--dry-run",), ()], ids=["dry run", "run"])
def test_a_scheduler_that_is_not_there(words, dry, tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPKIT_CACHE", str(tmp_path / "cache"))
    out = ("--out", "ae") if words is PRETRAIN else ()
    said = refused(monkeypatch, capsys, *words, *out, *NO_SCHEDULER, *dry)
    assert "scheduler nowhere/scheduler.json: no such file" in said


def test_a_folder_with_a_run_of_other_settings(tmp_path, monkeypatch, capsys):
    out = tmp_path / "ae"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"settings": {"epochs": 999}, "frames": {}}))
    (out / "status.json").write_text(json.dumps({"state": "running"}))
    said = refused(monkeypatch, capsys, *PRETRAIN, "--out", str(out), "--set", "training.epochs=1", "--dry-run")
    assert "ae: holds a run with other settings" in said
    assert "settings.epochs: 999 in the folder, 1 asked for" in said


def test_a_finished_training_is_told(tmp_path, monkeypatch, capsys):
    asked = {}

    def finished_results(out, identity):
        asked.update(identity, out=out)
        return {}

    monkeypatch.setattr("repkit.workflows.pretrain_ae.finished_results", finished_results)
    monkeypatch.setattr("sys.argv", ["repkit", *PRETRAIN, "--out", str(tmp_path), "--dry-run"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "holds all this already; nothing would be trained" in " ".join(capsys.readouterr().err.split())
    assert asked["out"] == tmp_path
    assert (asked["settings"]["epochs"], list(asked["frames"])) == (8, ["synthetic_unlabelled"])
