"""Log energies of mel bands; the defaults are the stage-two features of the paper.

Neumann & Vu 2019: 26 log-Mel bands from 0 to 6.5 kHz, 25 ms windows every 10 ms (openSMILE). Window, power, logarithm
and floor are not stated there; ours are Hamming, squared magnitude, natural, 1e-10.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from repkit import api
from repkit.errors import RepkitWarning
from repkit.features.spectral import (
    SAMPLE_RATE,
    BandEnergies,
    emphasise,
    frame_count,
    hz_from_mel,
    map_batch,
    mel_from_hz,
    next_power_of_two,
    periodic_window,
)


def mel_bank(bands: int, n_fft: int, low_hz: float, high_hz: float, mel_scale: str, norm: str | None) -> np.ndarray:
    """Return (n_fft // 2 + 1, bands) triangles, linear in Hz between corners equally far apart in mel.

    Peak 1, or area 1 over Hz (times 2) with ``norm="slaney"``. The convention of librosa and torchaudio; HTK's own and
    Kaldi's triangles are linear in mel (`repkit.features.kaldi_fbank`).
    """
    low, high = mel_from_hz(np.array([low_hz, high_hz]), mel_scale)
    corners = hz_from_mel(np.linspace(low, high, bands + 2), mel_scale)
    hz = np.arange(n_fft // 2 + 1)[:, None] * (SAMPLE_RATE / n_fft)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bank = np.maximum(0.0, np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre)))
    return bank * (2.0 / (right - left)) if norm == "slaney" else bank


class LogMel:
    """Waveforms to log-Mel frames (`repkit.api.Frontend`)."""

    class Config(api.Config):
        """Settings; the defaults are the paper's.

        Attributes:
            bands: mel bands.
            low_hz: lower end of the first band.
            high_hz: upper end of the last band, None for half the sampling rate.
            window_s: length of a window in seconds.
            shift_s: seconds from one frame to the next.
            window: shape of the window, periodic.
            n_fft: length of the FFT, None for the power of two that holds the window (512).
            mel_scale: ``"htk"`` or ``"slaney"``.
            norm: None for triangles of peak 1, ``"slaney"`` for triangles of equal area.
            power: exponent of the magnitude before the bands are summed, 2.0 or 1.0.
            log: ``"natural"``, ``"db"`` (10 log10 of power, 20 log10 of magnitude) or ``"none"``.
            floor: band energies below are raised to it before the logarithm.
            pre_emphasis: coefficient of y[n] = x[n] - c x[n-1] over the whole utterance; 0 for none.
            padding: ``"none"``: a frame is made of its own samples only; ``"reflect"``: half a window is mirrored at
                both ends, so that frame n is centred on sample n * shift.
        """

        bands: int = Field(default=26, ge=1)
        low_hz: float = Field(default=0.0, ge=0.0)
        high_hz: float | None = Field(default=6500.0, gt=0.0, le=SAMPLE_RATE / 2)
        window_s: float = Field(default=0.025, gt=0.0)
        shift_s: float = Field(default=0.010, gt=0.0)
        window: Literal["hamming", "hann"] = "hamming"
        n_fft: int | None = Field(default=None, ge=2)
        mel_scale: Literal["htk", "slaney"] = "htk"
        norm: Literal["slaney"] | None = None
        power: float = Field(default=2.0, gt=0.0)
        log: Literal["natural", "db", "none"] = "natural"
        floor: float = Field(default=1e-10, gt=0.0)
        pre_emphasis: float = Field(default=0.0, ge=0.0, le=1.0)
        padding: Literal["none", "reflect"] = "none"

        @model_validator(mode="after")
        def _check(self) -> LogMel.Config:
            if self.low_hz >= (self.high_hz or SAMPLE_RATE / 2):
                raise ValueError(f"low_hz {self.low_hz}: less than high_hz {self.high_hz} was expected")
            window, shift = round(self.window_s * SAMPLE_RATE), round(self.shift_s * SAMPLE_RATE)
            if self.n_fft is not None and self.n_fft < window:
                raise ValueError(f"n_fft {self.n_fft}: at least the window of {window} samples was expected")
            if min(window, shift) < 1:
                raise ValueError("window_s and shift_s: at least one sample (1/16000 s) was expected")
            return self

    sample_rate = SAMPLE_RATE

    def __init__(self, config: Config | None = None) -> None:
        self.config = config = config or self.Config()
        self._window = round(config.window_s * SAMPLE_RATE)
        self._shift = round(config.shift_s * SAMPLE_RATE)
        self._n_fft = config.n_fft or next_power_of_two(self._window)
        self.n_bands = config.bands
        self.frame_shift_s = self._shift / SAMPLE_RATE
        high_hz = config.high_hz or SAMPLE_RATE / 2
        bank = mel_bank(config.bands, self._n_fft, config.low_hz, high_hz, config.mel_scale, config.norm)
        empty = int((bank.sum(0) == 0).sum())
        if empty:
            warnings.warn(
                f"log_mel: {empty} of {config.bands} mel bands are empty with n_fft {self._n_fft}; "
                "use fewer bands or a larger n_fft",
                RepkitWarning,
                stacklevel=2,
            )
        window = periodic_window(config.window, self._window)
        # what is mirrored at the ends is the emphasised signal
        emphasis = 0.0 if self._margin else config.pre_emphasis
        self._energies = BandEnergies(window, self._shift, self._n_fft, bank, config.power, emphasis)

    @property
    def _margin(self) -> int:
        return self._window // 2 if self.config.padding == "reflect" else 0

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples."""
        if n_samples <= self._margin:
            return 0  # too short to be mirrored
        return frame_count(n_samples + 2 * self._margin, self._window, self._shift)

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32 and their counts (B,) from waveforms (B, S) and sample counts (B,)."""
        return map_batch(waveforms, lengths, self.n_bands, self.n_frames, self._frames_of)

    def _frames_of(self, signal: torch.Tensor, count: int) -> torch.Tensor:
        if self._margin:
            signal = emphasise(signal, self.config.pre_emphasis)
            signal = torch.nn.functional.pad(signal[None], (self._margin, self._margin), mode="reflect")[0]
        energies = self._energies(signal, count)
        if self.config.log == "none":
            return energies
        energies = energies.clamp_(min=self.config.floor)
        if self.config.log == "natural":
            return energies.log_()
        return energies.log10_().mul_(20.0 / self.config.power)

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return {
            "frontend": "log_mel",
            "version": "1",
            "sample_rate": SAMPLE_RATE,
            "window_samples": self._window,
            "shift_samples": self._shift,
            "window_form": "periodic",
            "triangles": "linear in Hz",
            **self.config.model_dump(mode="json"),
            "n_fft": self._n_fft,
        }
