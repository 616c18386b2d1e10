"""Which items make the batches of an epoch: the samplers a recipe can name.

Everything depends on seed and epoch alone, so that a training that is resumed or moved sees the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from repkit.runs.seeding import generator


@dataclass(frozen=True, slots=True)
class Pool:
    """Items to draw from.

    Attributes:
        items: (m,) int64.
        group: (m,) int64, class, corpus or length of each, for the samplers that look at it.
        route: of the batches made from it.
        view: whose targets they show, or None for all.
    """

    items: torch.Tensor
    group: torch.Tensor
    route: str | None = None
    view: str | None = None


def shuffled_batches(items: torch.Tensor, batch_size: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """Return all items in random batches."""
    order = torch.randperm(len(items), generator=generator(seed, "batches", epoch))
    return list(items[order].split(batch_size))


def length_sorted_batches(pool: Pool, batch_size: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """Return batches of neighbours in length, in random order; their members are the same in every epoch.

    Source: keesing2020 sheet, section 2 (length batching); which class a batch holds may be skewed (its trap 2).
    """
    batches = pool.items[pool.group.argsort(stable=True)].split(batch_size)
    order = torch.randperm(len(batches), generator=generator(seed, "batches", epoch))
    return [batches[place] for place in order.tolist()]


def length_binned_batches(pool: Pool, batch_size: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """Return batches of neighbours in length, drawn anew each epoch, in random order.

    An utterance is sorted as if it were up to a tenth shorter or longer than it is, so that its neighbours change and no batch
    can hold one class for good. Source: own design, after the keesing2020 sheet's trap 2.
    """
    draw = generator(seed, "bins", epoch)
    factors = 0.9 + 0.2 * torch.rand(len(pool.items), generator=draw, dtype=torch.float64)
    batches = pool.items[(pool.group * factors).argsort(stable=True)].split(batch_size)
    order = torch.randperm(len(batches), generator=draw)
    return [batches[place] for place in order.tolist()]


BY_LENGTH = {"length_sorted": length_sorted_batches, "length_binned": length_binned_batches}
"""Samplers whose pools are grouped by length."""


def balanced_batches(pool: Pool, batch_size: int, n_batches: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """Return batches drawn with replacement so that each group of the pool is as frequent."""
    counts = torch.bincount(pool.group)
    weights = 1.0 / counts[pool.group].double()
    drawn = torch.multinomial(
        weights, n_batches * batch_size, replacement=True, generator=generator(seed, "draw", epoch)
    )
    return list(pool.items[drawn].split(batch_size))


def round_robin_batches(pool: Pool, batch_size: int, n_rounds: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """Return batches of one group each, the groups in turn; a group that runs out is shuffled again.

    Source: gerczuk2021 sheet, section 2 (one batch of every corpus per step).
    """
    groups = pool.group.unique().tolist()
    streams = [_endless(pool.items[pool.group == g], batch_size, seed, f"{epoch}/{g}") for g in groups]
    return [next(stream) for _ in range(n_rounds) for stream in streams]


def _endless(items: torch.Tensor, batch_size: int, seed: int, name: str) -> Iterator[torch.Tensor]:
    turn = 0
    while True:
        order = torch.randperm(len(items), generator=generator(seed, "stream", name, turn))
        yield from items[order].split(batch_size)
        turn += 1


def epoch_batches(
    pools: Sequence[Pool], sampler: str, batch_size: int, steps: int | None, seed: int, epoch: int
) -> list[tuple[torch.Tensor, Pool]]:
    """Return the labelled items of every batch of an epoch with the pool they come from; several pools alternate.

    Args:
        pools: one, or one per route.
        sampler: ``shuffle``, ``length_sorted``, ``length_binned``, ``class_balanced``, ``corpus_balanced`` or ``round_robin``.
        batch_size: labelled items of a batch.
        steps: batches (round_robin: rounds) of each pool; by default as many as one pass over the pool needs.
        seed: of the training.
        epoch: 1-based.
    """
    per_pool = []
    for number, pool in enumerate(pools):
        own = seed if number == 0 else seed + number
        n = steps or math.ceil(len(pool.items) / batch_size)
        if sampler == "shuffle":
            batches = shuffled_batches(pool.items, batch_size, own, epoch)
            if steps is not None:
                stream = _endless(pool.items, batch_size, own, str(epoch))
                batches = [next(stream) for _ in range(steps)]
        elif sampler in BY_LENGTH:
            batches = BY_LENGTH[sampler](pool, batch_size, own, epoch)[:steps]
        elif sampler == "round_robin":
            n_groups = len(pool.group.unique())
            batches = round_robin_batches(pool, batch_size, steps or math.ceil(n / n_groups), own, epoch)
        else:
            batches = balanced_batches(pool, batch_size, n, own, epoch)
        per_pool.append([(batch, pool) for batch in batches])
    longest = max(map(len, per_pool))
    return [batches[place] for place in range(longest) for batches in per_pool if place < len(batches)]


def n_batches(pools: Sequence[Pool], sampler: str, batch_size: int, steps: int | None) -> int:
    """Return the number of batches `epoch_batches` makes, without making them."""
    total = 0
    for pool in pools:
        whole = math.ceil(len(pool.items) / batch_size)
        if sampler == "round_robin":
            n_groups = len(pool.group.unique())
            total += n_groups * (steps or math.ceil(whole / n_groups))
        elif sampler in BY_LENGTH:
            total += min(steps or whole, whole)
        else:
            total += steps or whole
    return total


class UnlabelledStream:
    """Hands out a fold's unlabelled items, shuffled again each time they run out."""

    def __init__(self, items: torch.Tensor, seed: int, epoch: int) -> None:
        self._items, self._seed, self._epoch, self._turn = items, seed, epoch, 0
        self._left = items[:0]

    def take(self, n: int) -> torch.Tensor:
        """Return the next n items, (n,)."""
        while len(self._left) < n:
            order = torch.randperm(
                len(self._items), generator=generator(self._seed, "unlabelled", self._epoch, self._turn)
            )
            self._left = torch.cat([self._left, self._items[order]])
            self._turn += 1
        taken, self._left = self._left[:n], self._left[n:]
        return taken


def rarest_class_items(
    utterances: torch.Tensor, target: torch.Tensor, corpora: torch.Tensor | None, seed: int
) -> torch.Tensor:
    """Return utterances drawn so that, in each corpus, every class is as frequent as that corpus's rarest one.

    Source: gerczuk2021 sheet, section 3 (aggregation is balanced per corpus, so that class balance cannot reveal it).

    Args:
        utterances: (m,) int64, those without a target are left out.
        target: (n,) int64 of all utterances.
        corpora: (n,) int64 or None.
        seed: of the draw.
    """
    groups: Mapping[int, torch.Tensor] = (
        {0: utterances}
        if corpora is None
        else {int(c): utterances[corpora[utterances] == c] for c in corpora[utterances].unique()}
    )
    taken = []
    for number, members in groups.items():
        classes = [members[target[members] == c] for c in target[members].unique() if c >= 0]
        fewest = min((len(c) for c in classes), default=0)
        for place, some in enumerate(classes):
            order = torch.randperm(len(some), generator=generator(seed, "subsample", number, place))
            taken.append(some[order[:fewest]])
    return torch.cat(taken).sort().values if taken else utterances[:0]
