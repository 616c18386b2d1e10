"""K trainings of the paper's size one after another and as one program, on a GPU: ``make bench-gpu``.

A training is Neumann & Vu's attentive CNN with a vector of 1024 numbers on 5531 utterances of IEMOCAP's lengths (random
frames: only the time is looked at), five folds, batches of 64. The time of an epoch is measured; trainings end after as many
epochs as the recipe has, none stops early, so that the hours of the protocol are an upper bound.
"""

from __future__ import annotations

import statistics
import sys
import time

import harness
import torch

from repkit.api import TaskSpec
from repkit.config.schema import TrainingTable
from repkit.runs.device import keep_float32
from repkit.stage_two.attentive_cnn import AttentiveCnn
from repkit.stage_two.multi_view import MultiView
from repkit.training.course import Training
from repkit.training.data import FoldData, RaggedTensor, Standardisation, TrainingData
from repkit.training.loop import fit
from repkit.training.stacked import fit_stacked
from repkit.workflows.train_ser.jobs import scorer

CLASSES = {"emotion": tuple("ahns"), "arousal": tuple("lmh"), "valence": tuple("lmh")}
PAPER = {"n": 5531, "frames": 450, "epochs": 100, "jobs": 250}
QUICK = {"n": 100, "frames": 60, "epochs": 2, "jobs": 6}
TARGETS = ("50 trainings at least 15 times as fast as one after another", "250 trainings in under 10 minutes")


def data(n: int, frames: int, device: torch.device) -> TrainingData:
    """Return n utterances of random frames whose lengths are spread as IEMOCAP's."""
    drawn = torch.Generator().manual_seed(0)
    lengths = (torch.randn(n, generator=drawn) * frames / 2 + frames).clamp(20, 748).long()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.randn(int(offsets[-1]), 26, generator=drawn).half()
    targets = {view: torch.randint(0, len(c), (n,), generator=drawn) for view, c in CLASSES.items()}
    whole = TrainingData(
        [str(i) for i in range(n)], RaggedTensor(values, offsets), targets, torch.randn(n, 1024, generator=drawn)
    )
    return whole.to(device)


def training(whole: TrainingData, job: int, epochs: int, precision: str) -> Training:
    """Return one training: fold job % 5, seed job // 5."""
    n, device = len(whole.ids), whole.frames.values.device
    order = torch.randperm(n, generator=torch.Generator().manual_seed(job % 5))
    statistics_ = Standardisation(torch.zeros(1, 26), torch.ones(1, 26), torch.zeros(n, dtype=torch.int64)).to(device)
    task = TaskSpec(views=CLASSES, n_bands=26, vector_dim=1024)
    torch.manual_seed(job)
    model = AttentiveCnn(AttentiveCnn.Config(), task)
    table = TrainingTable(epochs=epochs, batch_size=64, precision=precision)
    return Training(
        model, {"multi_view": (MultiView(MultiView.Config(), task), 1.0)}, FoldData(whole, standardise_frames=statistics_),
        order[: int(n * 0.8)], order[int(n * 0.8) : int(n * 0.9)], table, job, scorer(whole, CLASSES),
    )  # fmt: skip


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def alone(whole: TrainingData, epochs: int, precision: str) -> float:
    """Return the seconds of an epoch of one training, the first of the training left out."""
    ends: list[float] = []
    device = whole.frames.values.device

    def note(epoch: int) -> None:
        synchronise(device)
        ends.append(time.perf_counter())

    fit(training(whole, 0, epochs + 1, precision), note, device)
    return (ends[-1] - ends[0]) / epochs


def together(whole: TrainingData, jobs: int, at_once: int, epochs: int, precision: str) -> float:
    """Return the seconds of an epoch of all jobs, the first of the trainings left out."""
    ends: dict[object, list[float]] = {}
    device = whole.frames.values.device

    def note(name: object, epoch: int) -> None:
        synchronise(device)
        ends.setdefault(name, []).append(time.perf_counter())

    todo = ((job, training(whole, job, epochs + 1, precision)) for job in range(min(jobs, at_once)))
    fit_stacked(todo, at_once, note, lambda name, end: None, device)
    each = statistics.mean((times[-1] - times[0]) / epochs for times in ends.values())
    return each * -(-jobs // at_once)


def run(page: harness.Page, options: harness.Options) -> None:
    """Measure and fill the page."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_float32(device)
    size = QUICK if options.quick else PAPER
    whole = data(size["n"], size["frames"], device)
    rounds, epochs = min(options.rounds, 3), 1 if options.quick else 2
    rows, ratios, seconds = [], {}, {}
    precisions = ("fp32",) if device.type == "cpu" else ("fp32", "bf16")
    counts = (1, 2) if options.quick else (1, 5, 10, 50, 250)
    for precision in precisions:
        for jobs in counts:
            at_once = min(jobs, 64)
            times = harness.alternate(
                {
                    "one by one": lambda p=precision, k=jobs: k * alone(whole, epochs, p),
                    "together": lambda p=precision, k=jobs, a=at_once: together(whole, k, a, epochs, p),
                },
                rounds,
            )
            ratios[precision, jobs] = harness.ratio(times["one by one"], times["together"])
            seconds[precision, jobs] = harness.median(times["together"])
            each = [f"{harness.median(times[name]):.3g}" for name in ("one by one", "together")]
            rows.append([f"{precision}, {jobs} trainings, {at_once} at once", *each, str(ratios[precision, jobs])])
    page.text(
        f"{size['n']} utterances, batches of 64. Seconds of one epoch of all trainings; one by one is one training's epoch "
        "times their number."
    )
    page.table(["trainings", "one by one, s", "together, s", "ratio, median [p10, p90]"], rows)
    best = min(precisions, key=lambda p: seconds[p, counts[-1]])
    minutes = seconds[best, counts[-1]] * size["epochs"] / 60
    fifty = ratios[best, counts[-2]]
    page.headline(
        f"{counts[-2]} trainings together {fifty.median:.1f} times as fast; {counts[-1]} in {minutes:.1f} min ({best})"
    )
    page.target(TARGETS[0], fifty.median >= 15, f"{fifty}, {best}")
    page.target(TARGETS[1], minutes < 10, f"{minutes:.1f} min: {size['epochs']} epochs of {best}, from the time of one")


if __name__ == "__main__":
    sys.exit(
        harness.main(
            "gpu_protocol",
            "Trainings on a GPU, one by one and together",
            run,
            needs_gpu="--quick" not in sys.argv,
            targets=TARGETS,
        )
    )
