"""Write an encoder as a transformers model folder, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from transformers import PreTrainedModel

from repkit.runs.atomic import TEMPORARY, open_to_others, sync_folder, temporary_name
from repkit.stage_one.folders import WEIGHTS_SUM, quiet_transformers, weights_sha256


def export_encoder(model: PreTrainedModel, folder: Path) -> str:
    """Save config (with frontend, provenance and the weights' checksum) and weights under folder; return their SHA-256 (hex).

    An earlier encoder there is kept until this one is whole. Folders beside it that a killed process left unfinished are deleted,
    so nobody else may write there.
    """
    temporary, old = temporary_name(folder), temporary_name(folder)
    with quiet_transformers():
        model.save_pretrained(temporary)
    found = weights_sha256(temporary)
    config = temporary / "config.json"
    told = {**json.loads(config.read_text(encoding="utf-8")), WEIGHTS_SUM: found}
    config.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in sorted(temporary.iterdir()):
        open_to_others(path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    with suppress(FileNotFoundError):
        folder.rename(old)
    temporary.rename(folder)
    sync_folder(folder.parent)
    for stray in folder.parent.glob(TEMPORARY):
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
    return found
