"""Emo-DB, Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="emodb",
    title="Emo-DB",
    language="de",
    licence="free for research",
    home="http://emodb.bilderbar.info",
    source="grammar read off the original files, all 535",
    example="wav/03a01Wa.wav",
    pattern=r"(?P<speaker>03|08|09|1[0-6])(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<repetition>[a-z])",
    # German initials: F is Freude (happiness), A is Angst (fear), W is Wut (anger)
    emotions={
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "N": "neutral",
        "T": "sadness",
    },
    genders={
        **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
        **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
    },
    expected={
        "default": {
            "utterances": 535,
            "speakers": 10,
            "emotions": {
                "anger": 127,
                "boredom": 81,
                "disgust": 46,
                "fear": 69,
                "happiness": 71,
                "neutral": 79,
                "sadness": 62,
            },
        }
    },
)
