"""Prosody frame by frame: log F0, voicing, energy and spectral tilt, on the time grid of any other frames.

Source: own design; F0 by `repkit.features.pitch`, validated in docs/results/benchmarks-pitch.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator

from repkit import api
from repkit.features.pitch import STRIDE, PitchTracker, bridge
from repkit.features.spectral import SAMPLE_RATE, BandEnergies, frame_count, map_batch, periodic_window

COLUMNS = ("log_f0", "voicing", "energy", "tilt", "voiced")
"""What the first five columns of the frames are."""

WITH_DELTAS = COLUMNS[:4]
"""Columns that have a delta; of a decision there is none."""

ENERGY_FLOOR = 1e-10
"""Mean square added to a frame's: -100 dB of full scale."""

TILT_FLOOR = 1e-12
"""Mean power of an FFT bin added to each third of an octave before the logarithm."""

_PITCH_WINDOW = 640
_PITCH_SHIFT = 160


class PitchConfig(api.Config):
    """Settings of F0 and voicing, shared by `Prosody`, `repkit.features.affect.Affect` and the functionals.

    Attributes:
        low_hz: lowest F0.
        high_hz: highest F0.
        voiced_at: strength of voicing (0 to 1) from which a frame is voiced.
        silence_db: frames so many dB below the loudest of the utterance are never voiced.
    """

    low_hz: float = Field(default=60.0, ge=50.0)
    high_hz: float = Field(default=500.0, le=800.0)
    voiced_at: float = Field(default=0.65, ge=0.0, le=1.0)
    silence_db: float = Field(default=30.0, gt=0.0)

    @model_validator(mode="after")
    def _check_range(self) -> PitchConfig:
        if self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz {self.low_hz}: less than high_hz {self.high_hz} was expected")
        return self


def check_grid(window_s: float, shift_s: float, low_hz: float) -> None:
    """Check that F0 can be found on a time grid.

    Raises:
        ValueError: it cannot.
    """
    if round(window_s * SAMPLE_RATE) < 2 * SAMPLE_RATE / low_hz:
        raise ValueError(
            f"window_s {window_s}: at least two periods of low_hz ({2 / low_hz:.4f} s) were expected; raise one of them"
        )
    shift = round(shift_s * SAMPLE_RATE)
    if shift < 1 or _step(shift) < _PITCH_SHIFT // 4:
        raise ValueError(f"shift_s {shift_s}: 10 ms or a multiple of a step of 2.5 to 10 ms was expected")


def _step(shift: int) -> int:
    """Return the largest even part of a shift (samples) that is at most 10 ms; 0 when there is none."""
    return max((d for d in range(STRIDE, _PITCH_SHIFT + 1, STRIDE) if shift % d == 0), default=0)


def tilt_centres() -> np.ndarray:
    """Return the 18 frequencies (Hz), a third of an octave apart from 100 Hz to 5 kHz, that the tilt is fitted through."""
    return 100.0 * 2.0 ** (np.arange(18) / 3)


