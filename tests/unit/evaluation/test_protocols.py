import math
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from repkit.api import EvaluationProtocol, Utterance, splits
from repkit.api.splits import DevConfig, split_dev
from repkit.errors import DataError
from repkit.evaluation.audit import audit_folds
from repkit.evaluation.protocols import (
    Fixed,
    LeaveOneSessionOut,
    LeaveOneSpeakerGroupOut,
    LeaveOneSpeakerOut,
    SpeakerKFold,
)

EMOTIONS = ("anger", "happiness", "neutral", "sadness")


def corpus(n_speakers=6, n_each=3, sizes=None, name="toy", **extra):
    made = []
    for s in range(n_speakers):
        for k in range(sizes[s] if sizes else n_each * len(EMOTIONS)):
            made.append(
                Utterance(
                    id=f"{name}/s{s:02d}_{k:03d}",
                    corpus=name,
                    speaker=f"{name}/s{s:02d}",
                    session=f"{name}/{s // 2 + 1}",
                    gender=("female", "male")[s % 2],
                    emotion=EMOTIONS[k % len(EMOTIONS)],
                    extra={"part": extra["part"](s)} if "part" in extra else {},
                )
            )
    return made


def speakers(ids, utterances):
    of = {u.id: u.speaker for u in utterances}
    return {of[i] for i in ids}


PROTOCOLS = [
    LeaveOneSpeakerOut(),
    LeaveOneSpeakerGroupOut(),
    LeaveOneSpeakerGroupOut(LeaveOneSpeakerGroupOut.Config(n_groups=3, max_speakers=4)),
    LeaveOneSpeakerGroupOut(LeaveOneSpeakerGroupOut.Config(n_groups=3, max_speakers=4, gender_balanced=True)),
    LeaveOneSessionOut(),
    SpeakerKFold(SpeakerKFold.Config(k=3, seed=4)),
    Fixed(Fixed.Config(test=("s05", "toy/s04"))),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: type(p).__name__)
def test_every_protocol_keeps_speakers_apart_and_ignores_the_order(protocol):
    utterances = corpus(8)
    folds = protocol.folds(utterances)
    assert isinstance(protocol, EvaluationProtocol)
    shuffled = random.Random(3).sample(utterances, len(utterances))
    assert protocol.folds(shuffled) == folds
    audit_folds(folds, utterances)
    for fold in folds:
        assert fold.dev
        assert set(fold.train) | set(fold.dev) | set(fold.test) == {u.id for u in utterances}
        assert list(fold.train) == sorted(fold.train)
        assert len(fold.train) + len(fold.dev) + len(fold.test) == len(utterances)
    if not isinstance(protocol, Fixed):
        assert Counter(i for fold in folds for i in fold.test) == Counter(u.id for u in utterances)


def test_leave_one_speaker_out_names_and_rotates_dev():
    utterances = corpus(10)
    folds = LeaveOneSpeakerOut().folds(utterances)
    assert [fold.name for fold in folds] == [f"speaker_s{s:02d}" for s in range(10)]
    dev = [speakers(fold.dev, utterances) for fold in folds]
    assert all(len(one) == 1 for one in dev)
    assert len(set().union(*dev)) == 10


def test_two_corpora_keep_their_names_in_fold_names():
    folds = LeaveOneSpeakerOut().folds(corpus(2, name="a") + corpus(2, name="b/c"))
    assert [fold.name for fold in folds] == ["speaker_a_s00", "speaker_a_s01", "speaker_b_c_s00", "speaker_b_c_s01"]


def test_dev_holds_all_classes_and_both_genders_where_possible():
    # speakers 0 to 4 lack sadness, so that only 5 to 9 can complete dev
    utterances = [u for u in corpus(10) if not (u.emotion == "sadness" and u.speaker < "toy/s05")]
    config = LeaveOneSpeakerOut.Config(n_dev_speakers=2)
    gender = {u.speaker: u.gender for u in utterances}
    emotion = {u.id: u.emotion for u in utterances}
    for fold in LeaveOneSpeakerOut(config).folds(utterances):
        chosen = speakers(fold.dev, utterances)
        assert {gender[s] for s in chosen} == {"female", "male"}
        assert {emotion[i] for i in fold.dev} == set(EMOTIONS)
        assert {emotion[i] for i in fold.train} == set(EMOTIONS)


def faults_by_counting(dev, speakers, utterances):
    """The faults of a choice of dev speakers as the documentation of the split tells them, counted anew."""
    inside = Counter(u.emotion for u in utterances if u.speaker in dev)
    outside = Counter(u.emotion for u in utterances if u.speaker not in dev)
    classes = {u.emotion for u in utterances}
    gender = {u.speaker: u.gender for u in utterances}
    women, men = (sum(gender[s] == g for s in dev) for g in ("female", "male"))
    share = inside.total() / len(utterances) / (len(dev) / len(speakers))
    departure = round(max(0.0, abs(math.log2(share)) - 1), 6)
    return len(classes - set(outside)), len(classes - set(inside)), max(0, abs(women - men) - len(dev) % 2), departure


