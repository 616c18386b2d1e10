"""What a run measures in one cell of a published table: the score with its interval over seeds and speakers.

The papers print the mean over folds of each fold's UAR. Its interval is a bootstrap in the manner of
`repkit.evaluation.intervals`: each of 2000 resamples draws as many speakers as there are with replacement, and,
independently, as many seeds as there are. A fold's UAR is computed over the drawn speakers' utterances (a speaker drawn
twice counts twice), and the fold weighs in the mean as many times as its speakers were drawn, on average: with one speaker a
fold this draws folds, with one fold it is the bootstrap of the pooled UAR. Means over corpora draw speakers corpus by corpus
and the same seeds for all. With one seed the spread over seeds is not in the interval. A run that has lost predictions is
not measured: the mean over the folds that are left is another number. Source: own design.

On dev, a model that is fitted in one go has learnt from what it would predict. Its UAR there is the one that chose its
settings, of the fit on train alone, which the run has written down without the predictions: it has no interval.

Axes: K seeds, S speakers, C classes, R resamples, F folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.intervals import N_RESAMPLES, count_by_speaker, few_speakers_mean_note, resample_speakers
from repkit.evaluation.job_files import finished_jobs, fit_record, read_split
from repkit.evaluation.predictions import read_run
from repkit.evaluation.run_files import RunFiles, read_run_files

if TYPE_CHECKING:
    import pandas as pd

_ALL_FOLDS = "all"
_MOST_NAMED = 20
"""Jobs named of those that are missing."""
FIT_NOTE = (
    "UAR on dev of the fit on train alone, as the run wrote it down when it chose its settings by it; the predictions of that "
    "fit are not kept, so there is no interval over speakers"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A score, all shares from 0 to 1.

    Attributes:
        value: mean over seeds (and corpora).
        low: lower end of the 95 % interval, None with one speaker or without predictions.
        high: upper end, None where `low` is.
        seeds: score of each seed.
        folds: score of each fold, mean over seeds; ``CORPUS/FOLD`` where the cell is a mean over corpora.
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
    folds: Mapping[str, float]
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
        table, finished = read_run(self.files.path, self.files.views)
        self.missing = sorted(set(self.files.planned_jobs()) - set(finished))
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
            DataError: the run has predicted nothing of the kind, or jobs of the condition have no predictions.
        """
        self._refuse_missing(condition)
        fits = _fits(self.files, condition, view) if part == "dev" else []
        if fits:
            return _measure_fits(self.files, fits, condition, corpora, view, metric, score)
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
        folds: dict[str, float] = {}
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
            prefix = f"{name}/" if len(corpora) > 1 else ""
            folds |= {f"{prefix}{fold}": value for fold, value in _fold_means(of, classes, metric).items()}
        of = rows[rows["corpus"].isin(corpora)]
        low, high = (float(end) for end in np.percentile(np.mean(drawn, axis=0), [2.5, 97.5]))
        certain = max(n_speakers) > 1
        notes = [few_speakers_mean_note(n_speakers), "one seed: the spread over seeds is not in the interval"]
        mean = np.mean(values, axis=0)
        return Measured(
            value=float(mean.mean()),
            low=low if certain else None,
            high=high if certain else None,
            seeds=dict(zip(kinds, mean.tolist())),
            folds=folds,
            n_speakers=sum(n_speakers),
            n_utterances=int(of["id"].nunique()),
            n_folds=int(of["fold"].nunique()),
            n_used=int(used.isin(corpora).sum()),
            chance=float(np.mean(chances)),
            note="; ".join(note for note in notes[: 2 if len(kinds) == 1 else 1] if note),
        )

    def _refuse_missing(self, condition: str) -> None:
        """Refuse a condition of which jobs have no predictions."""
        missing = [job for job in self.missing if job.startswith(f"{condition}/")]
        if not missing:
            return
        planned = sum(job.startswith(f"{condition}/") for job in self.files.planned_jobs())
        more = [f"and {len(missing) - _MOST_NAMED} more"] if len(missing) > _MOST_NAMED else []
        raise DataError(
            f"{self.files.path}: {len(missing)} of {planned} jobs of condition {condition!r} have no predictions; all were "
            "expected; start `repkit reproduce` again without --page-only, which trains them again",
            [*missing[:_MOST_NAMED], *more],
        )


