"""The page of ``repkit compare``: the verdict first, then what it rests on; a pure function of compare.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repkit.report.style import COLOURS, GREY, panels, save, styled
from repkit.report.tables import p_value, percent, points, span, table
from repkit.runs.atomic import write_text_atomic

State = Mapping[str, Any]
MEAN = "mean"
THE_GATE = (
    "Stage one is said to help only where [functionals + trained] beats [functionals + untrained] with the 95 % interval of "
    "the difference above zero under train **and** per-speaker normalisation. All other differences are told for "
    "orientation; no claim rests on them."
)
HOW_MEASURED = (
    "UAR in percent, pooled over all test utterances of a corpus; *mean*: of the corpora, each counting alike. Intervals: 95 %, "
    "bootstrap over speakers within corpora. Differences are paired over folds, seeds and utterances, and their intervals "
    "widened for the number of speakers; p tosses the signs of the speakers' shares and is not adjusted for the number of "
    "rows. Encoders that differ in their seed alone stand in one "
    "row: the mean over them, with the lowest and highest of them behind it; that spread, and the one over seeds of stage "
    "two, is not in the intervals. Joined vectors: each block standardised and weighted to count alike."
)
COLUMNS = (
    "kind", "head", "normalisation", "system", "role", "minus", "trained", "control", "corpus", "value", "low", "high",
    "lowest", "highest", "n_encoders", "n_seeds", "n_speakers", "n_utterances", "chance", "p", "note",
)  # fmt: skip
"""Columns of table.csv; values in percent or points."""
DIFFERENCE_HEADER = (
    "difference", "normalisation", "points of UAR", "95 % interval", "p (speakers)", "lowest to highest", "speakers",
)  # fmt: skip


def write_page(out: Path, state: State, *, figure: bool) -> None:
    """Write ``compare.md``, ``table.csv`` and, where anything is measured, ``figure.png`` into a folder."""
    write_text_atomic(out / "table.csv", csv_text(state))
    drawn = draw(state, out / "figure.png") if figure else None
    write_text_atomic(out / "compare.md", markdown(state, drawn))


def markdown(state: State, figure: Path | None) -> str:
    """Return the page."""
    parts = ["# Does stage one help?", *verdict_part(state), THE_GATE]
    if not state["complete"]:
        parts.append(
            "**Not complete**: runs are missing or have failed (see below); the tables show what is there. The same command "
            "goes on."
        )
    if figure is not None:
        parts.append(f"![UAR of every store, mean over corpora]({figure.name})")
    parts += ["## Scores", HOW_MEASURED]
    for head in state["heads"]:
        for mode in state["normalisations"]:
            rows = score_rows(state, head, mode)
            if rows:
                parts += [f"### {head}, {words(mode)} normalisation", table(score_header(state), rows)]
                parts += _notes(state, head, mode)
    parts += _differences_part(state)
    parts += _heard_part(state)
    parts += _stores_part(state)
    parts += _runs_part(state)
    if state["failed"]:
        lines = [
            f"- {f['head']}, {words(f['normalisation'])}, {f['corpus']}, {f['condition']}: {' '.join(f['why'].split())}"
            for f in state["failed"]
        ]
        parts += ["## Failed", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def verdict_part(state: State) -> list[str]:
    """Return the verdicts: one line and its reasons per head and trained encoder."""
    lines = []
    for one in state["verdicts"]:
        lines.append(f"- **{one['verdict']}**: {one['trained']}, {one['head']}{_against(one)}")
        lines += [f"  - {reason}" for reason in one["reasons"]]
    if not lines:
        return ["**Cannot be told**: no trained encoder among the stores."]
    n_trained = len({one["trained"] for one in state["verdicts"]})
    many = [
        f"{n_trained} trained encoders were judged, each by itself: of so many, one may pass by chance."
        for _ in range(n_trained > 1)
    ]
    single = sorted(
        {s["family"] for s in state["stores"] if s["role"] in ("trained", "untrained")} - _with_seeds(state)
    )
    alone = (
        [f"One seed only of {', '.join(single)}: what is said holds for that encoder, not for its recipe."]
        if single
        else []
    )
    return ["\n".join(lines), *([" ".join([*many, *alone])] if many or alone else [])]


def verdict_lines(state: State) -> list[str]:
    """Return the verdicts as plain lines for the terminal."""
    lines = []
    for one in state["verdicts"]:
        lines.append(f"{one['verdict'].upper()}  {one['trained']}, {one['head']}{_against(one)}")
        lines += [f"  {reason}" for reason in one["reasons"]]
    return lines or ["CANNOT BE TOLD  no trained encoder among the stores"]


def score_header(state: State) -> list[str]:
    """Return the header of `score_rows`."""
    return ["store", "encoders", *state["corpora"], *([MEAN] if len(state["corpora"]) > 1 else [])]


def score_rows(state: State, head: str, mode: str) -> list[list[str]]:
    """Return a row per system: UAR with interval on each corpus and their mean, the spread over encoders where there is one."""
    cells: dict[str, dict[str, State]] = {}
    for one in state["scores"]:
        if (one["head"], one["normalisation"]) == (head, mode):
            cells.setdefault(one["system"], {})[one["corpus"]] = one
    rows = []
    for system, of in cells.items():
        n_members = str(next(iter(of.values()))["n_members"])
        rows.append([_named(system, state), n_members, *(_cell(of.get(name)) for name in score_header(state)[2:])])
    return rows


def difference_rows(state: State, gate: State) -> list[list[str]]:
    """Return a row per difference and normalisation of one gate, in the order of `DIFFERENCE_HEADER`."""
    return [
        [
            f"[{one['first']}] - [{one['second']}]",
            words(one["normalisation"]),
            points(one["difference"]),
            span(one["low"], one["high"], signed=True),
            p_value(one["p_sign_flip"]),
            "-" if one["lowest"] is None else f"{points(one['lowest'])} to {points(one['highest'])}",
            str(one["n_speakers"]),
        ]
        for one in gate["differences"]
    ]


def words(mode: str) -> str:
    """Return a normalisation in words."""
    return mode.replace("_", "-")


def _against(one: State) -> str:
    return f", against {' and '.join(one['controls'])}" if one["controls"] else ""


def _with_seeds(state: State) -> set[str]:
    families = [one["family"] for one in state["stores"]]
    return {name for name in families if families.count(name) > 1}


def _named(system: str, state: State) -> str:
    roles = {one["family"]: one["role"] for one in state["stores"]}
    role = roles.get(system)
    return f"{system} ({role})" if role in ("trained", "untrained") and role not in system else system


def _cell(one: State | None) -> str:
    if one is None:
        return "-"
    text = f"{percent(one['uar'])} {span(one['low'], one['high'])}"
    return text + (f" ({percent(one['lowest'])} to {percent(one['highest'])})" if one["n_members"] > 1 else "")


def _notes(state: State, head: str, mode: str) -> list[str]:
    told: dict[str, dict[str, None]] = {}
    chance: dict[str, float] = {}
    for one in state["scores"]:
        if (one["head"], one["normalisation"]) != (head, mode) or one["corpus"] == MEAN:
            continue
        chance[one["corpus"]] = one["chance"]
        if one["note"]:
            told.setdefault(one["note"], {})[one["corpus"]] = None
        if one["n_unpaired"]:
            told.setdefault(f"{one['n_unpaired']} utterances that not all encoders have predicted are left out", {})[
                f"{one['system']}/{one['corpus']}"
            ] = None
    lines = [f"- chance: {', '.join(f'{name} {percent(value)}' for name, value in chance.items())}"] if chance else []
    return ["\n".join([*lines, *(f"- {note} ({', '.join(where)})" for note, where in told.items())])] if lines else []


def _differences_part(state: State) -> list[str]:
    parts = ["## Differences"]
    for gate in state["gates"]:
        rows = difference_rows(state, gate)
        control = f", untrained: {gate['control']}" if gate["control"] else ""
        title = f"### {gate['head']}: trained: {gate['trained']}{control}"
        parts += [title, f"Gate: **{gate['verdict']}**."]
        if not rows:
            continue
        parts.append(table(DIFFERENCE_HEADER, rows))
        notes = dict.fromkeys(f"- {one['note']}" for one in gate["differences"] if one["note"])
        parts += ["\n".join(notes)] if notes else []
        if len(state["corpora"]) > 1:
            parts.append(_by_corpus(state, gate))
    return parts if state["gates"] else []


def _by_corpus(state: State, gate: State) -> str:
    def cell(one: State | None) -> str:
        return "-" if one is None else f"{points(one['value'])} {span(one['low'], one['high'], signed=True)}"

    rows = [
        [
            f"[{one['first']}] - [{one['second']}]",
            words(one["normalisation"]),
            *(cell(one["corpora"].get(name)) for name in state["corpora"]),
        ]
        for one in gate["differences"]
    ]
    return table(["difference", "normalisation", *state["corpora"]], rows)


def _heard_part(state: State) -> list[str]:
    """Return the audit's flags that bear on what may be said, each with where it holds."""
    told: dict[str, dict[str, None]] = {}
    for run in state["runs"]:
        for flag in run["flags"]:
            by_speaker = "speakers have a single class" in flag  # what the per-speaker half of the gate can show
            if by_speaker or "has heard" in flag or flag.startswith(("transductive", "selected on test")):
                told.setdefault(flag, {})[f"{run['head']}/{run['corpus']}"] = None
    unknown = [one["name"] for one in state["stores"] if one["role"] == "trained" and not one["heard"]]
    lines = [f"- {flag} ({', '.join(where)})" for flag, where in told.items()]
    lines += [f"- what {', '.join(unknown)} has heard in training is not known" for _ in range(bool(unknown))]
    return ["## What the systems have heard of the test speakers", "\n".join(lines)] if lines else []


