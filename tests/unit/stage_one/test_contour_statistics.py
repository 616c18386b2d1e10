"""Statistics against NumPy and SciPy, and rhythm of contours drawn by hand."""

import numpy as np
import pytest
import scipy.stats

from repkit.stage_one.contour_statistics import RHYTHM, STATISTICS, describe, percentiles, rhythm, stretches

SHIFT = 0.01


def test_statistics_against_numpy_and_scipy():
    random = np.random.default_rng(0)
    values = np.cumsum(random.normal(size=(5, 137)), axis=1) + random.exponential(size=(5, 137))
    times = np.arange(137) * SHIFT
    found = {name: column for name, column in zip(STATISTICS, describe(values, times).T)}
    wanted = {
        "mean": values.mean(1),
        "sd": values.std(1),
        "skewness": scipy.stats.skew(values, axis=1),
        "kurtosis": scipy.stats.kurtosis(values, axis=1),
        "slope": [np.polyfit(times, row, 1)[0] for row in values],
        "residual": [np.sqrt(np.mean((row - np.polyval(np.polyfit(times, row, 1), times)) ** 2)) for row in values],
        "change": np.abs(np.diff(values, axis=1)).mean(1),
        "range": np.percentile(values, 95, axis=1) - np.percentile(values, 5, axis=1),
        "iqr": scipy.stats.iqr(values, axis=1),
        **{f"p{p:02d}": np.percentile(values, p, axis=1) for p in (5, 25, 50, 75, 95)},
    }
    assert wanted.keys() == found.keys()
    for name, numbers in wanted.items():
        np.testing.assert_allclose(found[name], numbers, rtol=1e-9, err_msg=name)


def test_statistics_by_hand():
    """0, 2, 4, 6 at tenths of a second: a line of slope 20."""
    found = dict(zip(STATISTICS, describe(np.array([[0.0, 2.0, 4.0, 6.0]]), np.arange(4) * 0.1)[0]))
    assert found["mean"] == 3.0
    assert found["sd"] == pytest.approx(np.sqrt(5.0))
    assert found["p25"] == 1.5
    assert found["iqr"] == 3.0
    assert found["skewness"] == pytest.approx(0.0)
    assert found["kurtosis"] == pytest.approx(41.0 / 25.0 - 3.0)
    assert found["slope"] == pytest.approx(20.0)
    assert found["residual"] == pytest.approx(0.0, abs=1e-7)
    assert found["change"] == 2.0


def test_what_does_not_vary_is_finite():
    for values in (np.full((2, 9), -100.0), np.ones((1, 1)), np.zeros((3, 2))):
        found = describe(values, np.arange(values.shape[1]) * SHIFT)
        assert np.isfinite(found).all()
        assert not found[:, 7:].any()  # ranges, shape and movement


def test_changes_do_not_reach_over_a_gap():
    times, near = np.array([0.0, 0.01, 0.5, 0.51]), np.array([True, False, True])
    found = describe(np.array([[1.0, 2.0, 9.0, 12.0]]), times, near)[0]
    assert found[list(STATISTICS).index("change")] == 2.0  # (1 + 3) / 2
    slope = np.polyfit(times, [1.0, 2.0, 9.0, 12.0], 1)[0]
    assert found[list(STATISTICS).index("slope")] == pytest.approx(slope)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_percentiles_are_numpys(n):
    values = np.random.default_rng(n).normal(size=(4, n))
    wanted = (0, 5, 37.5, 50, 95, 100)
    np.testing.assert_allclose(percentiles(values, wanted), np.percentile(values, wanted, axis=1))


@pytest.mark.parametrize(
    ("mask", "lengths"), [("", []), ("000", []), ("111", [3]), ("0110111010", [2, 3, 1]), ("1001", [1, 1])]
)
def test_stretches(mask, lengths):
    assert stretches(np.array([c == "1" for c in mask], bool)).tolist() == lengths


def contours(n=400, **given):
    """Return the arguments of `rhythm`: two bands and a voice that does not move, unless given."""
    bands = np.stack([np.full(n, -20.0), np.full(n, -30.0)])
    usual = {
        "energy": np.full(n, -20.0),
        "energy_slope": np.zeros(n),
        "f0": np.full(n, 30.0),
        "f0_slope": np.zeros(n),
        "voicing": np.full(n, 0.9),
        "tilt": np.full(n, -6.0),
        "voiced": np.ones(n, bool),
        "bands": bands,
        "centres_hz": np.array([500.0, 3000.0]),
    }
    return {**usual, **given, "shift_s": SHIFT}


def found(**given):
    return dict(zip(RHYTHM, rhythm(**contours(**given)), strict=True))


