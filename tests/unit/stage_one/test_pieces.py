"""Pieces of utterances, and who is held out."""

import numpy as np
import pytest
import torch

from repkit.api import Utterance
from repkit.errors import DataError
from repkit.stage_one import data
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
    assert in_memory.in_memory
    assert not on_disk.in_memory
    assert {p.id for p in in_memory} == wanted[0] | wanted[1]
    assert {p.id for p in in_memory if p.store == 1} == wanted[1]
    assert list(in_memory) == list(on_disk)
    for i in range(len(in_memory)):
        np.testing.assert_array_equal(in_memory.frames(i), on_disk.frames(i))
    whole = first.read("toy/004")
    pieces = [in_memory.frames(i) for i, p in enumerate(in_memory) if p.id == "toy/004"]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    frames, lengths = in_memory.batch([0, 1], "cpu")
    assert frames.dtype == torch.float32
    assert lengths.tolist() == in_memory.lengths[:2].tolist()
    (window,) = in_memory.in_order(2)
    order = np.concatenate(window)
    assert sorted(order.tolist()) == list(range(len(in_memory)))
    assert (np.diff(in_memory.lengths[order]) <= 0).all()


def test_frames_that_stay_on_a_gpu_are_those_of_the_memory(tmp_path, make_store):
    """The device without numbers stands for a GPU: shapes and places are checked there, the rows themselves on the CPU."""
    stores = [make_store(tmp_path / "a", 8), make_store(tmp_path / "b", 6, "other", seed=1)]
    pieces = Pieces(stores, [set(store.ids) for store in stores], 10, "split", 5, 1e9)
    rows, first = pieces._on_device(torch.device("cpu"))
    utterances, starts, stops = pieces._table.T
    for i in range(len(pieces)):
        at = first[utterances[i]]
        np.testing.assert_array_equal(rows[at + starts[i] : at + stops[i]].numpy(), pieces.frames(i))
    pieces._resident = None
    frames, lengths = pieces.batch([3, 0, 7], "meta")
    expected, expected_lengths = pieces.batch([3, 0, 7], "cpu")
    assert (frames.device.type, lengths.device.type) == ("meta", "meta")
    assert (frames.shape, frames.dtype) == (expected.shape, torch.float32)
    assert lengths.shape == expected_lengths.shape


def test_frames_that_a_gpu_has_no_room_for_are_sent_batch_by_batch(tmp_path, make_store, monkeypatch):
    store = make_store(tmp_path / "a", 8)
    pieces = Pieces([store], [set(store.ids)], 10, "split", None, 1e9)
    size = sum(pieces._frames_of) * store.spec.dim * 2  # float16
    for free, stays in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *where: tensor)
        pieces._resident, pieces._too_large = None, False
        assert (pieces._on_device(torch.device("cuda")) is not None) == stays


@pytest.fixture
def streamed(tmp_path, make_store, monkeypatch):
    """Pieces of two corpora in blocks of 4 utterances and windows of about 3 blocks, and what is read when."""
    monkeypatch.setattr(data, "SHARD_SIZE", 4)
    stores = [make_store(tmp_path / "a", 38), make_store(tmp_path / "b", 14, "other", seed=1)]
    frames = sum(int(store.lengths.sum()) for store in stores)
    wanted = [set(stores[0].ids) - {"toy/003", "toy/020"}, set(stores[1].ids)]
    made = Pieces(stores, wanted, 10, "split", None, 0, window_frames=frames / 5)
    reads = []
    for store in stores:
        real = store.load
        monkeypatch.setattr(store, "load", lambda ids, dtype, real=real: reads.append(list(ids)) or real(ids, dtype))
    return made, stores, reads


def test_windows_hear_every_piece_once_an_epoch_in_an_order_of_seed_and_epoch(streamed):
    made, stores, reads = streamed
    seen = {}
    # read before anything reads ahead: a store is no place for two threads
    values = [{id: store.read(id) for id in store.ids} for store in stores]
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        reads.clear()
        batches = made.batches(5, seed, epoch)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(made)))
        for batch in batches:
            for i in batch:
                piece = made[int(i)]
                np.testing.assert_array_equal(
                    made.frames(int(i)), values[piece.store][piece.id][piece.start : piece.stop]
                )
        # each utterance was read once, in blocks of at most 4 neighbours
        read = [id for ids in reads for id in ids]
        assert sorted(read) == sorted(id for store in stores for id in store.ids if id not in ("toy/003", "toy/020"))
        assert max(map(len, reads)) == 4
        seen[seed, epoch] = [batch.tolist() for batch in batches]
        assert seen[seed, epoch] == [batch.tolist() for batch in made.batches(5, seed, epoch)]
        assert 4 <= made._n_windows <= 6
    assert seen[0, 0] != seen[0, 1]
    assert seen[0, 0] != seen[1, 0]
    # memory changes nothing of it
    wanted = [{p.id for p in made if p.store == number} for number in (0, 1)]
    in_memory = Pieces(stores, wanted, 10, "split", None, 1e9, window_frames=made._window_frames)
    assert seen[0, 1] == [batch.tolist() for batch in in_memory.batches(5, 0, 1)]


def test_at_most_two_windows_are_held(streamed):
    made, _, _ = streamed
    most = 0
    for batch in made.batches(5, 0, 0):
        made.batch(batch, "cpu")
        coming = {} if made._coming is None else made._coming.result()
        held = sum(len(f) for f in [*made._memory.values(), *coming.values()])
        most = max(most, held)
        assert {made._window_of[u] for u in made._memory} == {made._window_of[made._table[int(batch[0]), 0]]}
    assert most > 1.5 * made._window_frames
    # one block of at most 4 x 25 frames may go over each of the two
    assert most <= 2 * (made._window_frames + 100)


def test_a_run_taken_up_in_the_middle_reads_only_from_there(streamed):
    made, _, reads = streamed
    batches = made.batches(5, 0, 0)
    whole = [made.batch(batch, "cpu")[0] for batch in batches]
    half = len(batches) // 2
    made.batches(5, 0, 0)
    reads.clear()
    for batch, wanted in zip(batches[half:], whole[half:]):
        assert torch.equal(made.batch(batch, "cpu")[0], wanted)
    assert sum(map(len, reads)) < 0.75 * 50


def test_batches_of_a_window_are_of_like_lengths(streamed):
    made, _, _ = streamed
    padded = {}
    for name, batches in (("windows", made.batches(3, 0, 0)), ("random", np.array_split(np.arange(len(made)), 40))):
        padded[name] = sum(len(b) * made.lengths[b].max() for b in batches) / made.lengths.sum()
    assert padded["windows"] < 1 + 0.5 * (padded["random"] - 1)


def test_what_cannot_be_read_ahead_is_told_when_its_turn_comes(streamed, monkeypatch):
    made, stores, _ = streamed
    batches = made.batches(5, 0, 0)
    made.batch(batches[0], "cpu")
    made._coming.result()  # one window is here, the next one too
    for store in stores:
        monkeypatch.setattr(store, "load", lambda *a, **k: (_ for _ in ()).throw(DataError("the disk is gone")))
    with pytest.raises(DataError, match="the disk is gone"):
        [made.batch(batch, "cpu") for batch in batches]


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
