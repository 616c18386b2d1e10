"""One Markdown table over several runs, for example one per corpus; the source of docs/results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from repkit.errors import UsageError
from repkit.evaluation.results import compute_results
from repkit.evaluation.run_files import RunFiles, read_run_files
from repkit.report.tables import percent, points, span, table


def compare_runs(run_dirs: Sequence[str | Path], *, view: str = "emotion", checkpoint: str = "selected") -> str:
    """Return a table with one row per run and condition, scored again from the predictions.

    Rows carry a letter for their protocol id; under the table every letter stands with its id and what sets it apart
    from the first, so that rows with different letters are not read as a ranking.

    Args:
        run_dirs: run directories.
        view: which view.
        checkpoint: ``"selected"`` or ``"last"``.

    Raises:
        UsageError: no run given.
        DataError: a file of a run is missing or breaks its schema.
    """
    if not run_dirs:
        raise UsageError("compare: no run directory; expected at least one; name folders that train-ser has written")
    runs = [(read_run_files(path), compute_results(path, probes=False)) for path in run_dirs]
    letters: dict[str, str] = {}
    for files, _ in runs:
        letters.setdefault(files.protocol_id, _letter(len(letters)))
    rows = []
    several = any(len(files.corpora) > 1 for files, _ in runs)
    for files, results in runs:
        rows += _rows(files, results, letters[files.protocol_id], view, checkpoint, several)
    references = {files.reference for files, _ in runs} - {None}
    reference = str(*references) if len(references) == 1 else "the reference"
    header = ["run", "protocol", "condition", "UAR mean", "min to max", "UAR pooled", "95 % interval"]
    header += ["mean over corpora"] if several else []
    header += [f"against {reference}", "against controls", "speakers", "seeds"]
    text = table(header, rows) if rows else f"No run has predictions of {view}, {checkpoint}."
    return f"{text}\n\n{_legend(runs, letters)}\n"


def _rows(
    files: RunFiles, results: Mapping[str, Any], letter: str, view: str, checkpoint: str, several: bool
) -> list[list[object]]:
    name = f"{results['recipe'] or files.path.parent.name}: {', '.join(files.corpora)}"
    if not results["complete"]:
        jobs = results["n_jobs"]
        name += f" (incomplete, {jobs['finished']} of {jobs['planned']} jobs)"

    def chosen(row: Mapping[str, Any]) -> bool:
        return row["view"] == view and row["checkpoint"] == checkpoint

    rows: list[list[object]] = []
    for score in filter(chosen, results["scores"]):
        uar, pooled = score["uar"], score["uar_pooled"]
        means = [m for m in results["corpus_means"] if chosen(m) and m["condition"] == score["condition"]]
        mean = next((m["uar"] for m in means if m["over"] == "all" and len(m["corpora"]) > 1), None)
        mine = [d for d in results["differences"] if chosen(d) and d["condition"] == score["condition"]]
        row = [
            name,
            letter,
            score["condition"],
            f"**{percent(uar['mean'])}**",
            f"{percent(uar['min'])} to {percent(uar['max'])}",
            percent(pooled["mean"]),
            span(pooled["low"], pooled["high"]),
            *([f"{percent(mean['mean'])} {span(mean['low'], mean['high'])}" if mean else "-"] if several else []),
            "; ".join(_difference(d) for d in mine if d["role"] == "baseline") or "-",
            "; ".join(f"{d['against']} {_difference(d)}" for d in mine if d["role"] == "control") or "-",
            score["n_speakers"],
            score["n_seeds"],
        ]
        rows.append(row)
    return rows


def _difference(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return "not comparable yet"
    return f"{points(found['difference'])} {span(found['low'], found['high'], signed=True)} {found['verdict']}"


def _legend(runs: Sequence[tuple[RunFiles, Mapping[str, Any]]], letters: Mapping[str, str]) -> str:
    first = runs[0][0].protocol["parts"]
    lines = []
    seen: set[str] = set()
    for files, _ in runs:
        if files.protocol_id in seen:
            continue
        seen.add(files.protocol_id)
        parts = files.protocol["parts"]
        differs = sorted(key for key in {*first, *parts} if first.get(key) != parts.get(key))
        apart = f"; differs from a in {', '.join(key.replace('_', ' ') for key in differs)}" if differs else ""
        lines.append(f"- {letters[files.protocol_id]}: protocol `{files.protocol_id}`{apart}")
    warning = (
        "Rows with different letters were measured under different protocols: do not rank them against each other."
        if len(letters) > 1
        else "All rows were measured under one protocol."
    )
    return (
        f"{warning} UAR in percent: mean over folds for each seed, then mean, minimum and maximum over seeds; pooled "
        "over test utterances with the 95 % bootstrap interval over speakers. Differences in points of pooled UAR, "
        "paired.\n\n" + "\n".join(lines)
    )


def _letter(place: int) -> str:
    return ascii_lowercase[place] if place < 26 else f"{ascii_lowercase[place // 26 - 1]}{ascii_lowercase[place % 26]}"
