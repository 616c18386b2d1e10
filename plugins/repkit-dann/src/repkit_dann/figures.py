"""Figures that tell a healthy training from a collapsed one. Source: own design."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from repkit import api

LEAST_SPREAD = 1e-3
"""Mean standard deviation of z per dimension under which all items count as one point."""
LEAST_SHARE = 0.01
"""The same, as a share of the size of z."""
ABOVE_CHANCE = 0.02
"""UAR above chance under which nothing counts as learnt."""
EPOCHS_AT_CHANCE = 3
"""Epochs in a row, the first of a training left out, that are more than a slow start."""


def spread_of(shared: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return how far the items of a batch lie apart, for vectors (B, H); nothing for a single item.

    ``spread`` is the standard deviation over items, averaged over dimensions; ``size`` the root mean square of all values.
    """
    if len(shared) < 2:
        return {}
    return {"spread": shared.std(dim=0, correction=0).mean(), "size": shared.square().mean().sqrt()}


def collapsed(figures: Mapping[str, float]) -> bool:
    """Return whether the spread of an epoch is next to nothing, by itself or beside the size of z."""
    if "spread" not in figures:
        return False
    return figures["spread"] < max(LEAST_SPREAD, LEAST_SHARE * figures.get("size", 0.0))


def recall_figures(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int] | None:
    """Return accuracy, mean recall over the classes present, and their number; None when no item has a label.

    Args:
        logits: (B, C).
        target: (B,) int64, `repkit.api.MISSING` where unknown.
    """
    known = target != api.MISSING
    if not bool(known.any()):
        return None
    truth, right = target[known], (logits.argmax(dim=1) == target)[known].to(logits.dtype)
    totals = torch.bincount(truth, minlength=logits.shape[1])
    hits = torch.bincount(truth, weights=right, minlength=logits.shape[1])
    present = totals > 0
    return right.mean(), (hits[present] / totals[present]).mean(), int(present.sum())


def view_figures(view: str, logits: torch.Tensor, target: torch.Tensor) -> dict[str, float | torch.Tensor]:
    """Return what a batch's logits (B, C) of a view get right: accuracy, UAR, and the UAR of always saying the same.

    The latter is 1 over the classes with an item in the batch. UAR needs two of them, accuracy one labelled item.
    """
    seen = recall_figures(logits, target)
    if seen is None:
        return {}
    accuracy, uar, present = seen
    figures: dict[str, float | torch.Tensor] = {f"{view}_accuracy": accuracy}
    if present > 1:
        figures |= {f"{view}_uar": uar, f"{view}_chance": 1.0 / present}
    return figures


class ChanceWatch:
    """Counts the epochs in a row in which a view was not learnt. Some stand still for a while and then begin."""

    def __init__(self, view: str) -> None:
        self._view = view
        self._epochs = self._at_chance = 0

    def warns(self, figures: Mapping[str, float]) -> bool:
        """Take in the figures of one more epoch; return whether enough of them were at chance."""
        self._epochs += 1
        uar, chance = figures.get(f"{self._view}_uar"), figures.get(f"{self._view}_chance")
        if self._epochs > 1 and uar is not None and chance is not None and uar <= chance + ABOVE_CHANCE:
            self._at_chance += 1
        else:
            self._at_chance = 0
        return self._at_chance >= EPOCHS_AT_CHANCE

    def __str__(self) -> str:
        return f"for {EPOCHS_AT_CHANCE} epochs the training batches' UAR of {self._view} was at chance"
