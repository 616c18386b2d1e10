"""The control without a network: mean and standard deviation of each band of the same spectrogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from repkit import api
from repkit.stage_one.folders import find_model, stored_frontend
from repkit.stage_one.frontends import frames_of, rebuild_frontend
from repkit.stage_one.waveforms import sound_waveforms


class StatisticsEncoder:
    """Mean and population standard deviation over the valid frames, per band: 2 F numbers (group ``repkit.encoders``).

    It reads exactly the frames the autoencoder of a run reads (with a fixed length these include its padding); what it
    cannot do, the network has added.
    Source: own design.

    Attributes:
        name: ``statistics-<run>``.
        dim: 2 F, all means before all deviations.
        level: ``"utterance"``.
    """

    level = "utterance"
    frame_shift_s = None

    class Config(api.Config):
        """Settings.

        Attributes:
            path: the stage-one run whose frontend is used.
        """

        path: Path

    def __init__(self, config: StatisticsEncoder.Config) -> None:
        folder, run_name = find_model(config.path)
        self._table = stored_frontend(folder)
        self.frontend = rebuild_frontend(self._table)
        self.name = f"statistics-{run_name}"
        self.dim = 2 * self.frontend.n_bands

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (2 F,) vector per waveform, float32."""
        return self.encode_frames(frames_of(sound_waveforms(waveforms), self.frontend))

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """Return the (T, F) float32 frames of one waveform (S,), which `encode_frames` takes."""
        return frames_of(sound_waveforms([waveform]), self.frontend)[0]

    def encode_frames(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (2 F,) vector per utterance from its frames, float32."""
        # in double precision, so that long utterances lose nothing
        doubles = (f.astype(np.float64) for f in frames)
        return [np.concatenate([f.mean(0), f.std(0)]).astype(np.float32) for f in doubles]

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values; nothing was trained, so that no corpus or speaker was heard."""
        return {"encoder": "statistics", "name": self.name, "frontend": self._table, "corpora": [], "speakers": []}
