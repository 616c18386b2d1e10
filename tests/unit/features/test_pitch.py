"""F0 against tones of known frequency, the definition written out with loops, and librosa's YIN."""

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from repkit.audio.synthetic import SyntheticCorpus
from repkit.features.pitch import FLOOR, OCTAVE_BONUS, PitchTracker, bridge

RATE = 16000


def harmonics(hz, n, seconds=0.5, amplitude=0.3):
    t = np.arange(round(seconds * RATE)) / RATE
    return amplitude * sum(np.sin(2 * np.pi * k * hz * t + k) for k in range(1, n + 1) if k * hz < 3400)


def track(x, n_frames=None, **settings):
    n = 1 + (len(x) - 640) // 160 if n_frames is None else n_frames
    hz, strength = PitchTracker(**settings)(torch.from_numpy(np.asarray(x, np.float32)), n)
    assert hz.shape == strength.shape == (n,)
    assert hz.dtype == strength.dtype == torch.float32
    return hz.numpy(), strength.numpy()


def cents(hz, truth):
    return np.abs(1200 * np.log2(hz / truth))


@pytest.mark.parametrize("n", [1, 3, 12])
@pytest.mark.parametrize("hz", [62.0, 83.7, 120.3, 171.1, 247.9, 333.3, 411.7, 490.0])
def test_tones(hz, n):
    found, strength = track(harmonics(hz, n))
    inside = slice(3, -3)  # at its ends the sound steps from silence
    assert cents(found[inside], hz).max() < 3.0
    assert strength[inside].min() > 0.95


def test_a_period_outside_the_range_is_not_found():
    found, _ = track(harmonics(700.0, 1))
    assert found[3:-3].max() < 360.0  # half of it, or less, repeats as well
    found, _ = track(harmonics(700.0, 1), high_hz=800.0)
    assert cents(found[3:-3], 700.0).max() < 3.0


