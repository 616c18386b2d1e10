"""What a user sees of a long training: a progress bar on a terminal, else lines; TensorBoard and a log file always."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch

Progress = Literal["auto", "bar", "lines", "none"]
"""``auto`` draws a bar on a terminal and writes lines elsewhere; ``none`` writes only into the run's log file."""

MEMORY = {"peak_memory_mb": "of memory at most", "peak_device_memory_mb": "on the device at most"}
"""The figures of `peak_memory` and how a line of the log calls them."""


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the most memory this process has held so far, in MB (10^6 bytes), and on a GPU that of its tensors.

    Systems with neither ``/proc`` nor the ``resource`` module (Windows) have no figure for the process.
    """
    found = {}
    with suppress(ImportError):
        found["peak_memory_mb"] = round(_peak_of_process() / 1e6)
    if device.type == "cuda":
        found["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return found


def _peak_of_process() -> int:
    with suppress(OSError, StopIteration):
        # getrusage() would count what the program that started this one held at that moment
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def mean_speed(metrics: Sequence[Mapping[str, Any]]) -> float:
    """Return hours of speech per second over all epochs."""
    seconds = sum(m["seconds"] for m in metrics)
    return sum(m["hours_per_second"] * m["seconds"] for m in metrics) / max(seconds, 1e-9)


class Reporter(AbstractContextManager["Reporter"]):
    """Progress of one run. On other ranks than the first it does nothing.

    Args:
        out: run folder; ``log.txt`` and ``tensorboard/`` go there.
        progress: see `Progress`.
        total_steps: updates of the whole run.
        first_step: updates already done, when resumed.
        active: False on other ranks.
    """

    def __init__(self, out: Path, progress: Progress, total_steps: int, first_step: int, active: bool) -> None:
        self._active = active
        if not active:
            return
        from rich.console import Console
        from torch.utils.tensorboard import SummaryWriter

        self._log = out / "log.txt"
        self._console = Console(stderr=True, highlight=False)
        self._quiet = progress == "none"
        self._bar = None
        if progress == "bar" or (progress == "auto" and self._console.is_terminal):
            self._bar = _bar(self._console, total_steps, first_step)
        # events after the checkpoint a resumed run starts from are taken back
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
        self._last_line = time.monotonic()
        self._total = total_steps
        self._first = first_step
        self._began = time.monotonic()

    def __enter__(self) -> Reporter:
        if self._active and self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            if self._bar:
                self._bar.stop()
            self._board.close()

    def line(self, text: str) -> None:
        """Write a line to the log file and, unless quiet, to standard error."""
        if not self._active:
            return
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        if not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def step(self, done: int, loss: float, hours_per_second: float, epoch: int) -> None:
        """Show the progress after an update; as lines at most one a minute."""
        if not self._active:
            return
        if self._bar:
            self._bar.update(
                self._bar.task_ids[0], completed=done, loss=loss, speed=hours_per_second, description=f"epoch {epoch}"
            )
        elif time.monotonic() - self._last_line > 60:
            self._last_line = time.monotonic()
            left = (time.monotonic() - self._began) / max(1, done - self._first) * (self._total - done)
            self.line(
                f"epoch {epoch}: step {done}/{self._total}, loss {loss:.4f}, "
                f"{hours_per_second:.4f} h of speech/s, {_duration(left)} left"
            )

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Write numbers to TensorBoard; other values are passed over."""
        if self._active:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, step)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _bar(console: Any, total: int, done: int) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TextColumn("{task.fields[speed]:.4f} h of speech/s"),
        TimeRemainingColumn(),
        console=console,
    )
    bar.add_task("pretraining", total=total, completed=done, loss=float("nan"), speed=0.0)
    return bar


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """Return an epoch's numbers in one line."""
    text = f"epoch {record['epoch']}/{epochs}: "
    text += ", ".join(
        f"{name.replace('_', ' ').replace('rmse', 'RMSE')} {record[name]:.4f}{_by_name(record, name)}"
        for name in ("train_rmse", "dev_rmse", "train_loss", "dev_loss")
        if name in record
    )
    text += f", {record['seconds']:.0f} s, {record['hours_per_second']:.4f} h of speech/s"
    text += "".join(f", {record[name]} MB {where}" for name, where in MEMORY.items() if name in record)
    if "vector_use" in record:
        use = record["vector_use"]
        text += f"; own vector {use['own']:.4f}, another's {use['another']:.4f}, zeros {use['zeros']:.4f}"
    return text


def _by_name(record: Mapping[str, Any], name: str) -> str:
    """Return the parts of the training's loss in brackets, where there are several."""
    parts = record.get("train_losses", {}) if name == "train_loss" else {}
    return f" ({', '.join(f'{part} {value:.4f}' for part, value in parts.items())})" if len(parts) > 1 else ""


def vector_use_line(decoder: str, use: Mapping[str, float]) -> str:
    """Say in one line whether the decoder uses the vector."""
    return (
        f"use of the vector ({decoder} decoder, held-out speech): RMSE with own vector {use['own']:.4f}, another's "
        f"{use['another']:.4f} ({use['another_over_own']:.2f} x), zeros {use['zeros']:.4f}; "
        f"copying the previous frame {use['copy_previous']:.4f}"
    )
