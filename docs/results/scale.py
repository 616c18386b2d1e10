"""Make docs/results/scale.md and its figure: the gate's difference against hours of unlabelled speech, as far as these data go.

    python docs/results/scale.py --data FOLDER --work FOLDER

It is one command, which goes on where it was stopped.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import common

HERE = Path(__file__).parent
CORPORA = ("emodb", "emovo", "ravdess", "urdu")
CURVES = ("mix", "apc", "masked_spans")
OUT = "small"
SETTINGS = ("hours=[0.2, 0.5, 1.4]", "seeds=[0, 1]", "updates=770")
MODES = ("train", "per_speaker")


def commands(data: str) -> list[common.Step]:
    """Return the command."""
    heard = common.corpora_options(data, ("librispeech",), "--pretrain-corpus")
    only = [word for curve in CURVES for word in ("--only", curve)]
    sets = [word for text in SETTINGS for word in ("--set", text)]
    return [["scale", *heard, *common.corpora_options(data, CORPORA), *sets, *only, "--out", OUT, "--workers", "1"]]


def findings(points: list[dict[str, Any]]) -> list[str]:
    """Return what the points decide, in sentences."""
    at = {(one["curve"], one["hours"], one["normalisation"]): one for one in points}
    hours = sorted({one["hours"] for one in points})
    passed = sorted({f"{one['curve']} at {one['hours']:g} h" for one in points if one["verdict"] == "passed"})
    above = sum(one["low"] is not None and one["low"] > 0 for one in points)
    lines = [f"The gate is {'passed by ' + ', '.join(passed) if passed else 'passed at no point of any curve'}."]
    for mode in MODES:
        told: list[str] = []
        for curve in CURVES:
            few, many = (at[curve, h, mode] for h in (hours[0], hours[-1]))
            gain = 100 * (many["difference"] - few["difference"])
            seeds = [[100 * value for value in one["seeds"].values()] for one in (few, many)]
            apart = min(seeds[1]) > max(seeds[0]) or max(seeds[1]) < min(seeds[0])
            told.append(f"{curve} {gain:+.1f} (the seeds of both ends {'lie apart' if apart else 'overlap'})")
        lines.append(
            f"From {hours[0]:g} to {hours[-1]:g} h, {mode.replace('_', '-')} normalisation, points of UAR: {', '.join(told)}."
        )
    lines.append(
        f"{above} of {len(points)} intervals over speakers lie above zero. Whether a curve rises was not tested over speakers: its "
        "points share speech and test speakers."
    )
    return lines


def page(data: str, work: Path, steps: list[common.Step]) -> str:
    """Return the whole page, and lay the figure beside it."""
    from repkit.report.scale_page import draw, markdown

    state = common.read(work / OUT, "scale.json")
    left = [cell["id"] for cell in state["cells"] if cell["state"] in ("ready", "failed")]
    if left:
        raise SystemExit(f"{len(left)} trainings are not finished; run the script without --page-only")
    figure = HERE / "scale.png"
    drawn = draw(state, work / OUT / "figure.png")
    if drawn is None:
        raise SystemExit("nothing is measured")
    shutil.copy(drawn, figure)
    body = markdown(state, figure).partition("\n\n")[2].partition("## How this was made")[0]
    parts = [
        (HERE / "scale_intro.md").read_text(encoding="utf-8").rstrip(),
        "## What was found",
        "\n".join(f"- {line}" for line in findings(state["points"])),
        "## The curve",
        re.sub(r"^## ", "### ", body, flags=re.MULTILINE).rstrip(),
        "## Command",
        common.commands_block(steps, data),
        f"repkit {state['repkit']}; speech drawn with seed {state['plan']['data_seed']}. This page was written by "
        "`python docs/results/scale.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, commands, page)
