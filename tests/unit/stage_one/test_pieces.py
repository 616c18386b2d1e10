"""Pieces of utterances, and who is held out."""

import numpy as np
import pytest
import torch

from repkit.api import Utterance
from repkit.errors import DataError
from repkit.stage_one.data import Pieces, cut, split_speakers


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((10, 10, "split"), [(0, 10)]),
        ((11, 10, "split"), [(0, 6), (6, 11)]),  # even pieces, not 10 and 1
        ((30, 10, "split"), [(0, 10), (10, 20), (20, 30)]),
        ((25, 10, "truncate"), [(0, 10)]),
        ((25, 10, "whole"), [(0, 25)]),
        ((25, 10, "split", 5), [(0, 10), (5, 15), (10, 20), (15, 25)]),
        ((23, 10, "split", 5), [(0, 10), (5, 15), (10, 20), (13, 23)]),  # the last one reaches the end
        ((20, 10, "split", 10), [(0, 10), (10, 20)]),
    ],
)
def test_cut(arguments, wanted):
    assert cut(*arguments) == wanted


@pytest.mark.parametrize("n", range(1, 60))
def test_split_loses_nothing_and_is_never_longer(n):
    edges = cut(n, 7, "split")
    assert [i for a, b in edges for i in range(a, b)] == list(range(n))
    lengths = [b - a for a, b in edges]
    assert max(lengths) <= 7
    assert max(lengths) - min(lengths) <= 1


def test_pieces_in_memory_and_from_disk_are_the_same(tmp_path, make_store):
    first, second = make_store(tmp_path / "a", 8), make_store(tmp_path / "b", 6, "other", seed=1)
    wanted = [{"toy/001", "toy/004"}, {"other/000", "other/005"}]
    in_memory = Pieces([first, second], wanted, 10, "split", None, 1e9)
    on_disk = Pieces([first, second], wanted, 10, "split", None, 0)
    assert in_memory._memory is not None
    assert on_disk._memory is None
    assert {p.id for p in in_memory.pieces} == wanted[0] | wanted[1]
    assert in_memory.pieces == on_disk.pieces
    for i in range(len(in_memory)):
        np.testing.assert_array_equal(in_memory.frames(i), on_disk.frames(i))
    whole = first.read("toy/004")
    pieces = [in_memory.frames(i) for i, p in enumerate(in_memory.pieces) if p.id == "toy/004"]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    frames, lengths = in_memory.batch([0, 1], "cpu")
    assert frames.dtype == torch.float32
    assert lengths.tolist() == in_memory.lengths[:2].tolist()
    order = np.concatenate(in_memory.in_order(2))
    assert sorted(order.tolist()) == list(range(len(in_memory)))
    assert (np.diff(in_memory.lengths[order]) <= 0).all()


def test_speakers_are_held_out_as_a_whole(make_utterances):
    utterances = make_utterances(40, speakers=10)
    split = split_speakers(utterances, 0.2, seed=3)
    speaker = {u.id: u.speaker for u in utterances}
    assert len(split.dev_speakers) == 2
    assert {speaker[i] for i in split.dev} == set(split.dev_speakers)
    assert {speaker[i] for i in split.train} == set(split.train_speakers)
    assert not set(split.dev_speakers) & set(split.train_speakers)
    assert len(split.train) + len(split.dev) == 40
    assert split == split_speakers(utterances[::-1], 0.2, seed=3)  # whatever the order
    assert len({split_speakers(utterances, 0.2, seed=s).dev_speakers for s in range(8)}) > 1
    assert split.note == "2 of 10 speakers held out"


def test_at_least_one_speaker_and_never_all(make_utterances):
    assert len(split_speakers(make_utterances(40, speakers=10), 0.001, 0).dev_speakers) == 1
    assert len(split_speakers(make_utterances(4, speakers=2), 0.99, 0).train_speakers) == 1


@pytest.mark.parametrize("speakers", [0, 1])
def test_utterances_are_held_out_where_speakers_cannot_be(speakers, make_utterances):
    split = split_speakers(make_utterances(20, speakers=speakers), 0.1, 0)
    assert len(split.dev) == 2
    assert split.dev_speakers == ()
    assert "utterances held out, not speakers, because" in split.note


def test_one_unknown_speaker_is_enough_to_hold_out_utterances(make_utterances):
    utterances = [*make_utterances(20, speakers=4), Utterance(id="toy/x", corpus="toy")]
    assert "not known" in split_speakers(utterances, 0.1, 0).note


def test_nothing_held_out_when_not_wanted(make_utterances):
    split = split_speakers(make_utterances(5), 0, 0)
    assert not split.dev
    assert len(split.train) == 5


def test_too_few_utterances(make_utterances):
    with pytest.raises(DataError, match="got 1 utterances; at least 2"):
        split_speakers(make_utterances(1), 0.05, 0)
