"""Label maps: from what a corpus says about an utterance to the classes a model learns, by view.

Each paper has its own map and no two share one: neutral is positive in Gao 2022, neutral in Gerczuk 2021; surprise is
positive in Parry 2019 and neutral in Gerczuk 2021. An utterance whose emotion a map
leaves out has no target in any view, so that the counts of the papers come out (IEMOCAP: 5531 under neumann2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from repkit.api import Utterance, View
from repkit.audio.category_maps import CATEGORY_MAPS, GAO2022, GERCZUK2021, PARRY2019
from repkit.audio.emotions import EMOTIONS, UNKNOWN
from repkit.errors import UsageError, did_you_mean

LEVELS = ("low", "medium", "high")
VIEWS: tuple[View, ...] = ("emotion", "arousal", "valence")


def rating_level(rating: float) -> str:
    """Return the bin of a mean rating on 1 to 5: low [1, 2], medium (2, 4), high [4, 5] (Neumann 2019)."""
    return "low" if rating <= 2 else "high" if rating >= 4 else "medium"


@dataclass(frozen=True)
class LabelMap:
    """How utterances become targets.

    Attributes:
        name: name in recipes.
        description: what it is and where it comes from.
        classes: classes of each view, in the order of the logits: alphabetical for emotion, rising for the dimensions.
        emotions: vocabulary name to class, for the emotion view; None for the identity.
        dimensions: vocabulary name to class of arousal and of valence, where they are derived from categories.
        use_ratings: whether ratings, where there are any, come before the category map.
        rated: views of a corpus with any rating: what has none there is missing, and not derived beside human ratings.
        corpora: names of corpora to how their emotions are read first: emotion to emotion; what is missing is left out.
        category_map: name of the table behind `dimensions`, for the report; None when there is none.
    """

    name: str
    description: str
    classes: Mapping[View, tuple[str, ...]]
    emotions: Mapping[str, str] | None = None
    dimensions: Mapping[View, Mapping[str, str]] = field(default_factory=dict)
    use_ratings: bool = False
    rated: frozenset[tuple[str, View]] = frozenset()
    corpora: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    category_map: str | None = None

    def targets(self, utterance: Utterance) -> dict[View, str | None]:
        """Return the class of each of the map's views, None where there is none."""
        return {view: target for view, (target, _) in self._resolve(utterance).items()}

    def covers(self, utterance: Utterance) -> bool:
        """Return whether the utterance has a target in any view."""
        return any(target is not None for target in self.targets(utterance).values())

    def derived(self, utterances: Iterable[Utterance]) -> dict[View, dict[str, int]]:
        """Count where the targets of arousal and valence come from, for the report.

        Returns:
            For each such view with at least one derived target: utterances ``rated`` (bins of human ratings),
            ``derived`` (from the emotion by `category_map`) and ``missing``.
        """
        counts = {v: {"rated": 0, "derived": 0, "missing": 0} for v in self.classes if v != "emotion"}
        for utterance in utterances:
            for view, (_, source) in self._resolve(utterance).items():
                if view != "emotion":
                    counts[view][source] += 1
        return {view: count for view, count in counts.items() if count["derived"]}

    def _resolve(self, utterance: Utterance) -> dict[View, tuple[str | None, str]]:
        nothing: dict[View, tuple[str | None, str]] = {view: (None, "missing") for view in self.classes}
        emotion = self._own_emotion(utterance)
        if utterance.emotion is not None and emotion is None:
            return nothing
        targets = dict(nothing)
        for view in self.classes:
            rating = getattr(utterance, view) if view != "emotion" else None
            if view == "emotion":
                mapped = emotion if self.emotions is None or emotion is None else self.emotions.get(emotion)
                targets[view] = (mapped if mapped in self.classes["emotion"] else None, "rated")
            elif self.use_ratings and rating is not None:
                targets[view] = (rating_level(rating), "rated")
            elif (utterance.corpus, view) in self.rated:
                continue
            elif emotion is not None and emotion in self.dimensions.get(view, {}):
                targets[view] = (self.dimensions[view][emotion], "derived")
        if utterance.emotion is not None and "emotion" in self.classes and targets["emotion"][0] is None:
            return nothing
        return targets

    def _own_emotion(self, utterance: Utterance) -> str | None:
        if utterance.emotion is None or utterance.emotion == UNKNOWN:
            return None
        own = self.corpora.get(utterance.corpus)
        if own is None:
            return utterance.emotion
        return own.get(f"{utterance.extra.get('portrayal', '')}:{utterance.emotion}", own.get(utterance.emotion))


