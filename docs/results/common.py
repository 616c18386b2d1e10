"""What the scripts of this folder share: run the steps once, find their runs, print what a reader needs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Step = list[str]


def run(steps: list[Step], work: Path, only: str | None = None) -> None:
    """Run the steps in the work folder; a finished train-ser run is not repeated."""
    for step in steps:
        if only and step[0] != only:
            continue
        if step[0] == "train-ser" and finished(work, step) is not None:
            continue
        print("$ repkit " + shlex.join(step), flush=True)  # noqa: T201 - a script tells what it does
        subprocess.run([sys.executable, "-m", "repkit", *step], cwd=work, check=True)


def finished(work: Path, step: Step) -> Path | None:
    """Return the newest finished run of a step, None when there is none."""
    for status in sorted((work / "runs").glob("*/*/status.json"), reverse=True):
        folder = status.parent
        same = shlex.join(step) in (folder / "command.txt").read_text()
        if same and json.loads(status.read_text())["state"] == "done":
            return folder
    return None


def read(folder: Path, name: str) -> Any:
    """Return a JSON file of a run."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


def corpora_options(data: str, names: tuple[str, ...], option: str = "--corpus") -> list[str]:
    """Return ``--corpus NAME=PATH`` for every name."""
    return [text for name in names for text in (option, f"{name}={data}/{name}")]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; the first column is set left."""
    lines = ["| " + " | ".join(header) + " |", "|:--|" + "--:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return a share in percent, with its interval where there is one."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else "")


def points(found: dict[str, Any]) -> str:
    """Return a difference in points with interval and verdict."""
    if found["difference"] is None:
        return f"no comparison ({found['note']})"
    interval = ""
    if found["low"] is not None:
        interval = f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    return f"{100 * found['difference']:+.1f}{interval} ({found['verdict']})"


def commands_block(steps: list[Step], data: str) -> str:
    """Return the commands as a reader would type them."""
    return "```\n" + "\n".join("repkit " + shlex.join(step).replace(data, "DATA") for step in steps) + "\n```"


def how(folders: list[Path]) -> str:
    """Return times, machine and versions of the runs."""
    environment = read(folders[0], "environment.json")
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    minutes = ", ".join(f"{f.parent.name} {read(f, 'status.json')['seconds'] / 60:.0f} min" for f in folders)
    return (
        f"Wall time, {environment['cores']} processes: {minutes} (other work ran on the machine at the same time; no "
        f"speed claim).\n\nEnvironment: repkit {environment['repkit']}, Python {environment['python']}, {versions}."
    )


def main(script: str, steps_of: Callable[[str], list[Step]], page: Callable[[str, Path, list[Step]], str]) -> None:
    """Run all steps of a script, then write its page beside it."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("REPKIT_REAL_DATA", "../shared/data")
    parser.add_argument("--data", default=default, help="folder of the corpora")
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="folder for runs and embeddings")
    parser.add_argument("--only", help="run only this repkit command, and write no page")
    parser.add_argument("--page-only", action="store_true", help="write the page from finished runs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    data = str(Path(arguments.data).resolve()) if not (arguments.work / arguments.data).exists() else arguments.data
    steps = steps_of(data)
    if not arguments.page_only:
        run(steps, arguments.work, arguments.only)
    if not arguments.only:
        out = Path(script).with_suffix(".md")
        out.write_text(page(data, arguments.work, steps), encoding="utf-8")
        print(out)  # noqa: T201
