"""Seconds until the command line answers, each in a fresh process, and where they go."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence

import harness

COMMANDS = {
    "repkit --help": ("-m", "repkit", "--help"),
    "repkit recipes list": ("-m", "repkit", "recipes", "list"),
    "repkit plugins list": ("-m", "repkit", "plugins", "list"),
    "python -c pass": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
}
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")


def call(arguments: Sequence[str]) -> Callable[[], None]:
    """Return a function that runs Python with these arguments and waits for its end."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)

    return run


def import_times(arguments: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds that importing each top-level package takes itself, summed over its modules."""
    command = [sys.executable, "-X", "importtime", *arguments]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ}).stderr
    return sum_by_package(text)


def sum_by_package(text: str) -> dict[str, float]:
    """Return milliseconds by top-level package from what ``-X importtime`` printed; standard library as one."""
    found: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            package = match[4].split(".")[0]
            own = package if package not in sys.stdlib_module_names else "standard library"
            found[own] += int(match[1]) / 1000
    return dict(found)


def run(page: harness.Page, options: harness.Options) -> None:
    """Time the commands in turn and show what their imports take."""
    seconds = harness.interleave({name: call(arguments) for name, arguments in COMMANDS.items()}, options.rounds)
    torch = seconds["import torch"]
    rows = []
    for name, taken in seconds.items():
        against = "" if name == "import torch" else str(harness.ratio(torch, taken))
        rows.append([name, f"{harness.median(taken):.3f}", f"{min(taken):.3f}", against])
    page.table(["command", "median, s", "least, s", "import torch / command"], rows)
    each = {name: import_times(COMMANDS[name]) for name in COMMANDS if name.startswith("repkit")}
    packages = sorted(
        {p for found in each.values() for p in found}, key=lambda p: -max(f.get(p, 0) for f in each.values())
    )
    page.text(
        "Milliseconds of importing, by package (the modules' own time, of one run with `-X importtime`, which adds some):"
    )
    shown = [p for p in packages if max(found.get(p, 0.0) for found in each.values()) >= 2.0]
    table = [[p, *(f"{found.get(p, 0.0):.0f}" for found in each.values())] for p in shown]
    table.append(
        ["the rest", *(f"{sum(v for p, v in found.items() if p not in shown):.0f}" for found in each.values())]
    )
    page.table(["package", *each], table)
    heavy = sorted(
        {p for found in each.values() for p in found} & {"torch", "pandas", "scipy", "librosa", "transformers"}
    )
    page.text(
        "None of them imports torch, pandas, scipy, librosa or transformers." if not heavy else f"Imported: {heavy}."
    )
    help_s = harness.median(seconds["repkit --help"])
    page.headline(
        f"`repkit --help` answers in {help_s:.2f} s; `import torch` alone takes {harness.median(torch):.2f} s"
    )


if __name__ == "__main__":
    harness.main("startup", "Start of the command line", run)