@dataclass(frozen=True, slots=True)
class _Fit:
    """A job of a model that is fitted in one go: its UAR on dev of the fit on train alone, None without, and who is in dev."""

    seed: int
    fold: str
    uar: float | None
    dev: tuple[str, ...]


def _fits(files: RunFiles, condition: str, view: str) -> list[_Fit]:
    """Return every job of a condition that is fitted in one go, empty for one that is trained epoch by epoch.

    Raises:
        DataError: metrics.jsonl or split.json is damaged.
    """
    found = []
    for seed, fold, job in finished_jobs(files, condition):
        record = fit_record(job)
        if record is None:
            return []
        uar = (record.get("dev") or {}).get(view, {}).get("uar")
        found.append(_Fit(seed, fold, uar, tuple(read_split(job)["dev"])))
    return found


def _measure_fits(
    files: RunFiles, fits: Sequence[_Fit], condition: str, corpora: Sequence[str], view: str, metric: str, score: str
) -> Measured:
    """Return what the fits on train alone reached on dev, the mean over folds for each seed, then over seeds.

    Raises:
        DataError: they were not scored on dev, or a cell asks for something else than their UAR over all of dev.
    """
    where = f"{files.path}: condition {condition!r} is fitted in one go and has"
    if any(fit.uar is None for fit in fits):
        raise DataError(
            f"{where} no UAR on dev of the fit on train alone; one for view {view!r} was expected in metrics.jsonl of every "
            "job; only settings chosen by dev among several leave one (training.select_by=dev.uar)"
        )
    tested = files.utterances[files.utterances["id"].isin({name for fit in fits for name in fit.dev})]
    tested = tested[tested[f"target_{view}"].notna()]
    heard = sorted(set(tested["corpus"]))
    folds = list(dict.fromkeys(fit.fold for fit in fits))
    if metric != "uar" or heard != list(corpora) or (score == "pooled" and len(folds) > 1):
        raise DataError(
            f"{where} one UAR on dev for each fold, over {', '.join(heard)}; asked was {metric}, {score}, of "
            f"{', '.join(corpora)}; correct the paper's file"
        )
    reached = {(fit.seed, fit.fold): float(fit.uar or 0.0) for fit in fits}
    seeds = {seed: [uar for (of, _), uar in reached.items() if of == seed] for seed in sorted({f.seed for f in fits})}
    by_fold = {name: [uar for (_, of), uar in reached.items() if of == name] for name in folds}
    by_seed = {seed: float(np.mean(some)) for seed, some in seeds.items()}
    return Measured(
        value=float(np.mean(list(by_seed.values()))),
        low=None,
        high=None,
        seeds=by_seed,
        folds={name: float(np.mean(some)) for name, some in by_fold.items()},
        n_speakers=int(tested["speaker"].nunique()),
        n_utterances=len(tested),
        n_folds=len(folds),
        n_used=int(files.utterances["corpus"].isin(corpora).sum()),
        chance=1 / tested[f"target_{view}"].nunique(),
        note=FIT_NOTE,
    )


def _fold_means(rows: pd.DataFrame, classes: Sequence[str], metric: str) -> dict[str, float]:
    """Return the score of each fold on one corpus, mean over seeds."""
    found = {}
    for fold, part in rows.groupby("fold", sort=True):
        counts = count_by_speaker(*(part[c].tolist() for c in ("seed", "speaker", "label", "prediction")), classes)
        scores = _fold_scores(counts.hits, counts.totals, np.ones((1, len(counts.speakers))), metric)
        found[str(fold)] = float(scores.mean())
    return found


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
