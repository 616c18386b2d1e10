"""Synthetic speech: made-up voices for demonstrations and tests.

What it is: a source-filter synthesiser. A glottal pulse train with noise passes through four formant resonators;
speakers differ in vocal tract length, pitch, breathiness and how strongly they express; emotions differ in pitch level,
pitch range, rate, energy, spectral tilt and breathiness; corpora differ in channel, noise, room, vowels and rhythm.

What it is not: speech. There are no words, the emotions are six points in a space of seven prosodic settings that the
author chose after textbook descriptions, and the variation around them is Gaussian. A score on it shows that the
pipeline runs and learns; it says nothing about emotion in real speech. Source: own design; resonators after Klatt 1980,
resonance frequencies after Peterson & Barney 1952 (rounded).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator
from scipy import signal

from repkit.api import Config, Utterance
from repkit.audio.decode import SAMPLE_RATE
from repkit.errors import DataError

_VERSION = 1  # part of the fingerprint: raise it whenever a sample changes


@dataclass(frozen=True)
class _Expression:
    """How an emotion speaks: semitones, factor, factor, dB, dB per octave, share of noise, share of the period."""

    pitch: float
    range: float
    rate: float
    energy: float
    tilt: float
    breath: float
    jitter: float


EXPRESSIONS: Mapping[str, _Expression] = {
    "anger": _Expression(3.0, 1.5, 1.15, 5.0, 3.0, 0.02, 0.010),
    "disgust": _Expression(-1.5, 0.8, 0.80, 0.0, -0.5, 0.06, 0.015),
    "fear": _Expression(4.5, 0.7, 1.25, -1.0, 0.5, 0.12, 0.025),
    "happiness": _Expression(3.5, 1.8, 1.08, 2.5, 1.2, 0.03, 0.006),
    "neutral": _Expression(0.0, 1.0, 1.00, 0.0, 0.0, 0.03, 0.006),
    "sadness": _Expression(-1.5, 0.55, 0.80, -4.0, -2.5, 0.09, 0.008),
}
"""The emotions that can be generated."""


@dataclass(frozen=True)
class _Style:
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
_STYLES: Mapping[str, _Style] = {
    "a": _Style(
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
    "b": _Style(
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
    "c": _Style(
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

SYNTHETIC: Mapping[str, dict[str, Any]] = {
    "synthetic_a": {"style": "a", "emotions": ("anger", "happiness", "neutral", "sadness"), "n_sentences": 6},
    "synthetic_b": {"style": "b", "emotions": ("anger", "fear", "happiness", "neutral", "sadness"), "n_sentences": 5},
    "synthetic_c": {"style": "c", "n_speakers": 6, "n_sentences": 5, "ratings": True},
    "synthetic_unlabelled": {"style": "a", "n_speakers": 24, "n_sentences": 10, "labelled": False},
}
"""Settings behind the names of `open_corpus`."""


class SyntheticCorpus:
    """A generated corpus (entry point ``synthetic``); nothing is stored, `read` makes the sound.

    Every utterance depends on (seed, name, settings, its index) alone: the same whatever the order or the process (to
    floating-point rounding between machines). No two corpora share a voice.
    """

    class Config(Config):
        """Settings of a synthetic corpus.

        Attributes:
            name: name of the corpus.
            style: channel, noise, room, vowels and rhythm: a is near and clean, b a noisy telephone, c a large room.
            n_speakers: speakers, female and male in turn; two of them share a session.
            emotions: which of anger, disgust, fear, happiness, neutral, sadness.
            n_sentences: sentences that every speaker says in every emotion; unlabelled: clips per speaker.
            n_repetitions: times each is said.
            labelled: False gives speech of mixed emotions without labels.
            ratings: True adds arousal and valence ratings (the emotion's, with noise).
            duration_s: mean length in seconds of a neutral utterance.
            spread: how much speakers and takes vary; 1 leaves the emotions learnable and not perfectly so.
            seed: other voices and sentences.
        """

        name: str = "synthetic_a"
        style: Literal["a", "b", "c"] = "a"
        n_speakers: int = Field(8, ge=1, le=10000)
        emotions: tuple[str, ...] = tuple(EXPRESSIONS)
        n_sentences: int = Field(5, ge=1)
        n_repetitions: int = Field(1, ge=1)
        labelled: bool = True
        ratings: bool = False
        duration_s: float = Field(2.0, ge=0.5, le=30.0)
        spread: float = Field(1.0, ge=0.0, le=4.0)
        seed: int = Field(0, ge=0)

        @field_validator("emotions")
        @classmethod
        def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
            wrong = [emotion for emotion in value if emotion not in EXPRESSIONS]
            if wrong or not value or len(set(value)) < len(value):
                raise ValueError(f"got {', '.join(value)}; expected some of {', '.join(EXPRESSIONS)}, each once")
            return value

    def __init__(self, config: SyntheticCorpus.Config) -> None:
        self.config = config
        self.name = config.name
        self.expected: dict[str, Any] | None = None
        self.licence = "generated; no rights reserved"
        self._utterances: tuple[Utterance, ...] | None = None
        self._index: dict[str, int] = {}

    def __len__(self) -> int:
        c = self.config
        return c.n_speakers * c.n_sentences * c.n_repetitions * (len(c.emotions) if c.labelled else 1)

    def utterances(self) -> Sequence[Utterance]:
        """Return all utterances in a fixed order: by speaker, emotion, sentence, repetition; generates no sound."""
        if self._utterances is None:
            self._utterances = tuple(self._utterance(i) for i in range(len(self)))
            self._index = {u.id: i for i, u in enumerate(self._utterances)}
        return self._utterances

    def read(self, utterance: Utterance, max_duration_s: float | None = None) -> np.ndarray:
        """Return the sound as mono float32 (S,) at 16 kHz, full scale 1.

        Raises:
            DataError: the utterance is not of this corpus.
        """
        self.utterances()
        if utterance.id not in self._index:
            raise DataError(f"{utterance.id}: is not in corpus {self.name!r} with its present settings")
        sound = self._generate(self._index[utterance.id])
        return sound if max_duration_s is None else sound[: max(1, round(max_duration_s * SAMPLE_RATE))]

    def stream(
        self, skip: int = 0, max_duration_s: float | None = None
    ) -> Iterator[tuple[Utterance, np.ndarray | Exception]]:
        """Yield utterances in order with their sound, after skipping some."""
        for utterance in self.utterances()[skip:]:
            yield utterance, self.read(utterance, max_duration_s)

    def fingerprint(self) -> str:
        """Return sha256 (hex) over the settings and the version of the generator."""
        text = json.dumps({"version": _VERSION, **self.config.model_dump(mode="json")}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _plan(self, index: int) -> tuple[int, str, int, int]:
        """Return speaker, emotion, sentence and repetition of an index."""
        c = self.config
        rest, repetition = divmod(index, c.n_repetitions)
        rest, sentence = divmod(rest, c.n_sentences)
        if c.labelled:
            speaker, which = divmod(rest, len(c.emotions))
            return speaker, c.emotions[which], sentence, repetition
        random = _random(c.seed, c.name, 3, index)
        return rest, str(random.choice(np.array(c.emotions))), sentence + 1000 * (1 + rest), repetition

    def _utterance(self, index: int) -> Utterance:
        c = self.config
        speaker, emotion, sentence, repetition = self._plan(index)
        arousal = valence = None
        if c.ratings and c.labelled:
            noise = 0.4 * _random(c.seed, c.name, 4, index).standard_normal(2)
            base = _RATINGS[emotion]
            arousal, valence = (round(float(np.clip(b + n, 1.0, 5.0)), 2) for b, n in zip(base, noise))
        name = f"{speaker:03d}_{emotion}_{sentence:02d}_{repetition}" if c.labelled else f"{speaker:03d}_{index:05d}"
        return Utterance(
            id=f"{c.name}/{name}",
            corpus=c.name,
            speaker=f"{c.name}/{speaker:03d}",
            session=f"{c.name}/{speaker // 2:03d}",
            gender="female" if speaker % 2 == 0 else "male",
            language=_STYLES[c.style].language,
            emotion=emotion if c.labelled else None,
            arousal=arousal,
            valence=valence,
            extra={"sentence": str(sentence), "repetition": str(repetition)},
        )

    def _generate(self, index: int) -> np.ndarray:
        c = self.config
        speaker, emotion, sentence, _ = self._plan(index)
        style = _STYLES[c.style]
        voice = _voice(c.seed, c.name, speaker, c.spread)
        random = _random(c.seed, c.name, 2, index)
        sound = _speak(voice, _mood(EXPRESSIONS[emotion], voice, c.spread, random), style, c, sentence, random)
        return _record(sound, style, c, speaker // 2, random)


# arousal and valence on 1 to 5, for `Config.ratings`
_RATINGS: Mapping[str, tuple[float, float]] = {
    "anger": (4.2, 1.7),
    "disgust": (2.9, 1.9),
    "fear": (4.0, 1.9),
    "happiness": (3.9, 4.3),
    "neutral": (2.6, 3.0),
    "sadness": (1.9, 1.9),
}


@dataclass(frozen=True)
class _Voice:
    pitch_hz: float
    tract: float
    tilt: float
    breath: float
    tempo: float
    strength: float


def _random(seed: int, name: str, purpose: int, *numbers: int) -> np.random.Generator:
    """Return a generator that depends on its arguments alone."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode()), purpose, *numbers]))
    )


