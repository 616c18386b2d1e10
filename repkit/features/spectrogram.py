"""The spectrogram of the autoencoder: 128 mel bands in dB below the utterance's own maximum, scaled to [-1, 1].

Neumann & Vu 2019, "Improving speech emotion recognition with unsupervised representation learning on unlabeled
speech" (80 ms windows, 40 ms overlap, 128 mel bands); all the rest after the tool they used, auDeep
(`signal/spectral.py`, `preprocessing.py`), as described in our sheet of the paper. Written anew, no code taken over.
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
    frame_count,
    hz_from_mel,
    map_batch,
    mel_from_hz,
    periodic_window,
)


def audeep_mel_bank(bands: int, n_fft: int) -> np.ndarray:
    """Return (n_fft // 2 + 1, bands) triangles of peak 1 from 0 Hz to half the sampling rate.

    The corners are whole bins, floor((n_fft + 1) f / fs), so low bands of a short FFT can be empty: none at 1280
    points and 128 bands, 7 at 640.
    """
    points = np.linspace(0.0, float(mel_from_hz(SAMPLE_RATE / 2, "htk")), bands + 2)
    corners = np.floor((n_fft + 1) * hz_from_mel(points, "htk") / SAMPLE_RATE).astype(np.int64)
    bins = np.arange(n_fft // 2 + 1)
    bank = np.zeros((len(bins), bands))
    for band, (left, centre, right) in enumerate(zip(corners, corners[1:], corners[2:])):
        rising = (bins >= left) & (bins < centre)
        falling = (bins >= centre) & (bins < right)
        bank[rising, band] = (bins[rising] - left) / max(1, centre - left)
        bank[falling, band] = (right - bins[falling]) / max(1, right - centre)
    return bank


class Spectrogram:
    """Waveforms to auDeep's spectrograms (`repkit.api.Frontend`).

    With ``fixed_length_s`` every utterance is cut or padded with zeros to that length and all counts are equal, as in
    the paper; padding then is part of the spectrogram (its minimum, -1). With None lengths vary and only real frames
    count, also for the maximum and the minimum.
    """

    class Config(api.Config):
        """Settings; the defaults are the paper's.

        Attributes:
            bands: mel bands, or None for the FFT's bins.
            window_s: length of a window in seconds; the FFT is as long.
            overlap_s: overlap of neighbouring windows in seconds.
            pre_emphasis: coefficient of y[n] = x[n] - c x[n-1]; 0 for none.
            detrend: remove the mean of every frame.
            clip_below_db: values below are raised to it (dB, at most 0), None for no limit.
            clip_above_db: values above are lowered to it (dB, at most 0), None for no limit.
            normalise: scale each utterance from its minimum and maximum to [-1, 1]; a range up to 1e-4 dB becomes 0.
            fixed_length_s: seconds every utterance is cut or padded to, None for its own length.
            fixed_position: cut and pad at the ``"end"``, or at both sides (``"centre"``).
        """

        bands: int | None = Field(default=128, ge=1)
        window_s: float = Field(default=0.080, gt=0.0)
        overlap_s: float = Field(default=0.040, ge=0.0)
        pre_emphasis: float = Field(default=0.95, ge=0.0, le=1.0)
        detrend: bool = True
        clip_below_db: float | None = Field(default=-60.0, le=0.0)
        clip_above_db: float | None = Field(default=None, le=0.0)
        normalise: bool = True
        fixed_length_s: float | None = Field(default=7.5, gt=0.0)
        fixed_position: Literal["end", "centre"] = "end"

        @model_validator(mode="after")
        def _check(self) -> Spectrogram.Config:
            if self.overlap_s >= self.window_s:
                raise ValueError(f"overlap_s {self.overlap_s}: less than window_s {self.window_s} was expected")
            if self.fixed_length_s is not None and self.fixed_length_s < self.window_s:
                raise ValueError(
                    f"fixed_length_s {self.fixed_length_s}: at least window_s {self.window_s} was expected"
                )
            if None not in (self.clip_below_db, self.clip_above_db) and self.clip_above_db < self.clip_below_db:
                raise ValueError(f"clip_above_db {self.clip_above_db}: at least clip_below_db was expected")
            return self

    sample_rate = SAMPLE_RATE

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self._window = int(self.config.window_s * SAMPLE_RATE)
        overlap = int(self.config.overlap_s * SAMPLE_RATE)
        self._fixed: int | None = None
        if self.config.fixed_length_s is not None:
            self._fixed = int(self.config.fixed_length_s * SAMPLE_RATE)
            overlap += self._overlap_correction(overlap)
        self._shift = self._window - overlap
        self.frame_shift_s = self._shift / SAMPLE_RATE
        bank = None
        if self.config.bands is not None:
            bank = audeep_mel_bank(self.config.bands, self._window)
            empty = int((bank.sum(0) == 0).sum())
            if empty:
                warnings.warn(
                    f"spectrogram: {empty} of {self.config.bands} mel bands are empty with a window of "
                    f"{self._window} samples; use fewer bands or a longer window",
                    RepkitWarning,
                    stacklevel=2,
                )
        self.n_bands = self._window // 2 + 1 if bank is None else self.config.bands
        self._energies = BandEnergies(
            periodic_window("hann", self._window) / np.sqrt(self._window),  # so that power is |STFT|^2 / window length
            self._shift,
            self._window,
            bank,
            emphasis=self.config.pre_emphasis,
            prepare=_without_mean if self.config.detrend else None,
        )

    def _overlap_correction(self, overlap: int) -> int:
        """Return -1, 0 or 1: what rounding to samples needs so that the frame count is that of the seconds."""
        seconds = self.config
        expected = int((seconds.fixed_length_s - seconds.overlap_s) / (seconds.window_s - seconds.overlap_s))
        actual = frame_count(self._fixed, self._window, self._window - overlap)
        return int(np.sign(expected - actual))

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples; with a fixed length it is always the same (0 of nothing)."""
        if self._fixed is not None:
            return frame_count(self._fixed, self._window, self._shift) if n_samples > 0 else 0
        return frame_count(n_samples, self._window, self._shift)

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32 and their counts (B,) from waveforms (B, S) and sample counts (B,)."""
        return map_batch(waveforms, lengths, self.n_bands, self.n_frames, self._frames_of)

    def _frames_of(self, signal: torch.Tensor, count: int) -> torch.Tensor:
        if self._fixed is not None:
            signal = _fit(signal, self._fixed, centre=self.config.fixed_position == "centre")
        energies = self._energies(signal, count)
        maximum = energies.max()
        if not maximum > 0:  # all zero: no maximum to be relative to; the lowest value there is
            return energies.fill_(-1.0 if self.config.normalise else self.config.clip_below_db or 0.0)
        smallest = energies.min()
        if not smallest > 0:
            smallest = torch.where(energies > 0, energies, torch.inf).min()
        # in place all along: an hour of speech is 46 MB at every step
        decibels = torch.maximum(energies, smallest, out=energies).div_(maximum).log10_().mul_(10.0)
        if self.config.clip_below_db is not None or self.config.clip_above_db is not None:
            decibels.clamp_(self.config.clip_below_db, self.config.clip_above_db)
        if not self.config.normalise:
            return decibels
        low, high = decibels.min(), decibels.max()
        span = high - low
        decibels -= low
        return decibels.mul_(2.0).div_(span).sub_(1.0) if span > 1e-4 else decibels

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return {
            "frontend": "spectrogram",
            "version": "1",
            "sample_rate": SAMPLE_RATE,
            "window_samples": self._window,
            "shift_samples": self._shift,
            "window": "hann, periodic",
            "mel": "2595 log10(1+f/700), corners floor((n_fft+1) f/fs), peak 1",
            **self.config.model_dump(mode="json"),
        }


def _without_mean(frames: torch.Tensor, out: torch.Tensor) -> None:
    torch.sub(frames, frames.mean(-1, keepdim=True), out=out)


def _fit(signal: torch.Tensor, length: int, centre: bool) -> torch.Tensor:
    """Cut or pad (S,) with zeros to `length`."""
    missing = length - signal.shape[0]
    if missing > 0:
        before = missing // 2 if centre else 0
        return torch.nn.functional.pad(signal, (before, missing - before))
    start = -missing // 2 if centre else 0
    return signal[start : start + length]
