"""Optimisers by name."""

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


def bf16_supported() -> bool:
    """Return whether this machine multiplies bfloat16 in hardware; elsewhere bf16 is several times slower than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported()) if hasattr(torch.cpu, "_is_avx512_bf16_supported") else False


def use_bf16(precision: str) -> bool:
    """Return whether to run under bf16 autocast for a precision of ``auto``, ``fp32`` or ``bf16``."""
    return precision == "bf16" or (precision == "auto" and bf16_supported())
