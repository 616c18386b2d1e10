"""JL corpus, New Zealand English (James, Tian & Watson, Interspeech 2018)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="jl",
    title="JL corpus",
    language="en",
    licence="CC0 1.0",
    home="https://www.kaggle.com/datasets/tli725/jl-corpus",
    source="Keesing 2020's reader; not checked on the files themselves",
    example="Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/female1_angry_10a_1.wav",
    pattern=r"(?P<speaker>(?P<gender>female|male)[12])_(?P<emotion>[a-z]+)_(?P<sentence>\d+[a-z]?)_(?P<take>\d)",
    emotions={
        # primary
        "angry": "anger",
        "excited": "excitement",
        "happy": "happiness",
        "neutral": "neutral",
        "sad": "sadness",
        # secondary
        "anxious": "anxiety",
        "apologetic": "apology",
        "assertive": "assertiveness",
        "concerned": "concern",
        "encouraging": "encouragement",
    },
    genders={"female": "female", "male": "male"},
    # 1200 clips of the primary emotions; the number of secondary ones is not checked
    expected={
        "default": {
            "speakers": 4,
            "emotions": dict.fromkeys(("anger", "excitement", "happiness", "neutral", "sadness"), 240),
        }
    },
)
