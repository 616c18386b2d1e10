import time

import numpy as np
import pytest

from repkit.api import Corpus
from repkit.audio.open import open_corpus
from repkit.audio.synthetic import SYNTHETIC, SyntheticCorpus
from repkit.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "count", "speakers", "emotions"),
    [
        ("synthetic_a", 192, 8, 4),
        ("synthetic_b", 200, 8, 5),
        ("synthetic_c", 180, 6, 6),
        ("synthetic_unlabelled", 240, 24, 0),
    ],
)
def test_named_ones(name, count, speakers, emotions):
    corpus = open_corpus(name)
    listed = corpus.utterances()
    assert isinstance(corpus, Corpus)
    assert len(listed) == len(corpus) == count
    assert len({u.id for u in listed}) == count
    assert len({u.speaker for u in listed}) == speakers
    assert len({u.emotion for u in listed} - {None}) == emotions
    if emotions:
        assert {u.emotion for u in listed} >= {"anger", "happiness", "neutral", "sadness"}
    assert (listed[0].arousal is not None) == (name == "synthetic_c")
    assert {u.gender for u in listed} == {"female", "male"}


def test_sound_depends_on_seed_corpus_and_index_alone():
    first, second = open_corpus("synthetic_a"), open_corpus("synthetic_a")
    listed = first.utterances()
    late = first.read(listed[7])
    for u in reversed(second.utterances()[:12]):
        again = second.read(u)
        if u == listed[7]:
            np.testing.assert_array_equal(again, late)
    assert late.dtype == np.float32
    assert np.isfinite(late).all()
    assert 0.05 < np.abs(late).max() < 1.0
    np.testing.assert_array_equal(first.read(listed[7], max_duration_s=0.5), late[:8000])
    other = open_corpus("synthetic_a", options={"seed": 1})
    assert other.fingerprint() != first.fingerprint() == second.fingerprint()
    changed = other.read(other.utterances()[7])
    assert changed.shape != late.shape or not np.allclose(changed, late)
    renamed = SyntheticCorpus(SyntheticCorpus.Config(name="x", **SYNTHETIC["synthetic_a"]))
    shared = renamed.read(renamed.utterances()[7])
    assert shared.shape != late.shape or not np.allclose(shared, late)


def test_stream_skips_and_foreign_utterances_are_refused():
    corpus = open_corpus("synthetic_b")
    assert [u.id for u, _ in corpus.stream(skip=197)] == [u.id for u in corpus.utterances()[197:]]
    with pytest.raises(DataError, match="is not in corpus 'synthetic_b'"):
        corpus.read(open_corpus("synthetic_a").utterances()[0])


def test_settings_are_checked_all_at_once():
    with pytest.raises(UsageError) as caught:
        open_corpus("synthetic_a", options={"n_speakers": 0, "emotions": ["rage"], "speakers": 3})
    assert len(caught.value.problems) == 3
    with pytest.raises(UsageError, match="has no splits"):
        open_corpus("synthetic_a", split="train")


def test_it_is_fast_enough():
    corpus = open_corpus("synthetic_a")
    listed = corpus.utterances()[::8]
    corpus.read(listed[0])
    started = time.process_time()
    seconds = sum(len(corpus.read(u)) for u in listed) / 16000
    spent = time.process_time() - started
    assert 1.5 < seconds / len(listed) < 3.5
    assert len(listed) / spent > 25  # 100 or more on an idle core; the margin is for busy ones


def test_emotions_are_learnable_and_not_trivial():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    corpus = open_corpus("synthetic_a")
    listed = corpus.utterances()
    features = []
    for u in listed:
        x = corpus.read(u)
        frames = np.lib.stride_tricks.sliding_window_view(x, 512)[::256] * np.hanning(512)
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        bands = np.log(np.add.reduceat(power, np.arange(0, 257, 10), axis=1) + 1e-8)
        features.append(np.concatenate([bands.mean(0), bands.std(0)]))
    labels = [u.emotion for u in listed]
    guess = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        np.array(features),
        labels,
        groups=[u.speaker for u in listed],
        cv=LeaveOneGroupOut(),
    )
    uar = recall_score(labels, guess, average="macro")
    assert 0.5 < uar < 0.95  # chance is 0.25


def test_corpora_and_speakers_sound_different():
    def spectrum(name, speaker):
        corpus = open_corpus(name)
        chosen = [u for u in corpus.utterances() if u.speaker.endswith(f"/{speaker:03d}") and u.emotion == "neutral"]
        power = sum(np.abs(np.fft.rfft(corpus.read(u), 65536)[1:]) ** 2 for u in chosen)
        return 10 * np.log10(power.reshape(-1, 2048).mean(axis=1) + 1e-9)

    near, phone = spectrum("synthetic_a", 0), spectrum("synthetic_b", 0)
    high = slice(10, 14)  # 5 to 7 kHz: a telephone has nothing there but its own noise
    assert (near - near[:4].mean())[high].mean() > (phone - phone[:4].mean())[high].mean() + 3
    assert np.abs(near - spectrum("synthetic_a", 1)).mean() > 1.0
