"""The LSTM of Parry et al. 2019, whole.

Paper: J. Parry et al., "Analysis of deep learning architectures for cross-corpus speech emotion recognition",
Interspeech 2019. The layer sizes stand in a figure only and are reconstructed from the stated 2 M parameters:
2 x LSTM 384 (one direction) -> mean over time -> 384, ReLU -> classes; 1 986 051 parameters with 40 bands and 3 classes.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from repkit import api
from repkit_cross_corpus.layers import (
    CommonConfig,
    FcModule,
    masked_frames,
    masked_mean,
    parameter_roles,
    scale_weights,
)


class ParryLstm(nn.Module):
    """LSTM layers, mean over time, FC module."""

    capabilities = frozenset({"vectors"})

    class Config(CommonConfig):
        """Sizes; the defaults are those of the reconstruction."""

        hidden_size: int = Field(default=384, ge=1)
        n_layers: int = Field(default=2, ge=1)
        fc_size: int = Field(default=384, ge=1)

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(task.n_bands, config.hidden_size, config.n_layers, batch_first=True)
        self.fc = FcModule(config.hidden_size, config.fc_size, config.pooled_norm, task)
        if config.init == "scaled":
            scale_weights(self, self.fc)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by role: heads, and everything before them."""
        return parameter_roles(self, self.fc)

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits of every view and the last hidden layer (B, fc_size)."""
        frames, counts = masked_frames(batch, self.config.min_frames)  # (B, T, F), (B,)
        states: torch.Tensor = self.lstm(frames)[0]  # (B, T, H); steps beyond an item's end touch none before it
        return self.fc(masked_mean(states, counts), batch.vectors)
