"""Where a dataset of the Hugging Face hub comes from: the dataset as it is, else the hub's own parquet branch."""

from __future__ import annotations

from typing import Any

from repkit.audio.presets import PRESETS
from repkit.errors import DataError

CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps its own parquet copy of a dataset."""


def load_hub(
    id: str, config: str | None, split: str | None, revision: str | None, streaming: bool, allow_partial: bool
) -> tuple[Any, str]:
    """Return a dataset of the hub and a note on where it came from, trying its sources in order.

    Raises:
        DataError: no source could be had; `problems` says why for each, the message how to go on.
    """
    import datasets

    datasets.disable_progress_bars()
    if split is None:
        raise DataError(f"hub:{id}: needs a split; name one with --corpus-set NAME.split=SPLIT")
    problems: list[str] = []
    try:
        return datasets.load_dataset(id, config, split=split, revision=revision, streaming=streaming), ""
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


def _converted(
    id: str, config: str | None, split: str, streaming: bool, allow_partial: bool, problems: list[str]
) -> tuple[Any, str] | None:
    import datasets

    try:
        files = list_parquet(id)
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
    addresses = [f"hf://datasets/{id}@{CONVERTED.replace('/', '%2F')}/{file}" for file in chosen]
    try:
        dataset = datasets.load_dataset("parquet", data_files={split: addresses}, split=split, streaming=streaming)
    except Exception as error:  # noqa: BLE001 - see load_hub
        problems.append(f"{id} at {CONVERTED}: {_first_line(error)}")
        return None
    note = f"hub:{id} {folder}/{split}: read from the hub's parquet branch {CONVERTED}"
    return dataset, f"{note}; it is a PARTIAL copy" if not whole else note


def list_parquet(id: str) -> list[str]:
    """Return the parquet files on the hub's converted branch of a dataset."""
    from huggingface_hub import HfApi

    files = HfApi().list_repo_files(id, repo_type="dataset", revision=CONVERTED)
    return [file for file in files if file.endswith(".parquet")]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
