"""Optimisers, learning-rate schedules and precision by name."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from repkit.config.schema import TrainingTable


def build_optimiser(
    parameters: Iterable[torch.nn.Parameter], table: TrainingTable, factor: float = 1.0
) -> torch.optim.Optimizer:
    """Return the optimiser a recipe's training table asks for, at `factor` times its learning rate.

    Adam is fused: one pass over each tensor instead of ten, a tenth of its time on large layers.
    """
    rate, decay = table.learning_rate * factor, table.weight_decay
    if table.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate, eps=table.adam_epsilon, weight_decay=decay, fused=True)
    if table.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, eps=table.adam_epsilon, weight_decay=decay, fused=True)
    if table.optimiser == "adadelta":  # rho and epsilon of Zeiler 2012; torch's rho is 0.9
        return torch.optim.Adadelta(parameters, lr=rate, rho=0.95, eps=1e-6, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=table.momentum)


def scheduled_rate(table: TrainingTable, factor: float, progress: float, updates: int) -> float:
    """Return the learning rate before an update.

    Args:
        table: the phase's training table.
        factor: of the step of the learning rate.
        progress: 0 to 1 over the phase.
        updates: made so far in this step.

    Source: ``dann``: Ganin et al. 2016, lr / (1 + 10 p)^0.75; ``time_decay``: Keras' time-based decay, which is what
    "learning rate decay" means in gerczuk2021 (sheet, trap 2).
    """
    rate = table.learning_rate * factor
    if table.schedule == "dann":
        return rate / (1 + 10 * progress) ** 0.75
    if table.schedule == "time_decay":
        return rate / (1 + table.decay * updates)
    return rate


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


def in_precision(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Return the context of a forward pass: matrix products in bf16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
