"""What a store holds and what made it; two stores with equal fingerprints hold comparable numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from repkit.errors import StoreError

SCHEMA = "repkit.store"
SCHEMA_VERSION = 1
"""Raised whenever a reader of the old version would misread a new store."""

Kind = Literal["frames", "vectors"]
Dtype = Literal["float16", "float32"]


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """The identity of a store.

    Attributes:
        kind: ``"frames"`` for a (T, dim) sequence per utterance, ``"vectors"`` for one (dim,) vector each.
        dim: number of bands F or embedding size D.
        dtype: ``"float16"`` or ``"float32"`` on disk.
        corpus: name of the corpus.
        corpus_fingerprint: its hash (`repkit.api.Corpus.fingerprint`).
        source: what made the numbers, as JSON values: a frontend's convention or an encoder's provenance.
        frame_shift_s: seconds between two frames, None for vectors.

    Raises:
        StoreError: a value no store can have.
    """

    kind: Kind
    dim: int
    dtype: Dtype
    corpus: str
    corpus_fingerprint: str
    source: Mapping[str, Any] = field(default_factory=dict)
    frame_shift_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("frames", "vectors"):
            raise StoreError(f"store kind: got {self.kind!r}; 'frames' or 'vectors' was expected; choose one")
        if self.dtype not in ("float16", "float32"):
            raise StoreError(f"store dtype: got {self.dtype!r}; 'float16' or 'float32' was expected; choose one")
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise StoreError(f"store dim: got {self.dim!r}; a whole number from 1 was expected; pass the width")
        try:
            # a copy in JSON terms, so that what is compared now equals what is read back later (tuples become lists)
            source = json.loads(json.dumps(dict(self.source), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"store source: {error}; JSON values were expected; convert the config or provenance first"
            ) from error
        object.__setattr__(self, "source", source)
        if self.frame_shift_s is not None:
            object.__setattr__(self, "frame_shift_s", float(self.frame_shift_s))

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StoreSpec:
        """Build from what `as_json` returned.

        Raises:
            StoreError: keys are missing or unknown, or a value is wrong.
        """
        known = {entry.name for entry in fields(cls)}
        if set(values) != known:
            raise StoreError(
                f"store spec: keys {sorted(values)}; {sorted(known)} were expected; "
                "the store was written by another repkit, make it again"
            )
        return cls(**values)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the canonical JSON of all fields."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def differences(self, wanted: StoreSpec) -> list[str]:
        """Return one line per field in which the wanted spec differs from this one, nested keys with dots."""
        mine, theirs = dict(_flat(self.as_json())), dict(_flat(wanted.as_json()))
        lines = []
        for key in sorted(mine.keys() | theirs.keys()):
            old, new = mine.get(key, _ABSENT), theirs.get(key, _ABSENT)
            if old != new or type(old) is not type(new):
                lines.append(f"{key}: {_shown(old)} in the store, {_shown(new)} asked for")
        return lines


_ABSENT = object()


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


__all__ = ["SCHEMA", "SCHEMA_VERSION", "Dtype", "Kind", "StoreSpec"]
