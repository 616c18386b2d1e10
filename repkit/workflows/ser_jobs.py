"""One stage-two training from shared data to files; runs in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from repkit.api import MISSING, Fold, TaskSpec
from repkit.config.schema import SerRecipe
from repkit.errors import PluginError
from repkit.evaluation.metrics import uar, wa
from repkit.evaluation.predictions import prediction_table, write_predictions
from repkit.features.normalise import fit_normaliser
from repkit.features.ragged import Ragged
from repkit.plugins import build_config, load
from repkit.runs.directory import RunDirectory, publish_job_folder, room_on_disk, start_job_folder
from repkit.runs.seeding import derive_seed
from repkit.training.data import FoldData, RaggedTensor, Standardisation, TrainingData
from repkit.training.loop import Fitted, fit, predict
from repkit.workflows.ser_plan import SerJob


@dataclass(slots=True)
class SerContext:
    """What all jobs of a run share.

    Attributes:
        run: where results go.
        recipe: resolved.
        data: utterances in memory, without any condition's embeddings.
        vectors: per condition (n, D) utterance vectors.
        states: per condition frame-level states.
        fusion: per condition ``none``, ``late`` or ``early``.
        folds: by name.
        views: classes of each view.
    """

    run: Path
    recipe: SerRecipe
    data: TrainingData
    vectors: Mapping[str, torch.Tensor]
    states: Mapping[str, RaggedTensor]
    fusion: Mapping[str, str]
    folds: Mapping[str, Fold]
    views: Mapping[str, tuple[str, ...]]


def run_job(context: SerContext, job: SerJob, on_epoch: Callable[[int], None]) -> dict[str, Any]:
    """Train one model, predict its dev and test part, publish its folder; return its selected dev and last epoch.

    Raises:
        DataError: the training diverged, or the disk is full.
        PluginError: a component broke its contract.
    """
    recipe, fold = context.recipe, context.folds[job.fold]
    index = {utterance_id: i for i, utterance_id in enumerate(context.data.ids)}
    parts = {
        name: torch.tensor([index[i] for i in getattr(fold, name)], dtype=torch.int64)
        for name in ("train", "dev", "test")
    }
    data = prepare_fold(context, job.condition, parts["train"])
    model, objectives = build(context, job, data.data)
    # all folds of a seed and condition start from different weights; all conditions see the same batches and dropout
    seed = derive_seed(job.seed, job.fold)
    fitted = fit(
        model,
        objectives,
        data,
        parts["train"],
        parts["dev"],
        recipe.training,
        seed,
        _scorer(data, context.views),
        on_epoch,
    )
    with room_on_disk(context.run):
        return _publish(context, job, model, fitted, data, parts)


def task_of(context: SerContext, condition: str) -> TaskSpec:
    """Return what a model of this condition has to predict and from what."""
    fusion = context.fusion[condition]
    return TaskSpec(
        views=dict(context.views),
        n_bands=context.data.frames.values.shape[1],
        vector_dim=context.vectors[condition].shape[1] if fusion == "late" else 0,
        state_dim=context.states[condition].values.shape[1] if fusion == "early" else 0,
    )


def build(
    context: SerContext, job: SerJob, data: TrainingData
) -> tuple[torch.nn.Module, dict[str, tuple[torch.nn.Module, float]]]:
    """Build the model and the objectives of a job; initial weights depend on seed and fold."""
    recipe, task = context.recipe, task_of(context, job.condition)
    model_class = load("repkit.models", recipe.model.name)
    settings = dict(recipe.model.settings)
    if "fusion" in model_class.Config.model_fields:
        settings["fusion"] = context.fusion[job.condition]
    torch.manual_seed(derive_seed(job.seed, job.fold, "weights"))
    model = model_class(build_config(model_class, settings, "model"), task)
    objectives = {}
    for number, table in enumerate(recipe.objectives):
        objective_class = load("repkit.objectives", table.name)
        config = build_config(objective_class, table.settings, f"objectives.{number}")
        objectives[table.name] = (objective_class(config, task), table.weight)
    return model, objectives


def prepare_fold(context: SerContext, condition: str, train: torch.Tensor) -> FoldData:
    """Return the data as this fold and condition see it: statistics and class weights from train alone."""
    recipe, data = context.recipe, context.data
    seen = TrainingData(
        ids=data.ids,
        frames=data.frames,
        targets=data.targets,
        vectors=context.vectors.get(condition),
        states=context.states.get(condition),
        domains=data.domains,
    )
    weights = None
    if recipe.training.class_weights == "balanced":
        target = next(iter(data.targets.values()))
        counts = torch.bincount(target[train], minlength=int(target.max()) + 1).clamp(min=1)
        present = int((torch.bincount(target[train]) > 0).sum())
        weights = len(train) / (present * counts.float()[target.clamp(min=0)])  # N / (C N_c): mean 1 on train
    ids, train_ids = data.ids, [data.ids[i] for i in train.tolist()]
    frames = vectors = states = None
    if recipe.normalisation.mode == "global_train":  # the other modes do not depend on the fold and are done already
        frames = _by_train(_as_ragged(data.frames, ids), train_ids)
    if seen.vectors is not None and recipe.vector.standardise:
        vectors = _by_train(Ragged.from_vectors(seen.vectors.numpy(), tuple(ids)), train_ids)
    if seen.states is not None and recipe.vector.standardise:
        states = _by_train(_as_ragged(seen.states, ids), train_ids)
    return FoldData(
        seen, standardise_frames=frames, standardise_vectors=vectors, standardise_states=states, weights=weights
    )


def _by_train(values: Ragged, train_ids: Sequence[str]) -> Standardisation:
    """Return mean and scale per column over the train part."""
    statistics = fit_normaliser("global_train", values, (), train_ids).groups["train"]
    return Standardisation(
        mean=torch.from_numpy(statistics.mean).float()[None],
        scale=torch.from_numpy(1 / statistics.std).float()[None],
        group=torch.zeros(len(values), dtype=torch.int64),
    )


def _as_ragged(sequences: RaggedTensor, ids: Sequence[str]) -> Ragged:
    return Ragged(sequences.values.numpy(), sequences.offsets.numpy(), tuple(ids))


def _scorer(
    data: FoldData, views: Mapping[str, Sequence[str]]
) -> Callable[[Mapping[str, torch.Tensor], torch.Tensor], Any]:
    def score(probabilities: Mapping[str, torch.Tensor], indices: torch.Tensor) -> dict[str, dict[str, float]]:
        scores = {}
        for view in views:
            target = data.data.targets[view][indices]
            known = target != MISSING
            if not known.any():
                continue
            labels = [views[view][i] for i in target[known].tolist()]
            guesses = [views[view][i] for i in probabilities[view][known].argmax(1).tolist()]
            scores[view] = {"uar": uar(labels, guesses), "wa": wa(labels, guesses)}
        return scores

    return score


def _publish(
    context: SerContext,
    job: SerJob,
    model: torch.nn.Module,
    fitted: Fitted,
    data: FoldData,
    parts: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    run, fold = RunDirectory(context.run), context.folds[job.fold]
    final = run.job_path(job.condition, job.seed, job.fold)
    folder = start_job_folder(final)
    tables = []
    for checkpoint, weights in (("last", fitted.last), ("selected", fitted.selected)):
        model.load_state_dict(weights)
        for part in ("dev", "test"):
            indices = parts[part]
            if not len(indices):
                continue
            probabilities, shared = predict(model, data, indices)
            for view, classes in context.views.items():
                if view not in probabilities:
                    raise PluginError(
                        f"model {context.recipe.model.name!r} returned no logits of view {view!r}; mend the plugin"
                    )
                target = data.data.targets[view][indices].tolist()
                tables.append(
                    prediction_table(
                        condition=job.condition, seed=job.seed, fold=job.fold, part=part, checkpoint=checkpoint, view=view,
                        classes=classes, ids=getattr(fold, part),
                        labels=[None if t == MISSING else classes[t] for t in target],
                        probabilities=probabilities[view].numpy(),
                    )
                )  # fmt: skip
            if part == "test" and checkpoint == "selected":
                save_file({"values": shared.half().clamp(-65504, 65504).contiguous()}, folder / "hidden.safetensors")
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / f"{checkpoint}.safetensors")
    write_predictions(folder / "predictions.parquet", pd.concat(tables, ignore_index=True), context.views)
    split = {name: list(getattr(fold, name)) for name in ("train", "dev", "test", "unlabelled")}
    (folder / "split.json").write_text(json.dumps(split))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in fitted.history))
    summary = {
        "selected_epoch": fitted.selected_epoch,
        "epochs": len(fitted.history),
        "seconds": float(np.sum([record["seconds"] for record in fitted.history])),
        "dev": fitted.history[fitted.selected_epoch - 1].get("dev"),
    }
    (folder / "done.json").write_text(json.dumps(summary))
    publish_job_folder(folder, final)
    return summary
