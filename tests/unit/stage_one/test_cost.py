"""How long stage one takes: the arithmetic, with replaced clocks."""

import numpy as np
import pytest

from repkit.stage_one import cost
from repkit.stage_one.settings import PretrainConfig

BANDS = {"frontend": "log_mel", "frontend_settings": {"bands": 6}}
SETTINGS = {"hidden_size": 4, "batch_size": 10, "chunk_s": 2.0, "dev_speakers": 0.0, "epochs": 3, **BANDS}


def config(**more):
    return PretrainConfig(**{**SETTINGS, **more})


@pytest.mark.parametrize(
    ("more", "seconds", "updates", "length"),
    [
        # 100 utterances of 2 s are 10 batches an epoch
        ({}, [2.0], 30, 1.0),
        ({}, [1.0], 30, 0.5),
        # not quite 4 s are two pieces (a piece of 2 s has less than half of the frames of 4 s)
        ({}, [3.9], 60, 0.975),
        ({"chunks": "truncate"}, [4.0], 30, 1.0),
        ({"chunks": "whole"}, [4.0], 30, 2.0),
        ({"max_duration_s": 2.0}, [4.0], 30, 1.0),
        ({"fixed_length_s": 1.0, "frontend": "spectrogram"}, [4.0], 30, 1.0),  # the timed pieces are as short
        ({"dev_speakers": 0.5}, [2.0], 15, 1.0),
        ({"batch_size": 64}, [2.0], 6, 1.0),  # a batch that is not full is an update too
        ({"updates": 7}, [1.0], 7, 0.5),
        # half of the 200 s
        ({"hours": 100 / 3600}, [2.0], 15, 1.0),
        ({"hours": 99.0}, [2.0], 30, 1.0),
        # half of the utterances have two pieces, the others one of 1 s
        ({}, [3.9, 1.0], 45, 4.9 / 6),
    ],
)
def test_updates_follow_from_the_lengths(more, seconds, updates, length):
    found = cost.updates_of(config(**more), seconds, 100)
    assert found == (updates, pytest.approx(length, rel=0.02))  # frames are not exactly proportional to seconds
    expected = 0.25 * found[0] * found[1]
    assert cost.training_seconds(config(**more), seconds, 100, lambda config: 0.25) == pytest.approx(expected)


class Clock:
    """Time that goes by as it is told."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(cost.time, "perf_counter", lambda: self.now)


class Slow:
    """Encodes with `start` seconds at the first call, and `rate` for every second of speech."""

    def __init__(self, clock, rate, start):
        self.clock, self.rate, self.start, self.calls = clock, rate, start, []

    def encode(self, waveforms):
        self.calls.append(len(waveforms))
        self.clock.now += self.start + self.rate * sum(map(len, waveforms)) / 16000
        self.start = 0.0


@pytest.mark.parametrize(
    ("rate", "start", "found", "calls"),
    [
        (0.001, 0.5, 0.001, [2, 8, 8]),  # what the beginning takes does not count
        (0.5, 0.5, 0.5, [2, 8]),  # 4 s for all: once is enough
        (2.0, 0.0, 2.0, [2]),
    ],
)
def test_rates_are_seconds_per_second_of_speech(monkeypatch, rate, start, found, calls):
    encoder = Slow(Clock(monkeypatch), rate, start)
    assert cost.encoding_rate(encoder, [np.zeros(16000, np.float32)] * 8) == pytest.approx(found)
    assert encoder.calls == calls


def test_frames_are_timed_by_the_frontend(monkeypatch):
    clock = Clock(monkeypatch)

    def frames_of(waveforms, frontend):
        clock.now += 0.125 * len(waveforms)

    monkeypatch.setattr(cost, "frames_of", frames_of)
    assert cost.frames_rate(None, [np.zeros(8000, np.float32)] * 4) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("more", "dim"), [({"n_layers": 1}, 8), ({"objectives": ({"name": "apc"},), "init": "torch"}, 24)]
)
def test_an_encoder_is_known_before_it_is_trained(tmp_path, more, dim):
    encoder = cost.bare_encoder(config(**more), tmp_path / "ae")
    assert encoder.name == "ae"
    (vector,) = encoder.encode([np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)])
    assert vector.shape == (encoder.dim,)
    assert encoder.dim == dim


def test_no_update_is_begun_when_enough_have_been_timed(monkeypatch):
    began = []
    learner = cost.make_learner

    def counted(*args):
        made = learner(*args)
        update = made.update
        made.update = lambda *a, **k: (began.append(1), update(*a, **k))
        return made

    monkeypatch.setattr(cost, "make_learner", counted)
    assert cost.seconds_per_update(config(chunk_s=0.2), 3) > 0
    assert len(began) == 4  # the first one is not counted
    began.clear()
    cost.seconds_per_update(config(chunk_s=0.2), 3, 0.0)
    assert len(began) == 2
