"""Energy, tilt, F0 and deltas against numbers made by hand, and against NumPy and SciPy in double precision."""

import numpy as np
import pytest
import scipy.signal
import torch
from pydantic import ValidationError

from repkit.features.log_mel import LogMel
from repkit.features.prosody import Prosody, deltas, level_window, mean_squares, tilt_bank
from repkit.testing import check_component

RATE = 16000


def run(x, **settings):
    frontend = Prosody(Prosody.Config(**settings))
    frames, counts = frontend(torch.from_numpy(np.asarray(x, np.float32))[None], torch.tensor([len(x)]))
    assert frames.shape == (1, counts[0], frontend.n_bands)
    return dict(zip(frontend.columns, frames[0].numpy().astype(np.float64).T))


def tone(hz, amplitude, seconds=0.5):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def voice(hz, seconds, amplitude=0.2):
    return sum(tone(k * hz, amplitude / k, seconds) for k in range(1, 9))


def sloped_noise(decibels_per_octave, seconds=8.0):
    """Noise whose power spectrum is a straight line over log2 of frequency."""
    n = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(5).normal(size=n))
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0)
    x = np.fft.irfft(spectrum * 10 ** (decibels_per_octave * np.log2(hz / 1000.0) / 20), n)
    return 0.1 * x / x.std()


@pytest.mark.parametrize(
    "settings",
    [{}, {"deltas": True}, {"window_s": 0.08, "shift_s": 0.04, "deltas": True}, {"window_s": 0.06, "shift_s": 0.015}],
)
def test_conforms(settings):
    report = check_component("repkit.frontends", "prosody", settings=settings)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("x", "decibels"),
    [
        (tone(400, 1.0), -3.0103),  # mean square 1/2; 16 periods to a frame
        (tone(400, 0.5), -9.0309),
        (np.full(8000, 0.5), -6.0206),
        (np.zeros(8000), -100.0),  # the floor, 1e-10
        (np.full(8000, 1e-5), -96.9897),  # 1e-10 + 1e-10
    ],
)
def test_energy(x, decibels):
    np.testing.assert_allclose(run(x)["energy"], decibels, atol=2e-3)


def test_mean_squares_of_overlapping_frames():
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for window, shift in ((640, 160), (641, 160), (1280, 640), (300, 700)):
        n = 1 + (5000 - window) // shift
        wanted = [np.square(x[k * shift : k * shift + window].astype(np.float64)).mean() for k in range(n)]
        np.testing.assert_allclose(mean_squares(torch.from_numpy(x), window, shift, n), wanted, rtol=1e-5)


@pytest.mark.parametrize("slope", [0.0, -6.0, -3.0, 3.0])
def test_tilt_of_noise_of_known_slope(slope):
    """The mean logarithm of a random band lies below that of its mean, by more where a band holds few bins: 2.5 dB in
    one bin, 0.1 in many. Over the 18 bands that alone makes a slope of a few tenths, the same whatever the noise.
    """
    found = run(sloped_noise(slope))["tilt"].mean()
    white = run(sloped_noise(0.0))["tilt"].mean()
    assert abs(white) < 0.5
    assert found - white == pytest.approx(slope, abs=0.15)


def test_tilt_of_one_tone():
    """1600 Hz = 100 * 2^4 is the 13th of the centres. The Hann window gives its bin 2/3 of the power, those beside it
    (25 Hz away) 1/6 each; all other bands hold the floor, -120 dB. By hand: slope = sum(u L) / sum(u^2).
    """
    amplitude = 1e-3
    power = amplitude**2 / 2
    centre = 12
    bank = {}
    for band in range(18):
        hz = np.arange(25.0, 8001.0, 25.0)
        weights = np.maximum(0.0, 1.0 - 3.0 * np.abs(np.log2(hz / (100.0 * 2 ** (band / 3)))))
        bank[band] = dict(zip(hz, weights / weights.sum()))
    levels = np.full(18, 1e-12)
    for band in range(18):
        levels[band] += power * (2 / 3 * bank[band][1600.0] + 1 / 6 * (bank[band][1575.0] + bank[band][1625.0]))
    assert (levels > 2e-12).sum() == 3  # the band itself and, through the bins beside, both neighbours
    assert levels.argmax() == centre
    u = (np.arange(18) - 8.5) / 3
    wanted = (u * 10 * np.log10(levels)).sum() / (u * u).sum()
    np.testing.assert_allclose(run(tone(1600, amplitude))["tilt"][2:-2], wanted, atol=0.02)


