"""EMOVO, Italian emotional speech (Costantini et al., LREC 2014)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="emovo",
    title="EMOVO",
    language="it",
    licence="free for research",
    home="http://voice.fub.it",
    source="grammar read off the original files, all 588",
    example="f1/dis-f1-b1.wav",
    pattern=r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>(?P<gender>[fm])[123])-(?P<sentence>[a-z]\d)",
    emotions={
        "rab": "anger",
        "dis": "disgust",
        "pau": "fear",
        "gio": "happiness",
        "neu": "neutral",
        "tri": "sadness",
        "sor": "surprise",
    },
    genders={"f": "female", "m": "male"},
    expected={
        "default": {
            "utterances": 588,
            "speakers": 6,
            "emotions": dict.fromkeys(("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"), 84),
        }
    },
)
