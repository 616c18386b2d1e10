"""Our GRU layer against PyTorch's in float64, forward and backward, and whole trainings with one or the other."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from repkit.stage_one import recurrent
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.gru_layer import gru_layer
from repkit.stage_one.update import build_optimizer, update

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def problem(steps, batch, n_in, hidden, seed=0):
    torch.manual_seed(seed)
    layer = nn.GRU(n_in, hidden)
    x, initial = torch.randn(steps, batch, n_in) * 2, torch.randn(batch, hidden).tanh()
    return layer, x, initial, torch.randn(steps, batch, hidden)


def run(how, layer, x, initial, outer):
    """Return outputs and the gradients of x, initial state and weights."""
    weights = [getattr(layer, name) for name in WEIGHTS]
    x, initial = x.clone().requires_grad_(), initial.clone().requires_grad_()
    y = how(layer, x, initial)
    return y.detach(), torch.autograd.grad(y, [x, initial, *weights], outer.to(y.dtype))


def torchs(layer, x, initial):
    return layer(x, initial[None])[0]


def exact(layer, x, initial, outer):
    """PyTorch's layer in float64."""
    double = nn.GRU(layer.input_size, layer.hidden_size).double()
    double.load_state_dict(layer.state_dict())
    return run(torchs, double, x.double(), initial.double(), outer.double())


def distance(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (7, 5, 3, 4), (40, 16, 24, 32), (3, 64, 128, 256)])
def test_float32_against_float64(sizes):
    given = problem(*sizes)
    (wanted, gradients), (found, ours) = exact(*given), run(gru_layer, *given)
    torch.testing.assert_close(found.double(), wanted, atol=2e-6, rtol=0)
    for a, b in zip(ours, gradients):
        assert a.dtype == torch.float32
        assert a.shape == b.shape
        assert distance(a, b) < 1e-5


def test_bfloat16_is_at_least_as_near_as_autocast():
    """Factors have 8 bits: 2^-9 = 0.2 % each; a state is a sum of many, and the error of a step goes into the next."""

    def ours(layer, x, initial):
        return gru_layer(layer, x, initial, torch.bfloat16)

    def autocast(layer, x, initial):
        with torch.autocast("cpu", torch.bfloat16):
            return torchs(layer, x, initial)

    given = problem(60, 16, 32, 48)
    wanted, gradients = exact(*given)
    (found, found_gradients), (theirs, their_gradients) = run(ours, *given), run(autocast, *given)
    assert found.dtype == torch.bfloat16
    assert (found - wanted).abs().max() < 0.02
    assert distance(found, wanted) < 1.1 * distance(theirs, wanted)
    for a, b, c in zip(found_gradients, gradients, their_gradients):
        assert distance(a, b) < 0.01
        assert distance(a, b) < 1.2 * distance(c, b)


@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_gradient_of_one_late_state_flows_back_to_the_first_frame(low):
    layer, x, initial, _ = problem(12, 4, 6, 8)
    outer = torch.zeros(12, 4, 8)
    outer[[11, 7, 7, 3], torch.arange(4)] = 1.0  # each sequence's own end
    (_, gradients), (_, found) = (
        exact(layer, x, initial, outer), run(lambda *a: gru_layer(*a, low), layer, x, initial, outer)
    )  # fmt: skip
    for a, b in zip(found, gradients):
        assert distance(a, b) < (1e-5 if low == torch.float32 else 0.015)
    assert found[0][8:, 1].abs().max() == 0  # behind its end nothing counts


