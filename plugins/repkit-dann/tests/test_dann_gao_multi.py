"""The multi-corpus split: the named test speakers, other corpora, dev, rotations, held-out corpora, bad input."""

import random

import pytest
from pydantic import ValidationError
from repkit_dann.gao_multi import GaoMulti

from repkit import api

SAVEE = {"DC": "male", "JE": "male", "JK": "male", "KL": "male"}
EMODB = {
    s: "male" if s in ("03", "10", "11", "12", "15") else "female"
    for s in ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]
}
IEMOCAP = {f"{n:02d}{g}": {"F": "female", "M": "male"}[g] for n in range(1, 6) for g in "FM"}
MSP = {f"{g}{n:02d}": {"F": "female", "M": "male"}[g] for n in range(1, 7) for g in "FM"}
OTHER = {f"s{n}": "female" if n % 2 else "male" for n in range(10)}


def corpus(name, speakers, n=6, session=None):
    emotions = ("anger", "neutral", "sadness")
    return [
        api.Utterance(
            id=f"{name}/{speaker}_{i}",
            corpus=name,
            speaker=f"{name}/{speaker}",
            session=session and f"{name}/{session(speaker)}",
            gender=gender,
            emotion=emotions[i % 3],
        )
        for speaker, gender in speakers.items()
        for i in range(n)
    ]


def paper():
    return [
        *corpus("iemocap", IEMOCAP, session=lambda s: s[:2]),
        *corpus("msp_improv", MSP, session=lambda s: s[1:]),
        *corpus("savee", SAVEE),
        *corpus("emodb", EMODB),
    ]


def speakers(ids, of=None):
    return {i.rpartition("_")[0] for i in ids if of is None or i.startswith(f"{of}/")}


def folds(utterances, **settings):
    return GaoMulti(GaoMulti.Config(**settings)).folds(utterances)


def test_the_papers_corpora():
    (fold,) = folds(paper())
    assert fold.name == "multi"
    assert speakers(fold.test) == {
        "iemocap/05F", "iemocap/05M", "msp_improv/F06", "msp_improv/M06", "savee/KL", "emodb/15", "emodb/16",
    }  # fmt: skip
    parts = [speakers(part) for part in (fold.train, fold.dev, fold.test)]
    assert sum(map(len, parts)) == len(set().union(*parts))  # no speaker in two of them
    assert sorted(fold.train + fold.dev + fold.test) == sorted(u.id for u in paper())
    # 10 % of 8, 10, 3 and 8 training speakers: one each
    assert {name: len(speakers(fold.dev, name)) for name in ("iemocap", "msp_improv", "savee", "emodb")} == {
        "iemocap": 1, "msp_improv": 1, "savee": 1, "emodb": 1,
    }  # fmt: skip
    assert fold.unlabelled == ()


def test_sessions_may_be_spelt_otherwise():
    (fold,) = folds([*corpus("iemocap", IEMOCAP, session=lambda s: f"Session{int(s[:2])}"), *corpus("msp_improv", MSP)])
    assert speakers(fold.test) == {"iemocap/05F", "iemocap/05M", "msp_improv/F06", "msp_improv/M06"}
    (fold,) = folds(corpus("emodb", {s.lstrip("0"): g for s, g in EMODB.items()}), rotations=1)
    assert speakers(fold.test) == {"emodb/15", "emodb/16"}


def test_rotations_test_every_speaker_and_start_again():
    several = folds(paper(), rotations=6)
    assert [fold.name for fold in several] == [f"rotation_{r}" for r in range(1, 7)]
    assert set().union(*(speakers(fold.test) for fold in several)) == {u.speaker for u in paper()}
    assert speakers(several[1].test, "emodb") == {"emodb/03", "emodb/08"}
    assert speakers(several[4].test, "savee") == {"savee/KL"}  # its four speakers have had their turn
    for fold in several:
        assert not speakers(fold.test) & speakers(fold.train + fold.dev)


def test_other_corpora_give_a_fifth_of_their_speakers_of_both_genders():
    utterances = [*corpus("mine", OTHER), *corpus("savee", SAVEE)]
    (fold,) = folds(utterances)
    tested = speakers(fold.test, "mine")
    assert len(tested) == 2
    assert {OTHER[s.removeprefix("mine/")] for s in tested} == {"female", "male"}
    (half,) = folds(utterances, test_share=0.5, named=False)
    assert len(speakers(half.test, "mine")) == 5
    assert len(speakers(half.test, "savee")) == 2
    several = folds(corpus("mine", OTHER), rotations=5)
    assert set().union(*(speakers(fold.test) for fold in several)) == {f"mine/{s}" for s in OTHER}


def test_dev():
    (fold,) = folds(corpus("mine", OTHER, n=20), dev="utterances", dev_fraction=0.1)
    assert len(fold.dev) == 8 * 2  # a tenth of 20 of each training speaker
    assert speakers(fold.dev) == speakers(fold.train)
    assert not speakers(fold.dev) & speakers(fold.test)
    (fold,) = folds(corpus("mine", OTHER), dev="none")
    assert fold.dev == ()
    (fold,) = folds(corpus("mine", OTHER), n_dev_speakers=3)
    assert len(speakers(fold.dev)) == 3


def test_order_does_not_matter():
    utterances = [*paper(), *corpus("mine", OTHER)]
    shuffled = list(utterances)
    random.Random(1).shuffle(shuffled)
    assert folds(utterances, rotations=2) == folds(shuffled, rotations=2)


def test_held_out_corpora_are_tested_whole():
    (fold,) = folds([*paper(), *corpus("mine", {"a": "female"})], hold_out=["emodb", "mine"])
    assert speakers(fold.test, "emodb") == {f"emodb/{s}" for s in EMODB}
    assert speakers(fold.test, "mine") == {"mine/a"}
    assert not {i for i in fold.train + fold.dev if i.startswith(("emodb", "mine"))}
    assert speakers(fold.test, "savee") == {"savee/KL"}


@pytest.mark.parametrize(
    ("utterances", "settings", "message"),
    [
        (corpus("mine", {"a": "female"}), {}, "1 speaker"),
        (corpus("mine", {"a": "female", "b": "male"}), {}, "at least 3 were expected"),
        (corpus("savee", {"KL": "male"}), {}, "others to train on"),
        (corpus("savee", {"KL": "male", "DC": "male"}), {}, "1 speaker is left outside"),
        (corpus("emodb", OTHER), {}, "speaker 15 and 16 to test"),
        (corpus("iemocap", OTHER), {}, "named = false"),
        (corpus("mine", OTHER), {"hold_out": ["yours"]}, "hold_out names yours; the corpora are mine"),
        (corpus("mine", OTHER), {"hold_out": ["mine"]}, "names all corpora"),
        (corpus("mine", OTHER), {"n_dev_speakers": 8}, "expected at most 7"),
        ([], {}, "no utterance"),
        ([api.Utterance(id="mine/a", corpus="mine")], {}, "no speaker"),
    ],
)
def test_bad_input(utterances, settings, message):
    with pytest.raises(api.DataError, match=message):
        folds(utterances, **settings)


def test_bad_settings():
    for wrong in ({"rotations": 0}, {"hold_out": ["a", "a"]}, {"test_share": 1.0}):
        with pytest.raises(ValidationError):
            GaoMulti.Config(**wrong)
