"""The points of the curves of ``repkit scale``: the gate's difference of every curve and hours, and each seed's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repkit.evaluation.gate import BOTH_TRAINED, BOTH_UNTRAINED, MODES, THE_PAIR, member_counts, shared_rows
from repkit.evaluation.intervals import score
from repkit.workflows.compare.scores import Predictions, gate_table
from repkit.workflows.compare.stores import Entry
from repkit.workflows.scale.cells import Cell

if TYPE_CHECKING:
    import pandas as pd


def points_of(
    state: Mapping[str, Any], entries: Sequence[Entry], cells: Mapping[str, Cell], curves: Sequence[str], head: str
) -> list[dict[str, Any]]:
    """Return a point per curve, hours and normalisation.

    Where several untrained encoders fit, the one that is hardest to beat counts, as in the verdict.

    Args:
        state: what `repkit.workflows.compare.run.compare` has returned.
        entries: the stores that it compared.
        cells: the cell of every trained store, by its name.
        curves: names, in the order of the points.
        head: what reads the vectors.

    Returns:
        of each: ``curve``, ``hours``, ``normalisation``, ``difference`` of UAR (a share from 0 to 1) with ``low`` and ``high``
        of its 95 % interval over speakers, ``seeds`` (the difference of each alone, whose mean it is), ``corpora`` (the
        difference on each), ``control``, ``verdict``, ``p``, ``n_speakers`` and ``n_utterances``.
    """
    predictions: Predictions = {}
    for run in state["runs"]:
        where = (run["head"], run["normalisation"], run["corpus"])
        predictions[where] = {**predictions.get(where, {}), **dict.fromkeys(run["conditions"], Path(run["path"]))}
    verdicts = {(one["head"], one["trained"]): one["verdict"] for one in state["verdicts"]}
    found: dict[tuple[str, float, str], dict[str, Any]] = {}
    for gate in state["gates"]:
        members = [one.name for one in entries if one.family == gate["trained"] and one.name in cells]
        if gate["head"] != head or gate["control"] is None or not members:
            continue
        cell = cells[members[0]]
        table = gate_table(entries, gate["trained"], gate["control"], head, MODES, predictions)
        for one in gate["differences"]:
            if (one["first"], one["second"]) != THE_PAIR:
                continue
            where = (cell.curve, cell.hours, one["normalisation"])
            if where in found and found[where]["difference"] <= one["difference"]:
                continue
            rows = table[table["normalisation"] == one["normalisation"]]
            found[where] = {
                "curve": cell.curve,
                "hours": cell.hours,
                "normalisation": one["normalisation"],
                **{key: one[key] for key in ("difference", "low", "high", "n_speakers", "n_utterances")},
                "p": one["p_sign_flip"],
                "seeds": {str(cells[name].seed): value for name, value in member_differences(rows).items()},
                "corpora": {name: of["value"] for name, of in one["corpora"].items()},
                "control": gate["control"],
                "verdict": verdicts[head, gate["trained"]],
            }
    return [
        found[where] for where in sorted(found, key=lambda one: (curves.index(one[0]), one[1], MODES.index(one[2])))
    ]


def member_differences(rows: pd.DataFrame) -> dict[str, float]:
    """Return the gate's difference of every single trained encoder against the mean of its untrained ones.

    UAR is linear in the hits, so that their mean is the gate's difference.

    Args:
        rows: of one normalisation, as `repkit.workflows.compare.scores.gate_table` returns them.
    """
    by_corpus: dict[str, list[float]] = {}
    n_corpora = 0
    for _, part in rows.groupby("corpus", sort=True):
        sides = [part[part["system"] == name] for name in (BOTH_TRAINED, BOTH_UNTRAINED)]
        if any(side.empty for side in sides):
            continue
        both, _ = shared_rows(sides)
        if both[0].empty:
            continue
        classes = sorted(both[0]["label"].unique())
        trained, untrained = ([score(one) for one in member_counts(some, classes)] for some in both)
        n_corpora += 1
        for name, value in zip(sorted(both[0]["member"].unique()), trained, strict=True):
            by_corpus.setdefault(str(name), []).append(value - float(np.mean(untrained)))
    # a member that one corpus lacks would be the mean of others
    return {name: float(np.mean(values)) for name, values in by_corpus.items() if len(values) == n_corpora}


__all__ = ["member_differences", "points_of"]
