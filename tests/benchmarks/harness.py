"""What every benchmark shares: variants timed in turn within one run, ratios with their spread, and the page made of them.

A benchmark is a script ``bench_NAME.py`` that ends in ``harness.main(NAME, title, run)``; ``run(page, options)`` times with
`interleave` and fills the page. ``make bench`` runs them all; each writes ``docs/results/benchmarks-NAME.md``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy and torch load: their thread pools are sized then

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 7
"""Fewest rounds of a comparison; the first round, which warms up, is not counted."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long A took as B, over the rounds: median, 10th and 90th percentile."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"**{self.median:.2f}** [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        rounds: of every comparison.
        data: folder of the real corpora, or None when there is none.
        quick: sizes so small that the figures mean nothing; for a check that the script runs.
    """

    rounds: int
    data: Path | None
    quick: bool

    def corpus(self, name: str) -> Path:
        """Return the folder of a real corpus; ends the script when it is not there."""
        if self.data is None:
            raise SystemExit("no real corpora: give --data FOLDER or set REPKIT_REAL_DATA")
        return self.data / name


def interleave(
    variants: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Run every variant once per round, in turn, and return the seconds of each by name.

    The order within a round alternates, so that neither profits from coming second.
    """

    def timed(function: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            begun = clock()
            function()
            return clock() - begun

        return run

    return alternate({name: timed(function) for name, function in variants.items()}, rounds, warm_up)


def alternate(
    variants: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, warm_up: int = 1
) -> dict[str, list[float]]:
    """Do the same for variants that measure themselves and return the figure, for example in a process of their own."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + warm_up):
        names = list(variants) if number % 2 == 0 else list(variants)[::-1]
        for name in names:
            value = variants[name]()
            if number >= warm_up:
                found[name].append(value)
    return found


def ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Return the ratio of A's time to B's, round by round."""
    each = np.asarray(a) / np.asarray(b)
    return Ratio(float(np.median(each)), *(float(np.percentile(each, p)) for p in (10, 90)), len(each))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def one_thread() -> None:
    """Prepare this process as repkit prepares its own, but leave denormals and memory as they are by default."""
    import torch

    torch.set_num_threads(1)


def peak_memory_mb() -> float:
    """Return the most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def held_memory_mb() -> float:
    """Return the memory this process holds now, in MB; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024**2


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process forked from this one and return what it returned (to be pickled).

    For what cannot be taken back in a process (settings of the allocator, the peak of memory) without the seconds of
    importing anew. This process must not have run anything on several threads before.

    Raises:
        SystemExit: the function failed.
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: sender.send(function(*arguments)))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"{function.__name__} ended with code {process.exitcode}") from None
    process.join()
    return answer


def gemm_rate(m: int = 4096, k: int = 256, n: int = 768, dtype: str = "float32", device: str = "cpu") -> float:
    """Return the measured GFLOP/s of a matrix product, the best of five: the floor that pages compare with."""
    import torch

    a = torch.randn(m, k, dtype=getattr(torch, dtype), device=device)
    b = torch.randn(n, k, dtype=getattr(torch, dtype), device=device)
    best = float("inf")
    for _ in range(6):
        begun = time.perf_counter()
        for _ in range(5):
            torch.nn.functional.linear(a, b)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / 5)
    return 2 * m * k * n / best / 1e9


def copy_rate(n: int = 1 << 25, device: str = "cpu") -> float:
    """Return the measured GB/s of a copy (read and write counted), the best of five."""
    import torch

    a = torch.zeros(n, device=device)
    b = torch.empty_like(a)
    best = float("inf")
    for _ in range(6):
        begun = time.perf_counter()
        b.copy_(a)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 8 * n / best / 1e9


