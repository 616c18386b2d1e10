"""A table of systems on published splits, made from run directories alone: ``repkit leaderboard``.

Systems that use anything of the test speakers before they predict have a table of their own. What cannot be ranked is
listed with the reason. Source: own design.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repkit.errors import DataError
from repkit.evaluation.differences import verdict
from repkit.evaluation.intervals import bootstrap_difference, sign_flip_test, speaker_differences
from repkit.evaluation.published_split import Split
from repkit.report.leaderboard_entry import Entry, Refusal, read_entries

SCHEMA = 1


@dataclass(slots=True)
class Board:
    """Ranked systems.

    Attributes:
        groups: per split and label set, JSON values.
        refused: what was left out.
    """

    groups: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        refused = [{"run": r.run, "condition": r.condition, "reason": r.reason} for r in self.refused]
        return {"schema": SCHEMA, "groups": self.groups, "refused": refused}


def make_board(run_dirs: Iterable[str | Path], *, protocols: Sequence[str] = (), n_resamples: int = 2000) -> Board:
    """Read and rank finished runs.

    Args:
        run_dirs: run directories of ``repkit train-ser``.
        protocols: ids of further protocols than those of published splits, each ranked by itself.
        n_resamples: of the bootstrap.
    """
    board, entries = Board(), []
    for path in dict.fromkeys(Path(run).resolve() for run in run_dirs):
        name = f"{path.parent.name}/{path.name}"
        try:
            found, refused = read_entries(path, name, protocols, n_resamples)
        except DataError as error:
            found, refused = [], [Refusal(name, "", error.message.replace(str(path), name))]
        entries += found
        board.refused += refused
    for key in sorted({entry.group for entry in entries}, key=lambda key: (key[0], key[1], -len(key[2]), key[2:])):
        board.groups.append(_group([entry for entry in entries if entry.group == key], n_resamples))
    return board


def _group(entries: list[Entry], n_resamples: int) -> dict[str, Any]:
    """Return one split and label set, ranked: systems that use nothing of the test speakers, and those that do."""
    entries.sort(key=lambda e: (-_ranked_by(e), e.row["system"], e.row["run"]))
    inductive = [entry for entry in entries if not entry.row["test_speakers"]]
    others = [entry for entry in entries if entry.row["test_speakers"]]
    first, split = [*inductive, *others][0], entries[0].split
    protocols: dict[str, list[str]] = {}
    for entry in [*inductive, *others]:
        keys = {*first.parts, *entry.parts}
        differs = sorted(key for key in keys if first.parts.get(key) != entry.parts.get(key))
        protocols.setdefault(entry.row["protocol_id"], differs)
    name, view, classes, labels = first.group
    present = (first.counts.totals.sum(axis=(0, 1)) > 0).sum()
    return {
        "name": name,
        "corpus": split.corpus if split else ", ".join(sorted(first.parts.get("corpora", {}))),
        "split_sha256": split.sha256 if split else None,
        "view": view,
        "classes": list(classes),
        "labels": labels,
        "chance": 1 / int(present),
        **{key: first.row[key] for key in ("n_utterances", "n_speakers", "n_folds")},
        "folds_without_a_class": _folds_without(first, split),
        "protocols": [{"id": i, "differs_in": differs} for i, differs in protocols.items()],
        "inductive": _ranked(inductive, n_resamples),
        "transductive": _ranked(others, n_resamples),
    }


def _folds_without(entry: Entry, split: Split | None) -> int | None:
    """Return in how many folds of a split some class has no test utterance."""
    if split is None:
        return None
    totals = entry.counts.totals[0]
    place = {speaker: row for row, speaker in enumerate(entry.counts.speakers)}
    present = totals.sum(axis=0) > 0
    of_folds = [totals[[place[s] for s in fold.test if s in place]].sum(axis=0) for fold in split.folds]
    return sum(bool((of_fold[present] == 0).any()) for of_fold in of_folds)


def _ranked_by(entry: Entry) -> float:
    """Return the UAR by which a system is ranked, without what rounding alone makes of equal answers."""
    return round(float(entry.row["uar"]["mean"]), 9)


def _ranked(entries: Sequence[Entry], n_resamples: int) -> list[dict[str, Any]]:
    """Return the rows with rank, alike for equal UAR, and the difference from the first, in pooled UAR, paired by speaker."""
    rows: list[dict[str, Any]] = []
    for place, entry in enumerate(entries, start=1):
        tied = place > 1 and _ranked_by(entries[place - 2]) == _ranked_by(entry)
        rank, against = rows[-1]["rank"] if tied else place, None
        if place > 1:
            best = entries[0].counts
            interval = bootstrap_difference(entry.counts, best, n_resamples=n_resamples)
            p = sign_flip_test(speaker_differences(entry.counts, best))
            says = verdict(interval, p, [interval.n_speakers])
            against = {
                "difference": interval.value, "low": interval.low, "high": interval.high, "p_sign_flip": p,
                "told_apart": says == "hurts",
            }  # fmt: skip
        rows.append({"rank": rank, **entry.row, "against_first": against})
    return rows
