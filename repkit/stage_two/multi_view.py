"""The multi-view loss: emotion, arousal and valence learnt together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from repkit import api


class MultiView(nn.Module):
    """L = (1 - alpha - beta) CE_emotion + alpha CE_arousal + beta CE_valence.

    Missing labels are masked: a view's loss is the (weighted) mean over the utterances that have its label, zero with a
    gradient when none has. The weight of a view that the task lacks goes to the first view of the task.

    Paper: Neumann & Vu, ICASSP 2019, alpha = beta = 0.2. Differs: missing labels masked (MSP-IMPROV has NaN ratings).
    """

    capabilities = frozenset({"batched"})

    class Config(api.Config):
        """Weights of the dimensional views."""

        alpha: float = Field(default=0.2, ge=0, le=1, description="weight of arousal")
        beta: float = Field(default=0.2, ge=0, le=1, description="weight of valence")

        @model_validator(mode="after")
        def _at_most_one(self) -> MultiView.Config:
            if self.alpha + self.beta > 1:
                raise ValueError(f"alpha + beta must not exceed 1, got {self.alpha + self.beta:g}")
            return self

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config = config
        wanted = {"arousal": config.alpha, "valence": config.beta}
        self.weights = {view: wanted.get(view, 0.0) for view in task.views}
        first = next(iter(task.views))
        self.weights[first] += 1.0 - sum(self.weights.values())

    def forward(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, torch.Tensor]:
        """Return one weighted scalar per view; their sum is the loss."""
        losses = {}
        # a model with parts per view gives the logits of the views it was asked for; their weights then sum to 1
        shown = {view: weight for view, weight in self.weights.items() if view in outputs.logits}
        total = sum(shown.values()) or 1.0
        for view, weight in shown.items():
            logits, target = outputs.logits[view], batch.targets[view]
            each = F.cross_entropy(logits, target, ignore_index=api.MISSING, reduction="none")  # (B,), 0 where missing
            counts = (target != api.MISSING).to(each.dtype)
            if batch.weights is not None:
                counts = counts * batch.weights
            losses[view] = weight / total * (each * counts).sum() / counts.sum().clamp(min=1e-12)
        return losses
