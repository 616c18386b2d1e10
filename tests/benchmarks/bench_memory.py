"""Peak memory of embed: of more and more utterances, and of one longer and longer file.

Each figure is the peak of a process of its own, over what it held before the work. Utterances are made in memory and go
through the real stages and the real writer; files are written to disk and decoded.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
import soundfile
import torch

from repkit.api import Audio, Utterance
from repkit.audio.base import FileCorpus
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig, GruAutoencoderEncoder
from repkit.store import open_store
from repkit.workflows.embed import embed

FRONTEND = {"name": "spectrogram", "settings": {"fixed_length_s": None}}


class InMemory:
    """Utterances of the same length, different noise."""

    name = "noise"

    def __init__(self, n: int, seconds: float) -> None:
        self.n, self.size = n, int(seconds * 16000)
        self.noise = 0.1 * np.random.default_rng(0).standard_normal(self.size + 4096, np.float32)
        self._utterances: list[Utterance] = []

    def utterances(self) -> Sequence[Utterance]:
        """List them once, as corpora of files do."""
        self._utterances = self._utterances or [
            Utterance(id=f"noise/{i:06d}", corpus="noise", speaker=f"noise/{i % 100}") for i in range(self.n)
        ]
        return self._utterances

    def stream(self, skip: int = 0, max_duration_s: float | None = None) -> Iterator[tuple[Utterance, np.ndarray]]:
        """Yield a stretch of the noise each."""
        for i, utterance in enumerate(self.utterances()[skip:], skip):
            yield utterance, self.noise[i % 4096 :][: self.size].copy()

    def fingerprint(self) -> str:
        """Return something."""
        return "0" * 64


class OneFile(FileCorpus):
    """One recording."""

    name = "long"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.root, self.path = path.parent, path

    def _list(self) -> Sequence[Utterance]:
        return [Utterance(id="long/recording", corpus="long", audio=Audio(path=self.path))]


def peak(encoder: Any, corpus: Any, out: Path) -> tuple[float, float, float]:
    """Return MB held before, the most held, and seconds."""
    before, begun = harness.held_memory_mb(), time.perf_counter()
    embed(encoder, [corpus], out)
    assert len(open_store(out / encoder.name / corpus.name)) == len(corpus.utterances())
    return before, harness.peak_memory_mb(), time.perf_counter() - begun


def run(page: harness.Page, options: harness.Options) -> None:
    """Measure both series."""
    harness.one_thread()
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    try:
        torch.manual_seed(0)
        GruAutoencoder(GruAutoencoderConfig(frontend=FRONTEND)).save_pretrained(folder / "ae")
        encoder = GruAutoencoderEncoder(GruAutoencoderEncoder.Config(path=folder / "ae"))
        short = _utterances(page, encoder, folder, (200, 400) if options.quick else (10_000, 100_000), 0.15)
        longer = _utterances(page, encoder, folder, (50, 60) if options.quick else (300, 600), 12.0)
        one = _file(page, encoder, folder, (1, 2) if options.quick else (30, 120))
    finally:
        shutil.rmtree(folder)
    n, growth = (400 if options.quick else 100_000), short[-1] - short[-2]
    page.headline(
        f"embed holds {short[-1]:.0f} MB over its start for {n:,} short utterances, {growth:+.0f} MB against a tenth of them; "
        f"{longer[-1]:.0f} MB for utterances of 12 s; {one[-1]:.0f} MB for one file of two hours."
    )
    reached = None if options.quick else growth < 0.2 * short[-2] + 90
    page.target(
        "peak memory of embed constant in corpus size",
        reached,
        f"10,000 to 100,000 utterances: {growth:+.0f} MB, the list of utterances and their ids ({growth * 1e3 / 90_000:.2f} kB each)",
    )


def _utterances(page: harness.Page, encoder: Any, folder: Path, counts: Sequence[int], seconds: float) -> list[float]:
    rows, peaks = [], []
    for n in counts:
        before, most, took = harness.forked(peak, encoder, InMemory(n, seconds), folder / f"many-{n}-{seconds}")
        peaks.append(most - before)
        rows.append([f"{n:,} of {seconds:g} s", f"{n * seconds / 3600:.2f}", f"{most - before:.0f}", f"{took:.1f}"])
    page.table(["utterances", "hours of speech", "peak over the start, MB", "s"], rows)
    return peaks


def _file(page: harness.Page, encoder: Any, folder: Path, minutes: Sequence[int]) -> list[float]:
    rows, peaks = [], []
    for n in minutes:
        path = folder / f"{n}.wav"
        with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
            noise = 0.1 * np.random.default_rng(n).standard_normal(960_000, np.float32)
            for shift in range(n):
                file.write(np.roll(noise, 1000 * shift))
        before, most, took = harness.forked(peak, encoder, OneFile(path), folder / f"file-{n}")
        peaks.append(most - before)
        rows.append([f"{n} min", f"{n * 60 * 16000 * 4 / 1e6:.0f}", f"{most - before:.0f}", f"{took:.1f}"])
        path.unlink()
    page.table(["one file", "its samples, MB", "peak over the start, MB", "s"], rows)
    slope = (peaks[-1] - peaks[-2]) / (minutes[-1] - minutes[-2])
    page.text(
        f"A file is encoded as a whole, so memory grows with the longest one: {slope:.0f} MB per minute. "
        "A list of segments (columns start and end of metadata.csv) or `max_duration_s` of the library bounds it."
    )
    return peaks


if __name__ == "__main__":
    harness.main("memory", "Peak memory of embed", run)
