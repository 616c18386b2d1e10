"""IEMOCAP, Interactive Emotional Dyadic Motion Capture (Busso et al. 2008)."""

from __future__ import annotations

import re
from pathlib import Path

from repkit.api import Audio, Utterance
from repkit.audio.named_spec import NamedSpec
from repkit.errors import DataError

EMOTIONS = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
    "xxx": "unknown",  # annotators did not agree
}

# ratings are in the order valence, activation, dominance
_LINE = re.compile(
    r"^\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<name>Ses\S+)\t(?P<label>\w+)\t"
    r"\[(?P<valence>[\d.]+), (?P<activation>[\d.]+), (?P<dominance>[\d.]+)\]"
)
_TEXT = re.compile(r"^(?P<name>Ses\S+) \[[\d.\s-]+\]: (?P<text>.*)$")


def read(root: Path, variant: str) -> tuple[list[Utterance], list[str]]:
    """Return all turns of the label files ``Session?/dialog/EmoEvaluation/*.txt``.

    The talker is the last letter of the name: ``Ses01F_impro01_M000`` is spoken by the man of session 1. The letter
    after the session (``Ses01F``) only says which of the two wore the motion-capture markers.
    """
    sessions = sorted({*root.glob("Session[1-5]"), *root.glob("*/Session[1-5]")})
    files = [
        file
        for session in sessions
        for file in sorted((session / "dialog" / "EmoEvaluation").glob("*.txt"))
        if not file.name.startswith(".")
    ]
    if not files:
        raise DataError(
            f"{root}: found {len(sessions)} folder(s) Session1 to Session5 and no label file; expected "
            "Session?/dialog/EmoEvaluation/*.txt as in IEMOCAP_full_release; check the path"
        )
    utterances, absent, problems = [], [], []
    for file in files:
        session = file.parents[2]
        texts = _texts(session / "dialog" / "transcriptions" / file.name)
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            match = _LINE.match(line)
            if match is None:
                continue
            name, label = match["name"], match["label"]
            if label not in EMOTIONS:
                problems.append(f"{file.name} line {number}: label {label!r}; expected one of {', '.join(EMOTIONS)}")
                continue
            audio = session / "sentences" / "wav" / name.rsplit("_", 1)[0] / f"{name}.wav"
            if not audio.is_file():
                absent.append(audio)
                continue
            utterances.append(_utterance(name, label, match, audio, texts.get(name)))
    if problems:
        raise DataError(f"{root}: {len(problems)} labels are not IEMOCAP's", problems[:25])
    if not utterances:
        raise DataError(
            f"{root}: {len(absent)} turns in {len(files)} label files and no sound; expected for example {absent[0]}"
            if absent
            else f"{root}: {len(files)} label files without a turn; expected lines '[start - end] TAB name TAB label'"
        )
    notes = [f"{len(absent)} labelled turns have no sound file, for example {absent[0].name}"] if absent else []
    return sorted(utterances, key=lambda u: u.id), notes


def _texts(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    matches = (_TEXT.match(line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
    return {m["name"]: m["text"].strip() for m in matches if m}


def _utterance(name: str, label: str, match: re.Match[str], audio: Path, text: str | None) -> Utterance:
    session, talker = name[3:5], name.rsplit("_", 1)[-1][0]
    return Utterance(
        id=f"iemocap/{name}",
        corpus="iemocap",
        speaker=f"iemocap/{session}{talker}",
        session=f"iemocap/{session}",
        gender={"F": "female", "M": "male"}.get(talker),
        language="en",
        emotion=EMOTIONS[label],
        arousal=_rating(match["activation"]),
        valence=_rating(match["valence"]),
        text=text,
        audio=Audio(path=audio),
        extra={
            "original_label": label,
            "dominance": match["dominance"],
            "scene": "improvised" if "impro" in name else "scripted",
        },
    )


def _rating(text: str) -> float | None:
    """Return the mean rating; the release has a few means a little outside 1 to 5 (0 stands for none)."""
    value = float(text)
    return min(max(value, 1.0), 5.0) if value > 0 else None


SPEC = NamedSpec(
    name="iemocap",
    title="IEMOCAP",
    language="en",
    licence="on request, for research; must not be passed on",
    home="https://sail.usc.edu/iemocap",
    source="form of the label files as published readers take it; not checked on the files themselves",
    example="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
    emotions=EMOTIONS,
    reader=read,
    expected={
        "default": {
            "utterances": 10039,
            "speakers": 10,
            "emotions": {
                "anger": 1103,
                "happiness": 595,
                "excitement": 1041,
                "sadness": 1084,
                "neutral": 1708,
                "frustration": 1849,
                "surprise": 107,
                "fear": 40,
                "disgust": 2,
            },
        }
    },
)
