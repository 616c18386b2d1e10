"""ShEMO, Sharif Emotional Speech Database (Mohamad Nezami et al. 2019)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="shemo",
    title="ShEMO",
    language="fa",
    licence="free for research",
    home="https://github.com/mansourehk/ShEMO",
    source="Keesing 2020's reader; not checked on the files themselves",
    example="female/F01A01.wav",
    # the first F is female, the F of the label is fear
    pattern=r"(?P<speaker>(?P<gender>[FM])\d\d)(?P<emotion>[AHNSWF])(?P<take>\d\d)",
    emotions={
        "A": "anger",
        "F": "fear",
        "H": "happiness",
        "N": "neutral",
        "S": "sadness",
        "W": "surprise",
    },
    genders={"F": "female", "M": "male"},
    expected={
        "default": {
            "utterances": 3000,
            "speakers": 87,
            "emotions": {
                "anger": 1059,
                "fear": 38,
                "happiness": 201,
                "neutral": 1028,
                "sadness": 449,
                "surprise": 225,
            },
        }
    },
)
