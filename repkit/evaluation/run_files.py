"""What scores and the report read from a run directory, apart from the predictions. See docs/run-format.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repkit.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "BL"
ROLES = ("baseline", "control", "vector")
_CONTROL = re.compile(r"^(untrained|stats?|statistics|random|shuffled|zeros?)([-_.:].*)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run directory, read.

    Attributes:
        path: the directory.
        protocol: protocol.json.
        recipe: the resolved recipe.
        utterances: one row per utterance, indexed by id.
        conditions: planned conditions in the order of the recipe.
        seeds: planned seeds.
        roles: ``"baseline"``, ``"control"`` or ``"vector"`` of each condition.
    """

    path: Path
    protocol: Mapping[str, Any]
    recipe: Mapping[str, Any]
    utterances: pd.DataFrame
    conditions: tuple[str, ...]
    seeds: tuple[int, ...]
    roles: Mapping[str, str] = field(default_factory=dict)

    @property
    def protocol_id(self) -> str:
        """The protocol id."""
        return str(self.protocol["id"])

    @property
    def views(self) -> dict[str, tuple[str, ...]]:
        """Classes of each view."""
        return {view: tuple(classes) for view, classes in self.protocol["parts"]["views"].items()}

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds in their order."""
        return tuple(fold["name"] for fold in self.protocol["folds"])

    @property
    def corpora(self) -> tuple[str, ...]:
        """Names of the corpora, sorted."""
        return tuple(sorted(self.protocol["parts"].get("corpora", {})))

    def planned_jobs(self) -> list[str]:
        """Return the names ``condition/seed_s/fold`` of all jobs of the plan."""
        return [f"{c}/seed_{s}/{fold}" for c in self.conditions for s in self.seeds for fold in self.folds]


def read_run_files(run_dir: str | Path) -> RunFiles:
    """Read protocol, recipe and utterances of a run.

    Conditions and seeds are those of resolved.json (the recipe itself or under its key ``recipe``); folders of further
    conditions and seeds are added behind them, so that nothing on disk goes unseen.

    Raises:
        DataError: the directory or one of the files is missing or unreadable.
    """
    import pandas as pd

    path = Path(run_dir)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected a run directory; give the folder train-ser has written")
    protocol = read_json_file(path / "protocol.json")
    missing = [key for key in ("id", "parts", "folds") if key not in protocol]
    if not missing and "views" not in protocol["parts"]:
        missing = ["parts.views"]
    if missing:
        raise DataError(f"{path / 'protocol.json'}: no {missing[0]!r}; expected it; the file was changed: run again")
    resolved = read_json_file(path / "resolved.json")
    recipe = resolved["recipe"] if isinstance(resolved.get("recipe"), dict) else resolved
    table = path / "utterances.parquet"
    try:
        utterances = pd.read_parquet(table).set_index("id", drop=False)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{table}: {error}; expected the table of utterances of the run; the run has not started or the file was "
            "damaged: run again"
        ) from error
    conditions, roles = _conditions(recipe)
    seeds = [int(seed) for seed in recipe.get("seeds", ())]
    for job in sorted((path / "jobs").glob("*/seed_*")):
        if job.parent.name not in conditions:
            conditions.append(job.parent.name)
            roles[job.parent.name] = _role(job.parent.name, "unknown")
        number = job.name.removeprefix("seed_")
        if number.isdigit() and int(number) not in seeds:
            seeds.append(int(number))
    return RunFiles(
        path=path,
        protocol=protocol,
        recipe=recipe,
        utterances=utterances,
        conditions=tuple(conditions),
        seeds=tuple(seeds),
        roles=roles,
    )


def read_json_file(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: missing, unreadable or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: {error}; expected a JSON object written by repkit; restore it or run again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: {type(value).__name__}; expected a JSON object; restore it or run again")
    return value


def _conditions(recipe: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    listed: Sequence[Mapping[str, Any]] = recipe.get("conditions") or ()
    names = [str(condition["name"]) for condition in listed]
    roles = {str(condition["name"]): _role(str(condition["name"]), condition.get("embeddings")) for condition in listed}
    if recipe.get("baseline", True) and BASELINE not in names:
        names.insert(0, BASELINE)
        roles[BASELINE] = "baseline"
    return names, roles


def _role(name: str, embeddings: object) -> str:
    """Tell a condition's part: without vector the baseline; an untrained encoder or statistics are controls."""
    if embeddings is None or name == BASELINE:
        return "baseline"
    # stores are named after the encoder: <out>/untrained-ae-x/<corpus>
    parts = [name, *Path(str(embeddings)).parts[-2:]]
    return "control" if any(_CONTROL.match(part) for part in parts) else "vector"
