"""Run every benchmark, one after the other, make the index of their pages and say which targets were missed.

python tests/benchmarks/run_all.py            # those for the CPU: make bench
python tests/benchmarks/run_all.py --quick    # only to see that they run, no page is written: make bench-quick
python tests/benchmarks/run_all.py --more     # profiles and comparisons of single parts: make bench-more
python tests/benchmarks/run_all.py --gpu      # those that need a GPU: make bench-gpu
python tests/benchmarks/run_all.py --index    # only the index, from the pages that are there
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "docs" / "results"
LIMIT_S = 600
"""What all benchmarks for the CPU may take together on two quiet cores."""
MORE = {
    "bench_freed_memory", "bench_functionals", "bench_pitch", "bench_primitive_cache", "bench_profile_embed", "bench_profile_pretrain_ae",
    "bench_profile_train_ser", "bench_wide_convolution", "bench_window_maximum", "bench_worker_start",
}  # fmt: skip
"""What is not part of ``make bench``, which shall take ten minutes on two cores."""
INTRODUCTION = (
    "Each line is one page. Every page is made by its script: A and B alternate within one run, ratios are per round, "
    "given as **median** [10th percentile, 90th percentile]; A / B above 1 means that B, ours, is faster. "
    "`make bench` and `make bench-more` make them on the CPU, `make bench-gpu` those that need a GPU."
)


def read_page(text: str) -> tuple[str, str, list[str]]:
    """Return title, headline ("" when there is none) and target lines of a page."""
    title = headline = ""
    targets, in_targets = [], False
    for line in text.splitlines():
        if line.startswith("# ") and not title:
            title = line.removeprefix("# ")
        elif line.startswith("**In short:** ") and not headline:
            headline = line.removeprefix("**In short:** ")
        elif line.startswith("## "):
            in_targets = line == "## Targets"
        elif in_targets and line.startswith("- "):
            targets.append(line.removeprefix("- "))
    return title, headline, targets


def index(pages: dict[str, str]) -> str:
    """Return the index of pages, given by file name: a line for each, then the targets that were not reached."""
    lines = ["# Benchmarks", "", INTRODUCTION, ""]
    missed, unknown, n_reached = [], [], 0
    for name, text in sorted(pages.items()):
        title, headline, targets = read_page(text)
        lines.append(f"- [{title}]({name})" + (f": {headline}" if headline else ""))
        for target in targets:
            kind, _, what = target.partition(": ")
            n_reached += kind == "reached"
            if kind != "reached":
                (missed if kind == "MISSED" else unknown).append(f"- [{title}]({name}): {what}")
    lines += ["", "## Targets", "", f"{n_reached} reached, {len(missed)} missed, {len(unknown)} not measured.", ""]
    for head, some in (("Missed:", missed), ("Not measured:", unknown)):
        lines += [head, "", *some, ""] if some else []
    return "\n".join(lines)


def write_index(folder: Path) -> str:
    """Write ``benchmarks.md`` from the pages of a folder and return it."""
    text = index({path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("benchmarks-*.md"))})
    (folder / "benchmarks.md").write_text(text, encoding="utf-8")
    return text


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--index", action="store_true")
    given = parser.parse_args()
    scripts = [] if given.index else sorted(HERE.glob("gpu_*.py" if given.gpu else "bench_*.py"))
    if not (given.gpu or given.quick):
        scripts = [script for script in scripts if (script.stem in MORE) == given.more]
    failed, seconds = [], {}
    for script in scripts:
        _say(f"== {script.name}")
        begun = time.perf_counter()
        command = [sys.executable, str(script), *(["--quick"] if given.quick else [])]
        if subprocess.run(command).returncode:
            failed.append(script.name)
        seconds[script.name] = time.perf_counter() - begun
    if given.gpu and not scripts:
        _say("no benchmark needs a GPU yet: nothing measured")
    if seconds:
        _say("== seconds: " + ", ".join(f"{name} {s:.0f}" for name, s in seconds.items()))
        total = sum(seconds.values())
        _say(f"== together {total:.0f} s" + (f", more than the {LIMIT_S} s it should take" if total > LIMIT_S else ""))
    if not given.quick:
        text = write_index(PAGES)
        _say(text[text.index("## Targets") :])
    if failed:
        _say(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
