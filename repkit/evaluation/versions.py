"""Which versions of the components the jobs of a run were trained with, from their ``model.json``. Source: own design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repkit.evaluation.run_files import read_json_file

MODEL = "model.json"
MOST_JOBS = 5
"""Jobs that are named in a sentence."""

Versions = dict[str, dict[str, list[str]]]
"""By component (``repkit.models: svm``) and by what brought it (``repkit 0.1.0``) the jobs (``BL/seed_0/one``)."""


def job_versions(run: Path) -> Versions:
    """Return with what the finished jobs of a run were trained; jobs without a description are passed over.

    Args:
        run: its directory.

    Raises:
        DataError: a description that cannot be read.
    """
    found: Versions = {}
    for path in sorted(Path(run).glob(f"jobs/*/seed_*/*/{MODEL}")):
        if ".tmp." in path.parent.name or not (path.parent / "done.json").exists():
            continue
        job = "/".join(path.parts[-4:-1])
        for component, brought_by in _trained_with(read_json_file(path)).items():
            found.setdefault(component, {}).setdefault(str(brought_by), []).append(job)
    return found


def _trained_with(description: Mapping[str, Any]) -> Mapping[str, str | None]:
    """Return by component what brought it; of jobs of before its version was kept for all of them, those that were."""
    kept = description.get("trained_with")
    if isinstance(kept, Mapping):
        return kept
    tables = {"repkit.frontends": description.get("frontend"), "repkit.models": description.get("model")}
    return {
        f"{group}: {table['name']}": table.get("component")
        for group, table in tables.items()
        if isinstance(table, Mapping) and "name" in table
    }


def continued_notes(run: Path, now: Mapping[str, str | None]) -> list[str]:
    """Return a sentence for components of which finished jobs of a run were trained with another version than is installed.

    Args:
        run: its directory.
        now: by component what brings it, as in `Versions`.
    """
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for component, versions in job_versions(run).items():
        installed = now.get(component)
        for brought_by, jobs in versions.items():
            if installed not in (None, brought_by):
                alike.setdefault((brought_by, str(installed), tuple(jobs)), []).append(component)
    return [
        f"versions: {_count(jobs)} of this run ({_some(jobs)}) trained with {brought_by}, the others with {installed}, which is "
        f"installed now ({', '.join(components)}); to train all with one version give --again"
        for (brought_by, installed, jobs), components in alike.items()
    ]


def mixed_lines(run: Path) -> list[str]:
    """Return a sentence for components of which the jobs of a run were trained with several versions."""
    alike: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
    for component, versions in job_versions(run).items():
        if len(versions) > 1:
            alike.setdefault(tuple((one, tuple(jobs)) for one, jobs in versions.items()), []).append(component)
    return [
        f"{', '.join(components)}: " + "; ".join(f"{one}, {_count(jobs)} ({_some(jobs)})" for one, jobs in versions)
        for versions, components in alike.items()
    ]


def _count(jobs: Sequence[str]) -> str:
    return f"{len(jobs)} job{'s' * (len(jobs) > 1)}"


def _some(jobs: Sequence[str]) -> str:
    more = f" and {len(jobs) - MOST_JOBS} more" if len(jobs) > MOST_JOBS else ""
    return ", ".join(jobs[:MOST_JOBS]) + more


__all__ = ["continued_notes", "job_versions", "mixed_lines"]
