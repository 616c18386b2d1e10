"""The autoencoder's update on batches of random utterances and on batches of like lengths."""

from __future__ import annotations

import harness
from ae_peers import Frames, Process, Task, in_turn, precision, speech_frames

CAPS = {190: 48, 425: 24}
"""Most frames of a piece: pieces per batch."""


def padding(frames: Frames, task: Task) -> float:
    """Return computed over valid frames, over one epoch."""
    from repkit.features.collate import length_batches

    lengths = frames.pieces.lengths
    batches = length_batches(lengths, task.batch_size, 0, 0, 100 if task.bucketed else 1)
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches) / int(lengths.sum())


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare both at two limits of length, utterances cut as `chunks = "split"` does."""
    auto = precision()
    small = {"hidden": 16} if options.quick else {}
    store = speech_frames(options)
    results, waste = {}, []
    for cap, size in CAPS.items():
        for how in ("truncate", "split"):
            tasks = {
                name: Task(
                    "ours",
                    store,
                    precision=auto,
                    longest=cap,
                    how=how,
                    batch_size=size,
                    bucketed=name == "buckets",
                    **small,
                )
                for name in ("random", "buckets")
            }
            pads = {name: padding(Frames(task), task) for name, task in tasks.items()}
            row = f"at most {cap} frames, {how}"
            waste.append(
                [row, f"{pads['random']:.3f}", f"{pads['buckets']:.3f}", f"{pads['random'] / pads['buckets']:.2f}"]
            )
            if how == "truncate":
                continue  # its padding is in the second table
            processes = {name: Process(task) for name, task in tasks.items()}
            results[row] = (in_turn(processes, options.rounds), "random", "buckets")
            for process in processes.values():
                process.close()
    page.text(
        "Real lengths of LibriSpeech's small subset (1.65 to 22.75 s, half of them over 13 s; 40 ms a frame). Batches of random "
        "pieces against batches of like lengths (pools of 100 batches, sorted, then shuffled; here one pool), 48 and 24 pieces; "
        "the subset has only some 20 batches, a large corpus has finer buckets. Seconds of processor time per 10,000 valid "
        "frames of the same update, each in its own process, in turn."
    )
    page.compare("pieces", results, unit="s")
    page.text("Frames computed for each valid one, over an epoch:")
    page.table(["pieces", "random", "buckets", "ratio"], waste)
    best = max(results, key=lambda row: harness.ratio(results[row][0]["random"], results[row][0]["buckets"]).median)
    ratio = harness.ratio(results[best][0]["random"], results[best][0]["buckets"])
    page.headline(
        f"batches of like lengths hear up to {ratio.median:.2f} times as many valid frames per second ({best})"
    )


if __name__ == "__main__":
    harness.main("ae_padding", "Autoencoder: padding", run)
