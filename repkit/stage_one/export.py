"""Write an encoder as a transformers model folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from repkit.stage_one.folders import quiet_transformers, weights_sha256


def export_encoder(model: PreTrainedModel, folder: Path) -> str:
    """Save config (with frontend and provenance) and weights under folder; return the weights' SHA-256 (hex)."""
    temporary = folder.with_name(f"{folder.name}.tmp.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    with quiet_transformers():
        model.save_pretrained(temporary)
    for path in sorted(temporary.iterdir()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return weights_sha256(folder)
