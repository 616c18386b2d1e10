"""Attention over time with one learned weight vector."""

from __future__ import annotations

import torch
from torch import nn


def attentive_pool(
    frames: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Average positions with softmax attention over the valid ones.

    Args:
        frames: (B, T, D) float.
        scores: (B, T) unnormalised attention.
        mask: (B, T) bool, True where valid, each row with at least one; None takes every position, padding included.

    Returns:
        Pooled (B, D) and attention weights (B, T), zero where masked.

    Paper: Neumann & Vu, ICASSP 2019, eq. 1. Differs: positions that hold padding only are masked, unless mask is None.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores.float(), dim=1)
    return torch.einsum("bt,btd->bd", weights.to(frames.dtype), frames), weights


class AttentivePooling(nn.Module):
    """a_i = softmax_i(w . x_i), c = sum_i a_i x_i; one weight vector, no bias, no tanh (Neumann & Vu 2019, eq. 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return (B, D) from frames (B, T, D) and mask (B, T) or None."""
        return attentive_pool(frames, self.score(frames).squeeze(-1), mask)[0]
