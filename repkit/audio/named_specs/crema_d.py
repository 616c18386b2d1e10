"""CREMA-D, Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al. 2014)."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from repkit.api import Utterance
from repkit.audio.base import gender_of
from repkit.audio.below import files_below
from repkit.audio.named_spec import NamedSpec


def add_genders(root: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Return the utterances with the genders of ``VideoDemographics.csv`` (columns ActorID, Sex)."""
    table = next((file for file in files_below(root) if file.name == "VideoDemographics.csv"), None)
    if table is None:
        return utterances, ["VideoDemographics.csv is not there; genders are unknown"]
    with table.open(encoding="utf-8-sig", newline="") as lines:
        sex = {row["ActorID"].strip(): row["Sex"] for row in csv.DictReader(lines)}
    known = {speaker: gender_of(word) for speaker, word in sex.items()}
    return [replace(u, gender=known.get((u.speaker or "").rsplit("/", 1)[-1])) for u in utterances], []


SPEC = NamedSpec(
    name="crema_d",
    title="CREMA-D",
    language="en",
    licence="Open Database License",
    home="https://github.com/CheyneyComputerScience/CREMA-D",
    source="Keesing 2020's reader; not checked on the files themselves. The label is the intended emotion; listeners "
    "agree with it in 40 % of the clips by ear alone",
    example="AudioWAV/1001_DFA_ANG_XX.wav",
    pattern=r"(?P<speaker>10\d\d)_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>[A-Z]+)",
    emotions={
        "ANG": "anger",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happiness",
        "NEU": "neutral",
        "SAD": "sadness",
    },
    drop={"1076_MTI_SAD_XX": "has no sound"},
    # the MP3 copy has fewer faults than the WAV copy
    prefer=("AudioMP3", "AudioWAV"),
    complete=add_genders,
    expected={
        "default": {
            "utterances": 7441,
            "speakers": 91,
            "emotions": {
                **dict.fromkeys(("anger", "disgust", "fear", "happiness"), 1271),
                "neutral": 1087,
                "sadness": 1270,
            },
        }
    },
)
