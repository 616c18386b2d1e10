"""Folders of stage-one models: where the weights are, their checksum, and the device to put them on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from repkit.errors import UsageError

MODEL_TYPE = "repkit_gru_autoencoder"
COMPONENTS = {MODEL_TYPE: "gru_autoencoder", "repkit_gru_encoder": "gru_encoder"}
"""``model_type`` of each kind of model that pretrain-ae makes to the encoder (group ``repkit.encoders``) that reads it."""
CLASSES = {MODEL_TYPE: "GruAutoencoder", "repkit_gru_encoder": "GruEncoder"}
"""The same to the name of the class that transformers loads it by."""


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
            f"encoder {path}: there is no such folder; expected a run of repkit pretrain-ae; "
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
        state = json.loads((path / "status.json").read_text(encoding="utf-8"))
        raise UsageError(
            f"encoder {path}: its training is {state.get('state')} after {state.get('epoch')} of {state.get('epochs')} "
            "epochs; a finished run was expected; start the same repkit pretrain-ae command again to complete it"
        )
    raise UsageError(
        f"encoder {path}: got a folder without encoder/config.json; expected a run of repkit pretrain-ae; "
        "check the path, or write hf:PATH for another transformers model"
    )


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


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


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
