"""The recurrent stack against numbers computed by hand or by plain numpy."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from repkit.stage_one.recurrent import RecurrentStack, advance, delay, dropout, pad, reverse_index, reverse_valid


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_gru(x, h, layer):
    """One GRU layer over (T, B, I) in float64, PyTorch's equations: reset gate after the recurrent product."""
    w_ih, w_hh, b_ih, b_hh = (
        p.detach().double().numpy()
        for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    )
    n = len(b_ih) // 3
    outputs = []
    for frame in x:
        gi, gh = frame @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        r, z = sigmoid(gi[:, :n] + gh[:, :n]), sigmoid(gi[:, n : 2 * n] + gh[:, n : 2 * n])
        candidate = np.tanh(gi[:, 2 * n :] + r * gh[:, 2 * n :])
        h = (1 - z) * candidate + z * h
        outputs.append(h)
    return np.stack(outputs)


def test_one_step_by_hand():
    stack = RecurrentStack("gru", input_size=1, hidden_size=1, n_layers=1, dropout=0.0)
    layer = stack.layers[0]
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[0.5], [-1.0], [2.0]]))
        layer.weight_hh_l0.copy_(torch.tensor([[1.0], [0.5], [-1.5]]))
        layer.bias_ih_l0.copy_(torch.tensor([0.1, 0.2, 0.3]))
        layer.bias_hh_l0.copy_(torch.tensor([0.0, 0.0, 0.4]))
    # x = 0.8, h = -0.5: r = s(.4 - .5 + .1) = s(0) = .5; z = s(-.8 - .25 + .2) = s(-.85) = .29943
    # n = tanh(1.6 + .3 + .5 (.75 + .4)) = tanh(2.475) = .98594; h' = .70057 * .98594 - .29943 * .5 = .54100
    (outputs,), (final,) = stack(torch.tensor([[[0.8]]]), [torch.tensor([[-0.5]])], with_finals=True)
    assert outputs.item() == pytest.approx(0.54100, abs=2e-5)
    assert final.item() == outputs.item()


def test_two_layers_and_finals_at_the_last_valid_step():
    torch.manual_seed(0)
    stack = RecurrentStack("gru", 3, 4, 2, 0.3).eval()
    x = torch.randn(5, 2, 3)
    lengths = torch.tensor([5, 2])
    outputs, finals = stack(x, None, lengths, with_finals=True)
    first = numpy_gru(x.double().numpy(), np.zeros((2, 4)), stack.layers[0])
    second = numpy_gru(first, np.zeros((2, 4)), stack.layers[1])
    np.testing.assert_allclose(outputs[0].detach().numpy(), first, atol=1e-6)
    np.testing.assert_allclose(outputs[1].detach().numpy(), second, atol=1e-6)
    for final, wanted in zip(finals, (first, second)):
        np.testing.assert_allclose(final[0].detach().numpy(), wanted[4, 0], atol=1e-6)
        np.testing.assert_allclose(final[1].detach().numpy(), wanted[1, 1], atol=1e-6)


def test_initial_states_are_used():
    torch.manual_seed(0)
    stack = RecurrentStack("gru", 3, 4, 2, 0.0)
    x, states = torch.randn(3, 2, 3), [torch.randn(2, 4), torch.randn(2, 4)]
    outputs, _ = stack(x, states)
    first = numpy_gru(x.double().numpy(), states[0].double().numpy(), stack.layers[0])
    second = numpy_gru(first, states[1].double().numpy(), stack.layers[1])
    np.testing.assert_allclose(outputs[1].detach().numpy(), second, atol=1e-6)


def test_lstm_state_is_cell_then_hidden_at_the_last_valid_step():
    torch.manual_seed(0)
    stack = RecurrentStack("lstm", 3, 4, 2, 0.0)
    x, lengths = torch.randn(6, 2, 3), torch.tensor([6, 4])
    outputs, finals = stack(x, None, lengths, with_finals=True)
    _, (hidden, cell) = stack.layers[0](x[:4, 1:])
    torch.testing.assert_close(finals[0][1], torch.cat([cell[0, 0], hidden[0, 0]]))
    torch.testing.assert_close(finals[0][1, 4:], outputs[0][3, 1])  # the hidden half is the output
    again, _ = stack(x[4:, 1:], [f[1:] for f in finals])  # going on from the state equals one run
    whole, _ = stack(x[:, 1:])
    torch.testing.assert_close(again[1], whole[1][4:])


def test_between_layers_keep_is_the_product_and_states_are_never_dropped():
    class Echo(torch.nn.Module):
        """A layer that hands its input on, so that only the masks are left."""

        def forward(self, x, initial):
            return x, x[-1:]

    stack = RecurrentStack("gru", 400, 400, 2, 0.2)
    stack.layers = torch.nn.ModuleList([Echo(), Echo()])
    torch.manual_seed(0)
    outputs, finals = stack(torch.ones(50, 20, 400), with_finals=True)
    kept = [(o != 0).float().mean().item() for o in outputs]
    # input .8; after the first layer .8 * .8 more (output and next input); last output .8 more
    assert kept[0] == pytest.approx(0.8, abs=0.005)
    assert kept[1] == pytest.approx(0.8 * 0.64 * 0.8, abs=0.005)
    assert outputs[1].mean().item() == pytest.approx(1.0, abs=0.01)
    assert outputs[1].max().item() == pytest.approx(0.8**-4, rel=1e-3)
    # final states are what the cells hold: masks of their own output never touch them
    assert torch.equal(finals[0], outputs[0][-1])
    assert (finals[1] != 0).float().mean().item() == pytest.approx(0.8 * 0.64, abs=0.02)
    steps_differ = (outputs[0][0] != outputs[0][1]).any()
    assert steps_differ  # a new mask at each time step
    without, _ = stack(torch.ones(50, 20, 400), drop_output=False)
    assert (without[1] != 0).float().mean().item() == pytest.approx(0.8 * 0.64, abs=0.005)