def _same(emotions: str) -> dict[str, str]:
    return {emotion: emotion for emotion in emotions.split()}


# Keesing 2020 section 3: what each corpus contributes (a corpus not named here contributes all its emotions)
_KEESING_CORPORA: Mapping[str, Mapping[str, str]] = {
    "iemocap": {**_same("anger happiness neutral sadness"), "excitement": "happiness"},
    "msp_improv": _same("anger happiness neutral sadness"),
    "shemo": _same("anger happiness neutral sadness surprise"),
    "jl": _same("anger excitement happiness neutral sadness"),
    "demos": {
        f"prototypical:{e}": e for e in ("anger", "disgust", "fear", "guilt", "happiness", "sadness", "surprise")
    },
}

# Gerczuk 2021 table 1: IEMOCAP has 5531 items of four classes, so happiness holds excitement; DEMoS 9365 of seven, which
# are all but its neutral ones
_GERCZUK_CORPORA: Mapping[str, Mapping[str, str]] = {
    "iemocap": {**_same("anger happiness neutral sadness"), "excitement": "happiness"},
    "demos": _same("anger disgust fear guilt happiness sadness surprise"),
}

# Gao 2022 table 1: the four classes of these corpora; excitement is merged into happiness in IEMOCAP
_GAO_CORPORA: Mapping[str, Mapping[str, str]] = {
    "iemocap": {**_same("anger happiness neutral sadness"), "excitement": "happiness"},
    "msp_improv": _same("anger happiness neutral sadness"),
}


