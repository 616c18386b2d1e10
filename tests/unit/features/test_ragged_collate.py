import numpy as np
import pytest

from repkit.errors import DataError
from repkit.features.collate import length_batches
from repkit.features.ragged import Ragged


@pytest.fixture
def ragged():
    arrays = [np.full((n, 2), n, np.float32) for n in (3, 1, 4, 2)]
    return Ragged.from_arrays(arrays, ["a", "b", "c", "d"])


def test_ragged(ragged):
    assert ragged.lengths.tolist() == [3, 1, 4, 2]
    assert ragged.offsets.tolist() == [0, 3, 4, 8, 10]
    assert ragged.dim == 2
    assert len(ragged) == 4
    assert "c" in ragged
    assert "x" not in ragged
    np.testing.assert_array_equal(ragged["c"], np.full((4, 2), 4))
    assert ragged["c"].base is not None  # a view
    taken = ragged.take(["d", "a"])
    assert taken.ids == ("d", "a")
    np.testing.assert_array_equal(taken.values[:, 0], [2, 2, 3, 3, 3])
    assert ragged.take([]).values.shape == (0, 2)
    vectors = Ragged.from_vectors(np.arange(6.0).reshape(3, 2), ["a", "b", "c"])
    np.testing.assert_array_equal(vectors["b"], [[2.0, 3.0]])


def test_ragged_refuses(ragged):
    with pytest.raises(DataError, match="'x'"):
        ragged["x"]
    with pytest.raises(DataError, match="'x'"):
        ragged.take(["a", "x"])
    with pytest.raises(DataError, match="no id twice"):
        ragged.take(["a", "a"])
    for offsets in ([0, 3, 4, 8, 9], [1, 3, 4, 8, 10], [0, 4, 3, 8, 10], [0, 3, 10]):
        with pytest.raises(DataError, match="expected"):
            Ragged(ragged.values, np.array(offsets), ragged.ids)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 1000, 1003])
@pytest.mark.parametrize("pool_batches", [1, 3, 100])
def test_every_index_once(n, pool_batches):
    lengths = np.random.default_rng(0).integers(1, 500, n)
    batches = length_batches(lengths, 8, seed=3, epoch=2, pool_batches=pool_batches)
    assert sorted(np.concatenate([*batches, []]).astype(int)) == list(range(n))
    assert sorted(map(len, batches), reverse=True)[: n // 8] == [8] * (n // 8)
    assert len(batches) == -(-n // 8)


def test_batches_depend_on_seed_and_epoch_only():
    lengths = np.random.default_rng(0).integers(1, 500, 200)

    def draw(seed, epoch):
        return [batch.tolist() for batch in length_batches(lengths, 8, seed, epoch)]

    assert draw(1, 2) == draw(1, 2)
    draws = [str(draw(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(draws)) == 9


def test_buckets_save_padding_and_are_mixed():
    lengths = np.random.default_rng(0).integers(10, 500, 6400)
    batches = length_batches(lengths, 32, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded / lengths.sum() < 1.02
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3
    random = length_batches(lengths, 32, seed=0, epoch=0, pool_batches=1)
    assert sum(len(batch) * lengths[batch].max() for batch in random) / lengths.sum() > 1.5


def test_batches_refuse():
    for size, pool in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            length_batches([1, 2], size, 0, 0, pool)
