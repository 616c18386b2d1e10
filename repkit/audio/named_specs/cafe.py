"""CaFE, Canadian French Emotional speech (Gournay et al. 2018)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="cafe",
    title="CaFE",
    language="fr",
    licence="CC BY-NC-SA 4.0",
    home="https://zenodo.org/record/1478765",
    source="Keesing 2020's reader; not checked on the files themselves",
    example="CaFE_48k/Colère/Faible/01-C-1-1.wav",
    pattern=r"(?P<speaker>0\d|1[0-2])-(?P<emotion>[CDJNPST])-(?P<intensity>\d)-(?P<sentence>\d)",
    # French initials: C colère, D dégoût, J joie, P peur, T tristesse
    emotions={
        "C": "anger",
        "D": "disgust",
        "P": "fear",
        "J": "happiness",
        "N": "neutral",
        "T": "sadness",
        "S": "surprise",
    },
    genders={f"{i:02d}": "male" if i % 2 else "female" for i in range(1, 13)},
    # the same clips are published at two rates
    prefer=("CaFE_48k", "CaFE_192k_1", "CaFE_192k_2"),
    expected={
        "default": {
            "utterances": 936,
            "speakers": 12,
            "emotions": {
                **dict.fromkeys(("anger", "disgust", "fear", "happiness", "sadness", "surprise"), 144),
                "neutral": 72,
            },
        }
    },
)
