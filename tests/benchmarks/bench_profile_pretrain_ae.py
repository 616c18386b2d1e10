"""Where the time of `repkit pretrain-ae` goes, how far that is from what the processor can do, and what memory it takes."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from ae_peers import Frames, OurLoop, Task, gemm_rate, operations, precision, speech_frames

UPDATES = 12
HOURS = (3, 12, 48)
"""Of the synthetic stores: 1, 4 and 16 times the data."""
FRAMES_PER_HOUR = 90_000
WINDOW_HOURS = 1.0


def profile(task: Task, updates: int) -> dict[str, float]:
    """Return the median processor seconds of each part of an update, and counts; in a process of its own."""
    import numpy as np
    import torch

    from repkit.runs.executors import prepare_process
    from repkit.stage_one import gru_layer, recurrent, update

    prepare_process()
    loop = OurLoop(task)
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            begun = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.process_time() - begun

        return wrapper

    model = loop.model
    model.encode = timed("encode", model.encode)
    model.decode = timed("decode", model.decode)
    layer = gru_layer._GruLayer
    layer.backward = staticmethod(timed("layers backward", layer.backward))
    gru_layer._run = timed("layers forward", gru_layer._run)
    recurrent.dropout = timed("dropout", recurrent.dropout)
    torch.nn.utils.clip_grad_value_ = update.nn.utils.clip_grad_value_ = timed("clip", torch.nn.utils.clip_grad_value_)
    loop.optimizer.step = timed("adam", loop.optimizer.step)
    torch.Tensor.backward = timed("backward", torch.Tensor.backward)
    rows = []
    for number in range(updates + 2):
        spent.clear()
        begun = time.process_time()
        _, frames = loop.update()
        spent["update"] = time.process_time() - begun
        spent["load"] = loop.parts["load"]
        spent["frames"] = frames
        if number > 1:
            rows.append(dict(spent))
    total = sum(row["frames"] for row in rows)
    found = {name: float(np.sum([row[name] for row in rows])) / total * 1e4 for name in rows[0]}
    found["peak MB"] = peak_mb()
    return found


def product_seconds(n_steps: int, batch: int, dtype: str) -> float:
    """Return the time of an update's matrix products alone, of their true shapes, per 10,000 frames."""
    import torch

    kind = getattr(torch, dtype)
    hidden, bands = 256, 128

    def best(*shape: int) -> float:
        rows, inner, columns = shape
        a, b = torch.randn(rows, inner).to(kind), torch.randn(inner, columns).to(kind)
        out = torch.empty(rows, columns, dtype=kind)
        n, found = (50 if rows <= batch else 1), float("inf")
        for _ in range(4):
            begun = time.process_time()
            for _ in range(n):
                torch.mm(a, b, out=out)
            found = min(found, (time.process_time() - begun) / n)
        return found

    rows = n_steps * batch
    step = best(batch, hidden, 3 * hidden) + best(batch, 3 * hidden, hidden)
    into = {size: best(1024, size, 3 * hidden) * rows / 1024 for size in (bands, hidden)}
    weights = {size: best(size, rows, 3 * hidden) for size in (bands, hidden)}
    back = best(rows, 3 * hidden, hidden)
    output = 2 * (best(rows, hidden, bands) + best(rows, bands, hidden) + best(bands, rows, hidden))
    layers = 6 * (n_steps * step + weights[hidden]) + 3 * (sum(into.values()) + sum(weights.values())) + 3 * back
    return (layers + output) / rows * 1e4


def write_store(folder: Path, hours: int) -> Path:
    """Write frames of LibriSpeech-like lengths (5 to 16 s); what is in them does not matter."""
    import numpy as np

    from repkit.store import StoreSpec, StoreWriter

    random = np.random.default_rng(0)
    noise = np.tanh(random.normal(0, 0.5, (600, 128))).astype(np.float16)
    spec = StoreSpec(
        kind="frames", dim=128, dtype="float16", corpus="synthetic", corpus_fingerprint=str(hours), source={},
        frame_shift_s=0.04,
    )  # fmt: skip
    left = hours * FRAMES_PER_HOUR
    with StoreWriter(folder / f"store-{hours}", spec) as writer:
        number = 0
        while left > 0:
            n = int(random.integers(125, 400))
            writer.add(f"{number:07d}", noise[:n])
            number, left = number + 1, left - n
        writer.finish()
    return folder / f"store-{hours}"


