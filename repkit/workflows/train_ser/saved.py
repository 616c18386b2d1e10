"""What a job keeps so that its model can be applied to new speech without the corpora and stores it was trained on.

Beside the weights: ``model.json`` (how model, frames and vectors are made) and ``normalisation.safetensors`` (what was
fitted on train). JSON and safetensors alone, so that reading them runs no code. Source: own design. Read by
`repkit.workflows.predict`; see docs/run-format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from repkit.api import Fold, TaskSpec
from repkit.config.schema import SerRecipe
from repkit.errors import DataError, PluginError
from repkit.plugins import build_config, load
from repkit.plugins.discover import find
from repkit.plugins.guards import make_frontend
from repkit.runs.directory import canonical_hash, read_json
from repkit.training.data import FoldData, Standardisation
from repkit.workflows.train_ser.conditions import capabilities_of
from repkit.workflows.train_ser.context import SerContext
from repkit.workflows.train_ser.plan import SerJob
from repkit.workflows.train_ser.states import BY_TIME

SCHEMA = 1
"""Raised whenever a reader of the old version would misread a new file."""

MODEL = "model.json"
STATISTICS = "normalisation.safetensors"
HEARD = ("corpora", "speakers", "held_out_speakers")
"""Keys of an encoder's provenance that tell what its training heard: long, and no part of what it computes."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was fitted on the train part of a job; None where nothing is.

    Attributes:
        frames: mean and scale (1, F) of the frames.
        vectors: mean and scale (1, D) of the utterance vectors; the weights of joined blocks are in the scale.
        states: mean and scale (1, D) of the frame-level states.
    """

    frames: Standardisation | None = None
    vectors: Standardisation | None = None
    states: Standardisation | None = None


def origin(group: str, name: str) -> str | None:
    """Return the distribution and version that bring a component, None where it is not installed."""
    try:
        return find(group, name).origin
    except PluginError:
        return None


def trained_with(recipe: SerRecipe) -> dict[str, str | None]:
    """Return by group and name what brings each component that a training runs through (``repkit.models: svm``)."""
    used = [
        ("repkit.frontends", recipe.frontend.name),
        ("repkit.models", recipe.model.name),
        *(("repkit.objectives", table.name) for table in recipe.objectives),
    ]
    return {f"{group}: {name}": origin(group, name) for group, name in used}


def frontend_table(name: str, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a frontend and what tells it from others: all settings, a hash of its convention, the type of its frames.

    Args:
        name: of the component.
        settings: of a recipe's table.
    """
    frontend = make_frontend(name, settings, "frontend")
    config = build_config(load("repkit.frontends", name), settings, "frontend")
    return frontend, {
        "name": name,
        "settings": config.model_dump(mode="json"),
        "component": origin("repkit.frontends", name),
        "convention_sha256": canonical_hash(dict(frontend.convention())),
        # frames were rounded to it on their way through the cache
        "dtype": getattr(frontend, "store_dtype", "float16"),
    }


