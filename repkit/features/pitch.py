"""Fundamental frequency and strength of voicing of every frame: normalised autocorrelation, octave jumps mended by neighbours.

Each frame is compared with itself, delayed; the delay that fits best is a period. Delays within the frame only, each
normalised by the energies of the two stretches compared (the normalised cross-correlation of Talkin 1995, A robust
algorithm for pitch tracking, section 2), so that strength is 1 of a perfectly periodic frame of any level. All delays come
from one FFT per frame, at 8 kHz. A period's multiples fit as well as the period itself: a bonus per octave prefers the
shortest (Boersma 1993, section 3). Jumps are mended without a search through time: the candidates of a frame are weighed
again, by their distance from the median of the frames around, which counts strong frames most. Source: own design, measured
(docs/results/benchmarks-pitch.md).
"""

from __future__ import annotations

import numpy as np
import torch

from repkit.features.spectral import SAMPLE_RATE

STRIDE = 2
"""Samples per sample that is looked at: periods are found at 8 kHz."""

OCTAVE_BONUS = 0.02
"""Strength an octave is worth: of two delays that fit about as well the shorter one is the period."""

JUMP_COST = 0.3
"""Strength lost per octave of distance from the frames around; one octave at most."""

NEIGHBOURS = 15
"""Frames whose median a frame is compared with, itself in the middle."""

CANDIDATES = 5
"""Delays kept per frame."""

FLOOR = 1e-8
"""Mean square (-80 dB of full scale) added to what normalises: rounding and dither are not voices."""

_TAPS = 65
_PASS_HZ = 1500.0  # with more, a parabola no longer finds the height of a peak that falls between two samples
_BLOCK_FRAMES = 256
_OUTPUTS = 32


def low_pass(taps: int, cutoff_hz: float) -> np.ndarray:
    """Return a low-pass filter (taps,) of unit gain at 0 Hz for 16 kHz: a windowed sinc (Hamming)."""
    n = np.arange(taps) - (taps - 1) / 2
    weights = np.sinc(2.0 * cutoff_hz / SAMPLE_RATE * n) * np.hamming(taps)
    return weights / weights.sum()


def _filter_matrix(taps: np.ndarray) -> torch.Tensor:
    """Return (samples read, _OUTPUTS): each column holds the filter, STRIDE samples after the column before."""
    matrix = np.zeros((len(taps) + STRIDE * (_OUTPUTS - 1), _OUTPUTS), np.float32)
    for column in range(_OUTPUTS):
        matrix[STRIDE * column : STRIDE * column + len(taps), column] = taps
    return torch.from_numpy(matrix)


