"""The training of one model for one phase, and its predictions."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from repkit.api import Batch, Outputs
from repkit.api.dropout import keyed_dropouts, module_key
from repkit.runs.seeding import derive_seed
from repkit.training.course import Course, Fitted, NotFiniteError, State, Training, train_mode, trained_parameters
from repkit.training.data import FoldData, sequential_batches
from repkit.training.optim import build_optimiser, in_float32, in_precision, resolve_precision

CPU = torch.device("cpu")


class BrokenContract(Exception):
    """What a component gave in a training and must not; whoever knows the recipe names its distribution.

    Args:
        objective: its name among those of the training; None of the model.
        got: what it gave, and what was expected.
    """

    def __init__(self, objective: str | None, got: str) -> None:
        super().__init__(got)
        self.objective = objective


def snapshot(model: nn.Module) -> State:
    """Return a copy of a model's weights in this machine's memory."""
    return {name: value.detach().to(CPU, copy=True) for name, value in model.state_dict().items()}


AT_ONCE = 128
"""Utterances that are predicted together where this changes nothing."""


def prediction_batch(model: nn.Module, trained_with: int) -> int:
    """Return how many utterances to predict at a time.

    A model that hears padding is tested in batches as in its training, in the order of their lengths (keesing2020 sheet, section 2):
    in larger ones short utterances are followed by silence such as it has never met.

    Args:
        model: with its capabilities.
        trained_with: batch size of its training.
    """
    return trained_with if "padding_sensitive" in getattr(model, "capabilities", frozenset()) else AT_ONCE


@torch.inference_mode()
def predict(
    model: nn.Module,
    data: FoldData,
    indices: torch.Tensor,
    batch_size: int = AT_ONCE,
    bf16: bool = False,
    *,
    crop: int | None = None,
    route: str | None = None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return class probabilities of each view (n, C) and the shared vectors (n, H), in the order of indices.

    Where utterances are cut into segments, both are the mean over an utterance's segments (gao2022 sheet, section 1).
    """
    model.eval()
    device = data.data.frames.values.device
    position = {int(index): place for place, index in enumerate(indices)}
    probabilities: dict[str, torch.Tensor] = {}
    shared = torch.empty(0)
    for part in sequential_batches(data.data, indices, batch_size):
        items = data.items_of(part)
        with in_precision(device, bf16):
            outputs: Outputs = model(data.batch(items, crop=crop, route=route))
        owner = torch.arange(len(part)) if data.data.segments is None else _owners(data, part)
        rows = torch.tensor([position[int(index)] for index in part])
        if not probabilities:
            probabilities = {
                view: torch.empty(len(indices), logits.shape[1]) for view, logits in outputs.logits.items()
            }
            shared = torch.empty(len(indices), outputs.shared.shape[1])
        for view, logits in outputs.logits.items():
            probabilities[view][rows] = _mean_by(torch.softmax(logits.float(), dim=1).cpu(), owner, len(part))
        shared[rows] = _mean_by(outputs.shared.float().cpu(), owner, len(part))
    return probabilities, shared


