"""Where the time of train-ser goes: one step and one epoch of the paper's attentive CNN, and what is around the training."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import harness
import torch

from repkit.api import Outputs, TaskSpec
from repkit.api.dropout import keyed_dropouts
from repkit.audio.synthetic import SyntheticCorpus
from repkit.config import SerRecipe, load_recipe
from repkit.runs.executors import prepare_process
from repkit.stage_two.attentive_cnn import AttentiveCnn
from repkit.stage_two.multi_view import MultiView
from repkit.training.data import FoldData, RaggedTensor, Standardisation, TrainingData
from repkit.training.loop import predict
from repkit.workflows.train_ser.run import train_ser

CLASSES = {"emotion": tuple("ahns"), "arousal": tuple("lmh"), "valence": tuple("lmh")}
LOADED, READ = "batch: frames read, padded, standardised", "of which read and padded"
BATCH, BANDS, FILTERS, KERNEL, STRIDE = 64, 26, 200, 10, 3
VECTOR = 1024


class Parts:
    """CPU seconds by name of the part."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        begun = time.process_time()
        yield
        self.seconds[name].append(time.process_time() - begun)


def steps(n_steps: int) -> tuple[dict[str, float], float]:
    """Return the milliseconds of the parts of a training step, and the mean number of windows of a batch."""
    n = 640
    drawn = torch.Generator().manual_seed(0)
    lengths = (torch.randn(n, generator=drawn) * 150 + 450).clamp(60, 748).long()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    frames = RaggedTensor(torch.randn(int(offsets[-1]), BANDS, generator=drawn).half(), offsets)
    targets = {view: torch.randint(0, len(c), (n,), generator=drawn) for view, c in CLASSES.items()}
    data = TrainingData([str(i) for i in range(n)], frames, targets, torch.randn(n, VECTOR, generator=drawn))
    fold = FoldData(
        data, Standardisation(torch.zeros(1, BANDS), torch.ones(1, BANDS), torch.zeros(n, dtype=torch.int64))
    )
    task = TaskSpec(views=CLASSES, n_bands=BANDS, vector_dim=VECTOR)
    model, objective = AttentiveCnn(AttentiveCnn.Config(), task), MultiView(MultiView.Config(), task)
    keyed_dropouts(model)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    parts = Parts()
    model.train()
    for step in range(n_steps + 3):
        if step == 3:
            parts = Parts()
        items = torch.randperm(n, generator=drawn)[:BATCH]
        plain = fold if step % 2 else replace(fold, standardise_frames=None)
        with parts.part(LOADED if plain is fold else READ):
            batch = plain.batch(items)
        with parts.part("windows, product, maximum"):
            pooled, mask = model._convolve_and_pool(batch.frames, batch.lengths, None)
        with parts.part("attention, vector, dropout, heads"):
            hidden = model.dropout(torch.cat([model.attention(pooled, mask), batch.vectors], dim=1))
            logits = {view: head(hidden) for view, head in model.heads.items()}
        with parts.part("losses"):
            loss = torch.stack(list(objective(Outputs(logits, hidden), batch, 0.0).values())).sum()
        with parts.part("gradients"):
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
        with parts.part("Adam"):
            optimiser.step()
    everyone = torch.arange(n)
    begun = time.process_time()
    predict(model, fold, everyone)
    parts.seconds["prediction of as many utterances (dev)"] = [(time.process_time() - begun) * BATCH / n]
    windows = float(((lengths - KERNEL) // STRIDE + 1).float().mean()) * BATCH
    found = {name: harness.median(each) * 1e3 for name, each in parts.seconds.items()}
    order = [LOADED, READ, *(name for name in found if name not in (LOADED, READ))]
    return {name: found[name] for name in order}, windows


def job(n_epochs: int) -> dict[str, float]:
    """Return the seconds of a whole run of two jobs on synthetic voices in this process: in training, and in all."""
    settings = [f"training.epochs={n_epochs}", "seeds=[0]"]
    recipe = load_recipe(SerRecipe, "demo", settings, {})
    corpus = SyntheticCorpus(SyntheticCorpus.Config(name="synthetic_a"))
    spent: dict[str, float] = {}
    marks: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="repkit-profile-") as folder:
        begun = time.perf_counter()
        train_ser(
            recipe, {corpus.name: corpus}, root=Path(folder), workers=1, executor="processes", device="cpu",
            on_start=lambda *given: marks.append(("start", time.perf_counter())),
            on_event=lambda event: marks.append((event.kind, time.perf_counter()))
            if event.kind == "done"
            else spent.__setitem__("", 0.0),
        )  # fmt: skip
        whole = time.perf_counter() - begun
        trained = 0.0
        for path in Path(folder).rglob("done.json"):
            trained += json.loads(path.read_text())["seconds"]
    started = marks[0][1] - begun
    jobs = marks[-1][1] - marks[0][1]
    return {
        "frames, plan, audit": started,
        "training": trained,
        "models built and tried, predictions, files of the jobs": jobs - trained,
        "scores, figures, report": whole - started - jobs,
    }


def run(page: harness.Page, options: harness.Options) -> None:
    """Fill the page."""
    prepare_process()
    parts, windows = steps(4 if options.quick else 60)
    step = sum(ms for name, ms in parts.items() if not name.startswith(("prediction", READ)))
    rate = harness.gemm_rate(4096, BANDS * KERNEL, FILTERS)
    product = 2 * windows * BANDS * KERNEL * FILTERS / rate / 1e6
    copied = windows * BANDS * KERNEL * 4 * 2 / harness.copy_rate() / 1e6
    floor = product + copied
    page.text(
        f"One thread, batches of {BATCH} utterances of 4.5 s on average, {BANDS} bands, a vector of {VECTOR}, fp32; median "
        "CPU time of a step."
    )
    page.table(
        ["part", "ms", "share of a step"], [[n, f"{ms:.2f}", f"{100 * ms / step:.0f} %"] for n, ms in parts.items()]
    )
    page.text(
        f"**Floor.** A step multiplies {windows:.0f} windows of {BANDS * KERNEL} numbers with {FILTERS} filters once: the "
        f"gradient of the filters needs the windows that won alone. At the measured {rate:.0f} GFLOP/s of this shape that is "
        f"{product:.1f} ms; the windows are written and read once, {copied:.1f} ms. Together {floor:.1f} ms; a step takes "
        f"{step:.1f} ms, {step / floor:.1f} times the floor. What is left: the maximum over 30 windows with its place, the "
        "rows of the batch (half precision in memory, standardised here), and some forty small operations."
    )
    share = parts[READ] / step
    whole = job(2 if options.quick else 25)
    total = sum(whole.values())
    page.text("A whole run, synthetic voices, two jobs in one process, wall time:")
    page.table(["part", "s", "share"], [[n, f"{s:.1f}", f"{100 * s / total:.0f} %"] for n, s in whole.items()])
    page.headline(
        f"a step takes {step:.0f} ms, {step / floor:.1f} times its floor; batches cost {100 * share:.0f} % of it"
    )
    page.target("loading at most 5 % of a training step (stage two)", share <= 0.05, f"{100 * share:.1f} %")
    page.target("a step of stage two no slower than 4 times its floor", step / floor <= 4, f"{step / floor:.1f}")


if __name__ == "__main__":
    harness.main("profile_train_ser", "Where the time of train-ser goes", run)
