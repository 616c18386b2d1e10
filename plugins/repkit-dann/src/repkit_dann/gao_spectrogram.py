"""Log spectrograms of 265 ms in 32 frames x 129 bins, as the feature extractor of Gao et al. wants them.

Paper: Y. Gao, S. Okada, L. Wang, J. Liu, J. Dang, "Domain-invariant feature learning for cross corpus speech emotion
recognition", ICASSP 2022: 16 kHz, segments of 265 ms, frames of 25 ms, spectrograms of 32 x 129. The rest is
reconstructed: the only hop that gives 32 frames of 25 ms in 4240 samples with 129 bins of a power-of-two FFT is about
123 samples with bins 0 to 128 (0 to 4 kHz) of 512. A 25 ms frame every 10 ms would give 25 frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator

from repkit import api

SAMPLE_RATE = 16000
"""Samples per second of every waveform in repkit."""


class GaoSpectrogram:
    """Waveforms to the natural logarithm of the power of the lowest bins (`repkit.api.Frontend`).

    A frame is made of its own samples only; an utterance shorter than one window has no frame. Other exact readings of
    32 x 129 can be set: 256 samples every 128 with an FFT of 256 covers 0 to 8 kHz, with frames of 16 ms.
    """

    class Config(api.Config):
        """Settings, in samples at 16 kHz because 7.7 ms is no whole number of them.

        Attributes:
            window_samples: length of the periodic Hann window; 400 are 25 ms (paper).
            shift_samples: samples from one frame to the next (reconstructed).
            n_fft: length of the FFT; the windowed frame is padded with zeros at its end.
            n_bins: bins kept from 0 Hz upwards.
            floor: powers below are raised to it before the logarithm (reconstructed); full scale is 1.
        """

        window_samples: int = Field(default=400, ge=2)
        shift_samples: int = Field(default=123, ge=1)
        n_fft: int = Field(default=512, ge=2)
        n_bins: int = Field(default=129, ge=1)
        floor: float = Field(default=1e-10, gt=0.0)

        @model_validator(mode="after")
        def _check(self) -> GaoSpectrogram.Config:
            if self.n_fft < self.window_samples:
                raise ValueError(f"n_fft {self.n_fft}: at least the window of {self.window_samples} was expected")
            if self.n_bins > self.n_fft // 2 + 1:
                raise ValueError(
                    f"n_bins {self.n_bins}: at most the {self.n_fft // 2 + 1} bins of the FFT were expected"
                )
            return self

    sample_rate = SAMPLE_RATE

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()
        self.n_bands = self.config.n_bins
        self.frame_shift_s = self.config.shift_samples / SAMPLE_RATE
        self._window = torch.hann_window(self.config.window_samples, periodic=True, dtype=torch.float64).float()

    def n_frames(self, n_samples: int) -> int:
        """Return how many whole windows fit; 32 in 4240 samples by default."""
        window, shift = self.config.window_samples, self.config.shift_samples
        return 0 if n_samples < window else 1 + (n_samples - window) // shift

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32, zero beyond their counts, and the counts (B,) int64.

        Args:
            waveforms: (B, S), full scale 1.
            lengths: (B,) samples.

        Raises:
            ValueError: shapes or lengths that do not belong together.
        """
        if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1]:
            raise ValueError(
                f"waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)}: not (B, S) and (B,)"
            )
        sizes = [int(size) for size in lengths.tolist()]
        if sizes and (min(sizes) < 0 or max(sizes) > waveforms.shape[1]):
            raise ValueError(
                f"lengths from {min(sizes)} to {max(sizes)}: 0 to {waveforms.shape[1]} samples were expected"
            )
        counts = [self.n_frames(size) for size in sizes]
        frames = torch.zeros(len(sizes), max(counts, default=0), self.n_bands, device=waveforms.device)
        for row, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            if count:  # one utterance at a time: its frames are then the same to the bit in any batch
                frames[row, :count] = self._frames_of(waveforms[row, :size].float())
        return frames, torch.tensor(counts, dtype=torch.int64, device=waveforms.device)

    def _frames_of(self, signal: torch.Tensor) -> torch.Tensor:
        windows = signal.unfold(0, self.config.window_samples, self.config.shift_samples)  # (T, W)
        spectrum = torch.fft.rfft(windows * self._window.to(signal.device), n=self.config.n_fft)[:, : self.n_bands]
        power = spectrum.real.square() + spectrum.imag.square()
        return power.clamp_(min=self.config.floor).log_()

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return {
            "frontend": "gao_spectrogram",
            "version": "1",
            "sample_rate": SAMPLE_RATE,
            "window": "hann, periodic",
            "log": "natural, of the power",
            **self.config.model_dump(mode="json"),
        }
