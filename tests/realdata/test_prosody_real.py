"""F0 and the functionals on a few utterances of Emo-DB."""

import librosa
import numpy as np
import pytest
import torch

from repkit.audio.open import open_corpus
from repkit.features.pitch import PitchTracker
from repkit.stage_one.functionals import FunctionalsEncoder

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def emodb(real_data):
    return open_corpus("emodb", str(real_data / "emodb"))


def test_f0_agrees_with_yin_where_it_is_sure(emodb):
    """docs/results/benchmarks-pitch.md has the comparison at large; the two methods share nothing but the sound."""
    wrong, cents = [], []
    for utterance in emodb.utterances()[::90]:
        x = emodb.read(utterance, 3.0)
        theirs = librosa.yin(x, fmin=60, fmax=500, sr=16000, frame_length=960, hop_length=160, center=False)
        hz, strength = PitchTracker()(torch.from_numpy(x), len(theirs) + 2)
        sure = strength[1:-1].numpy() > 0.8
        ratio = hz[1:-1].numpy()[sure] / theirs[sure]
        wrong.append(np.abs(ratio - 1) > 0.2)
        cents.append(np.abs(1200 * np.log2(ratio)))
    assert len(np.concatenate(wrong)) > 300
    assert np.concatenate(wrong).mean() < 0.04
    assert np.median(np.concatenate(cents)) < 20.0


def test_functionals_hear_what_everybody_hears(emodb):
    """Anger is higher, faster and less tilted than sadness; the level of Emo-DB's files says nothing, it was adjusted."""
    encoder = FunctionalsEncoder()
    by_emotion = {}
    for emotion in ("anger", "sadness"):
        chosen = [u for u in emodb.utterances() if u.emotion == emotion][::6]
        vectors = np.stack(encoder.encode([emodb.read(u) for u in chosen]))
        assert np.isfinite(vectors).all()
        by_emotion[emotion] = dict(zip(encoder.feature_names, vectors.mean(0)))
    anger, sadness = by_emotion["anger"], by_emotion["sadness"]
    for name in ("f0_p50", "tilt_voiced_mean", "alpha_mean", "peak_voiced_rate", "voiced_share"):
        assert anger[name] > sadness[name], name
    assert anger["f0_p50"] - sadness["f0_p50"] > 4.0  # semitones
