"""``repkit scale``: does more speech help stage one? Trainings on ever more hours, and the gate's difference of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import repkit
from repkit.config.schema import Condition
from repkit.features.extract import cached_frames
from repkit.report.scale_page import write_page
from repkit.runs.atomic import write_json_atomic
from repkit.runs.directory import cache_root, locked
from repkit.runs.environment import command_line
from repkit.runs.executors import Event, default_workers, processes
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.hours import TOLERANCE
from repkit.stage_one.reporter import Progress
from repkit.stage_one.settings import PretrainConfig
from repkit.workflows.compare.run import PROBE, compare
from repkit.workflows.compare.run import Request as CompareRequest
from repkit.workflows.compare.run import Watch as CompareWatch
from repkit.workflows.compare.stores import read_entries
from repkit.workflows.embed import embed
from repkit.workflows.made import fingerprints_of
from repkit.workflows.scale.cells import (
    SCHEMA,
    STATE,
    Cell,
    Request,
    choose,
    configs_of,
    curve_of,
    frames_settings,
    hours_held,
    identities_of,
    is_encoded,
    results_of,
)
from repkit.workflows.scale.points import points_of
from repkit.workflows.scale.work import CellContext, make_controls, train_cell
from repkit.workflows.state_file import read_state, rebuild_page

FUNCTIONALS = "functionals"


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom to tell what happens.

    Attributes:
        say: told in a sentence what begins or has ended.
        on_event: of the trainings.
        on_vectors: corpus, utterances encoded, utterances in all.
        progress: of a training in this process.
    """

    say: Callable[[str], None] = lambda text: None
    on_event: Callable[[Event], None] = lambda event: None
    on_vectors: Callable[[str, int, int], None] = lambda corpus, done, total: None
    progress: Progress = "auto"


def scale(request: Request, watch: Watch | None = None) -> dict[str, Any]:
    """Train, encode and compare what is not there yet, fewest hours first, and draw the curves after each number of hours.

    Killed at any moment and started again, it goes on: finished trainings, stores and probes are found, unfinished ones
    continued. A training that fails, or that lacks speech, is listed, and the others go on.

    Args:
        request: what is asked for.
        watch: told what happens.

    Returns:
        what stands in ``scale.json`` of the folder.

    Raises:
        UsageError: an --only that fits nothing, a training with other settings in the folder, or another process at work.
        RecipeError: a recipe does not validate.
        DataError: bad audio.
    """
    watch = watch or Watch()
    configs = configs_of(request.plan)
    chosen = choose(list(configs), request.only)
    request.out.mkdir(parents=True, exist_ok=True)
    with locked(request.out):
        book = _Book(request, configs, chosen)
        functionals = ""
        if book.todo or book.stores:
            functionals = _functionals(request, watch)
        if book.todo:
            _find_missing(book, watch)
        book.save(figure=False)
        n_compared = 0
        for hours in request.plan.hours:
            n_done = len(book.stores)
            _train(book, [cell for cell in book.todo if cell.hours == hours], watch)
            if len(book.stores) > n_done:
                _compare(book, functionals, watch)
                n_compared = len(book.stores)
        if len(book.stores) > n_compared:  # all was there: what a killed call had not compared yet
            _compare(book, functionals, watch)
        book.complete()
        book.save(figure=False)  # the one that was drawn by the last comparison
    return book.state


