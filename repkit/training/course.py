"""What a training does epoch by epoch and what comes of it: batches, rates, selection, early stop. No arithmetic.

The loop that trains one model (`repkit.training.loop`) and the program that trains many at once (`repkit.training.stacked`)
both ask a `Course`, so that they cannot differ in anything but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from repkit.api import MISSING
from repkit.config.schema import PhaseTable, TrainingTable
from repkit.errors import DataError
from repkit.runs.seeding import derive_seed, generator
from repkit.training.batches import BY_LENGTH, Pool, UnlabelledStream, epoch_batches, n_batches, rarest_class_items
from repkit.training.data import FoldData
from repkit.training.optim import scheduled_rate

Scores = Mapping[str, Mapping[str, float]]
"""Per view, per metric."""
Objectives = Mapping[str, tuple[nn.Module, float]]
"""Name to module and weight."""
State = dict[str, torch.Tensor]
"""Weights by name."""

_METRICS = {"dev.uar": "uar", "dev.wa": "wa", "dev.corpus_uar": "corpus_uar"}


class NotFiniteError(DataError):
    """A training whose loss is not a number any more."""


@dataclass(slots=True)
class Training:
    """One training to be done: a model for one phase on one fold.

    Attributes:
        model: takes a `Batch`, returns `Outputs`.
        objectives: name to (module, weight); their weighted losses are summed.
        data: the fold's data.
        train: utterances to learn from, (n,) int64.
        dev: utterances to select the epoch on; empty means the last epoch is taken.
        table: the phase's training table.
        seed: of the job; batches and dropout depend on it and on the phase's name alone.
        score: scores of probabilities on utterances, per view; the first view's selects.
        phase: what is trained and how; by default everything.
        unlabelled: utterances heard without their labels.
        crop: frames of ``crop_s``.
        first_epoch: epochs of earlier phases.
    """

    model: nn.Module
    objectives: Objectives
    data: FoldData
    train: torch.Tensor
    dev: torch.Tensor
    table: TrainingTable
    seed: int
    score: Callable[[Mapping[str, torch.Tensor], torch.Tensor], Scores]
    phase: PhaseTable = field(default_factory=lambda: PhaseTable(name="train"))
    unlabelled: torch.Tensor | None = None
    crop: int | None = None
    first_epoch: int = 0


@dataclass(slots=True)
class Fitted:
    """What a training leaves behind.

    Attributes:
        selected: weights of the epoch chosen on dev (or of the last one when there is no choice).
        last: weights of the last epoch.
        selected_epoch: 1-based.
        history: one entry per epoch: learning_rate, train_loss, losses, figures, dev scores, seconds.
        warnings: what the objectives warn of, each once.
        by_corpus: selected and last weights of each corpus, where these differ; else empty.
    """

    selected: State
    last: State
    selected_epoch: int
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    by_corpus: dict[str, tuple[State, State]] = field(default_factory=dict)


class Course:
    """The state of one training between its epochs.

    Attributes:
        epoch: the current one, 1-based; 0 before the first.
        factor: of the current step of the learning rate.
        done: whether the last epoch is over.
        selects: whether dev chooses the epoch.
    """

    def __init__(self, training: Training) -> None:
        table, phase = training.table, training.phase
        self.training = training
        self.seed = training.seed if phase.name == "train" else derive_seed(training.seed, phase.name)
        unlabelled = training.unlabelled
        n_unlabelled = 0 if unlabelled is None or not len(unlabelled) else round(
            table.batch_size * table.unlabelled_share
        )  # fmt: skip
        self._unlabelled = training.data.items_of(unlabelled) if unlabelled is not None and n_unlabelled else None
        self._n_unlabelled, self._n_labelled = n_unlabelled, max(1, table.batch_size - n_unlabelled)
        self.pools = self._pools()
        self._metric = _METRICS.get(table.select_by) if len(training.dev) else None
        self.n_steps = n_batches(self.pools, table.sampler, self._n_labelled, table.steps_per_epoch)
        self.epoch, self.done, self.factor = 0, False, 1.0
        self._step, self._left = -1, 0
        self._best, self._best_epoch = -math.inf, 0
        self._gained_from, self._waited, self._updates = -math.inf, 0, 0
        self.history: list[dict[str, Any]] = []
        self.warnings: dict[str, None] = {}

    @property
    def selects(self) -> bool:
        """Whether dev chooses the epoch."""
        return self._metric is not None

    def _pools(self) -> list[Pool]:
        """Return the items to draw from: one pool, or one per view where each view has parts of its own."""
        training = self.training
        phase, data, train = training.phase, training.data.data, training.train
        routes = phase.views if phase.route == "view" else (None,)
        pools = []
        for route in routes:
            view = route or (phase.views or tuple(data.targets))[0]
            some = train
            if phase.subsample == "rarest_class":
                some = rarest_class_items(
                    train, data.targets[view], data.corpora, derive_seed(self.seed, "subsample", view)
                )
            elif route is not None or training.table.sampler == "class_balanced":
                some = train[data.targets[view][train] != MISSING]
            if not len(some):
                raise DataError(
                    f"phase {phase.name!r}: no utterance with a label of {view} to train on; choose other views or corpora"
                )
            items = training.data.items_of(some)
            of = items if data.segments is None else data.segments.utterance[items]
            group = torch.zeros(len(of), dtype=torch.int64) if data.corpora is None else data.corpora[of]
            if training.table.sampler == "class_balanced":
                group = data.targets[view][of]
            elif training.table.sampler in BY_LENGTH:
                step = training.table.length_step_frames
                group = -(-data.frames.lengths[of] // step) * step
            pools.append(Pool(items, group, route, route))
        return pools

    def start_epoch(self) -> bool:
        """Go to the next epoch; return whether a step of the learning rate begins with it.

        Then the optimiser starts anew, and from the best weights so far if it is not the first step (`selects`).
        """
        table = self.training.table
        begins = self._left == 0
        if begins:
            self._step += 1
            self._left, self.factor = table.epochs, table.learning_rate_steps[self._step]
            self._gained_from, self._waited, self._updates = self._best, 0, 0
        self.epoch += 1
        self._left -= 1
        return begins

    @property
    def restarts(self) -> bool:
        """Whether the step of the learning rate that has begun starts from the best weights so far."""
        return self._step > 0 and self.selects

    def batches(self) -> list[tuple[torch.Tensor, Pool]]:
        """Return the items (B,) of every batch of this epoch, unlabelled ones last, and the pool they come from."""
        table = self.training.table
        drawn = epoch_batches(self.pools, table.sampler, self._n_labelled, table.steps_per_epoch, self.seed, self.epoch)
        if self._unlabelled is None:
            return drawn
        stream = UnlabelledStream(self._unlabelled, self.seed, self.epoch)
        return [(torch.cat([items, stream.take(self._n_unlabelled)]), pool) for items, pool in drawn]

    def crop_draw(self) -> torch.Generator | None:
        """Return the generator of this epoch's places to crop."""
        return generator(self.seed, "crop", self.epoch) if self.training.crop is not None else None

    def dropout_key(self) -> int:
        """Return the key of this epoch's first step; that of step n is larger by n."""
        return derive_seed(self.seed, "dropout", self.epoch)

    def progress(self, number: int) -> float:
        """Return how far the phase is at a batch of this epoch, 0 to 1, as if no epoch were saved by stopping early."""
        table = self.training.table
        most = table.epochs * len(table.learning_rate_steps)
        return ((self.epoch - 1) * self.n_steps + number) / (most * self.n_steps)

    def rate(self, number: int) -> float:
        """Return the learning rate of a batch of this epoch."""
        return scheduled_rate(self.training.table, self.factor, self.progress(number), self._updates + number)

    def end_epoch(self, record: Mapping[str, Any], dev: Scores | None) -> bool:
        """Note an epoch; return whether it is the best so far, so that its weights must be kept.

        Args:
            record: what the epoch gave: learning_rate, train_loss, losses, figures, seconds.
            dev: scores of the dev part, None when there is none.
        """
        training, table = self.training, self.training.table
        entry: dict[str, Any] = {"epoch": training.first_epoch + self.epoch, "phase": training.phase.name, **record}
        self._updates += self.n_steps
        better = False
        if dev is not None:
            entry["dev"] = {view: dict(found) for view, found in dev.items()}
            reached = self._reached(dev)
            # the later of two equal epochs has seen more data; dev parts are small and ties frequent
            if self.selects and reached >= self._best:
                self._best, self._best_epoch, better = reached, self.epoch, True
            if reached > self._gained_from + table.min_gain:
                self._gained_from, self._waited = reached, 0
            else:
                self._waited += 1
        self.history.append(entry)
        self._diagnose(entry)
        if self.selects and table.patience is not None and self._waited >= table.patience:
            self._left = 0
        self.done = self._left == 0 and self._step == len(table.learning_rate_steps) - 1
        return better

    def _reached(self, scores: Scores) -> float:
        """Return what the epoch is chosen by: the first view's score, or the mean of the phase's views if routed."""
        metric, phase = self._metric or "uar", self.training.phase
        names = [view for view in phase.views if view in scores] or list(scores)
        if not names:
            return -math.inf
        names = names if phase.route == "view" else names[:1]
        return sum(scores[view][metric] for view in names) / len(names)

    def _diagnose(self, record: Mapping[str, Any]) -> None:
        for name, (module, weight) in self.training.objectives.items():
            diagnose = getattr(module, "diagnose", None)
            if diagnose is None:
                continue
            own = {key: value / (weight or 1.0) for key, value in _of(record["losses"], name).items()}
            said = diagnose(own | _of(record["figures"], name))
            if said:
                self.warnings.setdefault(f"phase {self.training.phase.name}: {name}: {said}")

    def fitted(self, best: State | None, last: State) -> Fitted:
        """Return the end of the training, from the weights of its best and its last epoch."""
        epoch = self._best_epoch if best is not None else self.epoch
        selected = best if best is not None else last
        return Fitted(selected, last, self.training.first_epoch + epoch, self.history, list(self.warnings))


