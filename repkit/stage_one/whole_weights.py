"""Load a model as it was saved or not at all: transformers would draw anew at random what a folder does not hold."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from repkit.errors import UsageError
from repkit.stage_one.folders import CLASSES, model_type, quiet_transformers, refuse_damaged


def refuse_other(folder: str | os.PathLike[str], expected: str, where: str) -> None:
    """See that a folder holds the kind of model that is about to read it; what is no folder is left to transformers.

    Args:
        folder: of a model.
        expected: ``model_type`` that its config.json must name.
        where: for messages.

    Raises:
        UsageError: it holds another model, or is the run around one, naming the right call; or it holds none.
    """
    path = Path(folder)
    if not path.is_dir():
        return
    found = model_type(path)
    if found == expected:
        return
    inner = model_type(path / "encoder")
    if found is None and inner is not None:
        raise UsageError(
            f"{where}: got the folder of a run; expected that of the model in it; write {_call(inner, path / 'encoder')}, or "
            f'repkit.load_encoder("{path}")'
        )
    if found is None:
        raise UsageError(
            f"{where}: got a folder without config.json; expected a model of type {expected!r}, which repkit pretrain-ae writes "
            "into RUN/encoder; check the path"
        )
    other = f"hf:{path}" if found not in CLASSES else str(path)
    call = f"{_call(found, path)}, or " if found in CLASSES else ""
    raise UsageError(
        f"{where}: got a model of type {found!r}; expected {expected!r}; write {call}"
        f'repkit.load_encoder("{other}"), which finds out by itself'
    )


def _call(found: str, path: Path) -> str:
    return f'{CLASSES.get(found, "AutoModel")}.from_pretrained("{path}")'


def refuse_gaps(info: dict[str, Any], where: str, harmless: Collection[str] = ()) -> None:
    """See that every weight came from the file and that the file held no other.

    Args:
        info: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys``, as transformers returns them.
        where: for messages.
        harmless: names of missing weights that change no result.

    Raises:
        UsageError: a weight is missing, is of another shape or is not of this model; all of them at once.
    """
    problems = [f"{name}: missing" for name in sorted(info["missing_keys"]) if name not in harmless]
    problems += [f"{name}: not of this model" for name in sorted(info["unexpected_keys"])]
    problems += [
        f"{name}: {tuple(saved)} in the file, {tuple(wanted)} by config.json"
        for name, saved, wanted in sorted(info["mismatched_keys"])
    ]
    if problems:
        raise UsageError(
            f"{where}: {len(problems)} weight(s) do not fit its config.json; expected exactly those of the model, because "
            "what is missing would be random; copy the folder again from the original, or train it again",
            problems[:12] + ([f"and {len(problems) - 12} more"] if len(problems) > 12 else []),
        )


class LoadsWhole:
    """Mixed into a transformers model before `PreTrainedModel`: `from_pretrained` loads all of it, or refuses."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the model of a folder, in evaluation mode, without progress bars and reports.

        Args:
            pretrained_model_name_or_path: folder with config.json and weights, such as ``RUN/encoder``.
            *args: as transformers takes them.
            **kwargs: as transformers takes them.

        Raises:
            UsageError: the folder holds another kind of model (the message names the right call), no weights, weights cut short
                or other than were exported, or weights that are missing, unexpected or of another shape.
        """
        where = f"{cls.__name__}.from_pretrained({str(pretrained_model_name_or_path)!r})"
        refuse_other(pretrained_model_name_or_path, cls.config_class.model_type, where)  # type: ignore[attr-defined]
        if (folder := Path(pretrained_model_name_or_path)).is_dir():
            refuse_damaged(folder, where)
        with_info = kwargs.pop("output_loading_info", False)
        # shapes that differ are then listed by name and refused below; transformers' own error only points to its log
        kwargs["ignore_mismatched_sizes"] = True
        try:
            with quiet_transformers():
                model, info = super().from_pretrained(  # type: ignore[misc]
                    pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
                )
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"{where}: cannot be loaded ({str(error).splitlines()[0]}); expected a folder with config.json and "
                "model.safetensors; check the path, or copy the folder again"
            ) from error
        refuse_gaps(info, where)
        return (model, info) if with_info else model