def _present(utterances: Sequence[Utterance], corpora: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    reader = LabelMap("", "", {"emotion": EMOTIONS}, corpora=corpora)
    found = {reader.targets(utterance)["emotion"] for utterance in utterances}
    return tuple(sorted(emotion for emotion in found if emotion is not None))


def _rated(utterances: Sequence[Utterance]) -> frozenset[tuple[str, View]]:
    views: tuple[View, View] = ("arousal", "valence")
    return frozenset((u.corpus, view) for u in utterances for view in views if getattr(u, view) is not None)


def _by_category(category_map: str | None) -> tuple[Mapping[View, Mapping[str, str]], str | None]:
    if category_map is None:
        return {}, None
    if category_map not in CATEGORY_MAPS:
        known = ", ".join(sorted(CATEGORY_MAPS))
        raise UsageError(
            f"category_map: {category_map!r} is not known{did_you_mean(category_map, CATEGORY_MAPS)}; expected {known} "
            "or none (leave arousal and valence without ratings missing)"
        )
    return CATEGORY_MAPS[category_map], category_map


def _neumann2019(utterances: Sequence[Utterance], category_map: str | None) -> LabelMap:
    dimensions, name = _by_category(category_map)
    return LabelMap(
        "neumann2019",
        "Neumann & Vu 2019: anger, happiness (with excitement), neutral, sadness; arousal and valence in three bins",
        {"emotion": ("anger", "happiness", "neutral", "sadness"), "arousal": LEVELS, "valence": LEVELS},
        emotions={**{e: e for e in ("anger", "happiness", "neutral", "sadness")}, "excitement": "happiness"},
        dimensions=dimensions,
        use_ratings=True,
        rated=_rated(utterances),
        category_map=name,
    )


def _own(utterances: Sequence[Utterance], category_map: str | None) -> LabelMap:
    dimensions, name = _by_category(category_map)
    return LabelMap(
        "own",
        "the corpora's own emotions, those present; arousal and valence in three bins",
        {"emotion": _present(utterances, {}) if utterances else EMOTIONS, "arousal": LEVELS, "valence": LEVELS},
        dimensions=dimensions,
        use_ratings=True,
        rated=_rated(utterances),
        category_map=name,
    )


def _parry2019(utterances: Sequence[Utterance], category_map: str | None) -> LabelMap:
    return LabelMap(
        "parry2019",
        "Parry et al. 2019 table 4: 23 source labels to negative, neutral, positive; no arousal, no valence",
        {"emotion": ("negative", "neutral", "positive")},
        emotions=PARRY2019,
    )


def _keesing2020(utterances: Sequence[Utterance], category_map: str | None) -> LabelMap:
    classes = _present(utterances, _KEESING_CORPORA) if utterances else EMOTIONS
    return LabelMap(
        "keesing2020",
        "Keesing et al. 2020 table 1: each corpus's own labels, with the paper's choice of clips per corpus",
        {"emotion": classes},
        corpora=_KEESING_CORPORA,
    )


def _gao2022(utterances: Sequence[Utterance], category_map: str | None) -> LabelMap:
    return LabelMap(
        "gao2022",
        "Gao et al. 2022 table 1: arousal low or high, valence negative or positive (neutral too), by the emotion",
        {"arousal": ("low", "high"), "valence": ("negative", "positive")},
        dimensions=GAO2022,
        corpora=_GAO_CORPORA,
        category_map="gao2022",
    )


def _gerczuk2021(utterances: Sequence[Utterance], category_map: str | None) -> LabelMap:
    classes = _present(utterances, _GERCZUK_CORPORA) if utterances else EMOTIONS
    return LabelMap(
        "gerczuk2021",
        "Gerczuk et al. 2021: own labels, and table 2: two levels of arousal by three of valence",
        {"emotion": classes, "arousal": ("low", "high"), "valence": ("negative", "neutral", "positive")},
        dimensions=GERCZUK2021,
        corpora=_GERCZUK_CORPORA,
        category_map="gerczuk2021",
    )


_MAKERS = {
    "own": _own,
    "neumann2019": _neumann2019,
    "parry2019": _parry2019,
    "keesing2020": _keesing2020,
    "gao2022": _gao2022,
    "gerczuk2021": _gerczuk2021,
}
_SINGLE_VIEW = {
    f"{name}_{view}": (name, view) for name in ("gao2022", "gerczuk2021") for view in ("arousal", "valence")
}


def label_map_names() -> tuple[str, ...]:
    """Return the names `label_map` knows."""
    return (*_MAKERS, *_SINGLE_VIEW)


def label_map(
    name: str,
    utterances: Sequence[Utterance] = (),
    *,
    category_map: str | None = "circumplex3",
    views: Sequence[View] | None = None,
) -> LabelMap:
    """Return a label map by name.

    Args:
        name: one of `label_map_names`; ``gao2022_arousal`` and the like are one view of their map.
        utterances: what will be learned and tested on; maps with the corpora's own emotions take their classes from
            it (without it, the whole vocabulary), and what is rated in which corpus.
        category_map: table by which ``own`` and ``neumann2019`` derive arousal and valence in corpora without ratings
            of them; None leaves them missing. The papers' own tables are part of their maps and not changed by it.
        views: views to keep, None for all of the map.

    Raises:
        UsageError: an unknown name or view.
    """
    if name in _SINGLE_VIEW:
        base, view = _SINGLE_VIEW[name]
        full = _MAKERS[base](utterances, category_map)
        return _only(full, (view,), name)
    if name not in _MAKERS:
        raise UsageError(
            f"label map: {name!r} is not known{did_you_mean(name, label_map_names())}; expected one of "
            + ", ".join(label_map_names())
        )
    full = _MAKERS[name](utterances, category_map)
    return full if views is None else _only(full, tuple(views), name)


def _only(full: LabelMap, views: Sequence[str], name: str) -> LabelMap:
    for view in views:
        if view not in full.classes:
            raise UsageError(f"label map {full.name}: has no view {view!r}; expected {', '.join(full.classes)}")
    classes: dict[View, tuple[str, ...]] = {v: full.classes[v] for v in VIEWS if v in views}
    return LabelMap(
        name,
        full.description,
        classes,
        emotions=full.emotions,
        dimensions=full.dimensions,
        use_ratings=full.use_ratings,
        rated=full.rated,
        corpora=full.corpora,
        category_map=full.category_map,
    )
