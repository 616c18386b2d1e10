"""``repkit train-ser``: plan, frames, jobs, scores, report."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from repkit.api import Corpus
from repkit.config.schema import SerRecipe
from repkit.errors import DataError, RepkitWarning, UsageError
from repkit.evaluation.versions import continued_notes
from repkit.report.render import render
from repkit.runs.atomic import atomic_write
from repkit.runs.directory import RunDirectory, check_writable, locked, read_json, room_on_disk, sweep
from repkit.runs.environment import command_line, environment
from repkit.runs.executors import Event, Executor, default_workers, open_executor
from repkit.training.data import RaggedTensor, TrainingData
from repkit.training.estimators import Choice
from repkit.workflows.train_ser.batch_notes import batch_notes
from repkit.workflows.train_ser.batched import AT_ONCE, run_batched
from repkit.workflows.train_ser.context import SerContext
from repkit.workflows.train_ser.cut import cut_notes
from repkit.workflows.train_ser.data import (
    attributes,
    build_frontend,
    corpus_classes,
    crop_frames,
    frame_stores,
    load_data,
    load_embeddings,
    remove_left_out,
    share,
)
from repkit.workflows.train_ser.jobs import choose_settings, run_job
from repkit.workflows.train_ser.joined import block_weights
from repkit.workflows.train_ser.plan import SerJob, SerPlan, audit_plan, make_plan
from repkit.workflows.train_ser.saved import trained_with
from repkit.workflows.train_ser.where import Where


def train_ser(
    recipe: SerRecipe,
    corpora: dict[str, Corpus],
    *,
    recipe_text: str = "",
    root: Path = Path("runs"),
    workers: int | None = None,
    executor: str = "auto",
    device: str = "auto",
    at_once: int = AT_ONCE,
    scheduler: str | None = None,
    on_bad_audio: str = "stop",
    again: bool = True,
    on_frames: Callable[[str, int, float], None] = lambda corpus, n, hours: None,
    on_start: Callable[[SerPlan, RunDirectory, bool, int], None] = lambda plan, run, resumed, n_done: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Path:
    """Train and score every condition, seed and fold of a recipe.

    A run of the same signature that was interrupted is continued; finished jobs are never run again.

    Args:
        recipe: resolved recipe.
        corpora: by name.
        recipe_text: the recipe as given, kept in the run directory.
        root: folder of all runs.
        workers: processes, by default one per core, or one on a GPU; of frames alone where the executor is ``batched``.
        executor: see `Where`, as `device` and `scheduler`.
        device: of the trainings.
        at_once: most trainings in one program (``batched``).
        scheduler: of ``dask``.
        on_bad_audio: ``stop`` (list all bad files, train nothing) or ``skip`` (leave them out and say so).
        again: train anew where a run of the same signature is finished; else that one is returned, its page written anew
            where the reference has changed, and nothing is told to `on_start` and `on_event`.
        on_frames: told the progress of feature extraction.
        on_start: told the plan, the run directory, whether it is resumed and how many jobs are done.
        on_event: told what happens to the jobs.

    Returns:
        The run directory.

    Raises:
        DataError: bad audio, or a full disk; finished jobs are kept.
        RepkitError: see `make_plan`, `run_jobs`.
    """
    plan = make_plan(recipe, corpora, skip_bad_audio=on_bad_audio == "skip")
    if not again and (done := RunDirectory.finished(root, recipe.name, plan.signature)):
        return _asked_again(done, recipe, recipe_text)
    check_writable(Path(root) / recipe.name, "--runs")
    place = Place.choose(Where(executor, device, at_once, scheduler), workers, plan)
    if place.executor == "batched" and (workers or 1) > 1:
        warnings.warn(
            f"--workers {workers}: the trainings share one process (executor batched on {place.device}), so that it counts for "
            "making frames alone; one was expected; leave it out, or use --executor processes",
            RepkitWarning,
            stacklevel=2,
        )
    elsewhere = place.execute if place.executor == "dask" else None
    stores = frame_stores(plan, on_bad_audio, on_frames, workers, elsewhere)
    left_out = {**plan.left_out, **remove_left_out(plan, stores)}
    if left_out:
        plan = make_plan(recipe, {name: _Without(corpus, frozenset(left_out)) for name, corpus in corpora.items()})
        if not again and (done := RunDirectory.finished(root, recipe.name, plan.signature)):
            return _asked_again(done, recipe, recipe_text)
    data, notes, hashes = load_data(plan, stores)
    flags = audit_plan(recipe, plan.folds, plan.utterances, plan.labels, plan.conditions, hashes)
    plan.protocol["audit"] = [*flags, *notes]
    vectors, states, vector_notes = load_embeddings(plan, data.frames.lengths)
    plan.protocol["audit"] += [
        *vector_notes,
        *(n for notes in (cut_notes, batch_notes) for n in notes(plan, data.frames.lengths)),
    ]
    with ExitStack() as held:
        held.enter_context(room_on_disk(root))
        run, resumed = RunDirectory.open(root, recipe.name, plan.signature)
        held.enter_context(locked(run.path))
        sweep(run.path)
        now = {component: of for c in plan.conditions for component, of in trained_with(c.recipe).items()}
        plan.protocol["audit"] += continued_notes(run.path, now)
        _describe(run, plan, recipe_text, data, vectors, left_out)
        todo = [job for job in plan.jobs if not run.job_path(job.condition, job.seed, job.fold).exists()]
        n_done = len(plan.jobs) - len(todo)
        on_start(plan, run, resumed, n_done)
        if place.shares_memory(len(todo)):
            share(data, vectors, states)
        context = make_context(run.path, plan, data, vectors, states)
        context.device = place.device
        context.chosen = _chosen_on_test(run, context)
        started = time.monotonic() - _seconds_before(run)

        def tell(state: str, **facts: object) -> None:
            seconds = round(time.monotonic() - started, 1)
            run.set_status(state, jobs=len(plan.jobs), done=n_done, seconds=seconds, **facts)

        def watch(event: Event) -> None:
            nonlocal n_done
            if event.kind in ("done", "failed"):
                job: Any = event.job
                value = event.value if event.kind == "done" else str(event.value)
                run.log(event.kind, condition=job.condition, seed=job.seed, fold=job.fold, value=value)
            if event.kind == "done":
                n_done += 1
                tell("running")
            on_event(event)

        tell("running")
        run.log("started" if not resumed else "resumed", todo=len(todo), executor=place.executor, device=place.device)
        try:
            place.run(context, todo, watch)
            run.log("finished")
            render(run.path)
        except BaseException as error:
            with suppress(OSError, DataError):  # a full disk must not hide the first error
                state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                tell(state, error=f"{type(error).__name__}: {error}")
            raise
        run.write("status.json", {**read_json(run.path / "status.json"), "state": "done"})
    return run.path


def _asked_again(run: RunDirectory, recipe: SerRecipe, recipe_text: str) -> Path:
    """Return the path of a finished run for which another command asks, which is noted in its log.

    Its page is written anew where the recipe now has another reference.

    Raises:
        UsageError: the page must be written anew and the folder may only be read, or another process is at work in it.
    """
    with suppress(OSError):  # a folder that may only be read is as good
        run.log("asked again", command=command_line())
    before = read_json(run.path / "resolved.json")
    if before.get("reference") == recipe.reference:
        return run.path
    try:
        with locked(run.path):
            run.write("resolved.json", {**before, "reference": recipe.reference})
            _write_asked(run, recipe_text)
            render(run.path)
    except PermissionError as error:
        raise UsageError(
            f"{run.path}: {error.strerror}; a folder that can be written was expected, because the reference was "
            f"{before.get('reference')} and is {recipe.reference} now; copy the run, or give the same reference"
        ) from error
    return run.path


def _write_asked(run: RunDirectory, recipe_text: str) -> None:
    """Write recipe and command as they were given."""
    (run.path / "recipe.toml").write_text(recipe_text, encoding="utf-8")
    (run.path / "command.txt").write_text(command_line() + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how the jobs of a run are done.

    Attributes:
        executor: ``processes``, ``batched`` or ``dask``.
        device: see `Where.settled`.
        n_workers: processes; one of ``batched``.
        at_once: most trainings in one program (``batched``).
        execute: None for ``batched``.
    """

    executor: str
    device: str
    n_workers: int
    at_once: int
    execute: Executor | None

    @classmethod
    def choose(cls, where: Where, workers: int | None, plan: SerPlan) -> Place:
        """Settle what is left open.

        Raises:
            UsageError: an unknown name, or a device that is not there.
        """
        where = where.settled([condition.recipe for condition in plan.conditions])
        if where.executor == "batched":
            return cls(where.executor, where.device, 1, where.at_once, None)
        n_workers = workers or (default_workers(len(plan.jobs)) if where.device == "cpu" else 1)
        # opened before the frames are made, so that a scheduler that is not there is told at once
        execute = open_executor(where.executor, n_workers, where.scheduler)
        return cls(where.executor, where.device, n_workers, where.at_once, execute)

    def told(self) -> str:
        """Return in a few words what does the jobs."""
        if self.executor == "batched":
            return f"one process on {self.device}, up to {self.at_once} trainings in one program"
        if self.executor == "dask":
            return f"the workers of dask, device {self.device}"
        return f"{self.n_workers} processes" + ("" if self.device == "cpu" else f" on {self.device}")

    def shares_memory(self, n_jobs: int) -> bool:
        """Whether several processes of this machine read the data."""
        return self.executor == "processes" and min(self.n_workers, n_jobs) > 1

    def run(self, context: SerContext, jobs: Sequence[SerJob], on_event: Callable[[Event], None]) -> None:
        """Run the jobs."""
        if self.execute is None:
            run_batched(context, jobs, on_event, self.at_once)
        else:
            self.execute(run_job, context, jobs, on_event)


