"""A corpus, a frontend and two encoders that keep every rule; the faulty ones are derived from them."""

import hashlib

import numpy as np
import torch

from repkit import api


class Hums:
    """Voices of one pitch each."""

    class Config(api.Config):
        name: str = "hums"
        n_speakers: int = 3

    def __init__(self, config):
        self.config, self.name = config, config.name

    def utterance(self, number, **changes):
        given = {
            "id": f"{self.name}/{number:02d}",
            "corpus": self.name,
            "speaker": f"{self.name}/{number % self.config.n_speakers}",
            "session": f"{self.name}/1",
            "gender": ("female", "male")[number % 2],
            "language": "en",
            "emotion": ("anger", "neutral")[number % 2],
            "arousal": 3.0,
            "valence": 3.0,
        }
        return api.Utterance(**{**given, **changes})

    def utterances(self):
        return [self.utterance(number) for number in range(2 * self.config.n_speakers)]

    def read(self, utterance, max_duration_s=None):
        hz = 100.0 + 10.0 * int(utterance.id.rpartition("/")[2])
        sound = (0.3 * np.sin(2 * np.pi * hz * np.arange(8000) / 16000)).astype(np.float32)
        return sound[: None if max_duration_s is None else round(16000 * max_duration_s)]

    def stream(self, skip=0, max_duration_s=None):
        for utterance in self.utterances()[skip:]:
            yield utterance, self.read(utterance, max_duration_s)

    def fingerprint(self):
        return hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()


class Levels:
    """Logarithm of the energy of each block of samples, in two halves."""

    class Config(api.Config):
        shift_s: float = 0.010
        floor: float = 1e-10

    n_bands = 2
    sample_rate = 16000

    def __init__(self, config):
        self.config = config
        self.frame_shift_s = config.shift_s
        self._shift = round(config.shift_s * 16000)

    def n_frames(self, n_samples):
        return n_samples // self._shift

    def __call__(self, waveforms, lengths):
        n_frames = waveforms.shape[1] // self._shift
        blocks = waveforms[:, : n_frames * self._shift].unflatten(1, (n_frames, self._shift))
        halves = [
            half.square().mean(dim=2) for half in (blocks[..., : self._shift // 2], blocks[..., self._shift // 2 :])
        ]
        return torch.stack(halves, dim=2).clamp(min=self.config.floor).log(), lengths // self._shift

    def convention(self):
        return {"frontend": "levels", "version": "1", **self.config.model_dump(mode="json")}


class Moments:
    """Mean and deviation of a sound."""

    class Config(api.Config):
        factor: float = 1.0

    name, dim, level = "moments", 2, "utterance"

    def __init__(self, config):
        self.config = config

    def encode(self, waveforms):
        return [np.array([w.mean(), w.std()], np.float32) * np.float32(self.config.factor) for w in waveforms]

    def provenance(self):
        return {"encoder": "moments", **self.config.model_dump(mode="json"), "corpora": [], "speakers": None}


class BlockMoments(Moments):
    """The same for every 20 ms."""

    level, frame_shift_s = "frame", 0.02

    def encode(self, waveforms):
        return [np.stack(super(BlockMoments, self).encode(self.blocks(w))) for w in waveforms]

    def blocks(self, waveform):
        n = max(1, len(waveform) // 320)
        return list(waveform[: n * 320].reshape(n, -1))