@lru_cache(maxsize=4096)
def _voice(seed: int, name: str, speaker: int, spread: float) -> _Voice:
    random = _random(seed, name, 0, speaker)
    z = spread * random.standard_normal(6)
    female = speaker % 2 == 0
    return _Voice(
        pitch_hz=(205.0 if female else 115.0) * 2 ** (2.2 * z[0] / 12),
        tract=(0.86 if female else 1.0) * (1 + 0.05 * z[1]),
        tilt=1.2 * z[2],
        breath=0.02 * abs(z[3]),
        tempo=1 + 0.08 * z[4],
        strength=float(np.clip(1 + 0.3 * z[5], 0.3, 1.8)),
    )


def _mood(mean: _Expression, voice: _Voice, spread: float, random: np.random.Generator) -> _Expression:
    """Return how this take sounds: the emotion, as strongly as the speaker shows it, with the variation of a take."""
    z, s = spread * random.standard_normal(6), voice.strength
    return _Expression(
        pitch=s * mean.pitch + 1.0 * z[0],
        range=mean.range**s * float(np.exp(0.22 * z[1])),
        rate=mean.rate**s * float(np.exp(0.08 * z[2])),
        energy=s * mean.energy + 1.2 * z[3],
        tilt=s * mean.tilt + 0.8 * z[4],
        breath=mean.breath * float(np.exp(0.3 * z[5])) + voice.breath,
        jitter=mean.jitter,
    )


