"""What ``repkit scale`` would do and how long its trainings would take here, without training or encoding anything."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repkit.errors import RepkitError
from repkit.features.extract import frames_spec
from repkit.runs.directory import cache_root
from repkit.runs.seeding import generator
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.learners import make_learner
from repkit.stage_one.settings import PretrainConfig
from repkit.stage_one.update import build_optimizer, pick_precision
from repkit.store import open_store
from repkit.store.manifest import MANIFEST
from repkit.workflows.scale import lacking, read_state
from repkit.workflows.scale_cells import (
    Cell,
    Request,
    choose,
    configs_of,
    fingerprints_of,
    frames_settings,
    hours_held,
    identities_of,
    is_embedded,
    results_of,
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A cell and what is to be done about it.

    Attributes:
        cell: which.
        state: done, to train, missing or not chosen.
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
    before = {record["id"]: record for record in read_state(request.out).get("cells", ())}
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
        store = before.get(cell.id, {}).get("store")
        embedded = store and is_embedded(request.embeddings / store, fingerprints)
        if results_of(request, cell, identities[cell]) is not None and embedded:
            found.append(Planned(cell, "done"))
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
    stores = []
    for name, corpus in request.heard.items():
        spec = frames_spec(corpus, frontend, **frames_settings(config))
        path = cache_root() / "frames" / f"{name}-{spec.fingerprint[:16]}"
        if not (path / MANIFEST).exists():
            break
        stores.append(open_store(path, spec))
    else:
        return hours_held(config, stores, request), ""
    lengths = file_hours(request)
    if lengths is None:
        return None, "hours of speech: not known before the frames are made"
    return lengths * (1 - config.dev_speakers), (
        "hours of speech: from the lengths of the files, since no frames are made yet; trimming will leave somewhat less"
    )


def file_hours(request: Request) -> float | None:
    """Return the hours of all files that stage one would hear, from their headers; None where there are no plain files."""
    import soundfile

    seconds = 0.0
    for corpus in request.heard.values():
        for one in corpus.utterances():
            if one.audio.path is None:
                return None
            try:
                end = one.audio.end_s or soundfile.info(str(one.audio.path)).duration
            except (OSError, RuntimeError):
                continue  # bad files are told when the frames are made
            seconds += end - one.audio.start_s
    return seconds / 3600


class _RandomPieces:
    """Pieces of noise of the longest length, as `repkit.stage_one.learners.Learner.calibrate` reads them."""

    def __init__(self, n: int, n_frames: int, n_bands: int, device: torch.device) -> None:
        self.frames = torch.randn(n, n_frames, n_bands, generator=generator(0, "cost")).to(device)

    def in_order(self, batch_size: int) -> list[list[np.ndarray]]:
        return [[np.arange(len(self.frames))]]

    def batch(self, indices: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
        return self.frames, torch.full((len(self.frames),), self.frames.shape[1], device=self.frames.device)


def seconds_per_update(config: PretrainConfig, n: int = 4) -> float:
    """Return the seconds of an update on this machine: the median of some on random frames of the longest pieces.

    Reading and measuring are not in it. On a CPU it takes as many threads as torch does here.

    Args:
        config: settings.
        n: updates that are timed, after one that is not.
    """
    from accelerate import Accelerator

    torch.set_flush_denormal(True)
    accelerator = Accelerator(cpu=config.on_cpu(), mixed_precision="no")
    device = accelerator.device
    frontend = build_frontend(**config.frontend_table())
    n_frames = max(1, frontend.n_frames(round(config.chunk_s * frontend.sample_rate)))
    pieces = _RandomPieces(config.batch_size, n_frames, frontend.n_bands, device)
    with torch.random.fork_rng():
        learner = make_learner(config, frontend, {})
        module = learner.module.to(device)
        learner.calibrate(pieces, config.batch_size, device)  # type: ignore[arg-type]
        module.train()
        optimizer = build_optimizer(module.parameters(), config.learning_rate, device)
        settings: Mapping[str, Any] = {
            "precision": pick_precision(config.precision, device),
            "share": 1.0,
            "progress": 0.5,
        }
        times = []
        for number in range(n + 1):
            began = time.perf_counter()
            frames, lengths = pieces.batch([], device)
            # the loss that it returns has been read, so that the device is done with it
            learner.update(
                accelerator, module, optimizer, frames, lengths,
                draw=lambda purpose, number=number: generator(0, purpose, number), **settings,
            )  # fmt: skip
            times.append(time.perf_counter() - began)
    return median(times[1:])


__all__ = ["Planned", "file_hours", "plan_cells", "seconds_per_update"]