def test_dev_speakers_are_those_of_the_best_single_swaps():
    draw = random.Random(1)
    n_swapped = 0
    for case in range(30):
        utterances = [
            Utterance(id=f"c/{s}_{k}", corpus="c", speaker=f"c/{s}", gender=gender, emotion=draw.choice(said))
            for s, gender, said in (
                (f"{n:02d}", draw.choice(("female", "male", None)), draw.sample(EMOTIONS, draw.randint(1, 3)))
                for n in range(draw.randint(4, 12))
            )
            for k in range(draw.randint(1, 10))
        ]
        names = sorted({u.speaker for u in utterances})
        size = draw.randint(1, 3)
        start = case * size % len(names)
        order = names[start:] + names[:start]
        dev = order[:size]
        while True:
            swaps = [[t if one == s else one for one in dev] for s in dev for t in order if t not in dev]
            best = min(swaps, key=lambda swap: faults_by_counting(swap, names, utterances))  # the first of equal ones
            if faults_by_counting(best, names, utterances) >= faults_by_counting(dev, names, utterances):
                break
            dev, n_swapped = best, n_swapped + 1
        _, found = split_dev(utterances, DevConfig(n_dev_speakers=size), case, "x")
        assert speakers(found, utterances) == set(dev), case
    assert n_swapped > 20


def test_no_swap_is_tried_where_the_first_choice_has_no_fault(monkeypatch):
    tried, count = [], splits._least_faults
    monkeypatch.setattr(
        splits, "_least_faults", lambda inside, *more: tried.append(len(inside)) or count(inside, *more)
    )
    utterances = corpus(80, n_each=1)
    _, dev = split_dev(utterances, DevConfig(), 0, "x")
    assert tried == [1]
    assert speakers(dev, utterances) == {f"toy/s{s:02d}" for s in range(12)}


def test_the_only_speaker_of_a_class_stays_in_train():
    utterances = [u for u in corpus(5) if not (u.emotion == "sadness" and u.speaker != "toy/s02")]
    for fold in LeaveOneSpeakerOut().folds(utterances):
        if fold.name != "speaker_s02":
            assert "toy/s02" in speakers(fold.train, utterances)


def test_speaker_groups_follow_group_k_fold():
    sizes = [3, 50, 7, 22, 31, 9, 14, 41, 5, 17, 26, 11, 8, 29]
    utterances = corpus(14, sizes=sizes)
    folds = LeaveOneSpeakerGroupOut().folds(utterances)
    groups = np.array([u.speaker for u in utterances])
    theirs = {frozenset(groups[test]) for _, test in GroupKFold(6).split(np.zeros(len(groups)), groups=groups)}
    assert {frozenset(speakers(fold.test, utterances)) for fold in folds} == theirs
    assert [fold.name for fold in folds] == [f"group_{g}" for g in range(1, 7)]


def test_gender_balanced_groups_test_both_genders():
    utterances = corpus(24)
    of = {u.id: u.gender for u in utterances}
    plain = LeaveOneSpeakerGroupOut().folds(utterances)
    assert all(len({of[i] for i in fold.test}) == 1 for fold in plain)  # the trap the option is for
    flags = audit_folds(plain, utterances).flags
    assert any("one gender only" in flag for flag in flags)
    balanced = LeaveOneSpeakerGroupOut(LeaveOneSpeakerGroupOut.Config(gender_balanced=True)).folds(utterances)
    assert all(Counter(of[i] for i in fold.test) == {"female": 24, "male": 24} for fold in balanced)


def test_sessions():
    utterances = corpus(10)
    folds = LeaveOneSessionOut().folds(utterances)
    assert [fold.name for fold in folds] == [f"session_{n}" for n in range(1, 6)]
    assert speakers(folds[0].test, utterances) == {"toy/s00", "toy/s01"}


def test_dev_utterances_take_a_tenth_of_each_session_stratified():
    utterances = corpus(6, n_each=10)  # 40 per speaker, 80 per session, 20 per session and emotion
    protocol = LeaveOneSessionOut(LeaveOneSessionOut.Config(dev="utterances", seed=1))
    emotion = {u.id: (u.session, u.emotion) for u in utterances}
    for fold in protocol.folds(utterances):
        counts = Counter(emotion[i] for i in fold.dev)
        assert set(counts.values()) == {2}
        assert len(counts) == 2 * 4
    other = LeaveOneSessionOut(LeaveOneSessionOut.Config(dev="utterances", seed=2))
    assert other.folds(utterances)[0].dev != protocol.folds(utterances)[0].dev


def test_dev_utterances_keep_the_share_when_strata_are_small():
    utterances = corpus(6, n_each=5)  # 5 per speaker and emotion, sessions of 40
    utterances = [Utterance(id=u.id, corpus=u.corpus, speaker=u.speaker, emotion=u.emotion) for u in utterances]
    protocol = LeaveOneSpeakerOut(LeaveOneSpeakerOut.Config(dev="utterances"))
    for fold in protocol.folds(utterances):
        assert Counter(i[:7] for i in fold.dev) == {s: 2 for s in {i[:7] for i in fold.train}}


