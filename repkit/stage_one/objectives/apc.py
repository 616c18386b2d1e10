"""Autoregressive predictive coding: tell the frame some steps ahead.

Source: Chung, Hsu, Tang and Glass, "An unsupervised autoregressive model for speech representation learning", Interspeech
2019, section 2: a linear head on the states of a one-directional recurrent encoder, L1 distance to the frame n steps ahead.
What differs: frames are standardised over the corpus, the encoder is a GRU without residual connections, n counts frames of
40 ms where the paper's are 10 ms long (n = 3 there is the best for phones).
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from repkit import api
from repkit.stage_one.objectives.parts import Columns, chosen_columns, frame_error, masked_mean, need_causal_states


class Apc(nn.Module):
    """Predict the frame `shift` steps ahead from the top layer's state; L1 over valid frames (group ``repkit.pretraining``)."""

    class Config(api.Config):
        """Settings.

        Attributes:
            shift: n, frames from the state to the one it predicts.
            columns: ``"mel"`` for the spectral bands, ``"all"`` for every column of the frontend.
        """

        shift: int = Field(3, ge=1)
        columns: Columns = "mel"

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        need_causal_states(task, "apc")
        self.shift = config.shift
        self.columns = chosen_columns(task, config.columns)
        self.head = nn.Linear(task.layer_sizes[-1], len(self.columns))

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return ``l1``, the mean absolute error; pieces of up to `shift` frames count nothing."""
        predicted = self.head(states.layers[-1][:, : -self.shift])
        target = batch.frames[:, self.shift :, self.columns]
        return {"l1": masked_mean(frame_error(predicted, target, 1), batch.mask[:, self.shift :])}
