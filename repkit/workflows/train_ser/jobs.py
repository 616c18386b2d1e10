"""One stage-two training from shared data to files; runs in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from repkit.api import MISSING, TaskSpec
from repkit.config.schema import SerRecipe
from repkit.errors import DataError, PluginError
from repkit.evaluation.metrics import uar, uar_of, wa_of
from repkit.evaluation.predictions import prediction_table, write_predictions
from repkit.plugins import blame
from repkit.plugins.blaming import blaming, blaming_the_one
from repkit.runs.device import settle_device, within_memory
from repkit.runs.directory import RunDirectory, publish_job_folder, room_on_disk, start_job_folder
from repkit.runs.seeding import derive_seed
from repkit.runs.worker_start import preload
from repkit.training.course import Fitted, NotFiniteError, Scores
from repkit.training.data import FoldData, TrainingData
from repkit.training.estimators import Choice, choose_on_test, fit_estimator
from repkit.training.loop import BrokenContract, predict, prediction_batch
from repkit.training.phases import Trainings, phase_trainings, run_phases
from repkit.workflows.train_ser.context import SerContext, fold_of, is_estimator, prepare_fold
from repkit.workflows.train_ser.domains import domain_codes, heard_fold, wanted_domains
from repkit.workflows.train_ser.models import (
    build_model,
    build_objectives,
    check_objectives,
    first_outputs,
    objective_names,
    padding_notes,
    task_of,
)
from repkit.workflows.train_ser.outcome import check_finite, check_saved
from repkit.workflows.train_ser.plan import SerJob
from repkit.workflows.train_ser.saved import MODEL, STATISTICS, describe_model, save_statistics

preload(__name__, "torch._dynamo")  # an optimiser imports the latter at its first step


LOWER = "lower --workers, --at-once or training.batch_size"
"""What may make jobs fit a memory that they have exhausted."""


@dataclass(slots=True)
class PreparedJob:
    """A job whose model is built.

    Attributes:
        job: which it is.
        task: what the model was built for.
        model: freshly built.
        data: what its fold sees, on the run's device.
        parts: utterances of ``train``, ``dev``, ``test`` and ``unlabelled``.
        left_out: domains that cannot be told apart in this fold, and why.
        trainings: hands out the trainings of its phases; None of an estimator.
        notes: what a reader must know of the model before it is trained.
    """

    job: SerJob
    task: TaskSpec
    model: torch.nn.Module
    data: FoldData
    parts: Mapping[str, torch.Tensor]
    left_out: Mapping[str, str]
    trainings: Trainings | None
    notes: Sequence[str] = ()


def run_job(context: SerContext, job: SerJob, on_epoch: Callable[[int], None]) -> dict[str, Any]:
    """Train one model, predict its dev and test part, publish its folder; return its selected dev and last epoch.

    Raises:
        DataError: the training diverged, or the disk is full.
        PluginError: a component broke its contract.
        RepkitError: the memory is exhausted.
        UsageError: the device is not there.
    """
    with within_memory(f"condition {job.condition}, seed {job.seed}, fold {job.fold}", LOWER):
        prepared = prepare_job(context, job)
        if prepared.trainings is None:
            fitted = _fit_estimator(context, job, prepared.model, prepared.data, prepared.parts)
            # what it says of dev, which it was fitted on, is no prediction
            prepared.parts = {**prepared.parts, "dev": prepared.parts["dev"][:0]}
        else:
            with naming_components(context.recipes[job.condition]):
                fitted = run_phases(prepared.trainings, on_epoch, prepared.data.data.frames.values.device)
        return publish_job(context, prepared, fitted)


def prepare_job(context: SerContext, job: SerJob) -> PreparedJob:
    """Build the model of a job and what it trains on.

    Raises:
        PluginError: a component broke its contract.
    """
    recipe, fold = context.recipes[job.condition], fold_of(context, job)
    index = context.keep(("index",), lambda: {utterance_id: i for i, utterance_id in enumerate(context.data.ids)})
    parts = {
        name: torch.tensor([index[i] for i in getattr(fold, name)], dtype=torch.int64)
        for name in ("train", "dev", "test", "unlabelled")
    }
    heard = torch.cat([parts["train"], parts["unlabelled"]]).tolist()
    codes, n_domains, left_out = domain_codes(wanted_domains(recipe), context.attributes, heard)
    data = context.keep(("fold", job.condition, job.fold), lambda: prepare_fold(context, job.condition, parts["train"]))
    stripped = None
    if len(parts["unlabelled"]):
        stripped = torch.zeros(len(index), dtype=torch.bool)
        stripped[parts["unlabelled"]] = True
    data = replace(data, stripped=stripped, domains={name: torch.tensor(numbers) for name, numbers in codes.items()})
    task = task_of(context, job.condition, n_domains)
    model = build_model(context, job, task)
    if is_estimator(recipe):
        return PreparedJob(job, task, model, data, parts, left_out, None)
    batch, outputs = first_outputs(recipe, model, data, parts["train"], task)
    notes = padding_notes(recipe, model, data, parts["train"], batch, outputs)
    objectives = build_objectives(recipe, replace(task, shared_dim=outputs.shared.shape[1]))
    check_objectives(recipe, objectives, batch, outputs)
    device = settle_device(context.device)
    if device.type != "cpu":
        data = data.to(device, _on_device(context, job.condition, data.data, device))
    trainings = phase_trainings(
        model,
        objectives,
        data,
        parts,
        recipe,
        # all folds of a seed and condition start from different weights; all conditions see the same batches and dropout
        derive_seed(job.seed, job.fold),
        scorer(data.data, {**context.views, **context.auxiliary}),
        corpora=tuple(context.corpora),
        crops=context.crops,
        names={"seed": job.seed, "fold": job.fold, "condition": job.condition},
        speakers=dict(zip(context.data.ids, context.attributes.get("speaker", ()))),
    )
    return PreparedJob(job, task, model, data, parts, left_out, trainings, notes)


def _on_device(context: SerContext, condition: str, data: TrainingData, device: torch.device) -> TrainingData:
    """Return the data of a condition on a device: the frames, which all conditions have in common, lie there once."""
    frames = context.keep(("frames on the device",), lambda: data.frames.to(device))
    return context.keep(("data", condition), lambda: replace(data, frames=frames).to(device))


@contextmanager
def naming_components(recipe: SerRecipe) -> Iterator[None]:
    """Name the components of a training that diverged, and a plugin that raises or gives what is no loss in the middle of it."""
    used = [("repkit.models", recipe.model.name), *(("repkit.objectives", o.name) for o in recipe.objectives)]
    try:
        with blaming_the_one(used, passing=(BrokenContract,), suspecting=True):
            yield
    except BrokenContract as error:
        objectives = dict(zip(objective_names(recipe), used[1:], strict=True))
        with blaming(*(objectives[error.objective] if error.objective is not None else used[0])):
            raise ValueError(str(error)) from error
    except NotFiniteError as error:
        listed = ", ".join(blame(group, name) for group, name in used)
        raise DataError(f"{error.message}; components: {listed}") from error


def _fit_estimator(
    context: SerContext, job: SerJob, model: torch.nn.Module, data: FoldData, parts: Mapping[str, torch.Tensor]
) -> Fitted:
    recipe = context.recipes[job.condition]
    with blaming("repkit.models", recipe.model.name):
        return fit_estimator(
            model,
            data,
            parts,
            context.views,
            recipe.training.select_by,
            derive_seed(job.seed, job.fold),
            context.attributes["speaker"],
            uar,
            context.chosen.get(job.condition),
        )


def choose_settings(context: SerContext, condition: str, seed: int) -> Choice:
    """Return per view the settings of an estimator that are best on the test folds of a condition."""
    recipe = context.recipes[condition]
    index = {utterance_id: i for i, utterance_id in enumerate(context.data.ids)}
    folds = []
    for fold in (heard_fold(fold, recipe) for fold in context.folds.values()):
        train, dev, test = (torch.tensor([index[i] for i in part]) for part in (fold.train, fold.dev, fold.test))
        known = torch.cat([train, dev.long()]).sort().values
        folds.append((prepare_fold(context, condition, train), known, test))
    model = build_model(context, SerJob(condition, seed, "test"), task_of(context, condition))
    with blaming("repkit.models", recipe.model.name):
        return choose_on_test(model, folds, context.views, seed, context.attributes["speaker"], uar)


def scorer(
    data: TrainingData, views: Mapping[str, Sequence[str]]
) -> Callable[[Mapping[str, torch.Tensor], torch.Tensor], Scores]:
    """Return what scores probabilities (n, C) of each view on some utterances (n,): UAR, WA and the corpora's mean UAR."""
    corpora = None if data.corpora is None else data.corpora.numpy()

    def score(probabilities: Mapping[str, torch.Tensor], indices: torch.Tensor) -> dict[str, dict[str, float]]:
        scores = {}
        for view, found in probabilities.items():
            target = data.targets[view][indices].numpy()
            known = target != MISSING
            if not known.any():
                continue
            n_classes = len(views[view])
            cells = target[known] * n_classes + found.argmax(1).numpy()[known]
            table = _confusion(cells, n_classes)
            overall = float(uar_of(table))
            scores[view] = {"uar": overall, "wa": float(wa_of(table)), "corpus_uar": overall}
            if corpora is not None:
                corpus = corpora[indices.numpy()][known]
                each = [float(uar_of(_confusion(cells[corpus == one], n_classes))) for one in np.unique(corpus)]
                scores[view]["corpus_uar"] = sum(each) / len(each)
        return scores

    return score