def _chosen_on_test(run: RunDirectory, context: SerContext) -> dict[str, Choice]:
    """Return the settings of the conditions that choose them by the test folds; kept in the run for when it is continued."""
    path = run.path / "chosen_on_test.json"
    if path.exists():
        return dict(read_json(path))
    wanted = [name for name, recipe in context.recipes.items() if recipe.training.select_by == "test"]
    chosen = {name: choose_settings(context, name, context.recipes[name].seeds[0]) for name in wanted}
    if chosen:
        run.write("chosen_on_test.json", chosen)
    return chosen


def make_context(
    run: Path,
    plan: SerPlan,
    data: TrainingData,
    vectors: Mapping[str, torch.Tensor],
    states: Mapping[str, RaggedTensor],
) -> SerContext:
    """Return what all jobs of a plan share."""
    labels = plan.recipe.labels
    return SerContext(
        run=run,
        recipes={c.name: c.recipe for c in plan.conditions},
        data=data,
        vectors=vectors,
        states=states,
        fusion={c.name: c.fusion for c in plan.conditions},
        folds={fold.name: fold for fold in plan.folds},
        views={view: plan.labels.classes[view] for view in labels.views},
        auxiliary={view: plan.labels.classes[view] for view in labels.auxiliary},
        corpora=corpus_classes(plan),
        attributes=attributes(plan),
        crops=crop_frames(plan),
        weights={c.name: block_weights(c.blocks) for c in plan.conditions if len(c.blocks) > 1},
    )


