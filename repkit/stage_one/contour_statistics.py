"""Statistics of contours, and what stretches, peaks and voices say of an utterance: the numbers behind the functionals.

Everything is NumPy in double precision; nothing divides by zero, whatever the contour. Source: own design; the kinds of
statistics are those of openSMILE's feature sets (Schuller et al. 2009), syllable-like peaks after de Jong & Wempe 2009.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.signal

STATISTICS: Mapping[str, tuple[str, str]] = {
    "mean": ("mean over frames", "u"),
    "sd": ("population standard deviation", "u"),
    "p05": ("5th percentile, linear between frames", "u"),
    "p25": ("25th percentile", "u"),
    "p50": ("median", "u"),
    "p75": ("75th percentile", "u"),
    "p95": ("95th percentile", "u"),
    "range": ("95th minus 5th percentile", "u"),
    "iqr": ("75th minus 25th percentile", "u"),
    "skewness": ("third central moment / sd^3; 0 of a constant", "1"),
    "kurtosis": ("fourth central moment / sd^4 - 3; 0 of a constant", "1"),
    "slope": ("least-squares line over time", "u/s"),
    "residual": ("root mean square distance from that line", "u"),
    "change": ("mean absolute difference of neighbouring frames", "u"),
}
"""Name to formula and unit, u being the contour's own."""

DELTA_STATISTICS = tuple(name for name in STATISTICS if name not in ("slope", "residual"))
"""Statistics of the slopes of prosody contours."""

PAUSE_DB = 25.0
"""Frames so far below the 95th percentile of energy are quiet."""

PAUSE_S = 0.100
"""Shortest quiet stretch that is a pause."""

PEAK_DB = 3.0
"""Least prominence of a peak of the smoothed energy."""

RHYTHM: Mapping[str, tuple[str, str]] = {
    "level": ("10 log10 of the mean of the frames' mean squares", "dB"),
    "voiced_share": ("share of frames that are voiced", "1"),
    "voiced_rate": ("voiced stretches per second", "1/s"),
    "voiced_length_mean": ("mean length of voiced stretches", "s"),
    "voiced_length_sd": ("standard deviation of their lengths", "s"),
    "voiced_length_max": ("longest voiced stretch", "s"),
    "unvoiced_length_mean": ("mean length of unvoiced stretches", "s"),
    "unvoiced_length_sd": ("standard deviation of their lengths", "s"),
    "unvoiced_length_max": ("longest unvoiced stretch", "s"),
    "pause_share": ("share of frames in pauses: 100 ms or more that lie 25 dB below the 95th percentile of energy", "1"),
    "pause_rate": ("pauses per second", "1/s"),
    "pause_length_mean": ("mean length of pauses", "s"),
    "pause_length_max": ("longest pause", "s"),
    "peak_rate": ("syllable-like peaks per second: energy smoothed over 5 frames, prominence 3 dB or more", "1/s"),
    "peak_voiced_rate": ("those in voiced frames, per second", "1/s"),
    "peak_prominence": ("mean prominence of the peaks", "dB"),
    "peak_interval_mean": ("mean time from peak to peak", "s"),
    "peak_interval_sd": ("its standard deviation", "s"),
    "energy_rise": ("mean of the positive slopes of energy", "dB/s"),
    "energy_fall": ("mean of the negative slopes of energy", "dB/s"),
    "energy_voiced": ("mean energy of voiced minus that of unvoiced frames", "dB"),
    "energy_perturbation": ("mean absolute second difference of energy in voiced stretches", "dB"),
    "f0_rise": ("mean of the positive slopes of F0, voiced frames", "semitones/s"),
    "f0_fall": ("mean of the negative slopes of F0, voiced frames", "semitones/s"),
    "f0_rise_share": ("share of voiced frames in which F0 rises", "1"),
    "f0_perturbation": ("mean absolute second difference of F0 in voiced stretches", "semitones"),
    "f0_energy_correlation": ("correlation of F0 and energy over voiced frames", "1"),
    "tilt_energy_correlation": ("correlation of tilt and energy over voiced frames", "1"),
    "hnr_mean": ("mean of 10 log10(v / (1 - v)) over voiced frames, v the voicing within .01 and .999", "dB"),
    "hnr_sd": ("its standard deviation", "dB"),
    "hnr_p05": ("its 5th percentile", "dB"),
    "tilt_voiced_mean": ("mean tilt of voiced frames", "dB/octave"),
    "tilt_voiced_sd": ("its standard deviation", "dB/octave"),
    "tilt_unvoiced_mean": ("mean tilt of unvoiced frames", "dB/octave"),
    "alpha_mean": ("mean over voiced frames of the level of the bands from 1 to 5 kHz minus that of those below", "dB"),
    "alpha_sd": ("its standard deviation", "dB"),
    "hammarberg_mean": ("mean over voiced frames of the strongest band below 2 kHz minus the strongest from 2 to 5 kHz", "dB"),
    "hammarberg_sd": ("its standard deviation", "dB"),
    "flux_mean": ("mean over frames of the root mean square change of the bands from frame to frame", "dB"),
    "flux_sd": ("its standard deviation", "dB"),
}  # fmt: skip
"""Name to formula and unit of what is no statistic of one contour."""


