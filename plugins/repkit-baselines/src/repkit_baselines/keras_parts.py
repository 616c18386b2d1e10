"""What Keras does otherwise than torch, where the networks of Keesing et al. 2020 depend on it.

Their code is TensorFlow 2 / Keras (sheet, section 1 and traps 12 and 13). Written anew from Keras' documented behaviour.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal cut at two deviations; Keras divides by it, so that He's variance is kept."""


def same_padding(n_steps: int, width: int, stride: int = 1) -> tuple[int, int]:
    """Return how many zeros ``padding="same"`` puts left and right of n_steps; the larger half is on the right.

    A stride makes it depend on the length: ceil(n_steps / stride) outputs are wanted.
    """
    total = max((math.ceil(n_steps / stride) - 1) * stride + width - n_steps, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution over an image with Keras' ``same`` padding, stride 1."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (B, C', H, W) from (B, C, H, W)."""
        rows, columns = (same_padding(image.shape[2 + i], self.kernel_size[i]) for i in range(2))
        return super().forward(F.pad(image, (*columns, *rows)))


def same_max_pool2d(image: torch.Tensor) -> torch.Tensor:
    """Return (B, C, ceil(H / 2), ceil(W / 2)): the maxima of 2 x 2, where padding never is the maximum."""
    return F.max_pool2d(image, 2, ceil_mode=True)


class KerasBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation with Keras' momentum .99 (torch counts the other part, .01) and epsilon 1e-3, of any rank."""

    def __init__(self, n_channels: int) -> None:
        super().__init__(n_channels, eps=1e-3, momentum=0.01)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return (B, C, T, ...) normalised; with mask (B, T) its steps alone make the statistics of a training batch."""
        if mask is None or not self.training:
            return super().forward(values)
        rows = values.movedim(2, 1)  # (B, T, C, ...)
        normalised = torch.zeros_like(rows)
        normalised[mask] = super().forward(rows[mask])
        return normalised.movedim(1, 2)


class KerasLstm(nn.LSTM):
    """One layer, one direction, batch first, with one bias vector: torch's second is no parameter and stays zero."""

    def __init__(self, n_inputs: int, hidden_size: int) -> None:
        super().__init__(n_inputs, hidden_size, batch_first=True)
        del self.bias_hh_l0
        self.register_buffer("bias_hh_l0", torch.zeros(4 * hidden_size), persistent=False)
        self._init_flat_weights()
        init_recurrent_(self)


class AttentionPooling(nn.Module):
    """Softmax over time of x . w, and the mean so weighted: one weight vector, no bias, no tanh (sheet, section 1)."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_inputs, 1))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (B, H) from states (B, T, H); every step counts, those of the padding too, as published."""
        return ((states @ self.weight).softmax(1) * states).sum(1)


@torch.no_grad()
def he_normal_(weight: torch.Tensor, fan_in: int | None = None) -> torch.Tensor:
    """Fill in place as Keras' ``he_normal``: normal, cut at two deviations, variance 2 / fan-in after the cut.

    Source: He et al. 2015; the cut, and the widening that restores the variance, are Keras'.

    Args:
        weight: any shape.
        fan_in: inputs of each unit; by default those of a torch layer's weight.
    """
    fan_in = fan_in or nn.init._calculate_fan_in_and_fan_out(weight)[0]
    std = math.sqrt(2.0 / fan_in) / TRUNCATED_STD
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


@torch.no_grad()
def init_layers_(module: nn.Module, kind: str = "glorot_uniform") -> None:
    """Initialise every convolution and linear layer inside a module: weights by `kind`, biases zero.

    Args:
        module: whose layers are filled in place.
        kind: ``"glorot_uniform"`` (Keras' default) or ``"he_normal"``.
    """
    fill = {"glorot_uniform": nn.init.xavier_uniform_, "he_normal": he_normal_}[kind]
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            fill(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def init_recurrent_(layer: nn.LSTM | nn.GRU) -> None:
    """Initialise as Keras: input weights Glorot uniform, recurrent ones orthogonal, biases 0, forget bias 1 (LSTM).

    Keras keeps the gates side by side in one matrix and initialises that, so fan-out counts all gates and the columns of
    all gates together are orthogonal; torch's matrix is its transpose.
    """
    for name, values in layer.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(values)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(values)
        else:
            nn.init.zeros_(values)
            if isinstance(layer, nn.LSTM) and name.startswith("bias_ih"):
                values.chunk(4)[1].fill_(1.0)  # torch's gates: input, forget, cell, output


def roles(model: nn.Module, heads: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters by role: the last dense layers ``head``, batch normalisation ``norm``, the rest ``shared``."""
    norms = [layer for layer in model.modules() if isinstance(layer, KerasBatchNorm)]
    groups = {"head": list(heads.parameters()), "norm": [p for layer in norms for p in layer.parameters()]}
    known = {id(p) for group in groups.values() for p in group}
    groups["shared"] = [p for p in model.parameters() if id(p) not in known]
    return {role: group for role, group in groups.items() if group}
