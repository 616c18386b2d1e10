"""What ``repkit scale`` would do and how long its trainings would take here, without training or encoding anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repkit.audio.lengths import file_seconds
from repkit.errors import RepkitError
from repkit.stage_one.cost import seconds_per_update
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.settings import PretrainConfig
from repkit.workflows.made import fingerprints_of, made_frames
from repkit.workflows.scale.cells import (
    SCHEMA,
    STATE,
    Cell,
    Request,
    choose,
    configs_of,
    frames_settings,
    hours_held,
    identities_of,
    is_encoded,
    results_of,
)
from repkit.workflows.scale.run import lacking
from repkit.workflows.state_file import read_state


@dataclass(frozen=True, slots=True)
class Planned:
    """A cell and what is to be done about it.

    Attributes:
        cell: which.
        state: done, to encode (its training is done), to train, missing or not chosen.
        why: what is missing.
        hours: of training that are expected; None where nothing is to be trained or it could not be timed.
        measured: how the time was found.
    """

    cell: Cell
    state: str
    why: str = ""
    hours: float | None = None
    measured: str = ""


def plan_cells(request: Request) -> tuple[list[Planned], list[str]]:
    """Return every cell, and what could not be told.

    The speech at hand is known where its frames have been made, else from the lengths of its files before trimming. An update
    is timed by the finished trainings of the same curve in the folder, else on random frames.

    Raises:
        UsageError: an --only that fits nothing, or a training with other settings in the folder.
        RecipeError: a recipe does not validate.
    """
    configs = configs_of(request.plan)
    chosen = choose(list(configs), request.only)
    before = {record["id"]: record for record in read_state(request.out / STATE, SCHEMA).get("cells", ())}
    notes: dict[str, None] = {}
    held: dict[tuple[Any, ...], float | None] = {}
    rates: dict[str, tuple[float, str]] = {}
    for cell in configs:
        record = before.get(cell.id, {})
        if record.get("state") == "done" and record["updates"]:
            rates.setdefault(cell.curve, (record["seconds"] / record["updates"], "finished trainings of this folder"))
    identities, fingerprints = identities_of(request, configs), fingerprints_of(request.corpora)
    found = []
    for cell, config in configs.items():
        if results_of(request, cell, identities[cell]) is not None:
            there = is_encoded(request, cell, before.get(cell.id, {}), fingerprints)
            found.append(Planned(cell, "done" if there else "to encode" if cell in chosen else "not chosen"))
            continue
        key = (cell.curve, config.dev_speakers, config.seed)
        if key not in held:
            held[key], note = _held(config, request)
            notes |= dict.fromkeys([note] if note else [])
        if held[key] is not None and (why := lacking(cell.hours, held[key])):  # type: ignore[arg-type]
            found.append(Planned(cell, "missing", why))
        elif cell not in chosen:
            found.append(Planned(cell, "not chosen"))
        else:
            if cell.curve not in rates:
                try:
                    rates[cell.curve] = seconds_per_update(config), "random frames"
                except RepkitError as error:
                    notes[f"{cell.curve} could not be timed: {error.message}"] = None
            seconds, how = rates.get(cell.curve, (None, ""))
            hours = None if seconds is None else seconds * request.plan.updates / 3600
            found.append(Planned(cell, "to train", hours=hours, measured=how))
    return found, list(notes)


def _held(config: PretrainConfig, request: Request) -> tuple[float | None, str]:
    """Return the hours that a training could hear at most, None where that is not known, and what to say of it."""
    frontend = build_frontend(**config.frontend_table())
    stores = [made_frames(corpus, frontend, **frames_settings(config)) for corpus in request.heard.values()]
    if all(store is not None for store in stores):
        return hours_held(config, stores, request), ""
    lengths = file_hours(request)
    if lengths is None:
        return None, "hours of speech: not known before the frames are made"
    return lengths * (1 - config.dev_speakers), (
        "hours of speech: from the lengths of the files, since no frames are made yet; trimming will leave somewhat less"
    )


def file_hours(request: Request) -> float | None:
    """Return the hours of all files that stage one would hear, from their headers; None where there are no plain files."""
    found = [file_seconds(corpus) for corpus in request.heard.values()]
    if any(lengths is None for lengths in found):
        return None
    return sum(sum(lengths.seconds) for lengths in found if lengths) / 3600


__all__ = ["Planned", "file_hours", "plan_cells"]
