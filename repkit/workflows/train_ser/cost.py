"""How long the jobs of ``repkit train-ser`` would take on this machine, from steps and fits that are tried briefly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repkit.api import LabelledVectors, TaskSpec
from repkit.errors import DataError
from repkit.plugins import build_config, load
from repkit.plugins.blaming import blaming
from repkit.runs.seeding import generator
from repkit.store import StoreSpec
from repkit.training.data import RaggedTensor, TrainingData
from repkit.training.estimators import INNER_GROUPS, MOST_SPEAKERS
from repkit.workflows.train_ser.conditions import ResolvedCondition, StoreFinder
from repkit.workflows.train_ser.context import is_estimator, prepare_fold
from repkit.workflows.train_ser.data import build_frontend, cut_segments
from repkit.workflows.train_ser.models import build_model, task_of
from repkit.workflows.train_ser.plan import SerJob, SerPlan
from repkit.workflows.train_ser.run import make_context

Step = tuple[float, int]
"""Seconds of a training step of the largest batch, and the items that an utterance is cut into."""

ENOUGH_S = 3.0
"""Seconds after which no further step is tried; the first one never counts."""
MOST_FITTED = 2000
"""Utterances that an estimator is tried on at most; what more of them take is expected to grow with their square."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a condition takes.

    Attributes:
        jobs_s: seconds of all its jobs, one after the other.
        before_s: seconds of what is done in one process before the jobs.
    """

    jobs_s: float
    before_s: float = 0.0

    def wall_s(self, workers: int) -> float:
        """Return the expected seconds until the end."""
        return self.before_s + self.jobs_s / workers


@dataclass(frozen=True, slots=True)
class ExpectedStore:
    """Stands for a store that is not made yet.

    Attributes:
        spec: with its width.
    """

    spec: StoreSpec
    left_out: Mapping[str, str] = field(default_factory=dict)

    def require(self, ids: Any, what: str) -> None:
        """Do nothing: it will have them all."""


def expecting(dims: Mapping[str, int], find: StoreFinder) -> StoreFinder:
    """Return what finds stores for a plan, taking those for granted that are not made yet.

    Args:
        dims: width of the vectors by folder of those that are not made yet.
        find: finds the others.
    """

    def found(folder: str, condition: str, corpora: Mapping[str, str]) -> Any:
        if folder not in dims:
            return find(folder, condition, corpora)
        return {
            name: ExpectedStore(
                StoreSpec(
                    kind="vectors", dim=dims[folder], dtype="float32", corpus=name, corpus_fingerprint=fingerprint,
                    source={"expected": folder},
                )
            )
            for name, fingerprint in corpora.items()
        }  # fmt: skip

    return found


def estimate_seconds(plan: SerPlan, workers: int) -> float:
    """Return the expected wall time of all jobs.

    Raises:
        DataError: a corpus without utterances.
    """
    return sum(condition_cost(plan, condition).wall_s(workers) for condition in plan.conditions)


def condition_cost(plan: SerPlan, condition: ResolvedCondition, step: Step | None = None) -> Cost:
    """Return what the jobs of a condition take, from a few timed steps or fits.

    Networks are tried on random frames of the corpora's usual length, estimators on random vectors of as many utterances,
    `MOST_FITTED` at most. An upper bound where recipes stop early.

    Args:
        plan: what is planned.
        condition: of the plan.
        step: of the same network, tried before (`time_step`); None to try it now.

    Raises:
        DataError: a corpus without utterances.
        PluginError: the model fails; names who brings it.
    """
    if not plan.utterances:
        raise DataError("no utterances to train on")
    with blaming("repkit.models", condition.recipe.model.name):
        if is_estimator(condition.recipe):
            return _fits(plan, condition)
        step_s, per_utterance = step or time_step(plan, condition)
    recipe = plan.recipe
    most = _largest_batch(condition)
    total = 0.0
    for _, table in condition.recipe.resolved_phases():
        sizes = [len(fold.train) for fold in plan.folds]
        batches = [table.steps_per_epoch or -(-n * per_utterance // table.batch_size) for n in sizes]
        if table.sampler == "round_robin" and table.steps_per_epoch:
            batches = [n * len(plan.corpora) for n in batches]
        epochs = table.epochs * len(table.learning_rate_steps)
        total += step_s * table.batch_size / most * sum(batches) * epochs * len(recipe.seeds)
    return Cost(total)


def _largest_batch(condition: ResolvedCondition) -> int:
    return max(table.batch_size for _, table in condition.recipe.resolved_phases())


def _fits(plan: SerPlan, condition: ResolvedCondition) -> Cost:
    """Return what the fits of an estimator take; see `repkit.training.estimators.fit_estimator` for how many there are."""
    utterances = {u.id: u for u in plan.utterances}
    known = max((fold.train + fold.dev for fold in plan.folds), key=len)
    n_speakers = len({utterances[i].speaker for i in known})
    model, view, n_classes = _estimator(plan, condition)
    n_candidates = len(model.candidates())
    whole, one = time_fits(model, view, n_classes, len(known), condition.dim)
    choosing = whole + (n_candidates - 1) * one if n_candidates > 1 else 0.0
    select_by, n_views = condition.recipe.training.select_by, len(plan.recipe.labels.views)
    n_jobs = len(plan.folds) * len(plan.recipe.seeds) * n_views
    if select_by == "test":  # once for all jobs, before them
        return Cost(n_jobs * whole, n_views * len(plan.folds) * choosing)
    inner = (n_speakers if n_speakers <= MOST_SPEAKERS else INNER_GROUPS) if select_by == "nested" else 1
    return Cost(n_jobs * (inner * choosing + whole))


def _estimator(plan: SerPlan, condition: ResolvedCondition) -> tuple[Any, str, int]:
    views: dict[str, tuple[str, ...]] = {view: plan.labels.classes[view] for view in plan.recipe.labels.views}
    model_class = load("repkit.models", condition.recipe.model.name)
    config = build_config(model_class, condition.recipe.model.settings, "model")
    view, classes = next(iter(views.items()))
    return model_class(config, TaskSpec(views=views, n_bands=1, vector_dim=condition.dim)), view, len(classes)


def time_fits(model: Any, view: str, n_classes: int, n: int, dim: int) -> tuple[float, float]:
    """Return the seconds of the first fit on some utterances, and of each further candidate on the same ones.

    Args:
        model: an estimator.
        view: to fit.
        n_classes: of the view.
        n: utterances.
        dim: width of the vectors.
    """
    candidates = model.candidates()
    _fit(model, view, _vectors(n_classes, 4 * n_classes, dim), candidates[0])  # imports what it needs
    known = _vectors(n_classes, min(n, MOST_FITTED), dim)
    growth = (n / len(known.target)) ** 2
    whole = _fit(model, view, known, candidates[len(candidates) // 2])
    more = candidates[:: max(1, len(candidates) // 3)][:3] if len(candidates) > 1 else []
    each = [_fit(model, view, known, candidate) for candidate in more]
    return whole * growth, (sum(each) / len(each) if each else whole) * growth


def _fit(model: Any, view: str, known: LabelledVectors, candidate: Mapping[str, Any]) -> float:
    """Return the seconds that it takes to fit, and to score a sixth of the utterances."""
    began = time.perf_counter()
    model.fit(view, known, candidate, 0)
    model.scores(view, known.values[: -(-len(known.target) // 6)])
    return time.perf_counter() - began


def _vectors(n_classes: int, n: int, dim: int) -> LabelledVectors:
    """Return random vectors (n, dim), the means of any two classes two deviations apart, as emotions are hard to tell."""
    draw = generator(0, "cost", n, dim)
    target = torch.arange(n) % n_classes
    means = torch.randn(n_classes, dim, generator=draw) * (2.0 / dim) ** 0.5
    values = torch.randn(n, dim, generator=draw) + means[target]
    return LabelledVectors(values, target, n_classes, tuple(str(i % 10) for i in range(n)))


def time_step(plan: SerPlan, condition: ResolvedCondition) -> Step:
    """Try the network of a condition on random frames of the corpora's usual length."""
    frontend = build_frontend(plan)
    seconds = min(plan.recipe.max_duration_s or 4.0, 3.5)  # acted utterances last two to four seconds
    length = max(1, frontend.n_frames(int(seconds * frontend.sample_rate)))
    n, n_bands = 2 * _largest_batch(condition), frontend.n_bands
    frames = RaggedTensor(torch.randn(n * length, n_bands), torch.arange(n + 1) * length)
    labels = plan.recipe.labels
    targets = {v: torch.randint(0, len(plan.labels.classes[v]), (n,)) for v in (*labels.views, *labels.auxiliary)}
    data = TrainingData([str(i) for i in range(n)], frames, targets, corpora=torch.zeros(n, dtype=torch.int64))
    data.segments = cut_segments(plan, frames.lengths)
    per_utterance = 1 if data.segments is None else len(data.segments.utterance) // n
    vectors = {condition.name: torch.randn(n, condition.dim)} if condition.fusion == "late" else {}
    states = {}
    if condition.fusion == "early":
        states[condition.name] = RaggedTensor(torch.randn(n * 100, condition.dim), torch.arange(n + 1) * 100)
    context = make_context(Path(), plan, data, vectors, states)
    fold_data = prepare_fold(context, condition.name, torch.arange(n))
    model = build_model(context, SerJob(condition.name, 0, "estimate"), task_of(context, condition.name))
    optimiser = torch.optim.Adam(model.parameters())
    phase, table = condition.recipe.resolved_phases()[0]
    route = phase.views[0] if phase.route == "view" else None
    crop = None if table.crop_s is None else context.crops[table.crop_s]
    times = []
    for step in range(4):
        begun = time.perf_counter()
        outputs = model(fold_data.batch(torch.arange(n // 2) + step % 2, crop=crop, route=route))
        loss = sum(logits.square().mean() for logits in outputs.logits.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        times.append(time.perf_counter() - begun)
        if step and sum(times) > ENOUGH_S:
            break
    return float(np.median(times[1:])), per_utterance
