"""From waveforms to readouts: what the autoencoder and the encoder with objectives have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repkit.errors import UsageError
from repkit.stage_one.frontends import frames_of, rebuild_frontend
from repkit.stage_one.readouts import Layers, read_in_batches


class EncodesWaveforms:
    """Mixed into a model that has ``readout(frames, lengths, kind, which)``, and its frontend in ``config.frontend``."""

    default_readout = "mean_sd_delta"
    config: Any
    device: torch.device
    training: bool

    @torch.no_grad()
    def encode_waveforms(
        self,
        waveforms: Sequence[np.ndarray],
        kind: str | None = None,
        batch_size: int = 64,
        which: Layers | None = None,
    ) -> list[np.ndarray]:
        """Return one float32 readout per mono waveform (S,) at 16 kHz, by default `default_readout`, whatever the batch.

        Raises:
            UsageError: the model was saved without its frontend, or a readout that it does not have.
        """
        return self.encode_frames(frames_of(waveforms, self.frontend), kind, batch_size, which)

    @torch.no_grad()
    def encode_frames(
        self,
        frames: Sequence[np.ndarray],
        kind: str | None = None,
        batch_size: int = 64,
        which: Layers | None = None,
    ) -> list[np.ndarray]:
        """Return the same from the frames (T, F) that this model's frontend has made of each."""

        def read(padded: Tensor, lengths: Tensor) -> Any:
            return self.readout(padded, lengths, kind or self.default_readout, which)  # type: ignore[attr-defined]

        was_training = self.training
        self.eval()  # type: ignore[attr-defined]
        try:
            return read_in_batches(frames, read, batch_size, self.device)
        finally:
            self.train(was_training)  # type: ignore[attr-defined]

    @property
    def frontend(self) -> Any:
        """The frontend that makes this model's frames, built from the config on first use."""
        if "_frontend" not in self.__dict__:
            if not self.config.frontend:
                raise UsageError(
                    f"{type(self).__name__}: its config.json names no frontend; expected {{'name', 'settings'}}; "
                    "pass frames to readout() or save the model through pretrain-ae"
                )
            self.__dict__["_frontend"] = rebuild_frontend(self.config.frontend)
        return self.__dict__["_frontend"]
