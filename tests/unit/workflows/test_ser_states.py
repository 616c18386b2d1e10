"""States beside the frames of the same moments. Frames and states tell the time they stand for, so that all can be checked."""

import numpy as np
import pytest
import torch

from repkit import api
from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.errors import DataError, StoreError
from repkit.stage_two.attentive_cnn import AttentiveCnn
from repkit.store import StoreSpec, StoreWriter
from repkit.training.data import FoldData, RaggedTensor, TrainingData
from repkit.workflows.predict.encoders import Part
from repkit.workflows.predict.run import _check_states
from repkit.workflows.predict.saved_jobs import SavedJob
from repkit.workflows.predict.sounds import collect, prepare
from repkit.workflows.train_ser.data import load_embeddings
from repkit.workflows.train_ser.plan import make_plan
from repkit.workflows.train_ser.saved import frontend_table
from repkit.workflows.train_ser.states import in_time

SHIFT = 0.04


def clock(start_s, n, shift=SHIFT):
    """(n, 1) seconds of the middle of each state, the first of which begins at start_s."""
    return (start_s + shift * (np.arange(n)[:, None] + 0.5)).astype(np.float32)


def test_states_are_cut_and_held_by_hand():
    states = np.arange(5.0)[:, None]
    assert in_time(states, 0.0, 0.04, 20, 0.01)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert in_time(states, 0.0, 0.04, 12, 0.01)[:, 0].tolist() == [0, 1, 2]  # of an utterance that is heard in part
    assert in_time(states, 0.0, 0.04, 28, 0.01)[:, 0].tolist() == [0, 1, 2, 3, 4, 4, 4]  # of an encoder of fixed length
    assert in_time(states, 0.09, 0.04, 36, 0.01)[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]  # silence at both ends
    assert in_time(states, 9.0, 0.04, 8, 0.01)[:, 0].tolist() == [0, 0]
    assert in_time(states, 0.0, 0.04, 1, 0.01)[:, 0].tolist() == [0]


def picked(batch):
    """Return the state that the model lays beside every frame, (B, T)."""
    task = api.TaskSpec(views={"emotion": ("a", "b")}, n_bands=1, state_dim=1)
    model = AttentiveCnn(AttentiveCnn.Config(fusion="early", state_projection=1), task)
    with torch.no_grad():
        model.states.weight.fill_(1.0)
        model.states.bias.zero_()
        return model._states_in_time(batch)[..., 0]


@pytest.mark.parametrize("crop", [None, 100])
def test_every_frame_gets_the_state_of_its_time(crop):
    """Silence cut away before 0.53 s; an utterance of which half is heard; one in which the encoder heard less than that."""
    n_frames, heard = (300, 400, 250), ((0.53, 52), (0.0, 200), (0.0, 40))
    states = [in_time(clock(start, n), start, SHIFT, t, 0.01) for (start, n), t in zip(heard, n_frames, strict=True)]
    frames, rows = (
        [torch.from_numpy(part) for part in some] for some in ([clock(0, t, 0.01) for t in n_frames], states)
    )
    ragged = [
        RaggedTensor(torch.cat(p), torch.tensor([0, *np.cumsum([len(one) for one in p])])) for p in (frames, rows)
    ]
    fold = FoldData(TrainingData(list("abc"), ragged[0], {"emotion": torch.zeros(3).long()}, states=ragged[1]))
    seen = set()
    for seed in range(20 if crop else 1):
        batch = fold.batch(torch.tensor([0, 1, 2]), crop, torch.Generator().manual_seed(seed))
        for row, (start, n) in enumerate(heard):
            times = batch.frames[row, : batch.lengths[row], 0]
            first, last = start + SHIFT / 2, start + (n - 0.5) * SHIFT
            # half a state each for what it stands for, the start, and both ends of a crop
            off = picked(batch)[row, : batch.lengths[row]] - times.clamp(first, last)
            assert off.abs().max() <= (2 if crop else 1) * SHIFT
            seen.add(round(float(times[0]), 3))
    assert len(seen) == 1 if crop is None else len(seen) > 20


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("synthetic_a", options={"n_speakers": 4, "n_sentences": 2, "n_repetitions": 1})


