"""The autoencoder as one writes it with PyTorch in ten minutes, and stage one's own update, each in its own process.

Both learn the same function of the same weights. The plain one: `torch.nn.GRU` of two layers, `torch.nn.functional.dropout`,
Adam as it comes, batches in random order padded to their longest, float32, denormal numbers and memory as PyTorch and the
C library treat them by default.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness  # before numpy and torch, whose numbers of threads it sets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

DROPOUT = 0.2


class PlainAutoencoder(nn.Module):
    """Encoder, vector and two decoders of Neumann and Vu (2019), F bands, H units, two layers; batch first."""

    def __init__(self, n_bands: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder = nn.GRU(n_bands, hidden, 2, batch_first=True, dropout=1 - (1 - DROPOUT) ** 2)
        self.bridge = nn.Linear(2 * hidden, 4 * hidden)
        self.forwards = nn.GRU(n_bands, hidden, 2, batch_first=True, dropout=1 - (1 - DROPOUT) ** 2)
        self.backwards = nn.GRU(n_bands, hidden, 2, batch_first=True, dropout=1 - (1 - DROPOUT) ** 2)
        self.output = nn.Linear(2 * hidden, n_bands)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the root mean square error over valid values of frames (B, T, F)."""
        everyone = torch.arange(len(frames))
        steps = torch.arange(frames.shape[1])
        # the encoder's state at each utterance's end: run both layers apart, because nn.GRU returns the padded one
        states = []
        x = frames
        for layer in range(2):
            x = functional.dropout(x, DROPOUT if layer == 0 else 1 - (1 - DROPOUT) ** 2, self.training)
            x = self._layer(self.encoder, layer)(x)[0]
            states.append(x[everyone, lengths - 1])
        vector = torch.tanh(self.bridge(torch.cat(states, 1))).view(len(frames), 2, 2, self.hidden)
        valid = steps[None] < lengths[:, None]
        mirrored = torch.where(valid, lengths[:, None] - 1 - steps, steps)
        target = frames[everyone[:, None], mirrored]
        fed = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], 1)
        ahead = torch.cat([frames[:, 1:], torch.zeros_like(frames[:, :1])], 1)
        ahead = ahead * (steps[None] < lengths[:, None] - 1)[..., None]
        one = self._decode(self.forwards, fed, vector[:, :, 0])
        two = self._decode(self.backwards, ahead, vector[:, :, 1])[everyone[:, None], mirrored]
        error = (torch.tanh(self.output(torch.cat([one, two], 2))) - target) * valid[..., None]
        return torch.sqrt(error.square().sum() / (lengths.sum() * frames.shape[2]))

    def _decode(self, gru: nn.GRU, x: Tensor, states: Tensor) -> Tensor:
        y, _ = gru(functional.dropout(x, DROPOUT, self.training), states.transpose(0, 1).contiguous())
        return functional.dropout(y, DROPOUT, self.training)

    def _layer(self, gru: nn.GRU, number: int) -> Callable[[Tensor], Any]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(gru, f"{name}_l{number}") for name in names]

        def run(x: Tensor) -> Any:
            initial = x.new_zeros(1, len(x), self.hidden)
            return torch.gru(x, initial, weights, True, 1, 0.0, self.training, False, True)

        return run

    def load_ours(self, state: dict[str, Tensor]) -> None:
        """Take the weights of a `GruAutoencoder`."""
        parts = {"encoder": "encoder", "forward_decoder": "forwards", "backward_decoder": "backwards"}
        own = {}
        for name, tensor in state.items():
            part, *rest = name.split(".")
            if part in parts:  # PART.layers.N.weight_ih_l0
                _, number, weight = rest
                name = f"{parts[part]}.{weight.removesuffix('0')}{number}"
            own[name] = tensor
        self.load_state_dict(own)


