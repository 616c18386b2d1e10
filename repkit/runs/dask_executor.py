"""Run independent jobs on dask.distributed: the processes of several machines, or a cluster of this one.

This process hands every worker one job at a time and the next when it is done, so that a job has its process for itself,
whatever number of threads that worker was given, and a failure or Ctrl-C leaves nothing in a queue. The context travels once
to each worker. A job whose worker disappears is given to another; jobs publish their results by a rename, so that
one that ran twice counts once. How to start a cluster: docs/distributed.md. Source: own design, docs/decisions/0014.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import secrets
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repkit.errors import RepkitError, RepkitWarning, UsageError
from repkit.runs.dask_worker import Shared, Task, describe, do
from repkit.runs.executors import Event, Executor, JobFunction, default_workers
from repkit.runs.worker_start import interrupts_held_back

MOST_DEATHS = 3
"""Workers that may disappear under one job before it is given up."""

_CONNECT_S = 10.0
_LOOK_S = 0.5  # between two looks at who is there


def on_dask(scheduler: str | None, n_workers: int | None = None) -> Executor:
    """Return the executor of a dask cluster.

    Args:
        scheduler: address (``tcp://host:8786``) or path of the scheduler file; None for a cluster on this machine.
        n_workers: processes of a cluster on this machine.

    Raises:
        UsageError: dask.distributed is not installed, or no scheduler answers.
    """
    _library()
    if scheduler is not None:
        with _client(scheduler, 1):  # now rather than after hours of preparation
            pass

    def execute(
        function: JobFunction, context: Any, jobs: Sequence[Hashable], on_event: Callable[[Event], None]
    ) -> None:
        run_on_dask(function, context, jobs, scheduler, on_event, n_workers)

    return execute


def run_on_dask(
    function: JobFunction,
    context: Any,
    jobs: Sequence[Hashable],
    scheduler: str | None,
    on_event: Callable[[Event], None],
    n_workers: int | None = None,
) -> None:
    """Run every job on the workers of a dask cluster; those that come later are used too.

    Args:
        function: does one job; the workers import it by name.
        context: shared by all jobs, pickled. If it has an attribute ``run`` that is a folder, every worker must see
            that folder.
        jobs: what to do, longest first if they differ; hashable and small.
        scheduler: address or path of the scheduler file; None for a cluster on this machine.
        on_event: told what happens, in this thread; of epochs the newest, at most ten per second and job. A job that
            is run again is started again.
        n_workers: processes of a cluster on this machine, by default one per core.

    Raises:
        UsageError: see `on_dask`.
        RepkitError: a job failed, or its worker died `MOST_DEATHS` times; the others that were already running are finished
            first, and nothing done is lost. Or there are no workers, all have other versions than this process, or
            the scheduler went away.
    """
    if not jobs:
        return
    with _client(scheduler, n_workers or default_workers(len(jobs))) as client:
        _Run(client, function, context, jobs, on_event).run()


def _library() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            f'executor dask: {error}; dask.distributed was expected; install it, in a clone of repkit: pip install ".[distributed]"'
        ) from error
    return distributed


@contextlib.contextmanager
def _client(scheduler: str | None, n_workers: int) -> Iterator[Any]:
    """Connect to a scheduler, or start a cluster on this machine that ends with the block."""
    distributed = _library()
    with contextlib.ExitStack() as held:
        target: dict[str, Any] = {}
        if scheduler is None:
            with interrupts_held_back():
                target["address"] = held.enter_context(
                    distributed.LocalCluster(
                        n_workers=n_workers,
                        threads_per_worker=1,
                        memory_limit=0,
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.ERROR,
                    )
                )
        elif Path(scheduler).is_file():
            target["scheduler_file"] = scheduler
        elif "://" not in scheduler and (scheduler.endswith(".json") or os.sep in scheduler):
            raise UsageError(
                f"scheduler {scheduler}: no such file; the file of a running scheduler was expected; "
                f"start one: dask scheduler --scheduler-file {scheduler}"
            )
        else:
            target["address"] = scheduler
        try:
            client = distributed.Client(**target, timeout=_CONNECT_S, set_as_default=False, name="repkit")
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"scheduler {scheduler}: no answer within {_CONNECT_S:.0f} s ({type(error).__name__}: {error}); the address "
                "or file of a running dask scheduler was expected, such as tcp://host:8786; start one: dask scheduler"
            ) from error
        yield held.enter_context(client)


@dataclass(slots=True)
class _Attempt:
    """A job that a worker has been given."""

    number: int
    worker: str
    future: Any


@dataclass(slots=True)
class _Run:
    """The jobs of one call, who has them and what became of them."""

    client: Any
    function: JobFunction
    context: Any
    jobs: Sequence[Hashable]
    on_event: Callable[[Event], None]
    name: str = field(default_factory=lambda: f"repkit-{secrets.token_hex(8)}")
    todo: deque[int] = field(default_factory=deque)
    running: dict[str, _Attempt] = field(default_factory=dict)  # by key
    deaths: dict[int, int] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)  # address to number, of all that ever were good
    present: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    failed: list[Event] = field(default_factory=list)
    news: queue.SimpleQueue[tuple[str, int | None]] = field(default_factory=queue.SimpleQueue)
    shared: Any = None
    folder: str = ""
    sign: Path | None = None
    n_attempts: int = 0
    looked: float = 0.0
    alone_since: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        self.todo.extend(range(len(self.jobs)))
        self.folder = os.getcwd()
        run = getattr(self.context, "run", None)
        if isinstance(run, Path) and run.is_dir():
            self.sign = run.absolute() / f".{self.name}.tmp.sign"
            self.sign.touch()
        try:
            self.client.subscribe_topic(self.name, self._hear)
            while self.todo or self.running:
                self._look()
                self._hand_out()
                self._wait()
                self._collect()
        finally:
            self._leave()
        if self.failed:
            first = self.failed[0]
            if isinstance(first.value, RepkitError):
                raise first.value
            raise RuntimeError(f"job {first.job} failed in its process:\n{first.value}")

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take news of an epoch, in dask's thread."""
        self.news.put((event[1]["key"], event[1]["epoch"]))

    def _look(self) -> None:
        """See who is there: examine newcomers, take back the jobs of those who left."""
        if time.monotonic() - self.looked < _LOOK_S:
            return
        with _asking():
            infos = self.client.scheduler_info(n_workers=-1)["workers"]
            known = self.workers.keys() | self.refused.keys()
            self._examine([address for address in infos if address not in known], infos)
        alive = set(infos)
        # one that closes or has paused for want of memory finishes what it has, and is given nothing more
        self.present = {a for a in alive & set(self.workers) if infos[a].get("status", "running") == "running"}
        for key, attempt in list(self.running.items()):
            if attempt.worker not in alive and attempt.future.status != "finished":
                self._take_back(key, attempt)
        self.looked = time.monotonic()
        if self.present or self.running:
            self.alone_since = self.looked
        elif alive and alive <= set(self.refused):
            raise RepkitError(
                "dask workers: none can be used; the versions and folders of this process were expected everywhere; install "
                "the same packages on all machines, in a folder that all see",
                [f"worker {address}: {reason}" for address, reason in sorted(self.refused.items())],
            )
        elif self.looked - self.alone_since > _patience():
            raise RepkitError(
                f"dask scheduler {self.client.scheduler.address}: no workers for {_patience():.0f} s; at least one was expected; "
                "start some: dask worker ADDRESS --nworkers -1 --nthreads 1 (DASK_REPKIT__PATIENCE=3600 waits longer)"
            )

    def _examine(self, addresses: list[str], infos: Mapping[str, Any]) -> None:
        """Compare the versions of workers with those of this process, and see whether they have the run's folder."""
        if not addresses:
            return
        sign = None if self.sign is None else str(self.sign)
        ours = describe(sign)
        for address, theirs in self.client.run(describe, sign, workers=addresses, on_error="return").items():
            if isinstance(theirs, OSError):
                continue  # gone meanwhile; else examined again
            if not isinstance(theirs, dict):
                self.refused[address] = f"repkit cannot be used there ({type(theirs).__name__}: {theirs})"
            elif wrong := [name for name in ours if theirs.get(name) != ours[name]]:
                self.refused[address] = "; ".join(
                    f"{'run folder' if name == 'folder' else name} {theirs.get(name, 'missing')}, here {ours[name]}"
                    for name in wrong
                )
            else:
                self.workers[address] = len(self.workers)
                continue
            if self.workers:  # else all may be so, which is an error
                _warn(f"dask worker {address} is not used: {self.refused[address]}")
        threads = [infos[a].get("nthreads", 1) for a in addresses if a in self.workers]
        if any(n > 1 for n in threads):
            _warn(
                f"dask workers with up to {max(threads)} threads: each runs one job at a time on one thread; "
                "start them with --nworkers -1 --nthreads 1"
            )

    def _hand_out(self) -> None:
        busy = {attempt.worker for attempt in self.running.values()}
        for address in sorted(self.present - busy, key=self.workers.__getitem__):
            if not self.todo:
                return
            if self.shared is None or self.shared.status != "finished":  # not sent, or lost with the last who had it
                with _asking():
                    self.shared = self.client.scatter(Shared(self.context), broadcast=True, hash=False)
            number = self.todo.popleft()
            key = f"{self.name}-{number}-{self.n_attempts}"
            self.n_attempts += 1
            task = Task(pickle.dumps((self.function, self.jobs[number])), key, self.name, self.folder)
            future = self.client.submit(
                do, task, self.shared, key=key, workers=[address], allow_other_workers=False, pure=False
            )
            self.running[key] = _Attempt(number, address, future)
            future.add_done_callback(lambda done: self.news.put((done.key, None)))
            self._tell("started", self.running[key])

    def _wait(self) -> None:
        """Wait for something to happen, and pass on all news of epochs."""
        with contextlib.suppress(queue.Empty):
            key, epoch = self.news.get(timeout=_LOOK_S)
            while True:
                if epoch is not None and key in self.running:
                    self._tell("epoch", self.running[key], epoch)
                key, epoch = self.news.get_nowait()

    def _collect(self) -> None:
        for key, attempt in list(self.running.items()):
            status = attempt.future.status
            if status in ("cancelled", "lost"):  # the context went with the last worker that had it
                self._take_back(key, attempt)
            elif status == "error":
                self._end(key, attempt, "failed", self._explain(attempt))
            elif status == "finished":
                try:
                    kind, value = attempt.future.result(timeout=_CONNECT_S)
                except (OSError, CancelledError):  # its worker left with the result
                    kind, value = "cancelled", None
                if kind == "cancelled":
                    self._take_back(key, attempt)
                else:
                    self._end(key, attempt, kind, value)

    def _explain(self, attempt: _Attempt) -> Any:
        """Return the error of a task that dask could not run: killed again and again, or not unpickled."""
        error = attempt.future.exception(timeout=_CONNECT_S)
        if type(error).__name__ == "KilledWorker":  # at an address whose process was replaced each time
            return self._too_many_deaths(attempt)
        return "".join(traceback.format_exception(error))

    def _end(self, key: str, attempt: _Attempt, kind: Any, value: Any) -> None:
        del self.running[key]
        if kind == "failed":
            self.failed.append(Event("failed", self.jobs[attempt.number], self.workers[attempt.worker], value))
            self.todo.clear()  # let running jobs end, start no further ones
        self._tell(kind, attempt, value)

    def _take_back(self, key: str, attempt: _Attempt) -> None:
        """Give a job whose worker has disappeared to the next one that is free."""
        self.client.cancel([attempt.future])
        self.deaths[attempt.number] = self.deaths.get(attempt.number, 0) + 1
        self.present.discard(attempt.worker)
        if self.deaths[attempt.number] >= MOST_DEATHS:
            self._end(key, attempt, "failed", self._too_many_deaths(attempt))
            return
        del self.running[key]
        if not self.failed:
            self.todo.appendleft(attempt.number)

    def _too_many_deaths(self, attempt: _Attempt) -> RepkitError:
        return RepkitError(
            f"job {self.jobs[attempt.number]}: {MOST_DEATHS} dask workers died while running it, {attempt.worker} the last; "
            "expected one to finish; often the memory is exhausted: run fewer workers per machine, with --memory-limit 0; "
            "start the same command again, finished jobs are kept"
        )

    def _tell(self, kind: Any, attempt: _Attempt, value: Any = None) -> None:
        self.on_event(Event(kind, self.jobs[attempt.number], self.workers[attempt.worker], value))

    def _leave(self) -> None:
        """Cancel what is still running, which ends at its next epoch, and leave nothing behind."""
        if self.sign is not None:
            self.sign.unlink(missing_ok=True)
        with contextlib.suppress(Exception):  # the scheduler may be the reason
            self.client.cancel([attempt.future for attempt in self.running.values()])
            self.client.unsubscribe_topic(self.name)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Say in our words that the scheduler does not answer."""
    try:
        yield
    except OSError as error:
        raise RepkitError(
            f"dask scheduler: lost ({type(error).__name__}: {error}); expected it to stay until the end; start scheduler and "
            "workers, then the same command again, finished jobs are kept"
        ) from error


def _patience() -> float:
    """Return for how many seconds to wait for workers; dask's own setting ``repkit.patience``."""
    import dask

    return float(dask.config.get("repkit.patience", 600))


def _warn(text: str) -> None:
    warnings.warn(text, RepkitWarning, stacklevel=2)
