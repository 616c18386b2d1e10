"""Markdown tables of scores by corpus: UAR, differences, McNemar, the paper's numbers beside ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from repkit.report.sentences import OVER_WORDS, corpus_name
from repkit.report.tables import SAYS, p_value, paper_cell, percent, points, span, table

Row = Mapping[str, Any]
AVERAGES = {"average": "all", "averageheldout": "held_out", "averagetrainedon": "trained_on"}
"""A published number's corpus that stands for a mean over corpora, and which mean of ours it is printed beside."""
OURS_WORDS = {
    "all": "mean over this run's corpora",
    "trained_on": "mean over this run's corpora trained on",
    "held_out": "mean over this run's corpora held out",
}
SIGNS = {"+": "**+**", "-": "**−**", "": ""}


def corpora_table(scores: Sequence[Row], means: Sequence[Row], tests: Sequence[Row], shown: Mapping[str, str]) -> str:
    """Return UAR by corpus and condition, with McNemar's marks; the means over corpora stand below.

    Args:
        scores: entries of ``corpora`` of one view and checkpoint.
        means: entries of ``corpus_means`` of the same.
        tests: entries of ``mcnemar`` of the same.
        shown: heading of each condition.
    """
    conditions = list(dict.fromkeys(score["condition"] for score in scores))
    found = {(_part(score), score["condition"]): score for score in scores}
    marks = {(_part(test), test["condition"]): test["mark"] for test in tests}
    header = ["corpus", "held out", "utterances", "speakers", "classes", "chance"]
    rows: list[list[object]] = []
    for part in dict.fromkeys(map(_part, scores)):
        first = next(found[part, name] for name in conditions if (part, name) in found)
        held_out = {True: "yes", False: "no", None: "?"}[first["held_out"]]
        rows.append(
            [
                first["corpus"],
                held_out,
                first["n_utterances"],
                first["n_speakers"],
                first["n_classes"],
                percent(first["chance"]),
                *(_uar_cell(found.get((part, name)), marks.get((part, name), "")) for name in conditions),
            ]
        )
    by_over = {(mean["over"], mean["condition"]): mean for mean in means}
    for over in shown_overs(means):
        first = next(by_over[over, name] for name in conditions if (over, name) in by_over)
        cells = [_uar_cell(by_over.get((over, name)), "") for name in conditions]
        rows.append([f"**{OVER_WORDS[over]}**", "", "", first["n_speakers"], "", percent(first["chance"]), *cells])
    return table([*header, *(shown.get(name, name) for name in conditions)], rows)


def shown_overs(means: Sequence[Row]) -> list[str]:
    """Return which means over corpora are worth a line: those trained on and held out only where both exist."""
    kinds = list(dict.fromkeys(mean["over"] for mean in means))
    return kinds if {"trained_on", "held_out"} <= set(kinds) else [kind for kind in kinds if kind == "all"]


def corpus_differences_table(differences: Sequence[Row], means: Sequence[Row], shown: Mapping[str, str]) -> str:
    """Return by corpus and condition the difference from the reference, its interval and what it says."""
    conditions = list(dict.fromkeys(found["condition"] for found in differences))
    cells = {(_part(found), found["condition"]): found for found in differences}
    rows: list[list[object]] = []
    for part in dict.fromkeys(map(_part, differences)):
        first = next(cells[part, name] for name in conditions if (part, name) in cells)
        cell_row = [_difference_cell(cells.get((part, name))) for name in conditions]
        rows.append([corpus_name(first, differences), first["n_speakers"], *cell_row])
    by_over = {(mean["over"], mean["condition"]): mean for mean in means}
    for over in shown_overs(means):
        first = next(by_over[over, name] for name in conditions if (over, name) in by_over)
        cell_row = [_difference_cell(by_over.get((over, name))) for name in conditions]
        rows.append([f"**{OVER_WORDS[over]}**", first["n_speakers"], *cell_row])
    return table(["corpus", "speakers", *(shown.get(name, name) for name in conditions)], rows)


