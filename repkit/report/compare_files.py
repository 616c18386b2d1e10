"""The comparison of several runs as a file: Markdown and LaTeX for readers, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from repkit.errors import UsageError, did_you_mean
from repkit.report.compare import Comparison, Row, compare, markdown

COLUMNS = (
    "run", "signature", "recipe", "corpora", "model", "settings", "protocol_id", "condition", "view", "checkpoint", "complete",
    "uar_mean", "uar_min", "uar_max", "uar_sd", "uar_pooled", "uar_pooled_low", "uar_pooled_high", "wa_mean",
    "mean_over_corpora", "mean_over_corpora_low", "mean_over_corpora_high", "against", "difference", "difference_low",
    "difference_high", "verdict", "n_speakers", "n_seeds",
)  # fmt: skip
"""Columns of the CSV; scores are shares, `settings` a JSON object, `difference` is that of pooled UAR from `against`, the reference."""

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def check_suffix(path: Path) -> None:
    """Refuse a file whose name does not say what is wanted in it.

    Raises:
        UsageError: names the suffixes that can be written.
    """
    if path.suffix.lower() not in _WRITERS:
        meant = did_you_mean(path.suffix.lower(), _WRITERS)
        raise UsageError(
            f"--out {path}: suffix {path.suffix or 'none'!r}{meant}; {', '.join(_WRITERS)} were expected, which say what the "
            f"file holds; name it {path.with_suffix('.md').name} or {path.with_suffix('.csv').name}"
        )


def comparison_file(run_dirs: Sequence[str | Path], path: Path, view: str | None = None) -> str:
    """Return what a file of this name is to hold: the comparison of runs in the format that its suffix says.

    Args:
        run_dirs: run directories.
        path: with suffix ``.md``, ``.csv``, ``.json`` or ``.tex``.
        view: see `repkit.report.compare.compare_runs`.

    Raises:
        UsageError: another suffix, no run, or a view that none of them has.
        DataError: a file of a run is missing or breaks its schema.
    """
    check_suffix(path)
    return _WRITERS[path.suffix.lower()](compare(run_dirs, view=view))


def _csv(found: Comparison) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_record(row) for row in found.rows)
    return text.getvalue()


def _record(row: Row) -> dict[str, Any]:
    """Return a row as flat values; what is not known stays empty."""
    mean = row["mean_over_corpora"] or {}
    found = next((d for d in row["differences"] if d["role"] == "baseline"), {})
    return {
        **row,
        "corpora": " ".join(row["corpora"]),
        "settings": json.dumps(row["settings"], ensure_ascii=False) if row["settings"] else "",
        "mean_over_corpora": mean.get("mean"),
        "mean_over_corpora_low": mean.get("low"),
        "mean_over_corpora_high": mean.get("high"),
        "against": found.get("against"),
        "difference": found.get("difference"),
        "difference_low": found.get("low"),
        "difference_high": found.get("high"),
        "verdict": found.get("verdict"),
    }


def _json(found: Comparison) -> str:
    return json.dumps({"schema": 1, "rows": list(found.rows)}, indent=2, ensure_ascii=False) + "\n"


def _tex(found: Comparison) -> str:
    header, rows = found.cells()
    lines = [f"% {line}".rstrip() for line in found.legend.splitlines()]
    lines += [f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", "\\hline"]
    lines += [" & ".join(map(_escaped, header)) + r" \\", "\\hline"]
    lines += [" & ".join(map(_escaped, row)) + r" \\" for row in rows]
    return "\n".join([*lines, "\\hline", "\\end{tabular}"]) + "\n"


def _escaped(cell: str) -> str:
    """Return a cell as LaTeX, Markdown's bold and code as LaTeX's."""
    text = "".join(_TEX.get(character, character) for character in cell)
    return re.sub(r"`(.+?)`", r"\\texttt{\1}", re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text))


_WRITERS: dict[str, Callable[[Comparison], str]] = {
    ".md": markdown,
    ".csv": _csv,
    ".json": _json,
    ".tex": _tex,
}
