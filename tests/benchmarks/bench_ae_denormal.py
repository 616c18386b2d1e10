"""The autoencoder's update with denormal numbers computed and with denormals flushed to zero."""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness
from ae_peers import Process, Task, precision, speech_frames, train_a_while

TRAINED_UPDATES = 52


def run(page: harness.Page, options: harness.Options) -> None:
    """Train a while, then switch flushing on and off between updates of the same weights."""
    small = {"hidden": 16} if options.quick else {}
    updates = 3 if options.quick else TRAINED_UPDATES
    store = speech_frames(options)
    with tempfile.TemporaryDirectory(prefix="repkit-bench-") as folder:
        weights = Path(folder) / "weights.pt"
        auto = precision()
        train_a_while(store, weights, updates, **small)
        results, losses = {}, {}
        # learning rate 0: every update meets the same weights
        tasks = {
            "plain loop, float32": Task("plain", store, weights, batch_size=32, learning_rate=0.0, **small),
            f"ours, {auto}": Task("ours", store, weights, batch_size=32, precision=auto, learning_rate=0.0, **small),
        }
        for name, task in tasks.items():
            process = Process(task)
            seconds: dict[str, list[float]] = {"default": [], "flushed": []}

            def update(kind: str, process: Process = process, seconds: dict[str, list[float]] = seconds) -> None:
                process.ask("flush", kind == "flushed")
                seconds[kind].append(process.update())

            harness.interleave({kind: lambda kind=kind: update(kind) for kind in seconds}, options.rounds)
            seconds = {kind: values[-options.rounds :] for kind, values in seconds.items()}
            results[name] = (seconds, "default", "flushed")
            pair = []
            for flushed in (False, True):
                process.ask("flush", flushed)
                pair.append(process.ask("loss"))
            losses[name] = pair
            process.close()
    difference = max(abs(a - b) for a, b in losses.values())
    page.text(
        f"The paper's autoencoder on LibriSpeech's small subset after {updates} updates, 32 pieces of at most 186 frames a "
        "batch. A and B alternate in one process and meet the same weights (learning rate 0). Seconds of processor time per "
        "10,000 frames of speech. What denormal numbers cost depends on the processor: on an Intel with AMX the same "
        "comparison gave 3.3."
    )
    page.compare("update", results, unit="s")
    page.text(
        "Losses of the same pieces without dropout, default and flushed: "
        + "; ".join(f"{name}: {a:.7f} and {b:.7f}" for name, (a, b) in losses.items())
        + "."
    )
    plain = harness.ratio(results["plain loop, float32"][0]["default"], results["plain loop, float32"][0]["flushed"])
    page.headline(f"flushing denormals makes a plain update {plain.median:.2f} times as fast on this processor")
    page.target(
        "the same loss to 1e-5 with denormals flushed", difference < 1e-5, f"largest difference {difference:.1e}"
    )


if __name__ == "__main__":
    harness.main("ae_denormal", "Autoencoder: denormal numbers", run)
