"""The fused convolution and maximum against the same in single steps."""

import torch
import torch.nn.functional as F

from repkit.stage_two.window_maximum import window_maximum


def scene(dtype=torch.float64):
    drawn = torch.Generator().manual_seed(0)
    windows = torch.randn(4, 3, 5, generator=drawn, dtype=dtype)
    weight = torch.randn(2, 5, generator=drawn, dtype=dtype).requires_grad_()
    bias = torch.randn(2, generator=drawn, dtype=dtype).requires_grad_()
    return windows, weight, bias, torch.tensor([2, 7, 8])  # of pool 0 the last window, of pool 2 all but the first


def in_steps(windows, weight, bias, invalid):
    responses = F.linear(windows, weight, bias).flatten(0, 1)
    keep = torch.ones(len(responses), dtype=torch.bool)
    keep[invalid] = False
    return responses.masked_fill(~keep[:, None], -torch.inf).view(4, 3, 2).amax(1)


def test_values_and_gradients_are_those_of_single_steps():
    given = scene()
    torch.testing.assert_close(window_maximum(*given), in_steps(*given))
    upstream = torch.randn(4, 2, dtype=torch.float64)
    ours = torch.autograd.grad(window_maximum(*given), given[1:3], upstream)
    theirs = torch.autograd.grad(in_steps(*given), given[1:3], upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_by_finite_differences():
    windows, weight, bias, invalid = scene()
    assert torch.autograd.gradcheck(lambda w, b: window_maximum(windows, w, b, invalid), (weight, bias))


def test_a_window_that_does_not_count_never_wins_and_learns_nothing():
    windows = torch.tensor([[[1.0], [9.0], [2.0]]])
    weight, bias = torch.ones(1, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    found = window_maximum(windows, weight, bias, torch.tensor([1]))
    assert found.item() == 2.0
    found.sum().backward()
    assert weight.grad.item() == 2.0  # the window that won


def test_without_gradients_the_same_numbers():
    given = scene()
    with torch.no_grad():
        torch.testing.assert_close(window_maximum(*given), in_steps(*given))


def test_under_autocast_the_product_is_bf16():
    given = scene(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = window_maximum(*given)
    assert found.dtype == torch.float32
    exact = in_steps(*given)
    # 8 bits of mantissa over sums of five products
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.02)
    assert not torch.equal(found, exact)
