import pytest

from repkit.api import Utterance
from repkit.audio.category_maps import CIRCUMPLEX3, GAO2022, GERCZUK2021, PARRY2019
from repkit.audio.emotions import ALIASES, EMOTIONS, canonical_emotion
from repkit.audio.label_maps import label_map, label_map_names, rating_level
from repkit.errors import DataError, UsageError


def utt(emotion=None, corpus="emodb", **more):
    return Utterance(id=f"{corpus}/{emotion}", corpus=corpus, speaker=f"{corpus}/1", emotion=emotion, **more)


def test_vocabulary_is_alphabetical_and_aliases_are_unambiguous():
    assert list(EMOTIONS) == sorted(EMOTIONS)
    assert set(ALIASES) <= set(EMOTIONS)
    for emotion, names in ALIASES.items():
        for name in (emotion, *names):
            assert canonical_emotion(name, "x") == emotion


@pytest.mark.parametrize(
    ("label", "emotion"),
    [
        ("Wut/Ärger", "anger"),
        ("Ekel", "disgust"),
        ("Langeweile", "boredom"),
        ("gioia", "happiness"),
        ("rabbia", "anger"),
        ("paura", "fear"),
        ("Fearful", "fear"),
        ("exc", "excitement"),
        ("Hot-Anger", "hot_anger"),
        ("pleasant_surprise", "surprise"),
        ("Arger/Miserfolg", "anger"),
        ("Uberlegen/Nachdenken", "pondering"),
    ],
)
def test_aliases(label, emotion):
    assert canonical_emotion(label, "x") == emotion


def test_an_unknown_label_is_an_error_with_a_suggestion():
    with pytest.raises(
        DataError, match="metadata.csv line 7: emotion 'hapiness' is not known; did you mean 'happiness'"
    ):
        canonical_emotion("hapiness", "metadata.csv line 7")


@pytest.mark.parametrize(("rating", "level"), [(1, "low"), (2, "low"), (2.01, "medium"), (3.99, "medium"), (4, "high")])
def test_neumanns_bins_have_2_low_and_4_high(rating, level):
    assert rating_level(rating) == level


def test_neumann_merges_excitement_and_leaves_others_out_in_every_view():
    maps = label_map("neumann2019")
    assert maps.classes == {
        "emotion": ("anger", "happiness", "neutral", "sadness"),
        "arousal": ("low", "medium", "high"),
        "valence": ("low", "medium", "high"),
    }
    assert maps.targets(utt("excitement", arousal=4.5, valence=2.0)) == {
        "emotion": "happiness",
        "arousal": "high",
        "valence": "low",
    }
    for emotion in ("frustration", "unknown", "other", "fear"):
        assert set(maps.targets(utt(emotion, arousal=3.0)).values()) == {None}
        assert not maps.covers(utt(emotion))
    assert maps.targets(utt(None, arousal=3.0)) == {"emotion": None, "arousal": "medium", "valence": None}


def test_dimensions_come_from_ratings_first_then_from_the_category_map_and_are_counted():
    maps = label_map("neumann2019")
    listed = [utt("anger"), utt("sadness", arousal=1.5), utt("neutral", arousal=3.0, valence=3.0), utt("fear")]
    assert [maps.targets(u)["arousal"] for u in listed] == ["high", "low", "medium", None]
    assert maps.derived(listed) == {
        "arousal": {"rated": 2, "derived": 1, "missing": 1},
        "valence": {"rated": 1, "derived": 2, "missing": 1},
    }
    bare = label_map("neumann2019", category_map=None)
    assert bare.targets(utt("anger")) == {"emotion": "anger", "arousal": None, "valence": None}
    assert bare.derived(listed) == {}


def test_what_a_rated_corpus_leaves_unrated_is_missing_and_not_derived():
    partly = [utt("anger"), utt("sadness", arousal=1.5), utt("anger", "savee")]
    maps = label_map("neumann2019", partly)
    # emodb has a rating of arousal, so anger's is not made up beside it; of valence it has none, savee neither of both
    assert [maps.targets(u)["arousal"] for u in partly] == [None, "low", "high"]
    assert [maps.targets(u)["valence"] for u in partly] == ["low", "low", "low"]
    assert maps.derived(partly)["arousal"] == {"rated": 1, "derived": 1, "missing": 1}
    own = label_map("own", partly, views=["arousal"])
    assert [own.targets(u)["arousal"] for u in partly] == [None, "low", "high"]


def test_gerczuks_demos_has_seven_classes():
    demos = [
        utt(emotion, "demos", extra={"portrayal": kind})
        for emotion in ("anger", "disgust", "fear", "guilt", "happiness", "neutral", "sadness", "surprise")
        for kind in ("prototypical", "non-prototypical")
    ]
    maps = label_map("gerczuk2021", demos)
    assert maps.classes["emotion"] == ("anger", "disgust", "fear", "guilt", "happiness", "sadness", "surprise")
    assert [maps.covers(u) for u in demos] == [u.emotion != "neutral" for u in demos]


