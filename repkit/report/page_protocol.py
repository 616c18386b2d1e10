"""The page's part on how the scores came about: conditions, protocol, flags, warnings, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repkit.evaluation.run_files import read_json_file
from repkit.evaluation.versions import mixed_lines
from repkit.report import tables
from repkit.report.context import DAGGER, Page, Row, pairs, same_vectors
from repkit.report.training import domain_lines, parameter_counts, warning_lines

MOST_TEXT = 300
ROLE_WORDS = {
    "baseline": "reference",
    "system": "system",
    "vector": "vector",
    "control": "control (a vector without learning)",
}


def conditions_part(page: Page) -> list[str]:
    """Return what each condition is; nothing where conditions differ in their vector alone."""
    rows = list(page.conditions.values())
    if not any(row["settings"] for row in rows):
        return []
    reference = page.conditions.get(page.results["reference"] or "", {})
    counts = parameter_counts(page.files)
    listed = [
        [
            page.shown.get(row["name"], row["name"]),
            _role(row, reference),
            "yes" if row["has_vector"] else "no",
            f"{counts[row['name']]:,}".replace(",", " ") if row["name"] in counts else "-",
            _settings(row["settings"]) or "as the recipe says",
        ]
        for row in rows
    ]
    header = ["condition", "role", "vector", "parameters", "sets"]
    return ["## Conditions", _left(tables.table(header, listed), len(header))]


def _role(row: Row, reference: Row) -> str:
    """Return what a condition is to the run: one that reads the reference's vectors is neither a vector nor a control beside it."""
    if row["role"] == "baseline" or not same_vectors(row, reference):
        return ROLE_WORDS[row["role"]]
    return "other settings, same vector"


def transductive_note(page: Page) -> list[str]:
    """Return what the dagger means; nothing where no condition has it."""
    names = [name for name, row in page.conditions.items() if row["transductive"]]
    if not names:
        return []
    return [
        f"{DAGGER} transductive: normalisation, training or the encoder's own training has heard audio of the test speakers, without labels "
        f"({', '.join(names)}). Such scores answer another question than those of conditions that hear the test speakers "
        "for the first time."
    ]


def protocol_part(page: Page) -> list[str]:
    """Return the protocol, what the audit flags and what the trainings warn of."""
    files = page.files
    parts = files.protocol["parts"]
    rows: list[tuple[str, object]] = [("protocol id", f"`{files.protocol_id}`")]
    for name, fingerprint in sorted(parts.get("corpora", {}).items()):
        rows.append((f"corpus {name}", f"fingerprint `{str(fingerprint)[:12]}`"))
    for view, classes in parts["views"].items():
        derived = (parts.get("derived_views") or {}).get(view)
        source = f" ({pairs(derived)}; map {parts.get('category_map')})" if isinstance(derived, Mapping) else ""
        rows.append((f"classes of {view}", ", ".join(classes) + source))
    for key, value in parts.items():
        if key in ("corpora", "views", "derived_views"):
            continue
        text = pairs(value) if isinstance(value, Mapping) else value
        rows.append((key.replace("_", " "), f"`{str(text)[:12]}`" if key.endswith("sha256") else text))
    sizes = files.protocol["folds"]
    spans = ", ".join(
        f"{part} {min(f.get(part, 0) for f in sizes)} to {max(f.get(part, 0) for f in sizes)}"
        for part in ("train", "dev", "test")
    )
    rows.append(("folds", f"{len(sizes)}; utterances: {spans}"))
    flags = files.protocol.get("audit") or []
    listed = "\n".join(f"- {flag}" for flag in flags) if flags else "The audit of the folds has nothing to flag."
    part = ["## Protocol", _left(tables.table(["fact", "value"], rows), 2), "### What the audit flags", listed]
    warned = [*warning_lines(files), *domain_lines(files)]
    if warned:
        part += ["### What the trainings warn of", "\n".join(f"- {line}" for line in warned)]
    return part


def end_part(page: Page) -> list[str]:
    """Return command, data left out, environment and time."""
    path = page.files.path
    part = ["## How this was made"]
    command = path / "command.txt"
    if command.exists():
        part.append(f"```\n{command.read_text(encoding='utf-8').strip()}\n```")
    data = _optional(path / "data.json")
    for key, what in (("dropped", "not used"), ("left_out", "left out for its audio")):
        if data.get(key):
            listed = [f"{name}: {value}" for name, value in list(data[key].items())[:10]]
            more = f" and {len(data[key]) - 10} more" if len(data[key]) > 10 else ""
            part.append(f"Speech {what}: {'; '.join(listed)}{more}.")
    environment = _optional(path / "environment.json")
    if environment:
        flat = {key: value for key, value in environment.items() if not isinstance(value, Mapping | list)}
        packages = environment.get("packages") or {}
        part.append(f"Environment: {pairs({**flat, **packages})}.")
        if "plugins" in environment:
            part.append(f"Plugins installed: {', '.join(map(str, environment['plugins'])) or 'none'}.")
    if mixed := mixed_lines(path):
        part.append("The jobs were not all trained with one version: " + ". ".join(mixed) + ".")
    status = _optional(path / "status.json")
    if status.get("seconds") is not None:
        seconds = status["seconds"]
        took = f"{seconds:.0f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"
        part.append(f"Time: {took} for {status.get('jobs', 'all')} jobs.")
    part.append("Made by `repkit report` from the files of this folder alone; scores in full: results.json.")
    return part


def _settings(settings: Mapping[str, Any]) -> str:
    """Return a condition's own tables as dotted keys."""
    found: list[str] = []

    def walk(value: object, name: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        else:
            found.append(f"`{name} = {json.dumps(value, ensure_ascii=False)}`")

    if settings:
        walk(settings, "")
    text = ", ".join(found)
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT].rsplit(", ", 1)[0] + ", ..."


def _left(text: str, n_columns: int) -> str:
    """Return a table whose columns are all set left, as sentences are."""
    return text.replace("|:--" + "|--:" * (n_columns - 1) + "|", "|:--" * n_columns + "|", 1)


def _optional(path: Path) -> dict[str, Any]:
    return read_json_file(path) if path.exists() else {}
