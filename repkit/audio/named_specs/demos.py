"""DEMoS, Database of Elicited Mood in Speech (Parada-Cabaleiro et al. 2020)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

_MALE = [
    *("02", "03", "04", "05", "08", "09", "10", "11", "12", "14", "15", "16", "18", "19", "23", "24", "25", "26", "27"),
    *("28", "30", "33", "34", "39", "41", "50", "51", "52", "53", "58", "59", "63", "64", "65", "66", "67", "68", "69"),
]

SPEC = NamedSpec(
    name="demos",
    title="DEMoS",
    language="it",
    licence="on request, for research",
    home="https://zenodo.org/record/2544829",
    source="Keesing 2020's reader (places counted from the end of the stem, list of male speakers); not checked on the "
    "files themselves",
    example="DEMOS/PR_m_02_rab01a.wav",
    pattern=r"(?:(?P<portrayal>PR|NP|NEU)_)?(?:[fmFM]_)?(?P<speaker>\d\d)_"
    r"(?P<emotion>rab|tri|gio|pau|dis|col|sor|neu)(?P<take>\d\d[a-z]?)",
    emotions={
        "rab": "anger",
        "dis": "disgust",
        "pau": "fear",
        "col": "guilt",
        "gio": "happiness",
        "neu": "neutral",
        "tri": "sadness",
        "sor": "surprise",
    },
    # by the list, not by the letter in the name
    genders={f"{i:02d}": "male" if f"{i:02d}" in _MALE else "female" for i in range(1, 70)},
    values={"portrayal": {"PR": "prototypical", "NP": "non-prototypical", "NEU": "neutral"}},
    # 9365 elicited clips of 68 speakers, and the neutral ones of the folder NEU, whose number is not published
    expected={"default": {"speakers": 68}},
)
