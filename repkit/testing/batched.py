"""Checks of what declares that many of it can be computed as one program (capability ``batched``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from repkit.api import OBJECTIVE_CAPABILITIES, Batch, Outputs
from repkit.api.dropout import keyed_dropouts
from repkit.errors import did_you_mean
from repkit.testing import model_case, objectives
from repkit.testing.kit import Broken, check
from repkit.testing.material import TOLERANCE, difference, make_batch
from repkit.testing.model_case import ModelCase, loss_of, run
from repkit.testing.objective_case import PROGRESS, ObjectiveCase

SIBLINGS = 3
_DENSE = "where batch.dense is set, compute everything by shapes: masks instead of boolean indices, no .item(), no int(tensor)"


def stacked_batch(batches: list[Batch]) -> dict[str, Any]:
    """Return the tensors of batches of equal shapes with a leading axis."""
    found: dict[str, Any] = {}
    for item in fields(Batch):
        values = [getattr(batch, item.name) for batch in batches]
        if isinstance(values[0], torch.Tensor):
            found[item.name] = torch.stack(values)
        elif isinstance(values[0], dict):
            found[item.name] = {key: torch.stack([value[key] for value in values]) for key in values[0]}
    return found


def _row(values: Mapping[str, Any], row: int) -> dict[str, Any]:
    return {
        name: {key: part[row] for key, part in value.items()} if isinstance(value, dict) else value[row]
        for name, value in values.items()
    }


@check(model_case.GROUP, needs=("batched",))
def dense_batches_give_the_same(case: ModelCase) -> None:
    """A model that declares 'batched' gives the same outputs whether batch.dense is set or not.

    Prevents: a run whose scores depend on the machine it was made on.
    """
    for mode, _, model, batch in case.each_mode():
        gap, where = difference(run(model, batch), run(model, replace(batch, dense=True)))
        if not gap <= TOLERANCE:
            raise Broken(f"{where} differs by {gap:.2g}, fusion {mode}", "let both ways compute the same")


@check(model_case.GROUP, needs=("batched",))
def siblings_do_not_disturb_each_other(case: ModelCase) -> None:
    """Models of different weights, each with its own batch, give as one program what each gives alone, in training too.

    Prevents: trainings that differ when others run beside them.
    """
    for mode in case.modes:
        task = case.task(mode)
        models = [case.build(task, mode, seed) for seed in range(SIBLINGS)]
        batches = [replace(case.batch(task, seed), dense=True) for seed in range(SIBLINGS)]
        for model in models:
            model.train()
            for place, module in enumerate(keyed_dropouts(model)):
                module.key.fill_(1000 * place + 7)
        together, gradients = _as_one(models, batches, mode)
        for row, (model, batch) in enumerate(zip(models, batches, strict=True)):
            model.zero_grad(set_to_none=True)
            alone = model(batch)
            loss_of(alone, batch).backward()
            own = Outputs({view: values[row] for view, values in together["logits"].items()}, together["shared"][row])
            gap, where = difference(alone, own)
            if not gap <= TOLERANCE:
                raise Broken(
                    f"{where} differs by {gap:.2g} between alone and beside others, fusion {mode}",
                    "draw by repkit.api.Dropout, and let each item's outputs depend on its own model and row alone",
                )
            for name, parameter in model.named_parameters():
                expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                size = max(1.0, float(expected.abs().max()))
                if not float((gradients[name][row] - expected).abs().max()) <= TOLERANCE * size:
                    raise Broken(f"the gradient of {name} differs, fusion {mode}", "see that no gradient is stopped")


def _as_one(models: list[nn.Module], batches: list[Batch], mode: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the outputs of several models as one program, and the gradients of the sum of their losses."""
    parameters, buffers = stack_module_state(models)
    before = {name: value.clone() for name, value in buffers.items()}

    def one(state: dict[str, torch.Tensor], given: dict[str, Any]) -> dict[str, Any]:
        outputs = functional_call(models[0], state, (Batch(ids=batches[0].ids, dense=True, **given),))
        return {"logits": outputs.logits, "shared": outputs.shared}

    given = stacked_batch(batches)
    try:
        found = vmap(one, randomness="error")({**parameters, **buffers}, given)
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}, fusion {mode}"[:500], _DENSE) from error
    moved = [name for name, value in before.items() if not torch.equal(value, buffers[name])]
    if moved:
        raise Broken(
            f"training changes the buffer {moved[0]}", "leave out what learns without gradients, as batch norm"
        )
    rows = []
    for row, batch in enumerate(batches):
        own = _row(found, row)
        rows.append(loss_of(Outputs(own["logits"], own["shared"]), batch))
    each = torch.autograd.grad(sum(rows), list(parameters.values()), allow_unused=True)
    names = zip(parameters, each, strict=True)
    return found, {n: torch.zeros_like(parameters[n]) if g is None else g for n, g in names}