class Page:
    """A results page under construction."""

    def __init__(self, name: str, title: str, command: str) -> None:
        self.name = name
        self._head = [f"# {title}", "", f"Generated by `{command}`.", ""]
        self._lines: list[str] = []
        self._headline = ""
        self._targets: list[str] = []
        self._load = os.getloadavg()[0]
        self._begun = time.perf_counter()

    def headline(self, text: str) -> None:
        """Set the one sentence that stands on top of the page and in the index, with the figure that matters most."""
        self._headline = text
        print(text, flush=True)

    def target(self, text: str, reached: bool | None, figure: str) -> None:
        """Add a target to the list at the page's end, which the index collects.

        Args:
            text: what was to be reached, for example ``at least 1.9 times librosa``.
            reached: whether it was; None where it was not measured.
            figure: what was measured.
        """
        word = {True: "reached", False: "MISSED", None: "not measured"}[reached]
        self._targets.append(f"- {word}: {text}" + (f"; {figure}" if figure else ""))
        print(self._targets[-1], flush=True)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._lines += [text, ""]
        print(text, flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; the first column is set left."""
        lines = ["| " + " | ".join(head) + " |", "|:--|" + "--:|" * (len(head) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        self._lines += [*lines, ""]
        print("\n".join(lines), flush=True)

    def compare(
        self, head: str, results: Mapping[str, tuple[Mapping[str, Sequence[float]], str, str]], unit: str = "ms"
    ) -> None:
        """Add a table of comparisons: per row the seconds by variant, and the names of A and B.

        Args:
            head: what a row is.
            results: row name to (seconds by variant, A, B).
            unit: ``ms`` or ``s``.
        """
        scale = 1e3 if unit == "ms" else 1.0
        rows = []
        for name, (seconds, a, b) in results.items():
            times = [f"{a}: {median(seconds[a]) * scale:.3g}", f"{b}: {median(seconds[b]) * scale:.3g}"]
            rows.append([name, *times, str(ratio(seconds[a], seconds[b])), str(len(seconds[a]))])
        self.table([head, f"A, {unit}", f"B, {unit}", "A / B, median [p10, p90]", "rounds"], rows)

    def write(self, folder: Path) -> Path:
        """Write the page with the machine it was made on."""
        path = folder / f"benchmarks-{self.name}.md"
        headline = [f"**In short:** {self._headline}", ""] if self._headline else []
        targets = ["## Targets", "", *self._targets, ""] if self._targets else []
        facts = machine_facts(self._load) | {"time taken": f"{time.perf_counter() - self._begun:.0f} s"}
        machine = [f"- {key}: {value}" for key, value in facts.items()]
        lines = [*self._head, *headline, *self._lines, *targets, "## Machine", "", *machine, ""]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path


def machine_facts(load_before: float) -> dict[str, str]:
    """Return what a reader needs to judge the figures; no host name, no path."""
    import torch

    names = (
        "torch",
        "numpy",
        "scipy",
        "librosa",
        "torchaudio",
        "transformers",
        "accelerate",
        "h5py",
        "soundfile",
        "soxr",
    )
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    capability = torch.backends.cpu.get_cpu_capability()
    facts = {
        "processor": f"{_processor()}, {os.cpu_count()} cores, {capability}; one thread per process",
        "load (1 min)": f"{load_before:.1f} before, {os.getloadavg()[0]:.1f} after",
        "versions": f"Python {platform.python_version()}, " + ", ".join(versions),
    }
    if torch.cuda.is_available():
        facts["accelerator"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return facts


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(
    name: str,
    title: str,
    run: Callable[[Page, Options], None],
    *,
    needs_gpu: bool = False,
    targets: Sequence[str] = (),
) -> None:
    """Read the command line, run the benchmark and write its page.

    With ``--quick`` a page is written only where ``--out`` says so: its figures mean nothing.

    Args:
        name: of the page.
        title: of the page.
        run: does the measuring.
        needs_gpu: without a GPU nothing is run, and the page says that nothing was measured unless there is an older one.
        targets: of a benchmark that needs a GPU, to be listed as not measured where there is none.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--data", type=Path, default=_default_data(), help="folder of the real corpora")
    parser.add_argument("--out", type=Path, help="folder of the page (default: docs/results)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds: only to see that it runs")
    given = parser.parse_args()
    script = Path(sys.argv[0]).name if sys.argv[0].endswith(".py") else f"bench_{name}.py"
    page = Page(name, title, f"python tests/benchmarks/{script}")
    options = Options(2 if given.quick else given.rounds, given.data, given.quick)
    out = given.out or (None if given.quick else ROOT / "docs" / "results")
    if needs_gpu and not has_gpu():
        _write_not_measured(page, targets, out)
        return
    with tempfile.TemporaryDirectory(prefix="repkit-bench-") as cache:
        os.environ["REPKIT_CACHE"] = cache
        run(page, options)
    print(f"written: {page.write(out).name}" if out else "quick: no page written", flush=True)


def has_gpu() -> bool:
    """Return whether torch finds a GPU."""
    import torch

    return torch.cuda.is_available()


def _write_not_measured(page: Page, targets: Sequence[str], out: Path | None) -> None:
    page.headline("not measured (no GPU at hand)")
    for target in targets:
        page.target(target, None, "")
    if out is None or (out / f"benchmarks-{page.name}.md").exists():
        print("no GPU here: the page is left as it is", flush=True)
        return
    print(f"written: {page.write(out).name}", flush=True)


def _default_data() -> Path | None:
    folder = Path(os.environ.get("REPKIT_REAL_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None
