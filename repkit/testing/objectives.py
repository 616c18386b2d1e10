"""Checks of objectives (group ``repkit.objectives``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from repkit.api import DOMAINS, Outputs
from repkit.errors import did_you_mean
from repkit.testing import common  # noqa: F401 - registers the checks of every class
from repkit.testing.kit import Broken, NotApplicable, check
from repkit.testing.losses import loss_gap, number, total
from repkit.testing.material import changed_entries, copy_state, make_batch, take
from repkit.testing.objective_case import GROUP, PROGRESS, ObjectiveCase, losses_of, without_labels

TOLERANCE = 1e-5


@check(GROUP)
def losses_are_named_finite_scalars(case: ObjectiveCase) -> None:
    """An objective returns at least one loss; each has a name and is a finite float32 tensor without axes.

    Prevents: a training that stops after hours, or minimises something else than was meant.
    """
    _, objective, batch, outputs = case.scene()
    for items in (batch, replace(batch, weights=torch.linspace(0.5, 1.5, len(batch.ids)))):
        losses = objective(outputs, items, PROGRESS)
        if not isinstance(losses, Mapping) or not losses:
            raise Broken(f"{losses!r}", "return a dict of at least one loss")
        for name, value in losses.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise Broken(f"{name!r}: a {type(value).__name__}", "return tensors by name")
            if value.ndim or value.dtype != torch.float32:
                raise Broken(f"{name}: {value.dtype} of shape {tuple(value.shape)}", "sum or average it to one float32")
            if not torch.isfinite(value):
                raise Broken(f"{name} is {value.item()}", "look for divisions by zero and logarithms of it")


@check(GROUP)
def missing_labels_count_nothing(case: ObjectiveCase) -> None:
    """An item whose labels are MISSING changes no loss, by what it is or by being there.

    Prevents: unlabelled audio of the test part that is learnt from as if it had labels, and class indices of -100.
    """
    task, objective, batch, outputs = case.scene()
    hidden = [1, 4]
    batch = without_labels(batch, hidden)
    wanted = losses_of(objective, outputs, batch)
    other = case.outputs(task, batch, seed=5)
    place = torch.zeros(len(batch.ids), dtype=torch.bool)
    place[hidden] = True
    mixed = Outputs(
        {view: torch.where(place[:, None], other.logits[view], values) for view, values in outputs.logits.items()},
        torch.where(place[:, None], other.shared, outputs.shared),
    )
    gap, where = loss_gap(wanted, losses_of(objective, mixed, batch))
    if not gap <= TOLERANCE:
        raise Broken(
            f"{where} changes by {gap:.2g} with the outputs of items without labels",
            "leave out items whose target (or domain) is repkit.api.MISSING",
        )
    rows = [row for row in range(len(batch.ids)) if row not in hidden]
    few = Outputs({view: values[rows] for view, values in outputs.logits.items()}, outputs.shared[rows])
    gap, where = loss_gap(wanted, losses_of(objective, few, take(batch, rows)))
    if not gap <= TOLERANCE:
        raise Broken(
            f"{where} changes by {gap:.2g} when items without labels are left out of the batch",
            "average over the items that have a label, not over the batch",
        )


@check(GROUP)
def a_batch_without_labels_is_harmless(case: ObjectiveCase) -> None:
    """A batch in which all labels are missing gives zero with a gradient, not NaN.

    Prevents: a training that ends with the first batch of a corpus that lacks a view.
    """
    _, objective, batch, outputs = case.scene()
    losses = losses_of(objective, outputs, without_labels(batch))
    for name, value in losses.items():
        if not number(value) == 0.0:
            raise Broken(f"{name} is {number(value):g}", "divide by the number of labels, at least 1 (clamp(min=1))")
        if not value.requires_grad:
            raise Broken(f"{name} has no gradient", "compute it from the outputs (a sum over no items has one)")
    total(losses).backward()
    for what, leaf in (*outputs.logits.items(), ("shared", outputs.shared)):
        if leaf.grad is not None and not torch.isfinite(leaf.grad).all():
            raise Broken(f"the gradient of {what} is not finite", "mask before the logarithm, root or division")


@check(GROUP)
def absent_classes_are_harmless(case: ObjectiveCase) -> None:
    """Logits of -1e30, those of classes that an item's corpus lacks, leave losses and gradients ordinary numbers.

    Prevents: a loss of 1e29 as soon as a model has heads per corpus.
    """
    _, objective, batch, outputs = case.scene()
    logits = {}
    for view, values in outputs.logits.items():
        places = torch.arange(values.shape[1])[None, :]
        # the class after the target's is the one that the corpus lacks
        absent = places == (batch.targets[view][:, None] + 1) % values.shape[1]
        logits[view] = values.masked_fill(absent, -1e30)
    losses = losses_of(objective, Outputs(logits, outputs.shared), batch)
    for name, value in losses.items():
        if not abs(number(value)) < 1e6:
            raise Broken(f"{name} is {number(value):g}", "leave out classes whose logits are at or below -1e29")
    total(losses).backward()
    for view, leaf in outputs.logits.items():
        if leaf.grad is not None and not torch.isfinite(leaf.grad).all():
            raise Broken(f"the gradient of logits[{view!r}] is not finite", "leave out classes at or below -1e29")


@check(GROUP)
def gradients_reach_the_model(case: ObjectiveCase) -> None:
    """The sum of the losses has a finite gradient, not zero, in the logits or in the shared vector.

    Prevents: a loss that is printed and trains nothing.
    """
    _, objective, batch, outputs = case.scene()
    total(losses_of(objective, outputs, batch)).backward()
    found = {f"logits[{view!r}]": leaf.grad for view, leaf in outputs.logits.items()} | {"shared": outputs.shared.grad}
    for what, gradient in found.items():
        if gradient is not None and not torch.isfinite(gradient).all():
            raise Broken(f"the gradient of {what} is not finite", "look for roots, norms and logarithms near zero")
    if not any(gradient is not None and bool((gradient != 0).any()) for gradient in found.values()):
        raise Broken("none at all", "compute the losses from outputs, without detach or item")


@check(GROUP)
def own_parameters_are_trained(case: ObjectiveCase) -> None:
    """Every parameter of the objective gets a finite gradient that is not zero.

    Prevents: domain heads that stay as they were drawn, so that the domains cannot be told apart from the start.
    """
    _, objective, batch, outputs = case.scene()
    silent = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    if not silent:
        raise NotApplicable("it has no parameters of its own")
    for progress in (0.1, 0.5, 1.0):
        objective.zero_grad(set_to_none=True)
        total(losses_of(objective, outputs, batch, progress)).backward()
        for name, parameter in objective.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise Broken(f"the gradient of {name} is not finite", "look for roots, norms and logarithms near zero")
            if parameter.grad is not None and bool((parameter.grad != 0).any()):
                silent.discard(name)
    if silent:
        raise Broken(
            f"{len(silent)} get none, first {sorted(silent)[0]}",
            "use them, or make what is updated by hand a buffer (register_buffer)",
        )


@check(GROUP)
def the_same_seed_gives_the_same_losses(case: ObjectiveCase) -> None:
    """Torch's seed alone decides the losses; in eval mode nothing is drawn.

    Prevents: a run that gives other numbers when it is repeated.
    """
    task, objective, batch, outputs = case.scene()
    for what, other in (("the same objective", objective), ("a fresh one of the same seed", case.build(task))):
        gap, where = loss_gap(losses_of(objective, outputs, batch), losses_of(other, outputs, batch))
        if gap:
            raise Broken(f"{where} differs by {gap:.2g} in {what}", "draw from torch's generator only, keep no state")
    objective.eval()
    first = dict(objective(outputs, batch, PROGRESS))
    torch.manual_seed(12345)
    gap, where = loss_gap(first, dict(objective(outputs, batch, PROGRESS)))
    if gap:
        raise Broken(
            f"{where} differs by {gap:.2g} in eval mode", "draw random numbers where self.training is True only"
        )


@check(GROUP)
def progress_runs_from_start_to_end(case: ObjectiveCase) -> None:
    """Losses are finite at progress 0.0 and at 1.0.

    Prevents: a schedule that divides by zero in the first batch, or in the last.
    """
    _, objective, batch, outputs = case.scene()
    for progress in (0.0, 1.0):
        wrong = [
            name for name, value in losses_of(objective, outputs, batch, progress).items() if not torch.isfinite(value)
        ]
        if wrong:
            raise Broken(f"{wrong[0]} at progress {progress} is not finite", "guard the ends of the schedule")


@check(GROUP)
def a_task_of_one_view_is_enough(case: ObjectiveCase) -> None:
    """An objective works with whatever views the task has, one alone included.

    Prevents: an objective that can only be used with the recipe it was written for.
    """
    for view in ("emotion", "arousal", "valence"):
        task = case.task(views=(view,))
        batch = make_batch(task)
        for name, value in losses_of(case.build(task), case.outputs(task, batch), batch).items():
            if not torch.isfinite(value):
                raise Broken(f"{name} is not finite with the view {view} alone", "go through the views of the task")


@check(GROUP)
def outputs_and_batch_are_left_alone(case: ObjectiveCase) -> None:
    """An objective changes neither the outputs nor the batch it is given.

    Prevents: objectives whose losses depend on the order in which the recipe lists them.
    """
    _, objective, batch, outputs = case.scene()
    with torch.no_grad():
        outputs = Outputs({view: values.clone() for view, values in outputs.logits.items()}, outputs.shared.clone())
    given = {**outputs.logits, "shared": outputs.shared, "frames": batch.frames, "lengths": batch.lengths}
    given |= {f"targets of {view}": target for view, target in batch.targets.items()}
    given |= {f"domains of {name}": domain for name, domain in batch.domains.items()}
    before = {name: value.clone() for name, value in given.items()}
    losses_of(objective, outputs, batch)
    changed = changed_entries(before, given)
    if changed or list(batch.targets) != list(case.task().views):
        raise Broken(
            f"{', '.join(changed) or 'the set of targets'} changed", "work on copies (masked_fill, not masked_fill_)"
        )


@check(GROUP, needs=("domains",))
def domains_are_known(case: ObjectiveCase) -> None:
    """`domains(config)` can be asked of the class and names some of repkit.api.DOMAINS.

    Prevents: a run that fails when its data are laid out, or a domain that is silently never there.
    """
    unknown = [name for name in case.wanted if name not in DOMAINS]
    if unknown:
        raise Broken(f"{unknown[0]!r}{did_you_mean(str(unknown[0]), DOMAINS)}", f"use some of {', '.join(DOMAINS)}")


@check(GROUP, needs=("domains",))
def absent_domains_are_left_out(case: ObjectiveCase) -> None:
    """A domain that the task lacks, because training hears one class of it only, is left out without harm.

    Prevents: a recipe that cannot be used on a single corpus, where corpus and language have nothing to tell apart.
    """
    for kept in ((), case.wanted[:1]):
        sizes = {name: n for name, n in case.task().domains.items() if name in kept}
        task = case.task(domains=False)
        task = replace(task, domains=sizes)
        batch = make_batch(task)
        objective, outputs = case.build(task), case.outputs(task, batch)
        for name, value in losses_of(objective, outputs, batch).items():
            if not torch.isfinite(value):
                raise Broken(f"{name} is not finite with the domains {list(kept)}", "go through task.domains only")


@check(GROUP, needs=("measure",))
def measures_are_finite_numbers(case: ObjectiveCase) -> None:
    """`measure` returns finite numbers or tensors without axes by name, and changes no state.

    Prevents: a log that cannot be written or averaged, and figures that change the training they describe.
    """
    _, objective, batch, outputs = case.scene()
    before = copy_state(objective)
    with torch.no_grad():
        figures = objective.measure(outputs, batch, PROGRESS)
    if not isinstance(figures, Mapping):
        raise Broken(f"a {type(figures).__name__}", "return a dict of numbers by name")
    for name, value in figures.items():
        single = value.ndim == 0 if isinstance(value, torch.Tensor) else isinstance(value, int | float)
        if not single or not math.isfinite(number(value)):
            raise Broken(f"{name}: {value!r}", "return one finite number for each name")
    changed = changed_entries(before, objective.state_dict())
    if changed:
        raise Broken(f"{changed[0]} changed", "change buffers in update only")


@check(GROUP, needs=("update",))
def updates_leave_parameters_alone(case: ObjectiveCase) -> None:
    """`update` changes buffers only, keeps them finite, and learns nothing from items without labels.

    Prevents: weights that are moved twice, by the optimiser and beside it, and centres that drift towards test audio.
    """
    _, objective, batch, outputs = case.scene()
    with torch.no_grad():
        before = copy_state(objective)
        objective.update(outputs, without_labels(batch))
        idle = changed_entries(before, objective.state_dict())
        before = {name: parameter.clone() for name, parameter in objective.named_parameters()}
        objective.update(outputs, batch)
    moved = changed_entries(before, dict(objective.named_parameters()))
    if moved:
        raise Broken(f"the parameter {moved[0]} changed", "register what update changes as a buffer")
    wrong = [name for name, value in objective.named_buffers() if not torch.isfinite(value.float()).all()]
    if wrong:
        raise Broken(f"the buffer {wrong[0]} is not finite", "guard divisions by the number of items of a class")
    if idle:
        raise Broken(
            f"{idle[0]} changed by a batch without labels", "leave out items whose target is repkit.api.MISSING"
        )


@check(GROUP, needs=("diagnose",))
def diagnoses_are_sentences(case: ObjectiveCase) -> None:
    """`diagnose` takes an epoch's losses and figures, some of which may be absent, and returns a sentence or None.

    Prevents: a run that fails at the end of an epoch over a remark.
    """
    _, objective, batch, outputs = case.scene()
    losses = {name: number(value) for name, value in losses_of(objective, outputs, batch).items()}
    measured = {}
    if "measure" in case.traits:
        with torch.no_grad():
            measured = {name: number(value) for name, value in objective.measure(outputs, batch, PROGRESS).items()}
    for figures in ({**losses, **measured}, losses, {}):
        said = objective.diagnose(figures)
        if said is not None and not (isinstance(said, str) and said.strip()):
            raise Broken(f"{said!r} of {sorted(figures)}", "return a sentence, or None when all is well")