class PitchTracker:
    """F0 and strength of voicing, frame by frame.

    Frame n is made of the samples [n * shift, n * shift + window) and of 32 more at both ends, which the low-pass filter
    reads; the choice among its candidates looks at the 14 frames around it, and through them twice as far.

    Args:
        window: samples per frame, at least two periods of `low_hz`.
        shift: samples from one frame to the next, an even number.
        low_hz: lowest F0.
        high_hz: highest F0.

    Raises:
        ValueError: arguments that do not fit each other.
    """

    def __init__(self, window: int = 640, shift: int = 160, low_hz: float = 60.0, high_hz: float = 500.0) -> None:
        rate = SAMPLE_RATE / STRIDE
        if (
            not 0 < low_hz < high_hz <= rate / 8
            or window < 2 * SAMPLE_RATE / low_hz
            or shift % STRIDE
            or shift < STRIDE
        ):
            raise ValueError(
                f"window {window}, shift {shift}, {low_hz} to {high_hz} Hz: two periods or more per window, an even shift "
                f"and at most {rate / 8:.0f} Hz were expected"
            )
        self._window, self._shift = window // STRIDE, shift // STRIDE
        self._low_hz, self._high_hz, self._rate = low_hz, high_hz, rate
        # a delay more at both ends, so that every delay in range has neighbours
        self._first = int(np.floor(rate / high_hz)) - 1
        self._last = int(np.ceil(rate / low_hz)) + 1
        self._n_fft = 1 << (self._window + self._last - 1).bit_length()  # long enough that nothing wraps round
        self._filter = _filter_matrix(low_pass(_TAPS, _PASS_HZ))
        delays = np.arange(self._first + 1, self._last)
        self._bonus = torch.from_numpy((-OCTAVE_BONUS * np.log2(delays * low_hz / rate)).astype(np.float32))

    def __call__(self, signal: torch.Tensor, n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return F0 in Hz and strength of a signal (S,) float32 that holds that many frames, both (n_frames,) float32.

        F0 is the best guess of every frame, voiced or not, and 0 where nothing repeats (digital silence). Strength is 0 to
        1: the normalised autocorrelation at the period.
        """
        if self._filter.device != signal.device:
            self._filter, self._bonus = self._filter.to(signal.device), self._bonus.to(signal.device)
        frames = self._slow(signal).unfold(0, self._window, self._shift)
        size = min(_BLOCK_FRAMES, n_frames)
        room = torch.zeros((size, self._n_fft), dtype=torch.float32, device=signal.device)
        parts = [
            self._candidates(frames[start : min(start + size, n_frames)], room) for start in range(0, n_frames, size)
        ]
        octaves, strength, score = (torch.cat(part) for part in zip(*parts))
        best = score.argmax(1, keepdim=True)
        for _ in range(2):
            around = _weighted_median(octaves.gather(1, best)[:, 0], strength.gather(1, best)[:, 0])
            distance = (octaves - around[:, None]).abs_().clamp_(max=1.0)
            best = (score - JUMP_COST * distance).argmax(1, keepdim=True)
        strength = strength.gather(1, best)[:, 0]
        hz = self._low_hz * torch.exp2(octaves.gather(1, best)[:, 0])
        return torch.where(strength > 0, hz, 0.0), strength

    def _slow(self, signal: torch.Tensor) -> torch.Tensor:
        """Return (S // STRIDE or more,) samples at 8 kHz; filtering by a matrix product is 20 times conv1d's speed."""
        rows = -(-len(signal) // (STRIDE * _OUTPUTS))
        half, read = _TAPS // 2, len(self._filter)
        padded = torch.nn.functional.pad(signal, (half, STRIDE * _OUTPUTS * rows + half - len(signal)))
        return (padded.unfold(0, read, STRIDE * _OUTPUTS)[:rows] @ self._filter).flatten()

    def _candidates(self, frames: torch.Tensor, room: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return octaves above `low_hz`, strength and score (T, CANDIDATES) of the best peaks of frames (T, W)."""
        n = len(frames)
        values = room[:n, : self._window]
        torch.sub(frames, frames.mean(1, keepdim=True), out=values)
        spectrum = torch.fft.rfft(room[:n])
        products = torch.fft.irfft(spectrum * spectrum.conj(), self._n_fft)[:, self._first : self._last + 1]
        # energies of what is compared at each delay: the frame without its last, and without its first samples
        energy = values.square().cumsum_(1).add_(FLOOR * self._window)
        total, end = energy[:, -1:] + FLOOR * self._window, self._window
        heads = energy[:, end - 1 - self._last : end - self._first].flip(1)
        tails = total - energy[:, self._first - 1 : self._last]
        fit = products.mul_(heads.mul_(tails).rsqrt_())
        left, middle, right = fit[:, :-2], fit[:, 1:-1], fit[:, 2:]
        peak = (middle > left) & (middle >= right) & (middle > 0)
        # a parabola through the peak and its neighbours
        slope, bend = (left - right).mul_(0.25), (left + right).sub_(middle, alpha=2.0).clamp_(max=-1e-9)
        height = middle - slope.square().mul_(2.0).div_(bend)
        score, place = torch.where(peak, height + self._bonus, -1.0).topk(CANDIDATES, dim=1)
        offset = (2.0 * slope.gather(1, place) / bend.gather(1, place)).clamp_(-0.5, 0.5)
        strength = height.gather(1, place).clamp_(0.0, 1.0)
        hz = self._rate / (place + (self._first + 1) + offset)
        hz = hz.clamp_(self._low_hz, self._high_hz)
        strength = torch.where(score > 0, strength, 0.0)
        return torch.log2(hz / self._low_hz), strength, score


def _weighted_median(values: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Return for each of (T,) values the median of those around; weak frames hardly count."""
    half = NEIGHBOURS // 2
    weights = (strength - 0.3).clamp_(min=0.0).square_() + 1e-6
    near = torch.nn.functional.pad(values[None], (half, half), mode="replicate")[0].unfold(0, NEIGHBOURS, 1)
    ordered, order = near.sort(dim=1, stable=True)
    weight = torch.nn.functional.pad(weights, (half, half)).unfold(0, NEIGHBOURS, 1).gather(1, order).cumsum_(1)
    middle = (weight < 0.5 * weight[:, -1:]).sum(1, keepdim=True).clamp_(max=NEIGHBOURS - 1)
    return ordered.gather(1, middle)[:, 0]


def bridge(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return (T,) values with straight lines where they are not known, held at both ends; 0 where none is known."""
    found = known.nonzero()[:, 0]
    if not len(found):
        return torch.zeros_like(values)
    places = torch.arange(len(values), device=values.device)
    after = torch.searchsorted(found, places)
    last = found[(after - known.logical_not().long()).clamp_(min=0)]
    following = found[after.clamp_(max=len(found) - 1)]
    gap = (following - last).clamp(min=1)
    share = ((places - last).to(values.dtype) / gap).clamp_(0.0, 1.0)
    return torch.lerp(values[last], values[following], share)
