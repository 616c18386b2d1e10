"""Which runs ``repkit compare`` would make, and how long they would take here, without training any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from repkit.runs.executors import default_workers
from repkit.workflows.compare.run import CompareUnit, Request, known_runs, plan_units
from repkit.workflows.reproduce.runs import find_done, plan_unit
from repkit.workflows.train_ser.conditions import ResolvedCondition
from repkit.workflows.train_ser.cost import Cost, condition_cost
from repkit.workflows.train_ser.plan import SerPlan


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run and what is left of it.

    Attributes:
        unit: which.
        n_conditions: stores, alone and joined.
        n_done: of them that are trained already.
        hours: that the others take.
    """

    unit: CompareUnit
    n_conditions: int
    n_done: int
    hours: float


def plan_runs(
    request: Request, try_out: Callable[[SerPlan, ResolvedCondition], Cost] = condition_cost
) -> list[PlannedRun]:
    """Return every run with what is done of it, and how long the rest takes.

    Of conditions that differ in nothing but the numbers in their vectors, or in who standardises them, one is tried. Making
    frames, starting processes and writing reports are not counted.

    Args:
        request: what is asked for.
        try_out: tells what the jobs of a condition take.

    Raises:
        UsageError: see `repkit.workflows.compare.run.plan_units`.
        RecipeError: a recipe does not validate.
        DataError: a store is missing or damaged, or does not fit its corpus.
    """
    known = known_runs(request.out)
    found: list[PlannedRun] = []
    costs: dict[tuple[object, ...], Cost] = {}
    for unit in plan_units(request):
        plan = plan_unit(unit.resolved, unit, request)  # type: ignore[arg-type]
        done = find_done(plan, request.runs, known)
        todo = [condition for condition in plan.conditions if condition.name not in done]
        n_jobs = len(plan.folds) * len(plan.recipe.seeds) * len(todo)
        workers = min(request.workers or default_workers(n_jobs), max(1, n_jobs))
        seconds = 0.0
        for condition in todo:
            key = (unit.recipe, unit.corpora, condition.fusion, condition.dim)
            if key not in costs:
                costs[key] = try_out(plan, condition)
            seconds += costs[key].wall_s(workers)
        found.append(PlannedRun(unit, len(plan.conditions), len(plan.conditions) - len(todo), seconds / 3600))
    return found


__all__ = ["PlannedRun", "plan_runs"]
