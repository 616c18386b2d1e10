"""What makes a training the continuation of another one, and what refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repkit.errors import UsageError
from repkit.runs.directory import read_json
from repkit.stage_one.settings import OPERATIONAL, PretrainConfig


def run_identity(config: PretrainConfig, frames: Mapping[str, str]) -> dict[str, Any]:
    """Return what two runs must share: settings that change results, fingerprint of the frames by corpus."""
    settings = {k: v for k, v in config.model_dump(mode="json").items() if k not in OPERATIONAL}
    return {"settings": settings, "frames": dict(frames)}


def check_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to continue a run that was started with other settings or data.

    Raises:
        UsageError: names the keys that differ and both values.
    """
    path = out / "config.json"
    if not path.exists():
        return
    before = read_json(path)
    # a setting that came with a later version has its default in an older run
    defaults = run_identity(PretrainConfig(), {})["settings"]
    before["settings"] = {**defaults, **before.get("settings", {})}
    problems = [
        f"{part}.{key}: {before.get(part, {}).get(key)!r} in the folder, {identity[part].get(key)!r} asked for"
        for part in ("settings", "frames")
        for key in sorted(before.get(part, {}).keys() | identity[part].keys())
        if before.get(part, {}).get(key) != identity[part].get(key)
    ]
    if problems:
        raise UsageError(
            f"{out}: holds a run with other settings; the same settings were expected, to resume it; "
            "choose another --out or delete the folder",
            problems,
        )


def finished_results(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the results of a finished run, or None when there is still something to do.

    Raises:
        UsageError: the folder holds a run with other settings or data.
    """
    check_identity(out, identity)
    status = out / "status.json"
    if status.exists() and read_json(status).get("state") == "done":
        return read_json(out / "results.json")
    return None
