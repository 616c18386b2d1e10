"""An update of the autoencoder: a plain PyTorch loop against stage one's, on trained weights and real speech."""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness
from ae_peers import Process, Task, in_turn, operations, precision, speech_frames, train_a_while

TRAINED_UPDATES = 64
INTRODUCTION = """\
The paper's autoencoder (two layers, 256 units, 128 bands) on LibriSpeech's small subset (80 ms every 40 ms, pieces of at most
186 frames, 64 per batch), after {updates} updates of 32 pieces. A, the plain loop (`tests/benchmarks/ae_peers.py`): `nn.GRU` in
float32, `functional.dropout`, Adam, random batches padded to their longest, denormal numbers and memory as by default. B, as
`repkit pretrain-ae` does it: our layer with bfloat16 matrix products where the processor multiplies them faster, cheap dropout,
batches of like lengths, denormals flushed, freed memory kept, fused Adam. Same dropout, clipping and learning rate. Each runs in
a process of its own, in turn; times are seconds of processor time per 10,000 frames of speech, padding not counted. On the same
batch without dropout their float32 losses are {plain:.6f} and {ours:.6f}."""


def run(page: harness.Page, options: harness.Options) -> None:
    """Train, compare, and set beside the floor."""
    auto = precision()
    small = {"hidden": 16} if options.quick else {}
    updates = 3 if options.quick else TRAINED_UPDATES
    store = speech_frames(options)
    with tempfile.TemporaryDirectory(prefix="repkit-bench-") as folder:
        weights = Path(folder) / "weights.pt"
        train_a_while(store, weights, updates, **small)
        tasks = {
            "plain": Task("plain", store, weights, prepared=False, **small),
            "ours": Task("ours", store, weights, precision=auto, **small),
            "ours, fp32": Task("ours", store, weights, **small),
        }
        processes = {name: Process(task) for name, task in tasks.items()}
        losses = {name: processes[name].ask("loss") for name in tasks}
        if abs(losses["plain"] - losses["ours, fp32"]) > 1e-5:
            raise SystemExit(f"losses differ: {losses}")
        rates = {name: processes["ours"].ask("gemm", name) for name in ("float32", "bfloat16")}
        seconds = in_turn(processes, options.rounds)
        for process in processes.values():
            process.close()
    page.text(INTRODUCTION.format(updates=updates, plain=losses["plain"], ours=losses["ours, fp32"]))
    page.compare(
        "10,000 frames",
        {f"ours in {auto}": (seconds, "plain", "ours"), "ours in fp32": (seconds, "plain", "ours, fp32")},
        unit="s",
    )
    fast = max(rates.values()) if auto == "bf16" else rates["float32"]
    floor = operations(10_000, hidden=16 if options.quick else 256) / fast / 1e9
    took = harness.median(seconds["ours"])
    page.text(
        f"Floor: {operations(10_000) / 1e9:.0f} G operations in matrix products over the measured rate of one thread "
        f"({rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16; 4096 x 256 x 768, best of ten): {floor:.2f} s. "
        f"Ours takes {took / floor:.2f} times that, the plain loop {harness.median(seconds['plain']) / floor:.2f} times."
    )
    ratio = harness.ratio(seconds["plain"], seconds["ours"])
    page.headline(
        f"an update takes 1/{ratio.median:.1f} of a plain PyTorch loop's time, {took / floor:.1f} times its floor"
    )
    page.target("at least 3 times a plain fp32 loop", ratio.median >= 3, f"{ratio} on {ratio.rounds} rounds")
    page.target("no slower than 4 times the floor", took <= 4 * floor, f"{took / floor:.2f} times")


if __name__ == "__main__":
    harness.main("ae_step", "Autoencoder: one training update", run)