def describe(values: np.ndarray, times: np.ndarray, neighbours: np.ndarray | None = None) -> np.ndarray:
    """Return (F, 14) statistics, as in `STATISTICS`, of contours (F, T) at times (T,) in seconds, T >= 1.

    Args:
        values: F contours.
        times: of the frames.
        neighbours: (T - 1,) whether a frame and the one after it are neighbours; None when all are.
    """
    values = np.asarray(values, np.float64)
    n = values.shape[1]
    mean = values.mean(1)
    centred = values - mean[:, None]
    square = np.square(centred)
    variance = square.mean(1)
    varies = variance > 1e-12
    safe = np.where(varies, variance, 1.0)
    skewness = np.where(varies, (square * centred).mean(1) / safe**1.5, 0.0)
    kurtosis = np.where(varies, np.square(square).mean(1) / safe**2 - 3.0, 0.0)
    low, quarter, middle, three, high = percentiles(values, (5, 25, 50, 75, 95))
    clock = times - times.mean()
    spread = float(np.square(clock).mean())
    slope = centred @ clock / (n * spread) if spread > 0 else np.zeros(len(values))
    residual = np.sqrt(np.maximum(variance - slope**2 * spread, 0.0))
    steps = np.abs(np.diff(values, axis=1))
    steps = steps if neighbours is None else steps[:, neighbours]
    change = steps.mean(1) if steps.shape[1] else np.zeros(len(values))
    columns = (mean, np.sqrt(variance), low, quarter, middle, three, high, high - low, three - quarter)
    return np.stack([*columns, skewness, kurtosis, slope, residual, change], axis=1)


def percentiles(values: np.ndarray, wanted: tuple[float, ...]) -> np.ndarray:
    """Return (P, F) percentiles of (F, T), linear between neighbours (`numpy.percentile`, a fifth of its time)."""
    ordered = np.sort(values, axis=1)
    places = np.asarray(wanted) / 100.0 * (ordered.shape[1] - 1)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    share = places - below
    result: np.ndarray = (ordered[:, below] * (1.0 - share) + ordered[:, above] * share).T
    return result


