"""The two further losses that the paper's code offers beside the class-weighted cross-entropy (core's ``multi_view``).

All take the views that the model gave logits for and the batch has labels of, each view with weight 1. Missing labels
count nothing; ``Batch.weights`` (class weights) weigh the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from repkit import api

_HAS = -1e29
"""Logits below belong to classes that the item's corpus does not have."""


class _ByView(nn.Module):
    """A weighted mean over the labelled items of each view."""

    def __init__(self, config: api.Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config, self.task = config, task

    def forward(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, torch.Tensor]:
        """Return one scalar per view; zero with a gradient where no item has a label."""
        losses = {}
        for view in self.task.views:
            if view not in outputs.logits or view not in batch.targets:
                continue
            logits, target = outputs.logits[view], batch.targets[view]
            counts = (target != api.MISSING).to(logits.dtype)
            each = self.each(view, logits, target.clamp(min=0))  # (B,)
            if batch.weights is not None:
                counts = counts * batch.weights
            losses[view] = torch.where(counts > 0, each * counts, 0.0).sum() / counts.sum().clamp(min=1e-12)
        return losses

    def each(self, view: str, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss (B,) of logits (B, C) against classes (B,)."""
        raise NotImplementedError


class Focal(_ByView):
    """-alpha (1 - p)^gamma log p of the true class: items that are right already count less.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017; gerczuk2021 sheet: gamma 2, alpha 0.25.
    Alpha is the same for all classes.
    """

    class Config(api.Config):
        """Gamma and alpha."""

        gamma: float = Field(default=2.0, ge=0)
        alpha: float = Field(default=0.25, gt=0)

    config: Config

    def each(self, view: str, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the focal loss (B,)."""
        log_p = -F.cross_entropy(logits, target, reduction="none")
        return -self.config.alpha * (1 - log_p.exp()).clamp(min=1e-7) ** self.config.gamma * log_p


class SoftOrdinal(_ByView):
    """Cross-entropy against a target that spreads to near classes, for arousal and valence; plain for emotion.

    The target of class t is proportional to exp(-|i - t|) over the classes i that the item's corpus has.
    Source: Diaz & Marathe, "Soft labels for ordinal regression", CVPR 2019, with the absolute distance. The sheet names
    the loss without its formula.
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            sharpness: factor of the distance; the larger, the nearer to plain cross-entropy.
        """

        sharpness: float = Field(default=1.0, gt=0)

    config: Config

    def each(self, view: str, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss (B,)."""
        if view == "emotion":  # its classes have no order
            return F.cross_entropy(logits, target, reduction="none")
        places = torch.arange(logits.shape[1], device=logits.device)
        near = -self.config.sharpness * (places[None] - target[:, None]).abs().to(logits.dtype)  # (B, C)
        has = logits > _HAS
        soft = torch.softmax(near.masked_fill(~has, float("-inf")), dim=1)
        return -(soft * F.log_softmax(logits, dim=1).masked_fill(~has, 0.0)).sum(1)
