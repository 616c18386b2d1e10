"""``metrics.jsonl`` of a stage-one run: one record per epoch, of which some may be lost without harm to the training."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repkit.errors import RepkitWarning
from repkit.runs.atomic import write_text_atomic
from repkit.stage_one.reporter import mean_speed


def cut_metrics(path: Path, epochs: int) -> None:
    """Take the records behind an epoch out of the file, and what is no record; say it where earlier ones are lost.

    Args:
        path: of the file; made anew where it is not there.
        epochs: that stay; those that were logged after a checkpoint will be trained again.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    kept = [line for line in text.splitlines() if (one := _record(line)) is not None and one["epoch"] <= epochs]
    write_text_atomic(path, "".join(f"{line}\n" for line in kept))
    if len(kept) < epochs:
        warnings.warn(
            f"{path}: has the figures of {len(kept)} of the {epochs} epochs that are trained; those of all were expected; the "
            "training goes on from its checkpoint, only the figures are lost",
            RepkitWarning,
            stacklevel=3,
        )


def summary(path: Path, epochs: int, last: Mapping[str, Any], reported: Sequence[str]) -> dict[str, Any]:
    """Return what results.json says of the epochs.

    Args:
        path: of metrics.jsonl.
        epochs: that were trained.
        last: record of the last epoch; empty where the checkpoint does not hold it.
        reported: keys of it to tell.

    Returns:
        these keys of the last epoch, ``training_seconds`` (None where the figures of an epoch are lost) and
        ``hours_per_second`` (over those that are there, None without any).
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = [one for line in text.splitlines() if (one := _record(line)) is not None]
    last = last or (found[-1] if found and found[-1]["epoch"] == epochs else {})
    return {
        **{name: last.get(name) for name in reported},
        "training_seconds": round(sum(one["seconds"] for one in found), 1) if len(found) == epochs else None,
        "hours_per_second": mean_speed(found) if found else None,
    }


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and {"epoch", "seconds", "hours_per_second"} <= found.keys() else None
