"""Run independent jobs, one single-threaded process per core.

Two OpenMP threads on two busy cores are slower than two processes of one thread each (up to 14x), so a job never uses
more than one thread and the machine is filled with jobs instead. Source: own design.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any, Literal, Protocol

from repkit.errors import RepkitError, UsageError, did_you_mean
from repkit.runs.device import within_memory
from repkit.runs.worker_start import enter_worker, start_workers, stop_workers

_SILENCE_S = 0.5
"""After so many seconds without news, or with news of others alone, a process that has ended is told of."""


class JobFunction(Protocol):
    """What does one job; must be importable by name, so that another process can run it."""

    def __call__(self, context: Any, job: Any, on_epoch: Callable[[int], None]) -> Any:
        """Do the job and return a small summary."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    Attributes:
        kind: started, epoch, done or failed.
        job: the job.
        worker: number of the process.
        value: the epoch, the summary, or the error.
    """

    kind: Literal["started", "epoch", "done", "failed"]
    job: Hashable
    worker: int
    value: Any = None


class Executor(Protocol):
    """What runs a list of jobs somewhere and returns when all are done; `processes` and `open_executor` make one."""

    def __call__(
        self, function: JobFunction, context: Any, jobs: Sequence[Hashable], on_event: Callable[[Event], None]
    ) -> None:
        """Run every job; see `run_jobs` for the arguments and for what a failed job does."""
        ...


def processes(n_workers: int) -> Executor:
    """Return the executor of this machine: `run_jobs` with so many processes.

    Raises:
        UsageError: fewer than one.
    """
    _check_workers(n_workers)

    def execute(
        function: JobFunction, context: Any, jobs: Sequence[Hashable], on_event: Callable[[Event], None]
    ) -> None:
        run_jobs(function, context, jobs, n_workers, on_event)

    return execute


EXECUTORS = ("processes", "dask")
"""Names that `open_executor` knows."""


def open_executor(name: str, workers: int, scheduler: str | None = None) -> Executor:
    """Return an executor by its name.

    Args:
        name: ``processes`` (this machine) or ``dask`` (dask.distributed: several machines).
        workers: processes on this machine; dask uses it only without a scheduler, for a cluster of its own.
        scheduler: for dask, address (``tcp://host:8786``) or path of the scheduler file; None for a local cluster.

    Raises:
        UsageError: unknown name, fewer than one worker, a scheduler where there can be none, or dask.distributed is not
            installed.
    """
    if name not in EXECUTORS:
        raise UsageError(
            f"executor: {name!r}; one of {', '.join(EXECUTORS)} was expected{did_you_mean(name, EXECUTORS)}; name one"
        )
    _check_workers(workers)
    if name == "processes":
        if scheduler is not None:
            raise UsageError(
                f"executor processes: scheduler {scheduler!r} given; processes of this machine have no scheduler; "
                "leave it out or choose the executor dask"
            )
        return processes(workers)
    from repkit.runs.dask_executor import on_dask

    return on_dask(scheduler, workers)


def _check_workers(n_workers: int) -> None:
    if n_workers < 1:
        raise UsageError(f"workers: {n_workers}; at least 1 was expected; give the number of processes")


def prepare_process() -> None:
    """Prepare a process that trains; before any parallel region.

    One thread; denormal numbers flushed to zero (3x on recurrent layers); and freed memory kept (`keep_freed_memory`).
    """
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()


KEPT_PRIMITIVES = 32
"""Compiled kernels that oneDNN keeps, each for one shape; its default of 1024 fills memory where every batch has another length."""


def keep_freed_memory() -> bool:
    """Let the C library keep large blocks that were freed, instead of asking the kernel for zeroed pages at every step.

    A step of large activations then takes up to half the time (docs/decisions/0013); the process keeps its peak of memory.
    Only glibc has this; return whether it was set. Kernels of shapes long past would lie between the freed blocks and keep
    them from being used again, so that oneDNN is told to keep few, unless ``ONEDNN_PRIMITIVE_CACHE_CAPACITY`` is set; it
    reads that once, before the first convolution.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRIMITIVES))
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    most_mapped_blocks, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    return bool(mallopt(most_mapped_blocks, 0)) and bool(mallopt(trim_threshold, -1))


def default_workers(n_jobs: int) -> int:
    """Return the number of processes for n_jobs jobs: one per core this process may use, never more than jobs."""
    return max(1, min(usable_cores(), n_jobs))


def usable_cores() -> int:
    """Return the cores that this process may use: fewer than there are by its affinity or its container's quota."""
    import joblib

    return int(joblib.cpu_count())


def run_jobs(
    function: JobFunction,
    context: Any,
    jobs: Sequence[Hashable],
    n_workers: int,
    on_event: Callable[[Event], None],
) -> None:
    """Run every job, in this process (one worker) or in several that take from one queue.

    Args:
        function: does one job.
        context: shared by all jobs; its tensors should lie in shared memory.
        jobs: what to do, longest first if they differ.
        n_workers: processes.
        on_event: told what happens, in this process.

    Raises:
        RepkitError: a job failed; the others that were already running are finished first, and nothing done is lost.
    """
    if not jobs:
        return
    n_workers = min(n_workers, len(jobs))
    if n_workers == 1:
        _run_here(function, context, jobs, on_event)
    else:
        _run_in_processes(function, context, jobs, n_workers, on_event)


