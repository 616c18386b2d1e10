"""One GRU layer over a dense time-major batch, trained on a CPU at the rate of its matrix products.

Same numbers and gradients as `torch.nn.GRU` (Cho et al. 2014, with the reset gate after the recurrent product), other order
of work: the input projections of some steps are one product; a step is one product and one pass (`gru_kernels`), which makes
the derivatives there and then; the backward loop multiplies them, and every weight's gradient is one product over all steps
at its end. Products are made in float32 or bfloat16; states, gates and sums stay float32. Source: own design; measured in
docs/results/benchmarks-ae_step.md.

Axes: T steps, B batch, I inputs, H units; rows of the weights are reset, update and candidate gate, H each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_CHUNK_ROWS = 1024
"""Rows of the input projected at once: enough for the rate of a large product, few enough to stay in the cache."""


def gru_layer(layer: nn.GRU, x: Tensor, initial: Tensor | None = None, low: torch.dtype = torch.float32) -> Tensor:
    """Run a GRU layer of one direction.

    Args:
        layer: holds the weights; one layer, with biases, (T, B, I).
        x: (T, B, I), float32 or bfloat16, on the CPU.
        initial: (B, H) float32 state before the first step, or None for zeros.
        low: float32 or bfloat16, type of the matrix products' factors and of the result.

    Returns:
        (T, B, H) states after each step; they were float32 on the way.
    """
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    if torch.is_grad_enabled():
        return _GruLayer.apply(x, initial, *weights, low)
    return _run(x.to(low), initial, *weights, keep=False)[0][1:]


def _run(
    x: Tensor, initial: Tensor | None, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, keep: bool
) -> tuple[Tensor, ...]:
    """Return states (T + 1, B, H) and, with `keep`, update gates (T, B, H) and derivatives (T, B, 4 H)."""
    from repkit.stage_one.gru_kernels import step, step_and_slopes

    (n_steps, batch, n_in), h, low = x.shape, w_hh.shape[1], x.dtype
    into, across = w_ih.to(low).t(), w_hh.to(low).t().contiguous()
    bias = torch.cat([(b_ih + b_hh)[: 2 * h], b_ih[2 * h :], b_hh[2 * h :]]).detach().numpy()
    state = torch.zeros(batch, h) if initial is None else initial.detach().float().clone()
    states = torch.empty(n_steps + 1, batch, h, dtype=low)
    states[0] = state
    updates = torch.empty(n_steps if keep else 0, batch, h)
    slopes = torch.empty(n_steps if keep else 0, batch, 4 * h, dtype=low)
    product = torch.empty(batch, 3 * h, dtype=low)
    many = max(1, _CHUNK_ROWS // batch)
    projected = torch.empty(min(many, n_steps) * batch, 3 * h, dtype=low)
    tensors = states.unbind(0)
    fixed, after, kept, derived = _array(product), _array(states), updates.numpy(), _array(slopes)
    moving, inputs = state.numpy(), _array(projected).reshape(-1, batch, 3 * h)
    rows = x.reshape(n_steps * batch, n_in)
    for first in range(0, n_steps, many):
        last = min(first + many, n_steps)
        torch.mm(rows[first * batch : last * batch], into, out=projected[: (last - first) * batch])
        for t in range(first, last):
            torch.mm(tensors[t], across, out=product)
            if keep:
                step_and_slopes(inputs[t - first], fixed, bias, moving, after[t + 1], kept[t], derived[t])
            else:
                step(inputs[t - first], fixed, bias, moving, after[t + 1])
    return states, updates, slopes


def _array(tensor: Tensor) -> np.ndarray:
    """Return the values as NumPy's; bfloat16 as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


class _GruLayer(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, initial: Tensor | None, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, low: Any
    ) -> Tensor:
        inputs = x.to(low)
        states, updates, slopes = _run(inputs, initial, w_ih, w_hh, b_ih, b_hh, keep=True)
        ctx.save_for_backward(inputs, w_ih, w_hh, states)
        ctx.kept = (updates, slopes)
        ctx.input_type = x.dtype
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from repkit.stage_one.gru_kernels import step_back

        x, w_ih, w_hh, states = ctx.saved_tensors
        if ctx.kept is None:
            raise RuntimeError(
                "GRU layer: a second backward pass; what it needs was used up by the first; run it again"
            )
        (updates, sums), ctx.kept = ctx.kept, None
        (n_steps, batch, n_in), h, low = x.shape, w_hh.shape[1], x.dtype
        across = w_hh.to(low)
        product, state = torch.zeros(batch, h, dtype=low), torch.zeros(batch, h)
        # columns: candidate (input side), reset, update, candidate (recurrent side): those of both projections lie together
        recurrent = sums[..., h:].unbind(0)
        outer, gates, derived = _array(grad.to(low).contiguous()), updates.numpy(), _array(sums)
        through, moving = _array(product), state.numpy()
        for t in range(n_steps - 1, -1, -1):
            # before the first step back there is no gradient that a gate could pass on
            step_back(moving, gates[min(t + 1, n_steps - 1)], through, outer[t], derived[t])
            torch.mm(recurrent[t], across, out=product)
        rows = sums.view(n_steps * batch, 4 * h)
        input_side, recurrent_side = rows[:, : 3 * h], rows[:, h:]
        d_ih = (x.reshape(-1, n_in).t() @ input_side).t()
        d_hh = (states[:-1].view(-1, h).t() @ recurrent_side).t()
        # a column sum as a product, ten times faster than sum() in bfloat16
        d_bias = (torch.ones(1, len(rows), dtype=low) @ rows)[0].float()
        d_x = d_initial = None
        if ctx.needs_input_grad[0]:
            candidate_first = torch.cat([w_ih[2 * h :], w_ih[: 2 * h]]).to(low)
            d_x = (input_side @ candidate_first).view(x.shape).to(ctx.input_type)
        if ctx.needs_input_grad[1]:
            d_initial = state.mul_(updates[0]).add_(product)
        return (
            d_x,
            d_initial,
            _candidate_last(d_ih, h),
            d_hh.float(),
            _candidate_last(d_bias[: 3 * h], h),
            d_bias[h:],
            None,
        )


def _candidate_last(rows: Tensor, h: int) -> Tensor:
    return torch.cat([rows[h:], rows[:h]]).float()
