"""An epoch of 100 hours of LibriSpeech's lengths through the autoencoder's update on a GPU: ``make bench-gpu``.

28,539 utterances as in train-clean-100 (12.7 s on average), random frames: only the time is looked at. They are cut into pieces of
at most 7.6 s and batched by `Pieces`, as `pretrain-ae` does; on a GPU the frames lie there, as in a run that fits.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import harness
import numpy as np
import torch

from repkit.runs.device import keep_float32
from repkit.stage_one.data import Pieces
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.update import build_optimizer, update

TARGETS = ("an epoch of 100 hours in under 4 seconds",)
SHIFT_S, LONGEST = 0.04, 190


class OneProcess:
    """What `update` asks of accelerate's Accelerator in a single process."""

    num_processes = 1


class RandomFrames:
    """What `Pieces` asks of a store, with the frames (128 bands, float16) of n utterances: many near 14 s, few short ones."""

    spec = SimpleNamespace(dim=128, dtype="float16")

    def __init__(self, n: int) -> None:
        drawn = np.random.default_rng(0)
        seconds = np.clip(16.5 - drawn.gamma(1.3, 3.0, n), 1.4, 24.5)
        self.ids = [str(i) for i in range(n)]
        self.lengths = np.rint(seconds / SHIFT_S).astype(np.int64)

    def load(self, ids: list[str], dtype: Any = None) -> SimpleNamespace:
        """Return the frames of some utterances, end to end."""
        n_frames = int(self.lengths[[int(i) for i in ids]].sum())
        drawn = np.random.default_rng(int(ids[0]))
        return SimpleNamespace(values=drawn.random((n_frames, 128), np.float32).astype(np.float16) * 2 - 1)

    def close(self) -> None:
        """Do nothing."""


def epoch(precision: str, batch_size: int, pieces: Pieces, device: torch.device) -> float:
    """Return the seconds of an epoch; some updates before it warm up."""
    torch.manual_seed(0)
    model = GruAutoencoder(GruAutoencoderConfig()).to(device).train()
    optimizer = build_optimizer(model.parameters(), 1e-3, device)
    batches = pieces.batches(batch_size, 0, 0)
    begun = 0.0
    for number, batch in enumerate([*batches[:5], *batches]):
        if number == 5:
            if device.type == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
        values, counts = pieces.batch(batch, device)
        update(OneProcess(), model, optimizer, values, counts, precision=precision, clip_value=2.0)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def run(page: harness.Page, options: harness.Options) -> None:
    """Time precisions and batch sizes in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_float32(device)
    frames = RandomFrames(40 if options.quick else 28_539)
    pieces = Pieces([frames], [set(frames.ids)], LONGEST, "split", None, ram_budget=1e12)
    hours = float(pieces.lengths.sum()) * SHIFT_S / 3600
    kinds = [(p, b) for p in ("fp32", "bf16") for b in ((16,) if options.quick else (64, 256, 512))]
    times = harness.alternate(
        {f"{p}, {b} pieces": lambda p=p, b=b: epoch(p, b, pieces, device) for p, b in kinds},
        min(options.rounds, 3),
        warm_up=0,
    )
    page.text(f"{hours:.0f} h in {len(pieces)} pieces; the paper's sizes (two layers of 256, 128 bands), one epoch.")
    rows = [[n, f"{harness.median(s):.2f}", f"{hours / harness.median(s):.1f}"] for n, s in times.items()]
    page.table(["precision, pieces per batch", "epoch, s", "hours of speech per second"], rows)
    best = min(times, key=lambda name: harness.median(times[name]))
    seconds = harness.median(times[best])
    page.headline(f"an epoch of {hours:.0f} h takes {seconds:.1f} s ({best})")
    page.target(TARGETS[0], seconds < 4, f"{seconds:.2f} s for {hours:.0f} h, {best}")


if __name__ == "__main__":
    gpu = "--quick" not in sys.argv
    harness.main("gpu_stage_one", "An epoch of the autoencoder on a GPU", run, needs_gpu=gpu, targets=TARGETS)
