"""What all parts of the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repkit.evaluation.run_files import RunFiles, read_json_file

Row = Mapping[str, Any]
CHECKPOINT_NAMES = {"selected": "epoch selected on dev", "last": "last epoch"}
_CHOSEN_BY = {
    "last": "last epoch",
    "nested": "settings chosen by inner folds of the training speakers",
    "test": "settings chosen on the test folds (optimistic)",
}
"""What the selected checkpoint is, where dev does not choose it."""
DAGGER = "†"


@dataclass(frozen=True, slots=True)
class Page:
    """A run, its scores and the figures drawn of them.

    Attributes:
        files: of the run.
        results: what results.json holds.
        figures: path by key.
        stores: what `stores_of` returns.
    """

    files: RunFiles
    results: Mapping[str, Any]
    figures: Mapping[str, Path]
    stores: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def view(self) -> str:
        """View of the headline: the first one that is scored."""
        return headline(self.results)[0]

    @property
    def checkpoint(self) -> str:
        """Checkpoint of the headline."""
        return headline(self.results)[1]

    def checkpoint_name(self, checkpoint: str | None = None) -> str:
        """Return what a checkpoint (by default the headline's) is, in words."""
        checkpoint = checkpoint or self.checkpoint
        if checkpoint != "selected":
            return CHECKPOINT_NAMES[checkpoint]
        parts = self.files.protocol["parts"]
        own = parts.get("selection_of") or {}
        conditions: dict[str, list[str]] = {}
        for name in self.files.conditions:
            rule = str(own.get(name, parts.get("selection", "")))
            conditions.setdefault(_CHOSEN_BY.get(rule, CHECKPOINT_NAMES["selected"]), []).append(name)
        if len(conditions) > 1:
            return "; ".join(f"{words} ({', '.join(names)})" for words, names in conditions.items())
        return next(iter(conditions), CHECKPOINT_NAMES["selected"])

    @property
    def several(self) -> bool:
        """Whether the run has several corpora."""
        return len(self.files.corpora) > 1

    @property
    def conditions(self) -> dict[str, Row]:
        """Entries of ``conditions`` by name, with the stores that each reads."""
        return {row["name"]: {**row, "stores": self.stores.get(row["name"], {})} for row in self.results["conditions"]}

    @property
    def shown(self) -> dict[str, str]:
        """Name of each condition in tables: a dagger marks transductive ones, a word incomplete ones."""
        incomplete = {score["condition"] for score in self.results["scores"] if not score["complete"]}
        return {
            name: name + (f" {DAGGER}" if row["transductive"] else "") + (" (incomplete)" if name in incomplete else "")
            for name, row in self.conditions.items()
        }

    def of(self, key: str, view: str | None = None, checkpoint: str | None = None) -> list[Row]:
        """Return the entries of a key of the results for a view and checkpoint, by default those of the headline."""
        return rows_of(self.results[key], view or self.view, checkpoint or self.checkpoint)

    def image(self, key: str, text: str) -> list[str]:
        """Return a figure as Markdown, nothing when it was not drawn."""
        return [image(self.figures[key], text)] if key in self.figures else []


def stores_of(files: RunFiles) -> dict[str, dict[str, str]]:
    """Return the fingerprint of every store that a condition reads, by condition and corpus; empty where the run does not tell.

    Raises:
        DataError: data.json is there but unreadable.
    """
    path = files.path / "data.json"
    described = read_json_file(path).get("conditions", {}) if path.exists() else {}
    return {
        name: {
            corpus: str(store["fingerprint"])
            for corpus, store in (condition.get("stores") or {}).items()
            if store.get("fingerprint")
        }
        for name, condition in described.items()
    }


def same_vectors(one: Row, other: Row) -> bool:
    """Return whether two conditions are known to read the same vectors, so that only their settings can differ.

    Args:
        one: an entry of `Page.conditions`.
        other: another.
    """
    return bool(one.get("stores")) and one.get("stores") == other.get("stores")


def headline(results: Mapping[str, Any]) -> tuple[str, str]:
    """Return the view and checkpoint of the headline: the first ones that are scored."""
    for score in results["scores"]:
        return score["view"], score["checkpoint"]
    return next(iter(results["views"])), "selected"


def rows_of(rows: Sequence[Row], view: str, checkpoint: str) -> list[Row]:
    """Return the rows of one view and checkpoint."""
    return [row for row in rows if row["view"] == view and row["checkpoint"] == checkpoint]


def image(path: Path, text: str) -> str:
    """Return a figure as Markdown."""
    return f"![{text}](figures/{path.name})"


def pairs(value: Mapping[str, Any]) -> str:
    """Return the keys and values of a table in one line."""
    return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)
