"""The functionals of sounds whose numbers are known."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from repkit.audio.synthetic import SyntheticCorpus
from repkit.features.prosody import Prosody
from repkit.stage_one.contour_statistics import RHYTHM
from repkit.stage_one.functionals import FunctionalsEncoder, feature_names
from repkit.testing import check_component

RATE = 16000


def encode(x, **settings):
    encoder = FunctionalsEncoder(FunctionalsEncoder.Config(**settings))
    (vector,) = encoder.encode([np.asarray(x, np.float32)])
    assert vector.shape == (encoder.dim,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    return dict(zip(encoder.feature_names, vector.astype(np.float64), strict=True))


def voice(hz, seconds, amplitude=0.2):
    t = np.arange(round(seconds * RATE)) / RATE
    return sum(amplitude / k * np.sin(2 * np.pi * k * hz * t) for k in range(1, 9))


@pytest.fixture(scope="module")
def speech():
    corpus = SyntheticCorpus(SyntheticCorpus.Config(n_speakers=1, n_sentences=1, emotions=("happiness",)))
    return corpus.read(corpus.utterances()[0])


@pytest.mark.parametrize("settings", [{}, {"parts": "prosody", "level": "removed"}, {"parts": "mel", "trim_db": 0.0}])
def test_conforms(settings):
    report = check_component("repkit.encoders", "functionals", settings=settings)
    assert report.ok, str(report)


def test_names():
    names = FunctionalsEncoder().feature_names
    assert len(names) == len(set(names)) == FunctionalsEncoder().dim == 40 * 15 + 4 * (14 + 12) + len(RHYTHM) == 744
    assert names[:2] == ("mel_00_mean", "mel_00_sd")
    assert names[14] == "mel_00_delta_sd"
    assert names[600] == "f0_mean"
    assert names[-len(RHYTHM) :] == tuple(RHYTHM)
    assert feature_names(3, "mel")[-1] == "mel_02_delta_sd"
    assert "f0_delta_slope" not in names


def test_a_steady_voice():
    numbers = encode(voice(220.0, 2.0))
    assert numbers["f0_p50"] == pytest.approx(36.0, abs=0.02)  # 220 Hz are three octaves above 27.5
    assert numbers["f0_iqr"] < 0.02
    assert numbers["voiced_share"] == 1.0
    # harmonics of 1/k: mean square .02 * (1 + 1/4 + ... + 1/64) = .02 * 1.5274
    assert numbers["energy_mean"] == pytest.approx(10 * np.log10(0.02 * 1.52742), abs=0.05)
    assert numbers["level"] == pytest.approx(numbers["energy_mean"], abs=0.05)
    assert numbers["voicing_p50"] > 0.99
    assert numbers["hnr_mean"] > 20.0
    assert numbers["pause_rate"] == 0.0


def test_a_rising_voice():
    t = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(110.0 * 2 ** (t / 2)) / RATE  # six semitones per second
    numbers = encode(0.2 * (np.sin(phase) + 0.6 * np.sin(2 * phase) + 0.4 * np.sin(3 * phase)))
    assert numbers["f0_slope"] == pytest.approx(6.0, abs=0.05)
    assert numbers["f0_delta_p50"] == pytest.approx(6.0, abs=0.1)
    assert numbers["f0_p50"] == pytest.approx(24.0 + 6.0, abs=0.1)  # 110 Hz are 24 above 27.5; a second later 6 more
    assert numbers["f0_range"] == pytest.approx(12.0 * 0.9 * 1.96 / 2, abs=0.15)
    assert numbers["f0_rise_share"] > 0.95


def test_syllables():
    t = np.arange(3 * RATE) / RATE
    numbers = encode(voice(150.0, 3.0) * (0.05 + 0.95 * np.sin(np.pi * 4 * t) ** 2))
    assert numbers["peak_rate"] == pytest.approx(4.0, abs=0.35)
    assert numbers["peak_interval_mean"] == pytest.approx(0.25, abs=0.005)


def test_f0_counts_voiced_frames_only():
    noise = 0.05 * np.random.default_rng(0).normal(size=RATE)
    numbers = encode(np.concatenate([voice(110.0, 1.0), noise, voice(220.0, 1.0)]))
    assert numbers["f0_p05"] == pytest.approx(24.0, abs=0.1)
    assert numbers["f0_p95"] == pytest.approx(36.0, abs=0.1)
    assert numbers["voiced_share"] == pytest.approx(2 / 3, abs=0.03)
    assert numbers["voiced_rate"] == pytest.approx(2 / 3, abs=0.4)
    assert numbers["energy_voiced"] == pytest.approx(10 * np.log10(0.02 * 1.5274 / 0.0025), abs=0.5)


def test_bands_and_contours_are_those_of_the_frontends(speech):
    """Mean and deviation of the energy and tilt columns, and of a band, from frames made elsewhere."""
    frontend = Prosody()
    frames = frontend(torch.from_numpy(speech)[None], torch.tensor([len(speech)]))[0][0].numpy().astype(np.float64)
    numbers = encode(speech, trim_db=0.0)
    for column, name in ((1, "voicing"), (2, "energy"), (3, "tilt")):
        assert numbers[f"{name}_mean"] == pytest.approx(frames[:, column].mean(), rel=1e-4)
        assert numbers[f"{name}_sd"] == pytest.approx(frames[:, column].std(), rel=1e-4)
        assert numbers[f"{name}_p95"] == pytest.approx(np.percentile(frames[:, column], 95), rel=1e-4)
    voiced = frames[:, 4] > 0
    semitones = 12 * np.log2(np.exp(frames[voiced, 0]) / 27.5)
    assert numbers["f0_mean"] == pytest.approx(semitones.mean(), rel=1e-4)
    assert numbers["f0_sd"] == pytest.approx(semitones.std(), rel=1e-3)


def test_silence_around_is_cut_off(speech):
    loud = np.concatenate([voice(180.0, 0.4), speech * 0.5, voice(120.0, 0.4)]).astype(np.float32)
    loud = loud[: 640 + 160 * ((len(loud) - 640) // 160)]
    padded = np.concatenate([np.zeros(160 * 60), loud, np.zeros(160 * 45)])
    plain, cut = encode(loud), encode(padded)
    # frames at the ends that reach into the silence by less than 40 dB stay: up to three of 40 ms on either side
    assert cut["level"] == pytest.approx(plain["level"], abs=0.2)
    assert cut["f0_p50"] == pytest.approx(plain["f0_p50"], abs=0.2)
    assert cut["mel_10_p05"] > -95.0
    kept = encode(padded, trim_db=0.0)
    assert kept["mel_10_p05"] == pytest.approx(-100.0, abs=0.01)
    assert kept["pause_length_max"] == pytest.approx(0.6, abs=0.05)
    assert cut["pause_length_max"] < 0.5


def test_level_removed(speech):
    louder, softer = encode(speech, level="removed"), encode(speech * 0.1, level="removed")
    for name, value in louder.items():
        assert softer[name] == pytest.approx(value, rel=2e-3, abs=2e-2), name
    assert louder["level"] == pytest.approx(-20.0, abs=0.5)
    kept = encode(speech)["energy_mean"] - encode(speech * 0.1)["energy_mean"]
    assert kept == pytest.approx(20.0, abs=0.1)


def test_parts_are_the_blocks(speech):
    whole, mel, prosody = (encode(speech, parts=parts) for parts in ("all", "mel", "prosody"))
    assert whole == {**mel, **prosody}
    assert len(mel) == 600


@pytest.mark.parametrize("n", [1, 100, 639, 640, 641, 800, 801, 2000])
def test_very_short_sounds(n):
    random = np.random.default_rng(n)
    for x in (0.1 * random.normal(size=n), np.zeros(n), np.ones(n)):
        for settings in ({}, {"level": "removed", "trim_db": 0.0}):
            encode(x, **settings)


def test_nothing_voiced():
    for x in (np.zeros(RATE), 0.01 * np.random.default_rng(0).normal(size=200)):
        numbers = encode(x)
        assert numbers["voiced_share"] == 0.0
        assert numbers["f0_mean"] == pytest.approx(6 * np.log2(60 / 27.5) + 6 * np.log2(500 / 27.5), abs=1e-3)
        assert numbers["f0_sd"] == numbers["f0_rise"] == numbers["hnr_mean"] == 0.0


def test_provenance_says_that_nobody_was_heard():
    found = FunctionalsEncoder(FunctionalsEncoder.Config(level="removed")).provenance()
    assert json.loads(json.dumps(found)) == found
    assert (found["corpora"], found["speakers"]) == ([], [])
    assert found["settings"]["level"] == "removed"
    assert "checksum" not in found


def test_the_name_says_what_is_not_the_default():
    names = {
        "functionals": {},
        "functionals-mel": {"parts": "mel"},
        "functionals-level-free": {"level": "removed"},
        "functionals-prosody-untrimmed": {"parts": "prosody", "trim_db": 0.0},
        "functionals-level-free-trim_db_30": {"level": "removed", "trim_db": 30.0},
        "functionals-high_hz_450-bands_64-window_s_0.06": {"bands": 64, "window_s": 0.06, "high_hz": 450.0},
    }
    for name, settings in names.items():
        assert FunctionalsEncoder(FunctionalsEncoder.Config(**settings)).name == name


@pytest.mark.parametrize("settings", [{"window_s": 0.02}, {"parts": "rhythm"}, {"level": "frame"}, {"bands": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValidationError):
        FunctionalsEncoder.Config(**settings)
