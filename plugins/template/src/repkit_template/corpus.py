import hashlib
from itertools import product

import numpy as np
from repkit import api

MOODS = {"anger": (1.4, 0.5), "neutral": (1.0, 0.2), "sadness": (0.8, 0.08)}  # pitch as a factor, loudness


class Tones:
    """A corpus: who says what with which emotion, and the sound. Here made-up voices hum in three moods."""

    class Config(api.Config):
        name: str = "tones"  # the NAME of --corpus NAME=plugin:template_corpus
        n_speakers: int = 8  # --corpus-set NAME.n_speakers=6

    def __init__(self, config: Config):
        self.config, self.name = config, config.name

    def utterances(self) -> list[api.Utterance]:  # in a fixed order; makes no sound
        c, genders = self.name, ("female", "male")
        return [
            api.Utterance(id=f"{c}/{n}_{mood}_{i}", corpus=c, speaker=f"{c}/{n}", gender=genders[n % 2], emotion=mood)
            for n, mood, i in product(range(self.config.n_speakers), MOODS, range(4))
        ]

    def read(self, utterance: api.Utterance, max_duration_s: float | None = None) -> np.ndarray:
        random = np.random.default_rng(list(utterance.id.encode()))  # the same sound every time
        pitch, loudness = MOODS[utterance.emotion]
        hz = pitch * {"female": 220, "male": 120}[utterance.gender] * random.uniform(0.9, 1.1)
        buzz = hz * np.arange(16000) / 16000 % 1 - 0.5  # a sawtooth has overtones, as a voice has
        sound = loudness * (buzz + 0.2 * random.standard_normal(16000))
        return sound.astype(np.float32)[: None if max_duration_s is None else round(16000 * max_duration_s)]

    def stream(self, skip: int = 0, max_duration_s: float | None = None):
        return ((u, self.read(u, max_duration_s)) for u in self.utterances()[skip:])

    def fingerprint(self) -> str:  # changes whenever ids, labels or sounds do
        return hashlib.sha256(f"tones 1 {self.config!r}".encode()).hexdigest()
