"""A decoder that hears nothing but the vector, at every step.

Source: own design, after decision 0008: a decoder that is fed the true frames hardly needs the vector; this one has nothing
else. Related: the decoder of a variational autoencoder that is fed its latent at every step (Hsu, Zhang and Glass 2017).
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from repkit import api
from repkit.stage_one.objectives.parts import Columns, chosen_columns, frame_error, masked_mean
from repkit.stage_one.recurrent import RecurrentStack


class BlindDecoder(nn.Module):
    """Unroll the piece from the pooled vector; mean squared error over valid frames (group ``repkit.pretraining``)."""

    class Config(api.Config):
        """Settings.

        Attributes:
            hidden_size: units of the decoder's GRU.
            n_layers: of the decoder.
            columns: ``"mel"`` for the spectral bands, ``"all"`` for every column of the frontend.
        """

        hidden_size: int = Field(256, ge=1)
        n_layers: int = Field(1, ge=1)
        columns: Columns = "mel"

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        self.columns = chosen_columns(task, config.columns)
        self.entrance = nn.Sequential(nn.Linear(task.vector_dim, config.hidden_size), nn.Tanh())
        self.decoder = RecurrentStack("gru", config.hidden_size, config.hidden_size, config.n_layers, 0.0)
        self.exit = nn.Linear(config.hidden_size, len(self.columns))

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return ``mse``, the mean squared error over valid frames and columns."""
        same = self.entrance(states.vector).expand(batch.frames.shape[1], -1, -1)  # (T, B, hidden)
        predicted = self.exit(self.decoder(same.contiguous())[0][-1]).transpose(0, 1)
        return {"mse": masked_mean(frame_error(predicted, batch.frames[..., self.columns], 2), batch.mask)}
