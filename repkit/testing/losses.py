"""How checks read and compare the losses that objectives of either stage return."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch


def number(value: Any) -> float:
    """Return a number or a tensor without axes as a float."""
    return float(value.detach()) if isinstance(value, torch.Tensor) else float(value)


def total(losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the sum of named losses, a tensor without axes."""
    return torch.stack(list(losses.values())).sum()


def loss_gap(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, str]:
    """Return the largest difference of two sets of losses, relative to `one` where that exceeds 1, and its name.

    The gap is infinite where the names differ or a value is not a finite number.
    """
    if one.keys() != other.keys():
        return math.inf, f"the losses {sorted(one)} against {sorted(other)}"
    worst, where = 0.0, ""
    for name, value in one.items():
        a, b = number(value), number(other[name])
        gap = abs(a - b) / max(1.0, abs(a))
        if math.isnan(gap):  # every later gap would seem larger, and replace it
            return math.inf, name
        if gap > worst:
            worst, where = gap, name
    return worst, where
