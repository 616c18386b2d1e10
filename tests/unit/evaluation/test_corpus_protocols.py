"""Protocols over whole corpora, and the helpers of repkit.api that split by speaker."""

from collections import Counter

import pytest

from repkit.api import DataError, DevConfig, Utterance, speaker_parts, split_dev
from repkit.evaluation.corpus_protocols import LeaveOneCorpusOut, TrainTestCorpora


def corpus(name, n_speakers, per_speaker=6, emotions=("anger", "neutral", "sadness")):
    return [
        Utterance(
            id=f"{name}/s{s:02d}_{i}", corpus=name, speaker=f"{name}/s{s:02d}", gender=("female", "male")[s % 2],
            emotion=emotions[i % len(emotions)],
        )
        for s in range(n_speakers)
        for i in range(per_speaker)
    ]  # fmt: skip


A, B, C = corpus("a", 4), corpus("b", 10), corpus("c", 24)


def corpora_of(ids):
    return Counter(i.split("/")[0] for i in ids)


def speakers_of(ids):
    return {i.rsplit("_", 1)[0] for i in ids}


def test_every_corpus_has_its_turn_and_is_tested_whole():
    folds = LeaveOneCorpusOut().folds([*C, *A, *B])
    assert [fold.name for fold in folds] == ["corpus_a", "corpus_b", "corpus_c"]
    assert [corpora_of(fold.test) for fold in folds] == [{"a": 24}, {"b": 60}, {"c": 144}]
    for fold in folds:
        assert not set(corpora_of(fold.test)) & set(corpora_of((*fold.train, *fold.dev)))
        assert not speakers_of(fold.train) & speakers_of(fold.dev)
        assert len(fold.train) + len(fold.dev) + len(fold.test) == 228


def test_dev_has_speakers_of_every_training_corpus_and_train_keeps_most_of_each():
    """A window over all speakers at once would have spent whole corpora on dev."""
    for fold in LeaveOneCorpusOut().folds([*A, *B, *C]):
        sizes = {c: len({u.speaker for u in us}) for c, us in (("a", A), ("b", B), ("c", C))}
        held = Counter(speaker.split("/")[0] for speaker in speakers_of(fold.dev))
        trained = set(corpora_of(fold.train))
        assert set(held) == trained
        # 15 % rounded, at least one; an even number where both genders fit under 20 %
        assert held == {name: {"a": 1, "b": 2, "c": 4}[name] for name in trained}, sizes


def test_a_corpus_of_one_speaker_stays_in_train():
    train, dev = split_dev([*A, *corpus("solo", 1)], DevConfig(), 0, "fold")
    assert corpora_of(dev) == {"a": 6}
    assert corpora_of(train) == {"a": 18, "solo": 6}


def test_corpora_of_one_speaker_each_give_one_of_them_to_dev():
    train, dev = split_dev([u for n in "xyz" for u in corpus(n, 1)], DevConfig(), 0, "fold")
    assert len(speakers_of(dev)) == 1
    assert len(speakers_of(train)) == 2


def test_held_out_corpora_are_never_trained_on():
    folds = LeaveOneCorpusOut(LeaveOneCorpusOut.Config(hold_out=("a", "c"))).folds([*A, *B, *C])
    assert [(fold.name, set(corpora_of((*fold.train, *fold.dev)))) for fold in folds] == [
        ("corpus_a", {"b"}),
        ("corpus_c", {"b"}),
    ]


def test_train_on_some_test_on_others():
    def fold(**settings):
        (one,) = TrainTestCorpora(TrainTestCorpora.Config(**settings)).folds([*A, *B, *C])
        return one.name, set(corpora_of((*one.train, *one.dev))), set(corpora_of(one.test))

    assert fold(train=("b",)) == ("train_b", {"b"}, {"a", "c"})
    assert fold(hold_out=("c",)) == ("train_a-b", {"a", "b"}, {"c"})
    assert fold(train=("a",), hold_out=("b",)) == ("train_a", {"a"}, {"b"})


@pytest.mark.parametrize(
    ("protocol", "utterances", "said"),
    [
        (LeaveOneCorpusOut(), A, "one corpus (a); at least 2 were expected"),
        (LeaveOneCorpusOut(LeaveOneCorpusOut.Config(hold_out=("a", "b"))), [*A, *B], "every corpus is held out"),
        (
            LeaveOneCorpusOut(LeaveOneCorpusOut.Config(hold_out=("bb",))),
            [*A, *B],
            "protocol.hold_out: 'bb' is no corpus",
        ),
        (LeaveOneCorpusOut(), [*A, *corpus("d", 1)], "1 speaker is left outside the test part"),
        (
            TrainTestCorpora(TrainTestCorpora.Config(train=("a",), hold_out=("a",))),
            [*A, *B],
            "a both in train and in hold",
        ),
        (TrainTestCorpora(), [*A, *B], "no corpus to test"),
        (TrainTestCorpora(TrainTestCorpora.Config(train=("a", "b"))), [*A, *B], "no corpus to test"),
        (TrainTestCorpora(TrainTestCorpora.Config(hold_out=("a", "b"))), [*A, *B], "no corpus to train on"),
    ],
)
def test_what_leaves_nothing_on_one_side_is_refused(protocol, utterances, said):
    with pytest.raises(DataError) as caught:
        protocol.folds(utterances)
    assert said in caught.value.message


def test_speaker_parts_balance_genders_and_rotate_through_everybody():
    tested = Counter()
    for rotation in range(12):
        train, dev, test = speaker_parts(C, (0.1, 1 / 12), rotation)
        parts = [speakers_of(part) for part in (train, dev, test)]
        assert [len(part) for part in parts] == [20, 2, 2]
        assert sum(map(len, (train, dev, test))) == len(C)
        tested.update(parts[2])
        genders = Counter(u.gender for u in C if u.id in test)
        assert genders == {"female": 6, "male": 6}
    assert set(tested.values()) == {1}
    assert len(tested) == 24


def test_speaker_parts_depend_on_names_and_seed_only():
    assert speaker_parts(B, seed=3) == speaker_parts(B[::-1], seed=3)
    assert len({speaker_parts(B, seed=seed)[2] for seed in range(5)}) > 1


def test_speaker_parts_need_three_speakers():
    assert [len(part) for part in speaker_parts(corpus("d", 3))] == [6, 6, 6]
    with pytest.raises(DataError, match=r"corpus 'd': 2 speaker\(s\)"):
        speaker_parts(corpus("d", 2))
