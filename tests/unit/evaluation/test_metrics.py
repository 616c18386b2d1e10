import warnings

import numpy as np
import pytest
from sklearn import metrics as theirs

from repkit.errors import DataError
from repkit.evaluation import metrics

LABELS = ["a", "a", "a", "a", "b", "b", "c", "c"]
PREDICTIONS = ["a", "a", "b", "c", "b", "a", "c", "c"]


def test_hand_numbers():
    # recalls 2/4, 1/2, 2/2; precision a 2/3, b 1/2, c 2/3; F1 a 4/7, b 1/2, c 4/5
    assert metrics.uar(LABELS, PREDICTIONS) == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    assert metrics.wa(LABELS, PREDICTIONS) == pytest.approx(5 / 8)
    assert metrics.macro_f1(LABELS, PREDICTIONS) == pytest.approx((4 / 7 + 1 / 2 + 4 / 5) / 3)
    expected = [[2, 1, 1], [1, 1, 0], [0, 0, 2]]
    assert metrics.confusion_matrix(LABELS, PREDICTIONS, ["a", "b", "c"]).tolist() == expected


def test_a_class_absent_from_the_reference_is_not_averaged():
    # 'd' is predicted but never right: it costs recall of 'a', it does not add a zero to the mean
    assert metrics.uar(["a", "a", "b", "b"], ["a", "d", "b", "b"]) == pytest.approx(0.75)
    confusion = metrics.confusion_matrix(["a", "a", "b", "b"], ["a", "d", "b", "b"], list("abcd"))
    assert metrics.uar_of(confusion) == pytest.approx(0.75)
    assert metrics.macro_f1_of(confusion) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed):
    draw = np.random.default_rng(seed)
    classes = list("abcde")
    labels = draw.choice(classes[: 5 - seed % 2], 90).tolist()
    predictions = draw.choice(classes, 90).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sklearn warns of classes that are only predicted
        assert metrics.uar(labels, predictions) == pytest.approx(theirs.balanced_accuracy_score(labels, predictions))
    assert metrics.wa(labels, predictions) == pytest.approx(theirs.accuracy_score(labels, predictions))
    f1 = theirs.f1_score(labels, predictions, labels=sorted(set(labels)), average="macro", zero_division=0)
    assert metrics.macro_f1(labels, predictions) == pytest.approx(f1)
    ours = metrics.confusion_matrix(labels, predictions, classes)
    assert np.array_equal(ours, theirs.confusion_matrix(labels, predictions, labels=classes))


def test_stacked_matrices_give_what_single_ones_do():
    stack = np.random.default_rng(0).integers(0, 9, (4, 3, 5, 5))
    stack[0, 0, 2] = 0
    for function in (metrics.uar_of, metrics.wa_of, metrics.macro_f1_of):
        assert function(stack).shape == (4, 3)
        assert function(stack)[0, 0] == pytest.approx(float(function(stack[0, 0])))


def test_ccc():
    x = [1.0, 2.0, 3.0, 4.0]
    assert metrics.ccc(x, x) == pytest.approx(1)
    assert metrics.ccc(x, x[::-1]) == pytest.approx(-1)
    # shift by 1: covariance 1.25, 2 * 1.25 / (1.25 + 1.25 + 1)
    assert metrics.ccc(x, [2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.5 / 3.5)
    assert metrics.ccc([2.0, 2.0], [2.0, 2.0]) == 1.0


def test_problems():
    with pytest.raises(DataError, match="2 labels and 1 predictions"):
        metrics.uar(["a", "b"], ["a"])
    with pytest.raises(DataError, match="no prediction"):
        metrics.wa([], [])
    with pytest.raises(DataError, match="did you mean 'anger'"):
        metrics.confusion_matrix(["angr"], ["anger"], ["anger"])
    with pytest.raises(DataError, match="finite"):
        metrics.ccc([1.0, float("nan")], [1.0, 2.0])