class PlainLoop:
    """A training loop over frames in memory, as it is usually written."""

    def __init__(self, task: Task) -> None:
        frames = Frames(task)
        self.frames = [torch.from_numpy(frames.pieces.frames(i)).float() for i in range(len(frames.pieces))]
        self.model = PlainAutoencoder(self.frames[0].shape[1], task.hidden).train()
        if task.weights is not None:
            self.model.load_ours(torch.load(task.weights))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=task.learning_rate)
        self.random = np.random.default_rng(0)
        self.batch_size = task.batch_size
        self.order: list[int] = []

    def update(self) -> tuple[float, int]:
        """Make one update; return loss and valid frames."""
        if len(self.order) < self.batch_size:
            self.order = self.random.permutation(len(self.frames)).tolist()
        chosen, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        batch = [self.frames[i] for i in chosen]
        lengths = torch.tensor([len(f) for f in batch])
        loss = self.model(pad_sequence(batch, batch_first=True), lengths)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.model.parameters(), 2.0)
        self.optimizer.step()
        return loss.item(), int(lengths.sum())

    def loss_without_dropout(self) -> float:
        """Return the loss of the first pieces."""
        first = self.frames[:16]
        with torch.no_grad():
            return float(
                self.model.eval()(pad_sequence(first, batch_first=True), torch.tensor([len(f) for f in first]))
            )


class OurLoop:
    """Stage one's update, as `repkit pretrain-ae` makes it."""

    def __init__(self, task: Task) -> None:
        from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
        from repkit.stage_one.update import build_optimizer, update

        self.frames, self.task, self._update = Frames(task), task, update
        torch.manual_seed(0)
        self.model = GruAutoencoder(GruAutoencoderConfig(hidden_size=task.hidden)).train()
        if task.weights is not None:
            self.model.load_state_dict(torch.load(task.weights))
        self.optimizer = build_optimizer(self.model.parameters(), task.learning_rate, torch.device("cpu"))
        self.batches = self.frames.batches(task)
        self.parts: dict[str, float] = {}

    def update(self) -> tuple[float, int]:
        """Make one update; return loss and valid frames."""
        begun = time.process_time()
        frames, lengths = self.frames.pieces.batch(next(self.batches), "cpu")
        self.parts["load"] = time.process_time() - begun
        squared, values = self._update(
            Alone, self.model, self.optimizer, frames, lengths, precision=self.task.precision, clip_value=2.0
        )
        return math.sqrt(squared / values), int(lengths.sum())

    def loss_without_dropout(self) -> float:
        """Return the loss of the first pieces."""
        with torch.no_grad():
            return float(self.model.eval()(*self.frames.pieces.batch(range(16), "cpu")).loss)


class Alone:
    """What accelerate is in one process."""

    num_processes = 1


@dataclass(frozen=True, slots=True)
class Task:
    """What a process does.

    Attributes:
        kind: ``"plain"`` or ``"ours"``.
        store: folder of the frames.
        weights: of a `GruAutoencoder`, or None for new ones.
        precision: of ours.
        longest: most frames of a piece.
        how: utterances are cut; see `repkit.stage_one.data.cut`.
        batch_size: pieces.
        prepared: whether denormals are flushed and freed memory is kept, as repkit's own processes do.
        bucketed: whether ours batches by length.
        hidden: units.
        learning_rate: of Adam.
    """

    kind: str
    store: Path
    weights: Path | None = None
    precision: str = "fp32"
    longest: int = 186
    how: str = "split"
    batch_size: int = 64
    prepared: bool = True
    bucketed: bool = True
    hidden: int = 256
    learning_rate: float = 1e-3


class Frames:
    """The pieces of a store."""

    def __init__(self, task: Task) -> None:
        from repkit.stage_one.data import Pieces
        from repkit.store import open_store

        store = open_store(task.store)
        self.pieces = Pieces([store], [set(store.ids)], task.longest, task.how, None, 1e9)

    def batches(self, task: Task) -> Iterator[np.ndarray]:
        """Yield full batches without end."""
        from repkit.features.collate import length_batches

        for epoch in itertools.count():
            pool = 100 if task.bucketed else 1
            batches = length_batches(self.pieces.lengths, task.batch_size, 0, epoch, pool)
            yield from (batch for batch in batches if len(batch) == task.batch_size)


