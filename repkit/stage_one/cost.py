"""How long stage one would take on this machine: its trainings, its encoders and the frames they read, each tried briefly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repkit.api import Encoder
from repkit.features.extract import one_thread
from repkit.runs.seeding import generator
from repkit.stage_one.data import cut
from repkit.stage_one.export import export_encoder
from repkit.stage_one.frontends import build_frontend, frames_of
from repkit.stage_one.learners import make_learner
from repkit.stage_one.open import open_encoder
from repkit.stage_one.settings import PretrainConfig
from repkit.stage_one.update import build_optimizer, pick_precision

SAMPLE_RATE = 16000
ENOUGH_S = 1.0
"""What took so long has been timed well enough."""


class _RandomPieces:
    """Pieces of noise of the longest length, as `repkit.stage_one.learners.Learner.calibrate` reads them."""

    def __init__(self, n: int, n_frames: int, n_bands: int, device: torch.device) -> None:
        self.frames = torch.randn(n, n_frames, n_bands, generator=generator(0, "cost")).to(device)

    def in_order(self, batch_size: int) -> list[list[np.ndarray]]:
        return [[np.arange(len(self.frames))]]

    def batch(self, indices: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
        return self.frames, torch.full((len(self.frames),), self.frames.shape[1], device=self.frames.device)


def seconds_per_update(
    config: PretrainConfig, n: int = 4, budget_s: float = math.inf, most_frames: int | None = None
) -> float:
    """Return the seconds of an update on this machine: the median of some on random frames of the longest pieces.

    Reading and measuring are not in it. On a CPU it takes as many threads as torch does here.

    Args:
        config: settings.
        n: most updates that are timed, after one that is not.
        budget_s: no further one is begun after so many seconds.
        most_frames: try shorter pieces of so many frames, which take as much less time; None for the longest.
    """
    from accelerate import Accelerator

    torch.set_flush_denormal(True)
    accelerator = Accelerator(cpu=config.on_cpu(), mixed_precision="no")
    device = accelerator.device
    frontend = build_frontend(**config.frontend_table())
    longest = max(1, frontend.n_frames(round(config.chunk_s * frontend.sample_rate)))
    n_frames = min(longest, most_frames or longest)
    pieces = _RandomPieces(config.batch_size, n_frames, frontend.n_bands, device)
    with torch.random.fork_rng():
        learner = make_learner(config, frontend, {})
        module = learner.module.to(device)
        learner.calibrate(pieces, config.batch_size, device)  # type: ignore[arg-type]
        module.train()
        optimizer = build_optimizer(module.parameters(), config.learning_rate, device)
        settings: Mapping[str, Any] = {
            "precision": pick_precision(config.precision, device),
            "share": 1.0,
            "progress": 0.5,
        }
        times = []
        for number in range(n + 1):
            began = time.perf_counter()
            frames, lengths = pieces.batch([], device)
            # the loss that it returns has been read, so that the device is done with it
            learner.update(
                accelerator, module, optimizer, frames, lengths,
                draw=lambda purpose, number=number: generator(0, purpose, number), **settings,
            )  # fmt: skip
            times.append(time.perf_counter() - began)
            if number and sum(times) > budget_s:
                break
    return median(times[1:]) * longest / n_frames


def updates_of(config: PretrainConfig, seconds: Sequence[float], n_utterances: int) -> tuple[int, float]:
    """Return the updates of a training on some speech, and how long its pieces are beside the longest.

    Held-out speakers are taken to have as much speech as the others.

    Args:
        config: settings.
        seconds: lengths of utterances, all of them or some that stand for all.
        n_utterances: how many there are.
    """
    frontend = build_frontend(**config.frontend_table())
    rate = frontend.sample_rate
    longest = max(1, frontend.n_frames(round(config.chunk_s * rate)))
    hop = max(1, round(config.chunk_hop_s / frontend.frame_shift_s)) if config.chunk_hop_s else None
    heard = [min(one, config.max_duration_s or one) for one in seconds]
    total_h = sum(heard) / 3600 * n_utterances / len(heard) * (1 - config.dev_speakers)
    frames = [max(1, frontend.n_frames(round((config.fixed_length_s or one) * rate))) for one in heard]
    pieces = [stop - start for n in frames for start, stop in cut(n, longest, config.chunks, hop)]
    n_pieces = len(pieces) * n_utterances / len(heard) * (1 - config.dev_speakers)
    if config.hours is not None:
        n_pieces *= min(1.0, config.hours / total_h)
    updates = config.updates or max(1, math.ceil(n_pieces / config.batch_size)) * config.epochs
    return updates, sum(pieces) / len(pieces) / longest


def training_seconds(
    config: PretrainConfig, seconds: Sequence[float], n_utterances: int, per_update: Callable[[PretrainConfig], float]
) -> float:
    """Return the expected seconds of a training: its updates, each as long as its pieces are beside the longest.

    Reading the frames, measuring held-out speech and saving are not in it.

    Args:
        config: settings.
        seconds: see `updates_of`.
        n_utterances: see `updates_of`.
        per_update: seconds of an update on the longest pieces, as `seconds_per_update` finds them.
    """
    updates, length = updates_of(config, seconds, n_utterances)
    return updates * length * per_update(config)


def bare_encoder(config: PretrainConfig, folder: Path) -> Encoder:
    """Return the encoder that a training would make, with the weights that it begins with; writes it to a folder."""
    with torch.random.fork_rng(devices=[]):
        learner = make_learner(config, build_frontend(**config.frontend_table()), {})
    export_encoder(learner.exported, folder / "encoder")
    return open_encoder(str(folder))


def encoding_rate(encoder: Any, speech: Sequence[np.ndarray]) -> float:
    """Return the seconds that an encoder takes for a second of speech, with the threads that `repkit.workflows.embed` gives it.

    Args:
        encoder: to try.
        speech: waveforms (S,) float32 at 16 kHz.
    """
    if not hasattr(encoder, "encode_frames"):
        return _rate(encoder.encode, speech)
    with one_thread():
        return _rate(lambda some: encoder.encode_frames([encoder.frames(one) for one in some]), speech)


def frames_rate(frontend: Any, speech: Sequence[np.ndarray]) -> float:
    """Return the seconds that a frontend takes for a second of speech, in one thread; see `encoding_rate`."""
    with one_thread():
        return _rate(lambda some: frames_of(some, frontend), speech)


def _rate(work: Callable[[Sequence[np.ndarray]], Any], speech: Sequence[np.ndarray]) -> float:
    """Time two waveforms, which count only where they take long, since much begins with them; then all, again if quick."""
    found = 0.0
    for place, some in enumerate((speech[:2], speech, speech)):
        began = time.perf_counter()
        work(some)
        took = time.perf_counter() - began
        found = took / (sum(map(len, some)) / SAMPLE_RATE)
        if took > (ENOUGH_S if place else 3 * ENOUGH_S):
            break
    return found


__all__ = [
    "bare_encoder",
    "encoding_rate",
    "frames_rate",
    "seconds_per_update",
    "training_seconds",
    "updates_of",
]
