"""Reconstruction by the paper's decoders, from the pooled vector of any encoder.

Source: Neumann & Vu 2019, section 2.1: the vector, through a linear map and tanh, is the initial state of the decoder's layers,
which gives the piece back reversed in time; root mean square error over all values. What differs: the vector is whatever the
encoder's pooling makes (``last`` is the paper's); frames are standardised over the corpus, so that outputs are not bounded by
tanh unless asked for; which decoder needs the vector at all is said in decision 0008.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from repkit import api
from repkit.stage_one.gru_autoencoder import GruAutoencoderConfig
from repkit.stage_one.gru_decoders import Decoders
from repkit.stage_one.objectives.parts import Columns, chosen_columns, frame_error, masked_mean
from repkit.stage_one.recurrent import reverse_valid

LEAST_ERROR = 1e-12
"""Mean squared errors below are raised to it: a root has no slope at zero."""


class Reconstruction(Decoders, nn.Module):
    """Give the frames back from the vector, reversed in time; root mean square error (group ``repkit.pretraining``)."""

    class Config(api.Config):
        """Settings.

        Attributes:
            decoder: what it is fed besides the vector: ``"bidirectional"`` (paper), ``"unidirectional"``, ``"no_leak"``,
                ``"blind"``; see `repkit.stage_one.gru_autoencoder.GruAutoencoderConfig`.
            hidden_size: units of each layer and direction of the decoder.
            n_layers: of the decoder.
            dropout: drop probability at every cell's input and output.
            feed_previous_probability: unidirectional: chance to feed the decoder's own last output.
            decoder_frame_dropout: no_leak: share of the fed frames that is dropped.
            bounded: outputs go through tanh, for frames between -1 and 1 (training.standardise = false).
            columns: ``"mel"`` for the spectral bands, ``"all"`` for every column of the frontend.
        """

        decoder: Literal["bidirectional", "unidirectional", "no_leak", "blind"] = "bidirectional"
        hidden_size: int = Field(256, ge=1)
        n_layers: int = Field(2, ge=1)
        dropout: float = Field(0.2, ge=0, lt=1)
        feed_previous_probability: float = Field(0.0, ge=0, le=1)
        decoder_frame_dropout: float = Field(0.5, ge=0, le=1)
        bounded: bool = False
        columns: Columns = "mel"

        @model_validator(mode="after")
        def _fits_together(self) -> Reconstruction.Config:
            if self.feed_previous_probability and self.decoder != "unidirectional":
                raise ValueError(f"feed_previous_probability needs decoder = 'unidirectional', not {self.decoder!r}")
            return self

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        self.columns = chosen_columns(task, config.columns)
        self.bounded = config.bounded
        settings = config.model_dump(exclude={"bounded", "columns"})
        self.config = GruAutoencoderConfig(n_bands=len(self.columns), **settings)
        self.bridge = nn.Linear(task.vector_dim, self.config.representation_size)
        self.add_decoders()
        for stack in self._fed_nothing():
            # times zero at every step: no gradient ever reaches them, and a distributed training would wait for it
            stack.layers[0].weight_ih_l0.requires_grad_(False)

    def _fed_nothing(self) -> list[nn.Module]:
        """Return the stacks of layers whose input is zero throughout."""
        if self.config.decoder == "blind":
            return [self.forward_decoder, self.backward_decoder]
        return [self.backward_decoder] if self.config.decoder == "no_leak" else []

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return ``rmse``, the root of the mean squared error over valid frames and columns."""
        frames = batch.frames[..., self.columns].contiguous()
        representation = torch.tanh(self.bridge(states.vector).float())
        error = frame_error(self.decode(representation, frames, batch.lengths), reverse_valid(frames, batch.lengths), 2)
        return {"rmse": masked_mean(error, batch.mask).clamp_min(LEAST_ERROR).sqrt()}
