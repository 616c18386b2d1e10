"""Readouts against numbers by hand and by numpy: valid frames only, layers by choice, both directions."""

import numpy as np
import pytest
import torch

from repkit.stage_one.readouts import Attention, pool, read_in_batches, sequences, vector_size

LOW = [[1.0], [2.0], [6.0], [7.0]]
TOP = [[0.0], [4.0], [0.0], [8.0]]


def one(kind, which="last", length=4, **more):
    layers = [torch.tensor([values], dtype=torch.float32) for values in (LOW, TOP)]
    for layer in layers:
        layer[:, length:] = torch.nan
    return pool(layers, torch.tensor([length]), kind, which, **more)[0].tolist()


def test_by_hand():
    assert one("last") == [8.0]
    assert one("last", "all") == [7.0, 8.0]
    assert one("last", length=2) == [4.0]
    assert one("mean") == [3.0]
    assert one("mean", "all", length=3) == pytest.approx([3.0, 4 / 3])
    assert one("mean_sd") == pytest.approx([3.0, np.std([0, 4, 0, 8])])
    # differences of states two frames apart: 5, 5 below and 0, 4 on top
    assert one("mean_sd_delta", "all") == pytest.approx(
        [4.0, 3.0, np.std([1, 2, 6, 7]), np.std([0, 4, 0, 8]), 1e-5, 2.0], abs=2e-5
    )


def test_short_utterances_have_no_movement():
    assert one("mean_sd_delta", length=1) == pytest.approx([0.0, 1e-5, 1e-5])
    assert one("mean_sd_delta", length=2) == pytest.approx([2.0, 2.0, 1e-5])


def test_the_backward_direction_ends_at_the_first_frame():
    both = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])
    assert pool([both], torch.tensor([2]), "last", "last", bidirectional=True).tolist() == [[2.0, 10.0]]
    assert pool([both], torch.tensor([2]), "last", "last").tolist() == [[2.0, 20.0]]


def test_attention_weighs():
    attention = Attention(1, 1)
    with torch.no_grad():
        attention.score.weight.zero_()
    assert one("attentive", attention=attention) == pytest.approx(one("mean_sd"))  # equal weights
    with torch.no_grad():
        attention.score.weight.fill_(50.0)
        attention.hidden.weight.fill_(1.0)
        attention.hidden.bias.fill_(-3.0)
    assert one("attentive", attention=attention)[0] == pytest.approx(8.0, abs=1e-3)  # all weight on the largest
    assert one("attentive", length=3, attention=attention)[0] == pytest.approx(4.0, abs=1e-3)


@pytest.mark.parametrize("kind", ["last", "mean", "mean_sd", "mean_sd_delta", "attentive"])
def test_an_utterance_alone_or_padded_gives_the_same(kind):
    torch.manual_seed(0)
    attention = Attention(7)
    lengths = torch.tensor([9, 4, 1])
    layers = [torch.randn(3, 9, 3), torch.randn(3, 9, 4)]
    together = pool(layers, lengths, kind, "all", attention=attention)
    assert together.shape == (3, vector_size((3, 4), kind, "all"))
    for row, length in enumerate(lengths.tolist()):
        alone = pool([s[row : row + 1, :length] for s in layers], lengths[row : row + 1], kind, "all", False, attention)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)


def test_gradients_are_finite_where_nothing_moves():
    still = torch.ones(2, 5, 3, requires_grad=True)
    pool([still], torch.tensor([5, 1]), "mean_sd_delta", "all").sum().backward()
    assert torch.isfinite(still.grad).all()


def test_sequences_are_cut_to_their_lengths():
    layers = [torch.randn(2, 4, 2), torch.randn(2, 4, 3)]
    found = sequences(layers, torch.tensor([4, 1]), "all")
    assert [tuple(s.shape) for s in found] == [(4, 5), (1, 5)]
    assert torch.equal(sequences(layers, torch.tensor([4, 1]), "last")[1], layers[1][1, :1])


def test_batches_keep_the_order_of_the_utterances(monkeypatch):
    frames = [np.full((n, 2), n, np.float32) for n in (3, 9, 1, 5)]
    shapes = []

    def read(padded, lengths):
        shapes.append(tuple(padded.shape))
        return [row[:n].sum(0) for row, n in zip(padded, lengths.tolist())]

    found = read_in_batches(frames, read, 2, torch.device("cpu"))
    assert [values.tolist() for values in found] == [[n * n] * 2 for n in (3, 9, 1, 5)]
    assert shapes == [(2, 9, 2), (2, 3, 2)]
    monkeypatch.setattr("repkit.stage_one.readouts.MAX_FRAMES", 9)
    shapes.clear()
    read_in_batches(frames, read, 2, torch.device("cpu"))
    assert shapes == [(1, 9, 2), (1, 5, 2), (2, 3, 2)]
