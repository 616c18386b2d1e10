"""The finished jobs of a run that can be applied to new speech, and their models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repkit.api import TaskSpec
from repkit.errors import DataError, UsageError, did_you_mean
from repkit.plugins import blame, build_config, load
from repkit.plugins.blaming import blaming
from repkit.plugins.discover import name_of_origin
from repkit.runs.directory import canonical_hash, read_json
from repkit.runs.find import find_run
from repkit.workflows.train_ser.saved import MODEL, SCHEMA, STATISTICS, load_tensors, origin

OWN = ("seed", "fold", "task", "trained_on", "component", "trained_with")
"""What may differ between the descriptions of the jobs of one condition."""


@dataclass(frozen=True, slots=True)
class SavedJob:
    """One finished job.

    Attributes:
        folder: of the job.
        seed: of its training.
        fold: whose train part it has heard.
        description: its ``model.json``.
    """

    folder: Path
    seed: int
    fold: str
    description: dict[str, Any]

    @property
    def statistics(self) -> Path:
        """The file of what was fitted on its train part."""
        return self.folder / STATISTICS

    @property
    def component(self) -> str:
        """The name to load its model by: that of what it was trained with, whoever else claims it by now.

        Raises:
            PluginError: no installed distribution brings it.
        """
        table = self.description["model"]
        return name_of_origin("repkit.models", table["name"], table["component"])

    def heard(self, corpus: str) -> bool:
        """Return whether its training has heard a corpus, so that the parts of this corpus are trained."""
        weights = self.description["weights"]["selected"]
        return corpus in weights if "*" not in weights else corpus in self.description["trained_on"]

    def model(self, corpus: str | None) -> torch.nn.Module:
        """Build the model and load its selected weights; draws no random number of the caller's.

        Args:
            corpus: whose own weights to take, where each corpus has some.

        Raises:
            PluginError: the component is not installed or broken.
            RecipeError: it does not know a setting any more.
            DataError: weights missing, damaged or of another model.
        """
        table, files = self.description["model"], self.description["weights"]["selected"]
        path = self.folder / (files["*"] if "*" in files else files[str(corpus)])
        weights = load_tensors(path)
        name = self.component
        model_class = load("repkit.models", name)
        config = build_config(model_class, table["settings"], f"{self.folder / MODEL}: model")
        with torch.random.fork_rng(devices=[]), blaming("repkit.models", name):
            model: torch.nn.Module = model_class(config, self.task())
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(
                f"{path}: weights that do not fit the model ({str(error).splitlines()[-1].strip()}); those of "
                f"{table['component']} were expected, {blame('repkit.models', name)} is installed; install that "
                "version, or train again"
            ) from error
        return model.eval()

    def task(self) -> TaskSpec:
        """Return what its model was built for."""
        found = self.description["task"]
        views = {**self.description["views"], **self.description["auxiliary"]}
        return TaskSpec(
            views={view: tuple(classes) for view, classes in views.items()},
            n_bands=found["n_bands"],
            vector_dim=found["vector_dim"],
            state_dim=found["state_dim"],
            domains=found["domains"],
            corpora={name: {v: tuple(c) for v, c in own.items()} for name, own in found["corpora"].items()},
            n_frames=found["n_frames"],
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The jobs that are going to predict.

    Attributes:
        condition: theirs.
        jobs: in the order of seeds and folds.
        notes: what a user must know of the choice, a sentence each.
    """

    condition: str
    jobs: tuple[SavedJob, ...]
    notes: tuple[str, ...]


