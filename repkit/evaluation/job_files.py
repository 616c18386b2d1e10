"""What scores and the report read from the folders of finished jobs besides the predictions: parts, hidden layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repkit.config.schema import merge_tables
from repkit.errors import DataError
from repkit.evaluation.audit import joined_parts
from repkit.evaluation.run_files import RunFiles, read_json_file


@dataclass(frozen=True, slots=True)
class FoldCorpora:
    """The corpora in the parts of one fold, each sorted.

    Attributes:
        train: trained on.
        dev: the epoch is selected on.
        test: tested.
    """

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]

    def holds_out(self, corpus: str) -> bool:
        """Tell whether no utterance of a corpus is in train or dev."""
        return corpus not in self.train and corpus not in self.dev


def finished_job(files: RunFiles, condition: str, seed: int, fold: str) -> Path | None:
    """Return a job's folder, None when it is not finished."""
    job = files.path / "jobs" / condition / f"seed_{seed}" / fold
    return job if (job / "done.json").exists() else None


def finished_jobs(files: RunFiles, condition: str) -> Iterator[tuple[int, str, Path]]:
    """Yield seed, fold and folder of every finished job of a condition, in the order of the plan."""
    for seed in files.seeds:
        for fold in files.folds:
            job = finished_job(files, condition, seed, fold)
            if job is not None:
                yield seed, fold, job


def read_split(job: Path) -> dict[str, list[str]]:
    """Return the ids of train, dev, test and unlabelled of a job; missing parts are empty.

    Raises:
        DataError: split.json is unreadable.
    """
    split = read_json_file(job / "split.json")
    return {part: list(split.get(part) or ()) for part in ("train", "dev", "test", "unlabelled")}


def fit_record(job: Path) -> dict[str, Any] | None:
    """Return what a finished job's only fit has left in metrics.jsonl; None where the job was trained epoch by epoch.

    Raises:
        DataError: the file is damaged.
    """
    path = job / "metrics.jsonl"
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else "{}"
    try:
        record = json.loads(first or "{}")
        return record if record.get("phase") == "fit" else None
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: damaged ({error}); expected one JSON object a line; delete the folder of this job and start again"
        ) from error


def fold_corpora(files: RunFiles) -> dict[str, FoldCorpora]:
    """Return the corpora of every fold of which a job has left its split.json; all jobs of a fold share their parts."""
    corpus_of = files.known("corpus")
    found: dict[str, FoldCorpora] = {}
    for condition in files.conditions:
        for _, fold, job in finished_jobs(files, condition):
            if fold in found or not (job / "split.json").exists():
                continue
            split = read_split(job)
            names = {
                part: tuple(sorted({corpus_of.get(i, i.split("/", 1)[0]) for i in split[part]}))
                for part in ("train", "dev", "test")
            }
            found[fold] = FoldCorpora(**names)
    return found


def condition_recipe(files: RunFiles, condition: str) -> dict[str, Any]:
    """Return the run's recipe with a condition's own settings laid over it, as JSON values."""
    return merge_tables(files.recipe, files.infos[condition].settings)


def condition_sources(files: RunFiles, condition: str) -> list[Mapping[str, Any]]:
    """Return what made the condition's embeddings by data.json, one per corpus, and where several are joined one per part."""
    stores = _described(files, condition).get("stores", {}).values()
    return [part for store in stores for part in joined_parts(store.get("source", {}))]


