"""One table over several runs, for example one per corpus: Markdown, CSV, JSON or LaTeX. The source of docs/results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from repkit.errors import UsageError, did_you_mean
from repkit.evaluation.results import compute_results
from repkit.evaluation.run_files import RunFiles, read_run_files
from repkit.report.run_names import differing_settings, model_of, run_labels, settings_text, signature_of
from repkit.report.tables import percent, points, span, table

Row = Mapping[str, Any]
MOST_SETTINGS = 6
"""Settings named in a row; with more differences the recipes should be read."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of several runs beside each other.

    Attributes:
        rows: one per run and condition; scores and differences are shares.
        legend: which protocols the letters stand for, in Markdown.
        reference: the condition that the others are compared with, where it is the same in all runs.
        several: whether any run has several corpora.
        view: what is predicted.
        checkpoint: of which epoch.
    """

    rows: Sequence[Row]
    legend: str
    reference: str | None
    several: bool
    view: str
    checkpoint: str

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return header and cells as a reader sees them, in percent and points."""
        header = ["run", "protocol", "condition", "UAR mean", "min to max", "UAR pooled", "95 % interval"]
        header += ["mean over corpora"] if self.several else []
        header += [f"against {self.reference or 'the reference'}", "against controls", "speakers", "seeds"]
        return header, [self._cells(row) for row in self.rows]

    def _cells(self, row: Row) -> list[str]:
        mean = row["mean_over_corpora"]
        over = [f"{percent(mean['mean'])} {span(mean['low'], mean['high'])}" if mean else "-"] if self.several else []
        return [
            _run_cell(row),
            row["protocol"],
            row["condition"],
            f"**{percent(row['uar_mean'])}**",
            f"{percent(row['uar_min'])} to {percent(row['uar_max'])}",
            percent(row["uar_pooled"]),
            span(row["uar_pooled_low"], row["uar_pooled_high"]),
            *over,
            "; ".join(_difference(d) for d in row["differences"] if d["role"] == "baseline") or "-",
            "; ".join(f"{d['against']} {_difference(d)}" for d in row["differences"] if d["role"] == "control") or "-",
            str(row["n_speakers"]),
            str(row["n_seeds"]),
        ]


def compare_runs(run_dirs: Sequence[str | Path], *, view: str | None = None, checkpoint: str = "selected") -> str:
    """Return a Markdown table with one row per run and condition, scored again from the predictions.

    Every row names the run's recipe and corpora, the condition's model, the settings in which the run differs from the
    others of its recipe, and its short signature. Rows carry a letter for their protocol id; under the table every letter
    stands with its id and what sets it apart from the first, so that rows with different letters are not read as a ranking.

    Args:
        run_dirs: run directories.
        view: which view; by default the first one of the first run that all runs have, or else its first one.
        checkpoint: ``"selected"`` or ``"last"``.

    Raises:
        UsageError: no run given, or a view that none of them has.
        DataError: a file of a run is missing or breaks its schema.
    """
    return markdown(compare(run_dirs, view=view, checkpoint=checkpoint))


def markdown(found: Comparison) -> str:
    """Return a comparison as a Markdown table with its legend."""
    text = table(*found.cells()) if found.rows else f"No run has predictions of {found.view}, {found.checkpoint}."
    return f"{text}\n\n{found.legend}\n"


