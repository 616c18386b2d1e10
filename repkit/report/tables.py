"""Markdown tables and sentences from results.json; percent and points with one decimal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_SPEAKERS = 30

Row = Mapping[str, Any]


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


def scores_table(scores: Sequence[Row], paper: Mapping[str, Row]) -> str:
    """Return the main table: the paper's mean, minimum and maximum over seeds, and pooled UAR with its interval."""
    header = ["condition", "UAR mean", "min", "max", "sd", "UAR pooled", "95 % interval", "WA", "macro F1", "seeds"]
    rows = []
    for score in scores:
        uar, pooled = score["uar"], score["uar_pooled"]
        row = [
            score["condition"] + ("" if score["complete"] else " (incomplete)"),
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
            row.append(_paper_cell(value) if value else "-")
        rows.append(row)
    return table(header + (["paper"] if paper else []), rows)


def paper_table(paper: Sequence[Row], scores: Sequence[Row]) -> str:
    """Return the published numbers beside ours of the same condition."""
    ours = {score["condition"]: score for score in scores}
    rows = []
    for value in paper:
        score = ours.get(value["condition"])
        mine = percent(score["uar"]["mean"]) if score else "not run"
        rows.append([value["corpus"], value["condition"], _paper_cell(value), mine, value.get("note") or ""])
    return table(["paper's corpus", "condition", "paper: UAR (min to max)", "ours: UAR", "note"], rows)


def _paper_cell(value: Row) -> str:
    if value.get("minimum") is None or value.get("maximum") is None:
        return f"{value['uar']:.1f}"
    return f"{value['uar']:.1f} ({value['minimum']:.1f} to {value['maximum']:.1f})"


def recall_table(scores: Sequence[Row], classes: Sequence[str]) -> str:
    """Return recall per class and condition, with the number of reference utterances."""
    header = ["class", "utterances", *(score["condition"] for score in scores)]
    n_seeds = [max(1, score["n_seeds"]) for score in scores]
    rows = []
    for place, name in enumerate(classes):
        references = max((sum(s["confusion"][place]) / n for s, n in zip(scores, n_seeds)), default=0)
        rows.append([name, f"{references:.0f}", *(percent(score["recall"][name]) for score in scores)])
    return table(header, rows)


def differences_table(differences: Sequence[Row]) -> str:
    """Return all differences with intervals, p-values and what they allow to say."""
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
            f"{found['condition']} - {found['against']} ({found['role']})",
            points(found["difference"]),
            span(found["low"], found["high"], signed=True),
            _p(found["p_sign_flip"]),
            _p(found["p_holm"]),
            _p(found["p_wilcoxon_folds"]),
            found["n_speakers"],
            found["verdict"],
        ]
        for found in differences
    ]
    return table(header, rows)


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def speakers_table(groups: Sequence[Row], conditions: Sequence[str], details: Mapping[str, Row]) -> str:
    """Return pooled UAR per speaker and condition; the worst of each condition is bold.

    Above 30 speakers the 30 with the lowest mean are shown.
    """
    values = {(group["group"], group["condition"]): group for group in groups}
    names = list(dict.fromkeys(group["group"] for group in groups))

    def mean(name: str) -> float:
        found = [values[name, c]["uar"] for c in conditions if (name, c) in values]
        return sum(found) / len(found)

    shown = names if len(names) <= MOST_SPEAKERS else sorted(names, key=lambda n: (mean(n), n))[:MOST_SPEAKERS]
    rows = []
    for name in shown:
        first = next(values[name, c] for c in conditions if (name, c) in values)
        cells = [_group_cell(values.get((name, condition))) for condition in conditions]
        rows.append([name, details.get(name, {}).get("gender") or "-", first["n_utterances"], *cells])
    text = table(["speaker", "gender", "utterances", *conditions], rows)
    if len(names) > len(shown):
        text += f"\n\nThe {len(shown)} of {len(names)} speakers with the lowest mean; all stand in results.json."
    return text


def groups_table(groups: Sequence[Row], conditions: Sequence[str]) -> str:
    """Return pooled UAR with interval per gender, corpus and language; the worst of each condition is bold."""
    values = {(group["kind"], group["group"], group["condition"]): group for group in groups}
    rows = []
    for kind, name in dict.fromkeys((group["kind"], group["group"]) for group in groups):
        found = [values.get((kind, name, condition)) for condition in conditions]
        first = next(group for group in found if group)
        cells = [_group_cell(g) + (f" {span(g['low'], g['high'])}" if g else "") for g in found]
        rows.append([f"{kind}: {name}", first["n_utterances"], first["n_speakers"], *cells])
    return table(["group", "utterances", "speakers", *conditions], rows)


def _group_cell(group: Row | None) -> str:
    if group is None:
        return "-"
    return f"**{percent(group['uar'])}**" if group["worst"] else percent(group["uar"])


def sentence(found: Row) -> str:
    """Return one difference in words."""
    one, other = found["condition"], found["against"]
    what = {"baseline": f"over {other} (no vector)", "control": f"beyond the control {other}"}.get(
        found["role"], f"over {other}"
    )
    if found["difference"] is None:
        return f"**{one}** {what}: not to be compared yet ({found['note']})."
    number = f"{points(found['difference'])} points of UAR {span(found['low'], found['high'], signed=True)}"
    said = {
        "helps": f"**{one} helps** {what}: {number}.",
        "hurts": f"**{one} makes it worse** {what}: {number}.",
        "does not help": f"**{one} does not help** {what}: {number}; any gain is smaller than one point.",
        "cannot tell": f"Whether **{one}** helps {what} **cannot be told at this size**: {number}.",
    }[found["verdict"]]
    if found["verdict"] == "cannot tell" and found["low"] is not None and found["low"] * found["high"] > 0:
        said += (
            f" The interval leaves out zero, but tossing the signs of {found['n_speakers']} speakers gives as much "
            f"with p = {found['p_sign_flip']:.2f}."
        )
    return f"{said} ({found['note']})" if found["note"] else said


def conclusion(condition: str, differences: Sequence[Row]) -> str | None:
    """Return in one sentence what a vector condition is worth against baseline and controls together."""
    mine = [found for found in differences if found["condition"] == condition]
    baseline = [found for found in mine if found["role"] == "baseline"]
    controls = [found for found in mine if found["role"] == "control"]
    if not baseline:
        return None
    helps = all(found["verdict"] == "helps" for found in baseline)
    gain = f"the vector of **{condition}** "
    if not controls:
        start = gain + ("helps" if helps else "is not shown to help")
        return f"{start}; without the controls (untrained encoder, statistics) that says nothing about its training."
    beaten = [found["against"] for found in controls if found["verdict"] == "helps"]
    open_ = [found["against"] for found in controls if found["verdict"] != "helps"]
    if helps and not open_:
        return gain + f"helps, and it helps more than its controls ({', '.join(beaten)})."
    if helps:
        return gain + (
            f"helps over no vector, but it is not shown to be better than {' and '.join(open_)}: the gain cannot be "
            "credited to what the encoder has learnt."
        )
    return gain + "is not shown to help over no vector."
