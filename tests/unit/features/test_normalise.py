import numpy as np
import pytest

from repkit.api import Utterance
from repkit.errors import DataError, UsageError
from repkit.features.normalise import MODES, fit_normaliser
from repkit.features.ragged import Ragged

A = np.array([[1.0, 10.0], [3.0, 10.0]], np.float32)
B = np.array([[5.0, 30.0]], np.float32)
C = np.array([[7.0, 50.0], [9.0, 70.0], [11.0, 90.0]], np.float32)


@pytest.fixture
def frames():
    return Ragged.from_arrays([A, B, C], ["c/a", "c/b", "d/c"])


@pytest.fixture
def utterances():
    return [
        Utterance(id="c/a", corpus="c", speaker="c/1"),
        Utterance(id="c/b", corpus="c", speaker="c/2"),
        Utterance(id="d/c", corpus="d", speaker=None),
    ]


def test_none(frames, utterances):
    normaliser = fit_normaliser("none", frames, utterances, ["c/a"])
    np.testing.assert_array_equal(normaliser.apply(frames).values, frames.values)
    assert not normaliser.transductive


def test_global_train_by_hand(frames, utterances):
    normaliser = fit_normaliser("global_train", frames, utterances, ["c/a", "c/b", "c/a"])
    # band 0: 1, 3, 5 -> mean 3, variance 8/3; band 1: 10, 10, 30 -> mean 50/3, variance 800/9
    deviation = np.sqrt([8 / 3, 800 / 9])
    expected = (C - np.array([3.0, 50 / 3])) / deviation
    np.testing.assert_allclose(normaliser.apply(frames, ["d/c"]).values, expected, rtol=1e-6)
    assert not normaliser.transductive
    assert normaliser.apply(frames).values.dtype == np.float32
    train = normaliser.apply(frames, ["c/b", "c/a"])
    assert train.ids == ("c/b", "c/a")
    np.testing.assert_allclose(train.values.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.values.std(0), 1, atol=1e-6)


def test_per_utterance_by_hand(frames, utterances):
    normaliser = fit_normaliser("per_utterance", frames, utterances, [])
    # band 1 of c/a is constant: it becomes 0, not noise
    np.testing.assert_allclose(normaliser.apply(frames)["c/a"], [[-1.0, 0.0], [1.0, 0.0]], atol=1e-6)
    root = np.sqrt(1.5)
    np.testing.assert_allclose(normaliser.apply(frames)["d/c"], [[-root] * 2, [0.0] * 2, [root] * 2], atol=1e-6)
    assert not normaliser.transductive


def test_per_corpus_by_hand(frames, utterances):
    normaliser = fit_normaliser("per_corpus", frames, utterances, ["c/a"])
    result = normaliser.apply(frames)
    deviation = np.sqrt([8 / 3, 800 / 9])
    np.testing.assert_allclose(result["c/b"], (B - np.array([3.0, 50 / 3])) / deviation, rtol=1e-6)
    np.testing.assert_allclose(result["d/c"][:, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)], atol=1e-6)
    assert normaliser.transductive
    assert normaliser.notes == ()


def test_per_speaker_by_hand_and_its_fall_back():
    utterances, arrays = [], []
    for i in range(7):
        speaker = {0: "c/1", 1: "c/1", 2: "c/1", 3: "c/2", 4: "c/2", 5: None, 6: "d/9"}[i]
        utterances.append(Utterance(id=f"u{i}", corpus="d" if i == 6 else "c", speaker=speaker))
        arrays.append(np.array([[float(i * i)]], np.float32).repeat(2, 0))
    frames = Ragged.from_arrays(arrays, [u.id for u in utterances])
    normaliser = fit_normaliser("per_speaker", frames, utterances, ["u0"], min_clips=3)
    result = normaliser.apply(frames)
    # speaker 1: 0, 1, 4 -> mean 5/3, variance 26/9
    np.testing.assert_allclose(result["u2"], [[(4 - 5 / 3) / np.sqrt(26 / 9)]] * 2, rtol=1e-6)
    # speaker 2 and nobody: corpus c, 0 1 4 9 16 25 -> mean 55/6, variance 979/6 - (55/6)^2
    deviation = np.sqrt(979 / 6 - (55 / 6) ** 2)
    np.testing.assert_allclose(result["u3"], [[(9 - 55 / 6) / deviation]] * 2, rtol=1e-5)
    np.testing.assert_allclose(result["u5"], [[(25 - 55 / 6) / deviation]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(result["u6"], [[0.0]] * 2)
    assert normaliser.notes == (
        "per_speaker: 2 of 3 speakers have fewer than 3 clips (c/2 2, d/9 1); their 3 utterances use the statistics "
        "of their corpus",
        "per_speaker: 1 utterances without a speaker use the statistics of their corpus",
    )
    assert normaliser.transductive
    assert normaliser.describe() == {"mode": "per_speaker", "transductive": True, "notes": list(normaliser.notes)}
    assert fit_normaliser("per_speaker", frames, utterances, [], min_clips=1).notes == normaliser.notes[1:]


def test_vectors_count_per_utterance(utterances):
    values = np.array([[1.0, 5.0], [3.0, 5.0], [100.0, 6.0]], np.float32)
    vectors = Ragged.from_vectors(values, ["c/a", "c/b", "d/c"])
    normaliser = fit_normaliser("global_train", vectors, utterances, ["c/a", "c/b"])
    np.testing.assert_allclose(normaliser.apply(vectors).values, [[-1, 0], [1, 0], [98, 1]], rtol=1e-6)
    with pytest.raises(UsageError, match="global_train"):
        fit_normaliser("per_utterance", vectors, utterances, [])


def test_statistics_keep_their_digits(utterances):
    """Deviations of 1e-3 around 1000 in 200 000 frames: naive float32 sums lose them."""
    random = np.random.default_rng(0)
    values = (1000 + 1e-3 * random.normal(size=(200_000, 1))).astype(np.float32)
    frames = Ragged.from_arrays([values], ["c/a"])
    statistics = fit_normaliser("global_train", frames, utterances, ["c/a"]).statistics("c/a")
    exact = values.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, exact.std(0), rtol=1e-6)


def test_test_utterances_never_touch_global_train(frames, utterances):
    changed = Ragged.from_arrays([A, B, C * 100], frames.ids)
    first = fit_normaliser("global_train", frames, utterances, ["c/a", "c/b"]).apply(frames, ["c/a"])
    second = fit_normaliser("global_train", changed, utterances, ["c/a", "c/b"]).apply(changed, ["c/a"])
    np.testing.assert_allclose(first.values, second.values, rtol=1e-6)


def test_refusals(frames, utterances):
    with pytest.raises(UsageError, match="did you mean 'per_speaker'"):
        fit_normaliser("per-speaker", frames, utterances, ["c/a"])
    with pytest.raises(DataError, match="no train utterance"):
        fit_normaliser("global_train", frames, utterances, [])
    with pytest.raises(DataError, match="'c/x'"):
        fit_normaliser("global_train", frames, utterances, ["c/a", "c/x"])
    with pytest.raises(DataError, match="'d/c'"):
        fit_normaliser("per_corpus", frames, utterances[:2], ["c/a"])
    with pytest.raises(UsageError, match="min_clips"):
        fit_normaliser("per_speaker", frames, utterances, ["c/a"], min_clips=0)
    normaliser = fit_normaliser("per_corpus", frames, utterances, ["c/a"])
    with pytest.raises(DataError, match="'c/new'"):
        normaliser.normalise("c/new", A)
    assert set(MODES) == {"none", "per_utterance", "global_train", "per_speaker", "per_corpus"}