def read_epoch(store: Path, streamed: bool) -> tuple[float, float, float]:
    """Go through an epoch without training; return peak MB above the start's, seconds, frames; in a process of its own."""
    from repkit.runs.executors import prepare_process
    from repkit.stage_one.data import Pieces
    from repkit.store import open_store

    prepare_process()
    begun = peak_mb()
    opened = open_store(store)
    window = WINDOW_HOURS * FRAMES_PER_HOUR
    pieces = Pieces([opened], [set(opened.ids)], 186, "split", None, 0 if streamed else 1e12, window)
    start = time.process_time()
    for batch in pieces.batches(64, 0, 0):
        pieces.batch(batch, "cpu")
    took = time.process_time() - start
    return peak_mb() - begun, took, float(pieces.lengths.sum())


def copy_rate(n: int = 1 << 24) -> float:
    """Return GB/s of a copy by processor time, read and write counted, the best of ten."""
    import torch

    a, b = torch.zeros(n), torch.zeros(n)
    best = float("inf")
    for _ in range(10):
        begun = time.process_time()
        b.copy_(a)
        best = min(best, time.process_time() - begun)
    return 8 * n / best / 1e9


def peak_mb() -> float:
    """Return the most memory this process has held."""
    import torch

    from repkit.stage_one.reporter import peak_memory

    return peak_memory(torch.device("cpu"))["peak_memory_mb"]


