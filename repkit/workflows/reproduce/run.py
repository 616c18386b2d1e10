"""``repkit reproduce``: a paper's tables for the corpora at hand, ours beside the published numbers."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import repkit
from repkit.config import SerRecipe
from repkit.errors import DataError, PluginError, RepkitError, UsageError
from repkit.papers import PaperFile, all_cells
from repkit.report.reproduction import write_tables
from repkit.runs.atomic import write_json_atomic, write_text_atomic
from repkit.runs.directory import locked, read_json
from repkit.workflows.reproduce.cells import PlannedCell, Request, Unit, nothing_to_run, plan_cells, units_of
from repkit.workflows.reproduce.runs import Watch, check_units, command_of, make_vectors, train_unit, unit_recipe
from repkit.workflows.reproduce.scores import RunScores

SCHEMA = 1
FAILED_AGAIN = "of an earlier run; run again, it failed: "
"""Begins the note on a number that was kept."""
NOT_MEASURED = "of an earlier time; measured again, it failed: "
"""The same, where only the tables were written anew."""
Record = dict[str, Any]
"""One cell as it stands in cells.json; `blank_record` shows the keys, `_describe` and `_measure` what a run adds."""


def reproduce(request: Request, watch: Watch | None = None) -> list[Record]:
    """Run what the chosen cells need, run by run, and write the tables after each.

    The settings of all runs are tried before anything is made: what is refused is listed at once, and the others go on.
    Killed at any moment and started again, it goes on: finished runs are found and not repeated, unfinished ones continued.
    A cell that fails is listed with its error, and the others go on.

    Args:
        request: what is asked for.
        watch: told what happens.

    Returns:
        every cell of the paper, as in ``cells.json`` of the folder.

    Raises:
        UsageError: an --only or --table that fits nothing, or nothing that can be run while no cell is measured; a device
            that is not there; or another process at work in the folder.
        DataError: the folder holds another paper, or its cells.json is damaged.
    """
    watch = watch or Watch()
    request.where.settled()  # refused now, not by every run
    planned = plan_cells(request)
    units = units_of(planned)
    idle = nothing_to_run(planned, request)
    if idle and not any(old["state"] == "measured" for old in _read(request.out, request.paper).get("cells", ())):
        raise UsageError(idle)
    request.out.mkdir(parents=True, exist_ok=True)
    with locked(request.out):
        book = _Book(request, planned)
        refused = check_units(units, request)
        left: dict[Unit, list[PlannedCell]] = {}
        for unit, wrong in refused.items():
            if wrong:
                watch.on_refused(unit, wrong)
                book.enter(unit, [one for one in units[unit] if one.cell.system.condition in wrong], {}, wrong, None)
            sound = [one for one in units[unit] if one.cell.system.condition not in wrong]
            if sound:
                left[unit] = sound
        book.save(last=not left)
        for number, (unit, cells) in enumerate(left.items(), 1):
            watch.on_unit(number, len(left), unit)
            done, failed, recipe = _run(unit, cells, request, watch, book.runs)
            watch.on_end(unit)
            book.enter(unit, cells, done, failed, recipe)
            book.save(last=number == len(left))
    return book.records


def _run(
    unit: Unit, cells: Sequence[PlannedCell], request: Request, watch: Watch, known: dict[str, str]
) -> tuple[dict[str, Path], dict[str, Exception], SerRecipe | None]:
    """Return the run directory of each condition, what went wrong with the others, and the recipe."""
    done: dict[str, Path] = {}
    failed: dict[str, Exception] = {}
    recipe = None
    try:
        folders, failed = make_vectors(unit, cells, request, watch)
        recipe = unit_recipe(unit, cells, request, folders)
        if recipe.conditions or recipe.baseline:
            done, trouble = train_unit(recipe, unit, request, watch, known, watch.on_found)
            failed |= trouble
    except Exception as error:  # noqa: BLE001 - one run's failure, whatever it is, must not lose the others
        failed = dict.fromkeys((one.cell.system.condition for one in cells), error) | failed
    return done, failed, recipe


def rebuild(paper: PaperFile, out: Path) -> list[Record]:
    """Measure the finished cells of a folder again from their runs and write the tables anew.

    A cell whose run is gone keeps its numbers. One whose run can no longer be measured keeps them too, with a note and under
    ``exit_code`` the code of the error.

    Raises:
        DataError: nothing has been reproduced there, it was another paper, or cells.json is damaged.
        UsageError: another process is at work in the folder.
    """
    if not (out / "cells.json").is_file():
        raise DataError(
            f"{out / 'cells.json'}: not there; expected what `repkit reproduce` writes; start it without --page-only, or give "
            "another --out"
        )
    with locked(out):  # a cell that another process measures meanwhile would be lost
        found = _read(out, paper)
        before = {old["id"]: old for old in found["cells"]}
        # what the paper says is read anew, what we found is kept
        records = [blank_record(PlannedCell(c, "not chosen")) | _kept(before.get(c.id)) for c in all_cells(paper)]
        scores: dict[str, RunScores] = {}
        for record in records:
            run = (record["run"] or {}).get("path", "")
            if record["state"] == "measured" and (Path(run) / "protocol.json").is_file():
                notes = [note for note in record["notes"] if not note.startswith(NOT_MEASURED)]
                try:
                    if run not in scores:
                        scores[run] = RunScores(run)
                    _measure(record, scores[run])
                except RepkitError as error:
                    record.update(why=str(error), exit_code=error.exit_code)
                    notes.append(f"{NOT_MEASURED}{' '.join(str(error).split())}")
                record["notes"] = notes
        _write(out, paper, records, found["runs"], figure=True)
    return records


def known_runs(request: Request) -> dict[str, str]:
    """Return which run came of which plan in earlier reproductions of the folder, as `find_done` takes it."""
    return dict(_read(request.out, request.paper).get("runs", {}))


class _Book:
    """The cells of a paper with what is known of each; earlier numbers stay until new ones take their place."""

    def __init__(self, request: Request, planned: Sequence[PlannedCell]) -> None:
        self.request = request
        earlier = _read(request.out, request.paper)
        self.runs: dict[str, str] = dict(earlier.get("runs", {}))
        before = {old["id"]: old for old in earlier.get("cells", ()) if old["state"] == "measured"}
        self.records = [blank_record(one) | _kept(before.get(one.cell.id)) for one in planned]
        self._places = {one.cell.id: place for place, one in enumerate(planned)}

    def enter(
        self,
        unit: Unit,
        cells: Sequence[PlannedCell],
        done: Mapping[str, Path],
        failed: Mapping[str, Exception],
        recipe: SerRecipe | None,
    ) -> None:
        """Measure the cells of a finished run, or note why they have no number."""
        scores: dict[Path, RunScores] = {}
        for one in cells:
            place = self._places[one.cell.id]
            earlier, record = self.records[place], blank_record(one)
            self.records[place] = record
            name = one.cell.system.condition
            if name in failed or recipe is None:
                self._fail(place, earlier, failed[name])
                continue
            try:
                if done[name] not in scores:
                    scores[done[name]] = RunScores(done[name])
                _describe(record, one, scores[done[name]], unit, recipe, self.request)
                _measure(record, scores[done[name]])
                _compare(record, one, self.request.paper)
            except RepkitError as error:
                self._fail(place, earlier, error)

    def _fail(self, place: int, earlier: Record, error: Exception) -> None:
        """Note why a cell has no number, or no new one: that of before is kept, with the run it comes from."""
        known = isinstance(error, RepkitError)
        why = str(error) if known else f"{type(error).__name__}: {error}"
        record = self.records[place]
        # what only has to be installed is missing, not broken
        record["state"] = "missing" if isinstance(error, PluginError) else "failed"
        if earlier["state"] == "measured":
            notes = [note for note in earlier["notes"] if not note.startswith(FAILED_AGAIN)]
            record = self.records[place] = {**earlier, "notes": [*notes, f"{FAILED_AGAIN}{' '.join(why.split())}"]}
        record["why"], record["exit_code"] = why, getattr(error, "exit_code", 1)
        if not known:
            path = self.request.out / f"failed_{record['id'].replace('/', '_')}.txt"
            write_text_atomic(path, "".join(traceback.format_exception(error)))

    def save(self, *, last: bool) -> None:
        """Write cells.json and the tables, at the end with the figure."""
        _write(self.request.out, self.request.paper, self.records, self.runs, figure=last)


def blank_record(one: PlannedCell) -> Record:
    """Return the record of a cell without any number of ours."""
    cell = one.cell
    return {
        "id": cell.id,
        "table": cell.table.id,
        "block": cell.place,
        "block_name": cell.block.name,
        "system": cell.system.id,
        "like": cell.system.like,
        "corpus": cell.row,
        "paper": {
            "value": cell.value,
            "minimum": cell.minimum,
            "maximum": cell.maximum,
            "printed": cell.printed,
            "decimals": cell.decimals,
            "chance": cell.block.chance.get(cell.row),
            "seeds": cell.system.seeds,
            "notes": list(cell.notes),
        },
        "how": {
            "condition": cell.system.condition,
            "view": cell.block.view,
            "metric": cell.block.metric,
            "part": cell.block.part,
            "score": cell.block.score,
            "checkpoint": cell.system.checkpoint,
        },
        "state": one.state,
        "why": one.why,
        "missing": list(one.missing),
        "tested": list(one.tested),
        "differs": list(one.differs),
        "notes": [],
        "ours": None,
        "run": None,
    }


def _kept(old: Record | None) -> Record:
    """Return what an earlier reproduction has found of a cell."""
    return {key: old[key] for key in _KEPT} if old else {}


def _describe(
    record: Record, one: PlannedCell, scores: RunScores, unit: Unit, recipe: SerRecipe, request: Request
) -> None:
    """Say which run the number comes from and how it chose its epoch or settings."""
    own = {condition.name: condition for condition in recipe.conditions}
    chosen = recipe.of_condition(own.get(one.cell.system.condition))
    record["run"] = {
        "path": str(scores.files.path),
        "recipe": unit.recipe,
        "set": [*unit.set, *request.assignments],
        "corpora": list(unit.corpora),
        "hold_out": list(unit.hold_out),
        "protocol": recipe.protocol.name,
        "protocol_id": scores.files.protocol_id,
        "selection": chosen.training.select_by if one.cell.system.checkpoint == "selected" else "last",
        "command": command_of(unit, recipe, request),
    }


def _measure(record: Record, scores: RunScores) -> None:
    """Enter our number, its interval and where the published one lies."""
    how = record["how"]
    found = scores.measure(
        how["condition"],
        record["tested"],
        view=how["view"],
        checkpoint=how["checkpoint"],
        part=how["part"],
        metric=how["metric"],
        score=how["score"],
    )
    ours = {key: value for key, value in asdict(found).items() if key != "seeds"}
    published = record["paper"]["value"]
    difference = verdict = None
    if published is not None:
        difference = found.value - published / 100
        if found.low is None or found.high is None:
            verdict = "no interval"
        else:
            verdict = _where(published, record["paper"]["decimals"], 100 * found.low, 100 * found.high)
    by_seed = {str(seed): value for seed, value in found.seeds.items()}
    record.update(
        state="measured", why="", ours={**ours, "seeds": by_seed, "difference": difference, "verdict": verdict}
    )


def _where(published: float, decimals: int, low: float, high: float) -> str:
    """Return where a printed number lies, in percent: it stands for all that rounds to it, half a unit to either side."""
    half = 0.5 * 10.0**-decimals + 1e-9
    return "inside" if low - half <= published <= high + half else "outside"


def _compare(record: Record, one: PlannedCell, paper: PaperFile) -> None:
    """Note where the run has other utterances or seeds than the paper."""
    corpora = paper.corpora_by_name
    published = [corpora[name].clips for name in record["tested"]]
    if one.cell.block.clips is not None:
        published = [None if one.cell.block.clips == "-" else one.cell.block.clips]
    if None not in published:
        expected = sum(n for n in published if n is not None)
        if record["ours"]["n_used"] != expected:
            record["differs"].append(f"{record['ours']['n_used']} clips, the paper {expected}")
    n_seeds, repeats = len(record["ours"]["seeds"]), one.cell.system.seeds
    if repeats is not None and repeats != n_seeds:
        # more seeds tell the same mean better; fewer are not what the paper did
        told = record["differs"] if n_seeds < repeats else record["notes"]
        told.append(f"{n_seeds} seed{'s' * (n_seeds != 1)}, the paper {repeats}")
    if record["ours"]["note"]:
        record["notes"].append(record["ours"]["note"])
    record["notes"] += [corpora[name].note for name in record["tested"] if corpora[name].note]


_KEPT = ("state", "why", "missing", "tested", "differs", "notes", "ours", "run")
"""What is kept of a cell from one reproduction to the next."""


def _read(out: Path, paper: PaperFile) -> dict[str, Any]:
    """Return what a folder's cells.json holds, empty where there is none.

    Raises:
        DataError: it is damaged, of another paper or written by another version.
    """
    path = out / "cells.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    named = (found.get("paper"), found.get("schema")) if isinstance(found, dict) else None
    if named is not None and None not in named and named != (paper.name, SCHEMA):
        raise DataError(
            f"{path}: paper {named[0]!r}, schema {named[1]}; {paper.name!r} and {SCHEMA} were expected; give another --out"
        )
    wrong = _what_is_wrong(found)
    if wrong:
        raise DataError(
            f"{path}: damaged ({wrong}); expected what `repkit reproduce` writes; delete it and start the command again"
        )
    return dict(found)


def _what_is_wrong(found: Any) -> str:
    """Return why a JSON value is not what `_write` writes, empty where it is."""
    if not isinstance(found, dict):
        return f"{type(found).__name__} instead of an object"
    kinds = {"paper": str, "schema": int, "runs": dict, "cells": list}
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            return f"no {key!r}" if key not in found else f"{key!r} is no {kind.__name__}"
    for place, cell in enumerate(found["cells"]):
        lacking = {"id", *_KEPT} - set(cell if isinstance(cell, dict) else ())
        if lacking:
            return f"cell {place} without {', '.join(sorted(lacking))}"
    return ""


def _write(out: Path, paper: PaperFile, records: Sequence[Record], runs: Mapping[str, str], *, figure: bool) -> None:
    state = {
        "schema": SCHEMA,
        "paper": paper.name,
        "repkit": repkit.__version__,
        "runs": dict(runs),
        "cells": list(records),
    }
    write_json_atomic(out / "cells.json", state)
    write_tables(out, paper, records, figure=figure)
