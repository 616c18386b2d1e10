"""What knows where the padding is: batch norm, the zeros around a convolution, and the shortcut of a stack.

Own design; without a mask, and with the windows of ``same_padding`` not aligned, it is what Keras does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch norm over frequency and time; padding is left out of the statistics and zero afterwards."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return normalised (B, C, F, T) from x of the same shape and mask (B, 1, 1, T), 1 where real; None: all is."""
        if mask is None:
            return super().forward(x)
        if not self.training:
            return super().forward(x) * mask
        x = x.float() * mask
        count = mask.sum() * x.shape[2]
        mean = x.sum((0, 2, 3)) / count
        centred = (x - mean[:, None, None]) * mask
        variance = centred.square().sum((0, 2, 3)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None] * mask


def same_padding(size: int, stride: int, aligned: bool = False) -> tuple[int, int]:
    """Return zeros before and after for a window of 3, so that ceil(size / stride) places come out ("same" of Keras).

    With stride 2 the windows of an even size start on its first place, those of an odd one before it; `aligned` lets all
    start on it.
    """
    total = max((math.ceil(size / stride) - 1) * stride + 3 - size, 0)
    before = 0 if aligned and stride == 2 else total // 2
    return before, total - before


def pooled_shortcut(x: torch.Tensor, mask: torch.Tensor | None, channels: int) -> torch.Tensor:
    """Return the mean of 2x2 places, of real ones only, with channels of zeros after: (B, channels, F / 2, T / 2)."""
    pooled = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    if mask is not None:
        share = F.avg_pool2d(mask, (1, 2), ceil_mode=True, count_include_pad=False)  # 1, 1/2 at an odd end, 0
        pooled = pooled / share.clamp(min=0.5)
    return F.pad(pooled, (0, 0, 0, 0, 0, channels - x.shape[1]))