def test_a_frame_by_its_definition():
    """One frame has no neighbours: the delay of the best normalised product, found with loops in double precision."""
    random = np.random.default_rng(3)
    for number in range(6):
        x = harmonics(90.0 + 60.0 * number, 5, 0.08) + 0.15 * random.normal(size=1280)
        low = scipy.signal.firwin(65, 1500.0, fs=RATE)
        y = np.convolve(x, low, "same")[::2][:320]
        y -= y.mean()
        delays = range(8000 // 500 - 1, 8000 // 60 + 3)
        fit = {}
        for d in delays:
            one, other = y[: 320 - d], y[d:]
            fit[d] = one @ other / np.sqrt((one @ one + 320 * FLOOR) * (other @ other + 320 * FLOOR))
        best = (-1.0, 0.0, 0.0)
        for d in delays[1:-1]:
            if fit[d] > max(fit[d - 1], fit[d + 1], 0.0):
                a, b, _ = np.polyfit([-1.0, 0.0, 1.0], [fit[d - 1], fit[d], fit[d + 1]], 2)
                height = fit[d] - b * b / (4 * a)
                best = max(best, (height - OCTAVE_BONUS * np.log2(d * 60.0 / 8000), height, 8000 / (d - b / (2 * a))))
        hz, strength = track(x, 1)
        assert cents(hz[0], best[2]) < 0.5
        assert strength[0] == pytest.approx(best[1], abs=1e-3)


def test_a_glide_is_followed():
    t = np.arange(2 * RATE) / RATE
    truth = 100.0 * 2 ** (t / 2)  # an octave in two seconds
    phase = 2 * np.pi * np.cumsum(truth) / RATE
    found, _ = track(0.2 * (np.sin(phase) + np.sin(2 * phase) + np.sin(3 * phase)))
    middles = np.arange(len(found)) * 160 + 320
    assert cents(found, truth[middles])[3:-3].max() < 8.0


def test_neighbours_mend_an_octave():
    """Where every second pulse is weaker the period doubles; a stretch of it inside a steady voice is no jump."""
    pulses = np.zeros(RATE)
    pulses[::80] = 1.0  # 200 Hz
    inside = (np.arange(0, RATE, 80) >= 7600) & (np.arange(0, RATE, 80) < 8400)
    weak = np.arange(0, RATE, 80)[inside][::2]
    pulses[weak] = 0.65
    x = scipy.signal.lfilter([1.0], [1.0, -1.6 * np.cos(0.3), 0.8], pulses) * 0.1
    alone = [track(x[160 * n : 160 * n + 640 + 64], 1)[0][0] for n in (46, 47, 48, 49)]
    together = track(x)[0][46:50]
    assert cents(np.array(alone), 100.0).min() < 20.0  # at least one frame by itself hears the octave below
    assert cents(together, 200.0).max() < 20.0


def test_noise_is_not_voiced_and_silence_is_nothing():
    noise = 0.1 * np.random.default_rng(0).normal(size=2 * RATE)
    _, strength = track(noise)
    assert np.mean(strength < 0.65) > 0.97
    hz, strength = track(np.zeros(RATE))
    assert not hz.any()
    assert not strength.any()
    _, strength = track(2e-5 * harmonics(200.0, 3, amplitude=1.0))  # -92 dB: no louder than rounding to 16 bits
    assert strength.max() < 0.1


def test_blocks_of_frames_meet():
    """Frames are worked on 256 at a time; where they are cut shows nowhere."""
    x = harmonics(130.0, 8, 6.0) + 0.05 * np.random.default_rng(1).normal(size=6 * RATE)
    whole, strong = track(x)
    part, weak = track(x[160 * 200 : 160 * 330])
    np.testing.assert_allclose(whole[220:310], part[20:110], rtol=1e-5)
    np.testing.assert_allclose(strong[220:310], weak[20:110], rtol=1e-4)


def test_against_librosa_on_synthetic_speech():
    """YIN (de Cheveigné & Kawahara 2002) is another method: gross errors are counted on frames that we call voiced."""
    corpus = SyntheticCorpus(SyntheticCorpus.Config(n_speakers=2, n_sentences=1, emotions=("anger", "sadness")))
    for utterance in corpus.utterances():
        x = corpus.read(utterance)
        theirs = librosa.yin(x, fmin=60, fmax=500, sr=RATE, frame_length=960, hop_length=160, center=False)
        hz, strength = track(x)
        voiced = strength[1 : len(theirs) + 1] > 0.8  # theirs are 60 ms long: their middle is one frame later
        ratio = hz[1 : len(theirs) + 1][voiced] / theirs[voiced]
        assert voiced.mean() > 0.2
        assert np.mean(np.abs(ratio - 1) > 0.2) < 0.05  # YIN errs too
        assert np.median(cents(ratio, 1.0)) < 25.0


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ([1, 9, 9, 4, 9, 2], [1, 0, 0, 1, 0, 1]),
        ([9, 9, 3, 9, 9], [0, 0, 1, 0, 0]),
        ([5, 1, 2, 9], [0, 1, 1, 0]),
        ([1, 2, 3], [1, 1, 1]),
        ([7], [1]),
    ],
)
def test_bridges_are_straight(values, known):
    values, known = torch.tensor(values, dtype=torch.float32), torch.tensor(known, dtype=torch.bool)
    places = np.arange(len(values))
    wanted = np.interp(places, places[known.numpy()], values.numpy()[known.numpy()])
    np.testing.assert_allclose(bridge(values, known).numpy(), wanted, rtol=1e-6)


def test_nothing_known_is_bridged_by_zeros():
    assert not bridge(torch.ones(4), torch.zeros(4, dtype=torch.bool)).any()


@pytest.mark.parametrize(
    "settings", [{"window": 500}, {"shift": 161}, {"shift": 0}, {"low_hz": 500.0}, {"high_hz": 1200.0}]
)
def test_what_does_not_fit_is_refused(settings):
    with pytest.raises(ValueError, match="two periods"):
        PitchTracker(**settings)
