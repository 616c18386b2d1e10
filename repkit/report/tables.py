"""Markdown tables and sentences from results.json; percent and points with one decimal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

MOST_SPEAKERS = 30

Row = Mapping[str, Any]
NO_MARKS: Mapping[str, str] = {}
SAYS = {"helps": "better", "hurts": "worse", "does not help": "not better", "cannot tell": "cannot tell"}
"""A verdict in words that fit any system; of a vector it is said that it helps or hurts."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; the first column is set left, all others right."""
    lines = [
        "| " + " | ".join(header) + " |",
        "|:--" + "|--:" * (len(header) - 1) + "|",
    ]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """Return a share from 0 to 1 in percent, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points with its sign, or a dash."""
    if value is None:
        return "-"
    # a minus before 0.0 would look like a direction
    return f"{100 * value:+.1f}" if round(100 * value, 1) else "0.0"


def span(low: float | None, high: float | None, signed: bool = False) -> str:
    """Return an interval in brackets."""
    if low is None or high is None:
        return "[no interval]"
    show = points if signed else percent
    return f"[{show(low)}, {show(high)}]"


def scores_table(scores: Sequence[Row], paper: Mapping[str, Row], shown: Mapping[str, str] = NO_MARKS) -> str:
    """Return the main table: the paper's mean, minimum and maximum over seeds, and pooled UAR with its interval."""
    header = ["condition", "UAR mean", "min", "max", "sd", "UAR pooled", "95 % interval", "WA", "macro F1", "seeds"]
    rows = []
    for score in scores:
        uar, pooled = score["uar"], score["uar_pooled"]
        row = [
            shown.get(score["condition"], score["condition"]) + ("" if score["complete"] else " (incomplete)"),
            f"**{percent(uar['mean'])}**",
            percent(uar["min"]),
            percent(uar["max"]),
            percent(uar["sd"]),
            percent(pooled["mean"]),
            span(pooled["low"], pooled["high"]),
            percent(score["wa"]["mean"]),
            percent(score["macro_f1"]["mean"]),
            score["n_seeds"],
        ]
        if paper:
            value = paper.get(score["condition"])
            row.append(paper_cell(value) if value else "-")
        rows.append(row)
    return table(header + (["paper"] if paper else []), rows)


def paper_table(paper: Sequence[Row], scores: Sequence[Row]) -> str:
    """Return the published numbers beside ours of the same condition."""
    ours = {score["condition"]: score for score in scores}
    rows = []
    for value in paper:
        score = ours.get(value["condition"])
        mine = percent(score["uar"]["mean"]) if score else "not run"
        rows.append([value["corpus"], value["condition"], paper_cell(value), mine, value.get("note") or ""])
    return table(["paper's corpus", "condition", "paper: UAR (min to max)", "ours: UAR", "note"], rows)


def paper_cell(value: Row) -> str:
    """Return a published UAR with its extremes where it has them."""
    if value.get("minimum") is None or value.get("maximum") is None:
        return f"{value['uar']:.1f}"
    return f"{value['uar']:.1f} ({value['minimum']:.1f} to {value['maximum']:.1f})"


def recall_table(scores: Sequence[Row], classes: Sequence[str], shown: Mapping[str, str] = NO_MARKS) -> str:
    """Return recall per class and condition, with the number of reference utterances."""
    header = ["class", "utterances", *(shown.get(score["condition"], score["condition"]) for score in scores)]
    n_seeds = [max(1, score["n_seeds"]) for score in scores]
    rows = []
    for place, name in enumerate(classes):
        references = max((sum(s["confusion"][place]) / n for s, n in zip(scores, n_seeds)), default=0)
        rows.append([name, f"{references:.0f}", *(percent(score["recall"][name]) for score in scores)])
    return table(header, rows)


ROLE_WORDS = {"own_baseline": "same settings, no vector", "baseline": "reference"}


def differences_table(
    differences: Sequence[Row], shown: Mapping[str, str] = NO_MARKS, systems: Collection[str] = ()
) -> str:
    """Return all differences with intervals, p-values and what they allow to say; systems are conditions without vector."""
    header = [
        "difference",
        "points of UAR",
        "95 % interval",
        "p (speakers)",
        "p, Holm",
        "p (folds)",
        "speakers",
        "says",
    ]
    rows = [
        [
            f"{shown.get(found['condition'], found['condition'])} - {shown.get(found['against'], found['against'])} "
            f"({ROLE_WORDS.get(found['role'], found['role'])})",
            points(found["difference"]),
            span(found["low"], found["high"], signed=True),
            p_value(found["p_sign_flip"]),
            p_value(found["p_holm"]),
            p_value(found["p_wilcoxon_folds"]),
            found["n_speakers"],
            SAYS[found["verdict"]] if found["condition"] in systems else found["verdict"],
        ]
        for found in differences
    ]
    return table(header, rows)


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals, or a dash."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def speakers_table(
    groups: Sequence[Row],
    conditions: Sequence[str],
    details: Mapping[str, Row],
    shown: Mapping[str, str] = NO_MARKS,
) -> str:
    """Return pooled UAR per speaker and condition; the worst of each condition is bold.

    Above 30 speakers the 30 with the lowest mean are shown.
    """
    values = {(group["group"], group["condition"]): group for group in groups}
    names = list(dict.fromkeys(group["group"] for group in groups))

    def mean(name: str) -> float:
        found = [values[name, c]["uar"] for c in conditions if (name, c) in values]
        return sum(found) / len(found)

    listed = names if len(names) <= MOST_SPEAKERS else sorted(names, key=lambda n: (mean(n), n))[:MOST_SPEAKERS]
    rows = []
    for name in listed:
        first = next(values[name, c] for c in conditions if (name, c) in values)
        cells = [_group_cell(values.get((name, condition))) for condition in conditions]
        rows.append([name, details.get(name, {}).get("gender") or "-", first["n_utterances"], *cells])
    text = table(["speaker", "gender", "utterances", *(shown.get(c, c) for c in conditions)], rows)
    if len(names) > len(listed):
        text += f"\n\nThe {len(listed)} of {len(names)} speakers with the lowest mean; all stand in results.json."
    return text


def groups_table(groups: Sequence[Row], conditions: Sequence[str], shown: Mapping[str, str] = NO_MARKS) -> str:
    """Return pooled UAR with interval per gender, corpus and language; the worst of each condition is bold."""
    values = {(group["kind"], group["group"], group["condition"]): group for group in groups}
    rows = []
    for kind, name in dict.fromkeys((group["kind"], group["group"]) for group in groups):
        found = [values.get((kind, name, condition)) for condition in conditions]
        first = next(group for group in found if group)
        cells = [_group_cell(g) + (f" {span(g['low'], g['high'])}" if g else "") for g in found]
        rows.append([f"{kind}: {name}", first["n_utterances"], first["n_speakers"], *cells])
    return table(["group", "utterances", "speakers", *(shown.get(c, c) for c in conditions)], rows)


def _group_cell(group: Row | None) -> str:
    if group is None:
        return "-"
    return f"**{percent(group['uar'])}**" if group["worst"] else percent(group["uar"])