def test_tilt_against_a_straight_fit():
    x = np.random.default_rng(1).normal(size=6000) * np.linspace(0.01, 0.3, 6000)
    x = scipy.signal.lfilter([1.0], [1.0, -0.9], x)
    window = scipy.signal.get_window("hann", 640)
    hz = np.fft.rfftfreq(640, 1 / RATE)[1:]
    centres = 100.0 * 2 ** (np.arange(18) / 3)
    wanted = []
    for n in range(1 + (6000 - 640) // 160):
        power = np.abs(np.fft.rfft(x[n * 160 : n * 160 + 640] * window)[1:]) ** 2 * 2 / (640 * (window**2).sum())
        means = [np.average(power, weights=np.maximum(0, 1 - 3 * np.abs(np.log2(hz / c)))) for c in centres]
        wanted.append(np.polyfit(np.log2(centres), 10 * np.log10(np.array(means) + 1e-12), 1)[0])
    np.testing.assert_allclose(run(x)["tilt"], wanted, atol=2e-3)


def test_the_level_window_keeps_the_mean_square():
    x = np.random.default_rng(2).normal(size=(400, 640))
    power = (np.abs(np.fft.rfft(x * level_window(640))) ** 2).sum(1)
    assert power.mean() == pytest.approx(1.0, abs=0.02)  # 400 frames of variance 1
    assert tilt_bank(640).sum(0) == pytest.approx(np.ones(18))


def test_f0_is_bridged_between_voices_and_held_at_the_ends():
    gap = np.zeros(RATE // 2)
    x = np.concatenate([gap, voice(100.0, 0.5), gap, voice(200.0, 0.5), gap])
    found = run(x)
    middle = np.arange(len(found["log_f0"])) * 0.01 + 0.02
    hz = np.exp(found["log_f0"])
    assert hz[middle < 0.4] == pytest.approx(100.0, rel=0.02)
    assert hz[(middle > 0.6) & (middle < 0.9)] == pytest.approx(100.0, rel=0.003)
    assert hz[(middle > 1.6) & (middle < 1.9)] == pytest.approx(200.0, rel=0.003)
    between = found["log_f0"][(middle > 1.1) & (middle < 1.4)]
    assert np.diff(between) == pytest.approx(np.full(len(between) - 1, np.log(2.0) * 0.01 / 0.5), rel=0.1)
    assert not found["voiced"][(middle > 1.1) & (middle < 1.4)].any()
    assert found["voiced"][(middle > 0.6) & (middle < 0.9)].all()
    assert set(found["voiced"]) == {0.0, 1.0}


def test_nothing_voiced_is_zero():
    for x in (np.zeros(8000), np.full(8000, 0.3)):
        found = run(x)
        assert not found["log_f0"][3:-3].any()
        assert np.isfinite(np.array(list(found.values()))).all()
    assert not run(np.zeros(8000))["tilt"].any()


def test_a_quiet_hum_is_not_a_voice():
    x = np.concatenate([voice(150.0, 0.5, 0.2), voice(100.0, 0.5, 0.2 * 10 ** (-50 / 20))])
    assert run(x)["voiced"][54:-4].sum() == 0
    assert run(x, silence_db=60.0)["voiced"][54:-4].all()


def test_long_frames_take_the_mean_of_the_windows_inside():
    t = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(120.0 * 2 ** (t / 2)) / RATE
    x = 0.2 * (np.sin(phase) + 0.7 * np.sin(2 * phase) + 0.5 * np.sin(3 * phase))
    found = run(x, window_s=0.08, shift_s=0.04)
    middle = np.arange(len(found["log_f0"])) * 0.04 + 0.04
    wanted = np.log(120.0) + middle / 2 * np.log(2.0)
    np.testing.assert_allclose(found["log_f0"][2:-2], wanted[2:-2], atol=0.005)
    short = run(x)["voicing"]
    np.testing.assert_allclose(found["voicing"][3], short[12:17].mean(), atol=1e-3)


@pytest.mark.parametrize("n", [0, 639, 640, 1279, 1280, 1919, 1920, 20001])
def test_shares_the_grid_of_log_mel(n):
    for window_s, shift_s in ((0.04, 0.01), (0.08, 0.04)):
        ours = Prosody(Prosody.Config(window_s=window_s, shift_s=shift_s))
        mel = LogMel(LogMel.Config(window_s=window_s, shift_s=shift_s, n_fft=2048))
        assert ours.n_frames(n) == mel.n_frames(n)
        assert ours.frame_shift_s == mel.frame_shift_s


def test_deltas():
    """Least squares through five points with repeated ends is Savitzky and Golay's first derivative."""
    values = np.random.default_rng(3).normal(size=(40, 3))
    found = deltas(torch.from_numpy(values), 0.01).numpy()
    wanted = scipy.signal.savgol_filter(values, 5, 1, deriv=1, delta=0.01, axis=0, mode="nearest")
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    one = deltas(torch.ones(1, 2), 0.01)
    assert one.shape == (1, 2)
    assert not one.any()
    x = np.random.default_rng(4).normal(size=8000)
    both = run(x, deltas=True)
    assert list(both)[5:] == ["log_f0_delta", "voicing_delta", "energy_delta", "tilt_delta"]
    np.testing.assert_allclose(
        both["energy_delta"], scipy.signal.savgol_filter(both["energy"], 5, 1, deriv=1, delta=0.01, mode="nearest"), rtol=1e-3
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"window_s": 0.025}, "two periods of low_hz"),
        ({"shift_s": 0.0101875}, "multiple of a step"),  # 163 samples, a prime
        ({"low_hz": 300.0, "high_hz": 200.0}, "less than high_hz"),
        ({"low_hz": 20.0}, "greater than or equal to 50"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValidationError, match=text):
        Prosody.Config(**settings)
