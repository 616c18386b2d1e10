"""The CNN-BLSTM over spectrogram segments, whole: reconstructed sizes for Gao et al., and Satt et al.'s as a preset.

Paper: Y. Gao, S. Okada, L. Wang, J. Liu, J. Dang, "Domain-invariant feature learning for cross corpus speech emotion
recognition", ICASSP 2022. It gives the input (32 frames x 129 bins) and says that its sizes are based on A. Satt,
S. Rozenberg, R. Hoory, "Efficient emotion recognition from speech using deep learning on spectrograms", Interspeech
2017, but not the sizes. ``preset = "gao2022"`` is a reconstruction for 32 frames; ``preset = "satt2017"`` holds that
paper's sizes from memory (not verified against its text), whose kernels suit segments of 3 s.

Sizes of gao2022 (input 1 x 32 x 129): convolution 5x5 to 32 channels and pool 2x2, 32 x 16 x 64; convolution 5x5 to 64
channels and pool 2x2, 64 x 8 x 32; per time step 2048 values; BLSTM with 128 units per direction; the last states of
both directions make z, 256. Each convolution is followed by batch normalisation and ReLU.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from repkit import api

PRESETS: dict[str, dict[str, tuple]] = {
    "gao2022": {"filters": (32, 64), "kernels": ((5, 5), (5, 5)), "pools": ((2, 2), (2, 2))},
    "satt2017": {
        "filters": (16, 24, 32),
        "kernels": ((12, 16), (8, 12), (5, 7)),
        "pools": ((2, 2), (2, 2), (1, 1)),
    },
}
"""Filters, kernels (frames, bins) and pools (frames, bins) of every convolution."""


class CnnBlstm(nn.Module):
    """Convolutions over time and frequency, BLSTM, one linear head per view behind dropout.

    Parameters of gao2022: convolutions 52 096, BLSTM 2 230 272, batch normalisation 192, head of two classes 514.

    With utterance vectors (own design) z is a linear map of [last states, vector] back to the width of the last states.
    A vector joined after z would carry speaker and corpus past the domain heads and the centre loss, which act on z.
    """

    capabilities = frozenset({"segments", "vectors"})

    class Config(api.Config):
        """Settings; what is empty comes from the preset."""

        preset: Literal["gao2022", "satt2017"] = "gao2022"
        filters: tuple[PositiveInt, ...] = Field(default=(), description="output channels of every convolution")
        kernels: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(default=(), description="frames, bins of each")
        pools: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
            default=(), description="frames, bins of the maximum after each; [1, 1] for none"
        )
        units: int = Field(default=128, ge=1, description="BLSTM units per direction")
        dropout: float = Field(default=0.5, ge=0, lt=1, description="drop probability on z before the heads")

        @model_validator(mode="after")
        def _same_count(self) -> CnnBlstm.Config:
            counts = {name: len(self.of_layers(name)) for name in ("filters", "kernels", "pools")}
            if len(set(counts.values())) != 1:
                said = ", ".join(f"{n} {name}" for name, n in counts.items())
                raise ValueError(f"as many filters as kernels and pools are expected; with the preset there are {said}")
            return self

        def of_layers(self, name: Literal["filters", "kernels", "pools"]) -> tuple:
            """Return the filters, kernels or pools in force."""
            return getattr(self, name) or PRESETS[self.preset][name]

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        if not task.n_frames:
            raise ValueError(
                "cnn_blstm: utterances of any length; items of fixed length were expected; give the recipe a table "
                "[segments] with length_s = 0.265"
            )
        self.config = config
        self.task = task
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self._more: list[tuple[int, int, int, int]] = []
        channels, n_steps, n_bins = 1, task.n_frames, task.n_bands
        self.pools = config.of_layers("pools")
        for filters, kernel, pool in zip(
            config.of_layers("filters"), config.of_layers("kernels"), self.pools, strict=True
        ):
            self.convs.append(
                nn.Conv2d(channels, filters, kernel, padding=((kernel[0] - 1) // 2, (kernel[1] - 1) // 2))
            )
            self.norms.append(nn.BatchNorm2d(filters))
            # the size stays: an even kernel needs one zero more, after the last frame or bin
            self._more.append((0, (kernel[1] + 1) % 2, 0, (kernel[0] + 1) % 2))
            channels, n_steps, n_bins = filters, n_steps // pool[0], n_bins // pool[1]
        if not n_steps or not n_bins:
            raise ValueError(
                f"cnn_blstm: items of {task.n_frames} frames x {task.n_bands} bins; the pools {list(self.pools)} leave "
                f"{n_steps} x {n_bins}; give longer segments or smaller pools"
            )
        width = 2 * config.units
        self.lstm = nn.LSTM(channels * n_bins, config.units, batch_first=True, bidirectional=True)
        self.join = nn.Linear(width + task.vector_dim, width) if task.vector_dim else None
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleDict({view: nn.Linear(width, len(classes)) for view, classes in task.views.items()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return parameters by role: batch normalisation is ``norm``, what lies before the heads ``shared``."""
        groups = {"norm": list(self.norms.parameters()), "head": list(self.heads.parameters())}
        known = {id(p) for group in groups.values() for p in group}
        return {"shared": [p for p in self.parameters() if id(p) not in known], **groups}

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits of every view and z before dropout, (B, 2 units).

        Raises:
            ValueError: items longer than the task's, or vectors missing.
        """
        shared = self._last_states(self._items(batch))
        if self.join is not None:
            if batch.vectors is None:
                raise ValueError("cnn_blstm: the batch has no vectors; the task has some")
            shared = self.join(torch.cat([shared, batch.vectors.to(shared.dtype)], dim=1))
        hidden = self.dropout(shared)
        return api.Outputs(
            logits={view: head(hidden).float() for view, head in self.heads.items()}, shared=shared.float()
        )

    def _items(self, batch: api.Batch) -> torch.Tensor:
        """Return frames (B, task.n_frames, F), zero beyond each item's length."""
        frames, wanted = batch.frames, self.task.n_frames
        if frames.shape[1] > wanted:
            raise ValueError(
                f"cnn_blstm: items of {frames.shape[1]} frames; {wanted} were expected, the length of the segments"
            )
        frames = frames * batch.mask[..., None]
        return F.pad(frames, (0, 0, 0, wanted - frames.shape[1]))

    def _last_states(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the last state of the forward and the first frame's state of the backward direction, (B, 2 units)."""
        # strides of channels last: a fourth faster on CPUs, and the LSTM's input then is a view
        maps = frames[..., None].permute(0, 3, 1, 2)  # (B, 1, T, F)
        for conv, norm, more, pool in zip(self.convs, self.norms, self._more, self.pools, strict=True):
            maps = norm(conv(F.pad(maps, more) if any(more) else maps))
            if tuple(pool) != (1, 1):
                maps = F.max_pool2d(maps, pool)
            maps = F.relu(maps)  # maximum and ReLU commute; this order handles a quarter of the values
        steps = maps.permute(0, 2, 3, 1).flatten(2)  # (B, T', F' x channels)
        _, (states, _) = self.lstm(steps)  # (2, B, units)
        return torch.cat([states[0], states[1]], dim=1)
