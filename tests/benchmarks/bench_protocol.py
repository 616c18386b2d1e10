"""Stage two's protocol (folds x seeds) by a plain DataLoader and loop, by transformers.Trainer, and by our engine.

Each way is a process of its own that is asked for one training at a time, so that whole trainings alternate, no way sees
another's settings of memory and denormals, and importing is not timed.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import harness
import numpy as np

EPOCHS, BATCH, FOLDS, SEEDS = 8, 32, 4, 2
WAYS = ("plain loop", "Trainer", "ours")


class Engine:
    """The corpus, folds and jobs, and one training by any of the ways."""

    def __init__(self, corpus: Path, settings: tuple[str, ...] = ()) -> None:
        from repkit.audio.open import open_corpus
        from repkit.config import SerRecipe, load_recipe
        from repkit.workflows.train_ser.data import frame_stores, load_data
        from repkit.workflows.train_ser.plan import make_plan

        self.folder = tempfile.TemporaryDirectory(prefix="repkit-bench-protocol-")
        given = [
            f"training.epochs={EPOCHS}", f"training.batch_size={BATCH}", f"seeds={list(range(SEEDS))}",
            f"protocol.n_groups={FOLDS}", "protocol.max_speakers=2", *settings,
        ]  # fmt: skip
        self.recipe = load_recipe(SerRecipe, "attentive_cnn", given)
        self.plan = make_plan(self.recipe, {"emodb": open_corpus("emodb", str(corpus))})
        self.data = load_data(self.plan, frame_stores(self.plan, "stop", lambda *what: None))[0]
        self.jobs = self.plan.jobs

    def context(self) -> Any:
        """Return a context with a fresh run directory."""
        from repkit.workflows.train_ser.run import make_context

        run = Path(tempfile.mkdtemp(dir=self.folder.name))
        return make_context(run, self.plan, self.data, {}, {})

    def ours(self, number: int) -> dict[str, Any]:
        """Do one job by our engine."""
        from repkit.runs.executors import run_jobs
        from repkit.workflows.train_ser.jobs import run_job

        context = self.context()
        run_jobs(run_job, context, [self.jobs[number]], 1, lambda event: None)
        return read_results(context.run)[0]

    def ours_at_once(self, n_workers: int) -> dict[str, Any]:
        """Do all jobs in several processes; seconds from the first training's start to the last one's end, and in all."""
        from repkit.runs.executors import run_jobs
        from repkit.workflows.train_ser.jobs import run_job

        context, times = self.context(), []
        self.data.share_memory()
        begun = time.perf_counter()

        def note(event: Any) -> None:
            if event.kind in ("started", "done"):
                times.append(time.perf_counter())

        run_jobs(run_job, context, self.jobs, n_workers, note)
        return {"seconds": times[-1] - times[0], "in_all": time.perf_counter() - begun}

    def other(self, number: int, way: str) -> dict[str, Any]:
        """Do one job the plain way or by Trainer."""
        import protocol_peers
        import torch

        from repkit.runs.seeding import derive_seed
        from repkit.workflows.train_ser.models import build_model, task_of

        context, job = self.context(), self.jobs[number]
        index = {name: i for i, name in enumerate(self.data.ids)}
        fold, table = context.folds[job.fold], self.recipe.training
        lengths = self.data.frames.lengths.tolist()
        task = protocol_peers.Task(
            frames=[f.float() for f in self.data.frames.values.split(lengths)],
            target=self.data.targets["emotion"],
            **{part: torch.tensor([index[i] for i in getattr(fold, part)]) for part in ("train", "dev", "test")},
            n_classes=len(context.views["emotion"]),
            state=build_model(context, job, task_of(context, job.condition)).state_dict(),
            seed=derive_seed(job.seed, job.fold),
            epochs=table.epochs, batch_size=table.batch_size, learning_rate=table.learning_rate,
            dropout=self.recipe.model.settings["dropout"],
        )  # fmt: skip
        if way == "Trainer":
            found = protocol_peers.by_trainer(task, str(context.run))
        else:
            found = protocol_peers.plain(task)
        return {"uar": found.uar, "losses": found.losses}


def read_results(run: Path) -> list[dict[str, Any]]:
    """Return UAR on test of the selected epoch and the losses of every epoch, of every job of a run directory."""
    import pandas as pd
    from sklearn.metrics import recall_score

    found = []
    for path in sorted(run.rglob("predictions.parquet")):
        table = pd.read_parquet(path)
        table = table[(table.part == "test") & (table.checkpoint == "selected") & (table.view == "emotion")]
        losses = [json.loads(line)["train_loss"] for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        found.append({"uar": float(recall_score(table.label, table.prediction, average="macro")), "losses": losses})
    return found


def serve(way: str, corpus: Path, settings: tuple[str, ...]) -> None:
    """Do the trainings asked for by number on standard input, and answer each with a line of JSON."""
    answers = sys.stdout
    warnings.simplefilter("ignore")
    engine = Engine(corpus, settings)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()):
            begun = time.process_time()
            if line.startswith("all"):
                found = engine.ours_at_once(int(line.split()[1]))
            elif way == "ours":
                found = engine.ours(int(line))
            else:
                found = engine.other(int(line), way)
            found["cpu"] = time.process_time() - begun
        answers.write(json.dumps(found) + "\n")
        answers.flush()


class Way:
    """A process that trains in one way.

    Attributes:
        found: what each training gave, in order.
    """

    def __init__(self, way: str, corpus: Path, settings: tuple[str, ...] = ()) -> None:
        command = [sys.executable, __file__, "--serve", way, str(corpus), *settings]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.found: list[dict[str, Any]] = []
        self._read()

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a way of training ended early:\n{self.process.stderr.read()[-4000:]}")
        return line

    def ask(self, what: str) -> dict[str, Any]:
        """Ask for a training or for all of them; return the answer."""
        self.send(what)
        return self.answer()

    def send(self, what: str) -> None:
        """Ask without waiting."""
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer."""
        return json.loads(self._read())

    def next(self) -> None:
        """Do the next training."""
        self.found.append(self.ask(str(len(self.found))))

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate()