def _speak(
    voice: _Voice,
    mood: _Expression,
    style: _Style,
    config: SyntheticCorpus.Config,
    sentence: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Return the dry voice (S,)."""
    text = _random(config.seed, config.name, 1, sentence)
    count = max(2, round(config.duration_s * style.syllables_per_s * text.uniform(0.8, 1.2)))
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
    # each syllable: a consonant (noise or closure) and a vowel, faded into each other over about 25 ms
    opening = edges[:-1] + (0.30 * np.diff(edges)).astype(int)
    fade = signal.windows.hann(401)
    fade /= fade.sum()
    sound = np.zeros(n)
    for vowel in np.unique(vowels):
        gate = np.zeros(n)
        for i in np.flatnonzero(vowels == vowel):
            gate[opening[i] : edges[i + 1]] = 1.0 + 0.35 * stress[i]
        gate = signal.oaconvolve(gate, fade, mode="same")
        sound += gate * signal.sosfilt(_resonators(style.vowels[vowel], voice.tract), source)
    gate = np.zeros(n)
    for i in np.flatnonzero(noisy):
        gate[edges[i] : opening[i]] = 1.0
    if gate.any():
        b, a = _hiss(round(4200 / voice.tract, -2))
        hiss = signal.lfilter(b, a, breath)
        sound += 0.25 * np.std(sound) / (np.std(hiss) + 1e-9) * signal.oaconvolve(gate, fade, mode="same") * hiss
    return sound / (np.std(sound) + 1e-9) * 10 ** (mood.energy / 20)


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
    return flow / (np.std(flow) + 1e-9)


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


def _record(
    sound: np.ndarray, style: _Style, config: SyntheticCorpus.Config, session: int, random: np.random.Generator
) -> np.ndarray:
    """Return what the microphone of the corpus hears: room, channel, noise, level."""
    place = _random(config.seed, config.name, 5, session)  # a session has one room
    tail = int(style.room_s * SAMPLE_RATE)
    echo = place.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    echo *= 0.5 / (np.linalg.norm(echo) + 1e-9)
    pad = np.zeros(int(random.uniform(0.05, 0.2) * SAMPLE_RATE))
    dry = np.concatenate([pad, sound, pad])
    wet = dry + signal.oaconvolve(dry, echo, mode="full")[: len(dry)]
    noise = signal.lfilter([1.0], [1.0, -0.85], random.standard_normal(len(wet)))
    noise *= 10 ** (-style.snr_db / 20) / np.std(noise)
    heard = signal.sosfilt(_channel(style.low_hz, style.high_hz), wet + noise)
    level = style.level_db + 1.0 * config.spread * random.standard_normal()
    heard = heard * 10 ** (level / 20)
    return np.clip(heard, -0.999, 0.999).astype(np.float32)
