import itertools
import math

import numpy as np
import pytest

from repkit.errors import DataError
from repkit.evaluation.mcnemar import JobProbabilities, _answers, mcnemar


def answers(both, only_first, only_second, neither):
    one = [True] * (both + only_first) + [False] * (only_second + neither)
    other = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return one, other


def test_hand_numbers():
    # 8 against 2 of 10: 2 (1 + 10 + 45) / 1024
    assert mcnemar(*answers(30, 8, 2, 5)) == {
        "only_first": 8, "only_second": 2, "p": pytest.approx(112 / 1024), "mark": "",
    }  # fmt: skip
    # 10 against 1 of 11: 2 (1 + 11) / 2048
    found = mcnemar(*answers(3, 10, 1, 0))
    assert (found["p"], found["mark"]) == (pytest.approx(24 / 2048), "+")
    found = mcnemar(*answers(3, 1, 10, 0))
    assert (found["p"], found["mark"]) == (pytest.approx(24 / 2048), "-")
    # 5 of 5 just misses 0.05, 6 of 6 does not
    assert mcnemar(*answers(0, 5, 0, 0))["mark"] == ""
    assert mcnemar(*answers(0, 6, 0, 0))["mark"] == "+"


def test_what_both_have_right_or_wrong_does_not_count():
    assert mcnemar(*answers(0, 9, 2, 0)) == mcnemar(*answers(500, 9, 2, 700))
    assert mcnemar(*answers(9, 0, 0, 9))["p"] == 1.0
    assert mcnemar([], [])["p"] == 1.0
    assert mcnemar(*answers(1, 4, 4, 1))["p"] == pytest.approx(1.0)


def test_against_counting_all_splits():
    for one, other in itertools.product(range(9), range(9)):
        n = one + other
        ways = [math.comb(n, k) for k in range(n + 1)]
        as_rare = sum(way for way in ways if way <= ways[one])
        assert mcnemar(*answers(0, one, other, 0))["p"] == pytest.approx(as_rare / 2**n)


def test_answers_to_other_questions_are_refused():
    with pytest.raises(DataError, match="same utterances"):
        mcnemar([True], [True, False])


def test_the_mean_probability_over_seeds_and_folds_decides():
    # 'a': two seeds say class 0 narrowly, one says class 1 firmly: votes would give 0, the mean gives 1
    def job(ids, values, labels):
        return JobProbabilities(tuple(ids), np.array(labels), np.array(values, dtype=np.float32))

    jobs = [
        (job("ab", [[0.55, 0.45], [0.9, 0.1]], [1, 0]), np.array([0, 1])),
        (job("ab", [[0.55, 0.45], [0.2, 0.8]], [1, 0]), np.array([0, 1])),
        (job("ba", [[0.3, 0.7], [0.1, 0.9]], [0, 1]), np.array([1])),
    ]
    assert _answers(jobs) == {"a": True, "b": True}
    # with the third table's 'b' the mean for b turns: (.9 + .2 + .3) / 3 < .5
    jobs[2] = (jobs[2][0], np.array([0, 1]))
    assert _answers(jobs) == {"a": True, "b": False}
