"""The page of ``repkit scale``: the gate's difference against hours of speech; a pure function of scale.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repkit.report.style import GREY, looks, panels, save, styled
from repkit.report.tables import p_value, points, span, table
from repkit.runs.atomic import write_text_atomic

State = Mapping[str, Any]
WHAT_IT_IS = (
    "The gate's difference, [functionals + trained] - [functionals + untrained], in points of UAR: the mean over corpora, read "
    "by the probe. Interval: 95 %, over speakers, widened for their number, as in `compare/compare.md`. Encoders "
    "that differ in their seed stand in one point, their mean; *lowest to highest*: of the seeds, each against the mean of the "
    "untrained ones; that spread is not in the interval. All trainings have as many updates, so that what changes "
    "along a curve is the speech. The speech of fewer hours lies within that of more, so that one curve's points are not "
    "independent of each other."
)
HEADER = (
    "curve", "hours", "normalisation", "points of UAR", "95 % interval", "p (speakers)", "seeds", "lowest to highest",
    "speakers", "gate",
)  # fmt: skip
COLUMNS = (
    "kind", "curve", "hours", "normalisation", "seed", "corpus", "value", "low", "high", "p", "n_seeds", "n_speakers",
    "n_utterances", "control", "verdict",
)  # fmt: skip
"""Columns of table.csv; values in points of UAR. Kinds: mean, seed, corpus."""


def write_page(out: Path, state: State, *, figure: bool) -> None:
    """Write ``scale.md``, ``table.csv`` and, where anything is measured, ``figure.png`` into a folder.

    Args:
        out: the folder.
        state: what stands in scale.json.
        figure: draw it anew; without it the page shows the one that is there.
    """
    write_text_atomic(out / "table.csv", csv_text(state))
    path = out / "figure.png"
    drawn = draw(state, path) if figure else path if path.exists() and state["points"] else None
    write_text_atomic(out / "scale.md", markdown(state, drawn))


def markdown(state: State, figure: Path | None) -> str:
    """Return the page."""
    plan = state["plan"]
    parts = ["# Does more speech help stage one?", "\n".join(summary(state))]
    if figure is not None:
        parts.append(f"![gate difference against hours of speech]({figure.name})")
        parts.append("Lines: 95 % intervals over speakers. Small dots: seeds.")
    if state["points"]:
        parts += ["## Differences", WHAT_IT_IS, table(HEADER, point_rows(state))]
        if len(state["corpora"]) > 1:
            parts += ["By corpus, without interval:", table(*_by_corpus(state))]
    for name, title in (("missing", "Missing"), ("failed", "Failed")):
        lines = reasons(state, name)
        if lines:
            parts += [f"## {title}", "\n".join(f"- {text}" for text in lines)]
    parts += ["## Trainings", *_trainings(state)]
    parts += [
        "## How this was made",
        f"repkit {state['repkit']}, {plan['updates']} updates each, speech drawn with seed {plan['data_seed']} from "
        f"{', '.join(state['heard'])}; the gate on {', '.join(state['corpora'])}:",
        f"```\n{state['command']}\n```",
        "The scores behind it, and what the encoders have heard of test speakers: [compare/compare.md](compare/compare.md). "
        "Settings, losses and speech of each training: `encoders/NAME/`.",
    ]
    return "\n\n".join(parts) + "\n"


def summary(state: State) -> list[str]:
    """Return what is done and what is left, and what the gate says of every curve at the most hours that it has."""
    counts: dict[str, int] = {}
    for cell in state["cells"]:
        counts[cell["state"]] = counts.get(cell["state"], 0) + 1
    words = {
        "done": "done",
        "ready": "to train",
        "missing": "lack speech",
        "failed": "failed",
        "not chosen": "not chosen",
    }
    told = ", ".join(f"{counts[key]} {text}" for key, text in words.items() if counts.get(key))
    lines = [f"{len(state['cells'])} trainings: {told}."]
    if state["failed"]:
        lines.append(f"{len(state['failed'])} conditions of the probe failed: see compare/compare.md.")
    last: dict[str, State] = {}
    for one in state["points"]:
        last[one["curve"]] = one
    lines += [f"- {curve} at {one['hours']:g} h: **{one['verdict']}**" for curve, one in last.items()]
    return [lines[0], "", *lines[1:]] if len(lines) > 1 else lines


def point_rows(state: State) -> list[list[str]]:
    """Return a row per point in the order of `HEADER`."""
    rows = []
    for one in state["points"]:
        seeds = list(one["seeds"].values())
        rows.append(
            [
                one["curve"],
                f"{one['hours']:g}",
                one["normalisation"].replace("_", "-"),
                points(one["difference"]),
                span(one["low"], one["high"], signed=True),
                p_value(one["p"]),
                str(len(seeds)),
                f"{points(min(seeds))} to {points(max(seeds))}" if len(seeds) > 1 else "-",
                str(one["n_speakers"]),
                one["verdict"],
            ]
        )
    return rows


def reasons(state: State, kind: str) -> list[str]:
    """Return why the cells of a state are in it, those of one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for cell in state["cells"]:
        if cell["state"] == kind:
            by_reason.setdefault(" ".join(cell["why"].split()), []).append(cell["id"])
    return [f"{', '.join(names)}: {why}" for why, names in by_reason.items()]


