"""Checks of models (group ``repkit.models``) that hold for every one."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from repkit.api import MODEL_CAPABILITIES
from repkit.errors import did_you_mean
from repkit.testing import common  # noqa: F401 - registers the checks of every class
from repkit.testing.kit import Broken, check
from repkit.testing.material import (
    TOLERANCE,
    changed_entries,
    copy_state,
    difference,
    generator_states,
    make_batch,
    routed,
    same_bits,
    take,
    tensors_of,
    touched_generators,
)
from repkit.testing.model_case import GROUP, ROLES, ModelCase, loss_of, rows_of, run, train_steps


@check(GROUP)
def capabilities_are_known(case: ModelCase) -> None:
    """Capabilities are a frozenset of names of repkit.api.MODEL_CAPABILITIES, and an instance states those of its settings.

    Prevents: a misspelt capability, for want of which every condition with embeddings is refused.
    """
    if not isinstance(case.declared, frozenset):
        raise Broken(
            f"{case.declared!r}, a {type(case.declared).__name__}", 'write capabilities = frozenset({"vectors"}), say'
        )
    unknown = sorted(set(map(str, case.declared)) - set(MODEL_CAPABILITIES))
    if unknown:
        raise Broken(
            f"{unknown[0]!r}{did_you_mean(unknown[0], MODEL_CAPABILITIES)}", f"use {', '.join(MODEL_CAPABILITIES)}"
        )
    stated = getattr(case.make(), "capabilities", frozenset())
    if set(stated) != set(case.declared):
        raise Broken(
            f"an instance states {sorted(stated)}, its class {sorted(case.declared)}",
            "let a class method capabilities_for(config) decide, and set self.capabilities to what it returns",
        )


@check(GROUP)
def logits_of_every_view(case: ModelCase) -> None:
    """There are finite float32 logits (B, C) for every view of the task, for one item as for many.

    Prevents: a run that fails when its first predictions are written, or probabilities that are not numbers.
    """
    for _, task, model, batch in case.each_mode():
        for items in (batch, take(batch, [0], trim=not task.n_frames)):
            logits = dict(run(model, items).logits)
            # a view that has parts of its own may be reached by its route only
            for view in case.routes(model, items):
                logits.setdefault(view, run(model, routed(items, view)).logits.get(view))
            if set(logits) != set(task.views):
                raise Broken(
                    f"logits for {sorted(logits)}, the task has {sorted(task.views)}", "make a head for every view"
                )
            for view, found in logits.items():
                _expect(f"logits[{view!r}]", found, (len(items.ids), len(task.views[view])))


@check(GROUP)
def shared_is_a_vector_per_item(case: ModelCase) -> None:
    """`shared` is the finite float32 vector (B, H) that the heads read, H the same for every batch.

    Prevents: domain heads, probes and projections of representations that have nothing to work on.
    """
    for _, task, model, batch in case.each_mode():
        shared = run(model, batch).shared
        width = shared.shape[-1] if isinstance(shared, torch.Tensor) and shared.ndim else 0
        _expect("shared", shared, (len(batch.ids), width))
        few = take(batch, [1, 2], trim=not task.n_frames)
        _expect("shared of a smaller batch", run(model, few).shared, (2, width))


def _expect(what: str, found: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(found, torch.Tensor):
        raise Broken(f"{what} is a {type(found).__name__}", "return a tensor")
    if tuple(found.shape) != shape:
        raise Broken(f"{what} has the shape {tuple(found.shape)}, {shape} was expected", "return a row for each item")
    if found.dtype != torch.float32:
        raise Broken(f"{what} is {found.dtype}", "return .float()")
    if not torch.isfinite(found).all():
        raise Broken(f"{what} holds values that are not finite", "look for divisions by zero and logarithms of it")


@check(GROUP, unless=("padding_sensitive",))
def padding_changes_nothing(case: ModelCase) -> None:
    """An utterance gives the same outputs alone and in any batch.

    Prevents: scores that depend on which utterances happen to share a batch, and on the batch size.
    """
    for mode, task, model, batch in case.each_mode():
        together = run(model, batch)
        for row in range(len(batch.ids)):
            alone = run(model, take(batch, [row], trim=not task.n_frames))
            gap, where = difference(alone, rows_of(together, [row]))
            if not gap <= TOLERANCE:
                raise Broken(
                    f"{where} of an item of {int(batch.lengths[row])} frames differs by {gap:.2g} between alone and in "
                    f"a batch of {len(batch.ids)} with {batch.frames.shape[1]} frames, fusion {mode}",
                    "leave padded frames out by batch.mask or batch.lengths in pooling, attention, normalisation and "
                    "recurrence; published behaviour that cannot is declared as the capability 'padding_sensitive'",
                )


@check(GROUP)
def batch_order_changes_nothing(case: ModelCase) -> None:
    """Items in another order give the same outputs in that order.

    Prevents: outputs that depend on the place of an item in its batch.
    """
    order = [3, 0, 5, 1, 4, 2]
    for mode, _, model, batch in case.each_mode():
        turned = run(model, take(batch, order, trim=False))
        gap, where = difference(turned, rows_of(run(model, batch), order))
        if not gap <= TOLERANCE:
            raise Broken(
                f"{where} differs by {gap:.2g} when the batch is put in another order, fusion {mode}",
                "let every item's outputs depend on its own row alone",
            )


@check(GROUP, unless=("segments",))
def a_single_frame_is_enough(case: ModelCase) -> None:
    """An utterance of one frame has finite outputs.

    Prevents: a run that ends in its last fold because of one short utterance.
    """
    for _, task, model, _ in case.each_mode():
        for items in (make_batch(task, 1, (1,)), make_batch(task, 1, (1, 40, 2))):
            for name, found in tensors_of(run(model, items)).items():
                if not torch.isfinite(found).all():
                    raise Broken(f"{name} of one frame is not finite", "pad what is shorter than the first layer needs")


@check(GROUP)
def evaluation_is_deterministic(case: ModelCase) -> None:
    """In eval mode the same batch gives the same bits, whatever the random generators hold.

    Prevents: scores that cannot be computed again from the stored weights.
    """
    for mode, _, model, batch in case.each_mode():
        first = run(model, batch)
        torch.manual_seed(12345)
        differs = same_bits(first, run(model, batch))
        if differs:
            raise Broken(
                f"{differs} changes from one evaluation to the next, fusion {mode}",
                "draw random numbers only where self.training is True",
            )


@check(GROUP)
def evaluation_leaves_the_generators_alone(case: ModelCase) -> None:
    """An evaluation draws nothing from the global generators of random, numpy and torch.

    Prevents: trainings that change when dev is scored more often.
    """
    for _, _, model, batch in case.each_mode():
        before = generator_states()
        run(model, batch)
        moved = touched_generators(before)
        if moved:
            raise Broken(f"{' and '.join(moved)} moved", "draw only where self.training is True")


@check(GROUP)
def evaluation_leaves_the_state_alone(case: ModelCase) -> None:
    """An evaluation changes no parameter and no buffer.

    Prevents: test utterances that leak into the model through running statistics.
    """
    for _, _, model, batch in case.each_mode():
        before = copy_state(model)
        run(model, batch)
        changed = changed_entries(before, model.state_dict())
        if changed:
            raise Broken(f"{', '.join(changed[:5])} changed", "update buffers where self.training is True only")


@check(GROUP)
def weights_survive_saving(case: ModelCase) -> None:
    """Weights saved with safetensors and loaded into a fresh model give the same bits.

    Prevents: a run whose stored weights do not reproduce its predictions.
    """
    for mode, task, model, batch in case.each_mode():
        train_steps(model, batch, 1)  # so that running statistics and the like are part of it
        wanted = run(model, batch)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
            fresh = case.build(task, mode, seed=99)
            fresh.load_state_dict(load_file(path))
        differs = same_bits(wanted, run(fresh, batch))
        if differs:
            raise Broken(
                f"{differs} differs after loading, fusion {mode}",
                "register everything that the outputs depend on as a parameter or a buffer",
            )


@check(GROUP, unless=("estimator",))
def every_parameter_gets_a_gradient(case: ModelCase) -> None:
    """Every trainable parameter gets a finite gradient that is not zero.

    Prevents: layers that were written and are never trained.
    """
    for mode, task, model, _ in case.each_mode():
        silent = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for seed, training in ((0, True), (0, False), (1, True), (1, False), (2, True), (2, False)):
            batch = case.batch(task, seed)
            for items in (batch, *(routed(batch, view) for view in case.routes(model, batch))):
                model.train(training)
                model.zero_grad(set_to_none=True)
                outputs = model(items)
                (loss_of(outputs, items) + outputs.shared.square().mean()).backward()
                silent -= _with_gradient(model)
            if not silent:
                break
        if silent:
            raise Broken(
                f"{len(silent)} parameters get none, first {sorted(silent)[0]}, fusion {mode}",
                "use them on the way to the logits, or do not create them for this task",
            )


def _with_gradient(model: nn.Module) -> set[str]:
    found = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if not torch.isfinite(parameter.grad).all():
            raise Broken(f"the gradient of {name} is not finite", "look for roots, norms and logarithms near zero")
        if bool((parameter.grad != 0).any()):
            found.add(name)
    return found


@check(GROUP)
def parameter_groups_cover_everything_once(case: ModelCase) -> None:
    """`parameter_groups()` names every parameter exactly once, under shared, adapter, norm or head.

    Prevents: a phase that trains what it should leave alone, or leaves out what it should train.
    """
    for _, _, model, _ in case.each_mode():
        groups = model.parameter_groups()
        unknown = sorted(set(groups) - set(ROLES))
        if unknown:
            raise Broken(f"a group {unknown[0]!r}{did_you_mean(unknown[0], ROLES)}", f"use {', '.join(ROLES)}")
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        listed = [id(parameter) for parameters in groups.values() for parameter in parameters]
        absent = [name for key, name in names.items() if key not in listed]
        twice = sorted({names.get(key, "one") for key in listed if listed.count(key) > 1})
        foreign = [key for key in listed if key not in names]
        got = [f"{len(absent)} parameters in no group, first {absent[0]}"] if absent else []
        got += [f"{twice[0]} more than once"] if twice else []
        got += [f"{len(foreign)} that are no parameters of the model"] if foreign else []
        if got:
            raise Broken("; ".join(got), "put each of self.parameters() into one group")


@check(GROUP)
def the_same_seed_gives_the_same_training(case: ModelCase) -> None:
    """Torch's seed alone decides the initial weights and a training step.

    Prevents: a run that gives other numbers when it is repeated.
    """
    for mode, task, _, batch in case.each_mode():
        states = []
        for other_seed in (1, 2):
            random.seed(other_seed)
            np.random.seed(other_seed)
            model = case.build(task, mode, seed=5)
            torch.manual_seed(6)
            train_steps(model, batch, 1)
            states.append(copy_state(model))
        changed = changed_entries(*states)
        if changed:
            raise Broken(f"{changed[0]} differs between two runs of the same seed", "draw from torch's generator only")


@check(GROUP, unless=("estimator",))
def training_steps_work(case: ModelCase) -> None:
    """Two training steps keep the loss finite and change it.

    Prevents: a model that cannot learn at all.
    """
    for mode, _, model, batch in case.each_mode():
        before = float(loss_of(run(model, batch), batch))
        train_steps(model, batch, 2)
        after = float(loss_of(run(model, batch), batch))
        if not np.isfinite([before, after]).all() or after == before:
            raise Broken(
                f"the loss went from {before:g} to {after:g}, fusion {mode}", "see that gradients reach weights"
            )


@check(GROUP, unless=("estimator",))
def a_batch_of_one_can_be_trained_on(case: ModelCase) -> None:
    """A training batch may hold a single item.

    Prevents: a training that ends with the last batch of an epoch, which can be that small.
    """
    for _, task, model, batch in case.each_mode():
        train_steps(model, take(batch, [0], trim=not task.n_frames), 1)
        wrong = [name for name, value in model.state_dict().items() if not torch.isfinite(value.float()).all()]
        if wrong:
            raise Broken(
                f"{wrong[0]} is not finite afterwards",
                "let batch normalisation use its running statistics where the batch has no variance",
            )
