"""What `repkit.runs.dask_executor` runs in the workers of a dask cluster. Source: own design."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any

from repkit.errors import RepkitError
from repkit.runs.executors import prepare_process

_EPOCH_S = 0.1  # news of epochs are no more frequent than that: all of them pass through the scheduler


@dataclass(frozen=True, slots=True)
class Shared:
    """The context, wrapped so that dask does not look into it."""

    value: Any


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt at a job.

    Attributes:
        work: function and job, pickled, because the scheduler unpickles tasks too and need not import torch for that.
        key: dask's name of the attempt.
        topic: where to tell of epochs.
        folder: working folder of the client.
    """

    work: bytes
    key: str
    topic: str
    folder: str


class _CancelledError(BaseException):
    """Nobody wants this job any more; no error that a job could catch."""


_one_job = threading.Lock()


def do(task: Task, shared: Shared) -> tuple[str, Any]:
    """Do a job in a worker; return done and its summary, or failed and the error."""
    from distributed import get_worker

    worker = get_worker()
    told = 0.0

    def on_epoch(epoch: int) -> None:
        nonlocal told
        state = worker.state.tasks.get(task.key)
        if state is None or state.state == "cancelled":  # the client has gone or was interrupted
            raise _CancelledError
        if time.monotonic() - told >= _EPOCH_S:
            told = time.monotonic()
            with contextlib.suppress(Exception):  # news only
                worker.log_event(task.topic, {"key": task.key, "epoch": int(epoch)})

    # the lock waits for a cancelled job that has not looked up yet; random numbers and working folder are the process's
    with _one_job, contextlib.ExitStack() as held:
        if os.path.isdir(task.folder):  # paths of a recipe may be relative
            held.enter_context(contextlib.chdir(task.folder))
        prepare_process()  # in this thread: flushing of denormal numbers belongs to a thread
        try:
            function, job = pickle.loads(task.work)
            return "done", function(shared.value, job, on_epoch)
        except RepkitError as error:
            return "failed", error
        except Exception:  # noqa: BLE001 - handed to the client, which raises it with its traceback
            return "failed", traceback.format_exc()
        except _CancelledError:
            return "cancelled", None


def describe(sign: str | None) -> dict[str, str]:
    """Return the versions that must be equal everywhere, and whether a file of the shared folder can be seen from here."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from repkit.plugins import components

    names = {"repkit", "torch", "numpy", *(component.distribution for component in components())}
    facts = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in sorted(names):
        with contextlib.suppress(PackageNotFoundError):
            facts[name] = version(name).partition("+")[0]  # a build for CUDA fits one for the CPU
    if sign is not None:
        facts["folder"] = "seen" if os.path.exists(sign) else "missing"
    return facts
