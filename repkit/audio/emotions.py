"""The closed vocabulary of emotions and the names that corpora use for them.

Every label of a corpus becomes one of `EMOTIONS` or an error: a typo never makes a new class. The vocabulary is the
union of what the named corpora and the tables of Parry 2019, Keesing 2020, Gao 2022 and Gerczuk 2021
name. Merging classes (excitement into happiness, say) is the business of label maps, never of this table.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Mapping

from repkit.errors import DataError, did_you_mean

UNKNOWN = "unknown"
"""Annotators did not agree, or the corpus says so; no label map makes a class of it."""

EMOTIONS: tuple[str, ...] = (
    "admiration",
    "aggressiveness",
    "amusement",
    "anger",
    "anxiety",
    "apology",
    "assertiveness",
    "boredom",
    "calm",
    "cheerfulness",
    "cold_anger",
    "concern",
    "confusion",
    "contempt",
    "despair",
    "disappointment",
    "disgust",
    "elation",
    "emphasis",
    "encouragement",
    "excitement",
    "fear",
    "frustration",
    "guilt",
    "happiness",
    "helplessness",
    "high_stress",
    "hot_anger",
    "hurt",
    "impatience",
    "interest",
    "intoxication",
    "irritation",
    "jealousy",
    "joking",
    "kindness",
    "medium_stress",
    "nervousness",
    "neutral",
    "other",
    "panic",
    "pleasure",
    "pondering",
    "positive",
    "pride",
    "relief",
    "rest",
    "sadness",
    "scream",
    "shame",
    "sneakiness",
    "surprise",
    "tenderness",
    "unfriendliness",
    UNKNOWN,
    "worry",
)
"""All names an utterance's emotion can have, alphabetical."""

ALIASES: dict[str, tuple[str, ...]] = {
    "admiration": ("admiring",),
    "aggressiveness": ("aggressive", "aggression"),
    "amusement": ("amused", "fun"),
    "anger": ("angry", "ang", "wut", "ärger", "wut/ärger", "ärger/misserfolg", "ärger/miserfolg", "rabbia", "colère"),
    "anxiety": ("anxious",),
    "apology": ("apologetic",),
    "assertiveness": ("assertive",),
    "boredom": ("bored", "langeweile", "noia"),
    "calm": ("calmness", "calmo", "ruhe", "relaxed"),
    "cheerfulness": ("cheerful",),
    "cold_anger": ("cold-anger",),
    "concern": ("concerned",),
    "confusion": ("confused",),
    "contempt": ("contemptuous",),
    "despair": ("desperation",),
    "disappointment": ("disappointed",),
    "disgust": ("disgusted", "dis", "ekel", "disgusto", "dégoût"),
    "elation": ("elated",),
    "emphasis": ("emphatic",),
    "encouragement": ("encouraging",),
    "excitement": ("excited", "exc"),
    "fear": ("fearful", "fea", "angst", "anxiety/fear", "fear/anxiety", "paura", "ansia", "peur", "scared", "afraid"),
    "frustration": ("frustrated", "fru"),
    "guilt": ("guilty", "colpa"),
    "happiness": (
        "happy",
        "hap",
        "joy",
        "joyful",
        "freude",
        "freude/erfolg",
        "gioia",
        "felicità",
        "joie",
        "glad",
    ),
    "helplessness": ("helpless", "ratlosigkeit"),
    "high_stress": ("high-stress",),
    "hot_anger": ("hot-anger", "rage"),
    "hurt": (),
    "impatience": ("impatient",),
    "interest": ("interested",),
    "intoxication": ("intoxicated",),
    "irritation": ("irritated",),
    "jealousy": ("jealous",),
    "joking": (),
    "kindness": ("kind",),
    "medium_stress": ("medium-stress",),
    "nervousness": ("nervous",),
    "neutral": ("neu", "neutrality", "neutrale", "neutro", "neutre", "normal"),
    "other": ("oth", "restklasse", "altro", "rest class"),
    "panic": ("panicked",),
    "pleasure": ("pleased",),
    "pondering": (
        "überlegen",
        "nachdenken",
        "überlegen/nachdenken",
        "uberlegen/nachdenken",
        "thinking",
    ),
    "positive": (),
    "pride": ("proud",),
    "relief": ("relieved",),
    "rest": (),
    "sadness": ("sad", "trauer", "traurigkeit", "tristezza", "tristesse"),
    "scream": ("screaming",),
    "shame": ("ashamed",),
    "sneakiness": ("sneaky",),
    "surprise": (
        "surprised",
        "sur",
        "pleasant surprise",
        "pleasantly surprised",
        "überraschung",
        "überraschung/verwunderung",
        "sorpresa",
    ),
    "tenderness": ("tender",),
    "unfriendliness": ("unfriendly",),
    "unknown": ("xxx", "no agreement", "undecided"),
    "worry": ("worried",),
}
"""Other names of each emotion, as corpora write them (English, German, Italian, French nouns and adjectives, codes)."""


def _key(label: str) -> str:
    """Return the label without case, accents, and with one kind of separator, so that spelling habits do not matter."""
    text = unicodedata.normalize("NFKD", label.strip().casefold())
    plain = "".join(letter for letter in text if not unicodedata.combining(letter)).replace("ß", "ss")
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


def _lookup() -> dict[str, str]:
    table: dict[str, str] = {}
    for emotion in EMOTIONS:
        for name in (emotion, *ALIASES.get(emotion, ())):
            table[_key(name)] = emotion
    return table


_LOOKUP = _lookup()


def canonical_emotion(label: str, where: str, corpus: str = "NAME") -> str:
    """Return the vocabulary's name of a corpus label.

    Case, accents, hyphens and underscores do not matter; anything else must stand in `EMOTIONS` or `ALIASES`.

    Args:
        label: what the corpus says.
        where: file and line, for the error.
        corpus: name of the corpus, for the option that the error shows.

    Raises:
        DataError: the label is not known; the message suggests the nearest one.
    """
    try:
        return _LOOKUP[_key(label)]
    except KeyError:
        raise DataError(f"{where}: {unknown_emotion(label, corpus)}") from None


def unknown_emotion(label: str, corpus: str = "NAME") -> str:
    """Return what to say of a label that `is_emotion` does not know: the nearest name, and the option that maps it."""
    option = shlex.quote(f"{corpus}.emotions.{label}=EMOTION")
    return (
        f"emotion {label!r} is not known{_hint(label)}; expected a name of repkit's vocabulary or one of its aliases; "
        f"correct the label, or map it with --corpus-set {option}"
    )


def check_emotion_map(emotions: Mapping[str, str]) -> Mapping[str, str]:
    """Return a corpus's map from its labels to the vocabulary; for the settings of corpora that take one.

    Raises:
        ValueError: what labels are mapped to is no emotion; names all of these, with the nearest one.
    """
    wrong = [f"{label} = {name!r}{_hint(name)}" for label, name in emotions.items() if not is_emotion(name)]
    if wrong:
        raise ValueError(f"maps to what is no emotion of repkit's vocabulary: {', '.join(wrong)}; correct the setting")
    return emotions


def _hint(label: str) -> str:
    return did_you_mean(_key(label), EMOTIONS) or did_you_mean(_key(label), _LOOKUP)


def is_emotion(label: str) -> bool:
    """Return whether `canonical_emotion` knows the label."""
    return _key(label) in _LOOKUP