def side_by_side(ways: list[Way], numbers: list[int]) -> float:
    """Let two processes do a training each at the same time; return the seconds per training."""
    begun = time.perf_counter()
    for way, number in zip(ways, numbers, strict=True):
        way.send(str(number))
    for way in ways:
        way.answer()
    return (time.perf_counter() - begun) / len(ways)


def same_numbers(corpus: Path) -> float:
    """Return the largest relative difference of an epoch's loss between plain and ours without dropout, in float32."""
    settings = ("model.dropout=0.0", "training.epochs=3", "training.precision=fp32")
    losses = []
    for way in ("plain loop", "ours"):
        one = Way(way, corpus, settings)
        losses.append(np.array(one.ask("0")["losses"]))
        one.end()
    return float(np.abs(losses[0] / losses[1] - 1).max())


def run(page: harness.Page, options: harness.Options) -> None:
    """Alternate whole trainings, then run them all at once in two processes."""
    corpus = options.corpus("emodb")
    settings = ("training.epochs=1",) if options.quick else ()
    n = 2 if options.quick else FOLDS * SEEDS
    difference = same_numbers(corpus)  # the first to ask fills the cache of frames
    ways = {name: Way(name, corpus, settings) for name in WAYS}
    for way in ways.values():
        way.ask("0")  # warm up
    seconds = harness.interleave({name: way.next for name, way in ways.items()}, n, warm_up=0)
    found = {name: way.found for name, way in ways.items()}
    ways.pop("Trainer").end()
    ways["another plain loop"] = Way("plain loop", corpus, settings)  # a second one, so that both ways fill the machine
    ways["another plain loop"].ask("0")
    pair = [ways["plain loop"], ways["another plain loop"]]
    plain = [side_by_side(pair, [0, 1])]
    at_once = ways["ours"].ask("all 2")
    plain += [side_by_side(pair, [2, 3]), side_by_side(pair, [4, 5])]
    for way in ways.values():
        way.end()
    report(page, found, seconds, at_once, plain, difference)


