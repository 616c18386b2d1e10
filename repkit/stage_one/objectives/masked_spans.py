"""Masked spans: the encoder hears speech with gaps and fills them.

Source: Liu, Yang, Chi, Hsu and Lee, "Mockingjay: unsupervised speech representation learning with deep bidirectional
transformer encoders", ICASSP 2020, section 2.1 (consecutive frames hidden, L1 on the hidden ones alone); where spans begin after
wav2vec 2.0 (Baevski et al. 2020, section 3.1). What differs: a GRU, best of both directions, in place of the transformer; hidden
frames are always zero, the mean of the standardised frames; every piece has at least one span.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from repkit import api
from repkit.stage_one.objectives.parts import Columns, chosen_columns, frame_error, masked_mean


class MaskedSpans(nn.Module):
    """Hide spans of frames from the encoder and predict them; L1 over the hidden frames (group ``repkit.pretraining``)."""

    class Config(api.Config):
        """Settings.

        Attributes:
            share: of the frames that is hidden, about; spans may overlap.
            span: frames of a span.
            columns: ``"mel"`` for the spectral bands, ``"all"`` for every column; hidden frames lose all their columns.
        """

        share: float = Field(0.25, gt=0, lt=1)
        span: int = Field(7, ge=1)
        columns: Columns = "mel"

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        self.config = config
        self.columns = chosen_columns(task, config.columns)
        self.head = nn.Linear(task.layer_sizes[-1], len(self.columns))

    def corrupt(self, frames: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Return the frames (B, T, F) with spans of zeros in each piece."""
        hidden = torch.zeros(frames.shape[:2], dtype=torch.bool)
        span = self.config.span
        for row, length in zip(hidden, lengths.tolist(), strict=True):
            # drawn piece by piece, so that padding does not move the draws of others
            begins = torch.rand(length, generator=generator) < self.config.share / span
            begins[int(torch.randint(max(1, length - span + 1), (1,), generator=generator))] = True
            for begin in begins.nonzero()[:, 0].tolist():
                row[begin : min(begin + span, length)] = True
        return frames.masked_fill(hidden.to(frames.device)[..., None], 0.0)

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return ``l1``, the mean absolute error over hidden frames."""
        hidden = (states.frames != batch.frames).any(-1) & batch.mask
        predicted = self.head(states.layers[-1])
        return {"l1": masked_mean(frame_error(predicted, batch.frames[..., self.columns], 1), hidden)}
