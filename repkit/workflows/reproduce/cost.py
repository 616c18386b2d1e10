"""What ``repkit reproduce`` would do and how long it would take here: frames, stage one, vectors and trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from repkit.api import Corpus, Encoder
from repkit.audio.lengths import Lengths, file_seconds
from repkit.audio.synthetic import SyntheticCorpus
from repkit.errors import RepkitError
from repkit.papers import StageOne, System
from repkit.plugins import load
from repkit.runs.directory import canonical_hash, read_json
from repkit.runs.executors import default_workers
from repkit.stage_one import cost
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.open import open_encoder
from repkit.stage_one.settings import PretrainConfig
from repkit.workflows.made import fingerprints_of, is_embedded, made_frames
from repkit.workflows.reproduce.cells import PlannedCell, Request, Unit
from repkit.workflows.reproduce.runs import check_units, find_done, plan_unit, reads_vectors, stage_run, unit_recipe
from repkit.workflows.train_ser import cost as ser_cost
from repkit.workflows.train_ser.conditions import ResolvedCondition, open_stores
from repkit.workflows.train_ser.context import is_estimator
from repkit.workflows.train_ser.data import build_frontend as stage_two_frontend
from repkit.workflows.train_ser.plan import SerPlan

T = TypeVar("T")

MOST_FILES = 200
"""Files of a corpus whose length is looked up; the others are taken to be like them."""
UPDATES_S = 3.0
"""Seconds after which no further update of stage one is timed."""
UPDATES_FRAMES = 24
"""Frames of the pieces that they are timed on: recurrent layers take them one by one."""
CANNOT_BE_PLANNED = "cannot be planned"
_FAILURES = (RepkitError, OSError, ValueError, RuntimeError)
"""What an encoder that cannot be used here may raise."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the work.

    Attributes:
        kind: frames, stage one, vectors or training.
        what: is made or trained, in words.
        hours: on this machine; 0 of what is done, None where they are not known.
        why: not known.
        n_jobs: trainings of stage two; None where they are not known, and of other steps.
        done: whether it is there already.
    """

    kind: str
    what: str
    hours: float | None
    why: str = ""
    n_jobs: int | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class UnitCost:
    """What a run would cost.

    Attributes:
        run: the trainings of all conditions that the cells want.
        before: what each condition needs before that, by its name.
        hours: of the trainings of each condition alone, None where they are not known.
        error: what would make the run fail, wholly or for a condition; None where nothing is known to.
    """

    run: Step
    before: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    hours: Mapping[str, float | None] = field(default_factory=dict)
    error: Exception | None = None

    def of_cell(self, one: PlannedCell) -> float | None:
        """Return the hours of one cell by itself, with all that it needs; None where a part is not known."""
        name = one.cell.system.condition
        parts = [self.hours.get(name), *(step.hours for step in self.before.get(name, ()))]
        return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where vectors come from: the encoder and its width as far as they are known, and the steps before encoding."""

    encoder: Encoder | None
    dim: int | None
    why: str = ""
    before: tuple[Step, ...] = ()
    trained: bool = True


