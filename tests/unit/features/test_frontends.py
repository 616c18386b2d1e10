import json
import pickle

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from repkit.api import Config, Frontend
from repkit.errors import RepkitWarning
from repkit.features.kaldi_fbank import KaldiFbank
from repkit.features.log_mel import LogMel
from repkit.features.spectrogram import Spectrogram, audeep_mel_bank

FRONTENDS = [
    LogMel(),
    LogMel(LogMel.Config(padding="reflect", pre_emphasis=0.97, n_fft=1024, bands=40)),
    Spectrogram(),
    Spectrogram(Spectrogram.Config(fixed_length_s=None)),
    Spectrogram(Spectrogram.Config(fixed_length_s=1.0, fixed_position="centre", clip_below_db=None)),
    KaldiFbank(),
    KaldiFbank(KaldiFbank.Config(snip_edges=False, bands=23)),
]
each = pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f.convention()["frontend"])


def batch(lengths, longest=None):
    random = np.random.default_rng(len(lengths))
    waveforms = 0.1 * random.normal(size=(len(lengths), longest or max(lengths))).astype(np.float32)
    return torch.from_numpy(waveforms), torch.tensor(lengths)


@each
def test_keeps_the_contract(frontend):
    assert isinstance(frontend, Frontend)
    assert issubclass(type(frontend).Config, Config)
    assert frontend.sample_rate == 16000
    convention = frontend.convention()
    assert json.loads(json.dumps(convention)) == convention
    assert convention["version"]
    assert set(frontend.config.model_dump()) <= set(convention)
    copy = pickle.loads(pickle.dumps(frontend))
    x, lengths = batch([20000])
    assert torch.equal(copy(x, lengths)[0], frontend(x, lengths)[0])


@each
def test_padding_changes_nothing(frontend):
    lengths = [16000, 31234, 1279, 1280, 400, 399, 23456, 0]
    waveforms, sizes = batch(lengths)
    frames, counts = frontend(waveforms, sizes)
    assert frames.dtype == torch.float32
    assert frames.shape == (8, int(counts.max()), frontend.n_bands)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [frontend.n_frames(n) for n in lengths]
    assert torch.isfinite(frames).all()
    for i, n in enumerate(lengths):
        alone, count = frontend(waveforms[i : i + 1, :n], sizes[i : i + 1])
        assert count[0] == counts[i]
        assert torch.equal(alone[0], frames[i, : counts[i]])
        assert (frames[i, counts[i] :] == 0).all()


@pytest.mark.parametrize("frontend", [FRONTENDS[0], FRONTENDS[5]], ids=["log_mel", "kaldi_fbank"])
def test_a_frame_is_made_of_its_own_samples(frontend):
    """What comes later in the same utterance does not change a frame."""
    waveforms, _ = batch([16000])
    short, counts = frontend(waveforms[:, :8000], torch.tensor([8000]))
    long, _ = frontend(waveforms, torch.tensor([16000]))
    torch.testing.assert_close(long[0, : counts[0]], short[0], atol=1e-6, rtol=1e-6)


@each
def test_wrong_shapes(frontend):
    with pytest.raises(ValueError, match="expected"):
        frontend(torch.zeros(2, 2000), torch.tensor([2000, 2001]))
    with pytest.raises(ValueError, match="not"):
        frontend(torch.zeros(2000), torch.tensor([2000]))
    with pytest.raises(ValueError, match="not"):
        frontend(torch.zeros(2, 2000), torch.tensor([2000]))


@each
def test_silence_is_finite(frontend):
    frames, counts = frontend(torch.zeros(1, 16000), torch.tensor([16000]))
    assert counts[0] > 0
    assert torch.isfinite(frames).all()


def test_frame_counts_of_the_paper():
    assert LogMel().n_frames(120000) == 748
    assert [LogMel().n_frames(n) for n in (399, 400, 559, 560)] == [0, 1, 1, 2]
    assert Spectrogram().n_frames(10**6) == Spectrogram().n_frames(1) == 186
    assert Spectrogram(Spectrogram.Config(fixed_length_s=5.0)).n_frames(80000) == 124
    free = Spectrogram(Spectrogram.Config(fixed_length_s=None))
    assert [free.n_frames(n) for n in (1279, 1280, 1919, 1920, 120000)] == [0, 1, 1, 2, 186]
    assert KaldiFbank().n_frames(16000) == 98
    assert KaldiFbank(KaldiFbank.Config(snip_edges=False)).n_frames(16000) == 100
    assert (LogMel().frame_shift_s, Spectrogram().frame_shift_s, KaldiFbank().frame_shift_s) == (0.01, 0.04, 0.01)


