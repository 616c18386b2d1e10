"""Training steps with and without `repkit.runs.executors.keep_freed_memory`.

What the C library has been told cannot be taken back, so that every measurement is a process of its own (forked after the
imports), on one thread; both variants run in every round. Times are CPU time.
"""

from __future__ import annotations

import time
from functools import partial

import harness
import torch

SHAPES = {"attentive_cnn": (64, 400, 26, 8), "aldeneh_cnn": (16, 320, 40, 3), "latif_cnn_lstm": (16, 48000, 1, 2)}
"""Items, frames, bands, and steps to time."""


def measure(name: str, keep: bool, quick: bool) -> float:
    """Return the CPU seconds of a training step on random frames.

    Raises:
        SystemExit: this C library cannot be told to keep freed memory.
    """
    from repkit.api import Batch, TaskSpec
    from repkit.plugins import load
    from repkit.runs.executors import keep_freed_memory

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if keep and not keep_freed_memory():
        raise SystemExit("this C library cannot be told to keep freed memory")
    items, frames, bands, steps = SHAPES[name]
    kind = load("repkit.models", name)
    settings = {"fusion": "none"} if "fusion" in kind.Config.model_fields else {}
    model = kind(kind.Config(**settings), TaskSpec(views={"emotion": tuple("abcdefg")}, n_bands=bands))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    batch = Batch(["x"] * items, torch.randn(items, frames, bands), torch.full((items,), frames), {})
    target = torch.arange(items) % 7
    warm_up, steps = 1, 1 if quick else steps
    started = 0.0
    for step in range(warm_up + steps):
        if step == warm_up:
            started = time.process_time()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(batch).logits["emotion"], target).backward()
        optimiser.step()
    return (time.process_time() - started) / steps


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare every model with and without."""
    import torch._dynamo  # noqa: F401 - an optimiser's first step would import it

    import repkit.plugins
    import repkit.runs.executors

    for name in SHAPES:  # before the processes are forked, so that none of them imports
        repkit.plugins.load("repkit.models", name)
    results = {}
    for name, (items, frames, bands, _) in SHAPES.items():
        variants = {
            "given back": partial(harness.forked, measure, name, False, options.quick),
            "kept": partial(harness.forked, measure, name, True, options.quick),
        }
        seconds = harness.alternate(variants, options.rounds, warm_up=0)
        results[f"{name}, {items} x {frames} x {bands}"] = (seconds, "given back", "kept")
    page.text(
        "CPU time of a training step (forward, backward, Adam) on random frames. A: freed memory goes back to the kernel, as "
        "the C library does by default; B: it is kept (`repkit.runs.executors.keep_freed_memory`, done by every process that "
        "trains). Every figure is a process of its own."
    )
    page.compare("model, items x frames x bands", results)
    ratios = {name.split(",")[0]: harness.ratio(s[a], s[b]) for name, (s, a, b) in results.items()}
    page.headline("given back / kept: " + ", ".join(f"{name} {found}" for name, found in ratios.items()))


if __name__ == "__main__":
    harness.main("freed_memory", "Freed memory kept", run)
