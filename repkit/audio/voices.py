"""The synthesiser behind the synthetic corpora: a source-filter model of a voice, and of what a microphone hears.

Source: own design; resonators after Klatt 1980, resonance frequencies after Peterson & Barney 1952 (rounded).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import signal

from repkit.audio.decode import SAMPLE_RATE


@dataclass(frozen=True)
class Expression:
    """How an emotion speaks: semitones, factor, factor, dB, dB per octave, share of noise, share of the period."""

    pitch: float
    range: float
    rate: float
    energy: float
    tilt: float
    breath: float
    jitter: float


EXPRESSIONS: Mapping[str, Expression] = {
    "anger": Expression(3.0, 1.5, 1.15, 5.0, 3.0, 0.02, 0.010),
    "disgust": Expression(-1.5, 0.8, 0.80, 0.0, -0.5, 0.06, 0.015),
    "fear": Expression(4.5, 0.7, 1.25, -1.0, 0.5, 0.12, 0.025),
    "happiness": Expression(3.5, 1.8, 1.08, 2.5, 1.2, 0.03, 0.006),
    "neutral": Expression(0.0, 1.0, 1.00, 0.0, 0.0, 0.03, 0.006),
    "sadness": Expression(-1.5, 0.55, 0.80, -4.0, -2.5, 0.09, 0.008),
}
"""The emotions that can be generated."""


@dataclass(frozen=True)
class Style:
    """What makes a corpus sound like itself."""

    language: str
    vowels: tuple[tuple[float, float, float], ...]
    syllables_per_s: float
    rhythm: float
    low_hz: float
    high_hz: float
    snr_db: float
    room_s: float
    level_db: float


# Hz of three resonances of an average adult; the fourth is set to 3500
STYLES: Mapping[str, Style] = {
    "a": Style(
        "qaa",
        ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)),
        4.6,
        0.15,
        60.0,
        7600.0,
        38.0,
        0.04,
        -27.0,
    ),
    "b": Style(
        "qab",
        ((660, 1720, 2410), (390, 1990, 2550), (440, 1020, 2240), (640, 1190, 2390)),
        5.4,
        0.45,
        250.0,
        3700.0,
        24.0,
        0.12,
        -24.0,
    ),
    "c": Style(
        "qac",
        ((730, 1090, 2440), (270, 2290, 3010), (490, 1350, 1690), (300, 870, 2240), (530, 1840, 2480)),
        3.9,
        0.30,
        120.0,
        6500.0,
        30.0,
        0.30,
        -30.0,
    ),
}

# arousal and valence on 1 to 5, for `Config.ratings`
RATINGS: Mapping[str, tuple[float, float]] = {
    "anger": (4.2, 1.7),
    "disgust": (2.9, 1.9),
    "fear": (4.0, 1.9),
    "happiness": (3.9, 4.3),
    "neutral": (2.6, 3.0),
    "sadness": (1.9, 1.9),
}


@dataclass(frozen=True)
class Voice:
    """A speaker: Hz, factor on the length of the vocal tract, dB per octave, share of noise, factor, factor."""

    pitch_hz: float
    tract: float
    tilt: float
    breath: float
    tempo: float
    strength: float


def random_for(seed: int, name: str, purpose: int, *numbers: int) -> np.random.Generator:
    """Return a generator that depends on its arguments alone."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode()), purpose, *numbers]))
    )


@lru_cache(maxsize=4096)
def voice_of(seed: int, name: str, speaker: int, spread: float) -> Voice:
    """Return the voice of a speaker of a corpus; even numbers are female."""
    random = random_for(seed, name, 0, speaker)
    z = spread * random.standard_normal(6)
    female = speaker % 2 == 0
    return Voice(
        pitch_hz=(205.0 if female else 115.0) * 2 ** (2.2 * z[0] / 12),
        tract=(0.86 if female else 1.0) * (1 + 0.05 * z[1]),
        tilt=1.2 * z[2],
        breath=0.02 * abs(z[3]),
        tempo=1 + 0.08 * z[4],
        strength=float(np.clip(1 + 0.3 * z[5], 0.3, 1.8)),
    )


