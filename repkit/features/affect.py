"""Log-mel bands at their absolute level beside prosody: what a model of affect should see.

Loudness tells anger from sadness, and the per-utterance scaling of the paper's spectrogram removes it; F0 cannot be
read from mel bands at all. Absolute level depends on the microphone: for corpora recorded differently there is the scaling
per utterance. Source: own design.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from repkit.features.log_mel import mel_bank
from repkit.features.prosody import GridConfig, GridFrontend, levelled
from repkit.features.spectral import SAMPLE_RATE

BAND_FLOOR = 1e-10
"""Energy added to every band: -100 dB of full scale."""

LOG_F0 = (5.14, 0.4)
"""Natural logarithm of 171 Hz, midway between 60 and 490 Hz, and of a ratio of 1.5: what is subtracted and divided by."""

TILT = (-6.0, 4.0)
"""dB per octave: what is subtracted and divided by."""


class Affect(GridFrontend):
    """Waveforms to log-mel bands and prosody on one time grid (`repkit.api.Frontend`).

    The first `bands` columns are mel bands, then come those of `repkit.features.prosody.Prosody`. All are brought to
    about -1 to 1 by fixed constants: bands and energy ``(dB - centre_db) / range_db`` where scaling is absolute; log F0
    ``(ln Hz - 5.14) / 0.4``, 0 where nothing is voiced; voicing ``2 v - 1``; tilt ``(tilt + 6) / 4``; voiced 0 or 1; deltas
    are divided by what their column is divided by (slopes per second). Scaled per utterance, the waveform is brought to one
    root mean square first, so that floors lie equally deep; the bands together and the energy by itself go from -1 (their
    minimum, at most 60 dB below the maximum) to 1 (their maximum); a range up to 1e-4 dB becomes 0.

    Attributes:
        columns: names of the columns.
    """

    class Config(GridConfig):
        """Settings; the time grid is that of the paper's spectrogram.

        Attributes:
            bands: mel bands from 0 to 8 kHz, triangles of peak 1 (HTK's scale).
            scaling: ``"absolute"`` keeps the level; ``"utterance"`` removes it, as the paper's spectrogram does.
            centre_db: absolute: dB of full scale that become 0.
            range_db: absolute: dB that become 1.
        """

        window_s: float = Field(default=0.080, gt=0.0)
        shift_s: float = Field(default=0.040, gt=0.0)
        bands: int = Field(default=128, ge=1)
        scaling: Literal["absolute", "utterance"] = "absolute"
        centre_db: float = -60.0
        range_db: float = Field(default=30.0, gt=0.0)

    name = "affect"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config = config or self.Config()
        bank = mel_bank(config.bands, round(config.window_s * SAMPLE_RATE), 0.0, SAMPLE_RATE / 2, "htk", None)
        super().__init__(config, tuple(f"mel_{band:03d}" for band in range(config.bands)), bank)

    def _frames_of(self, signal: torch.Tensor, count: int) -> torch.Tensor:
        prosody, bands = self._contours(levelled(signal) if self.config.scaling == "utterance" else signal, count)
        bands = (bands + BAND_FLOOR).log10_().mul_(10.0)
        log_f0, voicing, energy, tilt, voiced = prosody.unbind(1)
        if self.config.scaling == "absolute":
            bands, energy = self._placed(bands), self._placed(energy)
        else:
            bands, energy = _stretched(bands), _stretched(energy)
        log_f0 = torch.where(log_f0 > 0, (log_f0 - LOG_F0[0]) / LOG_F0[1], 0.0)
        scaled = torch.stack([log_f0, 2.0 * voicing - 1.0, energy, (tilt - TILT[0]) / TILT[1], voiced], dim=1)
        return torch.cat([bands, self._with_deltas(scaled)], dim=1)

    def _placed(self, decibels: torch.Tensor) -> torch.Tensor:
        return (decibels - self.config.centre_db) / self.config.range_db


def _stretched(decibels: torch.Tensor) -> torch.Tensor:
    """Return values from -1 to 1: from the minimum, at most 60 dB below the maximum, to the maximum."""
    high = decibels.max()
    decibels = decibels.clamp(min=float(high) - 60.0)
    low = decibels.min()
    span = high - low
    return 2.0 * (decibels - low) / span - 1.0 if span > 1e-4 else torch.zeros_like(decibels)
