from dataclasses import replace

import pytest

from repkit.api import Fold, Utterance
from repkit.errors import DataError, SpeakerLeakError
from repkit.evaluation.audit import audit_folds, listed_folds, single_class_flags, unknown_speaker_flags


def utterance(i, speaker, emotion="anger", **more):
    return Utterance(id=i, corpus="c", speaker=speaker, emotion=emotion, **more)


UTTERANCES = [
    utterance(f"c/{s}{k}", f"c/{s}", emotion)
    for s in "abcd"
    for k, emotion in enumerate(("anger", "neutral", "anger", "neutral"))
]


def ids(*speakers):
    return tuple(f"c/{s}{k}" for s in speakers for k in range(4))


CLEAN = [
    Fold("one", ids("a", "b"), ids("c"), ids("d")),
    Fold("two", ids("d", "c"), ids("b"), ids("a")),
    Fold("three", ids("d", "a"), ids("b"), ids("c")),
    Fold("four", ids("d", "a"), ids("c"), ids("b")),
]


def test_clean_folds_have_no_flag():
    assert audit_folds(CLEAN, UTTERANCES).flags == ()


@pytest.mark.parametrize(
    ("fold", "parts"),
    [
        (Fold("bad", ids("a", "b"), ids("c"), ("c/d0", "c/b1")), "c/b in train and in test"),
        (Fold("bad", ids("a", "b"), ids("c"), ("c/d0", "c/c1")), "c/c in dev and in test"),
        (Fold("bad", ids("a", "b"), ids("b"), ids("d")), "c/b in train and in dev"),
    ],
)
def test_a_leak_names_fold_and_speakers(fold, parts):
    with pytest.raises(SpeakerLeakError) as caught:
        audit_folds([*CLEAN, fold], UTTERANCES)
    assert "'bad'" in caught.value.message
    assert parts in caught.value.message
    assert len(caught.value.problems) == 1


def test_dev_overlap_is_flagged_only_on_request_and_never_excuses_test():
    fold = Fold("one", ("c/a0", "c/a1", *ids("b", "c")), ("c/a2", "c/a3"), ids("d"))
    assert any(
        "dev is not speaker-disjoint" in f for f in audit_folds([fold], UTTERANCES, allow_dev_overlap=True).flags
    )
    leak = Fold("one", ids("a", "b"), ("c/d0",), ("c/d1",))
    with pytest.raises(SpeakerLeakError):
        audit_folds([leak], UTTERANCES, allow_dev_overlap=True)


def flags(folds=CLEAN, utterances=UTTERANCES, **more):
    return "\n".join(audit_folds(folds, utterances, **more).flags)


def test_flags():
    twice = Fold("one", (*ids("a", "b"), "c/a0"), ids("c"), ids("d"))
    assert "1 utterances stand twice in a train part (first c/a0 in fold one)" in flags([twice])
    assert "12 of 16 utterances are never tested" in flags(CLEAN[:1])
    again = Fold("again", ids("a", "b"), ids("c"), ids("d"))
    assert "4 utterances are tested in several folds" in flags([*CLEAN, again])
    no_test_class = Fold("one", ids("a", "b"), ids("c"), ("c/d0", "c/d2"))
    assert "class neutral is absent from the test part of 1 of 1 folds (one)" in flags([no_test_class])
    assert "absent from the dev part" in flags(labels={i: "x" if i.startswith("c/a") else "y" for i in ids(*"abcd")})
    assert "the encoder has heard 1 of 4 test speakers" in flags(encoder_speakers=["c/a", "other/x"])
    assert "condition C: the encoder has heard 4 of 4" in flags(
        encoder_speakers={"C": [f"c/{s}" for s in "abcd"], "Li": []}
    )
    assert "transductive: normalisation per_speaker" in flags(transductive=["normalisation per_speaker"])
    heard = Fold("one", ids("a", "b"), ids("c"), ids("d"), unlabelled=("c/d0",))
    assert "hears unlabelled audio of test speakers in 1 of 1" in flags([heard])
    hashes = {"c/a0": "h", "c/d0": "h", "c/b0": "k"}
    assert "1 sounds stand under several ids (first c/a0 = c/d0); 1 such pairs" in flags(CLEAN[:1], audio_hashes=hashes)
    assert flags(audio_hashes={"c/a0": "h", "c/b0": "k"}) == ""
    assert "no dev part in 1 of 1 folds" in flags([Fold("one", ids("a"), (), ids("d"))])