def _confusion(cells: np.ndarray, n_classes: int) -> np.ndarray:
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def publish_job(context: SerContext, prepared: PreparedJob, fitted: Fitted) -> dict[str, Any]:
    """Predict with the selected and the last weights of a job and publish its folder; return its summary.

    Raises:
        DataError: the disk is full.
        PluginError: a view without logits.
    """
    job = prepared.job
    final = RunDirectory(context.run).job_path(job.condition, job.seed, job.fold)
    with room_on_disk(context.run):
        folder = start_job_folder(final)
        try:
            summary = _fill(folder, context, prepared, fitted)
            publish_job_folder(folder, final)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # a full disk has better uses
            raise
    return summary


def _fill(folder: Path, context: SerContext, prepared: PreparedJob, fitted: Fitted) -> dict[str, Any]:
    job, data, parts = prepared.job, prepared.data, prepared.parts
    model = prepared.model.to(data.data.frames.values.device)
    fold, recipe = fold_of(context, job), context.recipes[job.condition]
    table = recipe.resolved_phases()[-1][1]
    crop_s, at_once = table.crop_s, prediction_batch(model, table.batch_size)
    crop = None if crop_s is None else context.crops[crop_s]
    hidden = {}
    files: dict[str, dict[str, str]] = {"selected": {}, "last": {}}
    tables = []
    for place, checkpoint in enumerate(("selected", "last")):
        common = (fitted.selected, fitted.last)[place]
        states = {name: pair[place] for name, pair in fitted.by_corpus.items()}
        for part in ("dev", "test"):
            indices = parts[part]
            if not len(indices):
                continue
            with naming_components(recipe):
                probabilities, shared = _predict(
                    model, data, indices, states or common, crop, at_once, tuple(context.corpora)
                )
            found = {**{f"probabilities of {view}": p for view, p in probabilities.items()}, "hidden vectors": shared}
            where = f"predictions of {job.condition}, seed {job.seed}, fold {job.fold}, {part}, {checkpoint}"
            check_finite(recipe.model.name, states or common, found, getattr(fold, part), where)
            for view, classes in context.views.items():
                if view not in probabilities:
                    raise PluginError(
                        f"{blame('repkit.models', recipe.model.name)}: no logits of view {view!r}; mend the plugin"
                    )
                if probabilities[view].shape[1] != len(classes):
                    raise PluginError(
                        f"{blame('repkit.models', recipe.model.name)}: logits of view {view!r} for {probabilities[view].shape[1]} "
                        f"classes in the {part} part; {len(classes)} were expected; mend the plugin"
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
            if checkpoint == "selected":
                name = "values" if part == "test" else "dev_values"
                hidden[name] = shared.clamp(-65504, 65504).half().contiguous()
        for corpus, weights in states.items() or [("*", common)]:
            file = f"{checkpoint}.safetensors" if corpus == "*" else f"{checkpoint}.{corpus}.safetensors"
            save_file({name: value.contiguous() for name, value in weights.items()}, folder / file)
            files[checkpoint][corpus] = file
    chosen = next(iter(files["selected"]))
    weights = fitted.by_corpus[chosen][0] if chosen in fitted.by_corpus else fitted.selected
    check_saved(context, prepared, folder / files["selected"][chosen], weights, crop)
    save_file(hidden, folder / "hidden.safetensors")
    write_predictions(folder / "predictions.parquet", pd.concat(tables, ignore_index=True), context.views)
    save_statistics(folder / STATISTICS, data)
    description = describe_model(context, job, fold, prepared.task, files)
    (folder / MODEL).write_text(json.dumps(description, indent=1), encoding="utf-8")
    split = {name: list(getattr(fold, name)) for name in ("train", "dev", "test", "unlabelled")}
    (folder / "split.json").write_text(json.dumps(split))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in fitted.history))
    summary = {
        "selected_epoch": fitted.selected_epoch,
        "epochs": len(fitted.history),
        "seconds": float(np.sum([record["seconds"] for record in fitted.history])),
        "dev": fitted.history[fitted.selected_epoch - 1].get("dev"),
        "warnings": [*prepared.notes, *fitted.warnings],
        "left_out_domains": dict(prepared.left_out),
        # an estimator has learnt its buffers
        "parameters": sum(p.numel() for p in (model.buffers() if is_estimator(recipe) else model.parameters())),
    }
    (folder / "done.json").write_text(json.dumps(summary))
    return summary


def _predict(
    model: torch.nn.Module,
    data: FoldData,
    indices: torch.Tensor,
    weights: Mapping[str, Any],
    crop: int | None,
    at_once: int,
    corpora: Sequence[str],
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Predict with one set of weights, or each corpus with its own (``weights`` then are weights by corpus)."""
    if torch.is_tensor(next(iter(weights.values()))):
        model.load_state_dict(weights)
        return predict(model, data, indices, at_once, crop=crop)
    probabilities: dict[str, torch.Tensor] = {}
    shared = torch.empty(0)
    for number, name in enumerate(corpora):
        rows = (data.data.corpora[indices] == number).nonzero()[:, 0]
        if not len(rows):
            continue
        model.load_state_dict(weights[name])
        found, hidden = predict(model, data, indices[rows], at_once, crop=crop)
        if not probabilities:
            probabilities = {view: torch.empty(len(indices), values.shape[1]) for view, values in found.items()}
            shared = torch.empty(len(indices), hidden.shape[1])
        for view, values in found.items():
            probabilities[view][rows] = values
        shared[rows] = hidden
    return probabilities, shared
