"""Rooms, pitch and tempo made of frames, against frames of waveforms that were treated so.

Distances are means of absolute differences: of bands and energy in dB, of tilt in dB per octave, of F0 in semitones.
"""

from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
import torch

from repkit.audio.open import open_corpus
from repkit.features.affect import Affect
from repkit.features.spectral import hz_from_mel, mel_from_hz
from repkit.stage_one.augment import augmentation_for

pytestmark = pytest.mark.realdata

# what was measured when this was written (Emo-DB, LibriSpeech; unchanged frames, then ours): speed of +2 semitones, bands
# 12.1 / 2.1 and 12.4 / 1.8 dB, F0 2.47 / 0.13 and 2.51 / 0.07 semitones; a room of 0.5 s, bands 7.2 / 1.3 and 5.9 / 1.2 dB
FRONTEND = Affect()
PLACE = {name: place for place, name in enumerate(FRONTEND.columns)}
OFF = {"gain_db": 0.0, "eq_db": 0.0, "noise_share": 0.0, "noise_snr_db": (10.0, 10.0)}
OFF |= {"room_share": 0.0, "room_rt60_s": (0.5, 0.5), "pitch_semitones": 0.0, "tempo": 0.0}
CENTRES_HZ = hz_from_mel(np.linspace(0.0, mel_from_hz(8000.0, "htk"), 130)[1:-1], "htk")


@pytest.fixture(scope="module", params=["emodb", "librispeech"])
def speech(request, real_data):
    corpus = open_corpus(request.param, str(real_data / request.param))
    return [corpus.read(u, 4.0).astype(np.float64) for u in corpus.utterances()[:: len(corpus.utterances()) // 4][:4]]


def frames_of(sound):
    frames, counts = FRONTEND(torch.from_numpy(sound.astype(np.float32))[None], torch.tensor([len(sound)]))
    return frames[0, : int(counts[0])]


def changed(frames, draws, **settings):
    """Return frames as one augmentation changes them; draws[i] is the random number of the i-th kind."""
    augment = augmentation_for(FRONTEND, FRONTEND.columns, **{**OFF, **settings})
    with pytest.MonkeyPatch.context() as patch:
        given = iter(draws)
        patch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, next(given)))
        found, counts = augment(frames[None], torch.tensor([len(frames)]), None)
    return found[0, : int(counts[0])]


def distance(a, b, columns, unit):
    n = min(len(a), len(b))
    return float((a[:n, columns] - b[:n, columns]).abs().mean()) * unit


def speed_distances(speech, speed, draws, **settings):
    """Return the distance from resampled speech of the frames unchanged and of ours, by column."""
    fraction = Fraction(1 / speed).limit_denominator(60)
    speed = fraction.denominator / fraction.numerator
    known = np.flatnonzero(
        7700 * min(1.0, speed) > CENTRES_HZ
    ).tolist()  # above there is nothing in the resampled sound
    found = {"bands": [], "energy": [], "tilt": [], "f0": []}
    for sound in speech:
        before = frames_of(sound)
        true = frames_of(scipy.signal.resample_poly(sound, fraction.numerator, fraction.denominator))
        ours = changed(before, draws, **settings)
        assert abs(len(ours) - len(true)) <= 1
        n = min(len(before), len(true), len(ours))
        both = [x[:n, PLACE["voiced"]] > 0.5 for x in (before, true, ours)]
        for name, columns, unit in (
            ("bands", known, 30),
            ("energy", [PLACE["energy"]], 30),
            ("tilt", [PLACE["tilt"]], 4),
        ):
            found[name].append([distance(x, true, columns, unit) for x in (before, ours)])
        voiced = both[0] & both[1] & both[2]
        f0 = [x[:n, PLACE["log_f0"]][voiced] for x in (before, ours, true)]
        found["f0"].append([float((x - f0[2]).abs().median()) * 0.4 * 12 / np.log(2) for x in f0[:2]])
    return {name: np.mean(values, axis=0) for name, values in found.items()}


@pytest.mark.parametrize("semitones", [-3.0, 2.0, 4.0])
def test_pitch_and_tempo_together_are_speed(speech, semitones):
    draw = 1.0 if semitones > 0 else 0.0
    speed = 2 ** (semitones / 12)
    limits = {"pitch_semitones": abs(semitones), "tempo": 2 ** (abs(semitones) / 12) - 1}
    found = speed_distances(speech, speed, [0.5] * 6 + [draw, draw], **limits)
    for name, factor, most in (("bands", 0.25, 3.0), ("energy", 0.25, 1.5), ("tilt", 0.25, 0.8), ("f0", 0.1, 0.3)):
        unchanged, ours = found[name]
        assert ours < factor * unchanged, name
        assert ours < most, name
    # the tempo alone, whose frames lie at the right times, does not explain it
    alone = speed_distances(speech, speed, [0.5] * 6 + [draw, draw], tempo=limits["tempo"])
    for name, factor in (("bands", 0.5), ("tilt", 0.9), ("f0", 0.5)):
        assert found[name][1] < factor * alone[name][1], name


@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.0])
def test_a_room_is_a_convolution_with_decaying_noise(speech, rt60):
    random = np.random.default_rng(0)
    n = int(1.5 * rt60 * 16000)
    found = {"bands": [], "energy": [], "tilt": [], "one room": []}
    for sound in speech:
        before = frames_of(sound)
        ours = changed(before, [0.5] * 8, room_share=1.0, room_rt60_s=(rt60, rt60))
        rooms = []
        for _ in range(8):
            response = random.normal(size=n) * 10 ** (-3 * np.arange(n) / 16000 / rt60)
            response /= np.sqrt(np.square(response).sum())
            rooms.append(frames_of(scipy.signal.fftconvolve(sound, response)[: len(sound)]))
        mean = torch.stack(rooms)
        true = mean.mean(0)
        levels = [*range(128), PLACE["energy"]]
        true[:, levels] = torch.log10((10 ** (3 * mean[..., levels])).mean(0)) / 3  # power, mean over the rooms
        for name, columns, unit in (
            ("bands", range(128), 30),
            ("energy", [PLACE["energy"]], 30),
            ("tilt", [PLACE["tilt"]], 4),
        ):
            found[name].append([distance(x, true, list(columns), unit) for x in (before, ours)])
        found["one room"].append([distance(x, rooms[0], list(range(128)), 30) for x in (before, ours)])
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    factor = 0.6 if rt60 < 0.3 else 0.3  # the less a room does, the more the noise of eight responses counts
    for name, most in (("bands", 2.0), ("energy", 1.0), ("tilt", 0.5)):
        unchanged, ours = means[name]
        assert ours < factor * unchanged, name
        assert ours < most, name
    # of one response alone, whose own ups and downs from bin to bin (5.6 dB in one) no mean can tell
    unchanged, ours = means["one room"]
    assert ours < (0.8 if rt60 < 0.3 else 0.45) * unchanged
