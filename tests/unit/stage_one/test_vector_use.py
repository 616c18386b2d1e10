"""The diagnostic of the vector's use, against numbers made another way."""

import math

import numpy as np
import pytest
import torch

from repkit.stage_one import data
from repkit.stage_one.data import Pieces
from repkit.stage_one.diagnostics import _others, dev_rmse, vector_use
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig

CPU = torch.device("cpu")


def model(decoder, **more):
    torch.manual_seed(0)
    return GruAutoencoder(GruAutoencoderConfig(n_bands=12, hidden_size=8, decoder=decoder, **more))


def pieces(store, n=10):
    return Pieces([store], [set(store.ids[:n])], 1000, "whole", None, 1e9)


def test_numbers_one_utterance_at_a_time(toy):
    store, _ = toy
    made = pieces(store)
    net = model("blind")
    found = vector_use(net, made, 4, CPU)
    net.eval()
    order = np.concatenate(made.in_order(4)[0]).tolist()
    frames = [torch.from_numpy(made.frames(i).astype(np.float32))[None] for i in order]
    with torch.no_grad():
        own = [net.encode(f)[0] for f in frames]
        n_values = sum(f.numel() for f in frames)

        def rmse(vectors):
            return math.sqrt(
                sum(float(net(f, representation=v).squared_error) for f, v in zip(frames, vectors)) / n_values
            )

        assert found["own"] == pytest.approx(rmse(own), rel=1e-5)
        assert found["another"] == pytest.approx(rmse(own[1:] + own[:1]), rel=1e-5)
        assert found["zeros"] == pytest.approx(rmse([torch.zeros_like(v) for v in own]), rel=1e-5)
    squared = sum(float((f[0, 1:] - f[0, :-1]).square().sum() + f[0, -1].square().sum()) for f in frames)
    assert found["copy_previous"] == pytest.approx(math.sqrt(squared / n_values), rel=1e-5)
    assert found["another_over_own"] == pytest.approx(found["another"] / found["own"])
    assert found["pieces"] == 10
    assert dev_rmse(net, made, 3, CPU) == pytest.approx(found["own"], rel=1e-5)  # whatever the batches


def test_a_model_that_ignores_its_vector_shows_it(toy):
    net = model("bidirectional")
    for stack in (net.forward_decoder, net.backward_decoder):
        for layer in stack.layers:
            with torch.no_grad():
                layer.bias_ih_l0[8:16] = -100.0  # the update gate never keeps the initial state
                layer.weight_hh_l0.zero_()
    found = vector_use(net, pieces(toy[0]), 4, CPU)
    assert found["another"] == pytest.approx(found["own"], rel=1e-6)
    assert found["another_over_own"] == pytest.approx(1.0, rel=1e-6)


def test_another_is_of_another_utterance():
    assert _others(["a", "a", "b", "c", "c"]) == [2, 2, 3, 0, 0]
    assert _others(["a", "b"]) == [1, 0]
    assert _others(["a", "a"]) == [0, 1]  # nobody else there


def test_several_windows_give_the_same_errors(toy, monkeypatch):
    monkeypatch.setattr(data, "SHARD_SIZE", 3)
    net = model("blind")
    whole = vector_use(net, pieces(toy[0]), 4, CPU)
    in_windows = Pieces([toy[0]], [set(toy[0].ids[:10])], 1000, "whole", None, 0, window_frames=60)
    found = vector_use(net, in_windows, 4, CPU)
    assert in_windows._n_windows > 1
    for name in ("own", "zeros", "copy_previous"):
        assert found[name] == pytest.approx(whole[name], rel=1e-5)
    assert found["another"] != whole["another"]  # another one of the same window
