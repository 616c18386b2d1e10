"""Samplers: what they draw, from what, and that seed and epoch alone decide."""

import pytest
import torch

from repkit.training.batches import (
    Pool,
    UnlabelledStream,
    epoch_batches,
    n_batches,
    rarest_class_items,
    round_robin_batches,
)

SIZES = {0: 90, 1: 9, 2: 1}


def pool(route=None, view=None):
    group = torch.cat([torch.full((n,), g) for g, n in SIZES.items()])
    return Pool(torch.arange(100) + 1000, group, route, view)


@pytest.mark.parametrize("sampler", ["class_balanced", "corpus_balanced"])
def test_balanced_sampling_draws_each_group_as_often(sampler):
    drawn = torch.cat([batch for batch, _ in epoch_batches([pool()], sampler, 50, 60, seed=1, epoch=1)]) - 1000
    shares = torch.bincount(pool().group[drawn], minlength=3) / len(drawn)
    assert len(drawn) == 3000
    assert shares == pytest.approx(torch.full((3,), 1 / 3), abs=0.03)  # sd of a share: 0.0086


def test_round_robin_gives_batches_of_one_group_in_turn_and_small_groups_again():
    batches = round_robin_batches(pool(), 10, 3, seed=1, epoch=1)
    groups = [set(pool().group[b - 1000].tolist()) for b in batches]
    assert groups == [{0}, {1}, {2}] * 3
    assert [len(b) for b in batches] == [10, 9, 1] * 3  # 9 and 1 items: reshuffled in every round
    assert len(torch.cat(batches[::3]).unique()) == 30, "a large group hands out new items before any again"


def test_round_robin_takes_about_one_pass_by_default():
    assert (
        n_batches([pool()], "round_robin", 10, None)
        == 12
        == len(epoch_batches([pool()], "round_robin", 10, None, 0, 1))
    )


@pytest.mark.parametrize("sampler", ["shuffle", "class_balanced", "round_robin"])
@pytest.mark.parametrize("steps", [None, 7])
def test_the_number_of_batches_is_foretold(sampler, steps):
    pools = [pool("arousal", "arousal"), pool("valence", "valence")]
    batches = epoch_batches(pools, sampler, 8, steps, seed=3, epoch=2)
    assert len(batches) == n_batches(pools, sampler, 8, steps)
    assert [p.route for _, p in batches[:4]] == ["arousal", "valence"] * 2, "pools alternate"


def test_seed_and_epoch_alone_decide():
    def items(seed, epoch):
        return torch.cat([b for b, _ in epoch_batches([pool()], "class_balanced", 8, 5, seed, epoch)]).tolist()

    assert items(1, 1) == items(1, 1)
    assert items(1, 1) != items(2, 1)
    assert items(1, 1) != items(1, 2)


def test_unlabelled_audio_comes_in_whole_rounds():
    stream = UnlabelledStream(torch.arange(5), seed=0, epoch=1)
    taken = torch.cat([stream.take(3) for _ in range(5)])
    assert torch.bincount(taken).tolist() == [3] * 5
    assert sorted(taken[:5].tolist()) == list(range(5))


def test_every_class_is_drawn_down_to_the_rarest_of_its_corpus():
    corpora = torch.tensor([0] * 10 + [1] * 10)
    target = torch.tensor([0] * 7 + [1] * 3 + [0] * 2 + [1] * 4 + [2] * 3 + [-100])
    drawn = rarest_class_items(torch.arange(20), target, corpora, seed=0)
    counts = {(c, t): int(((corpora[drawn] == c) & (target[drawn] == t)).sum()) for c in (0, 1) for t in (0, 1, 2)}
    assert counts == {(0, 0): 3, (0, 1): 3, (0, 2): 0, (1, 0): 2, (1, 1): 2, (1, 2): 2}
    assert -100 not in target[drawn]


def test_length_sorted_batches_keep_their_members_and_change_their_order():
    lengths = torch.tensor([5, 1, 4, 1, 3, 9, 2])
    some = Pool(torch.arange(7) + 10, lengths)
    epochs = [[b.tolist() for b, _ in epoch_batches([some], "length_sorted", 3, None, 0, e)] for e in range(1, 9)]
    # sorted by length, equal ones as they came: 1 1 2 | 3 4 5 | 9
    assert sorted(epochs[0]) == [[11, 13, 16], [14, 12, 10], [15]]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) > 3
    assert n_batches([some], "length_sorted", 3, None) == 3
    assert len(epoch_batches([some], "length_sorted", 3, 2, 0, 1)) == n_batches([some], "length_sorted", 3, 2) == 2


def test_length_binned_batches_hold_neighbours_that_change():
    lengths = torch.arange(100, 400)  # in order of length, as if classes followed one another
    some = Pool(torch.arange(300), lengths)
    epochs = [[b.tolist() for b, _ in epoch_batches([some], "length_binned", 30, None, 0, e)] for e in (1, 2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [30] * 10
        assert sorted(item for batch in batches for item in batch) == list(range(300))
        # sorted by up to a tenth more or less: lengths of a batch differ by little more than a fifth, not by a factor of 4
        assert max(lengths[batch].max() / lengths[batch].min() for batch in batches) < 1.6
    members = [{frozenset(batch) for batch in batches} for batches in epochs]
    assert not members[0] & members[1]
    assert n_batches([some], "length_binned", 30, None) == 10
    again = [b.tolist() for b, _ in epoch_batches([some], "length_binned", 30, None, 0, 1)]
    assert again == epochs[0]
