"""Tables from emotions to classes: one per paper, and repkit's own circumplex.

Sources: Parry 2019 table 4, Gao 2022 table 1, Gerczuk 2021 table 2. ``circumplex3`` is repkit's own design.
"""

from __future__ import annotations

from collections.abc import Mapping

from repkit.api import View


def _table(**groups: str) -> dict[str, str]:
    return {emotion: level for level, emotions in groups.items() for emotion in emotions.split()}


PARRY2019: Mapping[str, str] = _table(
    negative="anger anxiety cold_anger contempt despair disgust fear frustration hot_anger panic sadness shame",
    # joy and pleasant surprise of the paper are happiness and surprise in the vocabulary
    positive="elation excitement happiness pride surprise",
    neutral="boredom calm interest neutral",
)

GAO2022: Mapping[View, Mapping[str, str]] = {
    "arousal": _table(high="anger fear happiness surprise", low="boredom disgust sadness neutral"),
    "valence": _table(negative="anger fear boredom disgust sadness", positive="happiness surprise neutral"),
}

_GERCZUK_CELLS = {
    (
        "low",
        "negative",
    ): "contempt disappointment disgust frustration guilt hurt impatience irritation jealousy "
    "sadness shame unfriendliness worry",
    # calm stands in no cell of the paper's table; with boredom and neutral it is nearest
    ("low", "neutral"): "boredom confusion neutral pondering rest sneakiness calm",
    ("low", "positive"): "admiration kindness pride relief tenderness",
    ("high", "negative"): "aggressiveness anger anxiety despair fear helplessness high_stress scream",
    ("high", "neutral"): "emphasis interest intoxication medium_stress nervousness surprise",
    ("high", "positive"): "amusement cheerfulness elation excitement happiness joking pleasure positive",
}

GERCZUK2021: Mapping[View, Mapping[str, str]] = {
    "arousal": {e: arousal for (arousal, _), cell in _GERCZUK_CELLS.items() for e in cell.split()},
    "valence": {e: valence for (_, valence), cell in _GERCZUK_CELLS.items() for e in cell.split()},
}

CIRCUMPLEX3: Mapping[View, Mapping[str, str]] = {
    "arousal": _table(
        low="boredom calm disappointment guilt hurt kindness relief rest sadness shame tenderness",
        medium="admiration amusement apology assertiveness cold_anger concern confusion contempt disgust encouragement "
        "frustration helplessness impatience interest intoxication irritation jealousy joking medium_stress neutral "
        "pleasure pondering positive pride sneakiness unfriendliness worry",
        high="aggressiveness anger anxiety cheerfulness despair elation emphasis excitement fear happiness high_stress "
        "hot_anger nervousness panic scream surprise",
    ),
    "valence": _table(
        low="aggressiveness anger anxiety boredom cold_anger contempt despair disappointment disgust fear frustration "
        "guilt helplessness high_stress hot_anger hurt impatience irritation jealousy nervousness panic sadness scream "
        "shame unfriendliness worry",
        medium="apology assertiveness calm concern confusion emphasis interest intoxication medium_stress neutral "
        "pondering rest sneakiness surprise",
        high="admiration amusement cheerfulness elation encouragement excitement happiness joking kindness pleasure "
        "positive pride relief tenderness",
    ),
}
"""Own design: Russell's circumplex in three levels, for corpora that have categories and no ratings.

A coarse convention, not a measurement: the level is the same for every utterance of an emotion, so a model that knows
the emotion knows arousal and valence. Results that use it must say so (`LabelMap.derived`).
"""

CATEGORY_MAPS: Mapping[str, Mapping[View, Mapping[str, str]]] = {"circumplex3": CIRCUMPLEX3}
"""Tables a recipe can name to derive arousal and valence in the bins low, medium, high."""
