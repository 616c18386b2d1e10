"""The protocols on hand-made utterances and on the real lists of speakers."""

import os
from pathlib import Path

import pytest
from repkit_cross_corpus.corpus_pairs import CorpusPairs
from repkit_cross_corpus.parry_union import ParryUnion

from repkit import api

EMOTIONS = ("anger", "happiness", "neutral")


def corpus(name, speakers, emotions=EMOTIONS, takes=1):
    return [
        api.Utterance(
            id=f"{name}/{speaker}_{emotion}_{take}",
            corpus=name,
            speaker=f"{name}/{speaker}",
            gender={"f": "female", "m": "male"}.get(speaker[-1]),
            emotion=emotion,
        )
        for speaker in speakers
        for emotion in emotions
        for take in range(takes)
    ]


def numbered(n):
    return [f"{i:02d}{'fm'[i % 2]}" for i in range(n)]


EMOVO = corpus("emovo", ("f1", "f2", "f3", "m1", "m2", "m3"))
SAVEE = corpus("savee", ("DC", "JE", "JK", "KL"))
IEMOCAP = corpus("iemocap", [f"{s:02d}{g}" for s in range(1, 6) for g in "FM"])
TESS = corpus("tess", ("OAF", "YAF"))


def union(**settings):
    return ParryUnion(ParryUnion.Config(**settings))


def pairs(**settings):
    return CorpusPairs(CorpusPairs.Config(**settings))


def speakers(ids):
    """Return {corpus: speakers} of ids like corpus/speaker_emotion_take."""
    found = {}
    for i in ids:
        name, rest = i.split("/")
        found.setdefault(name, set()).add(rest.split("_")[0])
    return found


def test_named_corpora_are_split_as_laid_down():
    (fold,) = union(hold_out=("tess",)).folds([*TESS, *SAVEE, *EMOVO, *IEMOCAP])
    assert fold.name == "rotation_0"
    assert speakers(fold.dev) == {"emovo": {"f3"}, "savee": {"JK"}, "iemocap": {"05F"}}
    assert speakers(fold.test) == {
        "emovo": {"m3"},
        "savee": {"KL"},
        "iemocap": {"05M"},
        "tess": {"OAF", "YAF"},
    }
    assert speakers(fold.train) == {
        "emovo": {"f1", "f2", "m1", "m2"},
        "savee": {"DC", "JE"},
        "iemocap": {f"{s:02d}{g}" for s in range(1, 5) for g in "FM"},
    }
    assert len(fold.train) + len(fold.dev) + len(fold.test) == len([*TESS, *SAVEE, *EMOVO, *IEMOCAP])


@pytest.mark.parametrize(("utterances", "n"), [(EMOVO, 6), (SAVEE, 4), (IEMOCAP, 10)])
def test_rotations_test_every_speaker_once(utterances, n):
    folds = union(rotations=n).folds(utterances)
    (name,) = {u.corpus for u in utterances}
    tested = [speaker for fold in folds for speaker in speakers(fold.test)[name]]
    assert sorted(tested) == sorted(speakers(u.id for u in utterances)[name])
    for fold in folds:
        parts = [speakers(part)[name] for part in (fold.train, fold.dev, fold.test)]
        assert sum(map(len, parts)) == len(set().union(*parts)) == n
    assert [f.name for f in folds] == [f"rotation_{i:0{len(str(n - 1))}d}" for i in range(n)]


def test_iemocap_never_hears_a_session_in_two_of_train_and_the_rest():
    for fold in union(rotations=10).folds(IEMOCAP):
        sessions = [{s[:2] for s in speakers(part)["iemocap"]} for part in (fold.train, fold.dev, fold.test)]
        assert sessions[1] == sessions[2]
        assert not sessions[0] & sessions[2]


def test_other_corpora_are_split_by_tenths_with_both_genders():
    (fold,) = union().folds([*corpus("ravdess", numbered(24)), *corpus("emodb", numbered(10))])
    assert {name: len(found) for name, found in speakers(fold.train).items()} == {"ravdess": 20, "emodb": 8}
    for part in (fold.dev, fold.test):
        assert {name: len(found) for name, found in speakers(part).items()} == {"ravdess": 2, "emodb": 1}
        assert {s[-1] for s in speakers(part)["ravdess"]} == {"f", "m"}


def test_rotation_is_where_the_folds_begin():
    every = union(rotations=4).folds(SAVEE)
    assert union(rotation=2, rotations=2).folds(SAVEE) == every[2:]


def test_named_splits_can_be_given_up():
    (fold,) = union(named_splits=False).folds(EMOVO[:9])  # f1 f2 f3
    assert sorted(len(speakers(part)["emovo"]) for part in (fold.train, fold.dev, fold.test)) == [1, 1, 1]


def test_order_and_parts_of_the_utterances_do_not_matter():
    everything = [*TESS, *SAVEE, *corpus("mine", numbered(7))]
    protocol = union(hold_out=("tess",), rotations=3)
    assert protocol.folds(everything) == protocol.folds(everything[::-1])
    # another corpus more or less leaves the split of a corpus as it is
    alone = union(rotations=3).folds(corpus("mine", numbered(7)))
    for fold, own in zip(protocol.folds(everything), alone, strict=True):
        assert {i for i in fold.test if i.startswith("mine/")} == set(own.test)


