"""The trainings of ``repkit scale``: which there are, what each needs, and which are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from repkit.api import Corpus
from repkit.errors import UsageError, did_you_mean
from repkit.features.extract import frames_spec
from repkit.runs.directory import canonical_hash
from repkit.runs.executors import Executor
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.hours import choose_speech, seconds_of
from repkit.stage_one.identity import finished_results, run_identity
from repkit.stage_one.learners import make_learner
from repkit.stage_one.settings import PretrainConfig
from repkit.store import open_store
from repkit.workflows.asked import Asked
from repkit.workflows.made import is_embedded
from repkit.workflows.scale.recipe import Curve, ScaleRecipe

STATE = "scale.json"
SCHEMA = 1
"""Of that file."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training.

    Attributes:
        curve: name of its curve.
        hours: of speech that it hears.
        seed: of the training.
    """

    curve: str
    hours: float
    seed: int

    @property
    def name(self) -> str:
        """What its encoder is called; `repkit compare` takes names that differ in the mark of the seed for one encoder."""
        return f"{self.curve}-{self.hours:g}h-s{self.seed}"

    @property
    def id(self) -> str:
        """What ``--only`` calls it."""
        return f"{self.curve}/{self.hours:g}/{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Asked):
    """What was asked for, besides what `Asked` says; its corpora are those that the gate is asked on.

    Attributes:
        plan: the recipe.
        heard: corpora that stage one hears, by name.
        only: patterns ``CURVE[/HOURS[/SEED]]``; empty: all.
        probe_assignments: ``KEY=VALUE`` laid over the recipe of the probe.
        out: folder of everything.
        executor: where to train instead of in processes, such as dask; on a GPU one training at a time is the default.
    """

    plan: ScaleRecipe
    heard: Mapping[str, Corpus]
    only: tuple[str, ...] = ()
    probe_assignments: tuple[str, ...] = ()
    out: Path = Path("scale")
    executor: Executor | None = None

    @property
    def encoders(self) -> Path:
        """Folder of the trainings."""
        return self.out / "encoders"

    @property
    def embeddings(self) -> Path:
        """Folder of the stores."""
        return self.out / "embeddings"


def cells_of(plan: ScaleRecipe) -> list[Cell]:
    """Return every training in the order of the work: fewest hours first, so that the curves grow together."""
    return [Cell(curve.name, hours, seed) for hours in plan.hours for curve in plan.curves for seed in plan.seeds]


def configs_of(plan: ScaleRecipe) -> dict[Cell, PretrainConfig]:
    """Return the settings of every training; all of them are checked before the first one begins.

    Raises:
        RecipeError: a recipe does not validate.
        UsageError: objectives that do not fit the encoder or the frames.
        PluginError: an objective that is not installed.
    """
    curves = {curve.name: curve for curve in plan.curves}
    configs = {cell: plan.config_of(curves[cell.curve], cell.hours, cell.seed) for cell in cells_of(plan)}
    for curve in plan.curves:
        some = next(config for cell, config in configs.items() if cell.curve == curve.name)
        if some.objectives:
            with torch.random.fork_rng(devices=[]):
                make_learner(some, build_frontend(**some.frontend_table()), {})
    return configs


def choose(cells: Sequence[Cell], only: Sequence[str]) -> set[Cell]:
    """Return the cells that --only names; patterns are matched without case, hours as numbers.

    Raises:
        UsageError: a pattern that fits no cell.
    """
    if not only:
        return set(cells)
    found: set[Cell] = set()
    for pattern in only:
        parts = [*pattern.casefold().split("/"), "*", "*"][:3] if pattern.count("/") < 3 else []
        fits = {c for c in cells if parts and all(map(_fits, c.id.casefold().split("/"), parts))}
        if not fits:
            known = list(dict.fromkeys(c.curve for c in cells))
            raise UsageError(
                f"--only {pattern}: fits no cell{did_you_mean(pattern.partition('/')[0], known)}; expected CURVE, CURVE/HOURS "
                f"or CURVE/HOURS/SEED, * for any; the curves are {', '.join(known)}, the hours "
                f"{', '.join(dict.fromkeys(f'{c.hours:g}' for c in cells))}"
            )
        found |= fits
    return found


def _fits(text: str, pattern: str) -> bool:
    try:
        return float(text) == float(pattern)
    except ValueError:
        return fnmatchcase(text, pattern)


def frames_settings(config: PretrainConfig) -> dict[str, Any]:
    """Return how the frames of a training are made, as `repkit.features.extract.cached_frames` takes it."""
    return {"max_duration_s": config.max_duration_s, "dtype": config.frames_dtype}


def identities_of(request: Request, configs: Mapping[Cell, PretrainConfig]) -> dict[Cell, dict[str, Any]]:
    """Return what makes a training in the folder the one of each cell; looks at the corpora once for all cells."""
    frames: dict[str, dict[str, str]] = {}
    found = {}
    for cell, config in configs.items():
        key = canonical_hash([config.frontend_table(), frames_settings(config)])
        if key not in frames:
            frontend = build_frontend(**config.frontend_table())
            specs = {name: frames_spec(one, frontend, **frames_settings(config)) for name, one in request.heard.items()}
            frames[key] = {name: spec.fingerprint for name, spec in specs.items()}
        found[cell] = run_identity(config, frames[key])
    return found


def results_of(request: Request, cell: Cell, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the results of a finished training, None of one that is still to be done or to be finished.

    Raises:
        UsageError: its folder holds a training with other settings or of other speech.
    """
    return finished_results(request.encoders / cell.name, dict(identity))


def is_encoded(request: Request, cell: Cell, record: Mapping[str, Any], fingerprints: Mapping[str, str]) -> bool:
    """Tell whether the vectors of a cell are there, of the corpora as they are and read off as the plan says now.

    Args:
        request: what is asked for.
        cell: whose.
        record: of the cell in ``scale.json``, empty where there is none.
        fingerprints: of the labelled corpora, by name.
    """
    if not record.get("store") or not is_embedded(request.embeddings / record["store"], fingerprints):
        return False
    asked = request.plan.readout_of(curve_of(request.plan, cell.curve))
    if record.get("readout") is not None:
        return bool(record["readout"] == asked)
    # written before it was noted: the store tells, but for what was left to the encoder
    source = open_store(request.embeddings / record["store"] / next(iter(fingerprints))).spec.source
    return all(source.get(key) == value for key, value in asked.items() if value is not None)


def hours_held(config: PretrainConfig, stores: Sequence[Any], request: Request) -> float:
    """Return the hours of speech that a training could hear at most: what has frames and is not held out."""
    seconds = seconds_of(stores)
    heard = [u for corpus in request.heard.values() for u in corpus.utterances() if u.id in seconds]
    split = choose_speech(config.model_copy(update={"hours": None}), stores, heard)
    return sum(seconds[id] for id in split.train) / 3600


def curve_of(plan: ScaleRecipe, name: str) -> Curve:
    """Return a curve by its name."""
    return next(curve for curve in plan.curves if curve.name == name)


__all__ = [
    "Cell",
    "Request",
    "cells_of",
    "choose",
    "configs_of",
    "curve_of",
    "frames_settings",
    "hours_held",
    "identities_of",
    "is_encoded",
    "results_of",
]