class Process:
    """A training in a process of its own, one update at a time."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(task, theirs), daemon=True)
        self._process.start()

    def ask(self, what: str, *arguments: Any) -> Any:
        """Do something there and wait for the answer; see `_serve`."""
        self._pipe.send((what, *arguments))
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def update(self) -> float:
        """Make one update; return seconds of processor time per 10,000 frames of speech."""
        seconds, frames, _ = self.ask("update")
        return seconds / frames * 1e4

    def close(self) -> None:
        """End the process."""
        self._pipe.send(("end",))
        self._process.join()


def _serve(task: Task, pipe: Any) -> None:
    harness.one_thread()
    if task.prepared:
        from repkit.runs.executors import prepare_process

        prepare_process()
    try:
        loop = PlainLoop(task) if task.kind == "plain" else OurLoop(task)
    except Exception as error:
        pipe.recv()
        pipe.send(error)
        raise
    while True:
        what, *arguments = pipe.recv()
        if what == "end":
            return
        if what == "update":
            begun = time.process_time()
            loss, frames = loop.update()
            pipe.send((time.process_time() - begun, frames, loss))
        elif what == "flush":
            torch.set_flush_denormal(arguments[0])
            pipe.send(None)
        elif what == "save":
            torch.save(loop.model.state_dict(), arguments[0])
            pipe.send(None)
        elif what == "loss":
            pipe.send(loop.loss_without_dropout())
        elif what == "gemm":
            pipe.send(gemm_rate(arguments[0]))


def precision() -> str:
    """Return what ``precision = "auto"`` means on this processor."""
    from repkit.stage_one.update import pick_precision

    return pick_precision("auto", torch.device("cpu"))


def train_a_while(store: Path, weights: Path, updates: int, **more: Any) -> None:
    """Train on batches of 32 pieces and keep the weights."""
    trainer = Process(Task("ours", store, batch_size=32, precision=precision(), **more))
    for _ in range(updates):
        trainer.update()
    trainer.ask("save", weights)
    trainer.close()


def gemm_rate(dtype: str, m: int = 4096, k: int = 256, n: int = 768) -> float:
    """Return GFLOP/s of a matrix product by processor time, the best of ten: other work on the machine counts less."""
    a, b = (torch.randn(*shape).to(getattr(torch, dtype)) for shape in ((m, k), (k, n)))
    best = float("inf")
    for _ in range(11):
        begun = time.process_time()
        for _ in range(4):
            a @ b
        best = min(best, (time.process_time() - begun) / 4)
    return 2 * m * k * n / best / 1e9


def in_turn(processes: Mapping[str, Process], rounds: int) -> dict[str, list[float]]:
    """Let each process make an update per round, in turn; return seconds per 10,000 frames by name."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    variants = {name: lambda name=name: seconds[name].append(processes[name].update()) for name in processes}
    harness.interleave(variants, rounds)
    return {name: values[-rounds:] for name, values in seconds.items()}


def speech_frames(options: harness.Options) -> Path:
    """Make the paper's spectrograms of LibriSpeech's small subset; return the store's folder."""
    from repkit.audio.open import open_corpus
    from repkit.features.extract import cached_frames
    from repkit.stage_one.frontends import build_frontend
    from repkit.stage_one.settings import PretrainConfig

    corpus = open_corpus("librispeech", str(options.corpus("librispeech")))
    return cached_frames(corpus, build_frontend(**PretrainConfig().frontend_table())).path


def operations(n_frames: int, n_bands: int = 128, hidden: int = 256) -> float:
    """Return the floating-point operations of an update's matrix products, forward and backward, over T x B frames."""
    first, second, output = 3 * hidden * (n_bands + hidden), 3 * hidden * 2 * hidden, 2 * hidden * n_bands
    forward = 3 * (first + second) + output
    no_gradient_of_input = 3 * 3 * hidden * n_bands
    return 2.0 * n_frames * (3 * forward - no_gradient_of_input)
