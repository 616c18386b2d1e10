"""The CNN of Parry et al. 2019, whole.

Paper: J. Parry et al., "Analysis of deep learning architectures for cross-corpus speech emotion recognition",
Interspeech 2019. Stated: max-pool 3 with step 2, about 2 M parameters, at least 100 frames. Reconstructed:
4 x [convolution over 5 frames -> ReLU -> max-pool] of 128, 256, 384, 512 channels -> mean over time -> 640, ReLU ->
classes; 1 995 523 parameters with 40 bands and 3 classes. 100 frames become one step: 100 -> 96 -> 47 -> 43 -> 21 -> 17 ->
8 -> 4 -> 1 (91 would do).
"""

from __future__ import annotations

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


class ParryCnn(nn.Module):
    """Convolutions over time with max-pools, mean over time, FC module."""

    capabilities = frozenset({"vectors"})

    class Config(CommonConfig):
        """Sizes; the defaults are those of the reconstruction."""

        channels: tuple[int, ...] = (128, 256, 384, 512)
        kernel_frames: tuple[int, ...] = (5, 5, 5, 5)
        pool_size: int = Field(default=3, ge=1)
        pool_stride: int = Field(default=2, ge=1)
        fc_size: int = Field(default=640, ge=1)

        @model_validator(mode="after")
        def _fits(self) -> ParryCnn.Config:
            require_steps(self.min_frames, self.kernel_frames, self.channels, self.pool_size, self.pool_stride)
            return self

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config = config
        self.stack = ConvolutionStack(
            task.n_bands, config.channels, config.kernel_frames, config.pool_size, config.pool_stride
        )
        self.fc = FcModule(config.channels[-1], config.fc_size, config.pooled_norm, task)
        if config.init == "scaled":
            scale_weights(self, self.fc)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by role: heads, and everything before them."""
        return parameter_roles(self, self.fc)

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits of every view and the last hidden layer (B, fc_size)."""
        frames, counts = masked_frames(batch, self.config.min_frames)  # (B, T, F), (B,)
        hidden = self.stack(frames)  # (B, T', C)
        return self.fc(masked_mean(hidden, self.stack.n_steps(counts)), batch.vectors)