@pytest.mark.parametrize(("low", "last_bit"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_without_gradients_the_same_states(low, last_bit):
    layer, x, initial, _ = problem(9, 3, 5, 7)
    with torch.no_grad():
        alone = gru_layer(layer, x, initial, low)
    torch.testing.assert_close(alone, gru_layer(layer, x, initial, low).detach(), atol=last_bit, rtol=0)
    assert torch.equal(gru_layer(layer, x, None, low), gru_layer(layer, x, torch.zeros(3, 7), low))


def test_frozen_input_and_two_calls_add_up():
    layer, x, initial, outer = problem(6, 3, 5, 7)
    (gru_layer(layer, x, initial) * outer).sum().backward()
    once = layer.weight_hh_l0.grad.clone()
    (gru_layer(layer, x, initial) * outer).sum().backward()
    torch.testing.assert_close(layer.weight_hh_l0.grad, 2 * once)
    assert x.grad is None


def test_the_state_is_rounded_for_the_products_only():
    """With a gate that keeps all but 2^-12 a bfloat16 state would stand still; a float32 one moves."""
    layer = nn.GRU(1, 1)
    with torch.no_grad():
        for name in WEIGHTS:
            getattr(layer, name).zero_()
        layer.bias_ih_l0[1] = math.log(2**12 - 1)  # z = 1 - 2^-12
        layer.bias_ih_l0[2] = 20.0  # n = 1
    states = gru_layer(layer, torch.zeros(4096, 1, 1), None, torch.bfloat16)
    # h = 1 - (1 - 2^-12)^4096 = 1 - 1 / e
    assert states[-1].item() == pytest.approx(1 - math.exp(-1), abs=2e-3)


def test_sums_far_outside_do_not_overflow():
    layer, x, initial, outer = problem(5, 3, 4, 6)
    with torch.no_grad():
        layer.bias_ih_l0[::3], layer.bias_ih_l0[1::3] = 300.0, -300.0
    given = (layer, x, initial, outer)
    (wanted, gradients), (found, ours) = exact(*given), run(gru_layer, *given)
    torch.testing.assert_close(found.double(), wanted, atol=2e-6, rtol=0)
    assert all(torch.isfinite(g).all() for g in ours)
    assert distance(ours[0], gradients[0]) < 1e-5


def test_a_second_backward_pass_is_refused():
    layer, x, initial, outer = problem(5, 3, 4, 6)
    total = (gru_layer(layer, x, initial) * outer).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        total.backward()


def test_rounding_to_bfloat16_is_pytorchs():
    from repkit.stage_one.gru_kernels import step

    values = torch.cat([torch.randn(500), torch.tensor([0.0, -0.0, 1.00390625, 1.01171875, 3e-39, 65504.0])])
    # an update gate of 1 hands the state on: r and n do not matter
    state, narrow = values.repeat(2, 1).contiguous(), torch.empty(2, len(values), dtype=torch.bfloat16)
    sums, bias = np.zeros((2, 3 * len(values)), np.float32), np.zeros(4 * len(values), np.float32)
    bias[len(values) : 2 * len(values)] = 200.0
    step(sums, sums, bias, state.numpy(), narrow.view(torch.uint16).numpy())
    assert torch.equal(narrow[1], state[1].bfloat16())


class Alone:
    """What accelerate is in one process."""

    num_processes = 1


def losses(precision, updates=20):
    """Train the paper's model, small, on smooth noise of different lengths."""
    torch.manual_seed(1)
    model = GruAutoencoder(GruAutoencoderConfig(n_bands=16, hidden_size=24)).train()
    optimizer = build_optimizer(model.parameters(), 3e-3, torch.device("cpu"))
    frames = torch.tanh(torch.randn(8, 30, 16).cumsum(1) * 0.3)
    lengths = torch.tensor([30, 30, 28, 25, 22, 20, 11, 3])
    frames *= (torch.arange(30) < lengths[:, None])[..., None]
    found = []
    for number in range(updates):
        torch.manual_seed(number)  # of the dropout
        squared, values = update(
            Alone, model, optimizer, frames, lengths, precision=precision, clip_value=2.0
        )  # fmt: skip
        found.append(math.sqrt(squared / values))
    return found


def test_twenty_updates_with_pytorchs_layer_and_with_ours(monkeypatch):
    ours, low = losses("fp32"), losses("bf16")
    calls = []

    def plain(layer, x, initial, low):
        calls.append(low)
        return layer(x, None if initial is None else initial[None].contiguous())[0]

    monkeypatch.setattr(recurrent, "gru_layer", plain)
    wanted = losses("fp32")
    assert set(calls) == {torch.float32}
    assert wanted[-1] < 0.8 * wanted[0]
    assert ours == pytest.approx(wanted, rel=2e-5)  # float32 rounding, grown over 20 updates
    assert low == pytest.approx(wanted, rel=5e-3)  # bfloat16 factors
    assert low != ours
