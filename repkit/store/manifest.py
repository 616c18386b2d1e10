"""The manifest: written last, it makes a store complete and holds the SHA-256 of every shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repkit.errors import StoreError
from repkit.runs.atomic import write_json_atomic
from repkit.store.files import told_by_system, unread
from repkit.store.shard import check_schema
from repkit.store.spec import SCHEMA, SCHEMA_VERSION, StoreSpec

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a complete store consists of.

    Attributes:
        spec: identity of the store.
        shards: file, sha256, bytes, n (utterances) and rows of each shard.
        left_out: ids and reasons.
        n_utterances: utterances kept.
        created_utc: when it was finished, ISO 8601.
        repkit_version: who wrote it.
    """

    spec: StoreSpec
    shards: tuple[Mapping[str, Any], ...]
    left_out: tuple[tuple[str, str], ...]
    n_utterances: int
    created_utc: str
    repkit_version: str


def write_manifest(
    folder: Path,
    *,
    spec: StoreSpec,
    shards: Sequence[Mapping[str, Any]],
    left_out: Sequence[tuple[str, str]],
    created_utc: str,
    repkit_version: str,
) -> None:
    """Write the manifest, whole or not at all.

    Raises:
        DataError: full disk.
    """
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "fingerprint": spec.fingerprint,
        "spec": spec.as_json(),
        "n_utterances": sum(int(entry["n"]) for entry in shards),
        "shards": [dict(entry) for entry in shards],
        "left_out": [[id, reason] for id, reason in left_out],
        "created_utc": created_utc,
        "repkit_version": repkit_version,
    }
    values["checksum"] = _checksum(values)
    write_json_atomic(folder / MANIFEST, values)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest.

    Raises:
        StoreError: no manifest (an unfinished store), one that cannot be read, an unknown schema version, or damage.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; a finished store was expected; {_remedy(folder)}") from error
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    check_schema(path, values.get("schema"), values.get("schema_version"))
    if values.pop("checksum", None) != _checksum(values):
        raise _damaged(path, "its checksum does not match")
    try:
        return Manifest(
            spec=StoreSpec.from_json(values["spec"]),
            shards=tuple(values["shards"]),
            left_out=tuple((str(id), str(reason)) for id, reason in values["left_out"]),
            n_utterances=int(values["n_utterances"]),
            created_utc=str(values["created_utc"]),
            repkit_version=str(values["repkit_version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _remedy(folder: Path) -> str:
    """Return what to do where a folder has no manifest."""
    if folder.is_dir() and any(folder.glob("shard-*")):
        return "start the command that fills it again, it goes on where it stopped"
    below = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    if below:
        return f"name one of the stores in it: {', '.join(below[:10])}" + (", ..." if len(below) > 10 else "")
    return "check the path"


def _damaged(path: Path, what: object) -> StoreError:
    if said := told_by_system(what):
        return unread(path, said)
    return StoreError(
        f"{path}: damaged ({what}); the manifest as it was written was expected; "
        "delete it and start the command that fills the store again: all shards are checked and kept"
    )


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


__all__ = ["MANIFEST", "Manifest", "read_manifest", "write_manifest"]
