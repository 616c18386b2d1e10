"""Where the time of embed goes, stage by stage, against what the machine could do at best."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import soundfile
import torch
from bench_embed import Some

from repkit.audio.open import open_corpus
from repkit.features.extract import frames_of
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig, GruAutoencoderEncoder
from repkit.stage_one.recurrent import pad
from repkit.store import StoreSpec, StoreWriter
from repkit.workflows.embed import embed

FRONTEND = {"name": "spectrogram", "settings": {"fixed_length_s": None}}
BATCH = 64


def run(page: harness.Page, options: harness.Options) -> None:
    """Time the stages apart, the whole, and the floors."""
    harness.one_thread()
    torch.set_flush_denormal(True)
    folder = Path(tempfile.mkdtemp(prefix="profile-"))
    try:
        torch.manual_seed(0)
        GruAutoencoder(GruAutoencoderConfig(frontend=FRONTEND)).save_pretrained(folder / "ae")
        encoder = GruAutoencoderEncoder(GruAutoencoderEncoder.Config(path=folder / "ae"))
        corpus = Some(open_corpus("librispeech", str(options.corpus("librispeech"))), 8 if options.quick else 2 * BATCH)
        _measure(page, options, folder, encoder, corpus)
    finally:
        shutil.rmtree(folder)


def _measure(page: harness.Page, options: harness.Options, folder: Path, encoder: Any, corpus: Some) -> None:
    utterances = corpus.utterances()
    sounds = [corpus.corpus.read(u) for u in utterances]
    frontend = encoder.model.frontend
    frames = [frames_of(sound, frontend, "") for sound in sounds]
    order = np.argsort([-len(f) for f in frames], kind="stable").tolist()
    batches = [pad([frames[i] for i in order[at : at + BATCH]]) for at in range(0, len(order), BATCH)]
    vectors = encoder.encode(sounds)
    n, n_frames = len(utterances), sum(map(len, frames))
    hours = sum(map(len, sounds)) / 16000 / 3600

    def store() -> None:
        shutil.rmtree(folder / "store", ignore_errors=True)
        spec = StoreSpec(kind="vectors", dim=encoder.dim, dtype="float32", corpus="c", corpus_fingerprint="0")
        with StoreWriter(folder / "store", spec) as writer:
            for utterance, vector in zip(utterances, vectors, strict=True):
                writer.add(utterance.id, vector)
            writer.finish()

    @torch.no_grad()
    def encode() -> None:
        for padded, lengths in batches:
            encoder.model.readout(padded, lengths, "representation")

    def whole() -> None:
        shutil.rmtree(folder / "whole", ignore_errors=True)
        embed(encoder, [corpus], folder / "whole")

    stages: dict[str, Callable[[], Any]] = {
        "decode": lambda: [corpus.corpus.read(u) for u in utterances],
        "frames": lambda: [frames_of(sound, frontend, "") for sound in sounds],
        "encoder": encode,
        "store": store,
        "libsndfile alone": lambda: [soundfile.read(u.audio.path, dtype="float32") for u in utterances],
    }
    # time on a core, so that what else the machine does is not counted
    seconds = {
        name: harness.median(s) for name, s in harness.interleave(stages, options.rounds, time.process_time).items()
    }
    wall = harness.median(harness.interleave({"embed": whole}, options.rounds)["embed"])

    c = encoder.model.config
    products = sum(
        2 * 3 * c.hidden_size * ((c.n_bands if i == 0 else c.hidden_size) + c.hidden_size) for i in range(c.n_layers)
    )
    rate, rate_16 = _products_per_second(torch.float32), _products_per_second(torch.bfloat16)
    # a real FFT of n points: 2.5 n log2 n operations; the bank: 2 per weight of the bins that a group of 32 bands reads
    transform = n_frames * 2.5 * 1280 * np.log2(1280)
    bank = n_frames * sum(2 * part.numel() for _, _, part in frontend._energies._groups)
    one_fft = _fft_seconds()
    floors = {
        "decode": (seconds["libsndfile alone"], "libsndfile alone"),
        "frames": (
            n_frames * one_fft + bank / rate / 1e9,
            f"{transform / 1e9:.1f} GFLOP of FFT by MKL, {bank / 1e9:.1f} of bank",
        ),
        "encoder": (n_frames * products / rate / 1e9, f"{n_frames * products / 1e9:.0f} GFLOP at {rate:.0f} GFLOP/s"),
        "store": (
            2 * n * encoder.dim * 4 / harness.copy_rate() / 1e9,
            f"{n * encoder.dim * 4 / 1e6:.1f} MB copied, unsynced",
        ),
    }
    rows = []
    for name, (floor, what) in floors.items():
        took = seconds[name]
        times = (
            f"{took / floor:.1f}" if floor > 0.05 * took else ""
        )  # of the store, which waits for the disk, it says nothing
        rows.append([name, f"{took / n * 1e3:.2f}", f"{floor / n * 1e3:.2f}", times, what])
    total, best = sum(seconds[name] for name in floors), sum(floor for floor, _ in floors.values())
    rows.append(
        ["all, one after the other", f"{total / n * 1e3:.2f}", f"{best / n * 1e3:.2f}", f"{total / best:.1f}", ""]
    )
    slowest = max(floors, key=lambda name: seconds[name])
    page.headline(
        f"{total / n * 1e3:.1f} ms of one core per utterance of {hours * 3600 / n:.1f} s, {total / best:.1f} times the floor; "
        f"the {slowest} takes {seconds[slowest] / total:.0%}."
    )
    page.text(
        f"{n} utterances of LibriSpeech, {hours:.2f} h, {n_frames:,} frames; an autoencoder of the paper's size, float32, "
        f"batches of {BATCH}. Each stage by itself on one thread, in turns, in time on a core; floors at rates measured in the same run."
    )
    page.table(["stage", "ms per utterance", "floor, ms", "times the floor", "floor is"], rows)
    page.text(
        f"`embed` in one process, its stages in threads of their own: {wall / n * 1e3:.2f} ms per utterance by the clock, "
        f"{hours / wall:.2f} h of speech per second. With two free cores the least it can take is the slowest stage "
        f"({seconds[slowest] / n * 1e3:.2f} ms) or half of all ({total / n * 5e2:.2f} ms), whichever is more; several "
        f"processes reach all of them divided by the cores."
    )
    page.text(
        f"What is left: bfloat16 products ({rate_16:.0f} GFLOP/s here) would take the encoder's floor to "
        f"{n_frames * products / rate_16 / 1e6 / n:.2f} ms (`--precision bf16`, which changes the vectors by up to 0.005); "
        "decoding is libsndfile's own time; the store does not matter."
    )


def _products_per_second(dtype: torch.dtype) -> float:
    """Return the GFLOP/s of the product a step of the encoder takes, in time on a core; the best of many."""
    states, weights = torch.randn(BATCH, 256).to(dtype), torch.randn(256, 768).to(dtype)
    times = harness.interleave({"mm": lambda: [states @ weights for _ in range(200)]}, 25, time.process_time)["mm"]
    return 200 * 2 * states.numel() * weights.shape[1] / min(times) / 1e9


def _fft_seconds() -> float:
    """Return the seconds of one real FFT of 1280 points in blocks as the frontend makes them."""
    block = torch.randn(102, 1280)
    times = harness.interleave({"fft": lambda: [torch.fft.rfft(block) for _ in range(50)]}, 5, time.process_time)["fft"]
    return min(times) / 50 / 102


if __name__ == "__main__":
    harness.main("profile_embed", "Where the time of embed goes", run)
