"""The CNN-LSTM of Parry et al. 2019, whole.

Paper: J. Parry et al., "Analysis of deep learning architectures for cross-corpus speech emotion recognition",
Interspeech 2019. Stated: max-pool 3 with step 2, about 2 M parameters. Reconstructed: 3 x [convolution ->
ReLU -> max-pool] over 5, 5, 3 frames with 128, 256, 256 channels -> 2 x LSTM 320 (one direction) -> mean over time ->
128, ReLU -> classes; 1 989 763 parameters with 40 bands and 3 classes. 100 frames become 9 steps.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import nn

from repkit import api
from repkit_cross_corpus.layers import (
    CommonConfig,
    ConvolutionStack,
    FcModule,
    masked_frames,
    masked_mean,
    parameter_roles,
    require_steps,
    scale_weights,
)


class ParryCnnLstm(nn.Module):
    """Convolutions over time with max-pools, LSTM layers, mean over time, FC module."""

    capabilities = frozenset({"vectors"})

    class Config(CommonConfig):
        """Sizes; the defaults are those of the reconstruction."""

        channels: tuple[int, ...] = (128, 256, 256)
        kernel_frames: tuple[int, ...] = (5, 5, 3)
        pool_size: int = Field(default=3, ge=1)
        pool_stride: int = Field(default=2, ge=1)
        hidden_size: int = Field(default=320, ge=1)
        n_layers: int = Field(default=2, ge=1)
        fc_size: int = Field(default=128, ge=1)

        @model_validator(mode="after")
        def _fits(self) -> ParryCnnLstm.Config:
            require_steps(self.min_frames, self.kernel_frames, self.channels, self.pool_size, self.pool_stride)
            return self

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config = config
        self.stack = ConvolutionStack(
            task.n_bands, config.channels, config.kernel_frames, config.pool_size, config.pool_stride
        )
        self.lstm = nn.LSTM(config.channels[-1], config.hidden_size, config.n_layers, batch_first=True)
        self.fc = FcModule(config.hidden_size, config.fc_size, config.pooled_norm, task)
        if config.init == "scaled":
            scale_weights(self, self.fc)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by role: heads, and everything before them."""
        return parameter_roles(self, self.fc)

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits of every view and the last hidden layer (B, fc_size)."""
        frames, counts = masked_frames(batch, self.config.min_frames)  # (B, T, F), (B,)
        hidden = self.stack(frames)  # (B, T', C)
        states: torch.Tensor = self.lstm(hidden)[0]  # (B, T', H); steps beyond an item's end touch none before it
        return self.fc(masked_mean(states, self.stack.n_steps(counts)), batch.vectors)
