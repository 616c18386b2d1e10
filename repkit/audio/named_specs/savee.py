"""SAVEE, Surrey Audio-Visual Expressed Emotion (Haq & Jackson 2009)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="savee",
    title="SAVEE",
    language="en",
    licence="free for research, on registration",
    home="http://kahlan.eps.surrey.ac.uk/savee",
    source="Keesing 2020's reader; not checked on the files themselves",
    example="AudioData/DC/a01.wav",
    # two-letter codes first, or sa would be read as s and a; DC/a01, DC_a01 and DCa01 are all found
    pattern=r"(?P<speaker>DC|JE|JK|KL)[/_]?(?P<emotion>sa|su|a|d|f|h|n)(?P<sentence>\d\d)",
    id_form="{speaker}_{emotion}{sentence}",
    emotions={
        "a": "anger",
        "d": "disgust",
        "f": "fear",
        "h": "happiness",
        "n": "neutral",
        "sa": "sadness",
        "su": "surprise",
    },
    genders=dict.fromkeys(("DC", "JE", "JK", "KL"), "male"),
    expected={
        "default": {
            "utterances": 480,
            "speakers": 4,
            "emotions": {
                **dict.fromkeys(("anger", "disgust", "fear", "happiness", "sadness", "surprise"), 60),
                "neutral": 120,
            },
        }
    },
)
