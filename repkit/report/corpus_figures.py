"""Figures by corpus: UAR with intervals, and which training corpora carry over to which test corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repkit.report.sentences import corpus_name
from repkit.report.style import COLOURS, GREY, looks, new_figure, panels, save

Row = Mapping[str, Any]
ROW, TIGHT_ROW = 0.17, 0.125
"""Inches that one condition of one corpus takes; the second above 10 corpora."""


def draw_corpora(scores: Sequence[Row], path: Path) -> Path:
    """Draw UAR by corpus, one row per condition, with interval and each corpus' chance.

    Args:
        scores: entries of ``corpora`` of one view and checkpoint.
        path: of the PNG.
    """
    conditions = list(dict.fromkeys(score["condition"] for score in scores))
    parts = list(dict.fromkeys((score["corpus"], score["held_out"]) for score in scores))
    found = {((score["corpus"], score["held_out"]), score["condition"]): score for score in scores}
    step = len(conditions) + 1.0
    figure = new_figure(6.8, 1.0 + (ROW if len(parts) <= 10 else TIGHT_ROW) * step * len(parts))
    axes = figure.subplots()
    style = looks(conditions)
    for number, part in enumerate(parts):
        top = number * step
        first = next(found[part, name] for name in conditions if (part, name) in found)
        chance = 100 * first["chance"]
        axes.plot([chance, chance], [top - 0.6, top + len(conditions) - 0.4], color=GREY, lw=1.2, ls=(0, (3, 2)))
        for place, name in enumerate(conditions):
            score = found.get((part, name))
            if score is None:
                continue
            uar, height, look = score["uar"], top + place, style[name]
            if uar["low"] is not None:
                axes.plot([100 * uar["low"], 100 * uar["high"]], [height, height], color=look["color"], lw=1.8)
            axes.plot(
                100 * uar["mean"], height, ls="", ms=5.5, mec="white", mew=0.6, zorder=3,
                label=name if number == 0 else None, **look,
            )  # fmt: skip
        if number:
            axes.axhline(top - 1, color="#E4E4E4", lw=0.8)
    middles = [number * step + (len(conditions) - 1) / 2 for number in range(len(parts))]
    rows = [next(found[part, name] for name in conditions if (part, name) in found) for part in parts]
    axes.set_yticks(middles, [f"{_tick(row, rows)}" for row in rows])
    axes.set_ylim(len(parts) * step - 1.4, -0.9)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("UAR / %   (line: 95 % interval over speakers; dashed: chance of the corpus)")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=min(5, len(conditions)))
    return save(figure, path)


def _tick(row: Row, rows: Sequence[Row]) -> str:
    name = corpus_name(row, rows)
    return f"{name}\nheld out" if row["held_out"] and name == row["corpus"] else name.replace(" (", "\n(")


def draw_matrices(matrices: Sequence[Row], view: str, path: Path) -> Path:
    """Draw UAR of training corpora (rows) by test corpus (columns) as numbers on shades.

    One panel per condition; one panel with a row per condition where all folds train on the same corpora, or each corpus
    is tested by models of all others only. Where some corpora were held out and some not, the latter are framed. Numbers
    with a column's name: chance.

    Args:
        matrices: entries of ``matrix`` of one view and checkpoint.
        view: its name.
        path: of the PNG.
    """
    joined = _by_condition(matrices)
    if joined is not None:
        shown = [joined]
    else:
        shown = [(matrix["condition"], [row["name"] for row in matrix["rows"]], matrix) for matrix in matrices]
    values = np.array([v for _, _, m in shown for row in m["uar"] for v in row if v is not None])
    framed = some_held_out(matrices)
    low = 100 * min(values.min(), min(c for _, _, m in shown for c in m["chance"]))
    high = max(100 * values.max(), low + 1)
    names = max((len(line) for _, rows, _ in shown for name in rows for line in _wrapped(name).split("\n")), default=5)
    n_columns = max(len(matrix["corpora"]) for _, _, matrix in shown)
    n_rows = max(len(rows) for _, rows, _ in shown)
    columns = 1 if n_columns > 8 or len(shown) == 1 else 2
    figure, axes = panels(
        len(shown), columns=columns, width=max(2.6, 0.075 * names + 0.62 * n_columns + 0.5), height=0.95 + 0.42 * n_rows
    )
    image = None
    for number, (panel, (title, rows, matrix)) in enumerate(zip(axes, shown)):
        shades = np.array([[np.nan if v is None else 100 * v for v in row] for row in matrix["uar"]])
        image = panel.imshow(shades, cmap="Blues", vmin=low, vmax=high, aspect="auto")
        for (row, column), shade in np.ndenumerate(shades):
            if np.isnan(shade):
                panel.text(column, row, "·", ha="center", va="center", color=GREY)
                continue
            dark = (shade - low) / (high - low) > 0.55
            panel.text(
                column, row, f"{shade:.1f}", ha="center", va="center", fontsize=8.5,
                color="white" if dark else "#202020",
            )  # fmt: skip
            if framed and matrix["held_out"][row][column] is False:
                panel.add_patch(_frame((column - 0.46, row - 0.44)))
        labels = [f"{corpus}\n{100 * chance:.0f}" for corpus, chance in zip(matrix["corpora"], matrix["chance"])]
        crowded = max(map(len, matrix["corpora"])) > 9 or n_columns > 6
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        panel.set_xticks(
            range(len(labels)), [label.replace("\n", " ") if crowded else label for label in labels], **turned
        )
        panel.set_yticks(range(len(rows)), [_wrapped(name) for name in rows])
        panel.set_title(title)
        panel.set_xlabel("test corpus, chance below" if not crowded else "test corpus, chance / %")
        if number % columns == 0 and joined is None:
            panel.set_ylabel("trained on")
        panel.grid(visible=False)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.9, aspect=24, pad=0.02)
        bar.set_label(f"UAR, {view} / %")
        bar.outline.set_visible(False)
    return save(figure, path)


def some_held_out(matrices: Sequence[Row]) -> bool:
    """Tell whether some cells are of corpora held out and some are not."""
    return {held for matrix in matrices for row in matrix["held_out"] for held in row} >= {True, False}


def _by_condition(matrices: Sequence[Row]) -> tuple[str, list[str], Row] | None:
    """Return title, row names and one matrix with a row per condition, None where that would lose something."""
    columns = sorted({corpus for matrix in matrices for corpus in matrix["corpora"]})
    sets = {row["name"] for matrix in matrices for row in matrix["rows"]}
    cells: list[dict[str, list[tuple[str, float, bool | None]]]] = []
    for matrix in matrices:
        cells.append({corpus: [] for corpus in columns})
        for row, values, held_out in zip(matrix["rows"], matrix["uar"], matrix["held_out"]):
            for corpus, value, held in zip(matrix["corpora"], values, held_out):
                if value is not None:
                    cells[-1][corpus].append((row["name"], value, held))
    others = all(name == f"all but {corpus}" for of in cells for corpus, found in of.items() for name, _, _ in found)
    if len(sets) > 1 and not others:
        return None
    chance = {corpus: value for matrix in matrices for corpus, value in zip(matrix["corpora"], matrix["chance"])}
    joined = {
        "corpora": columns,
        "uar": [[of[corpus][0][1] if of[corpus] else None for corpus in columns] for of in cells],
        "held_out": [[of[corpus][0][2] if of[corpus] else None for corpus in columns] for of in cells],
        "chance": [chance[corpus] for corpus in columns],
    }
    title = f"Trained on {next(iter(sets))}" if len(sets) == 1 else "Trained on all corpora but the one tested"
    return title, [matrix["condition"] for matrix in matrices], joined


def _wrapped(name: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, 22)[:3])


def _frame(corner: tuple[float, float]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 0.92, 0.88, fill=False, lw=1.6, ec=COLOURS[1])