@pytest.mark.parametrize("p", [0.2, 0.36, 0.5])
def test_dropout_rate_scale_and_gradient(p):
    torch.manual_seed(0)
    x = torch.ones(1001, 333, requires_grad=True)  # an odd number of elements
    y = dropout(x, p, True)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert y.max().item() == pytest.approx(1 / (1 - p), rel=1e-4)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert dropout(x, p, False) is x
    assert not torch.equal(dropout(x, p, True) == 0, y == 0)


def test_reversal_stays_within_the_valid_part():
    frames = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])[..., None]
    wanted = torch.tensor([[4.0, 3, 2, 1], [6, 5, 0, 0], [7, 0, 0, 0]])[..., None]
    lengths = torch.tensor([4, 2, 1])
    assert torch.equal(reverse_valid(frames, lengths), wanted)
    assert torch.equal(reverse_valid(wanted, lengths), frames)
    assert torch.equal(reverse_valid(frames[:1], None), wanted[:1])
    assert reverse_index(torch.tensor([4, 4]), 4, 2, "cpu") is None  # all full: a plain flip


def test_delay_and_advance():
    x = torch.tensor([[1.0, 5], [2, 6], [3, 0]])[..., None]  # (T, B, 1), the second sequence has two steps
    assert delay(x)[..., 0].tolist() == [[0, 0], [1, 5], [2, 6]]
    assert advance(x, torch.tensor([3, 2]))[..., 0].tolist() == [[2, 6], [3, 0], [0, 0]]
    assert advance(x, None)[..., 0].tolist() == [[2, 6], [3, 0], [0, 0]]
    # garbage behind the end must not come in
    dirty = x.clone()
    dirty[2, 1] = 9
    assert advance(dirty, torch.tensor([3, 2]))[..., 0].tolist() == [[2, 6], [3, 0], [0, 0]]


def test_tensorflow_defaults():
    torch.manual_seed(0)
    h, n_in = 256, 128 + 256
    gru = RecurrentStack("gru", 128, h, 1, 0.0)
    gru.init_as_tensorflow()
    layer = gru.layers[0]
    gates, candidate = math.sqrt(6 / (n_in + 2 * h)), math.sqrt(6 / (n_in + h))
    for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
        assert weight[: 2 * h].abs().max().item() == pytest.approx(gates, rel=1e-3)
        assert weight[2 * h :].abs().max().item() == pytest.approx(candidate, rel=1e-3)
        assert weight[: 2 * h].std().item() == pytest.approx(gates / math.sqrt(3), rel=0.02)
    total = layer.bias_ih_l0 + layer.bias_hh_l0
    assert total[: 2 * h].tolist() == [1.0] * (2 * h)
    assert total[2 * h :].tolist() == [0.0] * h

    lstm = RecurrentStack("lstm", 128, h, 1, 0.0)
    lstm.init_as_tensorflow()
    total = lstm.layers[0].bias_ih_l0 + lstm.layers[0].bias_hh_l0
    assert total.view(4, h).mean(1).tolist() == [0.0, 1.0, 0.0, 0.0]  # forget bias 1
    assert lstm.layers[0].weight_ih_l0.abs().max().item() == pytest.approx(math.sqrt(6 / (n_in + 4 * h)), rel=1e-3)


def test_pad():
    padded, lengths = pad([np.ones((2, 3), np.float16), np.full((4, 3), 2.0)])
    assert padded.dtype == torch.float32
    assert padded.sum(-1).tolist() == [[3, 3, 0, 0], [6, 6, 6, 6]]
    assert lengths.tolist() == [2, 4]


class Heard(torch.nn.Module):
    """In place of a layer: notes in which type and under what it is called, and hands on what it was given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, state):
        self.calls.append((x.dtype, state.dtype, torch.is_autocast_enabled(x.device.type)))
        return x, state


@pytest.fixture
def autocast():
    """Turn autocast to bf16 on for a device that need not be there, which `torch.autocast` refuses."""
    before = {device: torch.is_autocast_enabled(device) for device in ("cuda", "cpu")}
    yield lambda device: torch.set_autocast_enabled(device, True)
    for device, enabled in before.items():
        torch.set_autocast_enabled(device, enabled)


@pytest.mark.parametrize(("device", "kind", "still"), [("cuda", torch.float32, False), ("cpu", torch.bfloat16, True)])
def test_on_a_gpu_layers_are_kept_out_of_autocast(autocast, device, kind, still):
    """Under it cuDNN's layers would be float16: a gradient of 1e-8 is zero there, and nobody scales the loss."""
    autocast(device)
    with FakeTensorMode():  # tensors of a GPU without one
        stack = RecurrentStack("gru", 4, 4, 1, 0.0)
        stack.layers = torch.nn.ModuleList([Heard()])
        x, state = (torch.zeros(size, device=device, dtype=torch.bfloat16) for size in ((5, 3, 4), (3, 4)))
        (y,), _ = stack(x, [state])
    assert stack.layers[0].calls == [(kind, kind, still)]
    assert y.dtype == kind
