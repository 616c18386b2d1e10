import numpy as np
import pytest

from repkit.errors import DataError
from repkit.evaluation import probe as module
from repkit.evaluation.probe import choose_points, probe, shuffle_labels

EMOTIONS = ("anger", "neutral", "sadness")


def world(n_corpora=2, n_speakers=4, n_each=6):
    """Ids with the corpus, speaker and emotion of each; every speaker has each emotion equally often."""
    rows = []
    for c in range(n_corpora):
        for s in range(n_speakers):
            rows += [
                (f"c{c}/{s}_{k:02d}", f"c{c}", f"c{c}/{s}", EMOTIONS[k % 3]) for k in range(n_each * len(EMOTIONS))
            ]
    ids = [row[0] for row in rows]
    corpus, speaker, emotion = ({row[0]: row[place] for row in rows} for place in (1, 2, 3))
    strata = {row[2]: row[1] for row in rows}
    return ids, corpus, speaker, emotion, strata


def one_hot(names):
    kinds = sorted(set(names))
    return np.array([[float(name == kind) for kind in kinds] for name in names])


def noise(values, seed=0, size=0.3, width=24):
    rng = np.random.default_rng(seed)
    return np.hstack([values, np.zeros((len(values), width))]) + size * rng.normal(
        size=(len(values), values.shape[1] + width)
    )


def test_what_can_be_told_is_told_and_the_control_is_at_chance():
    ids, corpus, speaker, emotion, strata = world(3, 6)
    for classes, constant in ((corpus, True), (emotion, False)):
        points = choose_points(ids, classes, speaker, strata)
        values = noise(3 * one_hot([classes[i] for i in ids]))
        found = probe(values[points.places], points, constant, 6)
        assert found["uar"] > 0.97
        assert found["chance"] == pytest.approx(1 / 3)
        assert np.mean(found["shuffled"]) == pytest.approx(1 / 3, abs=0.12)
        assert (found["n"], found["n_speakers"], found["n_classes"]) == (324, 18, 3)


def test_vectors_that_say_nothing_give_chance():
    ids, corpus, speaker, emotion, strata = world(2, 8)
    values = np.random.default_rng(0).normal(size=(len(ids), 20))
    for classes, constant, chance in ((corpus, True, 1 / 2), (emotion, False, 1 / 3)):
        points = choose_points(ids, classes, speaker, strata)
        found = probe(values[points.places], points, constant, 2, "key")
        assert found["uar"] == pytest.approx(chance, abs=0.12)
        assert probe(values[points.places], points, constant, 2, "key") == found


def test_voices_do_not_tell_the_corpus():
    # the vector names the speaker and nothing else: a probe that saw the same voices would be right always
    ids, corpus, speaker, _, strata = world(2, 8)
    values = noise(4 * one_hot([speaker[i] for i in ids]), size=0.1)
    points = choose_points(ids, corpus, speaker, strata)
    assert probe(values[points.places], points, True, 1)["uar"] < 0.7
    for fold in set(points.folds):
        assert not set(points.speakers[points.folds == fold]) & set(points.speakers[points.folds != fold])


def test_every_corpus_is_both_learnt_and_tested():
    ids, corpus, speaker, _, strata = world(4, 2)
    points = choose_points(ids, corpus, speaker, strata, key="any")
    assert points.classes == ("c0", "c1", "c2", "c3")
    for place in range(4):
        assert len(set(points.folds[points.labels == place])) == 2


def test_what_is_left_out():
    ids, corpus, speaker, emotion, strata = world(3, 2)
    lone = [i for i in ids if not i.startswith("c2/1")]
    points = choose_points(lone, corpus, speaker, strata)
    assert (points.classes, points.left_out) == (("c0", "c1"), ("c2",))
    assert not any(lone[place].startswith("c2") for place in points.places)
    # three speakers are too few; without a class or a speaker an utterance is no point
    assert choose_points([i for i in ids if i.startswith(("c0", "c1/0"))], corpus, speaker, strata) is None
    some = {i: name for i, name in emotion.items() if name != "anger"}
    assert choose_points(ids, some, speaker, strata).classes == ("neutral", "sadness")
    nobody = {i: name for i, name in speaker.items() if not i.startswith("c0")}
    assert {ids[place][:2] for place in choose_points(ids, emotion, nobody, strata).places} == {"c1", "c2"}


def test_points_are_as_many_of_each_class_and_the_same_in_any_order(monkeypatch):
    monkeypatch.setattr(module, "MOST_POINTS", 60)
    ids, corpus, speaker, _, strata = world(2, 4, n_each=10)
    ids = [i for i in ids if corpus[i] == "c0" or i.endswith(("_00", "_01", "_02"))]
    points = choose_points(ids, corpus, speaker, strata)
    assert np.bincount(points.labels).tolist() == [30, 12]
    turned = choose_points(ids[::-1], corpus, speaker, strata)
    assert {ids[::-1][place] for place in turned.places} == {ids[place] for place in points.places}


def test_how_labels_are_shuffled():
    ids, corpus, speaker, emotion, strata = world(2, 4)
    draw = np.random.default_rng(0)
    points = choose_points(ids, emotion, speaker, strata)
    labels, folds = shuffle_labels(points, False, draw)
    assert not np.array_equal(labels, points.labels)
    assert folds is points.folds
    for name in set(points.speakers):
        here = points.speakers == name
        assert np.bincount(labels[here]).tolist() == np.bincount(points.labels[here]).tolist()
    points = choose_points(ids, corpus, speaker, strata)
    labels, folds = shuffle_labels(points, True, draw)
    given = {name: set(labels[points.speakers == name].tolist()) for name in set(points.speakers)}
    assert all(len(of) == 1 for of in given.values())
    assert sorted(next(iter(of)) for of in given.values()) == [0] * 4 + [1] * 4
    assert all(len(set(folds[labels == place])) > 1 for place in (0, 1))


def test_a_diverged_layer_is_refused():
    ids, corpus, speaker, _, strata = world()
    points = choose_points(ids, corpus, speaker, strata)
    values = np.full((len(points.places), 3), np.nan)
    with pytest.raises(DataError, match="not finite"):
        probe(values, points, True, 1, "0/f/corpus")
