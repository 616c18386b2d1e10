"""TESS, Toronto Emotional Speech Set (Dupuis & Pichora-Fuller 2010)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="tess",
    title="TESS",
    language="en",
    licence="CC BY-NC-ND 4.0",
    home="https://tspace.library.utoronto.ca/handle/1807/24487",
    source="Keesing 2020's reader; the OA prefix is common knowledge; not checked on the files themselves",
    example="OAF_back_angry.wav",
    pattern=r"(?P<speaker>OAF|YAF|OA)_(?P<word>[A-Za-z]+)_(?P<emotion>angry|disgust|fear|happy|neutral|sad|ps)",
    id_form="{speaker}_{word}_{emotion}",
    # some copies misspell one prefix
    speakers={"OA": "OAF"},
    # ps is pleasant surprise
    emotions={
        "angry": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happiness",
        "neutral": "neutral",
        "ps": "surprise",
        "sad": "sadness",
    },
    genders={"OAF": "female", "YAF": "female"},
    expected={
        "default": {
            "utterances": 2800,
            "speakers": 2,
            "emotions": dict.fromkeys(("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"), 400),
        }
    },
)