def compare(run_dirs: Sequence[str | Path], *, view: str | None = None, checkpoint: str = "selected") -> Comparison:
    """Score several runs again from their predictions; arguments and errors as of `compare_runs`."""
    if not run_dirs:
        raise UsageError("compare: no run directory; expected at least one; name folders that train-ser has written")
    all_files = [read_run_files(path) for path in run_dirs]
    view = _view(view, all_files)
    runs = [(files, compute_results(path, probes=False)) for files, path in zip(all_files, run_dirs)]
    letters: dict[str, str] = {}
    for files in all_files:
        letters.setdefault(files.protocol_id, _letter(len(letters)))
    rows: list[Row] = []
    silent = []
    for (files, results), label, settings in zip(runs, run_labels(all_files), differing_settings(all_files)):
        head = {
            "run": files.path.name,
            "label": label,
            "signature": signature_of(files),
            "recipe": results["recipe"] or files.path.parent.name,
            "corpora": list(files.corpora),
            "settings": settings,
            "protocol": letters[files.protocol_id],
            "protocol_id": files.protocol_id,
            "complete": results["complete"],
            "jobs_finished": results["n_jobs"]["finished"],
            "jobs_planned": results["n_jobs"]["planned"],
        }
        mine = _rows(files, results, head, view, checkpoint)
        rows += mine
        silent += [] if mine else [f"`{label}`"]
    missing = f"\n\nWithout a row, for want of predictions of {view}: {', '.join(silent)}." if silent else ""
    references = {files.reference for files in all_files} - {None}
    return Comparison(
        rows=rows,
        legend=_legend(runs, letters, view) + missing,
        reference=str(*references) if len(references) == 1 else None,
        several=any(len(files.corpora) > 1 for files in all_files),
        view=view,
        checkpoint=checkpoint,
    )


def _view(wanted: str | None, runs: Sequence[RunFiles]) -> str:
    """Return the view to compare; by default the first one that all runs have, or else the first run's first one."""
    known = list(dict.fromkeys(view for run in runs for view in run.views))
    if wanted is None:
        return next((view for view in known if all(view in run.views for run in runs)), known[0])
    if wanted not in known:
        raise UsageError(
            f"--view {wanted}: no run predicts it{did_you_mean(wanted, known)}; one of {', '.join(known)} was expected"
        )
    return wanted


def _rows(files: RunFiles, results: Row, head: Row, view: str, checkpoint: str) -> list[Row]:
    def chosen(row: Row) -> bool:
        return row["view"] == view and row["checkpoint"] == checkpoint

    rows: list[Row] = []
    for score in filter(chosen, results["scores"]):
        uar, pooled, name = score["uar"], score["uar_pooled"], score["condition"]
        means = [m for m in results["corpus_means"] if chosen(m) and m["condition"] == name]
        row = {
            **head,
            "condition": name,
            "model": model_of(files, name),
            "view": view,
            "checkpoint": checkpoint,
            "uar_mean": uar["mean"],
            "uar_min": uar["min"],
            "uar_max": uar["max"],
            "uar_sd": uar["sd"],
            "uar_pooled": pooled["mean"],
            "uar_pooled_low": pooled["low"],
            "uar_pooled_high": pooled["high"],
            "wa_mean": score["wa"]["mean"],
            "mean_over_corpora": next((m["uar"] for m in means if m["over"] == "all" and len(m["corpora"]) > 1), None),
            "differences": [dict(d) for d in results["differences"] if chosen(d) and d["condition"] == name],
            "n_speakers": score["n_speakers"],
            "n_seeds": score["n_seeds"],
        }
        rows.append(row)
    return rows


def _run_cell(row: Row) -> str:
    """Return what tells a row's run from others."""
    name = f"{row['recipe']}: {', '.join(row['corpora'])}"
    if not row["complete"]:
        name += f" (incomplete, {row['jobs_finished']} of {row['jobs_planned']} jobs)"
    model = f"model {row['model']}" if row["model"] else ""
    return "; ".join(filter(None, [name, model, settings_text(row["settings"], MOST_SETTINGS), f"`{row['label']}`"]))


def _difference(found: Row) -> str:
    if found["difference"] is None:
        return "not comparable yet"
    return f"{points(found['difference'])} {span(found['low'], found['high'], signed=True)} {found['verdict']}"


def _legend(runs: Sequence[tuple[RunFiles, Row]], letters: Mapping[str, str], view: str) -> str:
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
        f"{warning} UAR of {view} in percent: mean over folds for each seed, then mean, minimum and maximum over seeds; pooled "
        "over test utterances with the 95 % bootstrap interval over speakers. Differences in points of pooled UAR, "
        "paired. Runs: recipe and corpora, model, settings in which it differs from the others of its recipe, and "
        "signature, the end of its folder's name.\n\n" + "\n".join(lines)
    )


def _letter(place: int) -> str:
    return ascii_lowercase[place] if place < 26 else f"{ascii_lowercase[place // 26 - 1]}{ascii_lowercase[place % 26]}"
