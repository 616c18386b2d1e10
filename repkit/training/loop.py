"""The only stage-two training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from repkit.api import Outputs
from repkit.errors import DataError
from repkit.runs.seeding import derive_seed
from repkit.training.data import FoldData, sequential_batches, shuffled_batches
from repkit.training.optim import build_optimiser, resolve_precision

if TYPE_CHECKING:
    from repkit.config.schema import TrainingTable

Scores = Mapping[str, Mapping[str, float]]
"""Per view, per metric."""


@dataclass(slots=True)
class Fitted:
    """What a training leaves behind.

    Attributes:
        selected: weights of the epoch chosen on dev (or of the last one when there is no choice).
        last: weights of the last epoch.
        selected_epoch: 1-based.
        history: one entry per epoch: train_loss, losses, dev scores, seconds.
    """

    selected: dict[str, torch.Tensor]
    last: dict[str, torch.Tensor]
    selected_epoch: int
    history: list[dict[str, Any]] = field(default_factory=list)


def _snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.inference_mode()
def predict(
    model: torch.nn.Module, data: FoldData, indices: torch.Tensor, batch_size: int = 128, bf16: bool = False
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return class probabilities of each view (n, C) and the shared vectors (n, H), in the order of indices."""
    model.eval()
    position = {int(index): place for place, index in enumerate(indices)}
    probabilities: dict[str, torch.Tensor] = {}
    shared = torch.empty(0)
    for part in sequential_batches(data.data, indices, batch_size):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs: Outputs = model(data.batch(part))
        rows = torch.tensor([position[int(index)] for index in part])
        if not probabilities:
            probabilities = {
                view: torch.empty(len(indices), logits.shape[1]) for view, logits in outputs.logits.items()
            }
            shared = torch.empty(len(indices), outputs.shared.shape[1])
        for view, logits in outputs.logits.items():
            probabilities[view][rows] = torch.softmax(logits.float(), dim=1)
        shared[rows] = outputs.shared.float()
    return probabilities, shared


def fit(
    model: torch.nn.Module,
    objectives: Mapping[str, tuple[torch.nn.Module, float]],
    data: FoldData,
    train: torch.Tensor,
    dev: torch.Tensor,
    table: TrainingTable,
    seed: int,
    score: Callable[[Mapping[str, torch.Tensor], torch.Tensor], Scores],
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> Fitted:
    """Train a model and return the weights of the selected and of the last epoch.

    Args:
        model: takes a `Batch`, returns `Outputs`.
        objectives: name to (module, weight); their weighted losses are summed.
        data: the fold's data.
        train: indices to learn from, (n,) int64.
        dev: indices to select the epoch on; empty means the last epoch is taken.
        table: the recipe's training table.
        seed: of the job; batches and dropout depend on it alone.
        score: scores of probabilities on indices, per view; the first view's ``uar`` selects.
        on_epoch: called after every epoch with its number.

    Raises:
        DataError: the loss is not finite, or a batch's labels are all missing throughout an epoch.
    """
    torch.manual_seed(derive_seed(seed, "dropout"))
    bf16 = resolve_precision(table.precision, torch.device("cpu")) == "bf16"
    parameters = [*model.parameters(), *(p for module, _ in objectives.values() for p in module.parameters())]
    optimiser = build_optimiser(parameters, table)
    select = table.select_by == "dev.uar" and len(dev) > 0
    best, best_epoch, best_weights = -math.inf, 0, _snapshot(model)
    history = []
    batches_per_epoch = math.ceil(len(train) / table.batch_size)
    n_steps = table.epochs * batches_per_epoch
    for epoch in range(1, table.epochs + 1):
        started = time.perf_counter()
        model.train()
        sums: dict[str, float] = {}
        total = torch.zeros(())
        batches = shuffled_batches(train, table.batch_size, seed, epoch)
        for number, indices in enumerate(batches):
            progress = ((epoch - 1) * batches_per_epoch + number) / n_steps
            batch = data.batch(indices)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                outputs = model(batch)
            losses = {
                f"{name}.{term}": weight * value
                for name, (module, weight) in objectives.items()
                for term, value in module(outputs, batch, progress).items()
            }
            loss = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(loss):
                terms = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
                raise DataError(
                    f"epoch {epoch}, batch {number}: the loss is not finite ({terms}); utterances {', '.join(batch.ids[:5])} ...; "
                    "lower training.learning_rate or set training.gradient_clip_norm"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if table.gradient_clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, table.gradient_clip_norm)
            optimiser.step()
            total += loss.detach()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        record: dict[str, Any] = {
            "epoch": epoch,
            "train_loss": total.item() / len(batches),
            "losses": {name: value / len(batches) for name, value in sums.items()},
        }
        if len(dev):
            scores = score(predict(model, data, dev, bf16=bf16)[0], dev)
            record["dev"] = scores
            reached = next(iter(scores.values()))["uar"]
            # the later of two equal epochs has seen more data; dev parts are small and ties frequent
            if select and reached >= best:
                best, best_epoch, best_weights = reached, epoch, _snapshot(model)
        record["seconds"] = round(time.perf_counter() - started, 3)
        history.append(record)
        on_epoch(epoch)
    last = _snapshot(model)
    if not select:
        best_epoch, best_weights = table.epochs, last
    return Fitted(selected=best_weights, last=last, selected_epoch=best_epoch, history=history)
