"""Runs ``repkit scale`` in processes of its own and kills them; started by test_scale_command.py as kill_driver.py is by its
test: the libraries are loaded once, and a child is forked for every attempt. What happened goes to log.json."""

import json
import os
import signal
import sys
from pathlib import Path

from kill_driver import attempt, preload, slow_down

import repkit.report.gate_page
import repkit.workflows.train_ser.run


def main(folder, words):
    """Run a plan to its end in whole/, and in killed/ with kills while it trains and while it probes."""
    preload(
        "accelerate", "torch.utils.tensorboard", "transformers.conversion_mapping", "matplotlib.figure", "sklearn.svm"
    )
    preload("repkit.workflows.scale.run", "repkit.stage_one.gru_encoder", "repkit.stage_one.functionals")
    repkit.workflows.train_ser.run.render = lambda run: None  # reports of single runs are not looked at here
    repkit.report.gate_page.draw = lambda state, path: None
    os.environ["REPKIT_CACHE"] = str(folder / "cache")
    text = folder / "text"
    log = []

    def run(out, *more):
        end = attempt(["scale", *words, "--out", out], text, *more)
        log.append({"end": end, "text": text.read_text(), "at": moment(out)})

    run(folder / "whole")
    slow_down("repkit.stage_one.train", "save_checkpoint", 0.05)
    out = folder / "killed"
    run(out, signal.SIGKILL, lambda: list(out.glob("encoders/apc-0.001h-s1/checkpoints/step-*.json")))
    run(out, signal.SIGKILL, lambda: list(out.glob("runs/probe/*/jobs/*/*/*/done.json")))
    for _ in range(2):
        run(out)
    (folder / "log.json").write_text(json.dumps(log), encoding="utf-8")


def moment(out):
    """Return what stands on the disk: finished trainings and jobs of the probe."""
    return {
        "done": sorted(path.parent.name for path in out.glob("encoders/*/results.json")),
        "jobs": len(list(out.glob("runs/probe/*/jobs/*/*/*/done.json"))),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
