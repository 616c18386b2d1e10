"""The model and the objectives of one job, and a look at both before time is spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from repkit.api import Batch, Outputs, TaskSpec
from repkit.config.schema import SerRecipe
from repkit.plugins import blame, build_config, load
from repkit.plugins.blaming import blaming
from repkit.runs.seeding import derive_seed
from repkit.training.data import FoldData
from repkit.training.loop import checked_losses
from repkit.workflows.train_ser.conditions import capabilities_of
from repkit.workflows.train_ser.context import SerContext
from repkit.workflows.train_ser.plan import SerJob

PADDING_TOLERANCE = 1e-3
"""Largest difference, relative to the size of the outputs where that exceeds 1, between an utterance alone and in a batch: ten
times what `repkit plugins check` allows on its small batches. Rounding makes some 1e-6. Source: own design."""

_ROLES = ("shared", "adapter", "norm", "head")
_NO_CLASS = -1e4  # logits below it stand for classes that an utterance's corpus does not have


def task_of(context: SerContext, condition: str, n_domains: Mapping[str, int] | None = None) -> TaskSpec:
    """Return what a model of this condition has to predict and from what."""
    fusion, segments = context.fusion[condition], context.data.segments
    return TaskSpec(
        views={**context.views, **context.auxiliary},
        n_bands=context.data.frames.values.shape[1],
        vector_dim=context.vectors[condition].shape[1] if fusion == "late" else 0,
        state_dim=context.states[condition].values.shape[1] if fusion == "early" else 0,
        domains=dict(n_domains or {}),
        corpora=context.corpora,
        n_frames=segments.n_frames if segments is not None else 0,
    )


def build_model(context: SerContext, job: SerJob, task: TaskSpec) -> torch.nn.Module:
    """Build the model of a job; its initial weights, and those of the objectives after it, depend on seed and fold.

    Raises:
        PluginError: a method that the contract requires is missing, or its parameters are not each in one group.
    """
    recipe = context.recipes[job.condition]
    model_class = load("repkit.models", recipe.model.name)
    settings = dict(recipe.model.settings)
    if "fusion" in model_class.Config.model_fields:
        settings["fusion"] = context.fusion[job.condition]
    config = build_config(model_class, settings, "model")
    torch.manual_seed(derive_seed(job.seed, job.fold, "weights"))
    with blaming("repkit.models", recipe.model.name):
        model: torch.nn.Module = model_class(config, task)
        _check_methods(model, capabilities_of(recipe))
    return model


def _check_methods(model: torch.nn.Module, capabilities: frozenset[str]) -> None:
    """Refuse what `repkit plugins check` would: phases could leave parameters out that nobody missed."""
    required = ("parameter_groups", *(("candidates", "fit", "scores") if "estimator" in capabilities else ()))
    missing = [name for name in required if not callable(getattr(model, name, None))]
    if missing:
        raise TypeError(f"{type(model).__name__} has no method {', '.join(missing)}")
    kept = model.state_dict()
    lost = [name for name, _ in model.named_parameters() if name not in kept]
    if lost:
        raise ValueError(f"state_dict() leaves out {len(lost)} parameters, first {lost[0]}; all were expected")
    groups: Mapping[str, Sequence[torch.nn.Parameter]] = model.parameter_groups()
    unknown = sorted(set(groups) - set(_ROLES))
    if unknown:
        raise ValueError(f"parameter_groups() has a group {unknown[0]!r}; some of {', '.join(_ROLES)} were expected")
    listed = Counter(id(parameter) for parameters in groups.values() for parameter in parameters)
    wrong = [name for name, parameter in model.named_parameters() if listed[id(parameter)] != 1]
    if wrong:
        raise ValueError(
            f"parameter_groups() names {len(wrong)} parameters not exactly once, first {wrong[0]}; every one in one group "
            "was expected"
        )


def objective_names(recipe: SerRecipe) -> list[str]:
    """Return what the objectives of a recipe are called in a training: by their components, with a number where one is used again."""
    names: list[str] = []
    for number, table in enumerate(recipe.objectives):
        names.append(table.name if table.name not in names else f"{table.name}_{number}")
    return names


def build_objectives(recipe: SerRecipe, task: TaskSpec) -> dict[str, tuple[torch.nn.Module, float]]:
    """Build the objectives of a recipe for a task that knows the width of the model's shared vector."""
    objectives: dict[str, tuple[torch.nn.Module, float]] = {}
    for number, (name, table) in enumerate(zip(objective_names(recipe), recipe.objectives, strict=True)):
        objective_class = load("repkit.objectives", table.name)
        config = build_config(objective_class, table.settings, f"objectives.{number}")
        with blaming("repkit.objectives", table.name):
            objectives[name] = (objective_class(config, task), table.weight)
    return objectives


def first_outputs(
    recipe: SerRecipe, model: torch.nn.Module, data: FoldData, train: torch.Tensor, task: TaskSpec
) -> tuple[Batch, Outputs]:
    """Run one small batch through the model, so that a broken plugin is named before time is spent.

    Returns:
        the batch, and the outputs with their gradients.

    Raises:
        PluginError: an exception, a missing view, a wrong shape, outputs that are not finite, or that depend on no parameter.
    """
    items, crop, route = _first_items(recipe, data, train)
    batch = data.batch(items, crop=crop, route=route)
    state = torch.get_rng_state()
    model.eval()
    with blaming("repkit.models", recipe.model.name):
        outputs = model(batch)
        _check_outputs(outputs, batch, task, route)
    torch.set_rng_state(state)
    return batch, outputs


