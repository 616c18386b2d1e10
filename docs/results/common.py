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
        if json.loads(status.read_text())["state"] == "done" and any(_same(words, step) for words in _commands(folder)):
            return folder
    return None


def check_same_stores(folders: list[Path]) -> None:
    """Stop where runs of one page have read different vectors under the same name, of an encoder trained anew."""
    seen: dict[tuple[str, str], tuple[str, Path]] = {}
    for folder in folders:
        for condition in read(folder, "data.json")["conditions"].values():
            for corpus, store in (condition.get("stores") or {}).items():
                source = store["source"]
                if source["encoder"] == "joined":  # its parts stand in conditions of their own
                    continue
                name = source.get("name", source["encoder"])
                before = seen.setdefault((name, corpus), (store["fingerprint"], folder))
                if before[0] != store["fingerprint"]:
                    raise SystemExit(
                        f"{folder} and {before[1]}: other vectors of {name} for {corpus}; train both again"
                    )


def _commands(folder: Path) -> list[Step]:
    """Return the command that made a run, and those that were told that it is finished already."""
    texts = [(folder / "command.txt").read_text()]
    log = folder / "log.jsonl"
    for line in log.read_text().splitlines() if log.exists() else ():
        event = json.loads(line)
        texts += [event["command"]] if event["event"] == "asked again" else []
    return [shlex.split(text) for text in texts]


def _same(words: Step, step: Step) -> bool:
    return step[0] in words and _named(words[words.index(step[0]) :]) == _named(step)


def _named(step: Step) -> Step:
    """Return a step with its recipe's file name alone: the checkout may lie elsewhere."""
    return [Path(word).name if before == "--recipe" else word for before, word in zip(["", *step], step)]


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
    return f"{100 * value:.1f}" + (
        f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else ""
    )


def points(found: dict[str, Any], note: bool = False) -> str:
    """Return a difference in points with interval and verdict, and with what limits the interval."""
    if found["difference"] is None:
        return f"no comparison ({found['note']})"
    interval = ""
    if found["low"] is not None:
        interval = f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    limits = f"; {found['note']}" if note and found["note"] else ""
    return f"{100 * found['difference']:+.1f}{interval} ({found['verdict']}{limits})"


def of(rows: list[dict[str, Any]], view: str) -> list[dict[str, Any]]:
    """Return the rows of a view at the selected epoch."""
    return [row for row in rows if row["view"] == view and row["checkpoint"] == "selected"]


def corpus_table(results: dict[str, Any], view: str, names: tuple[str, ...], held_out: bool) -> str:
    """Return UAR per condition and test corpus with 95 % interval, the mean over the corpora and what limits its interval."""
    cells = {(r["condition"], r["corpus"]): r for r in of(results["corpora"], view) if r["held_out"] is held_out}
    over = "held_out" if held_out else "trained_on"
    means = {r["condition"]: r for r in of(results["corpus_means"], view) if r["over"] in (over, "all")}
    chance = {name: next(r["chance"] for (_, c), r in cells.items() if c == name) for _, name in cells}
    rows = []
    for condition in dict.fromkeys(c for c, _ in cells):
        mean = means[condition]["uar"]
        each = [cells[condition, name]["uar"] for name in names if (condition, name) in cells]
        spread = "-" if mean.get("sd") is None else f"{100 * mean['sd']:.1f}"
        rows.append(
            [
                condition,
                *(percent(u["mean"], u["low"], u["high"]) for u in each),
                f"**{percent(mean['mean'], mean['low'], mean['high'])}**",
                spread,
            ]
        )
    columns = [name for name in names if any(name == c for _, c in cells)]
    listed = ", ".join(f"{name} {100 * chance[name]:.1f}" for name in columns)
    note = f"Chance: {listed}. sd: of the mean over seeds."
    note += "".join(f" {text}." for text in interval_notes([means[row[0]]["interval_note"] for row in rows]))
    return table(["condition", *columns, "mean", "sd"], rows) + "\n\n" + note


def interval_notes(notes: list[str]) -> list[str]:
    """Return what limits intervals of a mean over corpora, each once, as sentences without their full stop."""
    return [f"Interval of the mean: {text}" for text in dict.fromkeys(notes) if text]


def mean_differences(results: dict[str, Any], view: str, over: str) -> list[dict[str, Any]]:
    """Return the differences of the mean over corpora."""
    return [d for d in of(results["corpus_mean_differences"], view) if d["over"] == over]


def find_difference(found: list[dict[str, Any]], condition: str, against: str) -> dict[str, Any] | None:
    """Return the difference of two conditions."""
    return next((d for d in found if d["condition"] == condition and d["against"] == against), None)


def probe_table(results: dict[str, Any], attributes: tuple[str, ...]) -> str:
    """Return what a linear probe reads from the last hidden layer, per condition."""
    rows = []
    for condition in dict.fromkeys(p["condition"] for p in results["probes"]):
        cells = []
        for name in attributes:
            probe = next((p for p in results["probes"] if p["condition"] == condition and p["attribute"] == name), None)
            cells.append(
                "-"
                if probe is None
                else f"{100 * probe['uar']:.1f} (chance {100 * probe['chance']:.1f}, shuffled {percent(probe['shuffled'])})"
            )
        rows.append([condition, *cells])
    return table(["condition", *attributes], rows)


def paper_rows(recipe: str, view: str | None = None) -> list[dict[str, Any]]:
    """Return the published values of the table that a recipe names."""
    from repkit.config import SerRecipe, load_recipe
    from repkit.papers import values

    found = [value.model_dump() for value in values(load_recipe(SerRecipe, recipe).paper_table or "")]
    return [v for v in found if view is None or v["view"] in (None, view)]


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