def test_a_voice_that_does_not_move():
    numbers = found()
    wanted = {
        "level": -20.0,
        "voiced_share": 1.0,
        "voiced_rate": 0.25,  # one stretch in 4 s
        "voiced_length_mean": 4.0,
        "voiced_length_max": 4.0,
        "hnr_mean": 10 * np.log10(9.0),
        "hnr_p05": 10 * np.log10(9.0),
        "tilt_voiced_mean": -6.0,
        "tilt_unvoiced_mean": -6.0,
        "alpha_mean": -10.0,
        "hammarberg_mean": 10.0,
    }
    for name, number in numbers.items():
        assert number == pytest.approx(wanted.get(name, 0.0), abs=1e-9), name


def test_stretches_and_pauses():
    voiced = np.zeros(400, bool)
    voiced[50:150] = voiced[200:250] = True  # 1 s and 0.5 s; unvoiced 0.5, 0.5 and 1.5 s
    energy = np.full(400, -20.0)
    energy[250:290] = -60.0  # 0.4 s: a pause
    energy[300:305] = -60.0  # 0.05 s: too short for one
    numbers = found(voiced=voiced, energy=energy)
    assert numbers["voiced_share"] == 150 / 400
    assert numbers["voiced_rate"] == 0.5
    assert numbers["voiced_length_mean"] == pytest.approx(0.75)
    assert numbers["voiced_length_sd"] == pytest.approx(0.25)
    assert numbers["voiced_length_max"] == pytest.approx(1.0)
    assert numbers["unvoiced_length_mean"] == pytest.approx(2.5 / 3)
    assert numbers["unvoiced_length_max"] == pytest.approx(1.5)
    assert numbers["pause_share"] == pytest.approx(0.1)
    assert numbers["pause_rate"] == pytest.approx(0.25)
    assert numbers["pause_length_mean"] == numbers["pause_length_max"] == pytest.approx(0.4)
    assert numbers["energy_voiced"] == pytest.approx(0.0 + 45 / 250 * 40.0)
    assert numbers["level"] == pytest.approx(10 * np.log10((355 * 1e-2 + 45 * 1e-6) / 400))


def test_syllable_like_peaks():
    """Five bumps a second of 20 dB for four seconds; one of two lies in an unvoiced half."""
    t = np.arange(400) * SHIFT
    energy = -30.0 - 10.0 * np.cos(2 * np.pi * 5 * t)
    numbers = found(energy=energy, voiced=t < 2.0)
    assert numbers["peak_rate"] == 5.0
    assert numbers["peak_voiced_rate"] == 2.5
    assert numbers["peak_interval_mean"] == pytest.approx(0.2)
    assert numbers["peak_interval_sd"] == pytest.approx(0.0, abs=1e-9)
    smoothed = np.mean(np.cos(2 * np.pi * 5 * SHIFT * np.arange(-2, 3)))  # what is left of a bump after smoothing
    assert numbers["peak_prominence"] == pytest.approx(20.0 * smoothed, rel=0.01)
    assert found(energy=-30.0 - 1.0 * np.cos(2 * np.pi * 5 * t))["peak_rate"] == 0.0  # 2 dB are no syllables


def test_movement():
    slope = np.tile([3.0, 3.0, -1.0, 0.0], 100)
    numbers = found(energy_slope=slope, f0_slope=-slope)
    assert (numbers["energy_rise"], numbers["energy_fall"]) == (3.0, -1.0)
    assert (numbers["f0_rise"], numbers["f0_fall"], numbers["f0_rise_share"]) == (1.0, -3.0, 0.25)
    shaky = 30.0 + np.tile([0.0, 0.5], 200)
    numbers = found(f0=shaky, energy=-20.0 + 2 * (shaky - 30.0))
    assert numbers["f0_perturbation"] == pytest.approx(1.0)  # second differences of +-1
    assert numbers["energy_perturbation"] == pytest.approx(2.0)
    assert numbers["f0_energy_correlation"] == pytest.approx(1.0)
    voiced = np.tile([True, True, False, False], 100)
    assert found(f0=shaky, voiced=voiced)["f0_perturbation"] == 0.0  # no three voiced frames in a row


def test_bands_of_voiced_frames_and_flux():
    voiced = np.arange(400) < 100
    bands = np.stack([np.full(400, -20.0), np.where(voiced, -25.0, 0.0)])
    numbers = found(voiced=voiced, bands=bands)
    assert numbers["alpha_mean"] == pytest.approx(-5.0)
    assert numbers["hammarberg_mean"] == pytest.approx(5.0)
    assert numbers["flux_mean"] == pytest.approx(25.0 / np.sqrt(2) / 399)  # one step in one of two bands


def test_a_single_frame_and_nothing_voiced():
    for n in (1, 2, 3):
        for voiced in (np.zeros(n, bool), np.ones(n, bool)):
            assert np.isfinite(rhythm(**contours(n, voiced=voiced))).all()
    assert found(voiced=np.zeros(400, bool))["hnr_mean"] == 0.0
