"""How the processes of a pool start: forked from one server that has imported everything already, or spawned.

A spawned process imports torch and the rest for itself: two CPU seconds each, and one more at its first optimiser step. The
server (multiprocessing's fork server) does that once per command; a process forked from it is there within milliseconds
and shares the pages of the libraries. The server has no threads of its own, no data and no CUDA.
Source: own design; figures in docs/results/benchmarks-worker_start.md, reasons in docs/decisions/0014.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_preloaded = ["torch"]


def preload(*modules: str) -> None:
    """Name modules that worker processes will need: the fork server imports them once, if it does not run yet."""
    _preloaded.extend(name for name in modules if name not in _preloaded and name != "__main__")


def start_methods() -> tuple[str, ...]:
    """Return the ways to start worker processes here, the best first; REPKIT_WORKER_START=spawn leaves only that."""
    import torch

    # elsewhere the system's own libraries do not survive a fork; tensors of a process that uses CUDA go to spawned ones only
    if sys.platform != "linux" or torch.cuda.is_initialized() or os.environ.get("REPKIT_WORKER_START") == "spawn":
        return ("spawn",)
    return ("forkserver", "spawn")


def start_workers(n_workers: int, module: str, target: Callable[..., None], arguments: Sequence[Any]) -> list[Any]:
    """Start daemonic processes that run ``target(number, environment, *arguments)``.

    They never see Ctrl-C, which this process answers for all, and their libraries use one thread.

    Args:
        n_workers: processes.
        module: where the job function lives; imported ahead if possible.
        target: calls `enter_worker` first.
        arguments: sent to each; tensors travel as handles of shared memory.

    Returns:
        the processes, numbered from 0.
    """
    import torch.multiprocessing as multiprocessing

    preload(module)
    with _one_thread_each(), interrupts_held_back():
        for method in start_methods():
            context = multiprocessing.get_context(method)
            if method == "forkserver":
                context.set_forkserver_preload(list(_preloaded))  # without effect on a server that runs already
            workers = [
                context.Process(target=target, args=(number, dict(os.environ), *arguments), daemon=True)
                for number in range(n_workers)
            ]
            try:
                for worker in workers:
                    worker.start()
            except BaseException as error:
                stop_workers(workers)
                if method == "spawn" or not _only_of_the_server(error):
                    raise
            else:
                break
    return workers


def _only_of_the_server(error: BaseException) -> bool:
    """Whether the fork server could not do what spawning can.

    It takes 256 handles at most, one per tensor, and its socket lies in $TMPDIR, whose path may be too long for one.
    """
    text = str(error)
    return (isinstance(error, ValueError) and "too many fds" in text) or (
        isinstance(error, OSError) and "AF_UNIX path too long" in text
    )


def enter_worker(environment: Mapping[str, str]) -> None:
    """Make this new process what a spawned one would be: the environment of now, no Ctrl-C, random numbers of its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if dict(os.environ) != environment:  # the server keeps that of its own start
        os.environ.clear()
        os.environ.update(environment)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # else equal in all that are forked from one server


def stop_workers(workers: Sequence[Any]) -> None:
    """End processes, by force if they do not end within some seconds; those that never started are passed over."""
    started = [worker for worker in workers if worker.pid is not None]
    deadline = time.monotonic() + 5
    for worker in started:
        worker.join(timeout=0.2)
        if worker.exitcode is None:
            worker.terminate()
    for worker in started:
        worker.join(timeout=max(0.1, deadline - time.monotonic()))
        if worker.exitcode is None:
            worker.kill()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Tell the libraries of processes that start now to use one thread; they size their pools when they load."""
    saved = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(saved, "1"))
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which the parent answers for all; one that comes meanwhile is kept for it."""
    resource_tracker.ensure_running()  # its start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
