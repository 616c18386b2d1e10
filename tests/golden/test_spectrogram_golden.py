"""The autoencoder's spectrogram against an independent implementation in float64 with scipy's own STFT."""

import numpy as np
import pytest
import scipy.signal
import torch

from repkit.features.spectrogram import Spectrogram

FS = 16000


def speech_like(seconds, seed=0, silent_tail=0.0):
    """Pulses through a moving resonance with a little noise; not repkit's own generator."""
    random = np.random.default_rng(seed)
    n = int(seconds * FS)
    pulses = np.zeros(n)
    pulses[np.cumsum(random.integers(90, 160, n // 80)).clip(0, n - 1)] = 1.0
    voice = scipy.signal.lfilter([1.0], [1.0, -1.6 * np.cos(0.3), 0.8], pulses)
    sound = voice * (1.0 + np.sin(np.arange(n) / FS * 9.0)) + 0.001 * random.normal(size=n)
    sound[n - int(silent_tail * FS) :] = 0.0
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def reference(x, *, bands=128, window=1280, overlap=640, emphasis=0.95, detrend="constant", below=-60.0, above=None,
              fixed=120000, centre=False, normalise=True):  # fmt: skip
    """The sheet of the paper, section 2, step by step with loops and scipy."""
    x = x.astype(np.float64)
    if fixed is not None:
        if len(x) > fixed:
            start = (len(x) - fixed) // 2 if centre else 0
            x = x[start : start + fixed]
        else:
            left = (fixed - len(x)) // 2 if centre else 0
            x = np.concatenate([np.zeros(left), x, np.zeros(fixed - len(x) - left)])
    x = scipy.signal.lfilter([1.0, -emphasis], [1.0], x)
    _, _, magnitude = scipy.signal.spectrogram(
        x, fs=FS, window=scipy.signal.get_window("hann", window, fftbins=True), noverlap=overlap, detrend=detrend,
        scaling="spectrum", mode="magnitude",
    )  # fmt: skip
    power = magnitude**2
    if bands is not None:
        top = 2595 * np.log10(1 + (FS / 2) / 700)
        edges = [
            int(np.floor((window + 1) * 700 * (10 ** (m / 2595) - 1) / FS)) for m in np.linspace(0, top, bands + 2)
        ]
        bank = np.zeros((bands, window // 2 + 1))
        for m in range(bands):
            for k in range(edges[m], edges[m + 1]):
                bank[m, k] = (k - edges[m]) / (edges[m + 1] - edges[m])
            for k in range(edges[m + 1], edges[m + 2]):
                bank[m, k] = (edges[m + 2] - k) / (edges[m + 2] - edges[m + 1])
        power = bank @ power
    power = np.where(power > 0, power, power[power > 0].min())
    db = 10 * np.log10(power / power.max())
    db = db if below is None else np.maximum(db, below)
    db = db if above is None else np.minimum(db, above)
    if not normalise:
        return db.T
    db = db - db.mean()
    return (2 * (db - db.min()) / (db.max() - db.min()) - 1).T


def run(x, **settings):
    frontend = Spectrogram(Spectrogram.Config(**settings))
    frames, counts = frontend(torch.from_numpy(x)[None], torch.tensor([len(x)]))
    assert frames.shape[1] == counts[0] == frontend.n_frames(len(x))
    return frames[0].numpy()


@pytest.mark.parametrize(
    ("settings", "theirs", "shape"),
    [
        ({}, {}, (186, 128)),
        ({"fixed_length_s": 5.0}, {"fixed": 80000}, (124, 128)),
        ({"fixed_length_s": 2.0}, {"fixed": 32000}, (49, 128)),
        ({"fixed_position": "centre"}, {"centre": True}, (186, 128)),
        ({"fixed_position": "centre", "fixed_length_s": 2.0}, {"centre": True, "fixed": 32000}, (49, 128)),
        ({"fixed_length_s": None}, {"fixed": None}, (91, 128)),
        ({"fixed_length_s": None, "clip_below_db": -30.0}, {"fixed": None, "below": -30.0}, (91, 128)),
        ({"fixed_length_s": None, "clip_above_db": -12.0}, {"fixed": None, "above": -12.0}, (91, 128)),
        ({"fixed_length_s": None, "normalise": False}, {"fixed": None, "normalise": False}, (91, 128)),
        ({"fixed_length_s": None, "pre_emphasis": 0.0}, {"fixed": None, "emphasis": 0.0}, (91, 128)),
        ({"fixed_length_s": None, "detrend": False}, {"fixed": None, "detrend": False}, (91, 128)),
        ({"fixed_length_s": None, "bands": None}, {"fixed": None, "bands": None}, (91, 641)),
        ({"fixed_length_s": None, "bands": 40, "window_s": 0.064, "overlap_s": 0.048},
         {"fixed": None, "bands": 40, "window": 1024, "overlap": 768}, (228, 40)),
    ],
)  # fmt: skip
def test_against_scipy(settings, theirs, shape):
    x = speech_like(3.7, silent_tail=0.2)
    ours, expected = run(x, **settings), reference(x, **theirs)
    assert ours.shape == expected.shape == shape
    # in dB when not scaled; 60 dB of range make 2 in the scaled form
    np.testing.assert_allclose(ours, expected, atol=5e-3 if settings.get("normalise") is False else 2e-4)


@pytest.mark.parametrize("seconds", [0.3, 7.5, 9.2])
@pytest.mark.parametrize("position", ["end", "centre"])
def test_cut_and_pad_against_scipy(seconds, position):
    x = speech_like(seconds, seed=3)
    ours, expected = run(x, fixed_position=position), reference(x, centre=position == "centre")
    assert ours.shape == expected.shape == (186, 128)
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_no_clipping_against_scipy():
    """Without the floor the quietest bands are rounding noise in float32: the scale is set by the smallest value."""
    x = speech_like(2.0) + np.random.default_rng(0).normal(size=32000).astype(np.float32) * 0.01
    ours, expected = run(x, fixed_length_s=None, clip_below_db=None), reference(x, fixed=None, below=None)
    np.testing.assert_allclose(ours, expected, atol=1e-3)
