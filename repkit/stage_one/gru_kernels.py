"""The element-wise halves of a GRU step, forward and backward, each one pass over the data, compiled by Numba.

What PyTorch does in some twenty calls is one loop here, which LLVM turns into vector instructions. Arrays of bfloat16 come as
their bits (uint16), because neither NumPy nor Numba knows the type; the arithmetic is float32. Source: own design; the
exponential is that of Cephes' ``exp2f`` in spirit: integer part into the exponent's bits, a polynomial for the rest.

Axes: B batch, H units; columns of sums and weights are reset, update, candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

# Numba compares the signatures of what it overloads, annotations too: those have none
_MATHS = {"contract", "nnan", "ninf", "nsz"}  # not reassociation, which would undo the rounding below
_F, _U = np.float32, np.uint32


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    return types.float32(types.uint32), lambda c, builder, s, given: builder.bitcast(given[0], ir.FloatType())


@intrinsic
def _as_bits(context: Any, value: Any) -> Any:
    return types.uint32(types.float32), lambda c, builder, s, given: builder.bitcast(given[0], ir.IntType(32))


def _read(row, j):
    """Return row[j] as float32."""


@overload(_read, inline="always")
def _read_as(row, j):
    if row.dtype == types.uint16:
        return lambda row, j: _as_float(_U(row[j]) << _U(16))
    return lambda row, j: row[j]


def _write(row, j, value):
    """Set row[j], rounded to the nearest, ties to even."""


@overload(_write, inline="always")
def _write_as(row, j, value):
    if row.dtype == types.uint16:

        def rounded(row, j, value):
            bits = _as_bits(value)
            row[j] = np.uint16((bits + _U(0x7FFF) + ((bits >> _U(16)) & _U(1))) >> _U(16))

        return rounded

    def plain(row, j, value):
        row[j] = value

    return plain


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(cache=True, fastmath=_MATHS, error_model="numpy", nogil=True)(function)
    except RuntimeError:  # no folder to keep the compiled code in
        return njit(fastmath=_MATHS, error_model="numpy", nogil=True)(function)


@njit(inline="always", fastmath=_MATHS)
def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + 2^(-x / ln 2)), 2e-7 from the truth."""
    power = min(max(x * _F(-1.4426950408889634), _F(-126.0)), _F(126.0))
    whole = power + _F(12582912.0)  # 1.5 x 2^23: the sum's last bits are the nearest integer
    rest = power - (whole - _F(12582912.0))
    e = _F(1.5403530e-4)
    e = e * rest + _F(1.3333558e-3)
    e = e * rest + _F(9.6181291e-3)
    e = e * rest + _F(5.5504109e-2)
    e = e * rest + _F(2.4022651e-1)
    e = e * rest + _F(6.9314718e-1)
    e = e * rest + _F(1.0)
    return _F(1.0) / (_F(1.0) + _as_float(_as_bits(e) + (_as_bits(whole) << _U(23))))


@_compiled
def step(into: Any, across: Any, bias: Any, state: Any, narrow: Any) -> None:
    """Make a step, without what a backward pass needs.

    Args:
        into: (B, 3 H) products of the input and its weights, float32 or bfloat16's bits, as all but the state.
        across: (B, 3 H) products of the state before and its weights.
        bias: (4 H,) float32: both biases of reset and of update, input's of the candidate, recurrent one of it.
        state: (B, H) float32, replaced by the state after.
        narrow: (B, H), takes the state after.
    """
    h = state.shape[1]
    reset_bias, update_bias, new_bias, recurrent_bias = bias[:h], bias[h : 2 * h], bias[2 * h : 3 * h], bias[3 * h :]
    for b in range(state.shape[0]):
        reset_in, update_in, new_in = into[b, :h], into[b, h : 2 * h], into[b, 2 * h :]
        reset_across, update_across, new_across = across[b, :h], across[b, h : 2 * h], across[b, 2 * h :]
        states, after = state[b], narrow[b]
        for j in range(h):
            r = _sigmoid(_read(reset_in, j) + _read(reset_across, j) + reset_bias[j])
            z = _sigmoid(_read(update_in, j) + _read(update_across, j) + update_bias[j])
            c = _read(new_across, j) + recurrent_bias[j]
            n = _F(2.0) * _sigmoid(_F(2.0) * (_read(new_in, j) + new_bias[j] + r * c)) - _F(1.0)
            value = n + z * (states[j] - n)
            states[j] = value
            _write(after, j, value)


