"""Keras' conventions against numbers by hand, NumPy and SciPy."""

import copy

import numpy as np
import pytest
import torch
from repkit_baselines.keras_parts import (
    TRUNCATED_STD,
    AttentionPooling,
    KerasBatchNorm,
    KerasLstm,
    SameConv2d,
    he_normal_,
    init_layers_,
    init_recurrent_,
    roles,
    same_max_pool2d,
    same_padding,
)
from scipy import stats
from torch import nn


@pytest.mark.parametrize(
    ("n_steps", "width", "stride", "expected"),
    [
        (640, 40, 1, (19, 20)),  # an even width: the odd zero on the right
        (7, 3, 1, (1, 1)),
        (7, 2, 1, (0, 1)),
        (80_000, 400, 160, (120, 120)),  # 500 steps: 499 x 160 + 400 - 80000 = 240
        (80_000, 240, 160, (40, 40)),
        (80_000, 1600, 160, (720, 720)),
        (48_001, 400, 160, (199, 200)),  # 301 steps: 48000 + 400 - 48001
        (48_100, 1600, 160, (750, 750)),  # 301 steps: 48000 + 1600 - 48100
        (161, 240, 160, (119, 120)),  # 2 steps
        (160, 100, 160, (0, 0)),  # one step, and the filter does not reach the end
    ],
)
def test_same_padding_by_hand(n_steps, width, stride, expected):
    assert same_padding(n_steps, width, stride) == expected


def test_convolution_over_an_image_and_pool_by_hand():
    layer = SameConv2d(1, 1, 2, bias=False)
    layer.weight.data = torch.tensor([[[[1000.0, 100.0], [10.0, 1.0]]]])
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer(image)[0, 0].tolist() == [[1234.0, 2040.0], [3400.0, 4000.0]]
    # odd sizes: the last row and column are pooled alone, and zeros of the padding are no maximum
    negative = -torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    assert same_max_pool2d(negative)[0, 0].tolist() == [[-1.0, -3.0], [-7.0, -9.0]]
    assert same_max_pool2d(negative[..., :2, :2]).tolist() == [[[[-1.0]]]]


def test_he_normal_is_cut_and_has_its_variance():
    torch.manual_seed(0)
    weight = he_normal_(torch.empty(200, 50, 8))  # fan-in 400
    values = weight.double().numpy().ravel()
    assert pytest.approx(stats.truncnorm.std(-2, 2), abs=1e-12) == TRUNCATED_STD
    assert values.var() == pytest.approx(2 / 400, rel=0.02)
    limit = 2 * np.sqrt(2 / 400) / 0.879625661
    assert 0.99 * limit < np.abs(values).max() <= limit
    assert stats.kstest(values[:20_000] / limit * 2, stats.truncnorm(-2, 2).cdf).pvalue > 0.01


def test_glorot_counts_the_receptive_field():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv1d(1, 40, 40), nn.Conv2d(2, 30, 5), nn.Linear(100, 50))
    for layer in layers:
        nn.init.ones_(layer.bias)
    init_layers_(layers)
    # fan-in and fan-out: 40 and 1600; 50 and 750; 100 and 50
    for layer, fans in zip(layers, (1640, 800, 150), strict=True):
        limit = np.sqrt(6 / fans)
        assert 0.98 * limit < layer.weight.detach().abs().max() <= limit
        assert layer.weight.detach().var() == pytest.approx(limit**2 / 3, rel=0.1)
        assert not layer.bias.any()
    init_layers_(layers, "he_normal")
    assert layers[1].weight.detach().var() == pytest.approx(2 / 50, rel=0.1)


def test_lstm_is_initialised_as_keras_does():
    torch.manual_seed(0)
    lstm = KerasLstm(60, 20)
    limit = np.sqrt(6 / (60 + 80))  # all four gates are columns of one matrix
    assert 0.98 * limit < lstm.weight_ih_l0.abs().max() <= limit
    torch.testing.assert_close(lstm.weight_hh_l0.T @ lstm.weight_hh_l0, torch.eye(20), atol=1e-5, rtol=0)
    assert lstm.bias_ih_l0.tolist() == [0.0] * 20 + [1.0] * 20 + [0.0] * 40


def test_gru_is_initialised_as_keras_does():
    torch.manual_seed(0)
    gru = nn.GRU(60, 20, num_layers=2)
    init_recurrent_(gru)
    limit = np.sqrt(6 / (20 + 60))
    assert 0.95 * limit < gru.weight_ih_l1.abs().max() <= limit
    for weight in (gru.weight_hh_l0, gru.weight_hh_l1):
        torch.testing.assert_close(weight.T @ weight, torch.eye(20), atol=1e-5, rtol=0)
    assert not any(values.any() for name, values in gru.named_parameters() if name.startswith("bias"))


