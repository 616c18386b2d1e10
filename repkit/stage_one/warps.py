"""What a room, a shift of pitch and another tempo do to frames: powers smeared in time, bands and time resampled.

Axes: B pieces, T frames, F columns. Sources: Polack 1988, "La transmission de l'énergie sonore dans les salles" (thesis): the
response of a room is noise that decays exponentially; the rest is own design. How far each agrees with the waveform itself
treated so: tests/realdata/test_augment_real.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from repkit.features.affect import BAND_FLOOR
from repkit.features.log_mel import mel_bank
from repkit.features.prosody import TILT_FLOOR, tilt_bank, tilt_centres
from repkit.features.spectral import SAMPLE_RATE, hz_from_mel, mel_from_hz

LEAST_POWER = 1e-14
"""Powers below are raised to it before the logarithm where bands are resampled: far below the floor of all frames."""


_NEPERS = math.log(10) / 10
"""Natural logarithm of a power that differs by 1 dB: exp is several times as fast as a power of ten."""


def power_of(level: Tensor) -> Tensor:
    """Return the power of a level in dB without the floor that every band and energy has."""
    return (torch.exp(level * _NEPERS) - BAND_FLOOR).clamp_min(0.0)


def level_of(power: Tensor) -> Tensor:
    """Return the level in dB of a power, with the floor."""
    return 10 * torch.log10(power + BAND_FLOOR)


def reverberated(power: Tensor, rt60_s: Tensor, frame_shift_s: float) -> Tensor:
    """Return powers as heard in a room whose response is exponentially decaying noise of energy 1 (Polack's model).

    Noise adds no phase, so that powers are convolved with its envelope a exp(-a u), u in frames, a = 6 ln 10 shift / RT60;
    between frames they lie on straight lines. Its weights are 1 - (1 - e^-a) / a now and e^-ak (e^a + e^-a - 2) / a for what
    was k frames ago, which sum to 1. What lies before the first frame is taken for silence.

    Args:
        power: (B, T, F).
        rt60_s: (B,) seconds in which sound decays by 60 dB.
        frame_shift_s: seconds from one frame to the next.
    """
    a = (6 * math.log(10) * frame_shift_s / rt60_s)[:, None]
    decay = torch.exp(-a)
    now = 1 - (1 - decay) / a
    before = (1 - decay) ** 2 / a  # e^-a (e^a + e^-a - 2) / a
    late = torch.zeros_like(power[:, 0])
    heard = []
    for step in power.unbind(1):
        heard.append(now * step + late)
        late = decay * late + before * step
    return torch.stack(heard, dim=1)


def resampled(values: Tensor, lengths: Tensor, speed: Tensor, window_frames: float) -> tuple[Tensor, Tensor]:
    """Return frames on another time axis, zero where padded, and their counts.

    Frame t is a straight line between the two frames that lie around the middle of its window; there are as many as the
    frontend makes of a waveform ``speed`` times as fast.

    Args:
        values: (B, T, F).
        lengths: (B,) int64 valid frames, at least 1.
        speed: (B,) frames of before per new frame.
        window_frames: length of a window in frame shifts.
    """
    last = lengths - 1
    # a millionth, so that speed 1 with a window of broken length keeps every frame
    counts = ((last + window_frames) / speed - window_frames + 1e-6).floor().long().clamp_min(0) + 1
    steps = torch.arange(int(counts.max()), device=values.device)
    place = steps * speed[:, None] + (speed[:, None] - 1) * window_frames / 2
    place = torch.minimum(place.clamp_min(0.0), last[:, None].to(place.dtype))
    lower = place.floor().long()
    upper = torch.minimum(lower + 1, last[:, None])
    rows = torch.arange(len(values), device=values.device)[:, None]
    found = torch.lerp(values[rows, lower], values[rows, upper], (place - lower)[..., None])
    return found.masked_fill((steps >= counts[:, None])[..., None], 0.0), counts


def slopes(values: Tensor, lengths: Tensor, frame_shift_s: float) -> Tensor:
    """Return slopes per second (B, T, F) by least squares through five frames, ends repeated; as `prosody.deltas`."""
    last = (lengths - 1)[:, None]
    rows = torch.arange(len(values), device=values.device)[:, None]
    steps = torch.arange(values.shape[1], device=values.device)[None, :]
    total = torch.zeros_like(values)
    for lag in (1, 2):
        after, before = torch.minimum(steps + lag, last), torch.minimum((steps - lag).clamp_min(0), last)
        total += lag * (values[rows, after] - values[rows, before])
    return total / (10 * frame_shift_s)


class MelAxis:
    """The bands of the frontend ``affect``: triangles of peak 1 from 0 to 8 kHz, equally far apart on HTK's mel scale.

    Args:
        bands: their number, at least 2.
        window: samples of a frame.
    """

    def __init__(self, bands: int, window: int) -> None:
        bank = mel_bank(bands, window, 0.0, SAMPLE_RATE / 2, "htk", None)
        top = float(mel_from_hz(SAMPLE_RATE / 2, "htk"))
        self._last, self._per_mel = bands - 1, (bands + 1) / top
        corners = np.linspace(0.0, top, bands + 2)[1:-1]
        self._hz = torch.from_numpy(np.asarray(hz_from_mel(corners, "htk"), np.float32))
        # logarithm of the bins that a band takes in: what a flat spectrum has more in a wider one
        self._width = torch.from_numpy(np.log(bank.sum(0)).astype(np.float32))
        bins = np.arange(window // 2 + 1) * (SAMPLE_RATE / window)
        between = np.stack([np.interp(bins, self._hz.numpy(), row) for row in np.eye(bands)], axis=1)
        self._thirds = torch.from_numpy(((between / bank.sum(0)).T @ tilt_bank(window)).astype(np.float32))
        octaves = np.log2(tilt_centres()) - np.log2(tilt_centres()).mean()
        self._slope = torch.from_numpy((10 * octaves / np.square(octaves).sum()).astype(np.float32))

    def shifted(self, power: Tensor, ratio: Tensor) -> Tensor:
        """Return powers (B, T, bands) of the spectrum stretched over frequency by a ratio (B,), its sum kept.

        Spectral densities are interpolated on a logarithmic scale. Above what was recorded, the density of the highest band goes on.
        """
        hz, width = self._hz.to(power.device), self._width.to(power.device)
        mel = 2595.0 * torch.log10(1 + hz / ratio[:, None] / 700.0)
        place = (mel * self._per_mel - 1).clamp(0.0, self._last)
        lower = place.floor().clamp(max=self._last - 1).long()
        density = torch.log(power.clamp_min(LEAST_POWER)) - width
        index = lower[:, None].expand(density.shape)
        below, above = density.gather(2, index), density.gather(2, index + 1)
        return torch.exp(torch.lerp(below, above, (place - lower)[:, None]) + width - torch.log(ratio)[:, None, None])

    def tilt(self, power: Tensor) -> Tensor:
        """Return the tilt (B, T) in dB per octave that can be read off the powers of bands (B, T, bands).

        As in `repkit.features.prosody`, but for densities that lie on straight lines between the bands.
        """
        thirds = power @ self._thirds.to(power.device)
        return torch.log10(thirds + TILT_FLOOR) @ self._slope.to(power.device)
