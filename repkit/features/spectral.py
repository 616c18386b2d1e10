"""What the frontends share: frames of one signal to filter-bank energies, block by block so that it stays in cache.

An utterance is cut into the same blocks whatever batch it is in, so its frames are the same to the last bit. One large
batch is slower on a CPU than utterance by utterance (the spectra leave the cache); a DFT as a matrix product is five
times slower than the FFT. A band reads few of the bins, so the product with the bank is taken for a group of bands at a
time, over the bins that group reads: a third of the operations for 128 bands. Source: own design, measured.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch

SAMPLE_RATE = 16000
"""Samples per second of every waveform in repkit."""

_BLOCK_VALUES = 1 << 19
"""Samples of windowed frames worked on at once: 2 MiB, and as much again for their spectra."""

_GROUP = 16
"""Bands whose energies are summed by one matrix product; fewer make products too narrow for a CPU's registers."""


class _Rooms(threading.local):
    """Every thread's own room for a block: made anew for every utterance it costs a tenth of the arithmetic (fresh pages)."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int, int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}


_ROOMS = _Rooms()


def frame_count(n_samples: int, window: int, shift: int) -> int:
    """Return how many whole windows fit, without any padding."""
    return 0 if n_samples < window else 1 + (n_samples - window) // shift


def next_power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def emphasise(signal: torch.Tensor, coefficient: float) -> torch.Tensor:
    """Return y[n] = x[n] - coefficient * x[n-1] with y[0] = x[0], for (..., S)."""
    if not coefficient:
        return signal
    result = torch.empty_like(signal)
    result[..., :1] = signal[..., :1]
    torch.sub(signal[..., 1:], signal[..., :-1], alpha=coefficient, out=result[..., 1:])
    return result


class BandEnergies:
    """Energies of the bands of every frame of one signal.

    Args:
        window: (W,) weights of the samples of a frame.
        shift: samples from one frame to the next.
        n_fft: length of the FFT, at least W; frames are padded with zeros at their end.
        bank: (n_fft // 2 + 1, F) weights, or None for the bins themselves.
        power: 2.0 for the squared magnitude, 1.0 for the magnitude.
        emphasis: coefficient of `emphasise`, applied to the whole signal before it is cut into frames; 0 for none.
        prepare: writes frames (T, W), changed as it likes, into a tensor of the same shape; None leaves them as they are.
    """

    def __init__(
        self,
        window: np.ndarray,
        shift: int,
        n_fft: int,
        bank: np.ndarray | None,
        power: float = 2.0,
        emphasis: float = 0.0,
        prepare: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
    ) -> None:
        self._window = torch.from_numpy(np.ascontiguousarray(window, np.float32))
        self._width = n_fft // 2 + 1 if bank is None else bank.shape[1]
        self._groups = None if bank is None else _groups(np.asarray(bank, np.float32))
        self._shift = shift
        self._n_fft = n_fft
        self._power = power
        self._emphasis = emphasis
        self._prepare = prepare
        self._block = max(8, _BLOCK_VALUES // n_fft)

    def __call__(self, signal: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Return (n_frames, F) float32 energies of a float32 signal (S,) that holds that many frames."""
        if self._window.device != signal.device:
            self._window = self._window.to(signal.device)
            if self._groups is not None:
                self._groups = [(bands, bins, part.to(signal.device)) for bands, bins, part in self._groups]
        window, size = self._window.shape[0], self._block
        room, squares = _room(size, window, self._n_fft, signal.device)
        out = torch.empty((n_frames, self._width), dtype=torch.float32, device=signal.device)
        for start in range(0, n_frames, size):
            rows = out[start : start + size]
            block = self._samples(signal, start, len(rows)).unfold(0, window, self._shift)
            padded, energies = room[: len(rows)], squares[: len(rows)]
            windowed = padded[:, :window]
            if self._prepare is None:
                torch.mul(block, self._window, out=windowed)
            else:
                self._prepare(block, windowed)
                windowed *= self._window
            # squares in place and one sum are the fastest squared magnitude: a tenth of abs().square()
            parts = torch.view_as_real(torch.fft.rfft(padded)).square_()
            torch.add(parts[..., 0], parts[..., 1], out=energies)
            if self._power == 1.0:
                energies.sqrt_()
            elif self._power != 2.0:
                energies.pow_(self._power / 2)
            if self._groups is None:
                rows.copy_(energies)
                continue
            for bands, bins, part in self._groups:
                torch.mm(energies[:, bins], part, out=rows[:, bands])
        return out

    def _samples(self, signal: torch.Tensor, start: int, n_frames: int) -> torch.Tensor:
        """Return the samples of some frames, emphasised; a whole long signal more would be as much memory again."""
        first = start * self._shift
        samples = signal[first : first + (n_frames - 1) * self._shift + self._window.shape[0]]
        if not self._emphasis:
            return samples
        emphasised = emphasise(samples, self._emphasis)
        if first:
            torch.sub(samples[:1], signal[first - 1 : first], alpha=self._emphasis, out=emphasised[:1])
        return emphasised


def _room(size: int, window: int, n_fft: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this thread's room for frames (size, n_fft), zero beyond the window, and for their squares (size, bins)."""
    key = (size, window, n_fft, device)
    if key not in _ROOMS.made:
        with torch.inference_mode(False):  # what is made in inference mode can be changed nowhere else
            room = torch.zeros((size, n_fft), dtype=torch.float32, device=device)
            _ROOMS.made[key] = room, torch.empty((size, n_fft // 2 + 1), dtype=torch.float32, device=device)
    return _ROOMS.made[key]


def _groups(bank: np.ndarray) -> list[tuple[slice, slice, torch.Tensor]]:
    """Return bands, bins and (bins, bands) weights of each group of neighbouring bands of a bank (n_fft // 2 + 1, F)."""
    groups = []
    for first in range(0, bank.shape[1], _GROUP):
        bands = slice(first, min(first + _GROUP, bank.shape[1]))
        read = np.flatnonzero(bank[:, bands].any(axis=1))
        bins = slice(int(read[0]), int(read[-1]) + 1) if len(read) else slice(0, 1)
        groups.append((bands, bins, torch.from_numpy(np.ascontiguousarray(bank[bins, bands]))))
    return groups


def map_batch(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    n_bands: int,
    n_frames: Callable[[int], int],
    frames_of: Callable[[torch.Tensor, int], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply `frames_of` to every utterance without its padding and stack the frames, zero beyond their counts.

    Args:
        waveforms: (B, S).
        lengths: (B,) samples.
        n_bands: F.
        n_frames: frames of so many samples.
        frames_of: (S,) float32 signal and its number of frames (>= 1) to (T, F) frames.

    Returns:
        frames (B, T, F) float32 and counts (B,) int64.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1]:
        raise ValueError(f"waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)}: not (B, S) and (B,)")
    sizes = [int(size) for size in lengths.tolist()]
    if sizes and (min(sizes) < 0 or max(sizes) > waveforms.shape[1]):
        raise ValueError(f"lengths from {min(sizes)} to {max(sizes)}: 0 to {waveforms.shape[1]} samples were expected")
    counts = [n_frames(size) for size in sizes]
    frames = torch.zeros((len(sizes), max(counts, default=0), n_bands), dtype=torch.float32, device=waveforms.device)
    for i, (size, count) in enumerate(zip(sizes, counts)):
        if count:
            frames[i, :count] = frames_of(waveforms[i, :size].to(torch.float32), count)
    return frames, torch.tensor(counts, dtype=torch.int64, device=waveforms.device)


def mel_from_hz(hz: np.ndarray | float, scale: str) -> np.ndarray:
    """Return mel of Hz: ``htk`` 2595 log10(1 + f/700), ``slaney`` linear below 1 kHz and logarithmic above."""
    hz = np.asarray(hz, np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    return np.where(hz < 1000.0, hz / (200.0 / 3), 15.0 + np.log(np.maximum(hz, 1000.0) / 1000.0) * 27.0 / np.log(6.4))


def hz_from_mel(mel: np.ndarray | float, scale: str) -> np.ndarray:
    """Return Hz of mel, the inverse of `mel_from_hz`."""
    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * (200.0 / 3), 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * np.log(6.4) / 27.0))


def periodic_window(kind: str, length: int) -> np.ndarray:
    """Return the periodic ``"hann"`` or ``"hamming"`` window (float64)."""
    phase = np.cos(2.0 * np.pi * np.arange(length) / length)
    return 0.5 - 0.5 * phase if kind == "hann" else 0.54 - 0.46 * phase