def tilt_bank(n_fft: int) -> np.ndarray:
    """Return (n_fft // 2 + 1, 18) weights, each column of sum 1: triangles over log2 f that reach to the next centres.

    A mean per third of an octave, not a sum: white noise then has tilt 0, and every octave counts alike.
    """
    hz = np.arange(1, n_fft // 2 + 1) * (SAMPLE_RATE / n_fft)
    distance = np.abs(np.log2(hz)[:, None] - np.log2(tilt_centres())) * 3
    weights = np.concatenate([np.zeros((1, 18)), np.maximum(0.0, 1.0 - distance)])
    return weights / weights.sum(0)


def level_window(length: int) -> np.ndarray:
    """Return a periodic Hann window (length,) scaled so that the bins of a frame's power spectrum sum to its mean square.

    For ``|rfft|**2`` of an FFT as long as the window, noise and steady tones; the energy is that in the window.
    """
    window = periodic_window("hann", length)
    return window * np.sqrt(2.0 / (length * np.square(window).sum()))


def mean_squares(signal: torch.Tensor, window: int, shift: int, n_frames: int) -> torch.Tensor:
    """Return (n_frames,) mean squares of the samples of each frame of a signal (S,); no window function."""
    part = math.gcd(window, shift)
    n_parts = ((n_frames - 1) * shift + window) // part
    sums = signal[: n_parts * part].view(n_parts, part).square().sum(1)
    return sums.unfold(0, window // part, shift // part).sum(1) / window


def levelled(signal: torch.Tensor) -> torch.Tensor:
    """Return a signal (S,) brought to a root mean square of 0.1 (-20 dB); one that is all but silent is left as it is."""
    rms = float(signal.square().mean().sqrt()) if len(signal) else 0.0
    return signal * (0.1 / rms) if rms > 1e-6 else signal


def deltas(values: torch.Tensor, shift_s: float) -> torch.Tensor:
    """Return (T, F) slopes per second of (T, F): least squares through five frames, ends repeated."""
    ends = (values[:1], values[:1], values, values[-1:], values[-1:])
    padded = torch.cat(ends)
    return ((padded[3:-1] - padded[1:-3]) + 2.0 * (padded[4:] - padded[:-4])) / (10.0 * shift_s)


class Contours:
    """Bands and prosody of one signal on one time grid; what the frontends and the functionals share.

    F0 and voicing come from windows of 40 ms every 10 ms or less. A frame longer than that takes the mean over the windows
    inside it: a contour that moves for 80 ms has no single period.

    Args:
        window: samples per frame.
        shift: samples from one frame to the next.
        config: of F0 and voicing.
        bank: (window // 2 + 1, F) weights of the bins for further bands, or None.
    """

    def __init__(self, window: int, shift: int, config: PitchConfig, bank: np.ndarray | None = None) -> None:
        self._window, self._shift, self._config = window, shift, config
        self._pitch_window = min(window, _PITCH_WINDOW)
        self._pitch_shift = _step(shift)
        self._tracker = PitchTracker(self._pitch_window, self._pitch_shift, config.low_hz, config.high_hz)
        self._per_shift = shift // self._pitch_shift
        self._per_frame = 1 + (window - self._pitch_window) // self._pitch_shift
        thirds = tilt_bank(window)
        self._n_bands = 0 if bank is None else bank.shape[1]
        whole = thirds if bank is None else np.concatenate([bank, thirds], axis=1)
        self._energies = BandEnergies(level_window(window), shift, window, whole)
        octaves = np.log2(tilt_centres()) - np.log2(tilt_centres()).mean()
        self._slope = torch.from_numpy((octaves / np.square(octaves).sum()).astype(np.float32))

    def __call__(self, signal: torch.Tensor, n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prosody (T, 5), columns as in `COLUMNS`, and the energies (T, F) of the bank, all float32.

        Energies sum to the mean square of a frame where the bank's weights sum to 1 in every bin.
        """
        slope = self._slope = self._slope.to(signal.device)
        power = self._energies(signal, n_frames)
        tilt = (power[:, self._n_bands :] + TILT_FLOOR).log10_() @ slope * 10.0
        energy = (mean_squares(signal, self._window, self._shift, n_frames) + ENERGY_FLOOR).log10_().mul_(10.0)
        loud = energy > energy.max() - self._config.silence_db
        log_f0, voicing, voiced = self._pitch(signal, n_frames)
        voiced &= loud
        columns = (bridge(log_f0, voiced), voicing, energy, tilt, voiced.to(torch.float32))
        return torch.stack(columns, dim=1), power[:, : self._n_bands]

    def _pitch(self, signal: torch.Tensor, n_frames: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log F0, voicing and whether voiced, (T,) each; log F0 means something in voiced frames only."""
        inside = self._per_frame
        hz, voicing = self._tracker(signal, (n_frames - 1) * self._per_shift + inside)
        log_f0, voiced = hz.clamp(min=1.0).log_(), (voicing >= self._config.voiced_at) & (hz > 0)
        if inside == 1 and self._per_shift == 1:
            return log_f0, voicing, voiced
        counted = voiced.to(torch.float32)
        shares, sums, strength = (
            values.unfold(0, inside, self._per_shift)[:n_frames].mean(1)
            for values in (counted, counted * log_f0, voicing)
        )
        return sums / shares.clamp(min=1e-6), strength, shares >= 0.5


class GridConfig(PitchConfig):
    """Settings of a frontend that has prosody among its columns.

    Attributes:
        window_s: length of a frame in seconds (Hann window); F0 is a mean over windows of 40 ms inside a longer one.
        shift_s: seconds from one frame to the next.
        deltas: add the slopes of log F0, voicing, energy and tilt over five frames.
    """

    window_s: float = Field(default=0.040, gt=0.0)
    shift_s: float = Field(default=0.010, gt=0.0)
    deltas: bool = False

    @model_validator(mode="after")
    def _check_grid(self) -> GridConfig:
        check_grid(self.window_s, self.shift_s, self.low_hz)
        return self


class GridFrontend:
    """What `Prosody` and `repkit.features.affect.Affect` share: the time grid, the contours, the names of columns.

    Args:
        config: settings.
        bands: names of further columns before those of prosody.
        bank: (window // 2 + 1, F) weights of the bins for bands of energy, or None.

    Attributes:
        columns: names of the columns.
        n_bands: F, their number.
        frame_shift_s: seconds from one frame to the next.
    """

    name: ClassVar[str]
    sample_rate = SAMPLE_RATE

    def __init__(self, config: GridConfig, bands: tuple[str, ...] = (), bank: np.ndarray | None = None) -> None:
        self._window, self._shift = round(config.window_s * SAMPLE_RATE), round(config.shift_s * SAMPLE_RATE)
        self._has_deltas, self._settings = config.deltas, config.model_dump(mode="json")
        self.frame_shift_s = self._shift / SAMPLE_RATE
        self.columns = bands + COLUMNS + tuple(f"{name}_delta" for name in WITH_DELTAS if config.deltas)
        self.n_bands = len(self.columns)
        self._contours = Contours(self._window, self._shift, config, bank)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples; a frame is made of its own samples only."""
        return frame_count(n_samples, self._window, self._shift)

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32 and their counts (B,) from waveforms (B, S) and sample counts (B,)."""
        return map_batch(waveforms, lengths, self.n_bands, self.n_frames, self._frames_of)

    def _frames_of(self, signal: torch.Tensor, count: int) -> torch.Tensor:
        """Return so many frames (T, F) of one signal (S,)."""
        raise NotImplementedError

    def _with_deltas(self, prosody: torch.Tensor) -> torch.Tensor:
        """Return the columns of prosody (T, 5), their slopes per second behind them where the settings ask for them."""
        if not self._has_deltas:
            return prosody
        return torch.cat([prosody, deltas(prosody[:, : len(WITH_DELTAS)], self.frame_shift_s)], dim=1)

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return {
            "frontend": self.name,
            "version": "1",
            "sample_rate": SAMPLE_RATE,
            "window_samples": self._window,
            "shift_samples": self._shift,
            **self._settings,
        }


class Prosody(GridFrontend):
    """Waveforms to frames of prosody (`repkit.api.Frontend`).

    Columns: ``log_f0`` natural logarithm of Hz, in unvoiced stretches on a straight line between their neighbours (before the
    first and after the last voiced frame held), 0 where nothing is voiced; ``voicing`` strength of periodicity, 0 to 1;
    ``energy`` 10 log10 of the mean square, dB of full scale, at least -100; ``tilt`` slope of the spectrum, dB per octave,
    least squares through 18 thirds of an octave from 100 Hz to 5 kHz (white noise 0); ``voiced`` 1 or 0. With ``deltas`` the
    slopes per second of the first four follow.

    Attributes:
        columns: names of the columns.
    """

    class Config(GridConfig):
        """Settings."""

    name = "prosody"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        super().__init__(self.config)

    def _frames_of(self, signal: torch.Tensor, count: int) -> torch.Tensor:
        return self._with_deltas(self._contours(signal, count)[0])

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, and the names of the columns, as JSON values."""
        return {**super().convention(), "columns": list(self.columns)}
