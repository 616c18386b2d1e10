"""RAVDESS, audio-only speech and song (Livingstone & Russo, PLoS ONE 2018)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

_EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
_SPEECH = {e: 96 if e == "neutral" else 192 for e in _EMOTIONS}

SPEC = NamedSpec(
    name="ravdess",
    title="RAVDESS",
    language="en",
    licence="CC BY-NC-SA 4.0",
    home="https://zenodo.org/record/1188976",
    source="grammar read off the original files, all 1440 of the speech part",
    example="Audio_Speech_Actors_01-24/Actor_12/03-01-06-01-02-01-12.wav",
    pattern=r"(?P<modality>0[13])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<sentence>0[12])"
    r"-(?P<repetition>0[12])-(?P<speaker>[012]\d)",
    emotions={f"{i:02d}": emotion for i, emotion in enumerate(_EMOTIONS, start=1)},
    genders={f"{i:02d}": "male" if i % 2 else "female" for i in range(1, 25)},
    values={"intensity": {"01": "normal", "02": "strong"}, "channel": {"01": "speech", "02": "song"}},
    variants=("speech", "speech_and_song"),
    keep={"speech": {"channel": ("01",)}},
    expected={
        "speech": {"utterances": 1440, "speakers": 24, "emotions": _SPEECH},
        # song: 23 actors (18 did not sing), no disgust, no surprise
        "speech_and_song": {"utterances": 2452, "speakers": 24},
    },
)
