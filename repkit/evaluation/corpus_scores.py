"""Scores corpus by corpus, the mean over corpora, and which training corpora carry over to which test corpus.

Sources: parry2019 tables 2 and 3, gao2022 tables 2 to 4, gerczuk2021 tables 3 and 4 give one UAR per test corpus and its
plain mean; interval, paired differences and verdicts are of own design (`repkit.evaluation.intervals`).

A corpus that some folds hold out whole and others train on gives two rows, because the two are different questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repkit.evaluation.differences import NOTHING, adjust, judged, paired, paired_counts
from repkit.evaluation.intervals import (
    SpeakerCounts,
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_mean_difference,
    count_by_speaker,
    sign_flip_test,
    speaker_differences,
)
from repkit.evaluation.job_files import FoldCorpora

if TYPE_CHECKING:
    import pandas as pd

Part = tuple[str, bool | None]
"""A test corpus, and whether it was held out whole; None where no split.json tells."""
OVERS = ("all", "trained_on", "held_out")
"""What a mean over corpora runs over."""


def corpus_parts(rows: pd.DataFrame, folds: Mapping[str, FoldCorpora]) -> dict[Part, pd.DataFrame]:
    """Split test rows (columns fold and corpus) by corpus and by whether their fold held it out, in a fixed order."""
    found: dict[Part, list[pd.DataFrame]] = {}
    for (corpus, fold), part in rows.groupby(["corpus", "fold"], sort=True):
        held_out = folds[fold].holds_out(corpus) if fold in folds else None
        found.setdefault((str(corpus), held_out), []).append(part)
    import pandas as pd

    order = sorted(found, key=lambda part: (part[0], part[1] is True))
    return {part: found[part][0] if len(found[part]) == 1 else pd.concat(found[part]) for part in order}


def score_corpora(
    parts: Mapping[Part, pd.DataFrame], classes: Sequence[str], n_resamples: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the scores of one condition on each corpus, and their means over corpora.

    Args:
        parts: rows of each corpus: seed, fold, id, speaker, label, prediction.
        classes: C classes.
        n_resamples: of the bootstrap.

    Returns:
        per corpus UAR pooled over its test utterances, a corpus' chance being one over the classes that it has; and the
        plain mean over all corpora (unless one of them stands twice), over those trained on and over those held out, where
        there are any.
    """
    counts = {part: _counts(rows, classes) for part, rows in parts.items()}
    scores = [{**_head(part), **_score(rows, counts[part], classes, n_resamples)} for part, rows in parts.items()]
    means = []
    for over, chosen in _groups(list(parts)).items():
        of = [score for score in scores if (score["corpus"], score["held_out"]) in chosen]
        interval = bootstrap_mean([counts[part] for part in chosen], n_resamples=n_resamples)
        seeds = set.intersection(*(set(score["seeds"]) for score in of))
        by_seed = {seed: float(np.mean([score["seeds"][seed] for score in of])) for seed in sorted(seeds, key=int)}
        means.append(
            {
                "over": over,
                "corpora": [part[0] for part in chosen],
                "n_speakers": interval.n_speakers,
                "chance": float(np.mean([score["chance"] for score in of])),
                "uar": {
                    **_spread(list(by_seed.values())),
                    "mean": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                },
                "interval_note": interval.note,
                "seeds": by_seed,
            }
        )
    return scores, means


