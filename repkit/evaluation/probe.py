"""What a linear probe can read from the last hidden layer: corpus, emotion, gender, language. Source: own design.

Where a fold holds corpora out, ``held_out`` is probed too: whether an utterance is of a corpus that the model was trained
on (dev, of other speakers) or not. It is the gap between source and target that domain-adversarial training aims at, and
two dev speakers are enough for it where the corpora would need two each.

A probe is a logistic regression (standardised input, L2 with C = 1, balanced class weights) that predicts an attribute
from the vectors of dev and test utterances, whose speakers the model was not fitted to. It is cross-validated over
speakers, so that it cannot know a class by its voices, and scored by the UAR over all held-out predictions at once.

The control is the same probe, folds and all, on labels that say nothing. An attribute that a speaker keeps (corpus,
gender, language) is shuffled among speakers, each speaker keeping one label: shuffling utterances would hand the probe
labels that no speaker-disjoint probe could meet. An attribute that changes within speakers (emotion) is shuffled within
each speaker, so that speakers keep their share of each class. Beside chance the control shows what class sizes, few
speakers and the probe itself bring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.job_files import finished_jobs, fold_corpora, hidden_ids, read_hidden
from repkit.evaluation.run_files import RunFiles

MOST_POINTS = 1000
"""Utterances per probe, the same number of each class as far as it has them, chosen by hash."""
MOST_MODELS = 4
"""Trained models that are probed per condition, spread over seeds and folds."""
N_SHUFFLES = 4
"""Probes on shuffled labels per condition and attribute, spread over the models."""
N_FOLDS = 5
FEWEST_SPEAKERS = 4
KEPT = ("gender", "language")
CONSTANT = ("corpus", "held_out", *KEPT)
"""Attributes that a speaker keeps."""


@dataclass(frozen=True, slots=True)
class ProbePoints:
    """The points of one probe.

    Attributes:
        places: n rows of the vectors.
        labels: n places in `classes`.
        speakers: n speakers.
        folds: n folds of the cross-validation; all of a speaker's points are in one.
        classes: names.
        left_out: classes that a speaker-disjoint probe cannot be trained and tested on.
    """

    places: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    folds: np.ndarray
    classes: tuple[str, ...]
    left_out: tuple[str, ...]


def probe_run(files: RunFiles) -> tuple[list[dict[str, Any]], list[str]]:
    """Probe the last hidden layer of every condition.

    Returns:
        per condition and attribute: ``uar``, ``sd`` over the probed models, ``chance`` (one over the classes),
        ``shuffled`` (the control), ``n`` utterances, ``n_speakers``, ``n_classes``, ``left_out`` classes and the
        ``models``; and one sentence for each attribute that no model of some conditions could be probed for.

    Raises:
        DataError: hidden vectors that do not fit their ids.
    """
    found: list[dict[str, Any]] = []
    notes: dict[str, list[str]] = {}
    attributes = probed_attributes(files)
    for condition in files.conditions:
        ids = _Ids(files)
        chosen = {name: _choose(files, condition, name, of, ids) for name, of in attributes.items()}
        models: dict[str, list[dict[str, Any]]] = {name: [] for name in attributes}
        jobs = {(seed, fold, job) for of in chosen.values() for seed, fold, job, _ in of}
        for seed, fold, job in sorted(jobs, key=lambda item: item[:2]):
            values, _ = read_hidden(files, job)
            for name, of in chosen.items():
                points = next((p for s, f, _, p in of if (s, f) == (seed, fold)), None)
                if points is None:
                    continue
                rank = len(models[name])
                n_shuffles = len(range(rank, N_SHUFFLES, len(of)))
                numbers = probe(values[points.places], points, name in CONSTANT, n_shuffles, f"{seed}/{fold}/{name}")
                models[name].append({"seed": seed, "fold": fold, **numbers})
        for name, of in models.items():
            if of:
                found.append({"condition": condition, "attribute": name, **_summary(of)})
            elif any(finished_jobs(files, condition)):
                notes.setdefault(name, []).append(condition)
    return found, [
        f"{name} is not probed in {', '.join(conditions)}: no model has hidden vectors of at least {FEWEST_SPEAKERS} "
        "speakers outside train and of two classes with two such speakers each"
        for name, conditions in notes.items()
    ]


def probed_attributes(files: RunFiles) -> dict[str, Callable[[str], Mapping[str, str]]]:
    """Return per attribute a function from a fold to the class of each utterance that has one.

    Attributes with one class in all are left out.
    """
    view = next(iter(files.views))
    found: dict[str, Callable[[str], Mapping[str, str]]] = {}
    for name, column in (("corpus", "corpus"), ("held_out", ""), (view, f"target_{view}"), *zip(KEPT, KEPT)):
        if name == "held_out":
            found |= _held_out(files)
        elif len(set((of_all := files.known(column)).values())) > 1:
            found[name] = lambda fold, of_all=of_all: of_all
    return found


def _held_out(files: RunFiles) -> dict[str, Callable[[str], Mapping[str, str]]]:
    """Return the attribute ``held_out`` where a fold's dev and test are of corpora trained on and held out."""
    folds = fold_corpora(files) if len(files.corpora) > 1 else {}
    mixed = {fold: of for fold, of in folds.items() if len({of.holds_out(name) for name in (*of.dev, *of.test)}) > 1}
    if not mixed:
        return {}
    corpus_of = files.known("corpus")

    def classes_of(fold: str) -> Mapping[str, str]:
        if fold not in mixed:
            return {}
        named = {name: "held out" if mixed[fold].holds_out(name) else "trained on" for name in files.corpora}
        return {i: named[corpus] for i, corpus in corpus_of.items() if corpus in named}

    return {"held_out": classes_of}


