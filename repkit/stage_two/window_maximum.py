"""The largest response of each filter among the windows of a pool: convolution and max-pooling as one function.

A maximum passes its gradient to one window of a pool, so that the gradient of the filters is a weighted sum of few windows and
not a product over all of them: a tenth of the time on a CPU (tests/benchmarks/bench_window_maximum.py). Source: own design.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def window_maximum(
    windows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, invalid: torch.Tensor
) -> torch.Tensor:
    """Return for each pool and filter the largest response among its valid windows.

    Args:
        windows: (V, P, D) float32 or float64, P windows of each of V pools; no gradient flows to them.
        weight: (C, D) filters.
        bias: (C,).
        invalid: (n,) int64, windows of the flattened (V * P) that do not count; every pool has one that does.

    Returns:
        (V, C). Under autocast the product is made in its dtype; the choice of the window then is by rounded responses.
    """
    values: torch.Tensor = _WindowMaximum.apply(windows.flatten(0, 1), weight, bias, invalid, windows.shape[1])
    return values


class _WindowMaximum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, windows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, invalid: torch.Tensor, pool: int
    ) -> torch.Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else windows.dtype
        responses = windows.to(dtype) @ weight.to(dtype).T  # (V * P, C)
        responses[invalid] = -torch.inf
        pools = responses.view(-1, pool, len(weight))
        if not any(ctx.needs_input_grad):
            return pools.amax(dim=1).to(bias.dtype) + bias  # without the places a fifth of the time
        values, places = pools.max(dim=1)  # (V, C)
        ctx.save_for_backward(windows, places)
        ctx.pool = pool
        return values.to(bias.dtype) + bias

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        windows, places = ctx.saved_tensors
        gradient = gradient.to(windows.dtype)
        rows = places + torch.arange(0, len(windows), ctx.pool)[:, None]
        weight = F.embedding_bag(rows.T.contiguous(), windows, mode="sum", per_sample_weights=gradient.T.contiguous())
        return None, weight, gradient.sum(0), None, None