def test_lstm_has_one_bias_vector_and_computes_what_keras_does():
    torch.manual_seed(0)
    lstm = KerasLstm(3, 4)
    assert sum(p.numel() for p in lstm.parameters()) == 4 * 4 * (3 + 4 + 1)
    lstm.bias_ih_l0.data.normal_()
    sequence = torch.randn(2, 7, 3)
    found = lstm(sequence)[0].detach().numpy()
    kernel, recurrent, bias = (v.detach().numpy() for v in (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0))
    hidden, cell = np.zeros((2, 4)), np.zeros((2, 4))
    for step in range(7):
        gates = sequence[:, step].numpy() @ kernel.T + hidden @ recurrent.T + bias
        i, f, g, o = np.split(gates, 4, axis=1)
        cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        hidden = np.tanh(cell) / (1 + np.exp(-o))
        np.testing.assert_allclose(found[:, step], hidden, atol=1e-5)


def test_second_bias_is_never_trained_nor_saved_and_follows_copies():
    torch.manual_seed(0)
    lstm = KerasLstm(3, 4)
    assert set(lstm.state_dict()) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    lstm.requires_grad_(True)
    optimiser = torch.optim.Adam(lstm.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        lstm(torch.randn(2, 5, 3))[0].sum().backward()
        optimiser.step()
    assert not lstm.bias_hh_l0.any()
    sequence = torch.randn(2, 5, 3)
    twin = copy.deepcopy(lstm)
    assert torch.equal(twin(sequence)[0], lstm(sequence)[0])
    twin.weight_ih_l0.data.zero_()
    assert not torch.equal(twin(sequence)[0], lstm(sequence)[0])
    other = KerasLstm(3, 4)
    other.load_state_dict(lstm.state_dict())
    assert torch.equal(other(sequence)[0], lstm(sequence)[0])
    assert lstm.double()(sequence.double())[0].dtype == torch.float64


def test_batch_norm_by_numpy():
    torch.manual_seed(0)
    norm = KerasBatchNorm(2)
    values = torch.randn(3, 2, 5, 4) * torch.tensor([2.0, 0.1]).view(1, 2, 1, 1) + 1
    table = values.numpy().swapaxes(0, 1).reshape(2, -1).astype(np.float64)
    expected = (table - table.mean(1, keepdims=True)) / np.sqrt(table.var(1, keepdims=True) + 1e-3)
    found = norm(values).detach().numpy().swapaxes(0, 1).reshape(2, -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(norm.running_mean, 0.01 * table.mean(1), rtol=1e-4)
    np.testing.assert_allclose(norm.running_var, 0.99 + 0.01 * table.var(1, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 2, 6), (3, 2, 6, 4)])
def test_masked_batch_norm_counts_its_steps_only(shape):
    torch.manual_seed(0)
    values, mask = torch.randn(shape), torch.arange(6)[None, :] < torch.tensor([[6], [2], [3]])
    beyond = ~mask.view(3, 1, 6, *[1] * (len(shape) - 3))
    norms = KerasBatchNorm(2), KerasBatchNorm(2)
    found = norms[0](values.masked_fill(beyond, 100.0), mask)

    def steps_of(tensor):  # (C, steps of all items, ...)
        return torch.cat([tensor[row, :, :n] for row, n in enumerate((6, 2, 3))], dim=1)

    torch.testing.assert_close(steps_of(found), norms[1](steps_of(values)[None])[0])
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)
    assert not found.masked_select(beyond.expand_as(found)).any()
    torch.testing.assert_close(norms[0].eval()(values, mask), norms[0](values))


def test_attention_by_hand():
    pooling = AttentionPooling(2)
    pooling.weight.data = torch.tensor([[np.log(3.0)], [0.0]], dtype=torch.float32)
    states = torch.tensor([[[1.0, 0.0], [0.0, 4.0], [2.0, 9.0]]])
    # weights 3, 1, 9 of 13
    torch.testing.assert_close(pooling(states), torch.tensor([[21 / 13, 85 / 13]]))
    assert [tuple(p.shape) for p in pooling.parameters()] == [(2, 1)]


def test_roles_hold_every_parameter_once():
    model = nn.ModuleDict({"a": nn.Linear(2, 3), "n": KerasBatchNorm(3), "heads": nn.Linear(3, 4)})
    groups = roles(model, model["heads"])
    assert {role: sum(p.numel() for p in group) for role, group in groups.items()} == {
        "head": 16,
        "norm": 6,
        "shared": 9,
    }
    assert "norm" not in roles(nn.Sequential(model["a"], model["heads"]), model["heads"])
