"""What scores and the report read from a run directory, apart from the predictions. See docs/run-format.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repkit.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "BL"
ROLES = ("baseline", "system", "control", "vector")
"""``baseline``: the reference, which all others are compared with; ``system``: other settings, no embedding;
``vector``: an embedding; ``control``: an embedding that knows nothing of speech (untrained encoder, statistics)."""
_CONTROL = re.compile(r"^(untrained|stats?|statistics|random|shuffled|zeros?)([-_.:].*)?$", re.IGNORECASE)

_UNKNOWN = "unknown"  # where only the folder of jobs tells that there is such a condition


@dataclass(frozen=True, slots=True)
class ConditionInfo:
    """What one condition of a run is.

    Attributes:
        name: of the condition.
        role: one of `ROLES`.
        has_vector: reads an embedding.
        settings: what it sets differently from the recipe, empty where nothing.
        variant: name of these settings: before the last dot where it also has an embedding, ``""`` without settings.
        twin: the condition of the same settings without embedding, None where there is none or it is itself.
        folders: of the embeddings that it reads, several where they are joined; empty where it reads none or the run does not
            tell.
    """

    name: str
    role: str
    has_vector: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    twin: str | None = None
    folders: tuple[str, ...] = ()


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
        infos: what each condition is.
        reference: the condition that the others are compared with, None where there is none.
    """

    path: Path
    protocol: Mapping[str, Any]
    recipe: Mapping[str, Any]
    utterances: pd.DataFrame
    conditions: tuple[str, ...]
    seeds: tuple[int, ...]
    infos: Mapping[str, ConditionInfo] = field(default_factory=dict)
    reference: str | None = None

    @property
    def roles(self) -> dict[str, str]:
        """Role of each condition, one of `ROLES`."""
        return {name: info.role for name, info in self.infos.items()}

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

    def known(self, column: str) -> dict[str, str]:
        """Return a column of the utterances by id, as text, where it is known; empty without such a column."""
        if column not in self.utterances:
            return {}
        rows = self.utterances[["id", column]].dropna()
        return dict(zip(map(str, rows["id"].tolist()), map(str, rows[column].tolist())))

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
    conditions, reference = _conditions(recipe)
    seeds = [int(seed) for seed in recipe.get("seeds", ())]
    for job in sorted((path / "jobs").glob("*/seed_*")):
        conditions.setdefault(job.parent.name, {"name": job.parent.name, "embeddings": _UNKNOWN})
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
        infos={name: _info(listed, conditions, reference) for name, listed in conditions.items()},
        reference=reference,
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


def _conditions(recipe: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], str | None]:
    """Return the tables of the planned conditions by name, and the name of the reference."""
    found = {str(condition["name"]): condition for condition in recipe.get("conditions") or ()}
    if recipe.get("baseline", True) and BASELINE not in found:
        found = {BASELINE: {"name": BASELINE}, **found}
    reference = recipe.get("reference") or BASELINE
    if reference not in found:
        # without the condition that was to be the reference, one without any vector stands in for it
        bare = [name for name, table in found.items() if table.get("embeddings") is None]
        reference = next((name for name in bare if not found[name].get("set")), bare[0] if bare else None)
    return found, reference


def _info(
    table: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]], reference: str | None
) -> ConditionInfo:
    """Tell a condition's part in the run."""
    name, embeddings, settings = str(table["name"]), table.get("embeddings"), table.get("set") or {}
    has_vector = embeddings is not None
    variant = (name.rpartition(".")[0] or name) if settings and has_vector else name if settings else ""
    twin = None
    if settings and has_vector:
        bare = [n for n, other in conditions.items() if other.get("embeddings") is None and other.get("set")]
        same = [n for n in bare if conditions[n]["set"] == settings]
        twin = variant if variant in bare else same[0] if same else None
    # stores are named after the encoder: <out>/untrained-ae-x/<corpus>; several are joined
    listed = embeddings if isinstance(embeddings, list | tuple) else [embeddings] if has_vector else []
    folders = [Path(str(folder)) for folder in listed]
    if name == reference:
        role = "baseline"
    elif not has_vector:
        role = "system"
    else:
        parts = [name, *(part for folder in folders for part in folder.parts[-2:])]
        parts += [name.rpartition(".")[2]] if settings else []
        role = "control" if any(_CONTROL.match(part) for part in parts) else "vector"
    known = () if embeddings == _UNKNOWN else tuple(map(str, folders))
    return ConditionInfo(name, role, has_vector, settings, variant, twin, known)