def _run_here(function: JobFunction, context: Any, jobs: Sequence[Hashable], on_event: Callable[[Event], None]) -> None:
    prepare_process()
    for job in jobs:
        on_event(Event("started", job, 0))
        try:
            summary = function(context, job, lambda epoch, job=job: on_event(Event("epoch", job, 0, epoch)))
        except SystemExit as error:  # else the command would end here as if all were done
            raise RuntimeError(f"job {job} has called for the end of its process: exit code {error.code}") from error
        on_event(Event("done", job, 0, summary))


def _work(
    number: int, environment: Mapping[str, str], function: JobFunction, context: Any, todo: Any, events: Any
) -> None:
    """Take jobs until there are none."""
    enter_worker(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process()

    def on_epoch(job: Hashable, epoch: int) -> None:
        events.put(Event("epoch", job, number, epoch))

    while True:
        job = todo.get()
        if job is None:
            return
        events.put(Event("started", job, number))
        try:
            # here, because the parent is told of other errors in words, and no more knows what they are
            with within_memory(f"job {job}", "lower --workers or the size of the batches"):
                summary = function(context, job, lambda epoch, job=job: on_epoch(job, epoch))
        except RepkitError as error:
            events.put(Event("failed", job, number, error))
        except (Exception, SystemExit):  # noqa: BLE001 - handed to the parent, which raises it with its traceback
            events.put(Event("failed", job, number, traceback.format_exc()))
        else:
            events.put(Event("done", job, number, summary))


def _end_with_parent() -> None:
    """Leave when the parent is gone, however it ended: nobody waits for this process any more."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_processes(
    function: JobFunction, context: Any, jobs: Sequence[Hashable], n_workers: int, on_event: Callable[[Event], None]
) -> None:
    import torch.multiprocessing as multiprocessing

    spawn = multiprocessing.get_context("spawn")
    todo, events = spawn.Queue(), spawn.Queue()
    for job in [*jobs, *([None] * n_workers)]:
        todo.put(job)
    workers: list[Any] = []
    try:
        workers = start_workers(
            n_workers, getattr(function, "__module__", "__main__"), _work, (function, context, todo, events)
        )
        _watch(workers, todo, events, len(jobs), on_event)
    finally:
        stop_workers(workers)
        todo.cancel_join_thread()  # else this process would wait at its end until someone takes the jobs that are left


def _watch(workers: list[Any], todo: Any, events: Any, n_jobs: int, on_event: Callable[[Event], None]) -> None:
    running: dict[int, Hashable] = {}
    seen: set[int] = set()
    failed: list[Event] = []
    n_ended = 0
    patience: float | None = None
    while n_ended < n_jobs:
        # before the wait: what a process that has ended had to say lies in the queue by now
        codes = [worker.exitcode for worker in workers]
        if any(codes):  # the others may never be silent
            patience = patience or time.monotonic() + _SILENCE_S
            if time.monotonic() > patience:
                _refuse_dead(codes, running, seen)
        try:
            event = events.get(timeout=_SILENCE_S)
        except queue.Empty:
            if failed and not running:
                break
            _refuse_dead(codes, running, seen)
            continue
        if event.kind == "started":
            running[event.worker] = event.job
            seen.add(event.worker)
        elif event.kind in ("done", "failed"):
            running.pop(event.worker, None)
            n_ended += 1
        if event.kind == "failed":
            failed.append(event)
            n_ended += _drain(todo, len(workers))  # let running jobs end, start no further ones
        on_event(event)
    if failed:
        first = failed[0].value
        if isinstance(first, RepkitError):
            raise first
        raise RuntimeError(f"job {failed[0].job} failed in its process:\n{first}")


def _drain(todo: Any, n_workers: int) -> int:
    taken = 0
    while True:
        try:
            taken += todo.get(timeout=0.1) is not None
        except queue.Empty:
            break
    for _ in range(n_workers):
        todo.put(None)
    return taken


def _refuse_dead(codes: Sequence[int | None], running: Mapping[int, Hashable], seen: set[int]) -> None:
    """Raise if a process has ended without being asked to; one that has ended with 0 may only have had nothing to do."""
    all_gone = None not in codes
    # the one that was killed before one that has left with 0
    for number, code in sorted(enumerate(codes), key=lambda pair: not pair[1]):
        if code or (code == 0 and (number in running or all_gone)):
            where = "in or before " + ("another job" if number in seen else "its first job")
            raise RepkitError(
                f"worker process {number} died with exit code {code} "
                f"{f'while running {running[number]}' if number in running else where}; expected it to finish; "
                "often the memory is exhausted: use fewer --workers; start the same command again, finished jobs are kept"
            )