def mood_of(mean: Expression, voice: Voice, spread: float, random: np.random.Generator) -> Expression:
    """Return how this take sounds: the emotion, as strongly as the speaker shows it, with the variation of a take."""
    z, s = spread * random.standard_normal(6), voice.strength
    return Expression(
        pitch=s * mean.pitch + 1.0 * z[0],
        range=mean.range**s * float(np.exp(0.22 * z[1])),
        rate=mean.rate**s * float(np.exp(0.08 * z[2])),
        energy=s * mean.energy + 1.2 * z[3],
        tilt=s * mean.tilt + 0.8 * z[4],
        breath=mean.breath * float(np.exp(0.3 * z[5])) + voice.breath,
        jitter=mean.jitter,
    )


def speak(
    voice: Voice,
    mood: Expression,
    style: Style,
    sentence: np.random.Generator,
    duration_s: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Return the dry voice (S,)."""
    text = sentence
    count = max(2, round(duration_s * style.syllables_per_s * text.uniform(0.8, 1.2)))
    vowels = text.integers(len(style.vowels), size=count)
    noisy = text.random(count) < 0.45
    stress = text.random(count) < 0.35
    lengths = np.exp(style.rhythm * text.standard_normal(count) + 0.35 * stress)
    lengths *= count / lengths.sum() / style.syllables_per_s
    lengths = lengths / (mood.rate * voice.tempo) * np.exp(0.05 * random.standard_normal(count))
    edges = np.concatenate([[0], np.cumsum(np.maximum(lengths, 0.06) * SAMPLE_RATE)]).astype(int)
    n = int(edges[-1])
    times = np.arange(n)
    # pitch: falls over the utterance, rises on stressed syllables
    centres = (edges[:-1] + edges[1:]) / 2
    targets = mood.range * (2.2 * stress + 0.8 * random.standard_normal(count) + np.linspace(1.5, -1.5, count))
    semitones = mood.pitch + np.interp(times, centres, targets)
    pitch = voice.pitch_hz * 2 ** (semitones / 12)
    pitch *= 1 + mood.jitter * np.interp(times, times[::80], random.standard_normal(len(times[::80])))
    source = _glottis(np.clip(pitch, 50.0, 600.0), voice.tilt + mood.tilt)
    breath = random.standard_normal(n)
    source += mood.breath * breath
    # each syllable: a consonant (noise or closure) and a vowel, faded into each other over 17 ms
    opening = edges[:-1] + (0.30 * np.diff(edges)).astype(int)
    sound = np.zeros(n)
    for vowel in np.unique(vowels):
        here = np.flatnonzero(vowels == vowel)
        gate = _gate(times, opening[here], edges[here + 1], 1.0 + 0.35 * stress[here])
        sound += gate * signal.sosfilt(_resonators(style.vowels[vowel], voice.tract), source)
    here = np.flatnonzero(noisy)
    if len(here):
        b, a = _hiss(round(4200 / voice.tract, -2))
        hiss = signal.lfilter(b, a, breath)
        sound += 0.25 * np.std(sound) / (np.std(hiss) + 1e-9) * _gate(times, edges[here], opening[here], 1.0) * hiss
    return sound / (np.std(sound) + 1e-9) * 10 ** (mood.energy / 20)


def _gate(times: np.ndarray, starts: np.ndarray, ends: np.ndarray, heights: np.ndarray | float) -> np.ndarray:
    """Return an envelope (S,) that is `heights` between starts and ends and 0 elsewhere, with linear ramps."""
    ramp = 136  # samples on either side; consonants are at least 288 long, so that ramps never meet
    places = np.stack([starts - ramp, starts + ramp, ends - ramp, ends + ramp], axis=1)
    levels = np.multiply.outer(np.broadcast_to(heights, starts.shape), np.array([0.0, 1.0, 1.0, 0.0]))
    done: np.ndarray = np.interp(times, places.ravel(), levels.ravel(), left=0.0, right=0.0)
    return done


def _glottis(pitch_hz: np.ndarray, tilt: float) -> np.ndarray:
    """Return pulses (S,) of unit power with a spectral slope of about -12 dB per octave, `tilt` dB more or less."""
    phase = np.cumsum(pitch_hz / SAMPLE_RATE)
    marks = np.flatnonzero(np.diff(np.floor(phase)) > 0)
    over = phase[marks + 1] - np.floor(phase[marks + 1])
    late = over / (pitch_hz[marks + 1] / SAMPLE_RATE)  # share of a sample since the closure
    pulses = np.zeros(len(pitch_hz))
    pulses[marks + 1] += 1 - late
    pulses[marks] += late
    # two poles; the nearer they are to 1 the darker the voice. 3 dB per octave of tilt halve the distance
    pole = 1 - float(np.clip(0.16 * 2 ** (tilt / 3), 0.02, 0.9))
    flow = signal.lfilter([1.0, -1.0], [1.0, -2 * pole, pole * pole], pulses)
    done: np.ndarray = flow / (np.std(flow) + 1e-9)
    return done


@lru_cache(maxsize=4096)
def _resonators(formants_hz: tuple[float, float, float], tract: float) -> np.ndarray:
    """Return second-order sections (4, 6): resonators in cascade, unit gain at 0 Hz (Klatt 1980)."""
    sections = []
    for centre, width in zip((*formants_hz, 3500.0), (70.0, 100.0, 140.0, 220.0), strict=True):
        c = -np.exp(-2 * np.pi * width / SAMPLE_RATE)
        b = 2 * np.exp(-np.pi * width / SAMPLE_RATE) * np.cos(2 * np.pi * min(centre / tract, 7000.0) / SAMPLE_RATE)
        sections.append([1 - b - c, 0, 0, 1, -b, -c])
    return np.array(sections)


@lru_cache(maxsize=256)
def _hiss(centre_hz: float) -> tuple[np.ndarray, np.ndarray]:
    b, a = signal.butter(1, [0.6 * centre_hz, min(1.5 * centre_hz, 7500.0)], btype="bandpass", fs=SAMPLE_RATE)
    return b, a


@lru_cache(maxsize=64)
def _channel(low_hz: float, high_hz: float) -> np.ndarray:
    sections: np.ndarray = signal.butter(2, [low_hz, high_hz], btype="bandpass", fs=SAMPLE_RATE, output="sos")
    return sections


def record(
    sound: np.ndarray, style: Style, place: np.random.Generator, spread: float, random: np.random.Generator
) -> np.ndarray:
    """Return what the microphone of the corpus hears: room, channel, noise, level."""
    tail = int(style.room_s * SAMPLE_RATE)
    echo = place.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    echo *= 0.5 / (np.linalg.norm(echo) + 1e-9)
    pad = np.zeros(int(random.uniform(0.05, 0.2) * SAMPLE_RATE))
    dry = np.concatenate([pad, sound, pad])
    wet = dry + signal.oaconvolve(dry, echo, mode="full")[: len(dry)]
    noise = signal.lfilter([1.0], [1.0, -0.85], random.standard_normal(len(wet)))
    noise *= 10 ** (-style.snr_db / 20) / np.std(noise)
    heard = signal.sosfilt(_channel(style.low_hz, style.high_hz), wet + noise)
    level = style.level_db + 1.0 * spread * random.standard_normal()
    heard = heard * 10 ** (level / 20)
    done: np.ndarray = np.clip(heard, -0.999, 0.999).astype(np.float32)
    return done
