"""What the differences allow to say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repkit.report.context import Row, same_vectors
from repkit.report.tables import SAYS, points, span

NOTHING_KNOWN: Mapping[str, Row] = {}
MOST_NAMES = 8


def sentence(found: Row, conditions: Mapping[str, Row] = NOTHING_KNOWN) -> str:
    """Return one difference in words.

    Args:
        found: an entry of ``differences``.
        conditions: entries of ``conditions`` by name, as `Page` gives them; a condition that is not among them reads a
            vector, and what it is compared with does not.
    """
    one, other = found["condition"], found["against"]
    system = _is_system(found, conditions)
    what = f"than {other}" if system else _over(found, conditions)
    if found["difference"] is None:
        against = f"and {other}" if system else what
        return f"**{one}** {against}: not to be compared yet ({found['note']})."
    number = f"{points(found['difference'])} points of UAR {span(found['low'], found['high'], signed=True)}"
    if system:
        said = {
            "helps": f"**{one} is better** {what}: {number}.",
            "hurts": f"**{one} is worse** {what}: {number}.",
            "does not help": f"**{one} is not better** {what}: {number}; any gain is smaller than one point.",
            "cannot tell": f"Whether **{one}** is better {what} **cannot be told at this size**: {number}.",
        }[found["verdict"]]
    else:
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


def conclusion(condition: str, differences: Sequence[Row], conditions: Mapping[str, Row] = NOTHING_KNOWN) -> str | None:
    """Return in one sentence what the vector of a condition is worth against baseline and controls together.

    The baseline is the same settings without the vector where such a condition was run, else the reference. None where
    there is no baseline, or where it reads the same vectors: then they are not what differs.
    """
    mine = [found for found in differences if found["condition"] == condition]
    own = [found for found in mine if found["role"] == "own_baseline"]
    baseline = own or [found for found in mine if found["role"] == "baseline"]
    controls = [found for found in mine if found["role"] == "control"]
    if not baseline:
        return None
    gain = f"the vector of **{condition}** "
    against = baseline[0]["against"]
    one, other = conditions.get(condition, {}), conditions.get(against, {})
    if same_vectors(one, other):
        return None
    if not own and _settings(one) != _settings(other):
        return (
            f"**{condition}** differs from {against} in settings and in the vector: what it gains or loses "
            f"can be credited to neither alone; {_apart(one, other, conditions)}."
        )
    over = f" over that of {against}" if other.get("has_vector") else ""
    without = f"over {against}" if own else over.strip() or "over no vector"
    helps = all(found["verdict"] == "helps" for found in baseline)
    if not controls:
        start = gain + ("helps" if helps else "is not shown to help") + over
        return f"{start}; without the controls (untrained encoder, statistics) that says nothing about its training."
    beaten = [found["against"] for found in controls if found["verdict"] == "helps"]
    open_ = [found["against"] for found in controls if found["verdict"] != "helps"]
    if helps and not open_:
        return gain + f"helps{over}, and it helps more than its controls ({', '.join(beaten)})."
    if helps:
        return gain + (
            f"helps {without}, but it is not shown to be better than {' and '.join(open_)}: the gain cannot be credited "
            "to what the encoder has learnt."
        )
    return gain + f"is not shown to help {without}."


def corpora_conclusion(condition: str, differences: Sequence[Row], means: Sequence[Row]) -> str | None:
    """Return in one sentence where a condition beats the reference, corpus by corpus and in the mean over corpora.

    Args:
        condition: name.
        differences: entries of ``corpus_differences`` of one view and checkpoint.
        means: entries of ``corpus_mean_differences`` of the same.
    """
    mine = [found for found in differences if found["condition"] == condition]
    if not mine:
        return None
    of_means = [mean for mean in means if mean["condition"] == condition]
    kinds = {mean["over"] for mean in of_means}
    if {"trained_on", "held_out"} <= kinds:
        of_means = [mean for mean in of_means if mean["over"] != "all"]
    else:
        of_means = [mean for mean in of_means if mean["over"] == "all"]
    said = [
        f"{OVER_WORDS[mean['over']]} ({len(mean['corpora'])}) {points(mean['difference'])} points "
        f"{span(mean['low'], mean['high'], signed=True)}, {SAYS[mean['verdict']]}"
        + (f" ({mean['note']})" if mean["note"] else "")
        for mean in of_means
    ]
    by_verdict = {
        verdict: [corpus_name(found, mine) for found in mine if found["verdict"] == verdict] for verdict in SAYS
    }
    alone = [
        f"{SAYS[verdict]} on {_listed(names)}"
        for verdict, names in by_verdict.items()
        if names and verdict != "cannot tell"
    ]
    open_ = by_verdict["cannot tell"]
    if open_:
        alone.append(f"cannot be told on {_listed(open_)}")
    head = f"**{condition}** against {mine[0]['against']}"
    return f"{head}: {'; '.join(said)}. Corpora alone: {'; '.join(alone)}."


OVER_WORDS = {
    "all": "mean over corpora",
    "trained_on": "mean over corpora trained on",
    "held_out": "mean over corpora held out",
}


def corpus_name(row: Row, rows: Sequence[Row]) -> str:
    """Return a row's corpus, with what sets it apart where it stands both held out and trained on among the rows."""
    both = len({other["held_out"] for other in rows if other["corpus"] == row["corpus"]}) > 1
    if not both:
        return str(row["corpus"])
    return f"{row['corpus']} ({'held out' if row['held_out'] else 'trained on'})"


def _listed(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return ", ".join(names)


def _settings(row: Row) -> Mapping[str, Any]:
    return row.get("settings") or {}


def _apart(one: Row, other: Row, conditions: Mapping[str, Row]) -> str:
    """Return what would tell settings and vector apart."""
    if not other.get("has_vector"):
        return "run its settings without the vector too"
    same = [row for row in conditions.values() if same_vectors(row, other) and _settings(row) == _settings(one)]
    if same:
        return f"compare it with {same[0]['name']}, which has its settings and the vector of {other['name']}"
    return f"run its settings with the vector of {other['name']} too"


def _is_system(found: Row, conditions: Mapping[str, Row]) -> bool:
    """Return whether a condition is better or worse than another, but has no vector of its own that could help."""
    known = conditions.get(found["condition"])
    if known is None:
        return False
    return not known["has_vector"] or same_vectors(known, conditions.get(found["against"], {}))


def _over(found: Row, conditions: Mapping[str, Row]) -> str:
    """Return what a condition with a vector is compared with."""
    one, other = conditions.get(found["condition"], {}), conditions.get(found["against"], {})
    if found["role"] == "control":
        return f"beyond the control {found['against']}"
    if found["role"] == "own_baseline":
        return f"over {found['against']} (same settings, no vector)"
    if found["role"] != "baseline" or other.get("has_vector"):
        return f"over {found['against']}"
    return f"over {found['against']} ({'no vector' if _settings(one) == _settings(other) else 'other settings, no vector'})"