@check(objectives.GROUP)
def capabilities_of_objectives_are_known(case: ObjectiveCase) -> None:
    """Capabilities are names of repkit.api.OBJECTIVE_CAPABILITIES, and 'batched' excludes what needs single steps.

    Prevents: an objective that is always computed alone for want of a letter, or whose figures are never taken.
    """
    declared = getattr(case.component, "capabilities", frozenset())
    if not isinstance(declared, frozenset | set):
        raise Broken(f"{declared!r}", 'write capabilities = frozenset({"batched"})')
    unknown = sorted(set(map(str, declared)) - set(OBJECTIVE_CAPABILITIES))
    if unknown:
        raise Broken(
            f"{unknown[0]!r}{did_you_mean(unknown[0], OBJECTIVE_CAPABILITIES)}",
            f"use {', '.join(OBJECTIVE_CAPABILITIES)}",
        )
    alone = sorted(case.traits & {"update", "measure", "domains"})
    if "batched" in declared and alone:
        raise Broken(f"'batched' with {alone[0]}()", "leave the capability or the method out")


@check(objectives.GROUP, needs=("batched",))
def objectives_do_not_disturb_each_other(case: ObjectiveCase) -> None:
    """An objective that declares 'batched' gives for several models at once what it gives for each, progress a tensor.

    Prevents: trainings that differ when others run beside them.
    """
    task = case.task()
    items = [case.build(task, seed) for seed in range(SIBLINGS)]
    batches = [make_batch(task, seed) for seed in range(SIBLINGS)]
    weights = torch.linspace(0.5, 1.5, len(batches[0].ids))
    batches = [replace(batch, dense=True, weights=weights + row) for row, batch in enumerate(batches)]
    outputs = [case.outputs(task, batch, seed) for seed, batch in enumerate(batches)]
    parameters, buffers = stack_module_state(items)
    logits = {view: torch.stack([o.logits[view].detach() for o in outputs]) for view in task.views}
    shared = torch.stack([o.shared.detach() for o in outputs])

    def one(state: Any, logits: Any, shared: Any, given: Any, progress: Any) -> dict[str, torch.Tensor]:
        batch = Batch(ids=batches[0].ids, dense=True, **given)
        return dict(functional_call(items[0], state, (Outputs(logits, shared), batch, progress)))

    progress = torch.full((SIBLINGS,), PROGRESS)
    try:
        found = vmap(one, randomness="error")(
            {**parameters, **buffers}, logits, shared, stacked_batch(batches), progress
        )
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}"[:500], _DENSE) from error
    for row, (item, batch, seen) in enumerate(zip(items, batches, outputs, strict=True)):
        for name, value in item(seen, batch, PROGRESS).items():
            if not abs(float(found[name][row]) - float(value.detach())) <= TOLERANCE * max(
                1.0, abs(float(value.detach()))
            ):
                raise Broken(
                    f"{name}: {float(found[name][row]):g} beside others, {float(value.detach()):g} alone",
                    "use tensor operations alone and nothing of other models",
                )
