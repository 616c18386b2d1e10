"""Optimisers and precision by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from repkit.config.schema import TrainingTable


def build_optimiser(parameters: Iterable[torch.nn.Parameter], table: TrainingTable) -> torch.optim.Optimizer:
    """Return the optimiser a recipe's training table asks for."""
    rate, decay = table.learning_rate, table.weight_decay
    if table.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    if table.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=table.momentum)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return ``"fp32"`` or ``"bf16"``: auto takes bf16 where the hardware multiplies it faster than fp32.

    On CPUs without AMX tiles bf16 is emulated and many times slower than fp32 (docs/decisions/0006).
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":
        has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return "bf16" if has_amx() else "fp32"
    return "fp32"