def _first_items(recipe: SerRecipe, data: FoldData, train: torch.Tensor) -> tuple[torch.Tensor, int | None, str | None]:
    """Return the items of the batch that everything is tried on, its crop in frames, and its route."""
    phase, table = recipe.resolved_phases()[0]
    some = train[:: max(1, len(train) // 8)][:8]
    route = phase.views[0] if phase.route == "view" else None
    return data.items_of(some)[:16], 256 if table.crop_s else None, route


def padding_notes(
    recipe: SerRecipe, model: torch.nn.Module, data: FoldData, train: torch.Tensor, batch: Batch, outputs: Outputs
) -> list[str]:
    """Return what a reader must know of a model that gives an utterance other outputs alone than in a batch.

    One utterance is tried, the shortest of the batch that `first_outputs` has tried, so that most of its row is padding.

    Args:
        recipe: of the condition.
        model: freshly built.
        data: as `first_outputs` got them.
        train: as `first_outputs` got them.
        batch: what that returned.
        outputs: what that returned.

    Returns:
        One sentence, or nothing for a model that keeps the rule or declares ``padding_sensitive``.

    Raises:
        PluginError: an exception.
    """
    if "padding_sensitive" in capabilities_of(recipe):
        return []
    items, crop, route = _first_items(recipe, data, train)
    row = int(batch.lengths.argmin())
    state = torch.get_rng_state()
    model.eval()
    with torch.no_grad(), blaming("repkit.models", recipe.model.name):
        alone = model(data.batch(items[row : row + 1], crop=crop, route=route))
        gaps = {f"logits of {view}": gap(alone.logits[view][0], values[row]) for view, values in outputs.logits.items()}
        gaps["shared"] = gap(alone.shared[0], outputs.shared[row])
    torch.set_rng_state(state)
    where = max(gaps, key=lambda name: gaps[name])
    if gaps[where] <= PADDING_TOLERANCE:
        return []
    frames, longest = int(batch.lengths[row]), int(batch.lengths.max())
    return [
        f"{blame('repkit.models', recipe.model.name)}: padding changes results: before training the {where} of an utterance of "
        f"{frames} frames differ by {gaps[where]:.2g} between alone and in a batch of up to {longest} frames "
        f"({PADDING_TOLERANCE:g} is allowed), so scores depend on the batch size; `repkit plugins check {recipe.model.name}` "
        "says more"
    ]


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference, relative to the values' size where that exceeds 1; infinite where it is no number."""
    present = ~(torch.maximum(one, other) <= _NO_CLASS)  # NaN is neither above nor below
    if not present.any():
        return 0.0
    one, other = one[present].double(), other[present].double()
    found = float((one - other).abs().max()) / max(1.0, float(torch.maximum(one.abs(), other.abs()).max()))
    return found if math.isfinite(found) else math.inf


def check_objectives(
    recipe: SerRecipe, objectives: Mapping[str, tuple[torch.nn.Module, float]], batch: Batch, outputs: Outputs
) -> None:
    """Run the objectives on one small batch, for the same reason.

    Raises:
        PluginError: an exception, no loss, one that is no scalar or not finite, or none that training could change.
    """
    for (module, _), table in zip(objectives.values(), recipe.objectives):
        with blaming("repkit.objectives", table.name):
            losses = checked_losses(table.name, module(outputs, batch, 0.0))
            for term, value in losses.items():
                if not torch.isfinite(value) and torch.isfinite(outputs.shared).all():
                    raise ValueError(f"loss {term!r} is {value.item():g} of finite outputs; a finite one was expected")
            # zero is what an objective may say of a batch without its labels
            if not any(value.requires_grad or not value.any() for value in losses.values()):
                raise ValueError(
                    f"the losses {', '.join(losses) or '(none)'} depend on no parameter; a path from the outputs to them was "
                    "expected"
                )


def _check_outputs(outputs: Any, batch: Batch, task: TaskSpec, route: str | None) -> None:
    n = len(batch.ids)
    expected = {route} if route else set(task.views) & set(outputs.logits) or set(task.views)
    for view in expected:
        if view not in outputs.logits:
            raise ValueError(f"no logits of view {view!r}")
        shape = (n, len(task.views[view]))
        if tuple(outputs.logits[view].shape) != shape:
            raise ValueError(f"logits of {view} have shape {tuple(outputs.logits[view].shape)}; {shape} was expected")
        if not torch.isfinite(outputs.logits[view]).all():
            raise ValueError(f"logits of {view} are not finite at the start")
    if outputs.shared.ndim != 2 or len(outputs.shared) != n:
        raise ValueError(f"shared has shape {tuple(outputs.shared.shape)}; ({n}, H) was expected")
    if not torch.isfinite(outputs.shared).all():
        raise ValueError("shared is not finite at the start")
    if not any(values.requires_grad for values in outputs.logits.values()):
        raise ValueError("the logits depend on no parameter; a path from the parameters to them was expected")
