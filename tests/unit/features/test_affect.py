"""Bands against librosa's mel spectrogram, prosody columns against the prosody frontend, and both scalings."""

import librosa
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from repkit.audio.synthetic import SyntheticCorpus
from repkit.features.affect import Affect
from repkit.features.prosody import Prosody
from repkit.testing import check_component

RATE = 16000


@pytest.fixture(scope="module")
def speech():
    corpus = SyntheticCorpus(SyntheticCorpus.Config(n_speakers=1, n_sentences=1, emotions=("anger",)))
    return corpus.read(corpus.utterances()[0])


def run(x, **settings):
    frontend = Affect(Affect.Config(**settings))
    frames, counts = frontend(torch.from_numpy(np.asarray(x, np.float32))[None], torch.tensor([len(x)]))
    assert frames.shape == (1, counts[0], len(frontend.columns))
    return frames[0].numpy()


@pytest.mark.parametrize(
    "settings", [{}, {"scaling": "utterance", "deltas": True}, {"bands": 40, "window_s": 0.04, "shift_s": 0.01}]
)
@pytest.mark.filterwarnings("ignore::repkit.errors.RepkitWarning")
def test_conforms(settings):
    report = check_component("repkit.frontends", "affect", settings=settings)
    assert report.ok, str(report)


def test_bands_against_librosa(speech):
    power = librosa.feature.melspectrogram(
        y=speech.astype(np.float64), sr=RATE, n_fft=1280, hop_length=640, window="hann", center=False, n_mels=128, fmin=0.0,
        htk=True, norm=None,
    )  # fmt: skip
    # 2 / (N sum of squared weights) makes the bins sum to the mean square; librosa's Hann window sums to 3/8 N
    decibels = 10 * np.log10(power.T * 2 / (1280 * 480) + 1e-10)
    found = run(speech)[:, :128]
    np.testing.assert_allclose(found, (decibels + 60) / 30, atol=1e-3)
    other = run(speech, centre_db=-40.0, range_db=20.0)[:, :128]
    np.testing.assert_allclose(other, (decibels + 40) / 20, atol=1e-3)


def test_bands_sum_to_the_energy():
    """Triangles that overlap by half sum to 1 between the first and the last centre: bands and energy share one scale."""
    x = 0.1 * np.random.default_rng(0).normal(size=RATE)
    found = run(x, centre_db=0.0, range_db=1.0)
    total = 10 * np.log10((10 ** (found[:, :128].astype(np.float64) / 10)).sum(1))
    assert np.abs(total - found[:, 130]).max() < 0.8  # the energy is not windowed


@pytest.mark.parametrize(("window_s", "shift_s"), [(0.08, 0.04), (0.04, 0.01)])
def test_prosody_columns(speech, window_s, shift_s):
    grid = {"window_s": window_s, "shift_s": shift_s}
    frontend = Prosody(Prosody.Config(**grid))
    wanted = frontend(torch.from_numpy(speech)[None], torch.tensor([len(speech)]))[0][0].numpy()
    found = run(speech, bands=26, **grid)[:, 26:]
    np.testing.assert_allclose(found[:, 0] * 0.4 + 5.14, wanted[:, 0], atol=1e-4)
    np.testing.assert_allclose(found[:, 1], 2 * wanted[:, 1] - 1, atol=1e-5)
    np.testing.assert_allclose(found[:, 2] * 30 - 60, wanted[:, 2], atol=1e-3)
    np.testing.assert_allclose(found[:, 3] * 4 - 6, wanted[:, 3], atol=1e-3)
    np.testing.assert_array_equal(found[:, 4], wanted[:, 4])


def test_absolute_hears_level_and_utterance_does_not(speech):
    louder, softer = run(speech), run(speech * 0.5)
    above = softer[:, :128] * 30 - 60 > -80  # far from the floor
    assert above.mean() > 0.4
    np.testing.assert_allclose((louder - softer)[:, :128][above], 20 * np.log10(2) / 30, atol=5e-3)
    np.testing.assert_allclose((louder - softer)[:, 130], 20 * np.log10(2) / 30, atol=5e-3)
    settings = {"scaling": "utterance", "deltas": True}
    np.testing.assert_allclose(run(speech, **settings), run(speech * 0.01, **settings), atol=0.01)


def test_utterance_scaling_goes_from_minus_one_to_one(speech):
    found = run(speech, scaling="utterance")
    for part in (found[:, :128], found[:, 130]):
        assert part.min() == pytest.approx(-1.0, abs=1e-5)
        assert part.max() == pytest.approx(1.0, abs=1e-5)
    level = speech * (0.1 / np.sqrt(np.square(speech).mean()))
    absolute = run(level, centre_db=0.0, range_db=1.0)[:, :128].astype(np.float64)
    clipped = np.maximum(absolute, absolute.max() - 60)
    wanted = 2 * (clipped - clipped.min()) / (clipped.max() - clipped.min()) - 1
    np.testing.assert_allclose(found[:, :128], wanted, atol=1e-4)


def test_silence():
    for scaling, bands in (("absolute", (-100 + 60) / 30), ("utterance", 0.0)):
        found = run(np.zeros(RATE), scaling=scaling)
        np.testing.assert_allclose(found[:, :128], bands, atol=1e-4)
        assert not found[:, 128].any()  # no F0


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="two periods"):
        Affect.Config(window_s=0.02)


@pytest.mark.parametrize("kind", [Affect, Prosody])
def test_the_convention_is_what_caches_and_stores_were_written_under(kind):
    """Another word here, and every cached frame is made again and every run embeds as if by another frontend."""
    pitch = {"low_hz": 60.0, "high_hz": 500.0, "voiced_at": 0.65, "silence_db": 30.0, "deltas": False}
    own = {
        Affect: {
            "frontend": "affect", "window_samples": 1280, "shift_samples": 640, "window_s": 0.08, "shift_s": 0.04,
            "bands": 128, "scaling": "absolute", "centre_db": -60.0, "range_db": 30.0,
        },
        Prosody: {
            "frontend": "prosody", "window_samples": 640, "shift_samples": 160, "window_s": 0.04, "shift_s": 0.01,
            "columns": ["log_f0", "voicing", "energy", "tilt", "voiced"],
        },
    }  # fmt: skip
    assert kind().convention() == {"version": "1", "sample_rate": 16000, **pitch, **own[kind]}