def describe_model(
    context: SerContext, job: SerJob, fold: Fold, task: TaskSpec, weights: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return all that must be known to apply the selected weights of a job, as JSON values.

    Args:
        context: of the run.
        job: which one.
        fold: as its condition hears it.
        task: what the model was built for.
        weights: by checkpoint the file of the weights of each corpus, or of all (``"*"``).
    """
    recipe = context.recipes[job.condition]
    frontend, frontend_facts = context.keep(
        ("frontend", job.condition), lambda: frontend_table(recipe.frontend.name, recipe.frontend.settings)
    )
    crop_s = recipe.resolved_phases()[-1][1].crop_s
    segments = context.data.segments
    corpora = {one.split("/", 1)[0] for one in fold.train}
    return {
        "schema": SCHEMA,
        "condition": job.condition,
        "seed": job.seed,
        "fold": job.fold,
        "model": {
            "name": recipe.model.name,
            "settings": model_settings(context, job.condition),
            "component": origin("repkit.models", recipe.model.name),
        },
        "task": {
            "n_bands": task.n_bands,
            "vector_dim": task.vector_dim,
            "state_dim": task.state_dim,
            "n_frames": task.n_frames,
            "domains": dict(task.domains),
            "corpora": {name: {view: list(c) for view, c in views.items()} for name, views in task.corpora.items()},
        },
        "views": {view: list(classes) for view, classes in context.views.items()},
        "auxiliary": {view: list(classes) for view, classes in context.auxiliary.items()},
        "weights": {checkpoint: dict(files) for checkpoint, files in weights.items()},
        "per_corpus": "per_corpus" in capabilities_of(recipe) or "*" not in weights["selected"],
        "trained_on": [name for name in task.corpora if name in corpora],
        "frontend": frontend_facts,
        "max_duration_s": recipe.max_duration_s,
        "normalisation": recipe.normalisation.model_dump(mode="json"),
        "segments": None
        if segments is None or recipe.segments is None
        else {
            "n_frames": segments.n_frames,
            "step": (recipe.segments.step_s or recipe.segments.length_s) / frontend.frame_shift_s,
        },
        "crop_frames": None if crop_s is None else context.crops[crop_s],
        "vector": recipe.vector.model_dump(mode="json"),
        "embeddings": _embeddings(context, job.condition),
        "trained_with": trained_with(recipe),
    }


def model_settings(context: SerContext, condition: str) -> dict[str, Any]:
    """Return every setting of a condition's model, those left at their defaults too, as JSON values."""
    recipe = context.recipes[condition]
    model_class = load("repkit.models", recipe.model.name)
    settings = dict(recipe.model.settings)
    if "fusion" in model_class.Config.model_fields:
        settings["fusion"] = context.fusion[condition]
    return dict(build_config(model_class, settings, "model").model_dump(mode="json"))


def _embeddings(context: SerContext, condition: str) -> dict[str, Any] | None:
    """Return level and parts of a condition's embeddings: width, type on disk and identity of the encoder of each."""
    if context.fusion[condition] == "none":
        return None
    conditions = context.keep(("conditions",), lambda: read_json(context.run / "data.json")["conditions"])
    # the stores of all corpora were made by one encoder; planning has refused anything else
    store = next(iter(conditions[condition]["stores"].values()))
    joined = condition in context.weights
    dim = conditions[condition]["dim"]
    parts = store["source"]["parts"] if joined else [{"dim": dim, "dtype": store["dtype"], "source": store["source"]}]
    return {
        "level": "frame" if context.fusion[condition] == "early" else "utterance",
        **({"states": BY_TIME} if context.fusion[condition] == "early" else {}),
        "parts": [
            {**part, "source": {key: value for key, value in part["source"].items() if key not in HEARD}}
            for part in parts
        ],
        # one over the size of a block, in the mean 1; they are part of the scale in normalisation.safetensors
        "block_weights": [float((dim / len(parts) / part["dim"]) ** 0.5) for part in parts] if joined else None,
    }


def save_statistics(path: Path, data: FoldData) -> None:
    """Write mean and scale of what a fold standardises by its train part."""
    fitted = {"frames": data.standardise_frames, "vectors": data.standardise_vectors, "states": data.standardise_states}
    save_file(
        {
            f"{name}.{key}": getattr(one, key).detach().cpu().contiguous().clone()
            for name, one in fitted.items()
            if one is not None
            for key in ("mean", "scale")
        },
        path,
    )


def load_statistics(path: Path, n: int) -> Statistics:
    """Return what `save_statistics` wrote, for n utterances of new speech.

    Raises:
        DataError: missing or damaged.
    """
    values = load_tensors(path)
    group = torch.zeros(n, dtype=torch.int64)
    try:
        return Statistics(
            **{
                name: Standardisation(values[f"{name}.mean"], values[f"{name}.scale"], group)
                for name in ("frames", "vectors", "states")
                if f"{name}.mean" in values
            }
        )
    except KeyError as error:
        raise DataError(f"{path}: damaged ({error} is missing); mean and scale were expected; train again") from error


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file of a job.

    Raises:
        DataError: missing or damaged.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: not there; expected beside {MODEL}; the folder is not as `repkit train-ser` left it: copy the run "
            "again, or delete the folder of this job and start the same repkit train-ser command to make it anew"
        )
    try:
        return load_file(path)
    except Exception as error:  # safetensors has its own exception, of no common base
        raise DataError(
            f"{path}: damaged ({error}); expected safetensors; copy the run again, or delete the folder of this job and start "
            "the same repkit train-ser command to make it anew"
        ) from error


__all__ = [
    "HEARD",
    "MODEL",
    "SCHEMA",
    "STATISTICS",
    "Statistics",
    "describe_model",
    "frontend_table",
    "load_statistics",
    "load_tensors",
    "model_settings",
    "origin",
    "save_statistics",
    "trained_with",
]
