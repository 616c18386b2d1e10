"""What makes a training the continuation of another one, and what refuses it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repkit.errors import RepkitWarning, UsageError
from repkit.runs.directory import read_json
from repkit.stage_one.folders import WEIGHTS_SUM, weights_sha256
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
    if not path.exists() or not _was_trained(out):
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


def _was_trained(out: Path) -> bool:
    """Tell whether a run came to its first update; one that was refused before it binds nobody to its settings."""
    left = [out / name for name in ("status.json", "results.json", "metrics.jsonl", "encoder", "encoder-best")]
    return any(path.exists() for path in left) or any((out / "checkpoints").glob("**/step-*"))


def finished_results(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the results of a finished run, or None when there is still something to do.

    A run that is done and has lost its results or its encoder since, or whose weights are no longer those that it exported, is
    said to be so and counts as not done: the next start exports them from the last checkpoint.

    Raises:
        UsageError: the folder holds a run with other settings or data.
    """
    check_identity(out, identity)
    status = out / "status.json"
    if not status.exists() or read_json(status).get("state") != "done":
        return None
    lost = _lost(out)
    if lost is None:
        return read_json(out / "results.json")
    _say_once(
        f"{out}: its training is done, but {lost}; what it had exported was expected; it is exported again from the last "
        "checkpoint, or trained again where there is none"
    )
    return None


@cache
def _say_once(text: str) -> None:
    warnings.warn(text, RepkitWarning, stacklevel=3)


def _lost(out: Path) -> str | None:
    """Return what a run that is done lacks of what it had exported, None where it has all."""
    encoder = out / "encoder"
    for path in (out / "results.json", encoder / "config.json", encoder / "model.safetensors"):
        if not path.is_file():
            return f"{path} is not there"
    told = read_json(out / "results.json").get(WEIGHTS_SUM)
    if told is not None and weights_sha256(encoder) != told:
        return f"the weights in {encoder} are damaged or were replaced"
    return None


def tell_of_move(out: Path, begun_on: str, goes_on_on: str, precision: str) -> None:
    """Warn where a training goes on on another kind of device (``cpu``, ``cuda`` ...) than it was begun on."""
    if begun_on != goes_on_on:
        warnings.warn(
            f"{out}: begun on {begun_on}, goes on on {goes_on_on}, in {precision} as before; the same kind of device was expected; "
            "go on there if the encoder must be that of an uninterrupted training to the last bit",
            RepkitWarning,
            stacklevel=3,
        )
