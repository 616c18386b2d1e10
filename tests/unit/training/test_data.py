"""Batches cut out of shared memory."""

import torch

from repkit.training.data import (
    FoldData,
    RaggedTensor,
    Standardisation,
    TrainingData,
    sequential_batches,
    shuffled_batches,
)


def make(lengths=(2, 4, 1)):
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    values = torch.arange(offsets[-1] * 2, dtype=torch.float32).view(-1, 2)
    n = len(lengths)
    return TrainingData(
        ids=[f"c/{i}" for i in range(n)],
        frames=RaggedTensor(values, offsets),
        targets={"emotion": torch.arange(n)},
        vectors=torch.arange(n, dtype=torch.float32)[:, None],
    )


def test_a_batch_holds_each_utterance_and_zeros():
    batch = FoldData(make()).batch(torch.tensor([2, 0]))
    assert batch.ids == ["c/2", "c/0"]
    assert batch.lengths.tolist() == [1, 2]
    assert batch.frames.tolist() == [[[12, 13], [0, 0]], [[0, 1], [2, 3]]]
    assert batch.targets["emotion"].tolist() == [2, 0]
    assert batch.vectors.tolist() == [[2], [0]]
    assert batch.mask.tolist() == [[True, False], [True, True]]


def test_standardisation_by_group_leaves_padding_at_zero():
    groups = Standardisation(
        mean=torch.tensor([[0.0, 1.0], [12.0, 12.0]]),
        scale=torch.tensor([[1.0, 1.0], [2.0, 10.0]]),
        group=torch.tensor([0, 0, 1]),
    )
    batch = FoldData(make(), standardise_frames=groups).batch(torch.tensor([2, 0]))
    assert batch.frames.tolist() == [[[0, 10], [0, 0]], [[0, 0], [2, 2]]]


def test_shuffled_batches_cover_all_once_and_depend_on_seed_and_epoch_only():
    indices = torch.arange(10, 33)
    one = shuffled_batches(indices, 4, seed=1, epoch=1)
    torch.rand(100)  # the global generator has no say
    again = shuffled_batches(indices, 4, seed=1, epoch=1)
    assert [b.tolist() for b in one] == [b.tolist() for b in again]
    assert sorted(torch.cat(one).tolist()) == indices.tolist()
    assert torch.cat(one).tolist() != torch.cat(shuffled_batches(indices, 4, seed=1, epoch=2)).tolist()
    assert torch.cat(one).tolist() != torch.cat(shuffled_batches(indices, 4, seed=2, epoch=1)).tolist()


def test_sequential_batches_go_by_length_and_cover_all_once():
    batches = list(sequential_batches(make((5, 1, 9, 2)), torch.tensor([0, 1, 2, 3]), 2))
    assert [b.tolist() for b in batches] == [[1, 3], [0, 2]]