def test_log_mel_by_hand():
    """Window of 4 samples, one band: its corners are 0, 1767.79 and 8000 Hz, so of the bins only 4 kHz counts."""
    settings = {"window_s": 4 / 16000, "shift_s": 2 / 16000, "window": "hann", "bands": 1, "high_hz": None}
    x = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 9.0]])
    # Hann 0, 1/2, 1, 1/2: the frames become (0, 1/2, 0, 0) and (0, 0, 0, 2), of power 1/4 and 4 in every bin
    weight = (8000.0 - 4000.0) / (8000.0 - 1767.7925)
    frames, counts = LogMel(LogMel.Config(log="none", **settings))(x, torch.tensor([6]))
    assert counts.tolist() == [2]
    np.testing.assert_allclose(frames[0, :, 0], [0.25 * weight, 4.0 * weight], rtol=1e-5)
    frames, _ = LogMel(LogMel.Config(**settings))(x, torch.tensor([6]))
    np.testing.assert_allclose(frames[0, :, 0], [np.log(0.25 * weight), np.log(4.0 * weight)], rtol=1e-5)
    frames, _ = LogMel(LogMel.Config(log="db", power=1.0, floor=0.5, **settings))(x, torch.tensor([6]))
    np.testing.assert_allclose(frames[0, :, 0], [20 * np.log10(0.5), 20 * np.log10(2.0 * weight)], rtol=1e-5)


def test_log_mel_floor_of_silence():
    frames, _ = LogMel()(torch.zeros(1, 400), torch.tensor([400]))
    np.testing.assert_allclose(frames, np.log(1e-10), rtol=1e-6)


def test_spectrogram_by_hand():
    """The same frames, in dB below the larger one: 10 log10(1/16) = -12.04."""
    settings = {"window_s": 4 / 16000, "overlap_s": 2 / 16000, "bands": None, "pre_emphasis": 0.0, "detrend": False,
                "fixed_length_s": None}  # fmt: skip
    x, n = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 9.0]]), torch.tensor([6])

    def run(**changes):
        return Spectrogram(Spectrogram.Config(**{**settings, **changes}))(x, n)[0][0].numpy()

    np.testing.assert_allclose(run(normalise=False), [[-12.0412] * 3, [0.0] * 3], atol=1e-4)
    np.testing.assert_allclose(run(), [[-1.0] * 3, [1.0] * 3], atol=1e-6)
    np.testing.assert_allclose(run(normalise=False, clip_below_db=-5.0), [[-5.0] * 3, [0.0] * 3], atol=1e-4)
    np.testing.assert_allclose(run(normalise=False, clip_above_db=-4.0), [[-12.0412] * 3, [-4.0] * 3], atol=1e-4)
    # a range of 0 dB: only the minimum is taken off
    np.testing.assert_array_equal(run(clip_above_db=-13.0), np.zeros((2, 3)))
    # with detrend the frames are (-1/4, 3/4, -1/4, -1/4) and (-1, -1, -1, 3), windowed (0, 3/8, -1/4, -1/8) and
    # (0, -1/2, -1, 3/2): at 0 Hz 0 in both, at 4 kHz |1/4 - i/2|^2 = 5/16 and |1 + 2i|^2 = 5, at 8 kHz 1/4 and 4
    np.testing.assert_allclose(
        run(detrend=True, normalise=False, clip_below_db=None),
        10 * np.log10(np.array([[0.25, 5 / 16, 0.25], [0.25, 5, 4]]) / 5),
        atol=1e-4,
    )
    # pre-emphasis 0.5: 0, 1, -1/2, 0, 0, 4, of which the frames are (0, 1/2, -1/2, 0), (0, 0, 0, 2);
    # the first has no power at 0 Hz, which is replaced by the smallest there is, 1/2 at 4 kHz
    np.testing.assert_allclose(
        run(pre_emphasis=0.5, normalise=False),
        [[10 * np.log10(0.5 / 4), 10 * np.log10(0.5 / 4), 10 * np.log10(1 / 4)], [0.0] * 3],
        atol=1e-4,
    )


def test_spectrogram_of_silence_and_of_padding():
    frames, counts = Spectrogram()(torch.zeros(1, 16000), torch.tensor([16000]))
    assert counts[0] == 186
    assert (frames == -1.0).all()
    waveforms, lengths = batch([16000])
    frames, _ = Spectrogram()(waveforms, lengths)
    assert (frames[0, 26:] == -1.0).all()  # the padded tail is the utterance's minimum
    assert frames[0, :24].mean() > 0
    assert frames.min() == -1.0
    assert frames.max() == 1.0
    quiet, _ = Spectrogram(Spectrogram.Config(normalise=False))(torch.zeros(1, 16000), torch.tensor([16000]))
    assert (quiet == -60.0).all()