def _alone(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    harness.one_thread()
    pipe.send(function(*arguments))


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_alone, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    answer = ours.recv()
    process.join()
    return answer


def run(page: harness.Page, options: harness.Options) -> None:
    """Profile an update, set it beside the floor, and read stores of 1, 4 and 16 times the data."""
    import numpy as np

    auto = precision()
    small = {"hidden": 16} if options.quick else {}
    store = speech_frames(options)
    kind = {"fp32": "float32", "bf16": "bfloat16"}[auto]
    task = Task("ours", store, precision=auto, **small)
    found = alone(profile, task, 2 if options.quick else UPDATES)
    batches = [batch for batch, _ in zip(Frames(task).batches(task), range(UPDATES))]
    lengths = Frames(task).pieces.lengths
    padded = sum(int(lengths[b].max()) * len(b) for b in batches) / sum(int(lengths[b].sum()) for b in batches)
    rate, bandwidth = gemm_rate(kind), copy_rate()
    products = product_seconds(160, 64, kind) * padded
    update = found["update"]
    page.text(
        "An update of the paper's autoencoder (64 pieces of at most 186 frames of LibriSpeech's small subset, "
        f"{auto}, one thread): processor seconds per 10,000 frames of speech, from the start (weights as drawn)."
    )
    inside = found["layers forward"]
    rows = [
        ("load: pieces from memory, padded", found["load"]),
        ("encoder, forward", found["encode"]),
        ("decoder, forward", found["decode"]),
        ("loss, checks", update - sum(found[k] for k in ("load", "encode", "decode", "backward", "clip", "adam"))),
        ("backward", found["backward"]),
        ("clip", found["clip"]),
        ("Adam", found["adam"]),
    ]
    page.table(
        ["part", "s", "share"],
        [[name, f"{value:.4f}", f"{value / update:.1%}"] for name, value in [*rows, ("all", update)]],
    )
    layers = inside + found["layers backward"]
    outside = update - layers - found["dropout"]
    page.text("The same time by kind of work, across encoder and decoder:")
    page.table(
        ["work", "s", "share"],
        [
            ["matrix products of the recurrent layers and the output (timed alone, true shapes)", f"{products:.4f}",
             f"{products / update:.1%}"],
            ["rest of the recurrent layers: gates, derivatives, calls", f"{layers - products:.4f}",
             f"{(layers - products) / update:.1%}"],
            ["drawing and applying dropout, forward", f"{found['dropout']:.4f}", f"{found['dropout'] / update:.1%}"],
            ["all else: copies, reversals, loss, dropout backward, clipping, Adam", f"{outside:.4f}",
             f"{outside / update:.1%}"],
        ],
    )  # fmt: skip
    amount = operations(10_000, hidden=16 if options.quick else 256)
    floor = amount / rate / 1e9
    # float32 update gates; states, inputs, 4 derivatives (over which their 4 gradients are written) in the products' type
    size = 2 if auto == "bf16" else 4
    traffic = 6 * 10_000 * 256 * (4 * 2 + size * (2 * 2 + 4 * 4)) / 1e9
    page.text(
        f"**Floor.** {amount / 1e9:.0f} G operations over {rate:.0f} GFLOP/s measured ({kind}, 4096 x 256 x 768): "
        f"{floor:.2f} s. What the layers keep for the backward pass is {traffic:.1f} GB written and read, over "
        f"{bandwidth:.0f} GB/s measured: {traffic / bandwidth:.2f} s, part of it behind the products. "
        f"**Reached:** {update:.2f} s, {update / floor:.2f} times the floor of the operations. Frames computed for each valid "
        f"one: {padded:.3f}. Most memory of the process: {found['peak MB']:.0f} MB."
    )
    page.text(
        "**Left.** The products run at "
        f"{padded * floor / products:.0%} of the measured peak: a step's are small (64 x 256 x 768 and 64 x 768 x 256). "
        "Weights packed once for all steps gain 5 % of that (measured, not taken: the calls are PyTorch's own secrets). The "
        "gates are one compiled pass per step and direction; what is left of them is three exponentials and divisions a unit, "
        "and memory: derivatives go out to it and come back."
    )
    hours = [1, 2] if options.quick else HOURS
    table, streams, shares = [], [], []
    with tempfile.TemporaryDirectory(prefix="repkit-bench-") as name:
        for n in hours:
            folder = write_store(Path(name), n)
            peak, seconds, frames = alone(read_epoch, folder, True)
            streams.append(peak)
            shares.append(seconds / frames * 1e4 / update)
            streamed, whole = f"{shares[-1]:.2%}", ["", ""]
            if n < hours[-1]:  # the largest is for streaming
                peak, seconds, frames = alone(read_epoch, folder, False)
                shares.append(seconds / frames * 1e4 / update)
                whole = [f"{peak:.0f}", f"{shares[-1]:.2%}"]
            table.append([f"{n} h ({n // hours[0]}x)", f"{streams[-1]:.0f}", whole[0], streamed, whole[1]])
    exponent = float(np.polyfit(np.log(hours), np.log(streams), 1)[0])
    page.text(
        "**Memory and loading by size of the corpus.** One epoch of synthetic stores (128 bands, float16) read in windows of "
        f"{WINDOW_HOURS:g} h (pretrain-ae's `window_hours` is 24), and, but for the largest, held in memory as it is done up to `ram_budget_gb`. "
        "Memory is the peak above that of the process before; loading is processor time, the reading ahead included, as a "
        "share of the update above."
    )
    page.table(["speech", "streamed, MB", "in memory, MB", "loading, streamed", "loading, in memory"], table)
    page.text(f"Streamed memory grows with the data to the power {exponent:.2f}.")
    worst = 100 * max(shares)
    page.headline(
        f"{update:.2f} s per 10,000 frames, {update / floor:.1f} times the floor; loading {worst:.1f} % of it"
    )
    page.target("loading at most 5 % of an update", worst <= 5, f"{worst:.2f} %")
    page.target("no slower than 4 times the floor", update <= 4 * floor, f"{update / floor:.2f} times")
    page.target(
        "peak memory constant in the size of the corpus", streams[-1] < 1.3 * streams[0],
        f"{streams[0]:.0f} to {streams[-1]:.0f} MB from {hours[0]} to {hours[-1]} h",
    )  # fmt: skip


if __name__ == "__main__":
    harness.main("profile_pretrain_ae", "Profile of pretrain-ae", run)