def half_width(gaps: np.ndarray) -> float:
    """Return half the 95 % interval of the mean of paired differences, by Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))


def report(
    page: harness.Page,
    found: dict[str, list[dict[str, Any]]],
    seconds: dict[str, list[float]],
    at_once: dict[str, float],
    plain_at_once: list[float],
    difference: float,
) -> None:
    """Fill the page."""
    n_jobs = FOLDS * SEEDS
    pairs = {name: np.array([b["uar"] - a["uar"] for a, b in zip(some, found["ours"])]) for name, some in found.items()}
    cpu = {name: [one["cpu"] for one in some] for name, some in found.items()}
    halves = {name: half_width(gaps) for name, gaps in pairs.items()}
    page.text(
        f"Attentive CNN on EmoDB (7 emotions, {FOLDS} folds of speaker groups x {SEEDS} seeds, {EPOCHS} epochs, batches of "
        f"{BATCH}, Adam; selection on dev after every epoch, prediction of test). A round is one whole training by every way, "
        "of the same fold with the same initial weights, batches, learning rate and selection; only the dropout masks "
        f"differ. Without dropout the losses of the epochs agree to {difference:.0e} of their value (plain loop and ours, "
        "float32). The plain module computes the padding and masks it, ours leaves it out. Ours also writes its run "
        "directory (weights, predictions, metrics); the others write nothing."
    )
    rows = []
    for name, taken in seconds.items():
        scores = [one["uar"] for one in found[name]]
        against = by_clock = gap = ""
        if name != "ours":
            against = str(harness.ratio(cpu[name], cpu["ours"]))
            by_clock = str(harness.ratio(taken, seconds["ours"]))
            gap = f"{pairs[name].mean():+.3f} ± {halves[name]:.3f}"
        own = [f"{harness.median(taken):.2f}", f"{harness.median(cpu[name]):.2f}"]
        rows.append([name, *own, against, by_clock, f"{np.mean(scores):.3f}", gap])
    head = [
        "way",
        "s per training",
        "CPU s per training",
        "theirs / ours, CPU s",
        "theirs / ours, s",
        "mean UAR",
        "ours - theirs, 95 % interval",
    ]
    page.table(head, rows)
    each, plain = at_once["seconds"] / n_jobs, harness.median(plain_at_once)
    page.text(
        f"With both cores filled: all {n_jobs} trainings by our executor in two processes take {each:.2f} s per training, two "
        f"processes of the plain loop side by side {plain:.2f} s per training (three pairs, before and after ours), "
        f"{plain / each:.2f} times as long. Starting our processes took a further "
        f"{at_once['in_all'] - at_once['seconds']:.1f} s, once per run."
    )
    per = harness.ratio(cpu["plain loop"], cpu["ours"])
    gap, half = pairs["plain loop"].mean(), halves["plain loop"]
    equal = abs(gap) <= half
    page.target("at least 2 times the plain loop per core", per.median >= 2.0, f"{per} in CPU seconds")
    page.target(
        "equal UAR: losses without dropout agree to 1e-3, and the paired difference's 95 % interval holds zero",
        bool(difference < 1e-3 and equal),
        f"{difference:.0e}; {gap:+.3f} ± {half:.3f}",
    )
    page.headline(
        f"CPU seconds of one training: plain loop {per}, Trainer {harness.ratio(cpu['Trainer'], cpu['ours'])} times as "
        f"long as ours on one core; UAR {gap:+.3f} ± {half:.3f} ours against the plain loop"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]), tuple(sys.argv[4:]))
    else:
        harness.main("protocol", "Stage two's protocol", run)
