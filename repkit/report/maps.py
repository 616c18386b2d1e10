"""Which vectors of a run are drawn as t-SNE maps, and what a reader must know to read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repkit.evaluation.job_files import finished_job, fold_corpora, load_values, read_hidden
from repkit.evaluation.run_files import RunFiles
from repkit.report.projection import FEWEST_POINTS, MOST_POINTS, choose_points, draw_map, project

EMBEDDING_CAPTION = (
    "t-SNE of the embedding, condition {condition}. One map of {some} utterances, coloured by attribute; no label was "
    "used to make it."
)
HIDDEN_CAPTION = (
    "t-SNE of the last hidden layer, condition {condition}, {job}. {n} {parts} utterances, all of speakers outside "
    "train.{probes}"
)
HIDDEN_NOTE = (
    "Only one fold is drawn, because every fold has a model of its own: their hidden axes mean different things, and "
    "the points of several folds in one map would part by model, which in leave-one-speaker-out looks like speakers. "
    "Drawn is the fold with {rule}. Attributes with a single value there are not drawn."
)
RULES = (
    "the largest test part",
    "the most corpora in dev and test (the largest test part on a tie), of each corpus as many utterances as of any other "
    "as far as it has them",
)
SPEAKERS_SHOWN = 12
RATING_BINS = ((2.0, "low"), (4.0, "medium"))


def hidden_note(files: RunFiles) -> str:
    """Return what a reader must know of the maps of the last hidden layer."""
    return HIDDEN_NOTE.format(rule=RULES[len(files.corpora) > 1])


def draw_maps(files: RunFiles, folder: Path, probes: Sequence[Mapping[str, Any]] = ()) -> list[tuple[Path, str]]:
    """Draw the maps of every condition's embedding and last hidden layer; return paths and captions.

    In a run of several corpora the first two panels are corpus and the first view.

    Args:
        files: of the run.
        folder: of the PNGs.
        probes: entries of ``probes`` in results.json, told in the captions.

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
        values, ids, job, parts = hidden
        path = folder / f"hidden_{condition}.png"
        if draw_map(project(values), _attributes(files, ids), f"Last hidden layer, {condition}, {job}", path):
            told = _told([probe for probe in probes if probe["condition"] == condition])
            caption = HIDDEN_CAPTION.format(condition=condition, job=job, n=len(ids), parts=parts, probes=told)
            drawn.append((path, caption))
    return drawn


def _told(probes: Sequence[Mapping[str, Any]]) -> str:
    """Return what linear probes read from the layer, for a caption."""
    if not probes:
        return ""
    numbers = [
        f"{probe['attribute'].replace('_', ' ')} {100 * probe['uar']:.1f} (chance {100 * probe['chance']:.1f}, shuffled labels "
        f"{100 * probe['shuffled']:.1f})"
        for probe in probes
    ]
    return f" UAR in percent of linear probes on speakers of their own: {', '.join(numbers)}."


def _embedding(files: RunFiles, condition: str) -> tuple[np.ndarray, list[str]] | None:
    path = files.path / "vectors" / f"{condition}.safetensors"
    listed = path.with_suffix(".json")
    if not path.exists() or not listed.exists():
        return None
    ids = json.loads(listed.read_text(encoding="utf-8"))
    values = load_values(path, len(ids))
    chosen = choose_points(ids)
    if len(chosen) < FEWEST_POINTS:
        return None
    return values[chosen], [ids[place] for place in chosen]


def _hidden(files: RunFiles, condition: str) -> tuple[np.ndarray, list[str], str, str] | None:
    """Return the hidden layer of one job of the first seed that has one, its ids, the job and its parts in words."""
    folds = fold_corpora(files) if len(files.corpora) > 1 else {}
    sizes = {fold["name"]: fold.get("test", 0) for fold in files.protocol["folds"]}

    def rank(fold: str) -> tuple[int, int]:
        seen = {*folds[fold].dev, *folds[fold].test} if fold in folds else set()
        return -len(seen), -sizes[fold]

    for seed in files.seeds:
        for fold in sorted(sizes, key=rank):
            job = finished_job(files, condition, seed, fold)
            if job is None or not (job / "hidden.safetensors").exists():
                continue
            values, ids = read_hidden(files, job)
            chosen = _choose(files, ids)
            if len(chosen) < FEWEST_POINTS:
                return None
            parts = "dev and test" if len(ids) > sizes[fold] else "test"
            return values[chosen], [ids[place] for place in chosen], f"seed {seed}, fold {fold}", parts
    return None


def _choose(files: RunFiles, ids: list[str]) -> np.ndarray:
    """Return the places of at most `MOST_POINTS` ids; of several corpora the same number each as far as they have it."""
    if len(files.corpora) < 2 or "corpus" not in files.utterances:
        return choose_points(ids)
    corpora = files.utterances["corpus"].reindex(ids).astype(str).to_numpy()
    names = sorted(set(corpora))
    chosen = []
    for name in names:
        places = np.flatnonzero(corpora == name)
        chosen.append(places[choose_points([ids[place] for place in places], MOST_POINTS // len(names))])
    return np.sort(np.concatenate(chosen))


def _attributes(files: RunFiles, ids: list[str]) -> dict[str, list[str | None]]:
    """Return emotion, arousal, valence, speaker, gender, corpus and language of each id; None where unknown."""
    rows = files.utterances.reindex(ids)
    names = ["emotion", "arousal", "valence", "speaker", "gender", "corpus", "language"]
    if len(files.corpora) > 1:
        first = ["corpus", next(iter(files.views))]
        names = [*first, *(name for name in names if name not in first)]
    found: dict[str, list[str | None]] = {}
    for name in names:
        column = next((c for c in (f"target_{name}", name) if c in rows and rows[c].notna().any()), None)
        if column is None or (name == "speaker" and rows[column].nunique() > SPEAKERS_SHOWN and len(files.corpora) > 1):
            continue
        values = [None if value is None or value != value else value for value in rows[column].tolist()]
        found[name] = [_binned(value) if isinstance(value, float) else value for value in values]
    return found


def _binned(rating: float) -> str:
    """Return the paper's bin of a mean rating from 1 to 5: low up to 2, high from 4."""
    return "low" if rating <= RATING_BINS[0][0] else "high" if rating >= RATING_BINS[1][0] else "medium"