def _stores_part(state: State) -> list[str]:
    rows = [
        [
            one["name"],
            one["role"],
            one["family"],
            one["encoder"] or "-",
            one["readout"] or "-",
            one["dim"],
            ", ".join(one["heard"] or ()) or "-",
        ]
        for one in state["stores"]
    ]
    header = ["store", "role", "row", "encoder", "readout", "numbers", "heard in training"]
    return ["## Stores", table(header, rows)]


def _runs_part(state: State) -> list[str]:
    if not state["runs"]:
        return []
    rows = [
        [
            run["path"], run["head"], words(run["normalisation"]), run["corpus"], run["protocol"],
            f"`{run['protocol_id']}`", ", ".join(map(str, run["seeds"])),
        ]
        for run in state["runs"]
    ]  # fmt: skip
    commands = "\n".join(dict.fromkeys(run["command"] for run in state["runs"]))
    return [
        "## How this was made",
        f"repkit {state['repkit']}:",
        f"```\n{state['command']}\n```",
        "Each run has a report of its own; each of the commands below gives the numbers of one.",
        table(["run", "read by", "normalisation", "corpus", "protocol", "protocol id", "seeds"], rows),
        f"```\n{commands}\n```",
    ]


def csv_text(state: State) -> str:
    """Return every score and every difference as one row of `COLUMNS`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in [*_score_records(state), *_difference_records(state)]:
        writer.writerow({key: "" if row.get(key) is None else row[key] for key in COLUMNS})
    return text.getvalue()


def _score_records(state: State) -> list[dict[str, Any]]:
    same = ("head", "normalisation", "system", "role", "corpus", "n_seeds", "n_speakers", "n_utterances", "note")
    return [
        {
            "kind": "uar",
            **{key: one[key] for key in same},
            **_hundredths(
                value=one["uar"], **{key: one[key] for key in ("low", "high", "lowest", "highest", "chance")}
            ),
            "n_encoders": one["n_members"],
        }
        for one in state["scores"]
    ]


def _difference_records(state: State) -> list[dict[str, Any]]:
    found = []
    for gate in state["gates"]:
        for one in gate["differences"]:
            head = {
                "kind": "difference",
                "head": gate["head"],
                "normalisation": one["normalisation"],
                "system": one["first"],
                "minus": one["second"],
                "trained": gate["trained"],
                "control": gate["control"],
            }
            numbers = {key: one[key] for key in ("low", "high", "lowest", "highest")}
            found.append(
                {
                    **head,
                    "corpus": MEAN,
                    **_hundredths(value=one["difference"], **numbers),
                    "n_speakers": one["n_speakers"],
                    "n_utterances": one["n_utterances"],
                    "p": f"{one['p_sign_flip']:.4f}",
                    "note": one["note"],
                }
            )
            found += [
                {
                    **head,
                    "corpus": name,
                    **_hundredths(value=of["value"], low=of["low"], high=of["high"]),
                    "n_speakers": of["n_speakers"],
                    "note": of["note"],
                }
                for name, of in one["corpora"].items()
            ]
    return found


def _hundredths(**values: float | None) -> dict[str, str | None]:
    return {key: None if value is None else f"{100 * value:.2f}" for key, value in values.items()}


def draw(state: State, path: Path) -> Path | None:
    """Draw the UAR of every system with its interval, a panel per head and normalisation; None where nothing is measured.

    The mean over corpora, or the corpus where there is one.
    """
    shown = MEAN if len(state["corpora"]) > 1 else state["corpora"][0]
    groups: dict[tuple[str, str], list[State]] = {}
    for one in state["scores"]:
        if one["corpus"] == shown:
            groups.setdefault((one["head"], one["normalisation"]), []).append(one)
    if not groups:
        return None
    colours = {"trained": COLOURS[0], "untrained": COLOURS[1], "functionals": COLOURS[2]}
    most = max(len(rows) for rows in groups.values())
    with styled():
        figure, axes = panels(len(groups), columns=2, width=4.6, height=0.9 + 0.24 * most)
        for panel, ((head, mode), rows) in zip(axes, groups.items()):
            for place, one in enumerate(rows):
                colour = colours.get(one["role"].removeprefix("functionals + "), GREY)
                if one["low"] is not None:
                    panel.plot([100 * one["low"], 100 * one["high"]], [place, place], color=colour, lw=1.8)
                joined = one["role"].startswith("functionals + ")
                panel.plot(100 * one["uar"], place, "s" if joined else "o", ms=5, color=colour)
            panel.set_yticks(range(len(rows)), [one["system"] for one in rows], fontsize=7)
            panel.set_ylim(len(rows) - 0.4, -0.6)
            panel.set_xlabel(f"UAR / %, {shown}")
            panel.set_title(f"{head}, {words(mode)}", fontsize=8.5)
        return save(figure, path)


__all__ = ["difference_rows", "markdown", "score_header", "score_rows", "verdict_lines", "words", "write_page"]
