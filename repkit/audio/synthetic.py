"""Synthetic speech: made-up voices for demonstrations and tests.

What it is: a source-filter synthesiser. A glottal pulse train with noise passes through four formant resonators;
speakers differ in vocal tract length, pitch, breathiness and how strongly they express; emotions differ in pitch level,
pitch range, rate, energy, spectral tilt and breathiness; corpora differ in channel, noise, room, vowels and rhythm.

What it is not: speech. There are no words, the emotions are six points in a space of seven prosodic settings that the
author chose after textbook descriptions, and the variation around them is Gaussian. A score on it shows that the
pipeline runs and learns; it says nothing about emotion in real speech.
Source: own design.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from repkit.api import Config, Utterance
from repkit.audio.decode import SAMPLE_RATE
from repkit.audio.voices import EXPRESSIONS, RATINGS, STYLES, mood_of, random_for, record, speak, voice_of
from repkit.errors import DataError

_VERSION = 1  # part of the fingerprint: raise it whenever a sample changes


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
                raise ValueError(f"some of {', '.join(EXPRESSIONS)} were expected, each once")
            return value

    def __init__(self, config: SyntheticCorpus.Config) -> None:
        self.config = config
        self.name = config.name
        self.expected: dict[str, Any] | None = None
        self.licence = "generated; no rights reserved"
        self._utterances: tuple[Utterance, ...] | None = None
        self._index: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_utterances": None, "_index": {}}

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
        random = random_for(c.seed, c.name, 3, index)
        return rest, str(random.choice(np.array(c.emotions))), sentence + 1000 * (1 + rest), repetition

    def _utterance(self, index: int) -> Utterance:
        c = self.config
        speaker, emotion, sentence, repetition = self._plan(index)
        arousal = valence = None
        if c.ratings and c.labelled:
            noise = 0.4 * random_for(c.seed, c.name, 4, index).standard_normal(2)
            base = RATINGS[emotion]
            arousal, valence = (round(float(np.clip(b + n, 1.0, 5.0)), 2) for b, n in zip(base, noise))
        name = f"{speaker:03d}_{emotion}_{sentence:02d}_{repetition}" if c.labelled else f"{speaker:03d}_{index:05d}"
        return Utterance(
            id=f"{c.name}/{name}",
            corpus=c.name,
            speaker=f"{c.name}/{speaker:03d}",
            session=f"{c.name}/{speaker // 2:03d}",
            gender="female" if speaker % 2 == 0 else "male",
            language=STYLES[c.style].language,
            emotion=emotion if c.labelled else None,
            arousal=arousal,
            valence=valence,
            extra={"sentence": str(sentence), "repetition": str(repetition)},
        )

    def _generate(self, index: int) -> np.ndarray:
        c = self.config
        speaker, emotion, sentence, _ = self._plan(index)
        style = STYLES[c.style]
        voice = voice_of(c.seed, c.name, speaker, c.spread)
        random = random_for(c.seed, c.name, 2, index)
        text = random_for(c.seed, c.name, 1, sentence)
        room = random_for(c.seed, c.name, 5, speaker // 2)  # a session has one room
        sound = speak(voice, mood_of(EXPRESSIONS[emotion], voice, c.spread, random), style, text, c.duration_s, random)
        return record(sound, style, room, c.spread, random)