def uses_of_test_audio(files: RunFiles, condition: str) -> list[str]:
    """Return how a condition uses unlabelled audio of the test speakers before it predicts; empty for an inductive one.

    In normalisation, in the statistics of its vectors, in training (by the jobs' unlabelled part; by ``target_audio`` where no
    job is finished), and in the training of its encoder.
    """
    recipe, info, uses = condition_recipe(files, condition), files.infos[condition], []
    mode = (recipe.get("normalisation") or {}).get("mode")
    if mode in ("per_speaker", "per_corpus"):
        uses.append(f"frames normalised {mode.replace('_', ' ')}")
    vector = recipe.get("vector") or {}
    late = info.has_vector and _described(files, condition).get("fusion", "late") == "late"
    if late and vector.get("standardise", True) and vector.get("by", "train") != "train":
        uses.append(f"vector standardised {vector['by'].replace('_', ' ')}")
    speaker_of = files.known("speaker")
    jobs = {fold: job for _, fold, job in finished_jobs(files, condition) if (job / "split.json").exists()}
    splits = [read_split(job) for job in jobs.values()]
    heard = [_hears_test(split, speaker_of) for split in splits] or [recipe.get("target_audio", "none") == "test"]
    if any(heard):
        uses.append("their audio without labels in training")
    tested = {speaker_of.get(i) for split in splits for i in split["test"]} if splits else set(speaker_of.values())
    known = {str(s) for source in condition_sources(files, condition) for s in source.get("speakers") or ()}
    if tested & known:
        uses.append(f"{len(tested & known)} of {len(tested)} heard by the encoder")
    return uses


def transductive_conditions(files: RunFiles) -> set[str]:
    """Return the conditions that use unlabelled audio of the test speakers; see `uses_of_test_audio`."""
    return {condition for condition in files.conditions if uses_of_test_audio(files, condition)}


def _described(files: RunFiles, condition: str) -> Mapping[str, Any]:
    """Return what data.json says of a condition; empty where it does not or is not there."""
    path = files.path / "data.json"
    found = read_json_file(path).get("conditions", {}).get(condition, {}) if path.exists() else {}
    return dict(found)


def _hears_test(split: Mapping[str, list[str]], speaker_of: Mapping[str, str]) -> bool:
    heard = {speaker_of.get(i, i) for i in split["unlabelled"]}
    return bool(heard) and not heard.isdisjoint({speaker_of.get(i, i) for i in split["test"]})


def load_values(path: Path, n_ids: int, key: str = "values") -> np.ndarray:
    """Return float32 rows (n, D) of a safetensors file.

    Raises:
        DataError: unreadable, no such key, or other than one row per id.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        values = load_file(path)[key].astype(np.float32)
    except (OSError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{path}: {error}; expected a safetensors file with {key!r}; delete the job's folder and run again"
        ) from error
    if values.ndim != 2 or len(values) != n_ids:
        raise DataError(
            f"{path}: {key} {values.shape} for {n_ids} ids; expected one row each; delete the folder and run again"
        )
    return values


def hidden_ids(files: RunFiles, job: Path) -> list[str] | None:
    """Return the ids of what `read_hidden` returns, None where the job has no hidden layer; reads no vector."""
    if not (job / "hidden.safetensors").exists() or not (job / "split.json").exists():
        return None
    test, dev, keep = _hidden_parts(files, job)
    return test + [i for i, kept in zip(dev, keep) if kept]


def read_hidden(files: RunFiles, job: Path) -> tuple[np.ndarray, list[str]]:
    """Return the last hidden layer (n, H) of a job and its n ids: test, then dev where the job has kept it.

    Dev utterances of speakers that were trained on (``dev = "utterances"``) are left out, so that all speech is of
    speakers the weights have not been fitted to.

    Raises:
        DataError: the vectors and the ids of split.json do not fit.
    """
    test, dev, keep = _hidden_parts(files, job)
    path = job / "hidden.safetensors"
    values = load_values(path, len(test))
    if dev:
        extra = load_values(path, len(dev), "dev_values")[keep]
        values = np.concatenate([values, extra])
    return values, test + [i for i, kept in zip(dev, keep) if kept]


def _hidden_parts(files: RunFiles, job: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Return the ids of test, those of dev (empty where the file has no ``dev_values``) and which of dev are kept."""
    split = read_split(job)
    dev = split["dev"] if "dev_values" in _keys(job / "hidden.safetensors") else []
    speaker_of = files.known("speaker") if dev else {}
    trained = {speaker_of[i] for i in split["train"] if i in speaker_of} if dev else set()
    return split["test"], dev, np.array([speaker_of.get(i) not in trained for i in dev], dtype=bool)


def _keys(path: Path) -> set[str]:
    """Return the names of the tensors of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (OSError, SafetensorError):
        return set()  # reading the values names what is wrong
