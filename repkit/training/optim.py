"""Optimisers, learning-rate schedules and precision by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from repkit.errors import RepkitWarning

if TYPE_CHECKING:
    from repkit.api import Outputs
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


def resolve_precision(precision: str, device: torch.device, model: torch.nn.Module | None = None) -> str:
    """Return ``"fp32"`` or ``"bf16"``: auto takes bf16 where the hardware multiplies it faster than fp32.

    On CPUs without AMX tiles and on GPUs before Ampere bf16 is emulated and slower than fp32 (docs/decisions/0006). On a GPU
    auto leaves models with torch's own recurrent layers in fp32: under autocast these compute in float16, whatever type is
    asked for, and small gradients vanish there; who asks for bf16 all the same is warned.

    Args:
        precision: ``auto``, ``fp32`` or ``bf16``.
        device: of the arithmetic.
        model: that is trained; None where it is known to keep its recurrent layers out of autocast.
    """
    recurrent = (
        device.type == "cuda" and model is not None and any(isinstance(m, torch.nn.RNNBase) for m in model.modules())
    )
    if precision != "auto":
        if recurrent and precision == "bf16":
            warnings.warn(
                f"training.precision = bf16: the recurrent layers of {type(model).__name__} are computed in float16 on a GPU, "
                "which is what torch makes of them under bf16, and small gradients become zero; fp32 (or auto) was expected; "
                "use it unless you have compared both",
                RepkitWarning,
                stacklevel=2,
            )
        return precision
    if device.type == "cuda":
        with torch.cuda.device(device):  # of several GPUs each is asked for itself
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if has_bf16 and not recurrent else "fp32"
    if device.type == "cpu":
        has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return "bf16" if has_amx() else "fp32"
    return "fp32"


def in_precision(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Return the context of a forward pass: matrix products in bf16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def in_float32(outputs: Outputs) -> Outputs:
    """Return a model's outputs in float32, in which losses are computed; under bf16 a last linear layer gives bfloat16."""
    if all(values.dtype == torch.float32 for values in (*outputs.logits.values(), outputs.shared)):
        return outputs
    logits = {view: values.float() for view, values in outputs.logits.items()}
    return replace(outputs, logits=logits, shared=outputs.shared.float())
