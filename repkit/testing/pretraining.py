"""Checks of stage-one objectives (group ``repkit.pretraining``)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from repkit.api import EncoderStates, PretrainBatch
from repkit.testing import common  # noqa: F401 - registers the checks of every class
from repkit.testing.kit import Broken, check
from repkit.testing.losses import loss_gap, total
from repkit.testing.material import changed_entries, copy_state, generator_states, touched_generators
from repkit.testing.pretraining_case import GROUP, PretrainingCase, padded

TOLERANCE = 1e-5


@check(GROUP)
def losses_are_named_finite_scalars(case: PretrainingCase) -> None:
    """An objective returns at least one loss; each has a name without a dot and is a finite float32 tensor without axes.

    Prevents: a training that stops after hours, or minimises something else than was meant.
    """
    losses = case.losses(case.make(), case.batch())
    if not losses:
        raise Broken("no loss", "return a dict of at least one loss")
    for name, value in losses.items():
        if not isinstance(name, str) or "." in name or not isinstance(value, torch.Tensor):
            raise Broken(f"{name!r}: a {type(value).__name__}", "return tensors by name, without dots in the names")
        if value.ndim or value.dtype != torch.float32:
            raise Broken(f"{name}: {value.dtype} of shape {tuple(value.shape)}", "sum or average it to one float32")
        if not torch.isfinite(value):
            raise Broken(f"{name} is {value.item()}", "look for divisions by zero and logarithms of it")


@check(GROUP)
def padding_changes_nothing(case: PretrainingCase) -> None:
    """In eval mode the losses are the same however far the batch is padded.

    Prevents: an encoder that learns how long the longest piece of a batch is.
    """
    objective, batch = case.make().eval(), case.batch()
    gap, where = loss_gap(case.losses(objective, batch), case.losses(objective, padded(batch, 9)))
    if not gap <= TOLERANCE:
        raise Broken(
            f"{where} changes by {gap:.2g} with 9 more padded frames", "average over batch.mask or batch.lengths alone"
        )


@check(GROUP)
def short_pieces_are_harmless(case: PretrainingCase) -> None:
    """Pieces of one and two frames give finite losses and gradients, alone and beside longer ones.

    Prevents: a training of days that ends with the first cough in the corpus.
    """
    for lengths in ((1,), (1, 2), (30, 1, 2)):
        objective, batch = case.make(), case.batch(lengths)
        case.encoder.zero_grad(set_to_none=True)
        losses = case.losses(objective, batch)
        for name, value in losses.items():
            if not torch.isfinite(value):
                raise Broken(f"{name} is {value.item()} for lengths {lengths}", "divide by counts of at least 1")
        if total(losses).requires_grad:
            total(losses).backward()
        _finite_gradients(case, objective, f"for lengths {lengths}")


@check(GROUP)
def silence_is_harmless(case: PretrainingCase) -> None:
    """Pieces whose frames are all equal, as in digital silence, and without a voiced frame give finite losses and gradients.

    Prevents: a training that ends with the first recording that begins with zeros.
    """
    objective, batch = case.make(), case.batch()
    still = torch.full_like(batch.frames, -2.0) * batch.mask[..., None]
    batch = PretrainBatch(still, batch.lengths, torch.zeros_like(batch.mask))
    case.encoder.zero_grad(set_to_none=True)
    losses = case.losses(objective, batch)
    for name, value in losses.items():
        if not torch.isfinite(value):
            raise Broken(f"{name} is {value.item()}", "guard roots, norms and divisions by a deviation")
    if total(losses).requires_grad:
        total(losses).backward()
    _finite_gradients(case, objective, "for frames that are all equal")


def _finite_gradients(case: PretrainingCase, objective: nn.Module, when: str) -> None:
    for name, parameter in (*case.encoder.named_parameters(), *objective.named_parameters()):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise Broken(f"the gradient of {name} is not finite {when}", "guard roots, norms and divisions")


@check(GROUP)
def gradients_reach_the_encoder(case: PretrainingCase) -> None:
    """The sum of the losses has a finite gradient, not zero, in the encoder's states or in the vector.

    Prevents: heads that learn while the encoder stays as it was drawn.
    """
    objective, batch = case.make(), case.batch()
    case.encoder.zero_grad(set_to_none=True)
    summed = total(case.losses(objective, batch))
    if summed.requires_grad:
        summed.backward()
    _finite_gradients(case, objective, "")
    found = [parameter.grad for parameter in case.encoder.parameters()]
    if not any(gradient is not None and bool((gradient != 0).any()) for gradient in found):
        raise Broken("none at all", "compute the losses from states, without detach or item")


@check(GROUP)
def own_parameters_are_trained(case: PretrainingCase) -> None:
    """Every parameter of the objective gets a gradient that is not zero.

    Prevents: heads that stay as they were drawn, and parameters that a distributed training waits for in vain.
    """
    objective, batch = case.make(), case.batch()
    silent = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    for progress in (0.1, 0.5, 1.0):
        objective.zero_grad(set_to_none=True)
        total(case.losses(objective, batch, progress)).backward() if silent else None
        for name, parameter in objective.named_parameters():
            if parameter.grad is not None and bool((parameter.grad != 0).any()):
                silent.discard(name)
    if silent:
        raise Broken(
            f"{len(silent)} get none, first {sorted(silent)[0]}", "use them, or make what is not trained a buffer"
        )


@check(GROUP)
def the_same_seed_gives_the_same_losses(case: PretrainingCase) -> None:
    """Torch's seed alone decides the losses; in eval mode nothing is drawn.

    Prevents: a run that ends with other weights when it is interrupted and continued.
    """
    batch = case.batch()
    objective = case.make()
    wanted = case.losses(objective, batch)
    for what, other in (("the same objective", objective), ("a fresh one of the same seed", case.make())):
        gap, where = loss_gap(wanted, case.losses(other, batch))
        if gap:
            raise Broken(f"{where} differs by {gap:.2g} in {what}", "draw from torch's generator only, keep no state")
    objective.eval()
    states = case.states(case.given(objective, batch), batch.lengths)
    first = dict(objective(batch, states, 0.5))
    torch.manual_seed(12345)
    gap, where = loss_gap(first, dict(objective(batch, states, 0.5)))
    if gap:
        raise Broken(
            f"{where} differs by {gap:.2g} in eval mode", "draw random numbers where self.training is True only"
        )


@check(GROUP)
def saved_and_loaded_it_goes_on(case: PretrainingCase) -> None:
    """An objective that is given the saved state of another one, and is not calibrated, returns the same losses.

    Prevents: constants that are lost when a training is interrupted and continued.
    """
    batch, objective = case.batch(), case.make().eval()
    torch.manual_seed(99)
    other = case.component(case.config, case.task)
    other.load_state_dict(copy_state(objective))
    gap, where = loss_gap(case.losses(objective, batch), case.losses(other.eval(), batch))
    if gap:
        raise Broken(f"{where} differs by {gap:.2g}", "keep what is measured in buffers (register_buffer)")


@check(GROUP)
def progress_runs_from_start_to_end(case: PretrainingCase) -> None:
    """Losses are finite at progress 0.0 and at 1.0.

    Prevents: a schedule that divides by zero in the first update, or in the last.
    """
    for progress in (0.0, 1.0):
        for name, value in case.losses(case.make(), case.batch(), progress).items():
            if not torch.isfinite(value):
                raise Broken(f"{name} at progress {progress} is not finite", "guard the ends of the schedule")


@check(GROUP)
def batch_and_states_are_left_alone(case: PretrainingCase) -> None:
    """An objective changes neither the batch nor the states it is given.

    Prevents: losses that depend on the order in which the recipe lists its objectives.
    """
    objective, batch = case.make(), case.batch()
    given = case.given(objective, batch)
    with torch.no_grad():
        found = case.states(given.clone(), batch.lengths)
    states = EncoderStates(tuple(layer.clone() for layer in found.layers), found.vector.clone(), found.frames.clone())
    parts = {
        "frames": batch.frames,
        "lengths": batch.lengths,
        "voiced": batch.voiced,
        "vector": states.vector,
        "what was read": states.frames,
    }
    parts |= {f"layer {place}": layer for place, layer in enumerate(states.layers)}
    before = {name: value.clone() for name, value in parts.items()}
    objective(batch, states, 0.5)
    changed = changed_entries(before, parts)
    if changed:
        raise Broken(f"{', '.join(changed)} changed", "work on copies (masked_fill, not masked_fill_)")


@check(GROUP, needs=("corrupt",))
def corrupted_frames_fit(case: PretrainingCase) -> None:
    """`corrupt` returns other frames of the same shape, finite, zero where padded, and leaves what it is given alone.

    Prevents: an encoder that is trained on padding, and objectives that spoil the frames of those after them.
    """
    objective, batch = case.make(), case.batch()
    before = batch.frames.clone()
    found = case.given(objective, batch)
    if found.shape != before.shape or not torch.isfinite(found).all():
        raise Broken(
            f"shape {tuple(found.shape)} for {tuple(before.shape)}, or values that are not finite",
            "return (B, T, F) like the frames",
        )
    if not torch.equal(batch.frames, before):
        raise Broken("the frames it was given changed", "work on a copy (masked_fill, not masked_fill_)")
    if bool((found * ~batch.mask[..., None]).any()):
        raise Broken("padded frames are not zero", "leave frames outside of lengths alone")
    if torch.equal(found, before):
        raise Broken("nothing is corrupted", "change at least something in every batch")


@check(GROUP, needs=("corrupt",))
def corruption_is_drawn_from_its_generator(case: PretrainingCase) -> None:
    """`corrupt` draws from the generator it is given alone: its state decides the result, padding does not.

    Prevents: a training that does not go on as it was, and a validation loss that is another one each time.
    """
    objective, batch = case.make(), case.batch()
    before = generator_states()
    first, second = case.given(objective, batch), case.given(objective, batch)
    touched = touched_generators(before)
    if touched or not torch.equal(first, second):
        raise Broken(
            f"it draws from {', '.join(touched) or 'elsewhere'}", "pass generator= to every function that draws"
        )
    longer = case.given(objective, padded(batch, 9))[:, : batch.frames.shape[1]]
    if not torch.equal(longer, first):
        raise Broken("other frames are corrupted when the batch is padded further", "draw piece by piece, by lengths")


@check(GROUP, needs=("calibrate",))
def calibration_changes_buffers_only(case: PretrainingCase) -> None:
    """`calibrate` keeps finite numbers in buffers, changes no parameter, draws nothing, and forgets when called again.

    Prevents: weights that depend on how often a run was started.
    """
    torch.manual_seed(0)
    objective = case.component(case.config, case.task)
    weights = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    before = generator_states()
    states = []
    with torch.no_grad():
        for seeds in ((3, 4), (8,), (3, 4)):
            objective.calibrate(case.batch(seed=seed) for seed in seeds)
            states.append(copy_state(objective))
    touched = touched_generators(before)
    if touched:
        raise Broken(f"it draws from {', '.join(touched)}", "go through the batches as they come")
    moved = changed_entries(weights, dict(objective.named_parameters()))
    if moved:
        raise Broken(f"the parameter {moved[0]} changed", "register what is measured as a buffer")
    wrong = [name for name, value in objective.named_buffers() if not torch.isfinite(value.float()).all()]
    if wrong:
        raise Broken(f"the buffer {wrong[0]} is not finite", "guard divisions by counts and deviations")
    kept = changed_entries(states[0], states[2])
    if kept:
        raise Broken(f"{kept[0]} remembers an earlier call", "begin with fresh sums in every call")


@check(GROUP)
def voices_may_be_missing(case: PretrainingCase) -> None:
    """Frames without any word on where a voice was heard (`voiced` None) give finite losses.

    Prevents: an objective that can be used with one frontend only.
    """
    objective = case.make()
    for name, value in case.losses(objective, replace(case.batch(), voiced=None)).items():
        if not torch.isfinite(value):
            raise Broken(f"{name} is {value.item()}", "look whether batch.voiced is None before it is read")
