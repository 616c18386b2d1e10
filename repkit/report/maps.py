"""Which vectors of a run are drawn as t-SNE maps, and what a reader must know to read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.run_files import RunFiles, read_json_file
from repkit.report.projection import FEWEST_POINTS, choose_points, draw_map, project

EMBEDDING_CAPTION = (
    "t-SNE of the embedding, condition {condition}. One map of {some} utterances, coloured by attribute; no label was "
    "used to make it."
)
HIDDEN_CAPTION = (
    "t-SNE of the last hidden layer, condition {condition}, {job}. The {n} test utterances of the fold with the "
    "largest test part; the model has not trained on them."
)
HIDDEN_NOTE = (
    "Only one fold is drawn, because every fold has a model of its own: their hidden axes mean different things, and "
    "the points of several folds in one map would part by model, which in leave-one-speaker-out looks like speakers. "
    "Attributes with a single value in that test part are not drawn."
)
RATING_BINS = ((2.0, "low"), (4.0, "medium"))


def draw_maps(files: RunFiles, folder: Path) -> list[tuple[Path, str]]:
    """Draw the maps of every condition's embedding and last hidden layer; return paths and captions.

    Raises:
        DataError: vectors and ids do not fit.
    """
    drawn = []
    for condition in files.conditions:
        found = _embedding(files, condition)
        if found is None:
            continue
        values, ids = found
        path = folder / f"embedding_{condition}.png"
        if draw_map(project(values), _attributes(files, ids), f"Embedding, {condition}", path):
            n_all = len(files.utterances)
            some = f"{len(ids)} of {n_all}" if len(ids) < n_all else f"all {n_all}"
            drawn.append((path, EMBEDDING_CAPTION.format(condition=condition, some=some)))
    for condition in files.conditions:
        hidden = _hidden(files, condition)
        if hidden is None:
            continue
        values, ids, job = hidden
        path = folder / f"hidden_{condition}.png"
        if draw_map(project(values), _attributes(files, ids), f"Last hidden layer, {condition}, {job}", path):
            drawn.append((path, HIDDEN_CAPTION.format(condition=condition, job=job, n=len(ids))))
    return drawn


def _embedding(files: RunFiles, condition: str) -> tuple[np.ndarray, list[str]] | None:
    path = files.path / "vectors" / f"{condition}.safetensors"
    listed = path.with_suffix(".json")
    if not path.exists() or not listed.exists():
        return None
    ids = json.loads(listed.read_text(encoding="utf-8"))
    values = _load(path, len(ids))
    chosen = choose_points(ids)
    if len(chosen) < FEWEST_POINTS:
        return None
    return values[chosen], [ids[place] for place in chosen]


def _hidden(files: RunFiles, condition: str) -> tuple[np.ndarray, list[str], str] | None:
    """Return the hidden layer of the first seed's fold with the largest test part, the first one on a tie."""
    sizes = {fold["name"]: fold.get("test", 0) for fold in files.protocol["folds"]}
    for seed in files.seeds:
        for fold in sorted(sizes, key=lambda name: -sizes[name]):
            job = files.path / "jobs" / condition / f"seed_{seed}" / fold
            path = job / "hidden.safetensors"
            if not path.exists() or not (job / "done.json").exists():
                continue
            ids = list(read_json_file(job / "split.json")["test"])
            values = _load(path, len(ids))
            chosen = choose_points(ids)
            if len(chosen) < FEWEST_POINTS:
                return None
            return values[chosen], [ids[place] for place in chosen], f"seed {seed}, fold {fold}"
    return None


def _load(path: Path, n_ids: int) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        values = load_file(path)["values"].astype(np.float32)
    except (OSError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{path}: {error}; expected a safetensors file with 'values'; delete the job's folder and run again"
        ) from error
    if values.ndim != 2 or len(values) != n_ids:
        raise DataError(
            f"{path}: values {values.shape} for {n_ids} ids; expected one row each; delete the folder and run again"
        )
    return values


def _attributes(files: RunFiles, ids: list[str]) -> dict[str, list[str | None]]:
    """Return emotion, arousal, valence, speaker, gender and corpus of each id; None where unknown."""
    rows = files.utterances.reindex(ids)
    found: dict[str, list[str | None]] = {}
    for name in ("emotion", "arousal", "valence", "speaker", "gender", "corpus"):
        column = next((c for c in (f"target_{name}", name) if c in rows and rows[c].notna().any()), None)
        if column is None:
            continue
        values = [None if value is None or value != value else value for value in rows[column].tolist()]
        found[name] = [_binned(value) if isinstance(value, float) else value for value in values]
    return found


def _binned(rating: float) -> str:
    """Return the paper's bin of a mean rating from 1 to 5: low up to 2, high from 4."""
    return "low" if rating <= RATING_BINS[0][0] else "high" if rating >= RATING_BINS[1][0] else "medium"
