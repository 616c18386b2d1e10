"""Where a dataset of the Hugging Face hub comes from: the dataset as it is, else the hub's own parquet branch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repkit.audio.presets import PRESETS
from repkit.errors import DataError

CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps its own parquet copy of a dataset."""


@dataclass(frozen=True)
class Loaded:
    """A dataset of the hub.

    Attributes:
        dataset: as `datasets` gives it.
        note: where it came from, empty if that is the dataset as it is.
        origin: JSON values that tell its content from that of another time, empty where nobody knows.
    """

    dataset: Any
    note: str
    origin: Mapping[str, Any]


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit, behind which nothing changes."""
    return re.fullmatch("[0-9a-f]{40}", revision or "") is not None


def commit_of(id: str, revision: str | None) -> str | None:
    """Return the commit that a branch or tag of a dataset stands for now; None where the hub does not answer."""
    if is_commit(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(id, revision=revision, timeout=30).sha
    except Exception:  # noqa: BLE001 - whatever its client raises; loading the dataset says why
        return None


def load_hub(
    id: str, config: str | None, split: str | None, revision: str | None, streaming: bool, allow_partial: bool
) -> Loaded:
    """Return a dataset of the hub, trying its sources in order; a branch is looked up once and its commit loaded.

    Raises:
        DataError: no source could be had; `problems` says why for each, the message how to go on.
    """
    import datasets

    datasets.disable_progress_bars()
    if split is None:
        raise DataError(f"hub:{id}: needs a split; name one with --corpus-set NAME.split=SPLIT")
    problems: list[str] = []
    try:
        commit = commit_of(id, revision)
        dataset = datasets.load_dataset(id, config, split=split, revision=commit or revision, streaming=streaming)
        return Loaded(dataset, "", _origin(dataset, commit))
    except Exception as error:  # noqa: BLE001 - whatever the hub's client raises, the next source may still do
        problems.append(f"{id}{f' at {revision}' if revision else ''}: {_first_line(error)}")
    if revision is None:
        found = _converted(id, config, split, streaming, allow_partial, problems)
        if found is not None:
            return found
    preset = next((preset for preset in PRESETS.values() if preset.id == id), None)
    local = (
        f"get it from {preset.home} and write --corpus {preset.name}=PATH ({preset.layout})"
        if preset is not None
        else "download its parquet files and write --corpus NAME=PATH"
    )
    raise DataError(
        f"hub:{id}, config {config}, split {split}: could not be loaded from the hub; check the network, the id and "
        f"the split, or {local}",
        problems,
    )


def _origin(dataset: Any, commit: str | None) -> dict[str, Any]:
    """Return the commit of a dataset; of one from the cache, while the hub does not answer, what the cache knows of it."""
    if commit is None:
        # the cache names the folder of a dataset by its commit
        folders = {Path(file["filename"]).parent.name for file in getattr(dataset, "cache_files", None) or ()}
        commit = next(filter(is_commit, sorted(folders)), None)
    if commit is not None:
        return {"commit": commit}
    fingerprint = getattr(dataset, "_fingerprint", None)
    return {} if fingerprint is None else {"fingerprint": fingerprint}


def _converted(
    id: str, config: str | None, split: str, streaming: bool, allow_partial: bool, problems: list[str]
) -> Loaded | None:
    import datasets

    try:
        commit = commit_of(id, CONVERTED)
        files = list_parquet(id, commit or CONVERTED)
    except Exception as error:  # noqa: BLE001 - see load_hub
        problems.append(f"{id} at {CONVERTED}: {_first_line(error)}")
        return None
    folder = config or "default"
    whole = [file for file in files if file.startswith(f"{folder}/{split}/")]
    partial = [file for file in files if file.startswith(f"{folder}/partial-{split}/")]
    if not whole and partial and not allow_partial:
        problems.append(
            f"{id} at {CONVERTED}: only a partial copy of {folder}/{split} is there, cut at a size limit of the hub; "
            "take it with --corpus-set NAME.allow_partial=true"
        )
        return None
    chosen = sorted(whole or partial)
    if not chosen:
        problems.append(f"{id} at {CONVERTED}: has no parquet files of {folder}/{split}")
        return None
    # the branch's name holds slashes, which a hub address writes as %2F
    addresses = [f"hf://datasets/{id}@{(commit or CONVERTED).replace('/', '%2F')}/{file}" for file in chosen]
    try:
        dataset = datasets.load_dataset("parquet", data_files={split: addresses}, split=split, streaming=streaming)
    except Exception as error:  # noqa: BLE001 - see load_hub
        problems.append(f"{id} at {CONVERTED}: {_first_line(error)}")
        return None
    note = f"hub:{id} {folder}/{split}: read from the hub's parquet branch {CONVERTED}"
    origin = _origin(dataset, commit)
    if not whole:
        note = f"{note}; it is a PARTIAL copy"
    return Loaded(dataset, note, {**origin, "branch": CONVERTED, "partial": not whole} if origin else {})


def list_parquet(id: str, revision: str) -> list[str]:
    """Return the parquet files of a dataset on a branch, such as `CONVERTED`, or at a commit of it."""
    from huggingface_hub import HfApi

    files = HfApi().list_repo_files(id, repo_type="dataset", revision=revision)
    return [file for file in files if file.endswith(".parquet")]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
