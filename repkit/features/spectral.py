"""What the frontends share: frames of one signal to filter-bank energies, block by block so that it stays in cache.

An utterance is cut into the same blocks whatever batch it is in, so its frames are the same to the last bit. One large
batch is slower on a CPU than utterance by utterance (the spectra leave the cache); a DFT as a matrix product is five
times slower than the FFT. Source: own design, measured in the ecosystem study.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

SAMPLE_RATE = 16000
"""Samples per second of every waveform in repkit."""

_BLOCK_VALUES = 1 << 17
"""Samples of windowed frames worked on at once: 0.5 MiB, and as much again for their spectra."""


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
    result = signal.clone()
    result[..., 1:] -= coefficient * signal[..., :-1]
    return result


class BandEnergies:
    """Energies of the bands of every frame of one signal.

    Args:
        window: (W,) weights of the samples of a frame.
        shift: samples from one frame to the next.
        n_fft: length of the FFT, at least W; frames are padded with zeros at their end.
        bank: (n_fft // 2 + 1, F) weights, or None for the bins themselves.
        power: 2.0 for the squared magnitude, 1.0 for the magnitude.
        prepare: what is done to (T, W) frames before the window, in place or not, or None.
    """

    def __init__(
        self,
        window: np.ndarray,
        shift: int,
        n_fft: int,
        bank: np.ndarray | None,
        power: float = 2.0,
        prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._window = torch.from_numpy(np.ascontiguousarray(window, np.float32))
        self._bank = None if bank is None else torch.from_numpy(np.ascontiguousarray(bank, np.float32))
        self._shift = shift
        self._n_fft = n_fft
        self._power = power
        self._prepare = prepare
        self._block = max(8, _BLOCK_VALUES // n_fft)

    def __call__(self, signal: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Return (n_frames, F) float32 energies of a float32 signal (S,) that holds that many frames."""
        if self._window.device != signal.device:
            self._window = self._window.to(signal.device)
            self._bank = None if self._bank is None else self._bank.to(signal.device)
        frames = signal.unfold(0, self._window.shape[0], self._shift)[:n_frames]
        width = self._n_fft // 2 + 1 if self._bank is None else self._bank.shape[1]
        out = torch.empty((n_frames, width), dtype=torch.float32, device=signal.device)
        for start in range(0, n_frames, self._block):
            block = frames[start : start + self._block]
            if self._prepare is not None:
                block = self._prepare(block)
            spectrum = torch.fft.rfft(block * self._window, n=self._n_fft)
            # the product with the conjugate is the fastest squared magnitude: a tenth of abs().square()
            energies = (spectrum * spectrum.conj()).real
            if self._power == 1.0:
                energies = energies.sqrt()
            elif self._power != 2.0:
                energies = energies.pow(self._power / 2)
            if self._bank is None:
                out[start : start + self._block] = energies
            else:
                torch.mm(energies, self._bank, out=out[start : start + self._block])
        return out


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