class _Book:
    """What is known of every cell, and what is written of it."""

    def __init__(self, request: Request, configs: Mapping[Cell, PretrainConfig], chosen: set[Cell]) -> None:
        self.request, self.configs = request, configs
        earlier = read_state(request.out / STATE, SCHEMA)
        before = {record["id"]: record for record in earlier.get("cells", ())}
        self.records = {cell: blank_record(cell) for cell in configs}
        self.state: dict[str, Any] = {
            "schema": SCHEMA,
            "repkit": repkit.__version__,
            "command": command_line(),
            "plan": request.plan.model_dump(mode="json", by_alias=True),
            "heard": list(request.heard),
            "corpora": list(request.corpora),
            "complete": False,
            "cells": list(self.records.values()),
            "controls": list(earlier.get("controls", ())),
            "points": list(earlier.get("points", ())),
            "failed": [],
        }
        identities, fingerprints = identities_of(request, configs), fingerprints_of(request.corpora)
        for cell, record in self.records.items():
            results = results_of(request, cell, identities[cell])
            earlier_record = before.get(cell.id, {})
            if results is not None and is_encoded(request, cell, earlier_record, fingerprints):
                self.enter(cell, {"results": results, "store": earlier_record["store"]})
            else:
                record["state"] = "ready" if cell in chosen else "not chosen"

    @property
    def todo(self) -> list[Cell]:
        """Cells that are still to be trained."""
        return [cell for cell, record in self.records.items() if record["state"] == "ready"]

    @property
    def stores(self) -> dict[Cell, str]:
        """Name of the vectors of every finished cell."""
        return {cell: record["store"] for cell, record in self.records.items() if record["state"] == "done"}

    def enter(self, cell: Cell, found: Mapping[str, Any]) -> None:
        """Note what `train_cell` has returned."""
        record = self.records[cell]
        if "why" in found:
            record.update(state="failed", why=found["why"], exit_code=found["exit_code"])
            return
        results = found["results"]
        heard = results["provenance"]
        record.update(
            state="done",
            why="",
            store=found["store"],
            readout=self.request.plan.readout_of(curve_of(self.request.plan, cell.curve)),
            heard_hours=round(sum(one["hours"] for one in heard["corpora"]), 4),
            speakers=len(heard["speakers"]),
            updates=results["updates"],
            epochs=results["epochs"],
            seconds=results["training_seconds"],
        )

    def complete(self) -> None:
        """Say whether anything is left."""
        states = {record["state"] for record in self.records.values()}
        self.state["complete"] = states == {"done"} and not self.state["failed"]

    def save(self, *, figure: bool) -> None:
        """Write scale.json and the page, at the end with the figure."""
        write_json_atomic(self.request.out / STATE, self.state)
        write_page(self.request.out, self.state, figure=figure)


def blank_record(cell: Cell) -> dict[str, Any]:
    """Return the record of a cell of which nothing is known."""
    return {
        "id": cell.id, "curve": cell.curve, "hours": cell.hours, "seed": cell.seed, "name": cell.name,
        "state": "ready", "why": "", "exit_code": 0, "store": None, "readout": None, "heard_hours": None,
        "speakers": None, "updates": None, "epochs": None, "seconds": None,
    }  # fmt: skip


def _functionals(request: Request, watch: Watch) -> str:
    """Encode the labelled corpora by the functionals, first of all: a corpus that cannot be read is then found at once."""
    watch.say("functionals of the labelled corpora")
    stores = embed(
        FUNCTIONALS,
        list(request.corpora.values()),
        request.embeddings,
        on_bad_audio=request.on_bad_audio,
        workers=request.workers,
        executor=request.executor,
        progress=watch.on_vectors,
        notice=watch.say,
    )
    return str(next(iter(stores.values())).path.parent)


def _find_missing(book: _Book, watch: Watch) -> None:
    """Make the frames that stage one hears, and set aside the cells that want more of them than there are."""
    request = book.request
    known: dict[tuple[Any, ...], float] = {}
    stores: dict[str, list[Any]] = {}
    for cell in book.todo:
        config = book.configs[cell]
        if cell.curve not in stores:
            watch.say(f"frames of {', '.join(request.heard)} for {cell.curve}")
            frontend = build_frontend(**config.frontend_table())
            stores[cell.curve] = [
                cached_frames(
                    corpus,
                    frontend,
                    on_bad_audio=request.on_bad_audio,
                    workers=request.workers,
                    executor=request.executor,
                    notice=watch.say,
                    **frames_settings(config),
                )
                for corpus in request.heard.values()
            ]
        fingerprints = tuple(store.spec.fingerprint for store in stores[cell.curve])
        key = (*fingerprints, config.dev_speakers, config.seed)
        if key not in known:
            known[key] = hours_held(config, stores[cell.curve], request)
        if why := lacking(cell.hours, known[key]):
            book.records[cell].update(state="missing", why=why)


