"""What the runs of ``repkit compare`` measure: UAR of every store, paired differences, and the gate of each trained encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repkit.evaluation.gate import (
    BOTH_TRAINED,
    BOTH_UNTRAINED,
    COLUMNS,
    FUNCTIONALS,
    TRAINED,
    UNTRAINED,
    Difference,
    Gate,
    average,
    judge,
    member_counts,
    shared_rows,
)
from repkit.evaluation.intervals import SpeakerCounts, bootstrap, bootstrap_mean, score
from repkit.evaluation.predictions import read_run
from repkit.evaluation.run_files import BASELINE, read_run_files
from repkit.workflows.compare.stores import Entry, controls_of

if TYPE_CHECKING:
    import pandas as pd

Predictions = dict[tuple[str, str, str], Mapping[str, Path]]
"""Run directory of each finished condition, by head, normalisation and corpus."""
MEAN = "mean"
"""Stands for the mean over corpora among the names of corpora."""


def measure(
    entries: Sequence[Entry],
    predictions: Predictions,
    heads: Sequence[str],
    normalisations: Sequence[str],
    corpora: Sequence[str],
) -> dict[str, Any]:
    """Return scores, differences and verdicts as JSON values, from the predictions alone.

    Args:
        entries: the stores.
        predictions: of the finished runs.
        heads: what reads the vectors.
        normalisations: compared.
        corpora: of the whole comparison, so that one that is not finished is missed.
    """
    scores: list[dict[str, Any]] = []
    gates: list[dict[str, Any]] = []
    for head in heads:
        for mode in normalisations:
            for system in systems(entries):
                scores += _scores(system, head, mode, corpora, predictions)
        trained = {one.family: one for one in entries if one.role == "trained"}
        for family, one in trained.items():
            for control in controls_of(one, entries) or [None]:
                table = gate_table(entries, family, control, head, normalisations, predictions)
                gates.append(_gate(judge(table, corpora=corpora), head, family, control, entries))
    return {"scores": scores, "gates": gates, "verdicts": verdicts(gates)}


def systems(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the rows of the tables: families of encoders alone and joined, each with its conditions by member."""
    functionals = next((one for one in entries if one.role == "functionals"), None)
    rows: list[dict[str, Any]] = [{"system": BASELINE, "role": "baseline", "members": {BASELINE: BASELINE}}]
    families: dict[str, list[Entry]] = {}
    for one in entries:
        families.setdefault(one.family, []).append(one)
    order = {role: place for place, role in enumerate(("functionals", "other", "untrained", "trained"))}
    listed = sorted(families.items(), key=lambda item: order[item[1][0].role])
    for family, some in listed:
        rows.append({"system": family, "role": some[0].role, "members": {one.name: one.name for one in some}})
    for family, some in listed if functionals else []:
        if some[0] is functionals:
            continue
        members = {one.name: f"{functionals.name}_and_{one.name}" for one in some}  # type: ignore[union-attr]
        name = f"{functionals.family} + {family}"  # type: ignore[union-attr]
        rows.append({"system": name, "role": f"functionals + {some[0].role}", "members": members})
    return rows


