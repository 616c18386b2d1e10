"""Figures of training: loss and dev UAR by phase, figures of the objectives by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repkit.report.style import GREY, PANEL, looks, new_figure, panels, save
from repkit.report.training import CHANCE, Curves, chance_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FIGURES = 12


def draw_curves(curves: Curves, view: str, path: Path) -> Path:
    """Draw training loss and dev UAR by epoch: mean over trainings, with the band from the 10th to the 90th percentile.

    Args:
        curves: per phase and condition; a row of panels for each phase.
        view: whose dev UAR it is.
        path: of the PNG.
    """
    figure = new_figure(2 * PANEL + 1.7, PANEL * len(curves) + 0.5)
    rows = figure.subplots(len(curves), 2, squeeze=False)
    names = list(dict.fromkeys(name for of in curves.values() for name in of))
    style = looks(names)
    shown = {}
    for (phase, conditions), (left, right) in zip(curves.items(), rows):
        for name, of in conditions.items():
            colour = style[name]["color"]
            for axes, key, factor in ((left, "train_loss", 1.0), (right, "dev_uar", 100.0)):
                line = _draw_mean(axes, factor * of[key], colour)
                shown.setdefault(name, line)
                if line is not None and axes is right and len(of["selected"]):
                    chosen = float(np.median(of["selected"]))
                    height = np.interp(chosen, *line.get_data())
                    axes.plot(chosen, height, marker="v", ms=7, color=colour, mec="white", zorder=3)
        left.set_ylabel("training loss")
        right.set_ylabel(f"dev UAR, {view} / %")
        if len(curves) > 1:
            left.set_title(f"phase {phase}")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
    handles = {name: line for name, line in shown.items() if line is not None}
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=min(6, len(handles)))
    return save(figure, path)


def draw_figures(figures: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path | None:
    """Draw the objectives' figures by running epoch, a panel each; chance of an accuracy as a dashed line.

    Args:
        figures: per figure and condition (jobs, epochs).
        path: of the PNG.

    Returns:
        the path, None where there is nothing to draw. The first 12 figures that are not the same throughout are drawn.
    """
    names = [name for name, of in figures.items() if not name.endswith(CHANCE) and _varies(of)][:MOST_FIGURES]
    if not names:
        return None
    figure, axes = panels(len(names), columns=3, width=2.9, height=2.3)
    conditions = list(dict.fromkeys(condition for of in figures.values() for condition in of))
    style = looks(conditions)
    handles = {}
    for panel, name in zip(axes, names):
        chance = chance_of(name, figures)
        factor = 1.0 if chance is None else 100.0
        for condition, values in figures[name].items():
            colour = style[condition]["color"]
            line = _draw_mean(panel, factor * values, colour)
            if line is None:
                continue
            handles.setdefault(condition, line)
            level = figures[chance].get(condition) if chance is not None else None
            if level is not None and np.isfinite(level).any():
                panel.axhline(100 * float(np.nanmean(level)), color=GREY, lw=1, ls=(0, (3, 2)), zorder=1)
        panel.set_title(f"{_title(name, names)}{'' if chance is None else ' / %'}")
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=min(6, len(handles)))
    return save(figure, path)


def _varies(of: Mapping[str, np.ndarray]) -> bool:
    values = np.concatenate([rows[np.isfinite(rows)] for rows in of.values()])
    return values.size > 0 and np.ptp(values) > 0


def _title(name: str, names: Sequence[str]) -> str:
    """Return what is measured, with the objective where two measure the same."""
    objective, _, what = name.partition(".")
    twice = sum(other.partition(".")[2] == what for other in names) > 1
    return f"{what or objective}{f' ({objective})' if twice and what else ''}".replace("_", " ")


def _draw_mean(axes: Axes, values: np.ndarray, colour: str):
    """Draw the mean over rows (trainings, epochs) with its band; return the line, None where all is missing."""
    seen = np.isfinite(values).any(axis=0)
    if not seen.any():
        return None
    epochs = np.arange(1, values.shape[1] + 1)[seen]
    middle = np.nanmean(values[:, seen], axis=0)
    (line,) = axes.plot(epochs, middle, color=colour, lw=1.6, marker="o" if len(epochs) < 3 else None, ms=3)
    if len(values) > 1:
        low, high = np.nanpercentile(values[:, seen], [10, 90], axis=0)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.12, lw=0)
    return line
