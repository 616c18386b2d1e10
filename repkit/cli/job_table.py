"""The live table of ``repkit train-ser``."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from repkit.cli.shared import console
from repkit.runs.directory import read_json
from repkit.runs.environment import environment
from repkit.runs.executors import Event

_SHOWN = 8
"""Running jobs named in a row; many share one program on a GPU."""


class JobTable:
    """Jobs done, running epochs, mean dev UAR and time left, one row per condition."""

    def __init__(self, totals: dict[str, int], done: dict[str, int], epochs: dict[str, int]) -> None:
        self.totals, self.done, self.epochs = totals, defaultdict(int, done), epochs
        self.n_before = sum(done.values())
        self.running: dict[int, tuple[Any, int]] = {}
        self.dev: dict[str, list[float]] = defaultdict(list)
        self.failed: dict[str, int] = defaultdict(int)
        self.started = time.monotonic()

    def update(self, event: Event) -> None:
        """Take in what happened."""
        job: Any = event.job
        if event.kind == "started":
            self.running[event.worker] = (job, 0)
        elif event.kind == "epoch":
            self.running[event.worker] = (job, event.value)
        else:
            self.running.pop(event.worker, None)
            if event.kind == "done":
                self.done[job.condition] += 1
                dev = (event.value or {}).get("dev") or {}
                if dev:
                    self.dev[job.condition].append(next(iter(dev.values()))["uar"])
            else:
                self.failed[job.condition] += 1

    @property
    def seconds_left(self) -> float | None:
        """Expected wall time until the end, None before anything is known."""
        n_total, n_done = sum(self.totals.values()), sum(self.done.values())
        partial = sum(epoch / self.epochs[job.condition] for job, epoch in self.running.values())
        fresh = n_done - self.n_before + partial
        if fresh < 0.05:
            return None
        return (n_total - n_done - partial) * (time.monotonic() - self.started) / fresh

    def summary(self) -> str:
        """One line for logs that are no terminal."""
        left = self.seconds_left
        eta = f", about {left / 60:.0f} min left" if left is not None else ""
        return f"{sum(self.done.values())} of {sum(self.totals.values())} jobs done{eta}"

    def __rich__(self) -> Table:
        table = Table(title=self.summary(), title_justify="left", box=None, pad_edge=False)
        for name in ("condition", "jobs", "running (fold, seed, epoch)", "mean dev UAR"):
            table.add_column(name)
        for condition, total in self.totals.items():
            now = [
                f"{job.fold} s{job.seed} {epoch}/{self.epochs[job.condition]}"
                for job, epoch in self.running.values()
                if job.condition == condition
            ]
            running = ", ".join(now[:_SHOWN]) + (f" and {len(now) - _SHOWN} more" if len(now) > _SHOWN else "")
            dev = self.dev[condition]
            mean = f"{100 * sum(dev) / len(dev):.1f}" if dev else ""
            failed = f" ({self.failed[condition]} failed)" if self.failed[condition] else ""
            table.add_row(condition, f"{self.done[condition]}/{total}{failed}", running, mean)
        return table


def table_of(plan: Any, run: Any) -> JobTable:
    """Return the table of a run of train-ser as it starts.

    Args:
        plan: `repkit.workflows.train_ser.plan.SerPlan`.
        run: its `repkit.runs.directory.RunDirectory`.
    """
    from repkit.training.phases import total_epochs

    done = Counter(job.condition for job in plan.jobs if run.job_path(job.condition, job.seed, job.fold).exists())
    epochs = {c.name: total_epochs(c.recipe, tuple(plan.corpora)) for c in plan.conditions}
    return JobTable(dict(Counter(job.condition for job in plan.jobs)), dict(done), epochs)


def started(plan: Any, run: Any, resumed: bool, n_done: int) -> str:
    """Return the line that says where a run is and whether it is continued."""
    return f"run        {run.path}" + (f"  (continued, {n_done} of {len(plan.jobs)} jobs done)" if resumed else "")


def finished(run: Path) -> list[str]:
    """Return the lines that say that nothing was trained, because a run is finished already.

    Args:
        run: its path.
    """
    lines = [
        f"run        {run}  (finished already: same recipe, corpora and stores; nothing was trained; after a change of code, "
        "which no signature tells, --again trains anew)"
    ]
    was, now = read_json(run / "environment.json"), environment()
    before, present = (
        dict(map(_name_and_version, [f"repkit {of['repkit']}", *of.get("plugins", ())])) for of in (was, now)
    )
    changed = [
        f"{name} {before[name]}, now {present[name]}"
        for name in before
        if present.get(name, before[name]) != before[name]
    ]
    if changed:
        lines.append(f"note       it was made with {'; '.join(changed)}")
    return lines


def _name_and_version(text: str) -> tuple[str, str]:
    name, _, version = text.rpartition(" ")
    return name, version


def baseline_text(model: str) -> str:
    """Return what the condition BL is."""
    return f"the baseline: the recipe's model ({model}) without any vector"


@contextmanager
def showing(table: JobTable, every_s: float = 60.0) -> Iterator[Any]:
    """Show the table live on a terminal, else print a line now and then; yield what must be called with every event."""
    screen = console()
    if screen.is_terminal:
        with Live(table, console=screen, refresh_per_second=4):
            yield table.update
        return
    last = time.monotonic()

    def tell(event: Event) -> None:
        nonlocal last
        table.update(event)
        if event.kind in ("done", "failed") and time.monotonic() - last > every_s:
            last = time.monotonic()
            screen.print(table.summary())

    yield tell
    screen.print(table.summary())
