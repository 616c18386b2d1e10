"""A small store of frames that look like the spectrogram's, and a run that is cheap enough to train in a test."""

import numpy as np
import pytest

from repkit.api import Utterance
from repkit.stage_one import train as train_module
from repkit.stage_one.train import PretrainConfig
from repkit.store import StoreSpec, StoreWriter, open_store

BANDS = 12


def _store(path, n=20, corpus="toy", seed=0, longest=25, bands=BANDS):
    """n utterances of smooth noise in [-1, 1], 5 to `longest` frames."""
    random = np.random.default_rng(seed)
    spec = StoreSpec(
        kind="frames",
        dim=bands,
        dtype="float16",
        corpus=corpus,
        corpus_fingerprint=f"{corpus}{seed}",
        source={"frontend": "spectrogram"},
        frame_shift_s=0.04,
    )
    with StoreWriter(path, spec) as writer:
        if not writer.finished:
            for i in range(n):
                walk = random.normal(0, 0.4, (random.integers(5, longest + 1), bands)).cumsum(0)
                writer.add(f"{corpus}/{i:03d}", np.tanh(walk))
            writer.finish()
    return open_store(path)


def _utterances(n=20, corpus="toy", speakers=5):
    return [
        Utterance(id=f"{corpus}/{i:03d}", corpus=corpus, speaker=f"{corpus}/s{i % speakers}" if speakers else None)
        for i in range(n)
    ]


@pytest.fixture
def make_store():
    """The function that writes a store."""
    return _store


@pytest.fixture
def make_utterances():
    """The function that makes the utterances of such a store."""
    return _utterances


@pytest.fixture
def toy(tmp_path):
    return _store(tmp_path / "frames"), _utterances()


@pytest.fixture
def small():
    """Settings of a run of a second."""

    def settings(**more):
        return PretrainConfig(
            **{
                "frontend_settings": {"bands": BANDS},
                "hidden_size": 8,
                "batch_size": 6,
                "epochs": 2,
                "chunk_s": 0.6,
                "device": "cpu",
                "precision": "fp32",
                "dev_speakers": 0.2,
            }
            | more
        )

    return settings


@pytest.fixture
def power_cut_after(monkeypatch):
    """A function that lets every training after it end with a RuntimeError once so many updates are made."""

    def cut(updates):
        real, left = train_module._Run._update, [updates]

        def update(self, indices):
            if not left[0]:
                raise RuntimeError("power cut")
            left[0] -= 1
            return real(self, indices)

        monkeypatch.setattr(train_module._Run, "_update", update)

    return cut
