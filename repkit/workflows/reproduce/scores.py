"""What a run measures in one cell of a published table: the score with its interval over seeds and speakers.

The papers print the mean over folds of each fold's UAR. Its interval is a bootstrap in the manner of
`repkit.evaluation.intervals`: each of 2000 resamples draws as many speakers as there are with replacement, and,
independently, as many seeds as there are. A fold's UAR is computed over the drawn speakers' utterances (a speaker drawn
twice counts twice), and the fold weighs in the mean as many times as its speakers were drawn, on average: with one speaker a
fold this draws folds, with one fold it is the bootstrap of the pooled UAR. Means over corpora draw speakers corpus by corpus
and the same seeds for all. With one seed the spread over seeds is not in the interval. Source: own design.

Axes: K seeds, S speakers, C classes, R resamples, F folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.intervals import N_RESAMPLES, count_by_speaker, few_speakers_note, resample_speakers
from repkit.evaluation.predictions import read_run
from repkit.evaluation.run_files import RunFiles, read_run_files

if TYPE_CHECKING:
    import pandas as pd

_ALL_FOLDS = "all"


@dataclass(frozen=True, slots=True)
class Measured:
    """A score, all shares from 0 to 1.

    Attributes:
        value: mean over seeds (and corpora).
        low: lower end of the 95 % interval, None with one speaker.
        high: upper end, None with one speaker.
        seeds: score of each seed.
        n_speakers: tested, of all corpora of the cell.
        n_utterances: tested.
        n_folds: tested in.
        n_used: utterances of the corpora that the run used at all.
        chance: one over the classes in the reference, mean over corpora.
        note: what limits the interval.
    """

    value: float
    low: float | None
    high: float | None
    seeds: Mapping[int, float]
    n_speakers: int
    n_utterances: int
    n_folds: int
    n_used: int
    chance: float
    note: str


class RunScores:
    """The predictions of a run, read once for all cells that it gives."""

    def __init__(self, run: str | Path) -> None:
        self.files: RunFiles = read_run_files(run)
        table, _ = read_run(self.files.path, self.files.views)
        table = table[table["label"].notna()]
        about = self.files.utterances[["corpus", "speaker"]]
        self.table = table.merge(about, left_on="id", right_index=True, how="left", validate="many_to_one")

    def measure(
        self,
        condition: str,
        corpora: Sequence[str],
        *,
        view: str = "emotion",
        checkpoint: str = "selected",
        part: str = "test",
        metric: Literal["uar", "wa"] = "uar",
        score: Literal["fold_mean", "pooled"] = "fold_mean",
    ) -> Measured:
        """Return the score of a condition on a corpus, or its plain mean over several.

        Raises:
            DataError: the run has predicted nothing of the kind.
        """
        rows = self.table
        where = {"condition": condition, "view": view, "checkpoint": checkpoint, "part": part}
        for column, wanted in where.items():
            rows = rows[rows[column] == wanted]
        if view not in self.files.views:
            raise DataError(f"{self.files.path}: no view {view!r}; the run has {', '.join(self.files.views)}")
        classes = self.files.views[view]
        used = self.files.utterances["corpus"]
        kinds = sorted(int(seed) for seed in rows["seed"].unique())
        values, drawn, chances, n_speakers = [], [], [], []
        for place, name in enumerate(corpora):
            of = rows[rows["corpus"] == name]
            if of.empty or sorted(int(seed) for seed in of["seed"].unique()) != kinds:
                raise DataError(
                    f"{self.files.path}: condition {condition!r} has no {part} predictions of corpus {name!r} ({view}, "
                    f"{checkpoint}) for every seed; expected some; the protocol of the run gives this corpus no {part} part"
                )
            by_seed, resampled = _scores(of, classes, metric, score, place)
            values.append(by_seed)
            drawn.append(resampled)
            chances.append(1 / of["label"].nunique())
            n_speakers.append(int(of["speaker"].nunique()))
        of = rows[rows["corpus"].isin(corpora)]
        low, high = (float(end) for end in np.percentile(np.mean(drawn, axis=0), [2.5, 97.5]))
        certain = max(n_speakers) > 1
        notes = [few_speakers_note(min(n_speakers)), "one seed: the spread over seeds is not in the interval"]
        mean = np.mean(values, axis=0)
        return Measured(
            value=float(mean.mean()),
            low=low if certain else None,
            high=high if certain else None,
            seeds=dict(zip(kinds, mean.tolist())),
            n_speakers=sum(n_speakers),
            n_utterances=int(of["id"].nunique()),
            n_folds=int(of["fold"].nunique()),
            n_used=int(used.isin(corpora).sum()),
            chance=float(np.mean(chances)),
            note="; ".join(note for note in notes[: 2 if len(kinds) == 1 else 1] if note),
        )


def _scores(
    rows: pd.DataFrame, classes: Sequence[str], metric: str, score: str, place: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each seed (K,) and of each resample (R,) on one corpus."""
    speakers = sorted(rows["speaker"].unique())
    seeds = rows["seed"].nunique()
    # corpora of one size must not be drawn alike, but all of them hear the same seeds
    drawn = resample_speakers(len(speakers), N_RESAMPLES, (0, place))
    seed_weights = resample_speakers(seeds, N_RESAMPLES, 1)
    place_of = {name: i for i, name in enumerate(speakers)}
    totals = {"plain": np.zeros((1, seeds)), "drawn": np.zeros((N_RESAMPLES, seeds))}
    weights = {name: np.zeros_like(values) for name, values in totals.items()}
    folds = rows["fold"] if score == "fold_mean" else rows["fold"].map(lambda fold: _ALL_FOLDS)
    for _, part in rows.groupby(folds, sort=True):
        counts = count_by_speaker(*(part[c].tolist() for c in ("seed", "speaker", "label", "prediction")), classes)
        if counts.hits.shape[0] != seeds:
            raise DataError(
                f"fold {part['fold'].iloc[0]!r}: predictions of {counts.hits.shape[0]} of {seeds} seeds; all were expected; "
                "finish the run"
            )
        columns = [place_of[name] for name in counts.speakers]
        for name, some in (("plain", np.ones((1, len(columns)))), ("drawn", drawn[:, columns])):
            share = np.repeat(some.sum(axis=1, keepdims=True) / len(columns), seeds, axis=1)
            totals[name] += share * _fold_scores(counts.hits, counts.totals, some, metric)
            weights[name] += share
    by_seed = totals["plain"] / weights["plain"]
    resampled = totals["drawn"] / weights["drawn"]
    return by_seed[0], (resampled * seed_weights).sum(axis=1) / seeds


def _fold_scores(hits: np.ndarray, totals: np.ndarray, weights: np.ndarray, metric: str) -> np.ndarray:
    """Return UAR or accuracy (R, K) of counts (K, S, C) under weights (R, S), 0 where nobody was drawn."""
    right, all_ = (np.einsum("rs,ksc->rkc", weights, values) for values in (hits, totals))
    if metric == "wa":
        right, all_ = right.sum(axis=-1, keepdims=True), all_.sum(axis=-1, keepdims=True)
    present = all_ > 0
    shares = np.divide(right, all_, out=np.zeros_like(right), where=present)
    return shares.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
