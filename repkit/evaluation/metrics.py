"""Scores of one list of predictions; closed to plugins, so that every table means the same.

Rows of a confusion matrix are the reference, columns the prediction. Means over classes run over the classes that occur
in the reference (gerczuk2021 sheet, trap 10), as scikit-learn's ``balanced_accuracy_score`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repkit.errors import DataError, did_you_mean


def confusion_matrix(labels: Sequence[str], predictions: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Count references (rows) against predictions (columns).

    Args:
        labels: N reference classes.
        predictions: N predicted classes.
        classes: C classes in the order of rows and columns.

    Returns:
        (C, C) int64.

    Raises:
        DataError: lengths differ, nothing to count, or a class that is not in `classes`.
    """
    if len(labels) != len(predictions):
        raise DataError(
            f"scores: {len(labels)} labels and {len(predictions)} predictions; expected as many of one as of the "
            "other; join them by utterance id"
        )
    if len(labels) == 0:
        raise DataError("scores: no prediction; expected at least one; check the test part and its labels")
    index = {name: place for place, name in enumerate(classes)}
    for kind, values in (("label", labels), ("prediction", predictions)):
        strange = sorted({str(value) for value in values} - set(index))
        if strange:
            raise DataError(
                f"scores: {kind} {strange[0]!r}; expected one of {', '.join(classes)}"
                f"{did_you_mean(strange[0], index)}; score with the classes of the run"
            )
    flat = np.array([index[label] for label in labels]) * len(classes) + [index[name] for name in predictions]
    return np.bincount(flat, minlength=len(classes) ** 2).reshape(len(classes), len(classes)).astype(np.int64)


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Return each class' recall (..., C) from confusion matrices (..., C, C); NaN for a class without reference."""
    confusion = np.asarray(confusion, dtype=np.float64)
    totals = confusion.sum(axis=-1)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(hits, totals, out=np.full(totals.shape, np.nan), where=totals > 0)


def uar_of(confusion: np.ndarray) -> np.ndarray:
    """Return UAR (...) from confusion matrices (..., C, C): the mean recall over the classes in the reference."""
    confusion = np.asarray(confusion)
    present = confusion.sum(axis=-1) > 0
    return np.nan_to_num(recalls(confusion)).sum(axis=-1) / present.sum(axis=-1)


def wa_of(confusion: np.ndarray) -> np.ndarray:
    """Return WA, the share of right predictions, (...) from confusion matrices (..., C, C)."""
    confusion = np.asarray(confusion, dtype=np.float64)
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def macro_f1_of(confusion: np.ndarray) -> np.ndarray:
    """Return the mean F1 (...) over the classes in the reference from confusion matrices (..., C, C)."""
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    totals, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = np.divide(2 * hits, totals + predicted, out=np.zeros(totals.shape), where=totals > 0)
    return f1.sum(axis=-1) / (totals > 0).sum(axis=-1)


def uar(labels: Sequence[str], predictions: Sequence[str]) -> float:
    """Return the unweighted average recall, 0 to 1, over the classes in the reference.

    Raises:
        DataError: lengths differ or there is nothing to score.
    """
    return float(uar_of(confusion_matrix(labels, predictions, _classes(labels, predictions))))


def wa(labels: Sequence[str], predictions: Sequence[str]) -> float:
    """Return the weighted accuracy, 0 to 1: the share of right predictions.

    Raises:
        DataError: lengths differ or there is nothing to score.
    """
    return float(wa_of(confusion_matrix(labels, predictions, _classes(labels, predictions))))


def macro_f1(labels: Sequence[str], predictions: Sequence[str]) -> float:
    """Return the mean F1, 0 to 1, over the classes in the reference.

    Raises:
        DataError: lengths differ or there is nothing to score.
    """
    return float(macro_f1_of(confusion_matrix(labels, predictions, _classes(labels, predictions))))


def ccc(reference: Sequence[float], prediction: Sequence[float]) -> float:
    """Return Lin's concordance correlation coefficient, -1 to 1 (population variances).

    Source: Lin 1989, 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2).

    Raises:
        DataError: lengths differ, fewer than two values, or values that are not finite.
    """
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size < 2 or not np.isfinite([x, y]).all():
        raise DataError(
            f"ccc: shapes {x.shape} and {y.shape}; expected two equally long lists of at least 2 finite numbers; "
            "leave missing values out of both"
        )
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    # two equal constants agree perfectly although no variance tells so
    return 1.0 if spread == 0 else float(2 * ((x - x.mean()) * (y - y.mean())).mean() / spread)


def _classes(labels: Sequence[str], predictions: Sequence[str]) -> list[str]:
    return sorted({str(name) for name in labels} | {str(name) for name in predictions})
