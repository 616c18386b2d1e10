"""Time training steps with and without `repkit.runs.executors.keep_freed_memory`, one process after the other.

    python tests/benchmarks/bench_freed_memory.py --model attentive_cnn --model aldeneh_cnn --model latif_cnn_lstm --rounds 4

What the C library has been told cannot be taken back, so that every measurement is a process of its own, on one thread; both
variants run in every round. Printed: median CPU milliseconds of a step without and with, and the ratio of each round.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch

SHAPES = {"attentive_cnn": (64, 400, 26, 30), "aldeneh_cnn": (32, 320, 40, 6), "latif_cnn_lstm": (32, 48000, 1, 4)}
"""Items, frames, bands, and steps to time."""


def measure(name: str, keep: bool) -> float:
    """Return the CPU milliseconds of a training step on random frames."""
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
    started = 0.0
    for step in range(2 + steps):
        if step == 2:
            started = time.process_time()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(batch).logits["emotion"], target).backward()
        optimiser.step()
    return (time.process_time() - started) / steps * 1e3


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--once", choices=("keep", "give_back"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.model or list(SHAPES)
    if arguments.once:
        print(measure(names[0], arguments.once == "keep"))
        return
    for name in names:
        pairs = [[_in_a_process(name, how) for how in ("give_back", "keep")] for _ in range(arguments.rounds)]
        without, kept = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
        ratios = ", ".join(f"{one / other:.2f}" for one, other in pairs)
        print(f"{name}: without {without:.0f} ms, with {kept:.0f} ms, ratios {ratios}", flush=True)


def _in_a_process(name: str, how: str) -> float:
    command = [sys.executable, __file__, "--model", name, "--once", how]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
