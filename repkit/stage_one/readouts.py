"""From states over time to one vector per utterance: readouts by name, over chosen layers and valid frames only.

The same functions serve training (objectives that read the pooled vector) and ``repkit embed``, for every recurrent encoder.
Sources: ``last`` Neumann & Vu 2019; ``attentive`` Okabe, Koshinaka and Shinoda, "Attentive statistics pooling for deep speaker
embedding", Interspeech 2018; the rest is common practice. Axes: B batch, T frames, H units of a layer, W of all chosen ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from repkit.stage_one.recurrent import pad

Readout = Literal["last", "mean", "mean_sd", "mean_sd_delta", "attentive"]
"""Ways to make a vector of states:

* ``last``: the state at the last valid frame (of a backward direction, at the first);
* ``mean``: over time;
* ``mean_sd``: and the standard deviation over time;
* ``mean_sd_delta``: and the standard deviation of the difference of states two frames apart;
* ``attentive``: mean and standard deviation weighted by attention, which must have been trained.
"""
Layers = Literal["last", "all"]
"""The top layer alone, or the states of all layers side by side, lowest first."""

LAG = 2
"""Frames between the states whose difference is taken: with windows twice as long as the shift these share no sample."""
LEAST_VARIANCE = 1e-10
"""Variances below are raised to it: a root has no slope at zero."""
MAX_FRAMES = 128_000
"""Most frames, padding included, that are encoded at once (5 minutes of a 64-utterance batch)."""
PARTS = {"last": 1, "mean": 1, "mean_sd": 2, "mean_sd_delta": 3, "attentive": 2}
"""Numbers per unit of a readout's vector."""


class Attention(nn.Module):
    """The weights of attentive statistics: softmax over time of v . tanh(W h + b).

    Args:
        size: W, width of the states.
        hidden: width of the hidden layer.
    """

    def __init__(self, size: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return weights (B, T, 1) that sum to 1 over the valid frames; states (B, T, W), mask (B, T)."""
        scores = self.score(torch.tanh(self.hidden(states))).float()
        return scores.masked_fill(~mask[..., None], -1e30).softmax(dim=1)


def choose(layers: Sequence[Tensor], which: Layers) -> list[Tensor]:
    """Return the layers that are meant."""
    return list(layers) if which == "all" else [layers[-1]]


def vector_size(sizes: Sequence[int], kind: str, which: Layers) -> int:
    """Return D of a readout of layers of these sizes."""
    return PARTS[kind] * sum(sizes if which == "all" else sizes[-1:])


def pool(
    layers: Sequence[Tensor],
    lengths: Tensor,
    kind: str,
    which: Layers,
    bidirectional: bool = False,
    attention: Attention | None = None,
) -> Tensor:
    """Return one vector (B, D) float32 per utterance.

    Args:
        layers: states (B, T, H) of each layer, whatever where padded.
        lengths: (B,) int64 valid frames, at least 1.
        kind: see `Readout`.
        which: see `Layers`.
        bidirectional: whether the second half of each layer's states ran backwards in time.
        attention: of ``attentive``.

    Returns:
        the means of all chosen units, then their deviations, then those of their differences, as far as the kind has them.
    """
    if kind == "last":
        return torch.cat([_last(states, lengths, bidirectional) for states in choose(layers, which)], dim=-1)
    x = torch.cat([states.float() for states in choose(layers, which)], dim=-1)
    mask = torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]
    if kind == "attentive":
        if attention is None:
            raise ValueError("attentive readout without attention")
        weights = attention(x, mask)
        return torch.cat(_moments(x, weights), dim=-1)
    mean, deviation = _moments(x, (mask / lengths[:, None])[..., None])
    if kind == "mean":
        return mean
    if kind == "mean_sd":
        return torch.cat([mean, deviation], dim=-1)
    both = mask[:, LAG:]
    weights = (both / both.sum(1, keepdim=True).clamp(min=1))[..., None]
    _, moving = _moments(x[:, LAG:] - x[:, :-LAG], weights)
    return torch.cat([mean, deviation, moving], dim=-1)


def _last(states: Tensor, lengths: Tensor, bidirectional: bool) -> Tensor:
    end = states[torch.arange(len(states), device=states.device), lengths - 1].float()
    if not bidirectional:
        return end
    half = states.shape[-1] // 2
    return torch.cat([end[:, :half], states[:, 0, half:].float()], dim=-1)


def _moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and standard deviation over time of (B, T, W); weights (B, T, 1) are 0 where padded."""
    # what is padded may hold anything, even what times 0 is no number
    x = x.masked_fill(weights == 0, 0.0)
    mean = (x * weights).sum(1)
    variance = ((x - mean[:, None]).square() * weights).sum(1)
    return mean, variance.clamp_min(LEAST_VARIANCE).sqrt()


def sequences(layers: Sequence[Tensor], lengths: Tensor, which: Layers) -> list[Tensor]:
    """Return the states of the valid frames, (T_i, W) float32 of each utterance."""
    x = torch.cat([states.float() for states in choose(layers, which)], dim=-1)
    return [row[:length] for row, length in zip(x, lengths.tolist(), strict=True)]


@torch.no_grad()
def read_in_batches(
    frames: Sequence[np.ndarray],
    read: Callable[[Tensor, Tensor], Sequence[Tensor]],
    batch_size: int,
    device: torch.device,
) -> list[np.ndarray]:
    """Return what `read` makes of each (T_i, F) array, float32, in batches of similar length.

    Args:
        frames: of each utterance.
        read: from padded frames (B, T, F) and lengths (B,) to one tensor per utterance.
        batch_size: utterances at once, fewer where they are long.
        device: of the frames given to `read`.
    """
    order = np.argsort([-len(f) for f in frames], kind="stable").tolist()
    found: list[np.ndarray] = [np.empty(0)] * len(frames)
    start = 0
    while start < len(order):
        # one very long recording must not make 63 others as long
        chosen = order[start : start + max(1, min(batch_size, MAX_FRAMES // len(frames[order[start]])))]
        start += len(chosen)
        padded, lengths = pad([frames[i] for i in chosen], device)
        for i, values in zip(chosen, read(padded, lengths), strict=True):
            found[i] = values.float().cpu().numpy()
    return found
