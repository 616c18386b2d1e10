"""Time the start of a pool: two processes spawned, against two forked from a server that has imported everything."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import harness

from repkit.runs.executors import run_jobs
from repkit.runs.worker_start import preload

JOBS_MODULE = "repkit.workflows.train_ser.jobs"


def step(context: object, job: int, on_epoch: Callable[[int], None]) -> int:
    """Import what a training imports and take one step of an optimiser, which imports some more."""
    __import__(JOBS_MODULE)
    import torch

    layer = torch.nn.Linear(4, 4)
    layer(torch.zeros(2, 4)).sum().backward()
    torch.optim.Adam(layer.parameters(), fused=True).step()
    return os.getpid()


def pool(start: str) -> Callable[[], None]:
    """Return what runs two jobs in two new processes.

    Args:
        start: ``spawn``, ``first`` (a server has to be started) or ``later`` (it runs already).
    """

    def run() -> None:
        if start == "first":
            forkserver._forkserver._stop()
        os.environ["REPKIT_WORKER_START"] = "spawn" if start == "spawn" else ""
        run_jobs(step, None, [0, 1], 2, lambda event: None)

    return run


def cpu_seconds(variant: Callable[[], None]) -> float:
    """Return the CPU seconds of all processes that a variant has started."""

    def used() -> float:
        times = os.times()
        total = times.children_user + times.children_system
        try:
            stat = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return total
        own_and_children = stat.rpartition(")")[2].split()[11:15]
        return total + sum(map(int, own_and_children)) / os.sysconf("SC_CLK_TCK")

    before = used()
    variant()
    return used() - before


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare the first and a later pool of a command with a spawned one."""
    page.text(
        "Seconds from the call of `run_jobs` to the end of two trivial jobs in two processes, each of which needs the modules of "
        "`repkit train-ser` and one step of Adam. *first*: the fork server has to start and import them, as in the first "
        "pool of a command; *later*: it runs already. Nothing else differs (`REPKIT_WORKER_START=spawn` turns it off)."
    )
    __import__(JOBS_MODULE)  # as a command has
    preload(JOBS_MODULE, "torch._dynamo")
    # no round to warm up: the files are in the page cache, and each round starts anew by design
    seconds = harness.interleave({name: pool(name) for name in ("spawn", "first", "later")}, options.rounds, warm_up=0)
    page.compare("pool of a command", {name: (seconds, "spawn", name) for name in ("first", "later")}, unit="s")
    first, later = (harness.ratio(seconds["spawn"], seconds[name]) for name in ("first", "later"))
    page.headline(f"two new processes start {later} times as fast as by spawn, those of a command's first pool {first}")
    used = {name: cpu_seconds(pool(name)) for name in ("first", "later", "spawn")}
    page.text("CPU seconds of all processes started, once: " + ", ".join(f"{n} {s:.1f}" for n, s in used.items()) + ".")


if __name__ == "__main__":
    harness.main("worker_start", "Start of worker processes", run)
