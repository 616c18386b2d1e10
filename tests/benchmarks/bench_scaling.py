"""Time and memory of the four heavy steps for 1, 4 and 16 times the speech, with the exponents fitted to them.

Every measurement is a process of its own, forked after the imports: its time holds no import, its peak of memory is its
own. The speech is synthetic (`repkit.audio.synthetic`), written as FLAC before the clock starts.
"""

from __future__ import annotations

import csv
import importlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np

SIZES = (1, 4, 16)
SPEAKERS, SENTENCES = 4, 5
"""Speakers at size 1, and sentences that each says in each of four emotions."""
IMPORTED = (
    "accelerate", "pyarrow.parquet", "safetensors.torch", "sklearn.metrics", "soundfile", "torch._dynamo",
    "torch.utils.tensorboard",
    "repkit.stage_one.gru_autoencoder", "repkit.stage_one.open", "repkit.stage_two.attentive_cnn",
    "repkit.workflows.embed", "repkit.workflows.pretrain_ae", "repkit.workflows.train_ser.run",
)  # fmt: skip
"""What the steps would else import in their time."""
REPEATS = {1: 3, 4: 2, 16: 1}
"""Measurements of which the median is taken; small sizes vary more."""


def write_corpora(folder: Path, sizes: Sequence[int]) -> float:
    """Write the largest corpus, and the smaller ones as its first speakers; return the hours of size 1."""
    from repkit.audio.export import export_corpus
    from repkit.audio.synthetic import SyntheticCorpus

    largest = folder / f"{sizes[-1]}"
    settings = SyntheticCorpus.Config(
        name="made",
        n_speakers=SPEAKERS * sizes[-1],
        emotions=("anger", "happiness", "neutral", "sadness"),
        n_sentences=SENTENCES,
    )
    done = export_corpus(SyntheticCorpus(settings), largest)
    with (largest / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for size in sizes[:-1]:
        some = rows[: len(rows) * size // sizes[-1]]
        (folder / f"{size}" / "data").mkdir(parents=True)
        for row in some:
            os.link(largest / row["file_name"], folder / f"{size}" / row["file_name"])
        with (folder / f"{size}" / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(some)
    return done.hours / sizes[-1]


def opened(corpus: Path) -> Any:
    """Return the corpus of a folder."""
    from repkit.audio.open import open_corpus

    return open_corpus("made", str(corpus))


def extract(corpus: Path, out: Path) -> None:
    """FLAC to a store of 26 log-Mel bands."""
    from repkit.features.extract import extract_frames
    from repkit.features.log_mel import LogMel

    extract_frames(opened(corpus), LogMel(), out / "frames")


def pretrain(corpus: Path, out: Path, epochs: int = 1) -> None:
    """One epoch of the small autoencoder on frames that are in the cache."""
    from repkit.config import PretrainRecipe, load_recipe
    from repkit.stage_one.settings import PretrainConfig
    from repkit.workflows.pretrain_ae import pretrain_ae

    training = load_recipe(PretrainRecipe, "demo_autoencoder", [f"training.epochs={epochs}"]).training
    settings = {**training, "dev_speakers": 0.0, "diagnose_every": 0, "device": "cpu"}
    pretrain_ae([opened(corpus)], out / "ae", PretrainConfig(**settings), progress="none")


def embed(corpus: Path, out: Path) -> None:
    """FLAC to a store of vectors by an autoencoder of the paper's size with random weights."""
    from repkit.workflows.embed import embed as run

    run(f"untrained:{corpus.parent / 'ae'}", [opened(corpus)], out / "embeddings")


def train(corpus: Path, out: Path) -> None:
    """One epoch of one job of the recipe ``demo`` on frames that are in the cache: loading, training, predictions."""
    from repkit.config import SerRecipe, load_recipe
    from repkit.runs.executors import run_jobs
    from repkit.workflows.train_ser.data import frame_stores, load_data
    from repkit.workflows.train_ser.jobs import run_job
    from repkit.workflows.train_ser.plan import make_plan
    from repkit.workflows.train_ser.run import make_context

    plan = make_plan(load_recipe(SerRecipe, "demo", ["training.epochs=1"]), {"made": opened(corpus)})
    data = load_data(plan, frame_stores(plan, "stop", lambda *what: None))[0]
    (out / "run").mkdir()
    run_jobs(run_job, make_context(out / "run", plan, data, {}, {}), plan.jobs[:1], 1, lambda event: None)


def prepare_encoder(folder: Path) -> None:
    """Make a finished run of pretrain-ae of the paper's size for `embed`; its weights are not used."""
    from repkit.stage_one.settings import PretrainConfig
    from repkit.workflows.pretrain_ae import pretrain_ae

    config = PretrainConfig(epochs=1, dev_speakers=0.0, diagnose_every=0, device="cpu")
    pretrain_ae([opened(folder / "1")], folder / "ae", config, progress="none")


def prepare_frames(corpus: Path) -> None:
    """Fill the cache with what `pretrain` and `train` read."""
    from repkit.config import SerRecipe, load_recipe
    from repkit.features.extract import cached_frames
    from repkit.stage_one.frontends import build_frontend
    from repkit.stage_one.settings import PretrainConfig
    from repkit.workflows.train_ser.data import frame_stores
    from repkit.workflows.train_ser.plan import make_plan

    config = PretrainConfig()
    cached_frames(opened(corpus), build_frontend(**config.frontend_table()), dtype=config.frames_dtype)
    frame_stores(make_plan(load_recipe(SerRecipe, "demo"), {"made": opened(corpus)}), "stop", lambda *what: None)


STEPS: dict[str, Callable[[Path, Path], None]] = {
    "frames (26 bands, from FLAC)": extract,
    "embed (from FLAC)": embed,
    "pretrain-ae, one epoch": pretrain,
    "train-ser, one epoch": train,
}


def measured(step: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    """Run a step; return its seconds and the MB it came to hold beyond what was held before. In a process of its own."""
    before = harness.held_memory_mb()
    begun = time.perf_counter()
    step(*arguments)
    seconds = time.perf_counter() - begun
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return seconds, max(harness.peak_memory_mb(), children) - before


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return b of the least-squares fit of log(value) = a + b log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def run(page: harness.Page, options: harness.Options) -> None:
    """Measure every step at every size."""
    for module in IMPORTED:
        importlib.import_module(module)

    harness.one_thread()
    sizes = SIZES[:2] if options.quick else SIZES
    with tempfile.TemporaryDirectory(prefix="repkit-bench-scaling-") as name:
        folder = Path(name)
        hours = write_corpora(folder, sizes)
        harness.forked(prepare_encoder, folder)
        for size in sizes:
            harness.forked(prepare_frames, folder / f"{size}")
        found: dict[str, dict[int, tuple[float, float]]] = {step: {} for step in STEPS}
        for step, function in STEPS.items():
            for size in sizes:
                times = []
                for _ in range(1 if options.quick else REPEATS[size]):
                    with tempfile.TemporaryDirectory(dir=folder) as out:
                        times.append(harness.forked(measured, function, folder / f"{size}", Path(out)))
                found[step][size] = tuple(float(np.median(column)) for column in zip(*times))
    report(page, found, hours)


def report(page: harness.Page, found: dict[str, dict[int, tuple[float, float]]], hours: float) -> None:
    """Fill the page."""
    n = SPEAKERS * SENTENCES * 4
    page.text(
        f"Size 1 is {n} utterances, {hours:.3f} h of synthetic speech. Seconds hold no import; MB is the most memory held "
        "beyond what the imports hold. An exponent of 1 means in proportion to the speech, 0 that it does not matter, "
        "above 1 that large corpora cost more per hour than small ones; below 1 part of it is paid once. What is written to a "
        "store is held until a shard is full, so that memory may grow up to that size and no further (see the page on memory)."
    )
    sizes = list(next(iter(found.values())))
    rows, exponents = [], {}
    for step, values in found.items():
        each = [values[size] for size in sizes]
        exponents[step] = tuple(exponent(sizes, column) for column in zip(*each))
        # what is added by going from the second largest to the largest size: free of what is paid once
        (low_s, low_mb), (high_s, high_mb) = each[-2:]
        more = (sizes[-1] - sizes[-2]) * hours
        rows.append(
            [
                step,
                " / ".join(f"{s:.2f}" for s, _ in each),
                f"{exponents[step][0]:.2f}",
                f"{(high_s - low_s) / more:.0f}",
                " / ".join(f"{mb:.0f}" for _, mb in each),
                f"{exponents[step][1]:.2f}",
                f"{(high_mb - low_mb) / more:.0f}",
            ]
        )
    listed = " / ".join(f"{size}x" for size in sizes)
    page.table(
        [
            "step",
            f"s at {listed}",
            "exponent",
            "s per further hour",
            f"MB at {listed}",
            "exponent",
            "MB per further hour",
        ],
        rows,
    )
    for step, (slope_s, slope_mb) in exponents.items():
        page.text(f"{step}: time {meaning(slope_s)}, memory {meaning(slope_mb)}.")
    worst = max(slope for slope, _ in exponents.values())
    page.target("time grows no faster than the speech (exponent at most 1.1)", worst <= 1.1, f"largest {worst:.2f}")
    page.headline(
        "exponents of time and memory from 1 to 16 times the speech: "
        + "; ".join(f"{step.split(' (')[0].split(',')[0]} {s:.2f} and {mb:.2f}" for step, (s, mb) in exponents.items())
    )


def meaning(slope: float) -> str:
    """Return an exponent in words."""
    if slope < 0.25:
        return "hardly depends on the amount of speech"
    if slope < 0.9:
        return "grows less than the speech (part of it is paid once)"
    return "grows in proportion to the speech" if slope <= 1.1 else "grows FASTER than the speech"


if __name__ == "__main__":
    harness.main("scaling", "Time and memory by size", run)