class Costing:
    """Tries everything that a reproduction needs once, briefly, and multiplies.

    Args:
        request: what is asked for.
        known: see `repkit.workflows.reproduce.runs.find_done`.
        folder: an empty one for encoders that are not trained yet.
        threads: of stage one's updates and of encoders, None for those that torch takes now.
    """

    def __init__(self, request: Request, known: Mapping[str, str], folder: Path, threads: int | None = None) -> None:
        self.request, self.known, self.folder = request, known, folder
        self.threads = threads or torch.get_num_threads()
        self.steps: dict[tuple[Any, ...], Step] = {}
        self._kept: dict[tuple[Any, ...], Any] = {}

    # ------------------------------------------------------------------ a run

    def unit(self, unit: Unit, cells: Sequence[PlannedCell]) -> UnitCost:
        """Return what a run and all that it needs would cost, without encoding or training anything of it."""
        before: dict[str, list[Step]] = {}
        folders: dict[str, str] = {}
        dims: dict[str, int] = {}
        refused = check_units({unit: cells}, self.request)[unit]
        if len(refused) == len({one.cell.system.condition for one in cells}):
            return _cannot_be_planned(unit, next(iter(refused.values())))
        cells = [one for one in cells if one.cell.system.condition not in refused]
        lacking = {name: f"stage one of {name}: {error}" for name, error in refused.items()}
        try:
            for one in filter(reads_vectors, cells):
                system = one.cell.system
                if system.condition not in before:
                    source = self._source(system, str(one.cell.heard))
                    before[system.condition] = [*source.before, *self._vectors(source, system, unit)]
                    if source.dim is None:
                        lacking[system.condition] = source.why
                        continue
                    folder = self._folder(source, system)
                    folders[system.condition] = folder
                    if not all(step.done for step in before[system.condition]):
                        dims[folder] = source.dim
            recipe = unit_recipe(unit, cells, self.request, folders)
            if not (recipe.conditions or recipe.baseline):
                why = "; ".join(dict.fromkeys(lacking.values()))
                return UnitCost(
                    Step("training", unit.title, None, why), before, error=next(iter(refused.values()), None)
                )
            plan = plan_unit(recipe, unit, self.request, ser_cost.expecting(dims, open_stores))
        except RepkitError as error:
            return _cannot_be_planned(unit, error, before)
        found = self._trainings(unit, plan, before, lacking)
        return replace(found, error=next(iter(refused.values()), None))

    def _trainings(
        self, unit: Unit, plan: SerPlan, before: dict[str, list[Step]], lacking: Mapping[str, str]
    ) -> UnitCost:
        done = find_done(plan, self.request.runs, self.known)
        todo = [condition for condition in plan.conditions if condition.name not in done]
        for condition in todo:  # frames may have been cleared away since a run was made, which needs them no more
            before.setdefault(condition.name, []).extend(self._frames_of_run(plan, name) for name in plan.corpora)
        each = len(plan.folds) * len(plan.recipe.seeds)
        costs = {condition.name: self._condition(unit, plan, condition) for condition in todo}
        workers = self.request.workers or default_workers(each * max(1, len(todo)))
        total = sum(found.wall_s(min(workers, each * len(todo))) for found in costs.values()) / 3600
        hours: dict[str, float | None] = {name: 0.0 for name in done}
        hours |= {name: found.wall_s(min(workers, each)) / 3600 for name, found in costs.items()}
        hours |= dict.fromkeys(lacking)
        why = "; ".join(dict.fromkeys(lacking.values()))
        n_jobs = each * (len(plan.conditions) + len(lacking))
        hours_of_run = None if lacking and not todo else total  # of those that are known
        run = Step("training", unit.title, hours_of_run, why, n_jobs, not todo and not lacking)
        return UnitCost(run, before, hours)

    def _condition(self, unit: Unit, plan: SerPlan, condition: ResolvedCondition) -> ser_cost.Cost:
        """Return what the jobs of a condition take; a network is tried once for all corpora."""
        if is_estimator(condition.recipe):
            return ser_cost.condition_cost(plan, condition)
        key = ("network", unit.recipe, unit.set, condition.name, condition.dim)
        step = self._keep(key, lambda: ser_cost.time_step(plan, condition))
        return ser_cost.condition_cost(plan, condition, step)

    def _frames_of_run(self, plan: SerPlan, corpus: str) -> Step:
        recipe = plan.recipe
        return self._frames(
            self.request.corpora[corpus],
            lambda: stage_two_frontend(plan),
            recipe.frontend.name,
            (recipe.frontend.name, canonical_hash(recipe.frontend.settings)),
            max_duration_s=recipe.max_duration_s,
        )

    # ------------------------------------------------------------------ vectors

    def _source(self, system: System, heard: str) -> _Source:
        if system.stage_one is None:
            return self._keep(("embed", system.embed), lambda: self._installed(system.embed or ""))
        out, config = stage_run(system.stage_one, heard, self.request)
        return self._keep(("stage one", str(out)), lambda: self._trained(out, config, system.stage_one, heard))

    def _installed(self, spec: str) -> _Source:
        """Return the encoder of a specification; weights that are not on this machine are not fetched."""
        try:
            with _no_downloads():
                encoder = open_encoder(spec)
        except _FAILURES as error:
            told = getattr(error, "message", str(error)).splitlines()[0]
            return _Source(None, _declared_dim(spec), told if told.startswith("encoder") else f"encoder {spec}: {told}")
        return _Source(encoder, encoder.dim)

    def _trained(self, out: Path, config: PretrainConfig, stage: StageOne | None, heard: str) -> _Source:
        """Return the encoder of a training, which is made with its first weights where it is not trained yet."""
        status = out / "status.json"
        done = status.is_file() and read_json(status).get("state") == "done"
        what = f"{stage.recipe if stage else ''} on {heard}"
        try:
            if done:
                encoder = open_encoder(str(out))
                return _Source(encoder, encoder.dim)
            encoder = cost.bare_encoder(config, self.folder / out.name)
        except _FAILURES as error:
            why = f"stage one, {what}: {getattr(error, 'message', error)}"
            self.steps[("stage one", str(out))] = step = Step("stage one", what, None, why)
            return _Source(None, None, why, (step,), False)
        frames = self._frames(
            self.request.corpora[heard],
            lambda: build_frontend(**config.frontend_table()),
            config.frontend,
            ("stage one", canonical_hash(config.frontend_table())),
            max_duration_s=config.max_duration_s,
            dtype=config.frames_dtype,
        )
        lengths = self._lengths(heard)
        if lengths is None:
            step = Step("stage one", what, None, _no_lengths(heard))
        else:
            seconds = cost.training_seconds(config, lengths.seconds, lengths.n, self._per_update)
            step = Step("stage one", what, seconds / 3600)
        self.steps[("stage one", str(out))] = step
        return _Source(encoder, encoder.dim, "", (frames, step), False)

    def _per_update(self, config: PretrainConfig) -> float:
        """Return the seconds of an update; settings that change only how many there are share one measurement."""
        same = config.model_copy(update={"epochs": 1, "updates": None, "seed": 0, "hours": None})

        def measured() -> float:
            with _threads(self.threads):
                return cost.seconds_per_update(same, 2, UPDATES_S, UPDATES_FRAMES)

        return self._keep(("update", canonical_hash(same.model_dump(mode="json"))), measured)

    def _folder(self, source: _Source, system: System) -> str:
        return str(self.request.embeddings / (source.encoder.name if source.encoder else system.condition))

    def _vectors(self, source: _Source, system: System, unit: Unit) -> list[Step]:
        """Return the encoding of every corpus of a run."""
        name = source.encoder.name if source.encoder else str(system.embed or system.condition)
        found = []
        for corpus in (*unit.corpora, *unit.hold_out):
            key = ("vectors", name, corpus)
            if key not in self.steps:
                self.steps[key] = self._encoding(source, name, self.request.corpora[corpus])
            found.append(self.steps[key])
        return found

    def _encoding(self, source: _Source, name: str, corpus: Corpus) -> Step:
        what = f"{corpus.name} by {name}"
        if source.encoder is None:
            return Step("vectors", what, None, source.why)
        if source.trained and is_embedded(self.request.embeddings / name, fingerprints_of({corpus.name: corpus})):
            return Step("vectors", what, 0.0, done=True)
        try:
            with _threads(self.threads):
                rate = self._keep(("rate", name), lambda: cost.encoding_rate(source.encoder, self._speech))
        except _FAILURES as error:
            return Step("vectors", what, None, f"{name}: {error}")
        return self._times("vectors", what, rate, corpus.name)

    # ------------------------------------------------------------------ frames and lengths

    def _frames(
        self, corpus: Corpus, frontend: Callable[[], Any], name: str, key: tuple[Any, ...], **settings: Any
    ) -> Step:
        """Return the frames of a corpus; `key` says which frontend it is."""
        place = ("frames", *key, corpus.name, *settings.values())
        if place not in self.steps:
            made = frontend()
            what = f"{corpus.name} by {name} ({made.n_bands} columns)"
            if made_frames(corpus, made, **settings) is not None:
                self.steps[place] = Step("frames", what, 0.0, done=True)
            else:
                rate = self._keep(("rate", *key), lambda: cost.frames_rate(made, self._speech))
                self.steps[place] = self._times("frames", what, rate, corpus.name)
        return self.steps[place]

    def _times(self, kind: str, what: str, rate: float, corpus: str) -> Step:
        lengths = self._lengths(corpus)
        if lengths is None:
            return Step(kind, what, None, _no_lengths(corpus))
        return Step(kind, what, rate * lengths.hours)

    def _lengths(self, corpus: str) -> Lengths | None:
        return self._keep(("lengths", corpus), lambda: file_seconds(self.request.corpora[corpus], MOST_FILES))

    @cached_property
    def _speech(self) -> list[np.ndarray]:
        """Some seconds of generated speech."""
        corpus = SyntheticCorpus(
            SyntheticCorpus.Config.model_validate({"n_speakers": 2, "n_sentences": 1, "duration_s": 2.5})
        )
        return [corpus.read(one) for one in corpus.utterances()[:8]]

    def _keep(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found


def _cannot_be_planned(unit: Unit, error: Exception, before: Mapping[str, Sequence[Step]] | None = None) -> UnitCost:
    return UnitCost(Step("training", unit.title, None, f"{CANNOT_BE_PLANNED}: {error}"), before or {}, error=error)


def _no_lengths(corpus: str) -> str:
    return f"corpus {corpus}: the lengths of its utterances are not known before its audio is read"


def _declared_dim(spec: str) -> int | None:
    """Return the width of an encoder's vectors where its class says it, whatever its settings."""
    try:
        found = getattr(load("repkit.encoders", spec.partition(":")[0]), "dim", None)
    except RepkitError:
        return None
    return found if isinstance(found, int) else None


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Let the library of the Hugging Face hub find only what is on this machine."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


__all__ = ["Costing", "Step", "UnitCost"]
