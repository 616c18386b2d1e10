"""Stacks of one-directional recurrent layers with dropout at every cell's input and output.

Time first (T, B, features), because each step's rows then lie together. Dense padded batches, never packed ones, which
are about ten times slower on CPUs (measured: docs/decisions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from repkit.stage_one.gru_layer import gru_layer


class RecurrentStack(nn.Module):
    """L single-layer GRUs or LSTMs, one after the other.

    Between two layers stand two dropouts (output of one, input of the next), drawn as one of keep (1 - p)^2.
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.cell = cell
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.layers = nn.ModuleList(kind(input_size if i == 0 else hidden_size, hidden_size) for i in range(n_layers))

    def forward(
        self,
        x: Tensor,
        states: Sequence[Tensor] | None = None,
        lengths: Tensor | None = None,
        with_finals: bool = False,
        drop_output: bool = True,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run all layers.

        Args:
            x: (T, B, input size).
            states: initial state per layer (B, state size), or None for zeros; LSTM: cell state, then hidden state.
            lengths: (B,) valid steps, or None when all are.
            with_finals: whether to return the final states.
            drop_output: whether the last layer's output goes through dropout; a reader of states saves the mask.

        Returns:
            outputs of each layer (T, B, H), only the last one after its dropout; final state of each layer at its last
            valid step, without dropout, or an empty list.
        """
        outputs, finals = [], []
        autocast = torch.is_autocast_enabled(x.device.type)
        low = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        x = dropout(x, self.dropout, self.training, low)
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            state = None if states is None else states[i]
            if autocast and x.device.type != "cpu":
                # autocast has a GPU's recurrent layers in float16 whatever type it was given; the gradients of the losses here
                # are smaller than float16's smallest numbers, and nothing scales them
                with torch.autocast(x.device.type, enabled=False):
                    initial = None if state is None else state.float()
                    y, final = self._run(layer, x.float(), initial, lengths, with_finals, torch.float32)
            else:
                y, final = self._run(layer, x, state, lengths, with_finals, low)
            if with_finals:
                finals.append(final)
            keep = (1 - self.dropout) ** (1 if i == last else 2)
            x = dropout(y, 1 - keep, self.training, low) if i < last or drop_output else y
            outputs.append(x if i == last else y)
        return outputs, finals

    def _run(
        self,
        layer: nn.Module,
        x: Tensor,
        state: Tensor | None,
        lengths: Tensor | None,
        with_final: bool,
        low: torch.dtype,
    ) -> tuple[Tensor, Tensor | None]:
        if self.cell == "gru":
            dense = isinstance(layer, nn.GRU) and len(x) > 1 and low in (torch.float32, torch.bfloat16)
            if dense and x.device.type == "cpu":
                y = gru_layer(layer, x, state, low)
            else:  # on a GPU PyTorch's own layer is one fused program (cuDNN)
                y, _ = layer(x, None if state is None else state[None].contiguous())
            if not with_final:
                return y, None
            if lengths is None:
                return y, y[-1]
            return y, y[lengths - 1, torch.arange(x.shape[1], device=x.device)]
        h = self.hidden_size
        pair = None if state is None else (state[None, :, h:].contiguous(), state[None, :, :h].contiguous())
        if with_final and lengths is not None:
            # the cell state at the last valid step is not among the outputs, so that only packing gives it
            packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            packed_y, (hidden, cell) = layer(packed, pair)
            y, _ = pad_packed_sequence(packed_y, total_length=x.shape[0])
        else:
            y, (hidden, cell) = layer(x, pair)
        return y, torch.cat([cell[0], hidden[0]], dim=-1) if with_final else None

    def init_as_tensorflow(self) -> None:
        """Draw weights as TensorFlow 1's cells do: Glorot uniform over the joint kernel; gate bias 1, candidate 0.

        Its GRU has one kernel (input + H, 2 H) for the gates and one (input + H, H) for the candidate, its LSTM one
        (input + H, 4 H) and a forget bias of 1.
        """
        h = self.hidden_size
        for layer in self.layers:
            n_in = layer.input_size + h
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.zeros_(layer.bias_hh_l0)
            for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
                if self.cell == "gru":  # rows: reset, update, candidate
                    gates, candidate = math.sqrt(6 / (n_in + 2 * h)), math.sqrt(6 / (n_in + h))
                    nn.init.uniform_(weight[: 2 * h], -gates, gates)
                    nn.init.uniform_(weight[2 * h :], -candidate, candidate)
                else:  # rows: input, forget, cell, output
                    limit = math.sqrt(6 / (n_in + 4 * h))
                    nn.init.uniform_(weight, -limit, limit)
            ones = slice(0, 2 * h) if self.cell == "gru" else slice(h, 2 * h)
            nn.init.ones_(layer.bias_ih_l0[ones])


def dropout(x: Tensor, p: float, training: bool, low: torch.dtype | None = None) -> Tensor:
    """Zero elements with probability p and scale the rest.

    On a CPU 16 random bits decide for each element (p is exact to 2^-16), which takes a third of the time of torch's
    own dropout (measured: 10 against 29 ms for 3 million elements, of which an update draws eight).

    Args:
        x: any shape.
        p: drop probability, below 1.
        training: whether to drop at all.
        low: type of the result on a CPU when something may be dropped; None for that of x.
    """
    if not training or p == 0:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, p, True)
    n, low = x.numel(), low or x.dtype
    bits = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:n].view(x.shape)
    threshold = min(round(p * 65536), 65535)
    mask = torch.ge(bits, threshold - 32768, out=torch.empty(x.shape, dtype=low))
    return (x.to(low) * mask) * (65536 / (65536 - threshold))


def reverse_index(lengths: Tensor | None, n_steps: int, batch: int, device: torch.device | str) -> Tensor | None:
    """Return the rows of a flattened (T * B) tensor that reverse each sequence within its own valid part.

    Padded steps stay where they are. None means that all sequences are full, so that a plain flip will do.
    """
    if lengths is None or bool((lengths == n_steps).all()):
        return None
    steps = torch.arange(n_steps, device=device)[:, None]
    mirrored = lengths[None, :] - 1 - steps
    source = torch.where(mirrored >= 0, mirrored, steps)
    return (source * batch + torch.arange(batch, device=device)).reshape(-1)


def pad(frames: Sequence[np.ndarray], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Stack (T_i, F) arrays into zero-padded (B, T, F) float32 and their lengths (B,) int64."""
    lengths = torch.tensor([len(f) for f in frames], dtype=torch.int64)
    padded = torch.zeros(len(frames), int(lengths.max()), frames[0].shape[1])
    for row, values in zip(padded, frames, strict=True):
        row[: len(values)] = torch.from_numpy(np.asarray(values, np.float32))
    return padded.to(device), lengths.to(device)


def reverse_valid(frames: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse (B, T, F) in time, each sequence within its own valid part; padded steps stay."""
    x = frames.transpose(0, 1)
    return take(x, reverse_index(lengths, x.shape[0], x.shape[1], x.device)).transpose(0, 1)


def take(x: Tensor, order: Tensor | None) -> Tensor:
    """Reverse (T, B, F) in time by the row order of `reverse_index`."""
    if order is None:
        return x.flip(0)
    return x.reshape(-1, x.shape[-1]).index_select(0, order).view(x.shape)


def delay(x: Tensor) -> Tensor:
    """Shift (T, B, F) one step later; the first frame is zero."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def advance(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Shift (T, B, F) one step earlier; the last valid frame is zero."""
    y = torch.cat([x[1:], torch.zeros_like(x[:1])])
    if lengths is None:
        return y
    steps = torch.arange(len(x), device=x.device)
    return y * (steps[:, None] < lengths[None, :] - 1)[..., None]
