"""What several objectives need: columns by name, means over valid frames, a refusal of encoders that see the answer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from repkit import api

Columns = Literal["mel", "all"]
"""Which columns are to be predicted: spectral bands, or whatever the frontend makes."""


def chosen_columns(task: api.PretrainTask, which: Columns) -> list[int]:
    """Return the places of the columns that are meant.

    Raises:
        UsageError: the frontend has no spectral bands.
    """
    found = [place for place, name in enumerate(task.columns) if which == "all" or name.startswith("mel_")]
    if not found:
        raise api.UsageError(
            f"columns = {which!r}: the frontend makes {', '.join(task.columns)}; columns mel_000, mel_001 ... were expected; "
            "use columns = 'all' or another frontend"
        )
    return found


def need_causal_states(task: api.PretrainTask, name: str) -> None:
    """Refuse an encoder whose states know the frames that are to be predicted.

    Raises:
        UsageError: it is bidirectional.
    """
    if task.bidirectional:
        raise api.UsageError(
            f"objective {name}: the encoder is bidirectional, so that its states know the frames to predict; an encoder of "
            "one direction was expected; set training.bidirectional = false or use masked_spans"
        )


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (B, T) values where mask (B, T) is True as a float32 scalar; 0 with a gradient where it never is."""
    kept = values.float().masked_fill(~mask, 0.0)
    return kept.sum() / mask.sum().clamp(min=1)


def frame_error(predicted: Tensor, target: Tensor, power: int) -> Tensor:
    """Return |predicted - target| ** power of (B, T, F), averaged over the columns to (B, T) float32."""
    error = predicted.float() - target.float()
    return (error.abs() if power == 1 else error.square()).mean(-1)


def central_difference(values: Tensor) -> Tensor:
    """Return (x[t + 1] - x[t - 1]) / 2 along axis 1 for t = 1 ... T - 2; the shape is two steps shorter."""
    return (values[:, 2:] - values[:, :-2]) / 2


class Constants(torch.nn.Module):
    """Mean and deviation of some targets over the training speech, measured once and kept with the checkpoints.

    Args:
        size: number of targets.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self._sums = torch.zeros(3, size, dtype=torch.float64)

    def add(self, values: Tensor, counted: Tensor) -> None:
        """Take in values (N, size) where counted (N, size) is True."""
        # to the CPU first: not every device has float64
        kept = torch.where(counted, values, 0.0).cpu().double()
        self._sums += torch.stack([counted.sum(0).cpu().double(), kept.sum(0), kept.square().sum(0)])

    def close(self) -> None:
        """Set the buffers from what was taken in; a target that never varies keeps deviation 1, one never met mean 0."""
        n, total, squares = self._sums
        mean = total / n.clamp(min=1)
        variance = (squares / n.clamp(min=1) - mean.square()).clamp(min=0)
        deviation = torch.where(variance > 1e-8, variance.sqrt(), 1.0)
        self.mean.copy_(mean.to(self.mean))
        self.deviation.copy_(deviation.to(self.deviation))
        self._sums = torch.zeros_like(self._sums)

    def forward(self, values: Tensor) -> Tensor:
        """Return values (..., size) standardised; what lies more than ten deviations off is brought back to ten."""
        return ((values - self.mean) / self.deviation).clamp(-10.0, 10.0)
