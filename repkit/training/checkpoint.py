"""Checkpoints that survive a kill at any moment.

A checkpoint is ``step-<n>.safetensors`` and, published after it, ``step-<n>.json`` with the checksum of the tensors and
whatever numbers the loop needs. Both are written under a temporary name, synced and renamed. Loading walks back from
the newest to the first one that is whole. Source: own design.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file

from repkit.errors import RepkitWarning
from repkit.runs.atomic import TEMPORARY, atomic_write, write_json_atomic

_NAME = re.compile(r"step-(\d+)\.json")


@dataclass(frozen=True)
class Checkpoint:
    """What `save_checkpoint` was given.

    Attributes:
        step: its number.
        tensors: by name.
        meta: JSON values.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any], keep: int = 2
) -> None:
    """Publish a checkpoint, then delete all but the newest `keep`.

    Those of later steps are deleted too: they are of a course that the training has gone back behind.

    Args:
        folder: made if absent.
        step: number of the checkpoint; a newer one has a larger number.
        tensors: by name, on any device.
        meta: JSON values.
        keep: how many to keep, at least 1; two let a damaged newest one be survived.

    Raises:
        DataError: the disk is full; the older checkpoints stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:09d}.safetensors"
    # a tensor that shares memory with another would be refused by safetensors
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(own, temporary)
        digest = _sha256(temporary)
    write_json_atomic(path.with_suffix(".json"), {"step": step, "sha256": digest, "meta": dict(meta)})
    steps = _steps(folder)
    kept = [found for found in steps if found <= step][-keep:]
    for other in set(steps) - set(kept):
        # the description goes first, so that what is left is never taken for a checkpoint
        (folder / f"step-{other:09d}.json").unlink(missing_ok=True)
        (folder / f"step-{other:09d}.safetensors").unlink(missing_ok=True)
    described = set(_steps(folder))
    for stray in [*folder.glob("step-*.safetensors"), *folder.glob(TEMPORARY)]:
        if "tmp" in stray.name or int(stray.stem.removeprefix("step-")) not in described:
            stray.unlink(missing_ok=True)


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint of a folder, or None; damaged ones are told of and passed over."""
    for step in reversed(_steps(folder)):
        path = folder / f"step-{step:09d}.safetensors"
        try:
            described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != described["sha256"]:
                raise ValueError("the checksum of its tensors differs")
            return Checkpoint(step=step, tensors=load_safetensors(content), meta=described["meta"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            warnings.warn(
                f"{path}: damaged ({error}); a whole checkpoint was expected; going back to the one before",
                RepkitWarning,
                stacklevel=2,
            )
    return None


def _steps(folder: Path) -> list[int]:
    """Return the numbers of the checkpoints of a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimiser's state as named tensors: ``optimizer.<parameter number>.<entry>``.

    Its settings (learning rate and so on) are not kept; they come from the configuration.
    """
    packed = {}
    for number, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            packed[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimiser the state that `pack_optimizer` returned, bit by bit."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            number, _, entry = rest.partition(".")
            state.setdefault(int(number), {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