@_compiled
def step_and_slopes(into: Any, across: Any, bias: Any, state: Any, narrow: Any, updates: Any, slopes: Any) -> None:
    """Make a step and keep its derivatives.

    With h' = (1 - z) n + z h and n = tanh(i + r c), the derivatives of h' with respect to the sums, in the order of columns:
    i: (1 - z)(1 - n^2); sum of r: that times c r (1 - r); sum of z: (h - n) z (1 - z); c: (1 - z)(1 - n^2) r.

    Args:
        into: see `step`.
        across: see `step`.
        bias: see `step`.
        state: see `step`.
        narrow: see `step`.
        updates: (B, H) float32, takes z.
        slopes: (B, 4 H), takes the derivatives.
    """
    h = state.shape[1]
    reset_bias, update_bias, new_bias, recurrent_bias = bias[:h], bias[h : 2 * h], bias[2 * h : 3 * h], bias[3 * h :]
    for b in range(state.shape[0]):
        reset_in, update_in, new_in = into[b, :h], into[b, h : 2 * h], into[b, 2 * h :]
        reset_across, update_across, new_across = across[b, :h], across[b, h : 2 * h], across[b, 2 * h :]
        states, after, update = state[b], narrow[b], updates[b]
        by_new, by_reset, by_update, by_recurrent = (
            slopes[b, :h], slopes[b, h : 2 * h], slopes[b, 2 * h : 3 * h], slopes[b, 3 * h :],
        )  # fmt: skip
        for j in range(h):
            r = _sigmoid(_read(reset_in, j) + _read(reset_across, j) + reset_bias[j])
            z = _sigmoid(_read(update_in, j) + _read(update_across, j) + update_bias[j])
            c = _read(new_across, j) + recurrent_bias[j]
            n = _F(2.0) * _sigmoid(_F(2.0) * (_read(new_in, j) + new_bias[j] + r * c)) - _F(1.0)
            apart = states[j] - n
            value = n + z * apart
            states[j] = value
            _write(after, j, value)
            update[j] = z
            slope = (_F(1.0) - z) * (_F(1.0) - n * n)
            _write(by_new, j, slope)
            _write(by_reset, j, slope * r * c * (_F(1.0) - r))
            _write(by_update, j, apart * z * (_F(1.0) - z))
            _write(by_recurrent, j, slope * r)


@_compiled
def step_back(state: Any, updates: Any, across: Any, outer: Any, slopes: Any) -> None:
    """Go one step back.

    Args:
        state: (B, H) float32 gradient of the step after's new state, replaced by that of this step's.
        updates: (B, H) float32 update gates of the step after.
        across: (B, H) gradient that came through the step after's sums.
        outer: (B, H) gradient of this step's output.
        slopes: (B, 4 H) derivatives of this step, replaced by the gradients of its sums.
    """
    h = state.shape[1]
    for b in range(state.shape[0]):
        states, update, through, own = state[b], updates[b], across[b], outer[b]
        by_new, by_reset, by_update, by_recurrent = (
            slopes[b, :h], slopes[b, h : 2 * h], slopes[b, 2 * h : 3 * h], slopes[b, 3 * h :],
        )  # fmt: skip
        for j in range(h):
            value = states[j] * update[j] + _read(through, j) + _read(own, j)
            states[j] = value
            _write(by_new, j, value * _read(by_new, j))
            _write(by_reset, j, value * _read(by_reset, j))
            _write(by_update, j, value * _read(by_update, j))
            _write(by_recurrent, j, value * _read(by_recurrent, j))
