"""Where and how the jobs of ``train-ser`` are done, as asked for on its own and by the commands that train many runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from repkit.config.schema import SerRecipe
from repkit.errors import UsageError
from repkit.runs.device import check_device_name, settle_device
from repkit.runs.executors import EXECUTORS, open_executor
from repkit.workflows.train_ser.batched import AT_ONCE
from repkit.workflows.train_ser.conditions import capabilities_of
from repkit.workflows.train_ser.context import is_estimator


@dataclass(frozen=True, slots=True)
class Where:
    """Executor and device; what is learnt does not depend on them, but for rounding.

    Attributes:
        executor: ``processes``, ``batched`` (jobs of equal shape as one program in this process), ``dask`` (several
            machines that share the folders), or ``auto``: batched on a GPU for models that can be, else processes.
        device: one of `repkit.runs.device.DEVICES`; ``auto`` is a GPU where there is one and the models are networks.
        at_once: most trainings in one program (``batched``).
        scheduler: of ``dask``: address or scheduler file; None for a cluster on this machine.
    """

    executor: str = "auto"
    device: str = "auto"
    at_once: int = AT_ONCE
    scheduler: str | None = None

    def settled(self, recipes: Sequence[SerRecipe] = ()) -> Where:
        """Return what is meant on this machine, without ``auto``.

        A device for the workers of a dask scheduler stays as it was asked for: every worker settles it for its own machine.

        Args:
            recipes: of all conditions, where they are known; models that are fitted in one go need no GPU.

        Raises:
            UsageError: an unknown name, a device that is not there, or a scheduler of another executor.
        """
        check_device_name(self.device)
        if self.executor not in ("auto", "batched", *EXECUTORS):
            raise UsageError(
                f"executor: {self.executor!r}; one of auto, batched, {', '.join(EXECUTORS)} was expected; name one"
            )
        if self.scheduler is not None and self.executor != "dask":
            raise UsageError(
                f"--scheduler {self.scheduler}: the executor is {self.executor}; dask was expected; use --executor dask"
            )
        if self.scheduler is not None:
            return self
        # torch's arithmetic is not theirs, so that a GPU would only keep the cores from them
        classical = bool(recipes) and all(is_estimator(recipe) for recipe in recipes)
        device = "cpu" if classical else str(settle_device(self.device))
        executor = self.executor
        if executor == "auto":
            stackable = not recipes or any("batched" in capabilities_of(recipe) for recipe in recipes)
            executor = "batched" if device != "cpu" and stackable else "processes"
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