def _seconds_before(run: RunDirectory) -> float:
    """Return the time that earlier starts of a run took, as far as it was written down."""
    status = run.path / "status.json"
    return float(read_json(status).get("seconds", 0.0)) if status.exists() else 0.0


class _Without:
    """A corpus without the utterances whose audio cannot be used."""

    def __init__(self, corpus: Corpus, left_out: frozenset[str]) -> None:
        self._corpus, self._left_out = corpus, left_out
        self.name = corpus.name

    def utterances(self) -> list[Any]:
        return [u for u in self._corpus.utterances() if u.id not in self._left_out]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._corpus, name)


def _describe(
    run: RunDirectory,
    plan: SerPlan,
    recipe_text: str,
    data: TrainingData,
    vectors: Mapping[str, torch.Tensor],
    left_out: Mapping[str, str],
) -> None:
    """Write all that a reader of the run needs besides the jobs."""
    recipe = plan.recipe
    _write_asked(run, recipe_text)
    run.write("resolved.json", recipe.model_dump(mode="json", by_alias=True))
    run.write("environment.json", environment())
    run.write(
        "data.json",
        {
            "frontend": dict(build_frontend(plan).convention()),
            "conditions": {c.name: c.describe() for c in plan.conditions},
            "dropped": plan.dropped,
            "left_out": dict(left_out),
        },
    )
    run.write("protocol.json", plan.protocol)
    _write_utterances(run.path / "utterances.parquet", plan, data)
    folder = run.path / "vectors"
    folder.mkdir(exist_ok=True)
    for name, values in vectors.items():
        with atomic_write(folder / f"{name}.safetensors") as temporary:
            save_file({"values": values.clamp(-65504, 65504).half().contiguous()}, temporary)
        run.write(f"vectors/{name}.json", list(data.ids))


def _write_utterances(path: Path, plan: SerPlan, data: TrainingData) -> None:
    shift = build_frontend(plan).frame_shift_s
    lengths = data.frames.lengths.tolist()
    rows = []
    for utterance, length in zip(plan.utterances, lengths, strict=True):
        row = {
            key: getattr(utterance, key)
            for key in ("id", "corpus", "speaker", "session", "gender", "language", "emotion", "arousal", "valence")
        }
        row["duration_s"] = length * shift
        row |= {f"target_{view}": plan.labels.targets(utterance)[view] for view in plan.recipe.labels.views}
        rows.append(row)
    with atomic_write(path) as temporary:
        pd.DataFrame(rows).to_parquet(temporary)