def choose_points(
    ids: Sequence[str],
    classes: Mapping[str, str],
    speakers: Mapping[str, str],
    strata: Mapping[str, str],
    key: str = "",
) -> ProbePoints | None:
    """Choose the points of a probe and their folds, the same ones on every machine.

    Args:
        ids: of the vectors, in their order.
        classes: of each id that has one.
        speakers: of each id.
        strata: of each speaker, for example the corpus; speakers of one stratum are dealt to the folds in turn, so that
            two of them are never in the same one while there are folds.
        key: changes the folds.

    Returns:
        None where fewer than four speakers or fewer than two classes remain. A class is left out when all its points
        are in one fold, because it could not be both learnt and tested.
    """
    rows = [(place, i) for place, i in enumerate(ids) if i in classes and speakers.get(i)]
    people = sorted({speakers[i] for _, i in rows}, key=lambda s: (strata.get(s, ""), _hash(key, s)))
    if len(people) < FEWEST_SPEAKERS:
        return None
    n_folds = min(N_FOLDS, len(people))
    fold_of = {speaker: number % n_folds for number, speaker in enumerate(people)}
    seen: dict[str, set[int]] = {}
    for _, i in rows:
        seen.setdefault(classes[i], set()).add(fold_of[speakers[i]])
    kept = tuple(sorted(name for name, of in seen.items() if len(of) > 1))
    if len(kept) < 2:
        return None
    most = MOST_POINTS // len(kept)
    chosen: list[tuple[int, str]] = []
    for name in kept:
        chosen += sorted((row for row in rows if classes[row[1]] == name), key=lambda row: _hash(row[1]))[:most]
    chosen.sort()
    return ProbePoints(
        places=np.array([place for place, _ in chosen]),
        labels=np.array([kept.index(classes[i]) for _, i in chosen]),
        speakers=np.array([speakers[i] for _, i in chosen], dtype=object),
        folds=np.array([fold_of[speakers[i]] for _, i in chosen]),
        classes=kept,
        left_out=tuple(sorted(set(seen) - set(kept))),
    )


def probe(values: np.ndarray, points: ProbePoints, constant: bool, n_shuffles: int, key: str = "") -> dict[str, Any]:
    """Probe vectors (n, H) of the chosen points.

    Args:
        values: (n, H), a row per point.
        points: labels, speakers and folds.
        constant: whether a speaker keeps one label; decides how the control shuffles.
        n_shuffles: probes on shuffled labels.
        key: seeds the shuffling.

    Returns:
        ``uar``, ``shuffled`` (one UAR per shuffle), ``chance``, ``n``, ``n_speakers``, ``n_classes``, ``left_out``.

    Raises:
        DataError: vectors that are not finite.
    """
    if not np.isfinite(values).all():
        raise DataError(
            f"probe {key}: hidden vectors that are not finite; expected numbers; the training has diverged (delete the job's "
            "folder and run again with a lower learning rate), or the model is at fault where its losses and weights are finite "
            "(mend it; `shared` of its outputs is what it gives)"
        )
    draw = np.random.default_rng(int.from_bytes(_hash(key)[:8], "big"))
    shuffled = []
    for _ in range(n_shuffles):
        labels, folds = shuffle_labels(points, constant, draw)
        shuffled.append(_held_out_uar(values, labels, folds))
    return {
        "uar": _held_out_uar(values, points.labels, points.folds),
        "shuffled": shuffled,
        "chance": 1 / len(points.classes),
        "n": len(points.labels),
        "n_speakers": len(set(points.speakers)),
        "n_classes": len(points.classes),
        "left_out": list(points.left_out),
    }


