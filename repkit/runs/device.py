"""The device that is meant by a name, settled in one place for training, embedding and prediction. Source: own design."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from repkit.errors import RepkitError, UsageError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
"""Names of devices; ``cuda`` is the first GPU that torch sees, ``cuda:N`` one of several, ``mps`` that of an Apple machine."""


def settle_device(name: str = "auto", where: str = "--device") -> torch.device:
    """Return the device of a name, and let float32 be float32 on it (`keep_float32`).

    To be called in the process that computes: what is settled holds for that process and the machine it runs on.

    Args:
        name: one of `DEVICES`; ``auto`` is a CUDA GPU where torch finds one, else the CPU.
        where: option or setting by which it was given, for messages.

    Raises:
        UsageError: an unknown name, or a device that is not there.
    """
    import torch

    check_device_name(name, where)
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= n_gpus:
        there = f"{n_gpus} GPU{'s' if n_gpus > 1 else ''}" if n_gpus else "no GPU"
        raise UsageError(
            f"{where} {name}: torch finds {there} on {platform.node()}; {'one of that number' if n_gpus else 'one'} was "
            "expected; use auto or cpu, or look at the environment variable CUDA_VISIBLE_DEVICES, which says before the start "
            "of a command which GPUs it may see"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            f"{where} mps: torch finds no Apple GPU on {platform.node()}; one was expected; use auto or cpu"
        )
    device = torch.device(name)
    keep_float32(device)
    return device


def check_device_name(name: str, where: str = "--device") -> None:
    """Refuse a word that names no device; whether the device is there is left open.

    Raises:
        UsageError: it is none of `DEVICES`.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise UsageError(f"{where} {name!r}: one of {', '.join(DEVICES)} was expected; name one")


def keep_float32(device: torch.device) -> None:
    """Let this process compute float32 on a GPU in float32.

    PyTorch's convolutions and recurrent layers take TF32 there unless told otherwise: factors of 10 bits of mantissa, so that
    ``fp32`` would give other numbers on a GPU than on a CPU under one name. Its matrix products are left as they are, in
    float32 by default. Whoever prefers speed asks for bf16.
    """
    if device.type == "cuda":
        import torch

        torch.backends.cudnn.allow_tf32 = False


@contextmanager
def within_memory(where: str, lower: str) -> Iterator[None]:
    """Turn an exhausted memory into an error that names the settings to lower.

    Args:
        where: what needed the memory.
        lower: the settings, as in "lower --workers or training.batch_size".

    Raises:
        RepkitError: the memory of this machine or of its GPU was exhausted; any other exception is left as it is.
    """
    try:
        yield
    except Exception as error:
        from repkit.plugins.blaming import is_out_of_memory  # not above: the command line starts without numpy

        if not is_out_of_memory(error):
            raise
        told = str(error).partition("\n")[0] or type(error).__name__
        raise RepkitError(
            f"{where}: out of memory ({told}); work that fits was expected; {lower}, and start the same command again: what is "
            "finished is kept"
        ) from error


__all__ = ["DEVICES", "check_device_name", "keep_float32", "settle_device", "within_memory"]
