"""kaldi_fbank against torchaudio's port of Kaldi, and against kaldi-native-fbank where that is installed."""

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi

from repkit.features.kaldi_fbank import KaldiFbank


def sound(n=16123, seed=0):
    random = np.random.default_rng(seed)
    t = np.arange(n) / 16000
    x = 0.2 * np.sin(2 * np.pi * 210 * t) * (1 + np.sin(15 * t)) + 0.02 * random.normal(size=n) + 0.05
    x[n // 3 : n // 3 + 1500] = 0.0
    return x.astype(np.float32)


def run(x, **settings):
    frontend = KaldiFbank(KaldiFbank.Config(**settings))
    frames, counts = frontend(torch.from_numpy(x)[None], torch.tensor([len(x)]))
    assert frames.shape[1] == counts[0] == frontend.n_frames(len(x))
    return frames[0].numpy()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"num_mel_bins": 40}),
        ({"bands": 23}, {"num_mel_bins": 23}),
        ({"window": "hann"}, {"num_mel_bins": 40, "window_type": "hanning"}),
        ({"window": "hamming"}, {"num_mel_bins": 40, "window_type": "hamming"}),
        ({"low_hz": 60.0, "high_hz": 7000.0}, {"num_mel_bins": 40, "low_freq": 60.0, "high_freq": 7000.0}),
        ({"pre_emphasis": 0.0}, {"num_mel_bins": 40, "preemphasis_coefficient": 0.0}),
        ({"remove_dc": False}, {"num_mel_bins": 40, "remove_dc_offset": False}),
        ({"snip_edges": False}, {"num_mel_bins": 40, "snip_edges": False}),
        ({"power": False}, {"num_mel_bins": 40, "use_power": False}),
        ({"window_s": 0.032, "shift_s": 0.016}, {"num_mel_bins": 40, "frame_length": 32.0, "frame_shift": 16.0}),
        ({"snip_edges": False, "window_s": 0.010, "shift_s": 0.025, "bands": 12},
         {"num_mel_bins": 12, "snip_edges": False, "frame_length": 10.0, "frame_shift": 25.0}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("full_scale", [True, False])
def test_against_torchaudio(ours, theirs, full_scale):
    x = sound()
    expected = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(x)[None] * (32768.0 if full_scale else 1.0), dither=0.0, sample_frequency=16000.0, **theirs
    ).numpy()
    found = run(x, int16_range=full_scale, **ours)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-3 if full_scale else 2e-3)


def test_without_logarithm_against_torchaudio():
    x = sound()
    expected = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(x)[None] * 32768.0, dither=0.0, num_mel_bins=40, use_log_fbank=False
    ).numpy()
    np.testing.assert_allclose(run(x, log=False), expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("snip_edges", [True, False])
def test_against_kaldi_native_fbank(snip_edges):
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = 40
    options.use_energy = False
    x = sound()
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(16000, (x * 32768.0).tolist())
    computer.input_finished()
    expected = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
    found = run(x, snip_edges=snip_edges)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-3)
