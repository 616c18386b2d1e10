"""Portuguese emotional sentences and pseudo-sentences (Castro & Lima, Behav. Res. Methods 2010)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="portuguese",
    title="Castro & Lima",
    language="pt",
    licence="free for research",
    home="https://doi.org/10.3758/BRM.42.1.74",
    source="Keesing 2020's reader; both speakers are said to be women; not checked on the files themselves",
    example="10pA_angry1.wav",
    pattern=r"(?P<sentence>\d+)(?P<material>[sp])(?P<speaker>[AB])_"
    r"(?P<emotion>angry|disgust|fear|happy|neutral|sad|surprise)(?P<take>\d+)",
    emotions={
        "angry": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happiness",
        "neutral": "neutral",
        "sad": "sadness",
        "surprise": "surprise",
    },
    genders={"A": "female", "B": "female"},
    values={"material": {"s": "sentence", "p": "pseudo-sentence"}},
    expected={
        "default": {
            "utterances": 368,
            "speakers": 2,
            "emotions": {
                "anger": 63,
                "disgust": 35,
                "fear": 41,
                "happiness": 46,
                "neutral": 60,
                "sadness": 59,
                "surprise": 64,
            },
        }
    },
)
