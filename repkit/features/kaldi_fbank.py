"""Log filter-bank energies as Kaldi computes them, batched.

Source: Kaldi's `compute-fbank-feats` (Povey et al. 2011, "The Kaldi speech recognition toolkit") without dither, equal
to `torchaudio.compliance.kaldi.fbank`, which takes one utterance at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from repkit import api
from repkit.features.spectral import SAMPLE_RATE, BandEnergies, frame_count, map_batch, next_power_of_two

_FLOOR = float(np.finfo(np.float32).eps)


def kaldi_mel_bank(bands: int, n_fft: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Return (n_fft // 2 + 1, bands) triangles linear in mel = 1127 ln(1 + f/700); the last bin counts nothing."""
    low, high = 1127.0 * np.log1p(np.array([low_hz, high_hz]) / 700.0)
    corners = np.linspace(low, high, bands + 2)
    mel = 1127.0 * np.log1p(np.arange(n_fft // 2)[:, None] * (SAMPLE_RATE / n_fft) / 700.0)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bank = np.maximum(0.0, np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)))
    return np.concatenate([bank, np.zeros((1, bands))])


class KaldiFbank:
    """Waveforms to Kaldi's filter-bank features (`repkit.api.Frontend`)."""

    class Config(api.Config):
        """Settings; the defaults are Kaldi's but for 40 bands instead of 23.

        Attributes:
            bands: mel bands.
            low_hz: lower end of the first band.
            high_hz: upper end of the last band, None for half the sampling rate.
            window_s: length of a window in seconds; the FFT is the power of two that holds it.
            shift_s: seconds from one frame to the next.
            window: shape of the window; ``"povey"`` is a Hann window to the power 0.85.
            pre_emphasis: coefficient within a frame, whose first sample counts as its own predecessor.
            remove_dc: remove the mean of every frame.
            snip_edges: whole windows only; else the ends are mirrored and there is a frame per shift.
            power: sum squared magnitudes, else magnitudes.
            log: natural logarithm, floored at 1.19e-7.
            int16_range: full scale is 32768 as in Kaldi, not 1.
        """

        bands: int = Field(default=40, ge=4)
        low_hz: float = Field(default=20.0, ge=0.0)
        high_hz: float | None = Field(default=None, gt=0.0, le=SAMPLE_RATE / 2)
        window_s: float = Field(default=0.025, gt=0.0)
        shift_s: float = Field(default=0.010, gt=0.0)
        window: Literal["povey", "hamming", "hann"] = "povey"
        pre_emphasis: float = Field(default=0.97, ge=0.0, le=1.0)
        remove_dc: bool = True
        snip_edges: bool = True
        power: bool = True
        log: bool = True
        int16_range: bool = True

        @model_validator(mode="after")
        def _check(self) -> KaldiFbank.Config:
            if self.low_hz >= (self.high_hz or SAMPLE_RATE / 2):
                raise ValueError(f"low_hz {self.low_hz}: less than high_hz {self.high_hz} was expected")
            if min(int(self.window_s * SAMPLE_RATE), int(self.shift_s * SAMPLE_RATE)) < 2:
                raise ValueError("window_s and shift_s: at least two samples (1/8000 s) were expected")
            return self

    sample_rate = SAMPLE_RATE

    def __init__(self, config: Config | None = None) -> None:
        self.config = config = config or self.Config()
        self._window = int(config.window_s * SAMPLE_RATE)
        self._shift = int(config.shift_s * SAMPLE_RATE)
        self.n_bands = config.bands
        self.frame_shift_s = self._shift / SAMPLE_RATE
        n_fft = next_power_of_two(self._window)
        bank = kaldi_mel_bank(config.bands, n_fft, config.low_hz, config.high_hz or SAMPLE_RATE / 2)
        phase = np.cos(2.0 * np.pi * np.arange(self._window) / (self._window - 1))
        window = 0.54 - 0.46 * phase if config.window == "hamming" else 0.5 - 0.5 * phase
        if config.window == "povey":
            window = window**0.85
        self._energies = BandEnergies(
            window, self._shift, n_fft, bank, 2.0 if config.power else 1.0, prepare=self._prepare
        )

    def _prepare(self, frames: torch.Tensor, out: torch.Tensor) -> None:
        if self.config.remove_dc:
            torch.sub(frames, frames.mean(-1, keepdim=True), out=out)
        else:
            out.copy_(frames)
        coefficient = self.config.pre_emphasis
        if coefficient:
            before = coefficient * out[:, :-1]
            out[:, 1:] -= before
            out[:, 0] *= 1.0 - coefficient

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples."""
        if self.config.snip_edges:
            return frame_count(n_samples, self._window, self._shift)
        # a mirror as long as half a window must fit
        return (n_samples + self._shift // 2) // self._shift if n_samples >= self._window else 0

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32 and their counts (B,) from waveforms (B, S) and sample counts (B,)."""
        return map_batch(waveforms, lengths, self.n_bands, self.n_frames, self._frames_of)

    def _frames_of(self, signal: torch.Tensor, count: int) -> torch.Tensor:
        if not self.config.snip_edges:
            mirrored = signal.flip(0)
            before = self._window // 2 - self._shift // 2
            start = mirrored[len(mirrored) - before :] if before > 0 else signal[:0]
            signal = torch.cat([start, signal[max(0, -before) :], mirrored])
        if self.config.int16_range:
            signal = signal * 32768.0
        energies = self._energies(signal, count)
        return energies.clamp_(min=_FLOOR).log_() if self.config.log else energies

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return {
            "frontend": "kaldi_fbank",
            "version": "1",
            "sample_rate": SAMPLE_RATE,
            "window_samples": self._window,
            "shift_samples": self._shift,
            "dither": 0.0,
            **self.config.model_dump(mode="json"),
        }
