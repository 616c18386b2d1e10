"""What all jobs of a run share, and the data as one fold of it sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from repkit.api import Fold
from repkit.config.schema import SerRecipe
from repkit.features.normalise import fit_normaliser
from repkit.features.ragged import Ragged
from repkit.training.data import FoldData, RaggedTensor, Standardisation, TrainingData
from repkit.training.estimators import Choice
from repkit.workflows.train_ser.conditions import capabilities_of
from repkit.workflows.train_ser.domains import heard_fold
from repkit.workflows.train_ser.plan import SerJob

T = TypeVar("T")


@dataclass(slots=True)
class SerContext:
    """What all jobs of a run share.

    Attributes:
        run: where results go.
        recipes: of each condition, resolved.
        data: utterances in memory, without any condition's embeddings.
        vectors: per condition (n, D) utterance vectors.
        states: per condition frame-level states.
        fusion: per condition ``none``, ``late`` or ``early``.
        folds: by name.
        views: classes of each view that is predicted.
        auxiliary: classes of the views that training may use besides.
        corpora: per corpus the classes of each view that it has.
        attributes: per domain (speaker, corpus, language, gender) the value of every utterance.
        crops: frames of each ``crop_s``.
        chosen: per condition and view the settings that an estimator has been given by the test folds.
        device: of the trainings, as `repkit.runs.device.settle_device` takes it in the process that trains.
        weights: per condition of joined embeddings the factor (D,) of every column once it is standardised.
    """

    run: Path
    recipes: Mapping[str, SerRecipe]
    data: TrainingData
    vectors: Mapping[str, torch.Tensor]
    states: Mapping[str, RaggedTensor]
    fusion: Mapping[str, str]
    folds: Mapping[str, Fold]
    views: Mapping[str, tuple[str, ...]]
    auxiliary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    corpora: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    crops: Mapping[float, int] = field(default_factory=dict)
    chosen: Mapping[str, Choice] = field(default_factory=dict)
    device: str = "cpu"
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    _kept: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    def keep(self, name: tuple[str, ...], make: Callable[[], T]) -> T:
        """Return what several jobs of this process need, made once."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def drop(self, name: tuple[str, ...]) -> None:
        """Let go of what was kept, so that its memory is free."""
        self._kept.pop(name, None)


def is_estimator(recipe: SerRecipe) -> bool:
    """Return whether the recipe's model is fitted in one go."""
    return "estimator" in capabilities_of(recipe)


def fold_of(context: SerContext, job: SerJob) -> Fold:
    """Return the job's fold as its condition hears it."""
    return heard_fold(context.folds[job.fold], context.recipes[job.condition])


def prepare_fold(context: SerContext, condition: str, train: torch.Tensor) -> FoldData:
    """Return the data as this fold and condition see it: statistics from train alone."""
    recipe, data = context.recipes[condition], context.data
    seen = replace(data, vectors=context.vectors.get(condition), states=context.states.get(condition))
    ids, train_ids = data.ids, [data.ids[i] for i in train.tolist()]
    frames = vectors = states = None
    if recipe.normalisation.mode == "global_train":  # the other modes do not depend on the fold and are done already
        frames = _by_train(_as_ragged(data.frames, ids), train_ids)
    if seen.vectors is not None and recipe.vector.standardise:
        vectors = _by_train(Ragged.from_vectors(seen.vectors.numpy(), tuple(ids)), train_ids)
        if condition in context.weights:
            vectors.scale = vectors.scale * context.weights[condition]
    if seen.states is not None and recipe.vector.standardise:
        states = _by_train(_as_ragged(seen.states, ids), train_ids)
    return FoldData(seen, standardise_frames=frames, standardise_vectors=vectors, standardise_states=states)


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
