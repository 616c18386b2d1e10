"""The phases of a recipe, one after the other: what each trains on, and from which weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from repkit.api import MISSING
from repkit.config.schema import PhaseTable, SerRecipe, TrainingTable
from repkit.errors import DataError, PluginError, RecipeError, SpeakerLeakError
from repkit.training.course import Fitted, Objectives, Scores, State, Training
from repkit.training.data import FoldData
from repkit.training.loop import CPU, fit, snapshot

Trainings = Generator[Training, Fitted, Fitted]
"""Hands out one training after the other, each after it was told the end of the one before; returns the end of all."""


def total_epochs(recipe: SerRecipe, corpora: Sequence[str]) -> int:
    """Return the most epochs a job of this recipe can take."""
    return sum(
        table.epochs * len(table.learning_rate_steps) * len(_rounds(phase, corpora))
        for phase, table in recipe.resolved_phases()
    )


def _rounds(phase: PhaseTable, corpora: Sequence[str]) -> list[tuple[str, ...]]:
    """Return which corpora each training of a phase uses."""
    named = phase.corpora or tuple(corpora)
    return [(name,) for name in named] if phase.each == "corpus" else [named]


def class_weights(kind: str, target: torch.Tensor, train: torch.Tensor, corpora: torch.Tensor | None) -> torch.Tensor:
    """Return weights (n,) of N / (C N_c) for utterances of class c: mean 1 on the labelled part of train; 1 without a class.

    Args:
        kind: ``balanced`` (over all of train), ``balanced_per_corpus`` (within each corpus), or ``balanced_all`` (over all
            utterances, whatever their part: keesing2020 sheet, section 2; mean 1 over all then).
        target: (n,) class indices.
        train: utterances to count.
        corpora: (n,) or None.
    """
    group = corpora if kind == "balanced_per_corpus" and corpora is not None else torch.zeros_like(target)
    train = torch.arange(len(target)) if kind == "balanced_all" else train
    train = train[target[train] != MISSING]
    weights = torch.ones(len(target))
    for one in group[train].unique():
        here = (group == one) & (target != MISSING)
        counts = torch.bincount(target[train[here[train]]], minlength=int(target.max()) + 1)
        n_classes = int((counts > 0).sum())
        each = counts.sum() / (n_classes * counts.clamp(min=1).float())
        weights[here] = each[target[here]]
    return weights


def run_phases(trainings: Trainings, on_epoch: Callable[[int], None], device: torch.device = CPU) -> Fitted:
    """Train through all phases, one after the other, in this process.

    Args:
        trainings: see `phase_trainings`.
        on_epoch: told the running number of the epoch.
        device: where the trainings' data lie.
    """
    try:
        training = next(trainings)
        while True:
            training = trainings.send(fit(training, on_epoch, device))
    except StopIteration as end:
        return end.value


def phase_trainings(
    model: nn.Module,
    objectives: Objectives,
    data: FoldData,
    parts: Mapping[str, torch.Tensor],
    recipe: SerRecipe,
    seed: int,
    score: Callable[[Mapping[str, torch.Tensor], torch.Tensor], Scores],
    *,
    corpora: Sequence[str] = (),
    crops: Mapping[float, int] | None = None,
    names: Mapping[str, object] | None = None,
    speakers: Mapping[str, str | None] | None = None,
) -> Trainings:
    """Hand out the trainings of all phases of a recipe.

    Each training starts from the weights its predecessor selected on dev. A phase with ``each = "corpus"`` starts every
    corpus from the same weights; where the corpora change tensors in common (fine-tuning, scratch) each keeps weights of
    its own from there on, else there is one set: a shared base and the parts of each corpus.

    Args:
        model: freshly built.
        objectives: name to (module, weight), common to all phases.
        data: the fold's data.
        parts: utterances of ``train``, ``dev``, ``test`` and ``unlabelled``.
        recipe: the condition's recipe.
        seed: of the job.
        score: see `fit`.
        corpora: names, in the order of ``data.data.corpora``.
        crops: frames of each ``crop_s``.
        names: what ``{seed}``, ``{fold}`` and ``{condition}`` stand for in the path of initial weights.
        speakers: speaker of each utterance id, for the check of initial weights.

    Raises:
        DataError: a phase has nothing to train on, or its initial weights do not fit.
        SpeakerLeakError: initial weights that have heard this fold's test speakers.
    """
    fresh = snapshot(model)
    states = {name: (fresh, fresh) for name in corpora} or {"": (fresh, fresh)}  # selected and last, of each corpus
    history: list[dict[str, Any]] = []
    warnings: dict[str, None] = {}
    n_epochs, selected_epoch = 0, 0
    for phase, table in recipe.resolved_phases():
        given = None
        if phase.initial not in ("fresh", "previous"):
            path = Path(phase.initial.format(**(names or {})))
            _check_heard(path, data.data.ids, parts["test"], speakers or {})
            model.load_state_dict(fresh)
            _load_initial(model, path)
            given = snapshot(model)  # like the ends of trainings, not on the device that the model lies on by now
        starts = {name: fresh if phase.initial == "fresh" else given or chosen for name, (chosen, _) in states.items()}
        if phase.each == "once" and not _all_equal(starts.values()):
            raise RecipeError(
                f"phase {phase.name!r}: follows a phase that trained common weights for each corpus apart; one set of "
                'weights was expected; give it each = "corpus" or initial = "fresh"'
            )
        ends = {name: (start, start) for name, start in starts.items()}
        for chosen, train, dev in _trainings(phase, data, parts, corpora):
            model.load_state_dict(starts[chosen[0]] if chosen else fresh)
            if phase.copy_from is not None:
                for name in chosen:
                    _copy_parts(model, phase.copy_from, name)
            fitted = yield Training(
                model,
                objectives,
                _weighted(data, table, phase, train),
                train,
                dev,
                table,
                seed,
                score,
                phase=phase if phase.each == "once" else phase.model_copy(update={"name": f"{phase.name}.{chosen[0]}"}),
                unlabelled=parts.get("unlabelled"),
                crop=None if table.crop_s is None else (crops or {})[table.crop_s],
                first_epoch=n_epochs,
            )
            if phase.each == "corpus":
                for record in fitted.history:
                    record["corpus"] = chosen[0]
            for name in chosen if phase.each == "corpus" else ends:
                ends[name] = (fitted.selected, fitted.last)
            history += fitted.history
            n_epochs, selected_epoch = n_epochs + len(fitted.history), fitted.selected_epoch
            warnings |= dict.fromkeys(fitted.warnings)
        states = ends if phase.each == "once" else _joined(starts, ends)
    model.requires_grad_(True)
    selected, last = next(iter(states.values()))
    model.load_state_dict(selected)
    apart = not _all_equal(chosen for chosen, _ in states.values())
    return Fitted(selected, last, selected_epoch, history, list(warnings), states if apart else {})


def _joined(starts: Mapping[str, State], ends: Mapping[str, tuple[State, State]]) -> dict[str, tuple[State, State]]:
    """Return the weights of every corpus after its own training; one common set where no two corpora changed the same tensor."""
    if not _all_equal(starts.values()):
        return dict(ends)
    start = next(iter(starts.values()))
    moved = {
        name: {k for end in pair for k, v in end.items() if not torch.equal(v, start[k])} for name, pair in ends.items()
    }
    every = [key for keys in moved.values() for key in keys]
    if len(set(every)) < len(every):
        return dict(ends)
    joined = tuple(
        {**start, **{k: pair[which][k] for name, pair in ends.items() for k in moved[name]}} for which in (0, 1)
    )
    return dict.fromkeys(ends, joined)  # type: ignore[arg-type]


def _all_equal(states: Iterable[State]) -> bool:
    first, *others = states
    return all(other is first or all(torch.equal(v, first[k]) for k, v in other.items()) for other in others)


def _trainings(
    phase: PhaseTable, data: FoldData, parts: Mapping[str, torch.Tensor], corpora: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]]:
    """Yield the corpora, train and dev utterances of each training of a phase."""
    unknown = [name for name in phase.corpora if name not in corpora]
    if unknown:
        raise RecipeError(
            f"phase {phase.name!r}: corpus {unknown[0]!r} is not in the run; it has {', '.join(corpora)}; "
            "correct phases.corpora or give the corpus"
        )
    codes = data.data.corpora
    if codes is None or (phase.each == "once" and not phase.corpora):
        yield tuple(corpora), parts["train"], parts["dev"]
        return
    found = False
    for chosen in _rounds(phase, corpora):
        wanted = torch.tensor([corpora.index(name) for name in chosen])
        train, dev = (some[torch.isin(codes[some], wanted)] for some in (parts["train"], parts["dev"]))
        if len(train):  # a corpus held out has no train part, and no parts of its own to train
            found = True
            yield chosen, train, dev
    if not found:
        raise DataError(
            f"phase {phase.name!r}: no train utterance of {', '.join(phase.corpora or corpora)} in this fold; "
            "correct phases.corpora or the protocol"
        )


def _weighted(data: FoldData, table: TrainingTable, phase: PhaseTable, train: torch.Tensor) -> FoldData:
    if table.class_weights == "none":
        return replace(data, weights=None)
    # one weight an utterance, for the losses of all views: the first view is what the model is chosen by
    view = (phase.views or tuple(data.data.targets))[0]
    return replace(data, weights=class_weights(table.class_weights, data.data.targets[view], train, data.data.corpora))


def _copy_parts(model: nn.Module, source: str, target: str) -> None:
    copy_parts = getattr(model, "copy_parts", None)
    if copy_parts is None:
        raise PluginError(
            f"model {type(model).__name__}: has no parts per corpus to copy from {source!r}; remove phases.copy_from or "
            "choose a model with the capability per_corpus"
        )
    if source != target:
        copy_parts(source, target)


def _load_initial(model: nn.Module, path: Path) -> None:
    """Load weights of an earlier run; parts it did not have, and heads of other classes, stay as they are."""
    if path.is_dir():
        path = path / "selected.safetensors"
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path}: {error}; weights of an earlier run were expected (jobs/CONDITION/seed_S/FOLD/selected.safetensors); "
            "correct phases.initial"
        ) from error
    state = model.state_dict()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    head = {names[id(p)] for p in model.parameter_groups().get("head", ())}
    shared = [names[id(p)] for p in model.parameter_groups().get("shared", ())]
    absent = [name for name in shared if name not in given]
    wrong = [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in state.items()
        if name in given and given[name].shape != value.shape and name not in head
    ]
    if absent or wrong:
        raise DataError(
            f"{path}: does not fit the model ({len(absent)} shared tensors missing, {len(wrong)} of another shape); "
            "weights of the same model and settings were expected; correct phases.initial or [model]",
            [*absent[:10], *wrong[:10]],
        )
    fitting = {name: given[name] for name, value in state.items() if name in given and given[name].shape == value.shape}
    model.load_state_dict({**state, **fitting})


def _check_heard(path: Path, ids: Sequence[str], test: torch.Tensor, speakers: Mapping[str, str | None]) -> None:
    """Refuse initial weights that have heard a speaker of this fold's test part."""
    split = (path if path.is_dir() else path.parent) / "split.json"
    try:
        heard = json.loads(split.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{split}: {error}; the split of the run the weights come from was expected beside them, because without it "
            "nobody can tell whether they have heard the test speakers; point phases.initial into a run's job folder"
        ) from error
    trained = {i for part in ("train", "dev", "unlabelled") for i in heard.get(part, ())}
    tested = {ids[i] for i in test.tolist()}
    common = trained & tested
    voices = {speakers.get(i) for i in trained} & {speakers.get(i) for i in tested} - {None}
    if common or voices:
        raise SpeakerLeakError(
            f"{path}: its training has heard {len(voices)} speaker(s) of this fold's test part; none was expected; use "
            "the weights of the same fold ({fold} in the path), or a protocol that tests other speakers",
            sorted(str(voice) for voice in voices)[:20],
        )
