"""An epoch of 100 hours of LibriSpeech's lengths through the autoencoder's update on a GPU: ``make bench-gpu``.

28,539 utterances as in train-clean-100 (12.7 s on average), cut into pieces of at most 7.6 s as `pretrain-ae` does, random
frames: only the time is looked at. The frames lie on the GPU, as they do in a run that fits.
"""

from __future__ import annotations

import sys
import time

import harness
import numpy as np
import torch

from repkit.features.collate import length_batches
from repkit.stage_one.data import cut
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.update import build_optimizer, update
from repkit.training.data import RaggedTensor

TARGETS = ("an epoch of 100 hours in under 4 seconds",)
SHIFT_S, LONGEST = 0.04, 190


class OneProcess:
    """What `update` asks of accelerate's Accelerator in a single process."""

    num_processes = 1


def lengths_of(n: int) -> np.ndarray:
    """Return the frames of the pieces of n utterances with LibriSpeech's spread: many near 14 s, few short ones."""
    drawn = np.random.default_rng(0)
    seconds = np.clip(16.5 - drawn.gamma(1.3, 3.0, n), 1.4, 24.5)
    pieces = [stop - start for s in seconds for start, stop in cut(round(s / SHIFT_S), LONGEST, "split")]
    return np.array(pieces, np.int64)


def epoch(precision: str, batch_size: int, frames: RaggedTensor, lengths: np.ndarray, device: torch.device) -> float:
    """Return the seconds of an epoch; some updates before it warm up."""
    torch.manual_seed(0)
    model = GruAutoencoder(GruAutoencoderConfig()).to(device).train()
    optimizer = build_optimizer(model.parameters(), 1e-3, device)
    batches = [torch.from_numpy(batch) for batch in length_batches(lengths, batch_size, 0, 0)]
    begun = 0.0
    for number, batch in enumerate([*batches[:5], *batches]):
        if number == 5:
            if device.type == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
        values, counts = frames.padded(batch)
        update(OneProcess(), model, optimizer, values, counts, precision=precision, clip_value=2.0)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def run(page: harness.Page, options: harness.Options) -> None:
    """Time precisions and batch sizes in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lengths = lengths_of(40 if options.quick else 28_539)
    offsets = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))
    values = torch.rand(int(offsets[-1]), 128, dtype=torch.float32).half() * 2 - 1
    frames = RaggedTensor(values.to(device), offsets)
    hours = float(lengths.sum()) * SHIFT_S / 3600
    kinds = [(p, b) for p in ("fp32", "bf16") for b in ((16,) if options.quick else (64, 256, 512))]
    times = harness.alternate(
        {f"{p}, {b} pieces": lambda p=p, b=b: epoch(p, b, frames, lengths, device) for p, b in kinds},
        min(options.rounds, 3),
        warm_up=0,
    )
    page.text(f"{hours:.0f} h in {len(lengths)} pieces; the paper's sizes (two layers of 256, 128 bands), one epoch.")
    rows = [[n, f"{harness.median(s):.2f}", f"{hours / harness.median(s):.1f}"] for n, s in times.items()]
    page.table(["precision, pieces per batch", "epoch, s", "hours of speech per second"], rows)
    best = min(times, key=lambda name: harness.median(times[name]))
    seconds = harness.median(times[best])
    page.headline(f"an epoch of {hours:.0f} h takes {seconds:.1f} s ({best})")
    page.target(TARGETS[0], seconds < 4, f"{seconds:.2f} s for {hours:.0f} h, {best}")


if __name__ == "__main__":
    gpu = "--quick" not in sys.argv
    harness.main("gpu_stage_one", "An epoch of the autoencoder on a GPU", run, needs_gpu=gpu, targets=TARGETS)