def _by_corpus(state: State) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            one["curve"],
            f"{one['hours']:g}",
            one["normalisation"].replace("_", "-"),
            *(points(one["corpora"].get(name)) for name in state["corpora"]),
        ]
        for one in state["points"]
    ]
    return ["curve", "hours", "normalisation", *state["corpora"]], rows


def _trainings(state: State) -> list[str]:
    rows = [
        [
            cell["name"], f"{cell['heard_hours']:.4g}", cell["speakers"], cell["updates"], cell["epochs"],
            f"{cell['seconds'] / 3600:.2f}",
        ]
        for cell in state["cells"] if cell["state"] == "done"
    ]  # fmt: skip
    if not rows:
        return ["None is finished yet."]
    return [table(["encoder", "hours heard", "speakers", "updates", "epochs", "hours of training"], rows)]


def csv_text(state: State) -> str:
    """Return every point, and its seeds and corpora, as rows of `COLUMNS`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in state["points"]:
        same = {key: one[key] for key in ("curve", "normalisation")} | {"hours": f"{one['hours']:g}"}
        told = {key: one[key] for key in ("n_speakers", "n_utterances", "control", "verdict")}
        writer.writerow(
            {
                **same,
                "kind": "mean",
                "n_seeds": len(one["seeds"]),
                "p": f"{one['p']:.4f}",
                **{
                    key: _hundredths(one[of]) for key, of in (("value", "difference"), ("low", "low"), ("high", "high"))
                },
                **told,
            }
        )
        for kind, values in (("seed", one["seeds"]), ("corpus", one["corpora"])):
            for name, value in values.items():
                writer.writerow({**same, "kind": kind, kind: name, "value": _hundredths(value)})
    return text.getvalue()


def _hundredths(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def draw(state: State, path: Path) -> Path | None:
    """Draw the difference of every curve against hours on a logarithmic axis, a panel per normalisation, seeds as dots.

    Points of one number of hours are drawn side by side, so that their intervals can be told apart. None where nothing is
    measured.
    """
    modes = list(dict.fromkeys(one["normalisation"] for one in state["points"]))
    if not modes:
        return None
    planned = [one["name"] for one in state["plan"]["curves"]]
    look = looks(planned)  # a curve keeps its colour, whichever others are there
    curves = [name for name in planned if any(one["curve"] == name for one in state["points"])]
    with styled():
        figure, axes = panels(len(modes), columns=2, width=4.2, height=3.2)
        for panel, mode in zip(axes, modes):
            for place, curve in enumerate(curves):
                some = [one for one in state["points"] if (one["curve"], one["normalisation"]) == (curve, mode)]
                aside = 1.06 ** (place - (len(curves) - 1) / 2)
                x = [one["hours"] * aside for one in some]
                colour = look[curve]["color"]
                panel.plot(x, [100 * one["difference"] for one in some], lw=1.4, ms=5.5, label=curve, **look[curve])
                for at, one in zip(x, some):
                    if one["low"] is not None:
                        panel.plot([at, at], [100 * one["low"], 100 * one["high"]], color=colour, lw=1.4, alpha=0.6)
                    dots = [100 * value for value in one["seeds"].values()]
                    panel.plot([at] * len(dots), dots, "o", ms=2.8, color=colour, mec="white", mew=0.4)
            panel.axhline(0, color=GREY, lw=1)
            panel.set_xscale("log")
            hours = sorted({one["hours"] for one in state["points"]})
            panel.set_xticks(hours, [f"{value:g}" for value in hours])
            panel.set_xticks([], minor=True)
            panel.set_xlim(min(hours) / 1.4, max(hours) * 1.4)
            panel.set_xlabel("hours of speech")
            panel.set_title(f"{mode.replace('_', '-')} normalisation")
        axes[0].set_ylabel("[functionals + trained] -\n[functionals + untrained] / points of UAR")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=min(4, len(curves)))
        return save(figure, path)


__all__ = ["HEADER", "csv_text", "draw", "markdown", "point_rows", "reasons", "summary", "write_page"]
