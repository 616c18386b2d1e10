"""URDU-Dataset, clips of television talk (Latif et al., FIT 2018)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="urdu",
    title="URDU-Dataset",
    language="ur",
    licence="for research only",
    home="https://github.com/siddiquelatif/URDU-Dataset",
    source="grammar read off the original files, all 400; the paper says 38 speakers, the names give 29",
    example="Angry/SM1_F10_A010.wav",
    pattern=r"(?P<speaker>S(?P<gender>[FM])\d+)_F(?P<file>\d+)_(?P<emotion>[AHNS])(?P<take>\d+)",
    emotions={"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"},
    genders={"F": "female", "M": "male"},
    expected={
        "default": {
            "utterances": 400,
            "speakers": 29,
            "emotions": dict.fromkeys(("anger", "happiness", "neutral", "sadness"), 100),
        }
    },
)
