"""Silence at both ends of a recording cut away before any frontend.

Acted corpora are cut with or without pauses around the sentence, and statistics over time see the difference. Source: own
design, after the prototypes, which trimmed at -40 dB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from repkit.features.prosody import mean_squares
from repkit.features.spectral import frame_count

WINDOW, SHIFT = 640, 160
"""Samples of the windows whose level is measured (40 ms every 10 ms), as for the encoder ``functionals``."""


class Trimmed:
    """A frontend that hears each waveform without its silent ends (`repkit.api.Frontend`).

    Args:
        frontend: what makes the frames; its other attributes are those of this one.
        trim_db: windows so many dB below the loudest one are silent.
    """

    def __init__(self, frontend: Any, trim_db: float) -> None:
        self._frontend, self._trim_db = frontend, trim_db

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by pickle before there is a frontend
            raise AttributeError(name)
        return getattr(self._frontend, name)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples when none of them is silent."""
        return int(self._frontend.n_frames(n_samples))

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames (B, T, F) and their counts (B,) of the trimmed waveforms."""
        kept = [row[slice(*self._part(row[:n]))] for row, n in zip(waveforms, lengths.tolist(), strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(kept, batch_first=True)
        return self._frontend(padded, torch.tensor([len(part) for part in kept]))

    def start_s(self, waveform: Tensor) -> float:
        """Return the seconds of a waveform (S,) that are cut away before its first frame."""
        return self._part(waveform)[0] / float(self._frontend.sample_rate)

    def _part(self, waveform: Tensor) -> tuple[int, int]:
        """Return first and last sample (excluded) that are heard; what would be left without a frame is taken whole."""
        first, last = loud_part(waveform, self._trim_db)
        return (first, last) if self._frontend.n_frames(last - first) else (0, len(waveform))

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return {**self._frontend.convention(), "trim_db": self._trim_db, "trim_version": "1"}


def loud_part(waveform: Tensor, trim_db: float) -> tuple[int, int]:
    """Return first and last sample (excluded) of what is left of a waveform (S,); all of it where it is short or silent."""
    if len(waveform) < WINDOW:
        return 0, len(waveform)
    power = mean_squares(waveform, WINDOW, SHIFT, frame_count(len(waveform), WINDOW, SHIFT))
    loud = (power > power.max() * 10 ** (-trim_db / 10)).nonzero()[:, 0]
    if not len(loud):
        return 0, len(waveform)
    return int(loud[0]) * SHIFT, int(loud[-1]) * SHIFT + WINDOW