def choose_jobs(run: Path, condition: str | None, seeds: Sequence[int], folds: Sequence[str]) -> Chosen:
    """Return the finished jobs of a condition.

    Args:
        run: a run directory of train-ser, finished or not.
        condition: by name; None for the run's reference.
        seeds: of the trainings to take; empty for all.
        folds: of the trainings to take; empty for all.

    Raises:
        DataError: no run directory, no finished job, or jobs of a version that did not keep what is needed.
        UsageError: a condition, seed or fold that the run does not have.
    """
    run = find_run(Path(run))
    resolved, protocol = read_json(run / "resolved.json"), read_json(run / "protocol.json")
    conditions = list(read_json(run / "data.json")["conditions"])
    notes: list[str] = []
    if condition is None:
        condition = resolved["reference"] if resolved["reference"] in conditions else conditions[0]
        if len(conditions) > 1:
            others = ", ".join(name for name in conditions if name != condition)
            notes.append(f"condition {condition} is used, the run's reference; name another with --condition: {others}")
    _check_known("condition", [condition], conditions)
    known_seeds, known_folds = resolved["seeds"], [fold["name"] for fold in protocol["folds"]]
    _check_known("seed", seeds, known_seeds)
    _check_known("fold", folds, known_folds)
    wanted = [(s, f) for s in known_seeds if not seeds or s in seeds for f in known_folds if not folds or f in folds]
    places = {(s, f): run / "jobs" / condition / f"seed_{s}" / f for s, f in wanted}
    there = {pair: folder for pair, folder in places.items() if (folder / "done.json").is_file()}
    if not there:
        raise DataError(
            f"{run}: none of the {len(wanted)} trainings of condition {condition!r} that are asked for is finished; at least "
            "one was expected; start the same repkit train-ser command again, it goes on where it was"
        )
    if len(there) < len(wanted):
        notes.append(
            f"{len(there)} of {len(wanted)} models of condition {condition} are used, the others are not trained yet; start "
            "the same repkit train-ser command again to complete the run"
        )
    return Chosen(condition, _read(run, there), tuple(notes))


def _read(run: Path, there: dict[tuple[int, str], Path]) -> tuple[SavedJob, ...]:
    old = [folder for folder in there.values() if not (folder / MODEL).is_file()]
    if old:
        raise DataError(
            f"{old[0]}: no {MODEL} (in {len(old)} of {len(there)} jobs); the run was made by an earlier repkit, which kept the "
            "weights but neither the settings of the model nor what frames and vectors are standardised by; "
            + _again(run)
        )
    jobs = []
    for (seed, fold), folder in there.items():
        description = read_json(folder / MODEL)
        found = description.get("schema") if isinstance(description, dict) else None
        if found != SCHEMA:
            raise DataError(
                f"{folder / MODEL}: schema {found!r}; {SCHEMA} was expected; it was written by another version of repkit: use "
                "that one, or train again"
            )
        jobs.append(SavedJob(folder, seed, fold, description))
    kinds = {canonical_hash(_shared(job.description)): job for job in jobs}
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise DataError(
            f"{second.folder / MODEL}: another model, frontend or embedding than {first.folder / MODEL}; one for all jobs of a "
            "condition was expected; the run was continued with other versions: choose with --seed and --fold, or train again"
        )
    return tuple(jobs)


def _shared(value: Any) -> Any:
    """Return the part of a description that all jobs of a condition must have in common."""
    if isinstance(value, dict):
        return {key: _shared(inner) for key, inner in value.items() if key not in OWN and key != "weights"}
    return value


def _again(run: Path) -> str:
    path = run / "command.txt"
    command = path.read_text(encoding="utf-8").strip() if path.is_file() else "repkit train-ser ..."
    return (
        f"train it again with this version (train-ser takes --again, which does so beside the finished run): {command}"
    )


def _check_known(what: str, given: Sequence[Any], known: Sequence[Any]) -> None:
    for one in given:
        if one not in known:
            names = [str(name) for name in known]
            raise UsageError(
                f"--{what} {one}: the run has no such {what}; one of {', '.join(names)} was expected"
                f"{did_you_mean(str(one), names)}; choose one or leave it out for "
                + ("the reference" if what == "condition" else "all")
            )


def version_notes(job: SavedJob) -> list[str]:
    """Return a sentence for each component that another version was trained with."""
    notes = []
    for group, key in (("repkit.models", "model"), ("repkit.frontends", "frontend")):
        table = job.description[key]
        now = origin(group, name_of_origin(group, table["name"], table["component"]))
        if now is not None and now != table["component"]:
            notes.append(f"{key} {table['name']}: trained with {table['component']}, {now} is installed")
    return notes


__all__ = ["Chosen", "SavedJob", "choose_jobs", "version_notes"]