def test_the_papers_disagree_where_they_disagree():
    neutral, surprise, boredom = utt("neutral"), utt("surprise"), utt("boredom")
    gao, gerczuk, parry = label_map("gao2022"), label_map("gerczuk2021"), label_map("parry2019")
    assert gao.targets(neutral) == {"arousal": "low", "valence": "positive"}
    assert gerczuk.targets(neutral) == {"emotion": "neutral", "arousal": "low", "valence": "neutral"}
    assert parry.targets(neutral) == {"emotion": "neutral"}
    assert gao.targets(surprise)["valence"] == "positive"
    assert gerczuk.targets(surprise)["valence"] == "neutral"
    assert parry.targets(surprise)["emotion"] == "positive"
    assert gao.targets(boredom)["valence"] == "negative"
    assert gerczuk.targets(boredom)["valence"] == "neutral"
    assert parry.targets(boredom)["emotion"] == "neutral"


# the papers' tables side by side: label -> Parry, Gao, Gerczuk
READY = """
anger neg hi,neg hi,neg
boredom neu lo,neg lo,neu
calm neu - lo,neu
disgust neg lo,neg lo,neg
fear neg hi,neg hi,neg
frustration neg - lo,neg
guilt - - lo,neg
happiness pos hi,pos hi,pos
helplessness - - hi,neg
neutral neu lo,pos lo,neu
pondering - - lo,neu
sadness neg lo,neg lo,neg
surprise pos hi,pos hi,neu
"""
SHORT = {"neg": "negative", "neu": "neutral", "pos": "positive", "hi": "high", "lo": "low"}


@pytest.mark.parametrize("line", READY.strip().splitlines())
def test_ready_map(line):
    emotion, parry, gao, gerczuk = line.split()
    assert PARRY2019.get(emotion) == SHORT.get(parry)
    for table, cell in ((GAO2022, gao), (GERCZUK2021, gerczuk)):
        if cell == "-":
            assert emotion not in table["arousal"]
            assert emotion not in table["valence"]
        else:
            arousal, valence = cell.split(",")
            assert (table["arousal"][emotion], table["valence"][emotion]) == (SHORT[arousal], SHORT[valence])


def test_sizes_of_the_tables():
    assert len(PARRY2019) == 21  # 23 source labels; joy and pleasant surprise are happiness and surprise here
    assert set(CIRCUMPLEX3["arousal"]) == set(CIRCUMPLEX3["valence"]) == set(EMOTIONS) - {"other", "unknown"}
    assert set(GERCZUK2021["arousal"]) <= set(EMOTIONS)


def test_own_takes_its_classes_from_what_is_there():
    maps = label_map("own", [utt("surprise"), utt("anger"), utt("unknown"), utt(None)])
    assert maps.classes["emotion"] == ("anger", "surprise")
    assert maps.targets(utt("unknown"))["emotion"] is None


def test_keesings_choice_of_clips_per_corpus():
    listed = [
        utt("excitement", "iemocap"),
        utt("frustration", "iemocap"),
        utt("excitement", "jl"),
        utt("anxiety", "jl"),
        utt("fear", "shemo"),
        utt("guilt", "demos", extra={"portrayal": "prototypical"}),
        utt("guilt", "demos", extra={"portrayal": "non-prototypical"}),
        utt("boredom", "emodb"),
    ]
    maps = label_map("keesing2020", listed)
    got = [maps.targets(u)["emotion"] for u in listed]
    assert got == ["happiness", None, "excitement", None, None, "guilt", None, "boredom"]
    assert maps.classes == {"emotion": ("boredom", "excitement", "guilt", "happiness")}


def test_gao_reads_excitement_as_happiness_in_iemocap_only():
    maps = label_map("gao2022")
    assert maps.targets(utt("excitement", "iemocap")) == {"arousal": "high", "valence": "positive"}
    assert maps.targets(utt("excitement", "jl")) == {"arousal": None, "valence": None}
    assert maps.targets(utt("frustration", "iemocap")) == {"arousal": None, "valence": None}
    # table 1, Emo-DB: valence negative 385, positive 150; arousal low 268, high 267
    counts = {"anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79, "sadness": 62}
    total = {"negative": 0, "positive": 0, "low": 0, "high": 0}
    for emotion, count in counts.items():
        for target in maps.targets(utt(emotion)).values():
            total[target] += count
    assert total == {"negative": 385, "positive": 150, "low": 268, "high": 267}


def test_single_views_and_unknown_names():
    assert label_map("gao2022_valence").classes == {"valence": ("negative", "positive")}
    assert label_map("neumann2019", views=["emotion"]).targets(utt("anger")) == {"emotion": "anger"}
    assert set(label_map_names()) >= {"own", "neumann2019", "parry2019", "keesing2020", "gao2022", "gerczuk2021"}
    with pytest.raises(UsageError, match="did you mean 'neumann2019'"):
        label_map("neumann2018")
    with pytest.raises(UsageError, match="circumplex3"):
        label_map("own", category_map="circumplex")
    with pytest.raises(UsageError, match="has no view 'arousal'"):
        label_map("parry2019", views=["arousal"])
