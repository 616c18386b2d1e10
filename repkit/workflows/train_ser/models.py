"""The model and the objectives of one job, and a look at both before time is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from repkit.api import Batch, Outputs, TaskSpec
from repkit.config.schema import SerRecipe
from repkit.errors import PluginError, RepkitError
from repkit.plugins import blame, build_config, load
from repkit.runs.seeding import derive_seed
from repkit.training.data import FoldData
from repkit.workflows.train_ser.context import SerContext
from repkit.workflows.train_ser.plan import SerJob


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
    """Build the model of a job; its initial weights, and those of the objectives after it, depend on seed and fold."""
    recipe = context.recipes[job.condition]
    model_class = load("repkit.models", recipe.model.name)
    settings = dict(recipe.model.settings)
    if "fusion" in model_class.Config.model_fields:
        settings["fusion"] = context.fusion[job.condition]
    torch.manual_seed(derive_seed(job.seed, job.fold, "weights"))
    return model_class(build_config(model_class, settings, "model"), task)


def build_objectives(recipe: SerRecipe, task: TaskSpec) -> dict[str, tuple[torch.nn.Module, float]]:
    """Build the objectives of a recipe for a task that knows the width of the model's shared vector."""
    objectives: dict[str, tuple[torch.nn.Module, float]] = {}
    for number, table in enumerate(recipe.objectives):
        objective_class = load("repkit.objectives", table.name)
        config = build_config(objective_class, table.settings, f"objectives.{number}")
        name = table.name if table.name not in objectives else f"{table.name}_{number}"
        objectives[name] = (objective_class(config, task), table.weight)
    return objectives


def first_outputs(
    recipe: SerRecipe, model: torch.nn.Module, data: FoldData, train: torch.Tensor, task: TaskSpec
) -> tuple[Batch, Outputs]:
    """Run one small batch through the model, so that a broken plugin is named before time is spent.

    Raises:
        PluginError: an exception, a missing view, a wrong shape or logits that are not finite.
    """
    phase, table = recipe.resolved_phases()[0]
    route = phase.views[0] if phase.route == "view" else None
    some = train[:: max(1, len(train) // 8)][:8]
    batch = data.batch(data.items_of(some)[:16], crop=256 if table.crop_s else None, route=route)
    state = torch.get_rng_state()
    model.eval()
    with torch.no_grad(), blaming("repkit.models", recipe.model.name):
        outputs = model(batch)
        _check_outputs(outputs, batch, task, route)
    torch.set_rng_state(state)
    return batch, outputs


def check_objectives(
    recipe: SerRecipe, objectives: Mapping[str, tuple[torch.nn.Module, float]], batch: Batch, outputs: Outputs
) -> None:
    """Run the objectives on one small batch, for the same reason.

    Raises:
        PluginError: an exception, or a loss that is no scalar.
    """
    for (module, _), table in zip(objectives.values(), recipe.objectives):
        with torch.no_grad(), blaming("repkit.objectives", table.name):
            for term, value in module(outputs, batch, 0.0).items():
                if not torch.is_tensor(value) or value.ndim != 0:
                    raise ValueError(f"loss {term!r} is {_described(value)}; a tensor of one number was expected")


def _described(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if torch.is_tensor(value) else f"a {type(value).__name__}"


@contextmanager
def blaming(group: str, name: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Name the distribution whose component fails; what is not its fault passes."""
    try:
        yield
    except (RepkitError, *passing):
        raise
    except Exception as error:
        raise PluginError(
            f"{blame(group, name)}: {type(error).__name__}: {error}; a component that keeps the contract of repkit.api was "
            f"expected; run `repkit plugins check {name}`, mend it or choose another"
        ) from error


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
