"""Two processes under torchrun against one: same global batches, same losses."""

import json
import os
import runpy
import subprocess
import sys

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
from repkit.audio.synthetic import SyntheticCorpus
from repkit.stage_one.train import PretrainConfig
from repkit.workflows.pretrain_ae import pretrain_ae


def main(out, cache, kind):
    corpus = SyntheticCorpus(SyntheticCorpus.Config(name="toy", n_speakers=4, n_sentences=2, duration_s=0.8))
    config = PretrainConfig(hidden_size=8, batch_size=5, epochs=3, dropout=0.0, learning_rate=0.01, clip_value=0.02,
                            frontend_settings={"bands": 16}, device="cpu", precision="fp32")
    if kind == "objectives":
        objectives = ({"name": "apc"}, {"name": "masked_spans", "span": 2}, {"name": "crop_functionals"})
        config = PretrainConfig(hidden_size=8, batch_size=5, epochs=3, dropout=0.0, learning_rate=0.01, chunk_s=0.4,
                                frontend_settings={"bands": 16}, device="cpu", precision="fp32", objectives=objectives)
    pretrain_ae([corpus], Path(out), config, cache=Path(cache), progress="lines")


if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def run_twice(tmp_path, kind):
    """Train once in two processes and once in this one; return the records of both by name."""
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # caches of their own: the second process must wait until the first has made the frames
    done = subprocess.run(
        [*torchrun, script, tmp_path / "two", tmp_path / "cache-two", kind],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "two" / "status.json").read_text())["state"] == "done", done.stderr
    assert " x 2" in done.stderr
    runpy.run_path(str(script))["main"](tmp_path / "one", tmp_path / "cache-one", kind)
    return {
        name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    }


def test_two_processes_learn_what_one_does(tmp_path):
    metrics = run_twice(tmp_path, "autoencoder")
    weights = {name: load_file(tmp_path / name / "encoder" / "model.safetensors") for name in metrics}
    # 48 utterances less those held out make a last batch of 1: one of the two processes has no share of it
    assert (
        json.loads((tmp_path / "one" / "results.json").read_text())["provenance"]["corpora"][0]["utterances"] % 5 == 1
    )
    assert len(metrics["one"]) == len(metrics["two"]) == 3
    for one, two in zip(metrics["one"], metrics["two"]):
        assert two["train_rmse"] == pytest.approx(one["train_rmse"], rel=1e-4)
        assert two["dev_rmse"] == pytest.approx(one["dev_rmse"], rel=1e-4)
    assert metrics["one"][0]["train_rmse"] > 1.02 * metrics["one"][2]["train_rmse"]
    for name, tensor in weights["one"].items():
        assert (weights["two"][name] - tensor).abs().max() < 1e-3


def test_two_processes_learn_objectives_together(tmp_path):
    metrics = run_twice(tmp_path, "objectives")
    # pieces are weighted here, not frames, and each process hides spans of its own
    for one, two in zip(metrics["one"], metrics["two"], strict=True):
        assert two["train_losses"].keys() == one["train_losses"].keys()
        for name in ("apc.l1", "crop_functionals.mel"):
            assert two["train_losses"][name] == pytest.approx(one["train_losses"][name], rel=0.03)
        assert two["dev_loss"] == pytest.approx(one["dev_loss"], rel=0.05)
    assert metrics["two"][2]["train_loss"] < 0.95 * metrics["two"][0]["train_loss"]