def _of(values: Mapping[str, float], name: str) -> dict[str, float]:
    return {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}


def trained_parameters(training: Training) -> list[nn.Parameter]:
    """Freeze what the phase leaves alone; return the parameters it trains, the objectives' included.

    Raises:
        DataError: the phase trains groups that the model does not have.
    """
    model, phase = training.model, training.phase
    wanted = set(phase.train)
    groups: Mapping[str, Sequence[nn.Parameter]] = model.parameter_groups() if wanted else {}  # type: ignore[operator]
    for name, parameters in groups.items():
        for parameter in parameters:
            parameter.requires_grad_(name in wanted)
    if not wanted:
        model.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise DataError(
            f"phase {phase.name!r}: trains {', '.join(phase.train)}, but the model has no such parameters "
            f"(it has {', '.join(name for name, p in groups.items() if len(p))}); correct phases.train"
        )
    return [*trained, *(p for module, _ in training.objectives.values() for p in module.parameters())]


def train_mode(training: Training) -> None:
    """Set the model and its objectives to training, but for batch norms that the phase leaves alone."""
    training.model.train()
    for module, _ in training.objectives.values():
        module.train()
    if not training.phase.train:
        return
    for module in training.model.modules():
        own = list(module.parameters(recurse=False))
        # a frozen batch norm would otherwise still move its running statistics
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in own):
            module.eval()
