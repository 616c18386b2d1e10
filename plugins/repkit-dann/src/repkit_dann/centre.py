"""Centre loss: items are drawn to the running centre of their class.

Paper: Y. Gao, S. Okada, L. Wang, J. Liu, J. Dang, "Domain-invariant feature learning for cross corpus speech emotion
recognition", ICASSP 2022: 0.5 cross-entropy + 0.5 centre loss, the mean over the batch of the squared distance. The rule
that moves the centres: Y. Wen et al., "A discriminative feature learning approach for deep face recognition", ECCV 2016
(Gao et al. print its step as the new centre, a misprint).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from repkit import api
from repkit_dann.figures import ChanceWatch, collapsed, spread_of, view_figures

NEAR_ZERO = 1e-2
"""Mean squared distance to the centres per dimension that counts as zero."""


class CentreLoss(nn.Module):
    """Squared distance of the shared vector, before dropout, to the centre of its class.

    Centres are buffers: no optimiser moves them. After each of its steps
    ``c_j <- c_j - alpha sum_i (c_j - x_i) / (1 + n_j)`` over the n_j items of class j in the batch. Missing labels count
    nothing, nor do class weights. The paper's weight of 0.5 on a raw vector of 256 is a hundred times that of Wen et al.
    and may draw everything to one point; `diagnose` watches for it, ``normalise`` and ``scale`` are there to help.
    """

    class Config(api.Config):
        """Settings."""

        views: tuple[api.View, ...] = Field(default=(), description="views with centres; empty: the first of the task")
        alpha: float = Field(default=0.5, gt=0, le=1, description="how far a centre moves (Wen et al.)")
        scale: Literal["paper", "wen"] = Field(
            default="paper", description="paper: mean over labelled items of the squared distance; wen: half their sum"
        )
        initial: Literal["zero", "normal"] = Field(default="zero", description="centres before the first batch")
        normalise: bool = Field(default=False, description="scale every vector to length 1 first")

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        unknown = [view for view in config.views if view not in task.views]
        if unknown:
            raise ValueError(
                f"centre: views {', '.join(unknown)}; the task has {', '.join(task.views)}; correct the objective's views"
            )
        self.config = config
        self.views = config.views or (next(iter(task.views)),)
        for view in self.views:
            made = torch.zeros(len(task.views[view]), task.shared_dim)
            self.register_buffer(f"centres_{view}", made.normal_() if config.initial == "normal" else made)
        self._watches = {view: ChanceWatch(view) for view in self.views}

    def centres(self, view: str) -> torch.Tensor:
        """Return a view's centres (C, H)."""
        return self.get_buffer(f"centres_{view}")

    def forward(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, torch.Tensor]:
        """Return one scalar per view, zero with a gradient when no item has its label."""
        vectors = self._vectors(outputs)
        losses = {}
        for view in self.views:
            squared, known = self._squared(view, vectors, batch.targets[view])
            total = (squared * known).sum()
            losses[view] = total / known.sum().clamp(min=1) if self.config.scale == "paper" else 0.5 * total
        return losses

    def update(self, outputs: api.Outputs, batch: api.Batch) -> None:
        """Move the centres towards the items of their class."""
        with torch.no_grad():
            vectors = self._vectors(outputs)
            for view in self.views:
                centres = self.centres(view)
                members = _members(batch.targets[view], len(centres)).to(vectors.dtype)  # (B, C)
                counts = members.sum(dim=0)[:, None]  # (C, 1)
                centres -= self.config.alpha * (counts * centres - members.T @ vectors) / (1.0 + counts)

    def measure(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, float | torch.Tensor]:
        """Return spreads of a batch: overall, and per view within and between classes and around the centres.

        ``within`` is the root mean square distance of items to their class's mean in the batch, ``between`` that of these
        means to their own mean, ``to_centres`` the mean squared distance to the running centres per dimension. What the view's
        logits get right stands beside them.
        """
        vectors = self._vectors(outputs)
        figures: dict[str, float | torch.Tensor] = {**spread_of(vectors)}
        for view in self.views:
            target = batch.targets[view]
            figures |= view_figures(view, outputs.logits[view], target)
            squared, known = self._squared(view, vectors, target)
            if int(known.sum()) < 2:
                continue
            figures[f"{view}_to_centres"] = (squared * known).sum() / known.sum() / vectors.shape[1]
            members = _members(target, len(self.centres(view))).to(vectors.dtype)
            counts = members.sum(dim=0)[:, None]
            means = members.T @ vectors / counts.clamp(min=1.0)  # (C, H), 0 where no item is
            distances = (vectors - members @ means).square().sum(dim=1)
            figures[f"{view}_within"] = ((distances * known).sum() / known.sum()).sqrt()
            present = means[counts[:, 0] > 0]
            if len(present) > 1:
                figures[f"{view}_between"] = (present - present.mean(dim=0)).square().sum(dim=1).mean().sqrt()
        return figures

    def diagnose(self, figures: Mapping[str, float]) -> str | None:
        """Return a warning when items lie on the centres because all lie on one point, or no class is told apart."""
        said = []
        for view, watch in self._watches.items():
            at_chance = watch.warns(figures)
            if figures.get(f"{view}_to_centres", NEAR_ZERO) < NEAR_ZERO:
                said += ["all items have nearly the same shared vector"] if collapsed(figures) else []
                said += [str(watch)] if at_chance else []
        if not said:
            return None
        return (
            f"collapse onto the centres: {' and '.join(dict.fromkeys(said))}; lower the objective's weight or set "
            "normalise = true"
        )

    def _vectors(self, outputs: api.Outputs) -> torch.Tensor:
        return F.normalize(outputs.shared, dim=1) if self.config.normalise else outputs.shared

    def _squared(self, view: str, vectors: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return squared distances (B,) to the centres of the items' classes, and which items have one."""
        known = target != api.MISSING
        own = self.centres(view)[target.clamp(min=0)]  # (B, H)
        return (vectors - own).square().sum(dim=1), known


def _members(target: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Return (B, C) bool, True at an item's class, nowhere where the label is missing."""
    return target[:, None] == torch.arange(n_classes, device=target.device)