def mcnemar_table(tests: Sequence[Row], shown: Mapping[str, str]) -> str:
    """Return McNemar's tests: utterances that only the condition, and only the reference, has right; p; mark."""
    conditions = list(dict.fromkeys(test["condition"] for test in tests))
    cells = {(_part(test), test["condition"]): test for test in tests}
    by_corpus = [test for test in tests if test["corpus"] is not None]
    rows: list[list[object]] = []
    for part in sorted(dict.fromkeys(map(_part, tests)), key=lambda part: part[0] is None):
        first = next(cells[part, name] for name in conditions if (part, name) in cells)
        name = corpus_name(first, by_corpus) if part[0] is not None else "**all utterances**"
        rows.append([name, first["n"], *(_test_cell(cells.get((part, condition))) for condition in conditions)])
    return table(["corpus", "utterances", *(shown.get(name, name) for name in conditions)], rows)


def match_paper(
    paper: Sequence[Row], view: str, first_view: str, scores: Sequence[Row], means: Sequence[Row]
) -> tuple[list[tuple[Row, list[Row]]], list[Row]]:
    """Pair published numbers of a view with ours of the same condition and corpus.

    Names of corpora are compared without case and punctuation; `AVERAGES` stand for means over corpora.

    Returns:
        pairs of a published number and ours (two where a corpus stands both held out and trained on), and the published
        numbers of this view without any of ours.
    """
    paired: list[tuple[Row, list[Row]]] = []
    alone: list[Row] = []
    for value in paper:
        if (value.get("view") or first_view) != view:
            continue
        name = plain_name(value["corpus"])
        ours = [score for score in scores if plain_name(score["corpus"]) == name]
        if name in AVERAGES:
            ours = [mean for mean in means if mean["over"] == AVERAGES[name] and len(mean["corpora"]) > 1]
        ours = [score for score in ours if score["condition"] == value["condition"]]
        if ours:
            paired.append((value, ours))
        else:
            alone.append(value)
    return paired, alone


def plain_name(name: str) -> str:
    """Return a name in lower case without anything but letters and digits, so that Emo-DB is emodb."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def paper_beside_table(paired: Sequence[tuple[Row, Sequence[Row]]], shown: Mapping[str, str]) -> str:
    """Return the paper's UAR beside ours with its interval and the difference in points."""
    rows = []
    for value, ours in paired:
        for score in ours:
            uar = score["uar"]
            corpus = corpus_name(score, ours) if "corpus" in score else OURS_WORDS[score["over"]]
            gap = None if uar["mean"] is None else uar["mean"] - value["uar"] / 100
            name = shown.get(value["condition"], value["condition"])
            cells = [paper_cell(value), _uar_cell(score, ""), points(gap), value.get("note") or ""]
            rows.append([corpus, name, *cells])
    return table(["corpus", "condition", "paper", "ours", "ours - paper", "note"], rows)


def not_run_line(alone: Sequence[Row]) -> str:
    """Return in one line which published numbers have no counterpart in the run."""
    by_corpus: dict[str, list[str]] = {}
    for value in alone:
        by_corpus.setdefault(str(value["corpus"]), []).append(f"{value['condition']} {value['uar']:.1f}")
    listed = [f"{corpus} ({', '.join(values)})" for corpus, values in by_corpus.items()]
    return f"Published, not run here: {'; '.join(listed)}."


def _part(row: Row) -> tuple[str | None, bool | None]:
    return row["corpus"], row["held_out"]


def _uar_cell(score: Row | None, mark: str) -> str:
    if score is None or score["uar"]["mean"] is None:
        return "-"
    uar = score["uar"]
    spread = f" ± {percent(uar['sd'])}" if uar["sd"] is not None else ""
    interval = f" {span(uar['low'], uar['high'])}" if uar["low"] is not None else ""
    sign = f" {SIGNS[mark]}" if mark else ""
    return f"{percent(uar['mean'])}{spread}{interval}{sign}"


def _difference_cell(found: Row | None) -> str:
    if found is None or found["difference"] is None:
        return "-"
    said = SAYS[found["verdict"]]
    said = f"**{said}**" if found["verdict"] in ("helps", "hurts") else said
    interval = f" {span(found['low'], found['high'], signed=True)}" if found["low"] is not None else ""
    return f"{points(found['difference'])}{interval}, p {p_value(found['p_holm'])}, {said}"


def _test_cell(test: Row | None) -> str:
    if test is None:
        return "-"
    sign = f" {SIGNS[test['mark']]}" if test["mark"] else ""
    return f"{test['only_condition']} : {test['only_reference']}, p {p_value(test['p'])}{sign}"