def shuffle_labels(points: ProbePoints, constant: bool, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,) without meaning, and folds (n,) dealt for them as those of the true labels are.

    Among speakers where a speaker keeps one label, else within each speaker.
    """
    if not constant:
        labels = points.labels.copy()
        for speaker in sorted(set(points.speakers)):
            here = np.flatnonzero(points.speakers == speaker)
            labels[here] = labels[draw.permutation(here)]
        return labels, points.folds
    people = sorted(set(points.speakers))
    own = {speaker: int(points.labels[points.speakers == speaker][0]) for speaker in people}
    given = dict(zip(people, draw.permutation([own[speaker] for speaker in people]).tolist()))
    order = sorted(people, key=lambda speaker: given[speaker])
    n_folds = int(points.folds.max()) + 1
    fold_of = {speaker: number % n_folds for number, speaker in enumerate(order)}
    return (
        np.array([given[speaker] for speaker in points.speakers]),
        np.array([fold_of[speaker] for speaker in points.speakers]),
    )


def _held_out_uar(values: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Return the UAR over the held-out predictions of all folds at once."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    told = np.full(len(labels), -1)
    for fold in np.unique(folds):
        test = folds == fold
        if len(np.unique(labels[~test])) < 2:
            told[test] = labels[~test][0]
            continue
        spread = values[~test].std(axis=0)
        scaled = (values - values[~test].mean(axis=0)) / np.where(spread > 0, spread, 1)
        model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            # a probe near its optimum tells as much as one at it
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled[~test], labels[~test])
        told[test] = model.predict(scaled[test])
    right = told == labels
    return float(np.mean([right[labels == name].mean() for name in np.unique(labels)]))


class _Ids(dict[Path, "list[str] | None"]):
    """The ids of each job's hidden vectors, read once."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files

    def __missing__(self, job: Path) -> list[str] | None:
        self[job] = found = hidden_ids(self._files, job)
        return found


def _choose(
    files: RunFiles,
    condition: str,
    attribute: str,
    classes_of: Callable[[str], Mapping[str, str]],
    ids: Mapping[Path, list[str] | None],
) -> list[tuple[int, str, Path, ProbePoints]]:
    """Return at most `MOST_MODELS` jobs of a condition whose points allow a probe, spread over seeds and folds."""
    speakers, corpora = files.known("speaker"), files.known("corpus")
    found = []
    for seed, fold, job in _spread(files, condition):
        of_job, classes = ids[job], classes_of(fold)
        strata = {
            speakers[i]: f"{classes.get(i, '') if attribute in CONSTANT else ''}/{corpora.get(i, '')}"
            for i in of_job or ()
            if i in speakers
        }
        points = choose_points(of_job, classes, speakers, strata, fold) if of_job else None
        if points is not None:
            found.append((seed, fold, job, points))
        if len(found) == MOST_MODELS:
            break
    return found


def _spread(files: RunFiles, condition: str) -> Iterator[tuple[int, str, Path]]:
    """Yield finished jobs so that the first ones differ in seed and in fold."""
    jobs = {(seed, fold): job for seed, fold, job in finished_jobs(files, condition)}
    for shift in range(len(files.folds)):
        for rank, seed in enumerate(files.seeds):
            fold = files.folds[(rank + shift) % len(files.folds)]
            if (seed, fold) in jobs:
                yield seed, fold, jobs[seed, fold]


def _summary(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [model["uar"] for model in models]
    shuffled = [value for model in models for value in model["shuffled"]]
    return {
        "uar": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "chance": float(np.mean([model["chance"] for model in models])),
        "shuffled": float(np.mean(shuffled)),
        "n": round(float(np.mean([model["n"] for model in models]))),
        "n_speakers": round(float(np.mean([model["n_speakers"] for model in models]))),
        "n_classes": max(model["n_classes"] for model in models),
        "left_out": sorted({name for model in models for name in model["left_out"]}),
        "models": [dict(model) for model in models],
    }


def _hash(*names: str) -> bytes:
    return hashlib.sha256("/".join(names).encode()).digest()