def test_embeddings_that_do_not_say_whom_their_encoder_has_heard_are_flagged():
    said = (
        "condition C: its embeddings do not say whom their encoder has heard ({}): the test speakers may be among them"
    )
    for source in (
        {"encoder": "toy"},
        {"encoder": "toy", "speakers": None, "corpora": None},
        {"encoder": "toy", "speakers": "c/a"},  # a text is no list
        {"encoder": "toy", "corpora": [{"name": "c"}]},
    ):
        assert unknown_speaker_flags("C", [source]) == [said.format("toy")], source
    told = [{"speakers": []}, {"speakers": ["c/a"], "corpora": [{"name": "c"}]}, {"corpora": []}]
    assert unknown_speaker_flags("C", told) == []
    # what is joined says what all of them have heard, which hides the one that says nothing
    parts = [{"dim": 1, "source": source} for source in ({"encoder": "toy"}, {"name": "wav", "corpora": None}, *told)]
    joined = {"encoder": "joined", "speakers": ["c/a"], "corpora": [{"name": "c"}], "parts": parts}
    assert unknown_speaker_flags("C", [joined]) == [said.format("toy, wav")]


def test_speakers_of_one_class_are_counted():
    labels = {u.id: u.emotion for u in UTTERANCES}
    assert single_class_flags(UTTERANCES, labels) == []
    # a says anger alone; of b one of two classes is not used; e has no label, f no speaker
    more = [utterance("c/e0", "c/e", None), utterance("c/f0", None)]
    labels |= {i: "anger" for i in ids("a")} | {"c/b1": None, "c/b3": None, "c/e0": None, "c/f0": "fear"}
    assert single_class_flags([*UTTERANCES, *more], labels) == [
        "2 of 4 speakers have a single class (c/a, c/b): statistics by speaker take the class away"
    ]


def test_folds_of_a_protocol_that_are_none_or_list_a_tested_utterance_twice_are_refused():
    assert listed_folds(iter(CLEAN)) == CLEAN
    with pytest.raises(TypeError, match="a tuple among the folds; repkit.api.Fold was expected"):
        listed_folds([CLEAN[0], ("one", (), (), ())])
    for part in ("dev", "test"):
        twice = replace(CLEAN[0], **{part: ("c/d0", "c/d1", "c/d0")})
        with pytest.raises(ValueError, match=f"fold 'one', {part} part: 'c/d0' stands twice; every id once"):
            listed_folds([twice])
    # in train it weighs more, which the audit says
    assert len(listed_folds([replace(CLEAN[0], train=("c/a0", "c/a0"))])) == 1


def test_utterances_in_no_part_are_counted():
    # 16 utterances: 4 trained on, 4 tested, 2 heard without labels; a0 in train of another fold
    folds = [Fold("one", ids("a"), (), ids("d"), unlabelled=("c/b0", "c/b1"))]
    assert "6 of 16 utterances are in no part of any fold (c/b2, c/b3, c/c0, c/c1, c/c2 and 1 more)" in flags(folds)
    assert "in no part" not in flags(CLEAN[:1])
    folds.append(Fold("two", ids("c"), ("c/b2",), ids("d")))
    assert "1 of 16 utterances are in no part of any fold (c/b3): nothing is trained or tested on them" in flags(folds)


