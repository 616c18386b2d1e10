"""An encoder: waveforms to embeddings. Here two numbers that need no training: how loud, and how unevenly."""

from collections.abc import Sequence

import numpy as np
from repkit import api


class Loudness:
    """Mean and standard deviation of the level in dB."""

    class Config(api.Config):
        """Settings: length of the blocks that a level is measured on."""

        block_s: float = 0.025

    name, dim, level = "loudness", 2, "utterance"  # one vector (2,) per utterance

    def __init__(self, config: Config) -> None:
        self.config = config

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (2,) float32 vector per waveform (S,), each looked at alone."""
        block, vectors = round(self.config.block_s * 16000), []
        for sound in waveforms:
            blocks = np.array_split(sound, max(1, len(sound) // block))
            levels = [10 * np.log10(np.square(part).mean() + 1e-10) for part in blocks]
            vectors.append(np.array([np.mean(levels), np.std(levels)], dtype=np.float32))
        return vectors

    def provenance(self) -> dict:
        """Return where the numbers come from; nobody was heard in training, for there was none."""
        return {"encoder": "loudness", "version": "1", **self.config.model_dump(), "corpora": [], "speakers": []}
