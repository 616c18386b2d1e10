"""Which speech a training hears: held-out speakers apart, and of the rest so many hours, spread evenly over its speakers.

The hours asked for are the begin of one order of all utterances, so that those of a small training lie within those of a
larger one: a curve over hours then shows what more speech does and not what other speech does. Source: own design.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from repkit.api import Utterance
from repkit.errors import DataError
from repkit.runs.seeding import derive_seed
from repkit.stage_one.data import DevSplit, split_speakers
from repkit.stage_one.settings import PretrainConfig

TOLERANCE = 0.01
"""Share of the hours asked for that may be missing, as utterances are not cut to fit."""


def choose_speech(config: PretrainConfig, stores: Sequence[Any], heard: Sequence[Utterance]) -> DevSplit:
    """Return which utterances a training hears and which are held out.

    The held-out speakers depend on `seed` alone, not on `hours`, so that their loss compares trainings on more and less
    speech.

    Args:
        config: settings; ``dev_speakers``, ``seed``, ``hours`` and ``hours_seed`` count.
        stores: open frames stores.
        heard: utterances of all corpora that have frames.

    Raises:
        DataError: fewer than two utterances to divide, or less speech than `hours`.
    """
    split = split_speakers(heard, config.dev_speakers, derive_seed(config.seed, "split"))
    if config.hours is None:
        return split
    return take_hours(split, heard, seconds_of(stores), config.hours, config.hours_seed)


def seconds_of(stores: Sequence[Any]) -> dict[str, float]:
    """Return the seconds of every utterance that stores hold frames of, by id: its frames times their shift."""
    return {
        id: int(n) * (store.spec.frame_shift_s or 0.0)
        for store in stores
        for id, n in zip(store.ids, store.lengths, strict=True)
    }


def take_hours(
    split: DevSplit, utterances: Sequence[Utterance], seconds: Mapping[str, float], hours: float, seed: int
) -> DevSplit:
    """Return a split whose train part is cut down to about so many hours, at least to one utterance.

    Of the begins of `nested_order` without what is held out it takes the one whose length is nearest.

    Args:
        split: of all the speech.
        utterances: all.
        seconds: of each, by id.
        hours: wanted.
        seed: of the draw.

    Raises:
        DataError: the train part has fewer hours, by more than `TOLERANCE`.
    """
    order = [u for u in nested_order(utterances, seconds, seed) if u.id in split.train]
    lengths = np.cumsum([seconds[u.id] for u in order]) / 3600
    held = float(lengths[-1]) if order else 0.0
    if held < hours * (1 - TOLERANCE):
        raise DataError(
            f"training.hours = {hours:g}: the speech to train on is {held:.4g} h (after trimming, without held-out speakers); "
            f"{hours:g} h or more was expected; give more corpora or another split, or ask for fewer hours"
        )
    chosen = order[: int(np.argmin(np.abs(lengths - hours))) + 1]
    speakers = sorted({u.speaker for u in chosen if u.speaker is not None})
    got = float(lengths[len(chosen) - 1])
    return replace(
        split,
        train=frozenset(u.id for u in chosen),
        train_speakers=tuple(speakers),
        note=f"{split.note}; {got:.4g} of {held:.4g} h heard, {len(speakers)} speakers",
    )


def nested_order(utterances: Sequence[Utterance], seconds: Mapping[str, float], seed: int) -> list[Utterance]:
    """Return all utterances in an order whose every begin is spread evenly over corpora and speakers.

    Within a corpus the next utterance is always one of the speaker who has the fewest seconds so far, drawn at random from
    those that are left; corpora advance in proportion to their length. Utterances of unknown speakers are drawn as if
    each were a speaker where a corpus knows none, and count as one speaker's where it knows others. The order depends on
    ids, speakers, lengths and seed, not on how the utterances are listed.

    Args:
        utterances: of any corpora.
        seconds: of each, by id.
        seed: of the draw.
    """
    placed: list[tuple[float, str, int, Utterance]] = []
    for corpus in sorted({u.corpus for u in utterances}):
        some = _balanced([u for u in utterances if u.corpus == corpus], seconds, derive_seed(seed, "hours", corpus))
        ends = np.cumsum([seconds[u.id] for u in some])
        shares = ends / max(float(ends[-1]), 1e-9)
        placed += [(float(share), corpus, place, u) for place, (share, u) in enumerate(zip(shares, some))]
    return [u for *_, u in sorted(placed, key=lambda one: one[:3])]


def _balanced(utterances: Sequence[Utterance], seconds: Mapping[str, float], seed: int) -> list[Utterance]:
    """Return the utterances of one corpus in an order balanced over speakers."""
    draw = np.random.default_rng(seed)
    ordered = sorted(utterances, key=lambda u: u.id)
    shuffled = [ordered[i] for i in draw.permutation(len(ordered))]
    left: dict[str, list[Utterance]] = {}
    for one in shuffled:
        left.setdefault(one.speaker or "", []).append(one)
    if set(left) == {""}:
        return shuffled
    names = sorted(left)
    ranks = draw.permutation(len(names)).tolist()
    queue = [(0.0, rank, name) for rank, name in zip(ranks, names)]
    heapq.heapify(queue)
    found = []
    while queue:
        so_far, rank, name = heapq.heappop(queue)
        one = left[name].pop()
        found.append(one)
        if left[name]:
            heapq.heappush(queue, (so_far + seconds[one.id], rank, name))
    return found