def namesakes(**names):
    known = [Utterance(id=f"{c}/{n}", corpus=c, speaker=f"{c}/{n}", emotion="anger") for c in names for n in names[c]]
    return [flag for flag in audit_folds([two_parts(known)], known).flags if "namesakes" in flag]


def two_parts(known):
    return Fold("one", tuple(u.id for u in known[1:]), (), (known[0].id,))


def test_speakers_of_the_same_names_in_two_corpora_are_told():
    (flag,) = namesakes(day2=["p03", "p08", "p09"], day1=["P09", "P08", "P03", "P10"], other=["P03", "x", "y"])
    assert flag == (
        "all 3 speakers of corpus day2 have namesakes in corpus day1 (p03, p08, p09), who count as other people: recordings of "
        "the same people belong into one corpus"
    )
    assert namesakes(a=["03", "08", "09"], b=["03", "08", "09"]) == []  # most corpora number their speakers
    assert namesakes(a=["x", "y"], b=["x", "y"]) == []
    assert namesakes(a=["x", "y", "z"], b=["x", "y", "w"]) == []


def test_test_parts_of_one_gender_are_flagged_where_genders_are_known():
    fold = [Fold("one", ids("a", "b"), (), ids("c", "d"))]
    for genders, flagged in (
        ("fmff", True),
        ("fmmm", True),
        ("fmfm", False),
        ("ffff", False),
        ("fm..", False),
        ("fmf.", False),
    ):
        words = dict(zip("abcd", ({"f": "female", "m": "male"}.get(g) for g in genders), strict=True))
        known = [utterance(u.id, u.speaker, u.emotion, gender=words[u.speaker[-1]]) for u in UTTERANCES]
        assert ("of one gender only" in flags(fold, known)) is flagged, genders


def test_sentences_and_sessions_shared_between_train_and_test():
    said = [
        utterance(u.id, u.speaker, u.emotion, text=f" Say {u.id[-1]}", session="c/s1" if u.speaker < "c/c" else "c/s2")
        for u in UTTERANCES
    ]
    text = flags([Fold("one", ids("a"), (), ids("b"))], said)
    assert "4 of 4 test utterances say a sentence that is also in train" in text
    assert "4 of 4 test utterances come from a session that is also in train" in text
    some = [u if u.id in ("c/b0", "c/a0") else utterance(u.id, u.speaker, u.emotion) for u in said]
    some = [replace(u, text="say 0") if u.text else u for u in some]
    text = flags([Fold("one", ids("a"), (), ids("b"))], some)
    assert "1 of the 1 test utterances whose sentence is known (of 4) say a sentence that is also in train" in text
    assert "1 of the 1 test utterances whose session is known (of 4) come from a session" in text


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", ".", "", " a", "a\nb"])
def test_a_fold_that_cannot_have_a_folder_is_refused(name):
    with pytest.raises(DataError, match="its name cannot be that of a folder"):
        audit_folds([Fold(name, ids("a"), ids("b"), ids("c"))], UTTERANCES)


@pytest.mark.parametrize(
    ("folds", "utterances", "words"),
    [
        ([], UTTERANCES, "no fold"),
        ([CLEAN[0], CLEAN[0]], UTTERANCES, "are named 'one'"),
        ([Fold("e", (), (), ids("a"))], UTTERANCES, "the train part is empty"),
        ([Fold("e", ids("a"), (), ())], UTTERANCES, "the test part is empty"),
        ([Fold("e", ids("a"), (), ("c/zz",))], UTTERANCES, "'c/zz' is no utterance"),
        ([Fold("e", ("c/a0",), (), ("c/b0",))], [utterance("c/a0", "c/a"), utterance("c/b0", None)], "has no speaker"),
    ],
)
def test_what_cannot_be_audited_is_refused(folds, utterances, words):
    with pytest.raises(DataError, match=words):
        audit_folds(folds, utterances)
