"""Memory and time of training on batches of ever other lengths, by how many compiled kernels oneDNN keeps.

oneDNN reads the number once, so that every measurement is a process of its own (forked after the imports), on one thread;
both variants run in every round. Times are CPU time, memory is the peak above that of the process before.
"""

from __future__ import annotations

import os
import random
import time

import harness
import torch

MODELS = {
    "latif_cnn_lstm": (16, 32000, 80000, 1, 20),
    "adapter_resnet": (8, 100, 200, 64, 6),
    "parry_cnn": (32, 100, 400, 40, 12),
}
"""Items, fewest and most frames, bands, steps."""


def measure(name: str, capacity: int, quick: bool) -> tuple[float, float]:
    """Return the CPU seconds of a training step on random frames of random lengths, and the peak of memory in MB.

    Raises:
        SystemExit: this C library cannot be told to keep freed memory.
    """
    from repkit.api import Batch, TaskSpec
    from repkit.plugins import load
    from repkit.runs.executors import keep_freed_memory

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(capacity)
    if not keep_freed_memory():
        raise SystemExit("this C library cannot be told to keep freed memory")
    items, fewest, most, bands, steps = MODELS[name]
    kind = load("repkit.models", name)
    model = kind(kind.Config(), TaskSpec(views={"emotion": tuple("abcdefg")}, n_bands=bands))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    target = torch.arange(items) % 7
    draw = random.Random(0)
    before, steps = harness.held_memory_mb(), 2 if quick else steps
    started = 0.0
    for step in range(1 + steps):
        if step == 1:
            started = time.process_time()
        frames = draw.randint(fewest, most)
        batch = Batch(["x"] * items, torch.randn(items, frames, bands), torch.full((items,), frames), {})
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(batch).logits["emotion"], target).backward()
        optimiser.step()
    return (time.process_time() - started) / steps, harness.peak_memory_mb() - before


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare every model with oneDNN's default and with ours."""
    import torch._dynamo  # noqa: F401 - an optimiser's first step would import it

    import repkit.plugins
    from repkit.runs.executors import KEPT_PRIMITIVES

    for name in MODELS:  # before the processes are forked, so that none of them imports
        repkit.plugins.load("repkit.models", name)
    seconds, rows = {}, []
    for name, (items, fewest, most, bands, steps) in MODELS.items():
        label = f"{name}, {items} x {fewest} to {most} x {bands}, {steps} steps"
        found: dict[int, list[tuple[float, float]]] = {1024: [], KEPT_PRIMITIVES: []}
        for number in range(options.rounds):
            for capacity in sorted(found, reverse=bool(number % 2)):
                found[capacity].append(harness.forked(measure, name, capacity, options.quick))
        sides = {f"{capacity} kept": [time_s for time_s, _ in pairs] for capacity, pairs in found.items()}
        seconds[label] = (sides, *sides)
        peaks = [harness.median([mb for _, mb in pairs]) for pairs in found.values()]
        rows.append([label, *(f"{mb:.0f}" for mb in peaks), f"**{peaks[0] / peaks[1]:.2f}**"])
    page.text(
        "A training step (forward, backward, Adam) on random frames, every batch of another length, freed memory kept. A: oneDNN "
        f"keeps its default of 1024 compiled kernels; B: {KEPT_PRIMITIVES} (`repkit.runs.executors.keep_freed_memory`)."
    )
    page.table(["model, items x frames x bands", "A, peak MB", "B, peak MB", "A / B"], rows)
    page.text("CPU time:")
    page.compare("model, items x frames x bands", seconds)
    page.headline("peak memory, 1024 kept / ours: " + ", ".join(f"{row[0].split(',')[0]} {row[-1]}" for row in rows))


if __name__ == "__main__":
    harness.main("primitive_cache", "Compiled kernels kept", run)