def gate_table(
    entries: Sequence[Entry],
    trained: str,
    control: str | None,
    head: str,
    normalisations: Sequence[str],
    predictions: Predictions,
) -> pd.DataFrame:
    """Return the rows that the gate reads of one trained encoder, its control and the functionals.

    Args:
        entries: the stores.
        trained: family.
        control: family of untrained encoders, None where there is none.
        head: whose predictions.
        normalisations: compared.
        predictions: of the finished runs.
    """
    import pandas as pd

    functionals = next((one for one in entries if one.role == "functionals"), None)
    sides = {trained: (TRAINED, BOTH_TRAINED)} | ({control: (UNTRAINED, BOTH_UNTRAINED)} if control else {})
    wanted: list[tuple[str, str, str]] = []  # system, member, condition
    for one in entries:
        if one.family in sides:
            alone, both = sides[one.family]
            wanted.append((alone, one.name, one.name))
            wanted += [(both, one.name, f"{functionals.name}_and_{one.name}")] if functionals else []
    wanted += [(FUNCTIONALS, functionals.name, functionals.name)] if functionals else []
    parts = [
        rows.assign(normalisation=mode, corpus=corpus, system=system, member=member)
        for (of_head, mode, corpus), runs in predictions.items()
        if of_head == head and mode in normalisations
        for system, member, condition in wanted
        if condition in runs
        for rows in [condition_rows(runs[condition], condition)]
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def verdicts(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one verdict per head and trained encoder: it must pass against every control that it has."""
    found = []
    for head, family in dict.fromkeys((one["head"], one["trained"]) for one in gates):
        of = [one for one in gates if (one["head"], one["trained"]) == (head, family)]
        told = [one["verdict"] for one in of]
        worst = next((one for one in ("not passed", "cannot be told") if one in told), "passed")
        reasons = [
            f"against {one['control']}: {reason}" if len(of) > 1 else reason
            for one in of
            if one["verdict"] == worst
            for reason in one["reasons"]
        ]
        controls = [one["control"] for one in of if one["control"]]
        found.append({"head": head, "trained": family, "controls": controls, "verdict": worst, "reasons": reasons})
    return found


def condition_rows(run: Path, condition: str) -> pd.DataFrame:
    """Return the test predictions of a condition in the first view: seed, fold, id, speaker, label, prediction."""
    table = _run_rows(str(run))
    return table[table["condition"] == condition].drop(columns="condition")


@lru_cache(maxsize=64)
def _run_rows(run: str) -> pd.DataFrame:
    files = read_run_files(run)
    table, _ = read_run(files.path, files.views)
    view = next(iter(files.views))
    rows = table[
        (table["part"] == "test")
        & (table["checkpoint"] == "selected")
        & (table["view"] == view)
        & table["label"].notna()
    ]
    rows = rows.merge(files.utterances[["speaker"]], left_on="id", right_index=True, how="left", validate="many_to_one")
    return rows[["condition", "seed", "fold", "id", "speaker", "label", "prediction"]]


def _scores(
    system: Mapping[str, Any], head: str, mode: str, corpora: Sequence[str], predictions: Predictions
) -> list[dict[str, Any]]:
    """Return the UAR of one row of the tables on every corpus, and their mean where all are there."""
    where = {"head": head, "normalisation": mode, "system": system["system"], "role": system["role"]}
    found: list[dict[str, Any]] = []
    counts: list[SpeakerCounts] = []
    alone: list[list[float]] = []
    for corpus in corpora:
        runs = predictions.get((head, mode, corpus), {})
        parts = [
            condition_rows(runs[condition], condition).assign(member=member)
            for member, condition in system["members"].items()
            if condition in runs
        ]
        if len(parts) < len(system["members"]):
            continue
        import pandas as pd

        (rows,), unpaired = shared_rows([pd.concat(parts)])
        classes = sorted(rows["label"].unique())
        each = member_counts(rows, classes)
        one = average(each)
        members = [score(member) for member in each]
        counts.append(one)
        alone.append(members)
        interval = bootstrap(one)
        found.append(
            {
                **where,
                "corpus": corpus,
                "uar": interval.value,
                "low": interval.low,
                "high": interval.high,
                **_spread(members),
                "n_seeds": int(rows["seed"].nunique()),
                "n_speakers": interval.n_speakers,
                "n_utterances": int(rows["id"].nunique()),
                "n_unpaired": unpaired,
                "chance": 1 / len(classes),
                "note": interval.note,
            }
        )
    if len(found) == len(corpora) > 1:
        interval = bootstrap_mean(counts)
        found.append(
            {
                **where,
                "corpus": MEAN,
                "uar": interval.value,
                "low": interval.low,
                "high": interval.high,
                **_spread(np.mean(alone, axis=0).tolist()),
                "n_seeds": found[0]["n_seeds"],
                "n_speakers": interval.n_speakers,
                "n_utterances": sum(one["n_utterances"] for one in found),
                "n_unpaired": sum(one["n_unpaired"] for one in found),
                "chance": float(np.mean([one["chance"] for one in found])),
                "note": interval.note,
            }
        )
    return found


def _spread(members: Sequence[float]) -> dict[str, Any]:
    return {"lowest": min(members), "highest": max(members), "n_members": len(members)}


def _gate(gate: Gate, head: str, trained: str, control: str | None, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return a gate as JSON values, with what a missing role means for the user."""
    reasons = list(gate.reasons)
    if not any(one.role == "functionals" for one in entries):
        reasons = [
            "no functionals among the stores: make them with `repkit embed --encoder functionals`, or name the store "
            "that stands for them by --functionals"
        ]
    elif control is None:
        reasons = [
            f"no untrained encoder of the shape of {trained} (architecture, readout, frontend, size) among the stores: make "
            "it with `repkit embed --encoder untrained:RUN` and the same readout, or name one by --control"
        ]
    return {
        "head": head,
        "trained": trained,
        "control": control,
        "verdict": gate.verdict,
        "reasons": reasons,
        "differences": [_difference(one) for one in gate.differences],
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "first": one.first,
        "second": one.second,
        "normalisation": one.normalisation,
        "difference": one.interval.value,
        "low": one.interval.low,
        "high": one.interval.high,
        "p_sign_flip": one.p,
        "n_speakers": one.interval.n_speakers,
        "n_utterances": one.n_utterances,
        "n_unpaired": one.n_unpaired,
        "n_members": list(one.n_members),
        "lowest": one.lowest,
        "highest": one.highest,
        "note": one.interval.note,
        "corpora": {name: asdict(interval) for name, interval in one.corpora.items()},
    }


__all__ = ["MEAN", "Predictions", "gate_table", "measure", "systems", "verdicts"]
