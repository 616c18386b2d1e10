"""The Markdown of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repkit.report.compare import _letter
from repkit.report.leaderboard import Board
from repkit.report.tables import percent, points, span, table

SAME = "≈"
"""After the rank of a system that is not shown to be worse than the first."""

LEGEND = (
    "UAR in percent. *UAR mean*: mean over folds for each seed, then over seeds, with the extremes of the seeds; it ranks. "
    "*UAR pooled*: over all test utterances, with the 95 % bootstrap interval over speakers. *minus the first*: points of "
    f"pooled UAR, paired by speaker, seeds averaged; {SAME} stands where the system is not shown to be worse than the first "
    "(that needs the whole interval below zero and p < 0.05 by sign flips over speakers), so that their order says nothing. "
    "*Epochs*: fewest and most of its trainings; none where a system is fitted in one go, which is on train and dev speakers "
    "together. *Inductive* systems use nothing of the test speakers before they predict. *Transductive* ones do, as their "
    "last column says, and are ranked by themselves: their ranks and those of the others must not be mixed. Letters stand "
    "for protocol ids: the test utterances are the same, what the list of letters names is not. Systems with pretrained "
    "self-supervised weights are not ranked, nor those whose encoder does not say whom it has heard; *pretrained weights* names any other encoder that was trained elsewhere."
)


def board_markdown(board: Board) -> str:
    """Return the tables, one section for each split and label set, and what was left out; no title."""
    parts = [_section(group, board.groups) for group in board.groups]
    parts = [*parts, LEGEND] if parts else ["No finished run of a published split was found."]
    if board.refused:
        lines = [f"- {r.run}{f', {r.condition}' if r.condition else ''}: {r.reason}" for r in board.refused]
        parts.append("## Not ranked\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _section(group: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    letters = {protocol["id"]: _letter(place) for place, protocol in enumerate(group["protocols"])}
    both = [*group["inductive"], *group["transductive"]]
    commands = {command: place for place, command in enumerate(dict.fromkeys(row["command"] for row in both), start=1)}
    title = f"## {group['corpus']}: {group['view']}, {len(group['classes'])} classes"
    alike = [
        g for g in groups if (g["name"], g["view"], g["classes"]) == (group["name"], group["view"], group["classes"])
    ]
    if len(alike) > 1:
        title += f", labels {group['labels']}"
    return "\n\n".join(
        [
            title,
            _intro(group),
            *_table("Inductive", group["inductive"], letters, commands),
            *_table("Transductive", group["transductive"], letters, commands),
            _protocols(group["protocols"], letters),
            "Commands:\n\n```\n"
            + "\n".join(f"[{n}] {command or 'not kept'}" for command, n in commands.items())
            + "\n```",
        ]
    )


def _intro(group: Mapping[str, Any]) -> str:
    checksum = f" (sha256 `{group['split_sha256'][:12]}`)" if group["split_sha256"] else ""
    name = f"Split `{group['name']}`{checksum}" if checksum else f"{group['name'].capitalize()}"
    text = (
        f"{name}: {group['n_utterances']} utterances, {group['n_speakers']} speakers, {group['n_folds']} folds; "
        f"{', '.join(group['classes'])}; chance {percent(group['chance'])}."
    )
    if group["folds_without_a_class"]:
        text += (
            f" In {group['folds_without_a_class']} of {group['n_folds']} folds some class has no test utterance: the UAR of "
            "such a fold averages the classes it has, the pooled UAR always has all."
        )
    return text


def _table(
    title: str, rows: Sequence[Mapping[str, Any]], letters: Mapping[str, str], commands: Mapping[str | None, int]
) -> list[str]:
    if not rows:
        return []
    header = ["rank", "system", "UAR mean", "min to max", "UAR pooled", "95 % interval", "minus the first", "seeds"]
    header += [
        "epochs",
        "parameters",
        "heard without labels",
        "pretrained weights",
        "settings chosen by",
        "protocol",
        "date",
        "command",
    ]
    header += ["uses of the test speakers"] if title == "Transductive" else []
    cells = []
    for row in rows:
        uar, pooled, against = row["uar"], row["uar_pooled"], row["against_first"]
        same = against is not None and not against["told_apart"]
        line = [
            f"{row['rank']} {SAME}" if same else row["rank"],
            f"{row['system']} ({row['model']})",
            f"**{percent(uar['mean'])}**",
            f"{percent(uar['min'])} to {percent(uar['max'])}",
            percent(pooled["mean"]),
            span(pooled["low"], pooled["high"]),
            f"{points(against['difference'])} {span(against['low'], against['high'], signed=True)}" if against else "-",
            row["n_seeds"],
            _size(row["epochs"]),
            _size(row["parameters"]),
            ", ".join(row["heard"]) or "-",
            row["pretrained"],
            row["selection"],
            letters[row["protocol_id"]],
            row["date"] or "-",
            f"[{commands[row['command']]}]",
        ]
        cells.append(line + (["; ".join(row["test_speakers"])] if title == "Transductive" else []))
    note = rows[0]["interval_note"]
    return [f"### {title}", table(header, cells), *([f"Intervals are {note}."] if note else [])]


def _size(extremes: Sequence[int] | None) -> str:
    if extremes is None:
        return "-"
    low, high = (f"{number:,}".replace(",", " ") for number in extremes)
    return low if low == high else f"{low} to {high}"


def _protocols(protocols: Sequence[Mapping[str, Any]], letters: Mapping[str, str]) -> str:
    lines = []
    for protocol in protocols:
        apart = ", ".join(key.replace("_", " ") for key in protocol["differs_in"])
        lines.append(
            f"- {letters[protocol['id']]}: protocol `{protocol['id']}`"
            + (f", differs from a in {apart}" if apart else "")
        )
    return "\n".join(lines)
