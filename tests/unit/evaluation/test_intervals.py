import itertools
import time

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from repkit.errors import DataError
from repkit.evaluation import intervals

CLASSES = ["a", "b", "c"]


def draw(seed, n_speakers=9, n_seeds=2, skill=0.6, n_each=12):
    rng = np.random.default_rng(seed)
    rows = []
    labels = {(s, i): CLASSES[rng.integers(0, 3)] for s in range(n_speakers) for i in range(n_each)}
    for k in range(n_seeds):
        for s in range(n_speakers):
            level = np.clip(skill + rng.normal(0, 0.15), 0, 1)
            for i in range(n_each):
                right = rng.random() < level
                rows.append((k, f"s{s}", labels[s, i], labels[s, i] if right else CLASSES[rng.integers(0, 3)]))
    return rows


def counts(rows, **more):
    return intervals.count_by_speaker(*zip(*rows), CLASSES, **more)


def brute_force(rows, weights):
    """UAR of every resample by writing the rows out and asking scikit-learn."""
    speakers = sorted({row[1] for row in rows})
    values = []
    for drawn in weights.astype(int):
        per_seed = []
        for k in sorted({row[0] for row in rows}):
            of = {s: [row for row in rows if row[0] == k and row[1] == s] for s in speakers}
            written = [row for s, times in zip(speakers, drawn) for row in of[s] * times]
            per_seed.append(balanced_accuracy_score([r[2] for r in written], [r[3] for r in written]))
        values.append(np.mean(per_seed))
    return np.array(values)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_bootstrap_is_what_a_plain_loop_gives():
    rows = draw(0)
    weights = intervals.resample_speakers(9, 60, seed=5)
    by_hand = brute_force(rows, weights)
    ours = intervals.bootstrap(counts(rows), n_resamples=60, seed=5)
    assert ours.value == pytest.approx(brute_force(rows, np.ones((1, 9)))[0])
    assert (ours.low, ours.high) == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])))
    assert ours.note == ""


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_paired_bootstrap_is_what_a_plain_loop_gives():
    first, second = draw(1, skill=0.7), draw(1, skill=0.4)
    weights = intervals.resample_speakers(9, 60, seed=2)
    by_hand = brute_force(first, weights) - brute_force(second, weights)
    ours = intervals.bootstrap_difference(counts(first), counts(second), n_resamples=60, seed=2)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])))
    assert ours.value == pytest.approx(intervals.score(counts(first)) - intervals.score(counts(second)))


def test_weights_draw_as_many_speakers_as_there_are():
    weights = intervals.resample_speakers(7, 500, 0)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean() == pytest.approx(1)
    assert weights.var() == pytest.approx(6 / 7, rel=0.1)  # binomial(7, 1/7)


def test_a_class_no_drawn_speaker_has_is_left_out():
    # only s0 has class b; without s0 the UAR is the recall of a alone: 1
    rows = [(0, "s0", "a", "a"), (0, "s0", "b", "a"), (0, "s1", "a", "a"), (0, "s1", "a", "a")]
    drawn = intervals._scores(counts(rows), np.array([[0.0, 2.0], [1.0, 1.0]]), "uar")
    assert drawn.tolist() == [1.0, 0.5]


def test_wa():
    rows = [(0, "s0", "a", "a"), (0, "s0", "b", "a"), (0, "s1", "a", "a"), (0, "s1", "a", "a")]
    assert intervals.score(counts(rows), "wa") == 0.75


def test_same_condition_differs_by_nothing():
    one = counts(draw(3))
    same = intervals.bootstrap_difference(one, one)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert intervals.sign_flip_test(intervals.speaker_differences(one, one)) == 1.0


def test_pairing_narrows_the_interval():
    rows = draw(4, n_speakers=12, n_seeds=1)
    # the second is the first with one answer in eight spoilt: what speakers share must cancel
    worse = [(k, s, y, "a" if n % 8 == 0 else p) for n, (k, s, y, p) in enumerate(rows)]
    paired = intervals.bootstrap_difference(counts(rows), counts(worse))
    alone = intervals.bootstrap(counts(rows))
    assert paired.high - paired.low < 0.7 * (alone.high - alone.low)


def test_clustering_widens_the_interval_against_utterances():
    # speakers are all right or all wrong: 100 utterances hold no more than 10 speakers do
    rows = [(0, f"s{s}", "a", "a" if s < 5 else "b") for s in range(10) for _ in range(10)]
    one = intervals.bootstrap(intervals.count_by_speaker(*zip(*rows), CLASSES))
    assert one.high - one.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 10), abs=0.1)  # not / 100