def lacking(wanted: float, held: float) -> str:
    """Return what a cell needs beyond the speech that there is, empty where it is enough."""
    if held >= wanted * (1 - TOLERANCE):
        return ""
    return (
        f"needs {wanted:g} h of speech to train on and the corpora hold {held:.4g} h: give more by --pretrain-corpus or another "
        "--split"
    )


def _train(book: _Book, todo: Sequence[Cell], watch: Watch) -> None:
    if not todo:
        return
    request = book.request
    on_gpu = not all(book.configs[cell].on_cpu() for cell in todo)
    at_once = min(len(todo), request.workers or (1 if on_gpu else default_workers(len(todo))))
    here = request.executor is None and at_once == 1
    context = CellContext(
        run=request.encoders.absolute(),
        embeddings=request.embeddings.absolute(),
        cache=cache_root().absolute(),
        configs={cell: book.configs[cell] for cell in todo},
        readouts={curve.name: request.plan.readout_of(curve) for curve in request.plan.curves},
        heard=tuple(request.heard.values()),
        corpora=tuple(request.corpora.values()),
        on_bad_audio=request.on_bad_audio,
        progress=watch.progress if here else "none",
    )
    context.run.mkdir(parents=True, exist_ok=True)

    def on_event(event: Event) -> None:
        if event.kind == "done":
            book.enter(event.job, event.value)  # type: ignore[arg-type]
            book.save(figure=False)
        watch.on_event(event)

    if here:  # in this process with as many threads as torch takes, or the GPU
        for cell in todo:
            on_event(Event("started", cell, 0))
            found = train_cell(context, cell, lambda epoch, cell=cell: on_event(Event("epoch", cell, 0, epoch)))  # type: ignore[misc]
            on_event(Event("done", cell, 0, found))
        return
    execute = request.executor or processes(at_once)
    execute(train_cell, context, todo, on_event)  # type: ignore[arg-type]


def _compare(book: _Book, functionals: str, watch: Watch) -> None:
    """Ask the gate about every finished cell, and write the curves."""
    request, stores = book.request, book.stores
    book.state["controls"] = make_controls(request, stores, book.state["controls"], watch.on_vectors)
    write_json_atomic(request.out / STATE, book.state)
    cells = {cell.name: cell for cell in stores}
    folders = {one["name"]: one["store"] for one in book.state["controls"]} | {c.name: s for c, s in stores.items()}
    conditions = [Condition(name=FUNCTIONALS, embeddings=functionals)]
    conditions += [Condition(name=n, embeddings=str(request.embeddings / store)) for n, store in folders.items()]
    entries = read_entries(conditions, list(request.corpora), functionals=FUNCTIONALS)
    asked = CompareRequest(
        entries=tuple(entries),
        corpora=request.corpora,
        probe_assignments=request.probe_assignments,
        places=request.places,
        corpus_set=request.settings_of(list(request.corpora)),
        runs=request.out / "runs",
        out=request.out / "compare",
        workers=request.workers,
        on_bad_audio=request.on_bad_audio,
    )
    told = CompareWatch(on_unit=lambda number, total, unit: watch.say(f"gate, run {number} of {total}: {unit.title}"))
    state = compare(asked, told)
    book.state["points"] = points_of(state, entries, cells, [curve.name for curve in request.plan.curves], PROBE)
    book.state["failed"] = state["failed"]
    book.save(figure=True)


def rebuild(out: Path) -> dict[str, Any]:
    """Write page, table and figure of a folder anew from its scale.json, and return what that holds.

    Raises:
        DataError: nothing has been trained there.
    """
    return rebuild_page(out / STATE, SCHEMA, "scale", write_page)


__all__ = ["Request", "Watch", "lacking", "rebuild", "scale"]
