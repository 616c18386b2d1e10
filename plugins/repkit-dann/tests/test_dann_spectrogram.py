"""The spectrogram against SciPy, and its counts."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from repkit_dann.gao_spectrogram import GaoSpectrogram
from scipy.fft import rfft
from scipy.signal import get_window

RNG = np.random.default_rng(0)


def frames_of(signal, **settings):
    frontend = GaoSpectrogram(GaoSpectrogram.Config(**settings))
    frames, counts = frontend(torch.from_numpy(signal)[None].float(), torch.tensor([len(signal)]))
    assert counts.tolist() == [frontend.n_frames(len(signal))]
    return frames[0].numpy()


def test_a_segment_is_32_frames_of_129_bins():
    frontend = GaoSpectrogram()
    assert frontend.n_frames(round(0.265 * 16000)) == 32
    assert frontend.n_bands == 129
    assert frontend.frame_shift_s == 123 / 16000
    alternative = GaoSpectrogram(GaoSpectrogram.Config(window_samples=256, shift_samples=128, n_fft=256))
    assert (alternative.n_frames(4240), alternative.n_bands) == (32, 129)
    assert [frontend.n_frames(n) for n in (0, 399, 400, 522, 523)] == [0, 0, 1, 1, 2]


def test_frames_equal_scipy():
    signal = RNG.normal(size=4240).astype(np.float32) * 0.1
    window = get_window("hann", 400, fftbins=True)
    spectra = [rfft(signal[123 * t : 123 * t + 400].astype(np.float64) * window, 512)[:129] for t in range(32)]
    expected = np.log(np.maximum(np.abs(spectra) ** 2, 1e-10))
    np.testing.assert_allclose(frames_of(signal), expected, rtol=1e-3, atol=2e-3)


def test_a_tone_stands_at_its_bin():
    # 1 kHz is bin 32 of 512 at 16 kHz; amplitude a times half the sum of the window, squared: (a 200 / 2)^2 = 100^2 a^2
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(4240) / 16000)
    frames = frames_of(tone)
    assert (frames.argmax(axis=1) == 32).all()
    np.testing.assert_allclose(frames[:, 32], np.log((0.5 * 100) ** 2), atol=1e-3)


def test_silence_is_the_floor():
    np.testing.assert_allclose(frames_of(np.zeros(800)), np.log(1e-10), rtol=1e-6)
    np.testing.assert_allclose(frames_of(np.zeros(800), floor=1e-4), np.log(1e-4), rtol=1e-6)


def test_padding_changes_nothing_to_the_bit():
    frontend = GaoSpectrogram()
    sizes = [4240, 399, 9000, 401]
    waves = torch.full((4, 9000), 7.0)
    for row, size in enumerate(sizes):
        waves[row, :size] = torch.from_numpy(RNG.normal(size=size)).float()
    frames, counts = frontend(waves, torch.tensor(sizes))
    assert counts.tolist() == [32, 0, 70, 1]
    for row, size in enumerate(sizes):
        alone, _ = frontend(waves[row : row + 1, :size], torch.tensor([size]))
        assert torch.equal(frames[row, : counts[row]], alone[0])
        assert not frames[row, counts[row] :].any()


def test_wrong_shapes_and_settings():
    with pytest.raises(ValueError, match="not \\(B, S\\)"):
        GaoSpectrogram()(torch.zeros(4240), torch.tensor([4240]))
    with pytest.raises(ValueError, match="0 to 10 samples"):
        GaoSpectrogram()(torch.zeros(1, 10), torch.tensor([11]))
    for wrong in ({"n_fft": 256}, {"n_bins": 258}, {"floor": 0.0}):
        with pytest.raises(ValidationError):
            GaoSpectrogram.Config(**wrong)


def test_convention_names_every_setting():
    convention = GaoSpectrogram(GaoSpectrogram.Config(floor=1e-8)).convention()
    assert convention["floor"] == 1e-8
    assert set(GaoSpectrogram.Config.model_fields) <= set(convention)
