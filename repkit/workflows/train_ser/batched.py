"""The jobs of a run on one device: those of equal shape as one program, the others one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from repkit.errors import DataError, RepkitError
from repkit.plugins.blaming import blaming
from repkit.runs.device import settle_device, within_memory
from repkit.runs.executors import Event, prepare_process
from repkit.training.course import Fitted, NotFiniteError, Training
from repkit.training.stacked import fit_stacked, stack_key, why_alone
from repkit.workflows.train_ser.conditions import capabilities_of
from repkit.workflows.train_ser.context import SerContext, is_estimator
from repkit.workflows.train_ser.jobs import LOWER, PreparedJob, naming_components, prepare_job, publish_job, run_job
from repkit.workflows.train_ser.plan import SerJob

AT_ONCE = 64
"""Trainings in one program, by default."""


def run_batched(
    context: SerContext,
    jobs: Sequence[SerJob],
    on_event: Callable[[Event], None],
    at_once: int = AT_ONCE,
) -> None:
    """Run every job in this process, on the context's device.

    Args:
        context: shared by all jobs.
        jobs: what to do.
        on_event: told what happens; a job's number stands where other executors give the process.
        at_once: most trainings in one program.

    Raises:
        RepkitError: a job failed; those that shared its program are finished first, and nothing done is lost.
    """
    prepare_process()
    settle_device(context.device)
    with within_memory(f"{context.device}, up to {at_once} trainings at once", LOWER):
        _Batched(context, on_event, at_once).run(jobs)


class _Batched:
    """See `run_batched`."""

    def __init__(self, context: SerContext, on_event: Callable[[Event], None], at_once: int) -> None:
        self.context, self.on_event, self.at_once = context, on_event, at_once
        self.numbers: dict[SerJob, int] = {}
        self.prepared: dict[SerJob, PreparedJob] = {}
        self.waiting: dict[Hashable, deque[tuple[SerJob, Training]]] = {}
        self.failed: list[RepkitError] = []

    def run(self, jobs: Sequence[SerJob]) -> None:
        """Run the jobs of one condition after those of another: they seldom share a program."""
        self.numbers = {job: number for number, job in enumerate(jobs)}
        for condition in dict.fromkeys(job.condition for job in jobs):
            recipe = self.context.recipes[condition]
            stackable = not is_estimator(recipe) and "batched" in capabilities_of(recipe)
            for job in jobs:
                if job.condition == condition:
                    (self._prepare if stackable else self._alone)(job)
            while self.waiting:
                key = next(iter(self.waiting))
                self._together(condition, self.waiting.pop(key))
            if self.failed:
                raise self.failed[0]
            self.context.drop(("data", condition))  # what the next condition trains on needs the room

    def _tell(self, kind: str, job: SerJob, value: Any = None) -> None:
        self.on_event(Event(kind, job, self.numbers[job], value))  # type: ignore[arg-type]

    def _alone(self, job: SerJob) -> None:
        self._tell("started", job)
        try:
            summary = run_job(self.context, job, lambda epoch: self._tell("epoch", job, epoch))
        except RepkitError as error:
            self._tell("failed", job, error)
            raise
        self._tell("done", job, summary)

    def _prepare(self, job: SerJob) -> None:
        prepared = prepare_job(self.context, job)
        training = next(prepared.trainings)  # type: ignore[arg-type]
        if why_alone(training) is not None:
            self._alone(job)  # builds it again, from the same seed
            return
        self.prepared[job] = prepared
        self._queue(job, training)

    def _queue(self, job: SerJob, training: Training) -> None:
        self.waiting.setdefault(stack_key(training), deque()).append((job, training))

    def _together(self, condition: str, queue: deque[tuple[SerJob, Training]]) -> None:
        recipe = self.context.recipes[condition]

        def draw() -> Any:
            while queue and not self.failed:
                job, training = queue.popleft()
                self._tell("started", job)
                yield job, training

        device = torch.device(self.context.device)
        with blaming("repkit.models", recipe.model.name):
            fit_stacked(draw(), self.at_once, lambda job, epoch: self._tell("epoch", job, epoch), self._end, device)

    def _end(self, job: Any, end: Fitted | NotFiniteError) -> None:
        prepared = self.prepared[job]
        try:
            if isinstance(end, NotFiniteError):
                with naming_components(self.context.recipes[job.condition]):
                    raise end
            try:
                following = prepared.trainings.send(end)  # type: ignore[union-attr]
            except StopIteration as stop:
                summary = publish_job(self.context, prepared, stop.value)
                del self.prepared[job]
                self._tell("done", job, summary)
                return
            why = why_alone(following)
            if why is not None:
                raise DataError(
                    f"condition {job.condition!r}: a later phase cannot share a program with other jobs ({why}); phases of "
                    "one kind were expected; use --executor processes"
                )
            self._queue(job, following)
        except RepkitError as error:
            self.failed.append(error)
            self._tell("failed", job, error)
