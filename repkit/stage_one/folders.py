"""Folders of stage-one models: where the weights are, their checksum, and the device to put them on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from repkit.errors import UsageError, did_you_mean
from repkit.plugins import components
from repkit.runs.device import settle_device
from repkit.runs.directory import read_json

MODEL_TYPE = "repkit_gru_autoencoder"
COMPONENTS = {MODEL_TYPE: "gru_autoencoder", "repkit_gru_encoder": "gru_encoder"}
"""``model_type`` of each kind of model that pretrain-ae makes to the encoder (group ``repkit.encoders``) that reads it."""
CLASSES = {MODEL_TYPE: "GruAutoencoder", "repkit_gru_encoder": "GruEncoder"}
"""The same to the name of the class that transformers loads it by."""

WEIGHTS_SUM = "weights_sha256"
"""Key of the weights' checksum in a model folder's config.json, and in the results.json of the run around it."""


def model_type(folder: Path) -> str | None:
    """Return ``model_type`` of a transformers model folder, or None when it is none."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: damaged ({error}); expected the JSON config of a model; export it again") from error
    return found.get("model_type") if isinstance(found, dict) else None


def find_model(path: Path) -> tuple[Path, str]:
    """Return the model folder of a stage-one run (or of itself) and the name to call the encoder by.

    Raises:
        UsageError: there is no such folder, or its run is not finished, or it holds something else.
    """
    path = Path(path)
    if not path.is_dir():
        raise UsageError(
            f"encoder {path}: there is no such folder{_meant(path)}; expected a run of repkit pretrain-ae; "
            "check the path, or write hf:ORG/NAME for a model of the hub"
        )
    resolved = path.resolve()
    if model_type(path / "encoder") in COMPONENTS:
        return path / "encoder", resolved.name
    if model_type(path) in COMPONENTS:
        inner = resolved.name.startswith("encoder")
        return path, resolved.parent.name + resolved.name.removeprefix("encoder") if inner else resolved.name
    if (path / "protocol.json").is_file():
        raise UsageError(
            f"encoder {path}: got a run of repkit train-ser, which holds emotion models; expected a run of repkit pretrain-ae; "
            f'check the path, or open it by repkit.load_run("{path}")'
        )
    if (path / "status.json").is_file():
        state = read_json(path / "status.json")
        if state.get("state") == "done":
            raise UsageError(
                f"encoder {path}: its training is done, but {path / 'encoder'} is not there or damaged; the exported encoder was "
                "expected; start the same repkit pretrain-ae command again, which exports it from the last checkpoint"
            )
        raise UsageError(
            f"encoder {path}: its training is {state.get('state')} after {state.get('epoch')} of {state.get('epochs')} "
            "epochs; a finished run was expected; start the same repkit pretrain-ae command again to complete it"
        )
    raise UsageError(
        f"encoder {path}: got a folder without encoder/config.json; expected a run of repkit pretrain-ae; "
        "check the path, or write hf:PATH for another transformers model"
    )


def _meant(path: Path) -> str:
    """Return what a bare word may have been meant for: the installed encoder of nearly that name, or their list."""
    if len(path.parts) != 1:
        return ""
    names = sorted(component.name for component in components("repkit.encoders"))
    if path.name in names:
        return f"; {path.name} is an installed encoder and no run"
    return did_you_mean(path.name, names) or f" and no such encoder (installed: {', '.join(names)})"


def component_of(path: Path) -> str | None:
    """Return the name of the encoder that reads a stage-one run or model folder, or None when it is neither."""
    return COMPONENTS.get(str(model_type(path / "encoder") or model_type(path)))


def stored_frontend(folder: Path) -> dict[str, Any]:
    """Return name, settings and convention of the frontend that a model folder was saved with.

    Raises:
        UsageError: it was saved without one.
    """
    found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("frontend")
    if not found:
        raise UsageError(
            f"{folder}: its config.json names no frontend; expected {{'name', 'settings'}}; save it through pretrain-ae"
        )
    table: dict[str, Any] = found
    return table


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 (hex) of a model folder's weights, over all safetensors files in order of name."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def told_sha256(folder: Path) -> str | None:
    """Return the checksum that a model folder's weights had when they were exported, or None where nothing tells it.

    Its own config.json tells it; for folders exported by an earlier repkit the results.json of the run around ``encoder``.

    Raises:
        DataError: one of these is damaged.
    """
    config, results = folder / "config.json", folder.parent / "results.json"
    told = read_json(config).get(WEIGHTS_SUM) if config.is_file() else None
    if told is None and folder.name == "encoder" and results.is_file():
        told = read_json(results).get(WEIGHTS_SUM)
    return None if told is None else str(told)


def refuse_damaged(folder: Path, where: str) -> None:
    """See that a model folder's weights are those that were exported, where that is known.

    Args:
        folder: of a model.
        where: for the message.

    Raises:
        UsageError: they are others.
    """
    told = told_sha256(folder)
    if told is not None and any(folder.glob("*.safetensors")) and (found := weights_sha256(folder)) != told:
        raise UsageError(
            f"{where}: {folder} holds weights of SHA-256 {found[:12]}; {told[:12]} was expected, as they were exported; they are "
            "damaged or were replaced: copy the folder again from the original, or start the same repkit pretrain-ae command "
            "again, which exports them from the last checkpoint"
        )


def pick_device(name: str) -> torch.device:
    """Return the device of an encoder's setting ``device``; see `repkit.runs.device.settle_device`."""
    return settle_device(name, "encoder setting device")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing its own progress bars and from reporting what the caller checks; errors are told."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(max(verbosity, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