def test_spectrogram_knows_no_loudness():
    waveforms, lengths = batch([16000])
    loud, _ = Spectrogram()(waveforms, lengths)
    soft, _ = Spectrogram()(waveforms * 1e-3, lengths)
    torch.testing.assert_close(loud, soft, atol=1e-4, rtol=0)


def test_a_tone_lands_in_its_band():
    t = torch.arange(16000) / 16000
    tone = torch.sin(2 * torch.pi * 1000 * t)[None]
    mel = 2595 * np.log10(1 + 1000 / 700)
    band = mel / (2595 * np.log10(1 + 8000 / 700)) * 129 - 1
    frames, _ = Spectrogram(Spectrogram.Config(fixed_length_s=None))(tone, torch.tensor([16000]))
    assert (frames[0].argmax(1) - band).abs().max() < 1.0
    band = mel / (2595 * np.log10(1 + 6500 / 700)) * 27 - 1
    frames, _ = LogMel()(tone, torch.tensor([16000]))
    assert (frames[0].argmax(1) - band).abs().max() < 1.0


def test_empty_bands_of_the_sheet():
    assert (audeep_mel_bank(128, 1280).sum(0) == 0).sum() == 0
    assert (audeep_mel_bank(128, 640).sum(0) == 0).sum() == 7
    assert audeep_mel_bank(128, 1280).max() == 1.0
    with pytest.warns(RepkitWarning, match="7 of 128 mel bands are empty"):
        Spectrogram(Spectrogram.Config(window_s=0.040, overlap_s=0.020))
    with pytest.warns(RepkitWarning, match="mel bands are empty with n_fft 512"):
        LogMel(LogMel.Config(bands=128))


def test_overlap_moves_by_a_sample_when_rounding_differs():
    # 29.7 ms are 475.2 samples and 10.1 ms 161.6: 0.9 s hold int(0.8899 / 0.0196) = 45 frames of the seconds, but
    # (14400 - 161) // (475 - 161) = 45 of the samples
    same = Spectrogram(Spectrogram.Config(window_s=0.0297, overlap_s=0.0101, fixed_length_s=0.9, bands=20))
    assert (same.convention()["window_samples"], same.convention()["shift_samples"]) == (475, 314)
    assert same.n_frames(1) == 45
    # 12.06 ms are 192.96 -> 192 and 4.06 ms 64.96 -> 64: 128 samples as it should be; int((30 - 0.00406) / 0.008) =
    # 3749 but (480000 - 64) // 128 = 3749; 12.06 and 4.0: 192 - 64 = 128 for 128.96: 3749 frames, 3721 expected
    fewer = Spectrogram(Spectrogram.Config(window_s=0.01206, overlap_s=0.004, fixed_length_s=30.0, bands=20))
    assert (fewer.convention()["window_samples"], fewer.convention()["shift_samples"]) == (192, 129)
    # 12 and 4.06: 192 - 64 = 128 for 127.04: 3749 frames, int(29.99594 / 0.00794) = 3777 expected
    more = Spectrogram(Spectrogram.Config(window_s=0.012, overlap_s=0.00406, fixed_length_s=30.0, bands=20))
    assert (more.convention()["window_samples"], more.convention()["shift_samples"]) == (192, 127)


@pytest.mark.parametrize(
    ("component", "settings"),
    [
        (LogMel, {"bands": 0}),
        (LogMel, {"high_hz": 8001.0}),
        (LogMel, {"low_hz": 6500.0}),
        (LogMel, {"n_fft": 399}),
        (LogMel, {"window": "kaiser"}),
        (LogMel, {"shift_s": 1e-6}),
        (LogMel, {"n_mels": 26}),
        (Spectrogram, {"overlap_s": 0.08}),
        (Spectrogram, {"fixed_length_s": 0.05}),
        (Spectrogram, {"clip_below_db": 10.0}),
        (Spectrogram, {"clip_below_db": -30.0, "clip_above_db": -40.0}),
        (KaldiFbank, {"low_hz": 9000.0}),
        (KaldiFbank, {"bands": 3}),
    ],
)
def test_settings_that_make_no_sense(component, settings):
    with pytest.raises(ValidationError):
        component.Config(**settings)


def test_conventions_tell_settings_apart():
    def text(frontend):
        return json.dumps(frontend.convention(), sort_keys=True)

    assert len({text(frontend) for frontend in FRONTENDS}) == len(FRONTENDS)
    assert text(LogMel()) == text(LogMel(LogMel.Config(bands=26)))
