"""Where and how the jobs of ``train-ser`` are done, as asked for on its own and by the commands that train many runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from repkit.errors import UsageError
from repkit.runs.executors import EXECUTORS, open_executor
from repkit.workflows.train_ser.batched import AT_ONCE


@dataclass(frozen=True, slots=True)
class Where:
    """Executor and device; what is learnt does not depend on them, but for rounding.

    Attributes:
        executor: ``processes``, ``batched`` (jobs of equal shape as one program in this process), ``dask`` (several
            machines that share the folders), or ``auto``: batched on a GPU, else processes.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
        at_once: most trainings in one program (``batched``).
        scheduler: of ``dask``: address or scheduler file; None for a cluster on this machine.
    """

    executor: str = "auto"
    device: str = "auto"
    at_once: int = AT_ONCE
    scheduler: str | None = None

    def settled(self) -> Where:
        """Return what is meant on this machine, without ``auto``.

        Raises:
            UsageError: an unknown name, a device that is not there, or a scheduler of another executor.
        """
        has_gpu = torch.cuda.is_available()
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"device: {self.device!r}; one of auto, cpu, cuda was expected; name one")
        if self.device == "cuda" and not has_gpu:
            raise UsageError("device cuda: no GPU that torch can use; one was expected; use --device cpu")
        device = ("cuda" if has_gpu else "cpu") if self.device == "auto" else self.device
        if self.executor not in ("auto", "batched", *EXECUTORS):
            raise UsageError(
                f"executor: {self.executor!r}; one of auto, batched, {', '.join(EXECUTORS)} was expected; name one"
            )
        executor = ("batched" if device == "cuda" else "processes") if self.executor == "auto" else self.executor
        if self.scheduler is not None and executor != "dask":
            raise UsageError(
                f"--scheduler {self.scheduler}: the executor is {executor}; dask was expected; use --executor dask"
            )
        return replace(self, executor=executor, device=device)

    def tried(self) -> Where:
        """Return what `settled` does once a scheduler that is named has answered, so that a dry run refuses what the run would.

        Raises:
            UsageError: see `settled`; dask is not installed, or no scheduler answers.
        """
        where = self.settled()
        if where.executor == "dask":
            open_executor(where.executor, 1, where.scheduler)  # a cluster of this machine is not started by that
        return where


__all__ = ["Where"]
