"""Figures of scores. Each function takes values, writes one PNG and returns its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repkit.report.style import GREY, looks, new_figure, panels, save

Scores = Sequence[Mapping[str, Any]]


def draw_scores(scores: Scores, chance: float, path: Path) -> Path:
    """Draw the pooled UAR of every condition with its interval, and each seed.

    Args:
        scores: entries of results.json of one view and checkpoint.
        chance: UAR of guessing.
        path: of the PNG.
    """
    figure = new_figure(6.4, 0.95 + 0.42 * len(scores))
    axes = figure.subplots()
    names = [score["condition"] for score in scores]
    style = looks(names)
    for place, score in enumerate(scores):
        colour = style[score["condition"]]["color"]
        pooled = score["uar_pooled"]
        if pooled["low"] is not None:
            axes.plot([100 * pooled["low"], 100 * pooled["high"]], [place, place], color=colour, lw=2.2, zorder=2)
        seeds = [100 * one["uar_pooled"] for one in score["seeds"].values()]
        axes.plot(seeds, [place + 0.22] * len(seeds), "|", color=colour, ms=7, mew=1.3, zorder=2)
        axes.plot(100 * pooled["mean"], place, "o", color=colour, ms=7, mec="white", mew=0.8, zorder=3)
        axes.annotate(
            f"{100 * pooled['mean']:.1f}", (100 * pooled["mean"], place), (0, 7),
            textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axes.axvline(100 * chance, color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.annotate(
        "chance", (100 * chance, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
        va="top", color=GREY, fontsize=8,
    )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.set_xlabel("UAR pooled over test utterances / %   (line: 95 % interval over speakers, ticks: seeds)")
    axes.grid(axis="y", visible=False)
    return save(figure, path)


def draw_differences(differences: Scores, conditions: Sequence[str], path: Path) -> Path:
    """Draw differences in UAR with their intervals against zero, in percentage points.

    Args:
        differences: entries of results.json of one view and checkpoint.
        conditions: of the run, in the order that gives them their colours.
        path: of the PNG.
    """
    figure = new_figure(6.4, 0.95 + 0.36 * len(differences))
    axes = figure.subplots()
    style = looks(conditions)
    for place, found in enumerate(differences):
        colour = style[found["condition"]]["color"]
        if found["low"] is not None:
            axes.plot([100 * found["low"], 100 * found["high"]], [place, place], color=colour, lw=2.2)
        sure = found["verdict"] in ("helps", "hurts")
        axes.plot(100 * found["difference"], place, "o", ms=7, mew=1.4, mec=colour, mfc=colour if sure else "white")
    axes.axvline(0, color=GREY, lw=1)
    axes.set_yticks(range(len(differences)), [f"{d['condition']} - {d['against']}" for d in differences])
    axes.set_ylim(len(differences) - 0.4, -0.6)
    axes.set_xlabel("difference in UAR / points   (line: paired 95 % interval over speakers; filled: not zero)")
    axes.grid(axis="y", visible=False)
    return save(figure, path)


def draw_recalls(scores: Scores, classes: Sequence[str], path: Path) -> Path:
    """Draw the recall of every class, one row of points per condition."""
    figure = new_figure(max(5.0, 1.6 + 0.95 * len(classes)), 3.1)
    axes = figure.subplots()
    style = looks([score["condition"] for score in scores])
    for place, score in enumerate(scores):
        shift = (place - (len(scores) - 1) / 2) * min(0.14, 0.7 / len(scores))
        values = [np.nan if (recall := score["recall"][name]) is None else 100 * recall for name in classes]
        look = style[score["condition"]]
        axes.plot(np.arange(len(classes)) + shift, values, ls="", ms=6, label=score["condition"], **look)
    for edge in np.arange(len(classes) - 1) + 0.5:
        axes.axvline(edge, color="#E4E4E4", lw=0.7)
    axes.set_xticks(range(len(classes)), classes, rotation=20 if len(classes) > 5 else 0)
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_ylim(0, 100)
    axes.set_ylabel("recall / %")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper left", ncols=min(6, len(scores)))
    return save(figure, path)


def draw_confusions(scores: Scores, classes: Sequence[str], path: Path) -> Path:
    """Draw one confusion matrix per condition: share of the row as shade and number, count below it.

    Counts are summed over seeds.
    """
    side = max(2.4, 0.52 * len(classes) + 0.9)
    columns = 3 if len(classes) < 6 else 2
    figure, axes = panels(len(scores), columns=columns, width=side + 0.5, height=side)
    image = None
    for place, (panel, score) in enumerate(zip(axes, scores)):
        counts = np.array(score["confusion"], dtype=float)
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)
        image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(counts.shape):
            colour = "white" if shares[row, column] > 55 else "#202020"
            small = {"ha": "center", "color": colour}
            panel.text(column, row - 0.02, f"{shares[row, column]:.0f}", va="bottom", fontsize=8, **small)
            panel.text(column, row + 0.06, f"{counts[row, column]:.0f}", va="top", fontsize=5.8, **small)
        first = place % columns == 0
        panel.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
        panel.set_yticks(range(len(classes)), classes if first else [])
        panel.set_title(f"{score['condition']}: UAR {100 * score['uar_pooled']['mean']:.1f} %")
        panel.set_xlabel("predicted")
        if first:
            panel.set_ylabel("reference")
        panel.grid(visible=False)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.9 / (1 + (len(axes) - 1) // columns), aspect=28, pad=0.02)
        bar.set_label("share of the reference class / %")
        bar.outline.set_visible(False)
    return save(figure, path)