def stretches(mask: np.ndarray) -> np.ndarray:
    """Return the lengths of the runs of True, in frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    lengths: np.ndarray = edges[1::2] - edges[::2]
    return lengths


def rhythm(
    energy: np.ndarray,
    energy_slope: np.ndarray,
    f0: np.ndarray,
    f0_slope: np.ndarray,
    voicing: np.ndarray,
    tilt: np.ndarray,
    voiced: np.ndarray,
    bands: np.ndarray,
    centres_hz: np.ndarray,
    shift_s: float,
) -> np.ndarray:
    """Return the numbers of `RHYTHM`, in its order.

    Args:
        energy: (T,) dB.
        energy_slope: (T,) dB per second.
        f0: (T,) semitones, bridged where unvoiced.
        f0_slope: (T,) semitones per second.
        voicing: (T,) 0 to 1.
        tilt: (T,) dB per octave.
        voiced: (T,) bool.
        bands: (F, T) dB.
        centres_hz: (F,) of the bands.
        shift_s: seconds from frame to frame.
    """
    seconds = len(energy) * shift_s
    found = {"level": 10.0 * np.log10(np.mean(10.0 ** (energy / 10.0))), "voiced_share": voiced.mean()}
    runs, gaps = stretches(voiced) * shift_s, stretches(~voiced) * shift_s
    found["voiced_rate"] = len(runs) / seconds
    for name, lengths in (("voiced", runs), ("unvoiced", gaps)):
        found |= {f"{name}_length_mean": _mean(lengths), f"{name}_length_sd": _sd(lengths)}
        found[f"{name}_length_max"] = lengths.max(initial=0.0)
    top = percentiles(energy[None], (95,))[0, 0]
    quiet = stretches(energy < top - PAUSE_DB)
    pauses = quiet[quiet >= round(PAUSE_S / shift_s)] * shift_s
    found |= {"pause_share": pauses.sum() / seconds, "pause_rate": len(pauses) / seconds}
    found |= {"pause_length_mean": _mean(pauses), "pause_length_max": pauses.max(initial=0.0)}
    found |= _peaks(energy, voiced, shift_s)
    found |= {
        "energy_rise": _mean(energy_slope[energy_slope > 0]),
        "energy_fall": _mean(energy_slope[energy_slope < 0]),
    }
    both = voiced.any() and not voiced.all()
    found["energy_voiced"] = energy[voiced].mean() - energy[~voiced].mean() if both else 0.0
    inside = voiced[2:] & voiced[1:-1] & voiced[:-2]
    found["energy_perturbation"] = _mean(np.abs(np.diff(energy, 2))[inside])
    moves = f0_slope[voiced]
    found |= {"f0_rise": _mean(moves[moves > 0]), "f0_fall": _mean(moves[moves < 0])}
    found |= {"f0_rise_share": _mean(moves > 0), "f0_perturbation": _mean(np.abs(np.diff(f0, 2))[inside])}
    found["f0_energy_correlation"] = _correlation(f0[voiced], energy[voiced])
    found["tilt_energy_correlation"] = _correlation(tilt[voiced], energy[voiced])
    strength = np.clip(voicing[voiced], 0.01, 0.999)
    harmonics = 10.0 * np.log10(strength / (1.0 - strength))
    found |= {"hnr_mean": _mean(harmonics), "hnr_sd": _sd(harmonics)}
    found["hnr_p05"] = percentiles(harmonics[None], (5,))[0, 0] if len(harmonics) else 0.0
    anywhere = tilt.mean()
    found["tilt_voiced_mean"] = tilt[voiced].mean() if voiced.any() else anywhere
    found["tilt_voiced_sd"] = _sd(tilt[voiced])
    found["tilt_unvoiced_mean"] = tilt[~voiced].mean() if not voiced.all() else anywhere
    found |= _balance(bands[:, voiced] if voiced.any() else bands, centres_hz)
    flux = np.sqrt(np.square(np.diff(bands, axis=1)).mean(0))
    found |= {"flux_mean": _mean(flux), "flux_sd": _sd(flux)}
    return np.array([found[name] for name in RHYTHM], np.float64)


def _peaks(energy: np.ndarray, voiced: np.ndarray, shift_s: float) -> dict[str, float]:
    """Return what the peaks of the smoothed energy give."""
    width = min(5, len(energy))
    smooth = np.convolve(
        np.pad(energy, (width // 2, (width - 1) // 2), mode="edge"), np.full(width, 1.0 / width), "valid"
    )
    # a peak at an edge counts too: beyond it lies the deepest valley
    padded = np.pad(smooth, 1, constant_values=smooth.min())
    places, facts = scipy.signal.find_peaks(padded, prominence=PEAK_DB)
    places = places - 1
    seconds = len(energy) * shift_s
    intervals = np.diff(places) * shift_s
    return {
        "peak_rate": len(places) / seconds,
        "peak_voiced_rate": int(voiced[places].sum()) / seconds,
        "peak_prominence": _mean(facts["prominences"]),
        "peak_interval_mean": _mean(intervals),
        "peak_interval_sd": _sd(intervals),
    }


def _balance(bands: np.ndarray, centres_hz: np.ndarray) -> dict[str, float]:
    """Return how the energy of some frames (F, T) in dB is shared between low and high bands; 0 without such bands."""
    below, above = bands[centres_hz <= 1000.0], bands[(centres_hz > 1000.0) & (centres_hz <= 5000.0)]
    low, high = bands[centres_hz < 2000.0], bands[(centres_hz >= 2000.0) & (centres_hz <= 5000.0)]
    alpha = _sum_db(above) - _sum_db(below) if len(above) and len(below) else np.zeros(1)
    drop = low.max(0) - high.max(0) if len(low) and len(high) else np.zeros(1)
    return {
        "alpha_mean": alpha.mean(),
        "alpha_sd": _sd(alpha),
        "hammarberg_mean": drop.mean(),
        "hammarberg_sd": _sd(drop),
    }


def _sum_db(bands: np.ndarray) -> np.ndarray:
    level: np.ndarray = 10.0 * np.log10((10.0 ** (bands / 10.0)).sum(0))
    return level


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _sd(values: np.ndarray) -> float:
    return float(values.std()) if len(values) else 0.0


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation, 0 where one of them does not vary."""
    if len(one) < 3:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt(np.square(one).mean() * np.square(other).mean())
    return float((one * other).mean() / size) if size > 1e-6 else 0.0
