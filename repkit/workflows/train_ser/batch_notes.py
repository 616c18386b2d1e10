"""What the audit says of fixed batches that hold a single class each."""

from __future__ import annotations

import torch

from repkit.training.batches import Pool, epoch_batches
from repkit.workflows.train_ser.context import is_estimator
from repkit.workflows.train_ser.plan import SerPlan

MANY = 0.2
"""Share of single-class batches from which on the audit speaks of them. Source: own design."""


def batch_notes(plan: SerPlan, lengths: torch.Tensor) -> tuple[str, ...]:
    """Return the audit's note on conditions whose batches, the same in every epoch, often hold one class of the first view.

    Sorted by length, equally long utterances stay in the order of the corpus, which may be that of its labels (RAVDESS by file
    name). A network then learns one class after the other: docs/results/keesing2020.md has what that costs.

    Args:
        plan: what is planned.
        lengths: frames of every utterance (n,) int64.
    """
    if plan.recipe.segments is not None:  # items are segments, cut when the jobs start
        return ()
    view = plan.recipe.labels.views[0]
    place = {u.id: i for i, u in enumerate(plan.utterances)}
    classes = [plan.labels.targets(u)[view] for u in plan.utterances]
    notes = []
    for condition in plan.conditions:
        tables = [] if is_estimator(condition.recipe) else [t for _, t in condition.recipe.resolved_phases()]
        table = next((t for t in tables if t.sampler == "length_sorted"), None)
        if table is None:
            continue
        single = n_batches = 0
        for fold in plan.folds:
            items = torch.tensor([place[i] for i in fold.train])
            step = table.length_step_frames
            pool = Pool(items, -(-lengths[items] // step) * step)
            for batch, _ in epoch_batches([pool], table.sampler, table.batch_size, None, 0, 1):
                single += len({classes[i] for i in batch.tolist()}) == 1
                n_batches += 1
        if single and single >= MANY * n_batches:
            notes.append(
                f"condition {condition.name}: {100 * single / n_batches:.0f} % of its batches hold a single class of {view}, in every "
                "epoch the same: sorted by length, equally long utterances stay in the order of the corpus; to mix them, "
                "--set training.sampler=length_binned, or shuffle"
            )
    return tuple(notes)
