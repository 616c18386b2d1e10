"""Whether one condition beats another on the same utterances, said so that nobody reads more into it than is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repkit.evaluation.intervals import (
    Interval,
    SpeakerCounts,
    bootstrap_difference,
    count_by_speaker,
    holm,
    sign_flip_test,
    speaker_differences,
    widened,
    wilcoxon_test,
)

if TYPE_CHECKING:
    import pandas as pd

    from repkit.evaluation.run_files import ConditionInfo

MARGIN = 0.01
"""A gain below one point of UAR is taken as none. Source: own design."""
LEVEL = 0.05
FEWEST_SPEAKERS = 6
"""With fewer no sign-flip p below 0.05 exists, so that nothing is concluded; where a mean shall show no gain, of each corpus."""
_KEYS = ["seed", "fold", "id"]


def verdict(interval: Interval, p: float, sizes: Sequence[int]) -> str:
    """Return what the interval of a difference allows to say. Source: own design.

    ``"helps"``: the whole interval is above zero and the sign-flip p is below 0.05 (with fewer than six
    speakers it cannot be). ``"hurts"``: the same below zero. ``"does not help"``: any gain is smaller than one point: the
    interval ends below it after it was widened for the number of speakers, and each corpus has at least six.
    ``"cannot tell"``: all else.

    Args:
        interval: as the bootstrap gives it.
        p: two-sided, of the sign-flip test.
        sizes: speakers of each corpus that the difference is a mean over, or of all of them together.
    """
    if interval.low is None or interval.high is None:
        return "cannot tell"
    if interval.low > 0 and p < LEVEL:
        return "helps"
    if interval.high < 0 and p < LEVEL:
        return "hurts"
    # from fewer speakers than can ever show a gain its absence does not follow either
    if min(sizes) < FEWEST_SPEAKERS:
        return "cannot tell"
    # no test stands beside the interval here, and over few speakers that of the bootstrap is too narrow
    high = widened(interval, sizes).high
    return "does not help" if high is not None and high < MARGIN else "cannot tell"


def pairs_of(infos: Mapping[str, ConditionInfo]) -> list[tuple[str, str, str]]:
    """Return which condition is compared with which, and what the second is to the first.

    Every condition with the reference (``"baseline"``); one with an embedding and settings of its own also with the
    same settings without embedding (``"own_baseline"``); a vector with each control of the same settings that stands in for
    it (``"control"``): [functionals + trained] with [functionals + untrained], not with [untrained] alone, for what it gains
    over that may be the functionals'.
    """
    reference = [name for name, info in infos.items() if info.role == "baseline"]
    order = [name for role in ("vector", "system", "control") for name, info in infos.items() if info.role == role]
    pairs = []
    for name in order:
        info = infos[name]
        pairs += [(name, other, "baseline") for other in reference]
        if info.twin in infos and info.twin not in (*reference, name):
            pairs.append((name, str(info.twin), "own_baseline"))
        if info.role == "vector":
            controls = (o for o in infos.values() if o.role == "control" and o.variant == info.variant)
            pairs += [(name, other.name, "control") for other in controls if _stands_in(other, info)]
    return pairs


def _stands_in(control: ConditionInfo, vector: ConditionInfo) -> bool:
    """Tell whether a control is a vector with one embedding replaced, so that the others cannot make the difference.

    Of several that are joined all may be replaced, each by the control that is named after it. Source: own design.
    """
    if not control.folders or not vector.folders:
        return True  # the run does not tell what they read
    lost, put = set(vector.folders) - set(control.folders), set(control.folders) - set(vector.folders)
    if len(lost) != len(put):
        return False
    names = [Path(folder).name for folder in put]
    own = [rf"(untrained|statistics)-(seed\d+-)?((paper|torch)-)?{re.escape(Path(folder).name)}" for folder in lost]
    return len(lost) == 1 or (bool(lost) and all(any(re.fullmatch(one, name) for name in names) for one in own))


def differences(
    parts: Mapping[str, pd.DataFrame], infos: Mapping[str, ConditionInfo], classes: Sequence[str], n_resamples: int
) -> list[dict[str, Any]]:
    """Compare conditions on what both have predicted; see `pairs_of`.

    Args:
        parts: rows of each condition: seed, fold, id, speaker, label, prediction.
        infos: what each condition is.
        classes: C classes.
        n_resamples: of the bootstrap.

    Returns:
        one dict per pair. Holm's adjustment runs over all pairs of the list.
    """
    found = [
        {"condition": one, "against": other, "role": role, **compare(parts[one], parts[other], classes, n_resamples)}
        for one, other, role in pairs_of({name: infos[name] for name in parts})
    ]
    adjust(found)
    return found


def adjust(found: Sequence[dict[str, Any]]) -> None:
    """Set ``p_holm`` of each comparison: Holm's adjustment for having looked at all of them."""
    compared = [pair for pair in found if pair["p_sign_flip"] is not None]
    for pair, adjusted in zip(compared, holm([pair["p_sign_flip"] for pair in compared])):
        pair["p_holm"] = adjusted


NOTHING: Mapping[str, Any] = {
    "difference": None, "low": None, "high": None, "p_sign_flip": None, "p_holm": None,
    "n_utterances": 0, "n_speakers": 0, "n_seeds": 0, "n_folds": 0, "note": "nothing that both have predicted",
    "verdict": "cannot tell",
}  # fmt: skip
"""A comparison of two conditions that share no prediction."""


def paired(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the rows both have by seed, fold and id, the second's prediction as ``prediction_second``."""
    return first.merge(second[[*_KEYS, "prediction"]], on=_KEYS, suffixes=("", "_second"), validate="one_to_one")


def paired_counts(both: pd.DataFrame, classes: Sequence[str]) -> tuple[SpeakerCounts, SpeakerCounts]:
    """Return counts of both conditions of `paired` rows."""
    one, other = (
        count_by_speaker(*(both[c].tolist() for c in ("seed", "speaker", "label", column)), classes)
        for column in ("prediction", "prediction_second")
    )
    return one, other


def compare(first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str], n_resamples: int) -> dict[str, Any]:
    """Return the difference in pooled UAR, first minus second, over the seeds, folds and utterances both have."""
    both = paired(first, second)
    if both.empty:
        return {**NOTHING, "p_wilcoxon_folds": None}
    one, other = paired_counts(both, classes)
    interval = bootstrap_difference(one, other, n_resamples=n_resamples)
    p = sign_flip_test(speaker_differences(one, other))
    folds = _fold_differences(both, classes)
    return {
        **judged(interval, p, both, [interval.n_speakers]),
        "p_wilcoxon_folds": wilcoxon_test(list(folds.values())),
        "by_fold": folds,
    }


def judged(interval: Interval, p: float, both: pd.DataFrame, sizes: Sequence[int]) -> dict[str, Any]:
    """Return a comparison of `paired` rows as JSON values with its verdict (`verdict`); p_holm is p until `adjust`."""
    return {
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "p_sign_flip": p,
        "p_holm": p,
        "n_utterances": int(both["id"].nunique()),
        "n_speakers": interval.n_speakers,
        "n_seeds": int(both["seed"].nunique()),
        "n_folds": int(both["fold"].nunique()),
        "note": interval.note,
        "verdict": verdict(interval, p, sizes),
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