def _owners(data: FoldData, utterances: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(data.data.segments.utterance)[utterances]
    return torch.repeat_interleave(torch.arange(len(utterances)), counts)


def _mean_by(values: torch.Tensor, owner: torch.Tensor, n: int) -> torch.Tensor:
    if len(values) == n:
        return values
    sums = values.new_zeros(n, values.shape[1]).index_add_(0, owner, values)
    return sums / torch.bincount(owner, minlength=n)[:, None]


def fit(training: Training, on_epoch: Callable[[int], None] = lambda epoch: None, device: torch.device = CPU) -> Fitted:
    """Train a model for one phase and return the weights of the selected and of the last epoch.

    Args:
        training: what is to be done; its data must lie on the device.
        on_epoch: called after every epoch with its number.
        device: of the arithmetic.

    Raises:
        NotFiniteError: the loss is not finite.
        DataError: nothing to train, or no utterance has a label.
    """
    return _OneModel(training, device).fit(on_epoch)


class _OneModel:
    """The arithmetic of one training; see `fit`."""

    def __init__(self, training: Training, device: torch.device) -> None:
        self.training, self.device = training, device
        self.course = Course(training)
        for module in (training.model, *(objective for objective, _ in training.objectives.values())):
            module.to(device)
        self.parameters = trained_parameters(training)
        self.bf16 = resolve_precision(training.table.precision, device, training.model) == "bf16"
        self.dropouts = keyed_dropouts(training.model)
        # for what draws from torch's generator, as models of others may
        torch.manual_seed(derive_seed(self.course.seed, "dropout"))

    def fit(self, on_epoch: Callable[[int], None]) -> Fitted:
        course, model, table = self.course, self.training.model, self.training.table
        best = snapshot(model) if course.selects else None
        while not course.done:
            if course.start_epoch():
                if course.restarts:
                    model.load_state_dict(best)
                optimiser = build_optimiser(self.parameters, table, course.factor)
            started = time.perf_counter()
            record = self._train_epoch(optimiser)
            dev = self._score_dev() if len(self.training.dev) else None
            if course.end_epoch({**record, "seconds": round(time.perf_counter() - started, 3)}, dev):
                best = snapshot(model)
            on_epoch(self.training.first_epoch + course.epoch)
        return course.fitted(best, snapshot(model))

    def _train_epoch(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        training, course, table = self.training, self.course, self.training.table
        train_mode(training)
        sums: dict[str, float] = defaultdict(float)
        figures: dict[str, list[float]] = defaultdict(list)
        total = torch.zeros((), device=self.device)
        batches, draw, key = course.batches(), course.crop_draw(), torch.tensor(course.dropout_key())
        for number, (items, pool) in enumerate(batches):
            progress = course.progress(number)
            for group in optimiser.param_groups:
                group["lr"] = course.rate(number)
            for place, module in enumerate(self.dropouts):
                module.key.copy_(module_key(key + number, place))
            views = (pool.view,) if pool.view else training.phase.views
            batch = training.data.batch(items, crop=training.crop, draw=draw, route=pool.route, views=views)
            losses, outputs = self._losses(batch, progress)
            loss = _total(losses, outputs, training)
            if not torch.isfinite(loss):
                raise _not_finite(course.epoch, number, losses, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if table.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(self.parameters, table.gradient_clip_norm)
            optimiser.step()
            total += loss.detach()
            for name, value in losses.items():
                sums[name] += value.item()
            self._after_step(outputs, batch, progress, figures)
        return {
            "learning_rate": course.rate(len(batches) - 1),
            "train_loss": total.item() / len(batches),
            "losses": {name: value / len(batches) for name, value in sums.items()},
            "figures": {name: sum(values) / len(values) for name, values in figures.items()},
        }

    def _losses(self, batch: Batch, progress: float) -> tuple[dict[str, torch.Tensor], Outputs]:
        with in_precision(self.device, self.bf16):
            outputs = self.training.model(batch)
        rows = {len(values) for values in (*outputs.logits.values(), outputs.shared)}
        if rows != {len(batch.lengths)}:
            raise BrokenContract(
                None, f"outputs of {sorted(rows)} items for a batch of {len(batch.lengths)}; one row each was expected"
            )
        outputs = in_float32(outputs)
        losses = {
            f"{name}.{term}": weight * value
            for name, (module, weight) in self.training.objectives.items()
            for term, value in checked_losses(name, module(outputs, batch, progress)).items()
        }
        return losses, outputs

    def _after_step(self, outputs: Outputs, batch: Batch, progress: float, figures: dict[str, list[float]]) -> None:
        """Let the objectives move their buffers and say what they see."""
        for name, (module, _) in self.training.objectives.items():
            update, measure = getattr(module, "update", None), getattr(module, "measure", None)
            if update is None and measure is None:
                continue
            with torch.no_grad():
                seen = Outputs({view: v.detach() for view, v in outputs.logits.items()}, outputs.shared.detach())
                if measure is not None:
                    for key, value in _checked_figures(name, measure(seen, batch, progress)).items():
                        if math.isfinite(value):  # a batch may lack what a figure is about
                            figures[f"{name}.{key}"].append(value)
                if update is not None:
                    update(seen, batch)

    def _score_dev(self) -> dict[str, Mapping[str, float]]:
        training = self.training
        routes = training.phase.views if training.phase.route == "view" else (None,)
        scores: dict[str, Mapping[str, float]] = {}
        for route in routes:
            probabilities = predict(
                training.model,
                training.data,
                training.dev,
                prediction_batch(training.model, training.table.batch_size),
                self.bf16,
                crop=training.crop,
                route=route,
            )[0]
            scores |= training.score(probabilities, training.dev)
        return scores


def checked_losses(objective: str, found: Any) -> Mapping[str, torch.Tensor]:
    """Return what an objective gave for a batch.

    Raises:
        BrokenContract: it is no mapping, or holds something else than tensors without axes.
    """
    if not isinstance(found, Mapping):
        raise BrokenContract(objective, f"gives a {type(found).__name__}; losses by name were expected")
    for term, value in found.items():
        if not torch.is_tensor(value) or value.ndim != 0:
            raise BrokenContract(
                objective, f"loss {term!r} is {_described(value)}; a tensor of one number was expected"
            )
    return found


def _described(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if torch.is_tensor(value) else f"a {type(value).__name__}"


def _total(losses: Mapping[str, torch.Tensor], outputs: Outputs, training: Training) -> torch.Tensor:
    """Return the sum of the losses, from which gradients can be had."""
    total = torch.stack(list(losses.values())).sum() if losses else torch.zeros(())
    if not total.requires_grad:
        if not any(values.requires_grad for values in (*outputs.logits.values(), outputs.shared)):
            raise BrokenContract(None, "the outputs depend on no trained parameter; a gradient was expected")
        terms = ", ".join(losses) or "no loss at all"
        raise BrokenContract(
            next(iter(training.objectives)),
            f"nothing to learn from in a batch ({terms}); a loss with a gradient was expected",
        )
    return total


def _checked_figures(objective: str, found: Any) -> dict[str, float]:
    if not isinstance(found, Mapping):
        raise BrokenContract(objective, f"measure() gives a {type(found).__name__}; figures by name were expected")
    wrong = next((key for key, value in found.items() if torch.is_tensor(value) and value.ndim), None)
    if wrong is not None:
        raise BrokenContract(objective, f"figure {wrong!r} is {_described(found[wrong])}; one number was expected")
    return {key: float(value) for key, value in found.items()}


def _not_finite(epoch: int, number: int, losses: Mapping[str, torch.Tensor], batch: Batch) -> NotFiniteError:
    terms = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
    remedy = "lower training.learning_rate or set training.gradient_clip_norm"
    if (epoch, number) == (1, 0):  # no learning rate makes the first one
        remedy = "nothing was learnt before, so that the objective whose loss it is, or the model, is at fault: mend it"
    return NotFiniteError(
        f"epoch {epoch}, batch {number}: the loss is not finite ({terms}); utterances {', '.join(batch.ids[:5])} ...; {remedy}"
    )
