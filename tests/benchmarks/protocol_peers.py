"""The attentive CNN of Neumann & Vu as it is usually trained: Dataset, DataLoader, padding collate, module, loop; and by Trainer.

Source: own design, the model after Neumann & Vu, ICASSP 2019. Used by bench_protocol.py. Same folds, epochs, batches,
learning rate, selection and (given) initial weights as ours, the same numbers up to rounding where dropout is off.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from repkit.runs.seeding import derive_seed
from repkit.training.batches import shuffled_batches

POOL = 30


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        frames: (T, 26) float32 of every utterance.
        target: (n,) int64.
        train: places of the utterances to learn from.
        dev: those the epoch is selected on.
        test: those predicted.
        n_classes: classes.
        state: initial weights of our model.
        seed: of the order of batches.
        epochs: passes over train.
        batch_size: utterances.
        learning_rate: Adam's.
        dropout: before the head.
    """

    frames: Sequence[torch.Tensor]
    target: torch.Tensor
    train: torch.Tensor
    dev: torch.Tensor
    test: torch.Tensor
    n_classes: int
    state: dict[str, torch.Tensor]
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float


@dataclass
class Result:
    """UAR of the selected epoch on test, and the mean loss of every epoch."""

    uar: float
    losses: list[float]


class Items(Dataset):
    """Utterances in memory, standardised, one at a time."""

    def __init__(self, task: Task, places: torch.Tensor) -> None:
        values = torch.cat([task.frames[i] for i in task.train.tolist()])
        self.mean, self.std = values.mean(0), values.std(0, correction=0)
        self.task, self.places = task, places.tolist()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = self.places[number]
        return (self.task.frames[place] - self.mean) / self.std, self.task.target[place]


class Order:
    """The batches of our engine, epoch after epoch, as places in the dataset."""

    def __init__(self, task: Task) -> None:
        self.task, self.epoch = task, 0
        self.row = {place: row for row, place in enumerate(task.train.tolist())}

    def __len__(self) -> int:
        return -(-len(self.task.train) // self.task.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        self.epoch += 1
        for batch in shuffled_batches(self.task.train, self.task.batch_size, self.task.seed, self.epoch):
            yield [self.row[place] for place in batch.tolist()]


def collate(items: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pad a batch with zeros to its longest utterance."""
    frames, targets = zip(*items)
    padded = nn.utils.rnn.pad_sequence(list(frames), batch_first=True)
    return {"frames": padded, "lengths": torch.tensor([len(f) for f in frames]), "labels": torch.stack(targets)}


def train_loader(task: Task) -> DataLoader:
    """Return batches to learn from."""
    return DataLoader(Items(task, task.train), batch_sampler=Order(task), collate_fn=collate)


class Cnn(nn.Module):
    """Conv1d over time, ReLU, max-pool, masked attention, dropout, linear; the padding is computed and masked."""

    def __init__(self, n_bands: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_bands, 200, 10, stride=3)
        self.pool = nn.MaxPool1d(POOL, ceil_mode=True)
        self.score = nn.Linear(200, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(200, n_classes)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor | None = None) -> dict:
        """Return logits, and the loss where labels are given."""
        short = 10 - frames.shape[1]
        frames = F.pad(frames, (0, 0, 0, short)) if short > 0 else frames
        windows = F.relu(self.conv(frames.transpose(1, 2)))  # (B, 200, W)
        n_windows = (torch.div(lengths - 10, 3, rounding_mode="floor") + 1).clamp(min=1)
        inside = torch.arange(windows.shape[2])[None] < n_windows[:, None]
        pooled = self.pool(windows * inside[:, None]).transpose(1, 2)  # (B, P, 200)
        wanted = torch.arange(pooled.shape[1])[None] < (-(-n_windows // POOL))[:, None]
        attention = self.score(pooled).squeeze(2).masked_fill(~wanted, float("-inf")).softmax(1)
        logits = self.head(self.dropout((attention[..., None] * pooled).sum(1)))
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def build(task: Task) -> Cnn:
    """Return the module with the weights that ours starts from."""
    model = Cnn(task.frames[0].shape[1], task.n_classes, task.dropout)
    names = {"conv.weight": "conv.weight", "conv.bias": "conv.bias", "score.weight": "attention.score.weight"}
    names |= {"head.weight": "heads.emotion.weight", "head.bias": "heads.emotion.bias"}
    model.load_state_dict({mine: task.state[ours] for mine, ours in names.items()})
    torch.manual_seed(derive_seed(task.seed, "plain"))
    return model


def uar(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the unweighted average recall."""
    return float(recall_score(target, logits.argmax(1), average="macro"))


@torch.inference_mode()
def predict(model: Cnn, task: Task, places: torch.Tensor) -> np.ndarray:
    """Return logits (n, C)."""
    model.eval()
    loader = DataLoader(Items(task, places), batch_size=task.batch_size, collate_fn=collate)
    return torch.cat([model(b["frames"], b["lengths"])["logits"] for b in loader]).numpy()


def plain(task: Task) -> Result:
    """Train by a loop as one writes it."""
    model, loader = build(task), train_loader(task)
    optimiser = torch.optim.Adam(model.parameters(), lr=task.learning_rate)
    best, weights, losses = -1.0, model.state_dict(), []
    for _ in range(task.epochs):
        model.train()
        total = 0.0
        for batch in loader:
            optimiser.zero_grad()
            loss = model(**batch)["loss"]
            loss.backward()
            optimiser.step()
            total += loss.item()
        losses.append(total / len(loader))
        reached = uar(predict(model, task, task.dev), task.target[task.dev].numpy())
        if reached >= best:
            best, weights = reached, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return Result(uar(predict(model, task, task.test), task.target[task.test].numpy()), losses)


def by_trainer(task: Task, folder: str) -> Result:
    """Train the same module on the same batches by transformers.Trainer, at its leanest: no logging, nothing saved."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model, loader = build(task), train_loader(task)
    kept = {"best": -1.0, "weights": model.state_dict()}

    class Keep(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **kwargs) -> None:
            if metrics["eval_uar"] >= kept["best"]:
                kept.update(best=metrics["eval_uar"], weights=copy.deepcopy(model.state_dict()))

    class Ordered(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            return loader

    arguments = TrainingArguments(
        output_dir=folder, num_train_epochs=task.epochs, per_device_train_batch_size=task.batch_size,
        per_device_eval_batch_size=task.batch_size, lr_scheduler_type="constant", learning_rate=task.learning_rate,
        max_grad_norm=0.0, eval_strategy="epoch", save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, remove_unused_columns=False, label_names=["labels"], dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Ordered(
        model=model, args=arguments, train_dataset=loader.dataset, eval_dataset=Items(task, task.dev),
        data_collator=collate, compute_metrics=lambda found: {"uar": uar(found.predictions, found.label_ids)},
        optimizers=(torch.optim.Adam(model.parameters(), lr=task.learning_rate), None), callbacks=[Keep()],
    )  # fmt: skip
    trainer.log = lambda *args, **kwargs: None
    mean = trainer.train().training_loss
    model.load_state_dict(kept["weights"])
    return Result(uar(predict(model, task, task.test), task.target[task.test].numpy()), [mean])