def test_pairs_are_a_matrix():
    a, b, c = corpus("a", numbered(5)), corpus("b", numbered(6)), corpus("c", ("x", "y"))
    folds = pairs(hold_out=("c",)).folds([*c, *b, *a])
    assert [fold.name for fold in folds] == ["train_a", "train_b"]
    assert set(speakers(folds[0].train)) == set(speakers(folds[0].dev)) == {"a"}
    tested = speakers(folds[0].test)
    assert tested["b"] == set(numbered(6))
    assert tested["c"] == {"x", "y"}
    assert len(tested["a"]) == 1
    assert {i for i in folds[0].test if i.startswith("a/")} == set(union().folds(a)[0].test)
    assert pairs(corpora=("b",)).folds([*c, *b, *a]) == [folds[1]]
    moved = pairs(corpora=("b",), rotation=1).folds([*c, *b, *a])[0]
    assert speakers(moved.test)["b"] != speakers(folds[1].test)["b"]


@pytest.mark.parametrize(
    ("protocol", "utterances", "message"),
    [
        (union(), [*TESS, *SAVEE], r"corpus 'tess': 2 speakers in 6 utterances.*at least 3.*--hold-out tess=PATH"),
        (union(), corpus("mine", ("only",)), r"corpus 'mine': 1 speaker in 3 utterances"),
        (union(hold_out=("tes",)), [*TESS, *SAVEE], r"protocol.hold_out: 'tes' is no corpus.*did you mean 'tess'\?"),
        (union(hold_out=("tess", "tess")), [*TESS, *SAVEE], "stands there twice"),
        (union(hold_out=("tess",)), TESS, r"every corpus is held out \(tess\)"),
        (union(), EMOVO[:9], r"corpus 'emovo': speakers f1, f2, f3; .*named_splits=false"),
        (union(rotations=5), SAVEE, "rotation_4 is the same split as rotation_0; at most 4 rotations"),
        (union(), [], "no utterance"),
        (pairs(), SAVEE, r"one corpus \(savee\); at least 2"),
        (pairs(), [*TESS, *SAVEE], "--hold-out tess=PATH"),
        (pairs(corpora=("savee",), hold_out=("savee",)), [*TESS, *SAVEE], "savee both in corpora and in hold_out"),
        (pairs(corpora=("save",)), [*TESS, *SAVEE], r"protocol.corpora: 'save'.*'savee'"),
        (pairs(hold_out=("tess", "savee")), [*TESS, *SAVEE], "every corpus is held out"),
        (pairs(), [*corpus("a b", numbered(3)), *corpus("a_b", numbered(3))], "'a b' and 'a_b' both give the fold train_a_b"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_refused(protocol, utterances, message):
    with pytest.raises(api.DataError, match=message):
        protocol.folds(utterances)


def test_five_utterances_of_three_speakers_are_enough_and_of_two_are_not():
    few = corpus("few", numbered(3), ("anger", "neutral"))[:5]
    (fold,) = union().folds([*SAVEE, *few])
    assert {len([i for i in part if i.startswith("few/")]) for part in (fold.train, fold.dev, fold.test)} <= {1, 2}
    with pytest.raises(api.DataError, match="corpus 'few': 2 speakers in 4 utterances"):
        union().folds([*SAVEE, *few[:4]])


@pytest.fixture
def corpora_folder():
    folder = Path(os.environ.get("REPKIT_REAL_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
    if not (folder / "emodb" / "metadata.csv").exists():
        pytest.skip("no real corpora here; set REPKIT_REAL_DATA to their folder")
    return folder


@pytest.mark.realdata
def test_real_corpora_as_repkit_reads_them(corpora_folder):
    from repkit.audio.open import open_corpus

    names = ("emodb", "emovo", "ravdess", "urdu")
    everything = [u for name in names for u in open_corpus(name, str(corpora_folder / name)).utterances()]
    of = {u.id: u for u in everything}
    first, *others = union(hold_out=("urdu",), rotations=6).folds(everything)

    def count(ids, name):
        mine = [of[i] for i in ids if of[i].corpus == name]
        return len(mine), len({u.speaker for u in mine})

    assert {of[i].speaker for i in first.test if of[i].corpus == "emovo"} == {"emovo/m3"}
    assert [count(part, "emovo") for part in (first.train, first.dev, first.test)] == [(392, 4), (98, 1), (98, 1)]
    assert [count(part, "ravdess") for part in (first.train, first.dev, first.test)] == [(1200, 20), (120, 2), (120, 2)]
    assert [count(part, "emodb")[1] for part in (first.train, first.dev, first.test)] == [8, 1, 1]
    assert count(first.test, "urdu") == (400, 29)
    assert not any(of[i].corpus == "urdu" for i in (*first.train, *first.dev))
    for fold in (first, *others):
        genders = {of[i].gender for i in fold.test if of[i].corpus == "ravdess"}
        assert genders == {"female", "male"}
        assert len({*fold.train, *fold.dev, *fold.test}) == len(everything) == 535 + 588 + 1440 + 400
    matrix = pairs().folds(everything)
    assert [fold.name for fold in matrix] == [f"train_{name}" for name in names]
    assert count(matrix[3].train, "urdu")[1] == 29 - 3 - 3
