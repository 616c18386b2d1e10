"""What reconstruction loss hides: whether the decoder uses the vector at all.

The same held-out speech is reconstructed from each utterance's own vector, from another's, and from zeros, and is set
beside a copy of the previous frame. A decoder that reads the vector is much worse with another's. Source: own design,
after what prototypes showed (docs/decisions/0008).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repkit.stage_one.data import Pieces
from repkit.stage_one.gru_autoencoder import GruAutoencoder
from repkit.stage_one.recurrent import reverse_valid


@torch.no_grad()
def dev_rmse(model: GruAutoencoder, pieces: Pieces, batch_size: int, device: torch.device) -> float:
    """Return the root mean square error over all values of the pieces, dropout off."""
    model.eval()
    squared = values = 0.0
    for window in pieces.in_order(batch_size):
        for indices in window:
            out = model(*pieces.batch(indices, device))
            squared += float(out.squared_error)
            values += float(out.n_values)
    return math.sqrt(squared / values)


@torch.no_grad()
def vector_use(model: GruAutoencoder, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, float | int]:
    """Return the error with own, another's and zero vectors, and of copying the previous frame.

    Args:
        model: dropout is switched off.
        pieces: held-out speech; another's vector is that of the next piece in order of length (of the window in memory), from
            another utterance wherever there is one.
        batch_size: pieces at once.
        device: of the model.

    Returns:
        ``own``, ``another``, ``zeros``, ``copy_previous`` (RMSE), ``another_over_own`` (their ratio; 1 means that
        the vector is not used) and ``pieces``.
    """
    model.eval()
    squared = {"own": 0.0, "another": 0.0, "zeros": 0.0, "copy_previous": 0.0}
    values = 0.0
    for window in pieces.in_order(batch_size):
        vectors = [model.encode(*pieces.batch(indices, device))[0] for indices in window]
        own = torch.cat(vectors)
        another = own[_others([pieces[int(i)].id for indices in window for i in indices])]
        sizes = [len(indices) for indices in window]
        for indices, ours, theirs in zip(window, own.split(sizes), another.split(sizes), strict=True):
            frames, lengths = pieces.batch(indices, device)
            for name, vector in (("own", ours), ("another", theirs), ("zeros", torch.zeros_like(ours))):
                out = model(frames, lengths, representation=vector)
                squared[name] += float(out.squared_error)
            values += float(out.n_values)
            squared["copy_previous"] += float(_copy_error(frames, lengths, model.config.mask_silence))
    result: dict[str, float | int] = {name: math.sqrt(value / values) for name, value in squared.items()}
    result["another_over_own"] = result["another"] / result["own"] if result["own"] else 1.0
    result["pieces"] = len(pieces)
    return result


def _others(ids: list[str]) -> list[int]:
    """Return for each position the next one (round the end) that belongs to another utterance, else its own."""
    n = len(ids)
    return [next(((i + k) % n for k in range(1, n) if ids[(i + k) % n] != ids[i]), i) for i in range(n)]


def _copy_error(frames: Tensor, lengths: Tensor, mask_silence: bool) -> Tensor:
    """Return the summed squared error of predicting each reversed frame by the one before it, the first by zeros."""
    target = reverse_valid(frames, lengths)
    previous = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1)
    valid = torch.arange(frames.shape[1], device=frames.device)[None, :] < lengths[:, None]
    error = (target - previous) * valid[..., None]
    if mask_silence:
        error = error * (target != -1)
    return error.square().sum()