def compare_corpora(
    first: Mapping[Part, pd.DataFrame], second: Mapping[Part, pd.DataFrame], classes: Sequence[str], n_resamples: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the differences first minus second on each corpus that both have, and of their means over corpora.

    Each is judged as any difference is (`repkit.evaluation.differences.verdict`). In a mean every corpus counts alike:
    its interval draws speakers within corpora, and its p tosses the signs of all speakers' shares.
    """
    rows, pairs, boths = [], {}, {}
    for part in first:
        if part not in second:
            continue
        both = paired(first[part], second[part])
        if both.empty:
            rows.append({**_head(part), **NOTHING})
            continue
        pairs[part], boths[part] = paired_counts(both, classes), both
        interval = bootstrap_difference(*pairs[part], n_resamples=n_resamples)
        p = sign_flip_test(speaker_differences(*pairs[part]))
        rows.append({**_head(part), **judged(interval, p, both, [interval.n_speakers])})
    means = []
    for over, chosen in _groups(list(pairs)).items():
        import pandas as pd

        interval = bootstrap_mean_difference([pairs[part] for part in chosen], n_resamples=n_resamples)
        shares = np.concatenate([speaker_differences(*pairs[part]) / len(chosen) for part in chosen])
        both = pd.concat([boths[part] for part in chosen])
        sizes = [len(pairs[part][0].speakers) for part in chosen]
        told = judged(interval, sign_flip_test(shares), both, sizes)
        means.append({"over": over, "corpora": [part[0] for part in chosen], **told})
    return rows, means


def adjust_all(differences: Sequence[dict[str, Any]], means: Sequence[dict[str, Any]]) -> None:
    """Adjust by Holm's rule over all conditions and corpora, and the means over corpora by kind of mean."""
    adjust(differences)
    for over in OVERS:
        adjust([mean for mean in means if mean["over"] == over])


def carry_over(
    rows: pd.DataFrame, folds: Mapping[str, FoldCorpora], classes: Sequence[str], corpora: Sequence[str]
) -> dict[str, Any] | None:
    """Return the matrix of training corpora by test corpus for one condition; None where no fold's parts are known.

    Args:
        rows: test rows: seed, fold, corpus, label, prediction, speaker.
        folds: the corpora of each fold's parts.
        classes: C classes.
        corpora: of the run.

    Returns:
        ``rows``: one per set of training corpora, with its folds (rotations over speakers of the same corpora are
        pooled); ``corpora`` of the columns; ``uar``: the mean over seeds, None where nothing was tested; ``n``
        utterances; ``held_out``; ``chance`` per column.
    """
    tested = [fold for fold in sorted(rows["fold"].unique()) if fold in folds]
    if not tested:
        return None
    sets: dict[tuple[str, ...], list[str]] = {}
    for fold in tested:
        sets.setdefault(folds[fold].train, []).append(fold)
    columns = sorted({str(name) for name in rows.loc[rows["fold"].isin(tested), "corpus"].unique()})
    uar: list[list[float | None]] = []
    n: list[list[int]] = []
    held_out: list[list[bool | None]] = []
    ordered = sorted(sets.items(), key=lambda row: _row_order(row[0], corpora))
    for _, names in ordered:
        uar.append([])
        n.append([])
        held_out.append([])
        of_row = rows[rows["fold"].isin(names)]
        for corpus in columns:
            cell = of_row[of_row["corpus"] == corpus]
            uar[-1].append(float(np.mean(_uar_by_seed(_counts(cell, classes)))) if len(cell) else None)
            n[-1].append(int(cell["id"].nunique()))
            held_out[-1].append(all(folds[fold].holds_out(corpus) for fold in names) if len(cell) else None)
    present = [rows.loc[rows["corpus"] == corpus, "label"].nunique() for corpus in columns]
    named = [
        {"name": training_name(train, corpora), "train": list(train), "folds": list(names)} for train, names in ordered
    ]
    return {
        "rows": named,
        "corpora": columns,
        "uar": uar,
        "n": n,
        "held_out": held_out,
        "chance": [1 / count for count in present],
    }


def training_name(train: Sequence[str], corpora: Sequence[str]) -> str:
    """Return a short name of a set of training corpora: their names, ``all corpora`` or ``all but x``."""
    absent = [name for name in corpora if name not in train]
    if len(corpora) > 1 and not absent:
        return "all corpora"
    if len(train) > 2 and len(absent) <= 2:
        return f"all but {' and '.join(absent)}"
    return " + ".join(train) if len(train) <= 3 else f"{len(train)} corpora: {', '.join(train)}"


def _row_order(train: Sequence[str], corpora: Sequence[str]) -> tuple[int, list[str]]:
    """Sort rows so that what they are named by runs like the columns."""
    absent = [name for name in corpora if name not in train]
    return len(train), absent if len(train) > 2 and len(absent) <= 2 else list(train)


def _head(part: Part) -> dict[str, Any]:
    return {"corpus": part[0], "held_out": part[1]}


def _counts(rows: pd.DataFrame, classes: Sequence[str]) -> SpeakerCounts:
    return count_by_speaker(*(rows[c].tolist() for c in ("seed", "speaker", "label", "prediction")), classes)


def _uar_by_seed(counts: SpeakerCounts) -> np.ndarray:
    hits, totals = counts.hits.sum(axis=1), counts.totals.sum(axis=1)
    present = totals > 0
    recalls = np.divide(hits, totals, out=np.zeros_like(hits), where=present)
    return recalls.sum(axis=-1) / present.sum(axis=-1)


def _score(rows: pd.DataFrame, counts: SpeakerCounts, classes: Sequence[str], n_resamples: int) -> dict[str, Any]:
    by_seed = _uar_by_seed(counts)
    interval = bootstrap(counts, n_resamples=n_resamples)
    present = counts.totals.sum(axis=(0, 1)) > 0
    right = (rows["label"] == rows["prediction"]).groupby(rows["seed"]).mean()
    return {
        "n_utterances": int(rows["id"].nunique()),
        "n_speakers": interval.n_speakers,
        "n_folds": int(rows["fold"].nunique()),
        "n_seeds": len(by_seed),
        "n_classes": int(present.sum()),
        "classes": [name for name, here in zip(classes, present) if here],
        "chance": float(1 / present.sum()),
        "uar": {**_spread(by_seed.tolist()), "low": interval.low, "high": interval.high},
        "wa": float(right.mean()),
        "interval_note": interval.note,
        "seeds": {str(seed): float(value) for seed, value in zip(sorted(rows["seed"].unique()), by_seed)},
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"mean": None, "sd": None, "min": None, "max": None}
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "min": float(min(values)),
        "max": float(max(values)),
    }


def _groups(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Return what each mean runs over; empty ones are left out.

    There is none over all where a corpus stands both trained on and held out: it would count twice, and its speakers would be
    drawn, and their shares tossed, as if they were other people each time.
    """
    once = len({corpus for corpus, _ in parts}) == len(parts)
    groups = {
        "all": list(parts) if once else [],
        "trained_on": [part for part in parts if part[1] is False],
        "held_out": [part for part in parts if part[1]],
    }
    return {over: chosen for over, chosen in groups.items() if chosen}
