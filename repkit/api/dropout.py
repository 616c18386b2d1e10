"""Dropout whose masks depend on a key alone: the same on every device and beside any number of sibling models.

Source: own design; the numbers are those of SplitMix64 (Steele, Lea, Flood 2014) at counter and key, so that no generator
has a state and thousands of masks are drawn in a few operations.
"""

from __future__ import annotations

import torch
from torch import nn

_GOLDEN, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_MODULE = 0x2545F4914F6CDD1D


def mixed(key: torch.Tensor, counter: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64's 64 bits for keys and counters (int64, broadcast against each other)."""
    z = key + counter * _GOLDEN
    # a shift of int64 drags the sign along; the mask takes it off again
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _FIRST
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _SECOND
    return z ^ ((z >> 31) & ((1 << 33) - 1))


class Dropout(nn.Module):
    """Zero elements with probability p while training and scale the rest by 1 / (1 - p).

    Use it instead of `torch.nn.Dropout` in models with the capability ``batched``. The engine gives every module a new key
    for every step, made of seed, epoch, step and the module's place; without an engine the masks come from torch's
    generator.

    Args:
        p: drop probability, 0 to below 1; exact to 2^-24.
    """

    key: torch.Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.keyed = False
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x, some of it zero; any shape."""
        if not self.training or self.p == 0:
            return x
        if not self.keyed:
            return nn.functional.dropout(x, self.p, True)
        counter = torch.arange(x.numel(), device=x.device).view(x.shape)
        uniform = (mixed(self.key, counter) >> 40) & ((1 << 24) - 1)
        keep = uniform >= round(self.p * (1 << 24))
        return x * keep.to(x.dtype) * (1 / (1 - self.p))

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"p={self.p}"


def keyed_dropouts(model: nn.Module) -> list[Dropout]:
    """Return the model's `Dropout` modules in their order, set to draw by key; for the engine."""
    found = [module for module in model.modules() if isinstance(module, Dropout)]
    for module in found:
        module.keyed = True
    return found


def module_key(key: torch.Tensor, place: int) -> torch.Tensor:
    """Return the key of the module at a place, from the key (int64, any shape) of a step."""
    return key + place * _MODULE


__all__ = ["Dropout", "keyed_dropouts", "mixed", "module_key"]
