"""Where the runs of ``repkit train-ser`` are, at or below a folder that a user names."""

from __future__ import annotations

from pathlib import Path

from repkit.errors import DataError, UsageError


def _below(place: Path) -> list[Path]:
    """Return the run directories at a place: itself, or all at most three folders below it, sorted."""
    if (place / "protocol.json").is_file():
        return [place]
    return sorted({path.parent for depth in ("*", "*/*", "*/*/*") for path in place.glob(f"{depth}/protocol.json")})


def find_runs(place: Path) -> list[Path]:
    """Return all run directories at or below a place, sorted.

    Raises:
        UsageError: none.
    """
    found = _below(place)
    if not found:
        raise UsageError(
            f"{place}: no run directory of `repkit train-ser` here or below (protocol.json is missing); give "
            "runs/RECIPE/TIME_SIGNATURE or the folder runs"
        )
    return found


def find_run(place: Path) -> Path:
    """Return the only run directory at or below a place.

    Raises:
        DataError: none, or several, which are listed.
    """
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; a run of `repkit train-ser` was expected; check the path")
    found = _below(place)
    if len(found) == 1:
        return found[0]
    if found:
        listed = [str(path) for path in found[:20]] + ([f"and {len(found) - 20} more"] if len(found) > 20 else [])
        raise DataError(f"{place}: holds {len(found)} runs; one was expected; name the one that is meant", listed)
    hint = "check the path"
    if (place / "encoder" / "config.json").is_file():
        hint = (
            "this is a run of repkit pretrain-ae, an encoder: give it as --encoder beside a run of train-ser, or open it by "
            f'repkit.load_encoder("{place}")'
        )
    raise DataError(
        f"{place}: no run directory of `repkit train-ser` (protocol.json is missing); runs/RECIPE/TIME_SIGNATURE was expected; {hint}"
    )


__all__ = ["find_run", "find_runs"]
