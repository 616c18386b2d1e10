"""Whether one condition beats another on the same utterances, said so that nobody reads more into it than is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repkit.evaluation.intervals import (
    bootstrap_difference,
    count_by_speaker,
    holm,
    sign_flip_test,
    speaker_differences,
    wilcoxon_test,
)

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.01
"""A gain below one point of UAR is taken as none. Source: own design."""
LEVEL = 0.05
FEWEST_SPEAKERS = 6
"""With fewer no sign-flip p below 0.05 exists, so that nothing is concluded."""
_KEYS = ["seed", "fold", "id"]


def verdict(low: float | None, high: float | None, p: float, n_speakers: int) -> str:
    """Return what an interval of a difference allows to say. Source: own design.

    ``"helps"``: the whole interval is above zero and the sign-flip p is below 0.05 (with fewer than six
    speakers it cannot be). ``"hurts"``: the same below zero. ``"does not help"``: any gain is smaller than one point.
    ``"cannot tell"``: all else.
    """
    if low is None or high is None:
        return "cannot tell"
    if low > 0 and p < LEVEL:
        return "helps"
    if high < 0 and p < LEVEL:
        return "hurts"
    # from fewer speakers than can ever show a gain its absence does not follow either
    return "does not help" if high < MARGIN and n_speakers >= FEWEST_SPEAKERS else "cannot tell"


def differences(
    parts: Mapping[str, pd.DataFrame], roles: Mapping[str, str], classes: Sequence[str], n_resamples: int
) -> list[dict[str, Any]]:
    """Compare conditions on what both have predicted.

    Args:
        parts: rows of each condition: seed, fold, id, speaker, label, prediction.
        roles: ``"baseline"``, ``"control"`` or ``"vector"`` of each condition.
        classes: C classes.
        n_resamples: of the bootstrap.

    Returns:
        one dict per pair: every vector condition against the baseline and against each control, every control against
        the baseline. Holm's adjustment runs over all pairs of the list.
    """
    baselines = [name for name in parts if roles[name] == "baseline"]
    controls = [name for name in parts if roles[name] == "control"]
    vectors = [name for name in parts if roles[name] == "vector"]
    pairs = [(one, other) for one in vectors for other in (*baselines, *controls)]
    pairs += [(one, other) for one in controls for other in baselines]
    found = [
        {
            "condition": one,
            "against": other,
            "role": roles[other],
            **compare(parts[one], parts[other], classes, n_resamples),
        }
        for one, other in pairs
    ]
    compared = [pair for pair in found if pair["p_sign_flip"] is not None]
    for pair, adjusted in zip(compared, holm([pair["p_sign_flip"] for pair in compared])):
        pair["p_holm"] = adjusted
    return found


def compare(first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str], n_resamples: int) -> dict[str, Any]:
    """Return the difference in pooled UAR, first minus second, over the seeds, folds and utterances both have."""
    both = first.merge(second[[*_KEYS, "prediction"]], on=_KEYS, suffixes=("", "_second"), validate="one_to_one")
    if both.empty:
        return {
            "difference": None, "low": None, "high": None,
            "p_sign_flip": None, "p_holm": None, "p_wilcoxon_folds": None,
            "n_utterances": 0, "n_speakers": 0, "n_seeds": 0, "n_folds": 0, "note": "nothing that both have predicted",
            "verdict": "cannot tell",
        }  # fmt: skip
    one, other = (
        count_by_speaker(*(both[c].tolist() for c in ("seed", "speaker", "label", column)), classes)
        for column in ("prediction", "prediction_second")
    )
    interval = bootstrap_difference(one, other, n_resamples=n_resamples)
    p = sign_flip_test(speaker_differences(one, other))
    folds = _fold_differences(both, classes)
    return {
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "p_sign_flip": p,
        "p_holm": p,
        "p_wilcoxon_folds": wilcoxon_test(list(folds.values())),
        "n_utterances": int(both["id"].nunique()),
        "n_speakers": interval.n_speakers,
        "n_seeds": int(both["seed"].nunique()),
        "n_folds": len(folds),
        "by_fold": folds,
        "note": interval.note,
        "verdict": verdict(interval.low, interval.high, p, interval.n_speakers),
    }


def _fold_differences(both: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """Return per fold the difference in UAR, the mean over seeds."""
    per_fold = []
    for column in ("prediction", "prediction_second"):
        counts = count_by_speaker(*(both[c].tolist() for c in ("seed", "fold", "label", column)), classes)
        present = counts.totals > 0
        recalls = np.divide(counts.hits, counts.totals, out=np.zeros_like(counts.hits), where=present)
        # a fold that a seed has not finished stays NaN and is left out of the fold's mean
        n_classes = present.sum(axis=-1)
        per_fold.append(recalls.sum(axis=-1) / np.where(n_classes > 0, n_classes, np.nan))
    means = np.nanmean(per_fold[0] - per_fold[1], axis=0)
    return {fold: float(value) for fold, value in zip(counts.speakers, means)}
