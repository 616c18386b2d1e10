"""A look at what a trained model gives before its job is published: numbers, and those that its saved weights give again.

Source: own design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from repkit.errors import DataError, PluginError
from repkit.plugins import blame
from repkit.plugins.blaming import blaming
from repkit.workflows.train_ser.context import SerContext
from repkit.workflows.train_ser.models import build_model, gap
from repkit.workflows.train_ser.plan import SerJob
from repkit.workflows.train_ser.saved import load_tensors

if TYPE_CHECKING:
    from repkit.workflows.train_ser.jobs import PreparedJob

AT_MOST = 2
"""Utterances that are tried: the look must cost next to nothing beside a training, and what is lost shows in any one."""
ROUNDING = 1e-4
"""Largest difference, relative to the size of the outputs where that exceeds 1, of one batch by the trained model and by a new
one with its weights. The arithmetic is the same, so that there is none but on devices whose sums have no fixed order."""


def check_finite(
    component: str,
    weights: Mapping[str, Any],
    found: Mapping[str, torch.Tensor],
    ids: Sequence[str],
    where: str,
) -> None:
    """Refuse predictions that are no numbers, and say whose fault they are.

    Args:
        component: name of the model.
        weights: tensors by name, or such by corpus.
        found: by what they are the values (n, ...) predicted with the weights.
        ids: n utterances.
        where: job, part and checkpoint, for the message.

    Raises:
        PluginError: values that are not finite from weights that are, by a model that repkit did not bring.
        DataError: other values that are not finite.
    """
    for what, values in found.items():
        wrong = (~torch.isfinite(values.flatten(1)).all(1)).nonzero()[:, 0]
        if not len(wrong):
            continue
        who = blame("repkit.models", component)
        got = (
            f"{where}: {what} of {len(wrong)} of {len(ids)} utterances are not finite, first of {ids[int(wrong[0])]!r}"
        )
        largest = _largest(weights)
        if largest is None:
            raise DataError(
                f"{got}; numbers were expected; the training has diverged, for its weights are not finite: lower the learning "
                f"rate; component: {who}"
            )
        facts = f"the losses of the training were finite, and so are the weights (largest size {largest:.3g})"
        if not who.startswith("plugin repkit "):
            raise PluginError(
                f"{who}: {got}; numbers were expected; {facts}, so that the model is at fault; run `repkit plugins check "
                f"{component}`, mend it or choose another"
            )
        raise DataError(
            f"{got}; numbers were expected; {facts}: where these are large, lower the learning rate; component: {who}"
        )


def _largest(weights: Mapping[str, Any]) -> float | None:
    """Return the largest size of a weight, None where one is not finite."""
    if any(isinstance(value, Mapping) for value in weights.values()):
        sizes = [_largest(one) for one in weights.values()]
        return None if None in sizes else max(size for size in sizes if size is not None)
    largest = 0.0
    for value in weights.values():
        if value.is_floating_point() and value.numel():
            if not torch.isfinite(value).all():
                return None
            largest = max(largest, float(value.abs().max()))
    return largest


def check_saved(
    context: SerContext, prepared: PreparedJob, path: Path, weights: Mapping[str, torch.Tensor], crop: int | None
) -> None:
    """Refuse a trained model that is more than its weights: nobody could apply it as it was scored.

    The first utterances of the test part go through the trained model and through a new one, built from another seed, which
    has loaded the file.

    Args:
        context: of the run.
        prepared: the job, its model trained; it is left with `weights`.
        path: file of the weights.
        weights: what was saved there.
        crop: frames a prediction reads, or None.

    Raises:
        PluginError: the outputs differ by more than rounding, the weights cannot be loaded, or an exception.
        DataError: the file cannot be read.
    """
    job, data = prepared.job, prepared.data
    name = context.recipes[job.condition].model.name
    items = data.items_of(prepared.parts["test"][:AT_MOST])[: 4 * AT_MOST]
    saved = load_tensors(path)
    outputs = []
    with torch.random.fork_rng(devices=[]):
        # from the job's own seed, what is drawn at the start and not kept would be the same
        fresh = build_model(context, SerJob(job.condition, job.seed, f"{job.fold}, loaded"), prepared.task)
        fresh.to(data.data.frames.values.device)
        for model, state in ((prepared.model, weights), (fresh, saved)):
            torch.manual_seed(job.seed)
            with torch.inference_mode(), blaming("repkit.models", name):
                model.load_state_dict(state)
                outputs.append(model.eval()(data.batch(items, crop=crop)))
    trained, loaded = outputs
    gaps = {f"logits of {view}": gap(values, loaded.logits[view]) for view, values in trained.logits.items()}
    gaps["shared"] = gap(trained.shared, loaded.shared)
    where = max(gaps, key=lambda what: gaps[what])
    if gaps[where] > ROUNDING:
        raise PluginError(
            f"{blame('repkit.models', name)}: its weights are not all that decides what it gives: in {job.condition}, seed "
            f"{job.seed}, fold {job.fold} the {where} of utterances of the test part differ by {gaps[where]:.2g} between the "
            f"trained model and a new one that has loaded the weights ({ROUNDING:g} is allowed), so that nobody could apply the "
            "model that was scored; keep whatever training changes in parameters or buffers (register_buffer); run `repkit "
            f"plugins check {name}`, mend it or choose another"
        )
