"""Batches cut out of shared memory."""

import pytest
import torch

from repkit.api import MISSING
from repkit.training.batches import shuffled_batches
from repkit.training.data import (
    FoldData,
    RaggedTensor,
    Segments,
    Standardisation,
    TrainingData,
    sequential_batches,
)


def make(lengths=(2, 4, 1)):
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    values = torch.arange(offsets[-1] * 2, dtype=torch.float32).view(-1, 2)
    n = len(lengths)
    return TrainingData(
        ids=[f"c/{i}" for i in range(n)],
        frames=RaggedTensor(values, offsets),
        targets={"emotion": torch.arange(n), "arousal": torch.arange(n) % 2},
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


def test_segments_do_not_overlap_drop_the_remainder_and_pad_what_is_short():
    segments = Segments.cut(torch.tensor([10, 3, 8]), n_frames=4, step=4.0)
    assert segments.utterance.tolist() == [0, 0, 1, 2, 2]
    assert segments.first.tolist() == [0, 4, 0, 0, 4]
    assert segments.of(torch.tensor([2, 1])).tolist() == [3, 4, 2]
    data = make((10, 3, 8))
    data.segments = segments
    batch = FoldData(data).batch(torch.tensor([1, 2]))
    assert batch.frames.shape[1] == 4
    assert batch.lengths.tolist() == [4, 3]
    assert torch.equal(batch.frames[0], data.frames.values[4:8].float())
    assert not batch.frames[1, 3].any()
    assert batch.ids == [data.ids[0], data.ids[1]]


def test_a_step_that_is_no_whole_number_of_frames_keeps_in_time():
    # 265 ms at a shift of 123 samples: 34.47 frames
    segments = Segments.cut(torch.tensor([150]), n_frames=32, step=4240 / 123)
    assert segments.first.tolist() == [0, 34, 69, 103]


@pytest.mark.parametrize("n_segments", [1, 2, 3, 10, 19, 77])
def test_a_sound_of_whole_segments_loses_none(n_segments):
    # 1 + (samples - 400) // 123 frames; 4240 samples a segment
    for missing, expected in ((0, n_segments), (200, max(1, n_segments - 1))):
        n_frames = 1 + (4240 * n_segments - missing - 400) // 123
        segments = Segments.cut(torch.tensor([n_frames]), n_frames=32, step=4240 / 123)
        assert len(segments.first) == expected
        assert int(segments.first[-1]) + 32 <= max(32, n_frames)


def test_crops_are_drawn_in_training_and_fixed_in_prediction():
    data = make((30, 8, 25))
    fold = FoldData(data)
    fixed = fold.batch(torch.tensor([0, 1, 2]), crop=10)
    assert fixed.lengths.tolist() == [10, 8, 10]
    # half of 30 is longer than 10: from the middle; half of 25 too; 8 is short
    assert torch.equal(fixed.frames[0], data.frames.values[15:25].float())
    assert torch.equal(fixed.frames[1, :8], data.frames.values[30:38].float())
    draw = torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(200):
        first = fold.batch(torch.tensor([0]), crop=10, draw=draw).frames[0, 0]
        starts.add(int((data.frames.values[:30].float() == first).all(1).nonzero()[0]))
    assert starts == set(range(21)), "every place where the crop fits, and no other"


def test_labels_of_unlabelled_audio_never_reach_a_batch():
    data = make((4, 4, 4))
    fold = FoldData(data, stripped=torch.tensor([False, True, False]))
    shown = fold.batch(torch.tensor([0, 1, 2])).targets
    for view, target in shown.items():
        assert target[1] == MISSING
        assert target[0] == data.targets[view][0]
    only = fold.batch(torch.tensor([0, 2]), views=("arousal",)).targets
    assert (only["emotion"] == MISSING).all()
