"""log_mel against librosa and torchaudio, two independent implementations."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from repkit.features.log_mel import LogMel, mel_bank

FS = 16000


def sound(n=24123, seed=0):
    random = np.random.default_rng(seed)
    t = np.arange(n) / FS
    x = np.sin(2 * np.pi * (180 + 60 * np.sin(3 * t)) * t) + 0.3 * np.sin(2 * np.pi * 2500 * t)
    return (0.2 * x * (1 + np.sin(12 * t)) + 0.003 * random.normal(size=n)).astype(np.float32)


def run(x, **settings):
    frontend = LogMel(LogMel.Config(**settings))
    frames, counts = frontend(torch.from_numpy(x)[None], torch.tensor([len(x)]))
    assert frames.shape[1] == counts[0] == frontend.n_frames(len(x))
    return frames[0].numpy()


def librosa_mel(x, *, n_fft, window, power, bands, low, high, htk, norm, win_length=400, center=False):
    return librosa.feature.melspectrogram(
        y=x.astype(np.float64), sr=FS, n_fft=n_fft, win_length=win_length, hop_length=160, window=window, center=center,
        power=power, n_mels=bands, fmin=low, fmax=high, htk=htk, norm=norm, pad_mode="reflect",
    ).T  # fmt: skip


@pytest.mark.parametrize("window", ["hamming", "hann"])
@pytest.mark.parametrize(("scale", "norm"), [("htk", None), ("slaney", "slaney"), ("htk", "slaney"), ("slaney", None)])
@pytest.mark.parametrize(
    ("power", "log"), [(2.0, "natural"), (2.0, "db"), (1.0, "natural"), (1.0, "db"), (1.5, "none")]
)
def test_against_librosa(window, scale, norm, power, log):
    x = sound()
    ours = run(x, n_fft=400, window=window, mel_scale=scale, norm=norm, power=power, log=log)
    mel = librosa_mel(
        x, n_fft=400, window=window, power=power, bands=26, low=0, high=6500, htk=scale == "htk", norm=norm
    )
    if log == "natural":
        expected, tolerance = np.log(np.maximum(mel, 1e-10)), 1e-4
    elif log == "db":
        convert = librosa.power_to_db if power == 2.0 else librosa.amplitude_to_db
        expected, tolerance = convert(mel, amin=1e-10, top_db=None), 1e-3
    else:
        expected, tolerance = mel, 1e-4 * mel.max()
    assert ours.shape == expected.shape == (149, 26)
    np.testing.assert_allclose(ours, expected, atol=tolerance)


def test_the_paper_s_setting_against_librosa():
    """The default: FFT of 512 on a window of 400; librosa centres the window, so it gets 56 zeros at both ends."""
    x = sound(120000)
    mel = librosa_mel(
        np.pad(x, 56), n_fft=512, window="hamming", power=2.0, bands=26, low=0, high=6500, htk=True, norm=None
    )
    ours = run(x)
    assert ours.shape == (748, 26)
    np.testing.assert_allclose(ours, np.log(np.maximum(mel, 1e-10)), atol=1e-4)


def test_reflected_ends_against_librosa_and_torchaudio():
    x = sound(16000)
    settings = {"bands": 40, "high_hz": None, "mel_scale": "slaney", "norm": "slaney", "window": "hann", "log": "none"}
    ours = run(x, n_fft=400, padding="reflect", **settings)
    mel = librosa_mel(
        x, n_fft=400, window="hann", power=2.0, bands=40, low=0, high=8000, htk=False, norm="slaney", center=True
    )
    theirs = torchaudio.transforms.MelSpectrogram(
        FS, n_fft=400, hop_length=160, n_mels=40, mel_scale="slaney", norm="slaney"
    )(torch.from_numpy(x)).T.numpy()
    assert ours.shape == mel.shape == theirs.shape == (101, 40)
    np.testing.assert_allclose(ours, mel, atol=1e-5 * mel.max())
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * mel.max())


def test_against_torchaudio():
    x = sound()
    transform = torchaudio.transforms.MelSpectrogram(
        FS, n_fft=400, hop_length=160, f_max=6500.0, n_mels=26, window_fn=torch.hamming_window, center=False
    )
    expected = transform(torch.from_numpy(x)).clamp(min=1e-10).log().T.numpy()
    np.testing.assert_allclose(run(x, n_fft=400), expected, atol=1e-4)


def test_pre_emphasis_against_librosa():
    x = sound()
    emphasised = librosa.effects.preemphasis(x, coef=0.97, zi=[0.0])
    np.testing.assert_allclose(run(x, pre_emphasis=0.97), run(emphasised), atol=1e-4)


@pytest.mark.parametrize(("scale", "norm"), [("htk", None), ("slaney", "slaney")])
def test_bank_against_librosa(scale, norm):
    expected = librosa.filters.mel(
        sr=FS, n_fft=512, n_mels=26, fmin=50.0, fmax=6500.0, htk=scale == "htk", norm=norm, dtype=np.float64
    )
    np.testing.assert_allclose(mel_bank(26, 512, 50.0, 6500.0, scale, norm).T, expected, atol=1e-9)