def test_no_dev():
    folds = LeaveOneSpeakerOut(LeaveOneSpeakerOut.Config(dev="none")).folds(corpus(2))
    assert [fold.dev for fold in folds] == [(), ()]


def test_speaker_k_fold_deals_genders_and_depends_on_the_seed():
    utterances = corpus(12)
    of = {u.id: u.gender for u in utterances}
    parts = {}
    for seed in (0, 1):
        folds = SpeakerKFold(SpeakerKFold.Config(k=3, seed=seed)).folds(utterances)
        assert all(Counter(of[i] for i in fold.test) == {"female": 24, "male": 24} for fold in folds)
        parts[seed] = [fold.test for fold in folds]
    assert parts[0] != parts[1]


def test_fixed_by_lists_and_by_column():
    utterances = corpus(6, part=lambda s: ("Train", "train", "train", "dev", "test", "")[s])
    (by_column,) = Fixed(Fixed.Config(column="part")).folds(utterances)
    assert speakers(by_column.test, utterances) == {"toy/s04"}
    assert speakers(by_column.dev, utterances) == {"toy/s03"}
    assert speakers(by_column.train, utterances) == {"toy/s00", "toy/s01", "toy/s02"}
    config = Fixed.Config(train=("s00", "s01", "s02"), dev_speakers=("s03",), test=("toy/s04",))
    assert Fixed(config).folds(utterances) == [by_column]
    flags = audit_folds([by_column], utterances).flags
    assert any("never tested" in flag for flag in flags)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LeaveOneSpeakerOut().folds([]), "no utterance"),
        (lambda: LeaveOneSpeakerOut().folds(corpus(1)), "no protocol can do it with this one speaker"),
        (lambda: LeaveOneSpeakerOut().folds(corpus(2)), "--set protocol.dev=utterances"),
        (lambda: LeaveOneSpeakerOut().folds(corpus(3) + corpus(1)), "'toy/s00_000' stands in the corpora 2 times"),
        (lambda: LeaveOneSpeakerOut(LeaveOneSpeakerOut.Config(n_dev_speakers=3)).folds(corpus(4)), "at most 2"),
        (lambda: LeaveOneSpeakerOut().folds([*corpus(3), Utterance(id="toy/x", corpus="toy")]), "'toy/x' (and 0 more)"),
        (lambda: LeaveOneSessionOut().folds([Utterance(id="a/b", corpus="a", speaker="a/s")]), "no session"),
        (
            lambda: SpeakerKFold(SpeakerKFold.Config(k=9)).folds(corpus(4)),
            "4 speaker(s) with usable labels for 9 folds",
        ),
        (
            lambda: LeaveOneSpeakerGroupOut(LeaveOneSpeakerGroupOut.Config(n_groups=6, max_speakers=2)).folds(
                corpus(4)
            ),
            "4 speaker(s) with usable labels for 6 folds",
        ),
        (lambda: Fixed(Fixed.Config(test=("s99",))).folds(corpus(4)), "'s99' is not in the corpora"),
        (lambda: Fixed(Fixed.Config()).folds(corpus(4)), "neither column nor test is set"),
        (lambda: Fixed(Fixed.Config(train=("s00",), test=("s00",))).folds(corpus(4)), "in train and in test"),
        (lambda: Fixed(Fixed.Config(column="prt")).folds(corpus(4, part=lambda s: "x")), "did you mean 'part'"),
        (lambda: Fixed(Fixed.Config(column="part")).folds(corpus(4, part=lambda s: "tset")), "did you mean 'test'"),
        (lambda: Fixed(Fixed.Config(column="part")).folds(corpus(4, part=lambda s: "train")), "in the test part"),
        (
            lambda: Fixed(Fixed.Config(test=("s00",))).folds(corpus(2, name="a") + corpus(2, name="b")),
            "could be a/s00 or",
        ),
    ],
)
def test_problems_are_named(make, words):
    with pytest.raises(DataError) as caught:
        make()
    assert words in caught.value.message


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "n_folds"), [("emodb", 10), ("emovo", 6), ("ravdess", 6), ("urdu", 6)])
def test_folds_of_the_real_corpora(real_data, name, n_folds):
    import csv

    with open(real_data / name / "metadata.csv", newline="", encoding="utf-8") as file:
        utterances = [
            Utterance(
                id=f"{name}/{row['file_name']}",
                corpus=name,
                speaker=f"{name}/{row['speaker_id']}",
                gender=row["gender"],
                emotion=row["emotion"],
            )
            for row in csv.DictReader(file)
        ]
    folds = LeaveOneSpeakerGroupOut().folds(utterances)
    assert len(folds) == n_folds
    emotion = {u.id: u.emotion for u in utterances}
    classes = set(emotion.values())
    for fold in folds:
        rest = len(utterances) - len(fold.test)
        assert 0.07 < len(fold.dev) / rest < 0.21
        assert {emotion[i] for i in fold.dev} == classes
        assert {emotion[i] for i in fold.train} == classes
    audit_folds(folds, utterances)