def test_coverage_of_the_interval():
    """Of many worlds with known truth about 95 % of the intervals hold it (two classes, 20 speakers)."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        level = np.clip(0.65 + rng.normal(0, 0.1, 20), 0, 1)
        hits = rng.binomial(15, level[:, None], size=(20, 2)).astype(float)[None]
        made = intervals.SpeakerCounts(tuple(map(str, range(20))), hits, np.full((1, 20, 2), 15.0))
        one = intervals.bootstrap(made, n_resamples=400)
        inside += one.low <= 0.65 <= one.high
    assert 0.88 <= inside / 200 <= 0.98


def test_shares_add_up_to_the_difference():
    first, second = counts(draw(1, skill=0.7)), counts(draw(1, skill=0.4))
    difference = intervals.score(first) - intervals.score(second)
    assert intervals.speaker_differences(first, second).sum() == pytest.approx(difference)


def test_sign_flips():
    assert intervals.sign_flip_test([1, 1, 1, 1, 1]) == pytest.approx(2 / 32)
    assert intervals.sign_flip_test([1, 1, 1, 1, 1, 1]) == pytest.approx(2 / 64)
    values = [0.3, -0.1, 0.25, 0.4, -0.05]
    count = [abs(np.dot(signs, values)) >= abs(sum(values)) - 1e-12 for signs in itertools.product((1, -1), repeat=5)]
    assert intervals.sign_flip_test(values) == pytest.approx(np.mean(count))
    assert intervals.sign_flip_test([]) == 1.0
    rng = np.random.default_rng(1)
    long = rng.normal(0.12, 0.3, 24)
    normal = 2 * (1 - _phi(abs(long.sum()) / np.sqrt((long**2).sum())))
    assert intervals.sign_flip_test(long) == pytest.approx(normal, abs=0.02)


def _phi(x):
    from math import erf

    return 0.5 * (1 + erf(x / 2**0.5))


def test_wilcoxon_and_holm():
    assert intervals.wilcoxon_test([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert intervals.wilcoxon_test([0.0, 0.0]) == 1.0
    assert intervals.wilcoxon_test([0.1]) is None
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]
    assert intervals.holm([]) == []


def test_few_speakers_are_told():
    few = intervals.bootstrap(counts(draw(0, n_speakers=4)))
    assert "optimistic: 4 speakers" in few.note
    one = intervals.bootstrap(counts(draw(0, n_speakers=1)))
    assert (one.low, one.high) == (None, None)
    assert one.note.startswith("no interval")


def test_only_the_same_utterances_can_be_paired():
    with pytest.raises(DataError, match="same utterances"):
        intervals.bootstrap_difference(counts(draw(0)), counts(draw(1)))
    with pytest.raises(DataError, match="at least one row"):
        intervals.count_by_speaker([], [], [], [], CLASSES)


def test_speed():
    made = counts(draw(0, n_speakers=91, n_seeds=10, n_each=20))
    start = time.perf_counter()
    intervals.bootstrap_difference(made, made, n_resamples=2000)
    assert time.perf_counter() - start < 1.0


def test_corpora_are_drawn_apart_in_a_mean():
    # two corpora of the same counts: drawn alike the mean would spread as one does, drawn apart less by sqrt 2
    made = counts(draw(0, n_speakers=16))
    one, two = intervals.bootstrap(made), intervals.bootstrap_mean([made, made])
    assert two.value == pytest.approx(one.value)
    assert (two.high - two.low) / (one.high - one.low) == pytest.approx(2**-0.5, abs=0.06)
    assert two.n_speakers == 32
    assert two.note == ""


def test_a_mean_difference_pairs_within_corpora():
    first = [counts(draw(seed, skill=0.7)) for seed in (1, 2)]
    second = [counts(draw(seed, skill=0.4)) for seed in (1, 2)]
    found = intervals.bootstrap_mean_difference(list(zip(first, second)), n_resamples=40)
    by_hand = []
    for k, (one, other) in enumerate(zip(first, second)):
        weights = intervals.resample_speakers(9, 40, (0, k))
        by_hand.append(intervals._scores(one, weights, "uar") - intervals._scores(other, weights, "uar"))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(np.mean(by_hand, axis=0), [2.5, 97.5])))
    assert found.value == pytest.approx(
        np.mean([intervals.score(a) - intervals.score(b) for a, b in zip(first, second)])
    )
    with pytest.raises(DataError, match="same utterances"):
        intervals.bootstrap_mean_difference([(first[0], first[1])])


def test_lone_speakers_are_told_of_in_a_mean():
    many, lone = counts(draw(0)), counts(draw(0, n_speakers=1))
    mixed = intervals.bootstrap_mean([many, lone], n_resamples=50)
    assert "1 of 2 corpora have fewer than 8 speakers, 1 of them one" in mixed.note
    none = intervals.bootstrap_mean([lone, lone], n_resamples=50)
    assert (none.low, none.high) == (None, None)