def store(folder, corpus, starts=(), shift=SHIFT, **source):
    """Two seconds of clock for every utterance; starts go round, or none is told."""
    spec = StoreSpec(
        kind="frames", dim=1, dtype="float32", corpus=corpus.name, corpus_fingerprint=corpus.fingerprint(), source=source,
        frame_shift_s=shift,
    )  # fmt: skip
    with StoreWriter(folder / corpus.name, spec) as writer:
        for place, utterance in enumerate(corpus.utterances()):
            start_s = starts[place % len(starts)] if starts else None
            writer.add(utterance.id, clock(start_s or 0.0, 50), start_s)
        writer.finish()
    return str(folder)


def plan(corpus, folder):
    overrides = {"conditions": [{"name": "C", "embeddings": folder}]}
    return make_plan(load_recipe(SerRecipe, "demo", [], overrides), {corpus.name: corpus})


def test_a_store_tells_where_states_start(corpus, tmp_path):
    starts = (0.0, 0.31, 0.8)
    made = plan(corpus, store(tmp_path, corpus, starts, frontend={"trim_db": 40.0}))
    n_frames = torch.tensor([100 + 20 * place for place in range(len(made.utterances))])
    states = load_embeddings(made, n_frames)[1]["C"]
    ids = [u.id for u in corpus.utterances()]
    for place, (utterance, n) in enumerate(zip(made.utterances, n_frames.tolist(), strict=True)):
        own = states.values[states.offsets[place] : states.offsets[place + 1], 0].numpy()
        start = starts[ids.index(utterance.id) % 3]
        expected = (SHIFT * (np.arange(round(n / 4)) + 0.5)).clip(start + SHIFT / 2, start + 2 - SHIFT / 2)
        np.testing.assert_allclose(own, expected, atol=SHIFT / 2 + 1e-5)


def test_stores_that_do_not_tell_are_refused_where_it_matters(corpus, tmp_path):
    plain = plan(corpus, store(tmp_path / "plain", corpus, frontend={"trim_db": None}))
    assert plain.conditions[1].describe()["states"] == "by time"
    for name, more, said in (
        ("old", {"frontend": {"trim_db": 40.0}}, "not tell where the states.*delete it and run `repkit embed` again"),
        ("strange", {"shift": None}, "seconds from one state to the next"),
    ):
        with pytest.raises(StoreError, match=said):
            plan(corpus, store(tmp_path / name, corpus, **more))


class Clock:
    """An encoder that hears nothing before the first sample that is not 0, and says when its states are."""

    name, level, dim, frame_shift_s = "clock", "frame", 1, SHIFT

    def start_s(self, waveform):
        return float(np.flatnonzero(waveform)[0]) / 16000

    def encode(self, waveforms):
        return [clock(self.start_s(w), int((len(w) / 16000 - self.start_s(w)) / SHIFT)) for w in waveforms]


def test_new_speech_is_joined_as_in_training():
    frontend, table = frontend_table("log_mel", {"bands": 8})
    sound = (0.1 * np.sin(np.arange(24000) * 0.3)).astype(np.float32)
    sound[:8160] = 0  # 0.51 s
    made = prepare(collect([sound], 16000), frontend, table["dtype"], 1.0, [Part(Clock(), "float32", None, "fp32")])
    (states,), (frames,) = made.states, made.frames
    assert len(states) == round(len(frames) / 4) == 24
    # the encoder has heard 1.5 s, the model hears 1 s
    expected = (SHIFT * (np.arange(24) + 0.5)).clip(0.51 + SHIFT / 2, None)
    np.testing.assert_allclose(states[:, 0], expected, atol=SHIFT / 2 + 1e-5)


def test_models_of_before_are_refused(tmp_path):
    for embeddings, fine in (
        (None, True),
        ({"level": "utterance"}, True),
        ({"level": "frame", "states": "by time"}, True),
        ({"level": "frame"}, False),
    ):
        job = SavedJob(tmp_path, 0, "f", {"embeddings": embeddings})
        if fine:
            _check_states(job)
        else:
            with pytest.raises(DataError, match="trained by an earlier repkit.*train again"):
                _check_states(job)
