"""What the three architectures of Parry et al. 2019 have in common: convolutions, mean over time, FC module, initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from repkit import api

Counts = TypeVar("Counts", int, torch.Tensor)
"""A number of frames, or those of a batch."""


class CommonConfig(api.Config):
    """Settings of all three models; the defaults are the paper's.

    Per-utterance normalisation makes the mean over time of every linear map of the frames the same for all utterances.
    A network whose units all work near zero is such a map: what tells utterances apart is then small beside what they
    share, and training starts on a plateau where all is called by the most frequent class. `init` and `pooled_norm`
    are two ways off it (own design); the README has the reasons.
    """

    min_frames: int = Field(default=100, ge=1, description="shorter utterances are zero-padded to this (paper: 100)")
    init: Literal["default", "scaled"] = Field(
        default="default",
        description="default: torch's (reconstructed); scaled: variance kept from layer to layer, recurrent weights "
        "orthogonal, forget bias 1",
    )
    pooled_norm: Literal["none", "layer", "batch"] = Field(
        default="none", description="normalise the mean over time: none (paper), over its units, or over the batch"
    )


def masked_frames(batch: api.Batch, min_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return frames (B, max(T, min_frames), F), zero where padded, and how many of each item count, (B,).

    An item shorter than min_frames counts as min_frames: these zeros are published behaviour, those of the batch beyond
    them are not seen.
    """
    frames = batch.frames.masked_fill(~batch.mask[..., None], 0.0)
    frames = F.pad(frames, (0, 0, 0, max(0, min_frames - frames.shape[1])))
    return frames, batch.lengths.clamp(min=min_frames)


def masked_mean(states: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, H) of the first counts (B,) steps of states (B, T, H); the others weigh nothing."""
    steps = torch.arange(states.shape[1], device=states.device)
    weights = (steps[None, :] < counts[:, None]).to(states.dtype) / counts[:, None].to(states.dtype)  # (B, T)
    return torch.einsum("bth,bt->bh", states, weights)


class ConvolutionStack(nn.Module):
    """n x [convolution over time, stride 1, no padding -> ReLU -> max-pool], bands as input channels.

    Neither convolution nor pooling pads, so the first `n_steps` outputs of an item are made of its own frames alone,
    whatever follows them in the batch.
    """

    def __init__(
        self, n_bands: int, channels: Sequence[int], kernels: Sequence[int], pool_size: int, pool_stride: int
    ) -> None:
        super().__init__()
        inputs = [n_bands, *channels[:-1]]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(n_in, n_out, kernel) for n_in, n_out, kernel in zip(inputs, channels, kernels, strict=True)
        )
        self.pool_size, self.pool_stride = pool_size, pool_stride

    def n_steps(self, n_frames: Counts) -> Counts:
        """Return how many outputs so many frames give."""
        return stack_steps(n_frames, [c.kernel_size[0] for c in self.convolutions], self.pool_size, self.pool_stride)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return (B, T', C) from frames (B, T, F)."""
        hidden = frames.transpose(1, 2)  # (B, F, T)
        for convolution in self.convolutions:
            # ReLU and maximum commute; after the pool there is half as much to do
            hidden = F.relu(F.max_pool1d(convolution(hidden), self.pool_size, self.pool_stride))
        return hidden.transpose(1, 2)


def stack_steps(n_frames: Counts, kernels: Sequence[int], pool_size: int, pool_stride: int) -> Counts:
    """Return how many outputs a stack of convolutions and pools makes of n_frames; 0 or less where they do not suffice."""
    for kernel in kernels:
        n_frames = (n_frames - kernel + 1 - pool_size) // pool_stride + 1
    return n_frames


def require_steps(min_frames: int, kernels: Sequence[int], channels: Sequence[int], size: int, stride: int) -> None:
    """Refuse a stack whose parts do not fit together, or that swallows an utterance of min_frames whole.

    Raises:
        ValueError: with the reason; pydantic makes it a problem of the recipe.
    """
    if len(kernels) != len(channels):
        raise ValueError(f"kernel_frames has {len(kernels)} and channels {len(channels)} entries; one each per layer")
    if min([*kernels, *channels, 1]) < 1 or not channels:
        raise ValueError("kernel_frames and channels: at least one layer, and numbers of 1 or more, were expected")
    needed = 1
    for kernel in reversed(kernels):
        needed = (needed - 1) * stride + size + kernel - 1
    if min_frames < needed:
        raise ValueError(
            f"min_frames {min_frames}: at least {needed} were expected, which the layers need for one step"
        )


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes its running statistics for a batch of one, which has none of its own."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return (B, H)."""
        if self.training and len(pooled) == 1:
            return F.batch_norm(
                pooled, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(pooled)


class FcModule(nn.Module):
    """Mean vector (and the utterance vector, where the task has one) -> hidden layer, ReLU -> one linear head per view."""

    def __init__(self, n_inputs: int, fc_size: int, pooled_norm: str, task: api.TaskSpec) -> None:
        super().__init__()
        norms = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": _BatchNorm}
        self.norm = norms[pooled_norm](n_inputs)
        self.vector_dim = task.vector_dim
        self.hidden = nn.Linear(n_inputs + task.vector_dim, fc_size)
        self.heads = nn.ModuleDict({view: nn.Linear(fc_size, len(classes)) for view, classes in task.views.items()})

    def forward(self, pooled: torch.Tensor, vectors: torch.Tensor | None) -> api.Outputs:
        """Return logits of every view and the hidden layer after ReLU (B, fc_size), from which the paper draws t-SNE.

        Args:
            pooled: (B, H) mean over time.
            vectors: (B, D) utterance vectors, read only where the task has them.
        """
        pooled = self.norm(pooled)
        if self.vector_dim:
            pooled = torch.cat([pooled, vectors.to(pooled.dtype)], dim=1)
        shared = F.relu(self.hidden(pooled))
        return api.Outputs(
            logits={view: head(shared).float() for view, head in self.heads.items()}, shared=shared.float()
        )


def parameter_roles(model: nn.Module, fc: FcModule) -> dict[str, list[nn.Parameter]]:
    """Return the parameters by role: the last linear layers ``head``, normalisation ``norm``, the rest ``shared``."""
    groups = {"head": list(fc.heads.parameters()), "norm": list(fc.norm.parameters())}
    known = {id(p) for group in groups.values() for p in group}
    groups["shared"] = [p for p in model.parameters() if id(p) not in known]
    return {role: group for role, group in groups.items() if group}


@torch.no_grad()
def scale_weights(model: nn.Module, fc: FcModule) -> None:
    """Draw the initial weights of ``init = "scaled"``.

    Before a ReLU: normal with variance 2 / fan-in, bias 0 (He et al. 2015). LSTM: input weights uniform per gate
    (Glorot & Bengio 2010), recurrent weights orthogonal per gate (Saxe et al. 2014), forget bias 1 in all (Jozefowicz et
    al. 2015). Heads keep torch's.
    """
    heads = set(fc.heads.children())
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Linear) and module not in heads:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            for name, values in module.named_parameters():
                if name.startswith("bias"):
                    values.zero_()
                    if name.startswith("bias_ih"):  # torch adds two bias vectors; gates in the order i, f, g, o
                        values.chunk(4)[1].fill_(1.0)
                    continue
                for gate in values.chunk(4):
                    (nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_)(gate)
