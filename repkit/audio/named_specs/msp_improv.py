"""MSP-IMPROV (Busso et al. 2017)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean

from repkit.api import Audio, Utterance
from repkit.audio.named_spec import NamedSpec
from repkit.errors import DataError

# X: no majority; O: another emotion
EMOTIONS = {"A": "anger", "H": "happiness", "S": "sadness", "N": "neutral", "O": "other", "X": "unknown"}
# Gao 2022 table 1 counts 8438 clips by arousal and valence only; that these are the intended emotions is an inference
INTENDED_SUMS = {
    ("anger", "sadness"): 4546,
    ("happiness", "neutral"): 3892,
    ("neutral", "sadness"): 3660,
    ("anger", "happiness"): 4778,
}
_RECORDINGS = {"P": "natural", "R": "read", "S": "other-improvised", "T": "target"}

_NUMBER = r"(\d+(?:\.\d+)?|NaN)"
_LINE = re.compile(
    rf"^UTD-IMPROV-(?P<name>[A-Z0-9-]+)\.avi;\s*(?P<label>[A-Z]);\s*A:(?P<A>{_NUMBER});\s*V:(?P<V>{_NUMBER});"
    rf"\s*D:(?P<D>{_NUMBER})\s*;\s*N:(?P<N>{_NUMBER});?\s*$"
)
_NAME = re.compile(
    r"S(?P<scene>\d\d)(?P<intended>[AHSN])-(?P<speaker>(?P<gender>[FM])(?P<session>\d\d))-(?P<kind>[PRST])-"
)


def read(root: Path, variant: str) -> tuple[list[Utterance], list[str]]:
    """Return all clips of ``Evaluation.txt``, labelled by the majority of listeners or by the intended emotion.

    Lines of single raters, some of which stand twice, are not used. Ratings are in the order activation, valence,
    dominance, naturalness. If anger is on average rated less active than sadness, the scale of activation runs
    downwards and is turned round (6 - x), with a note.
    """
    table = next((p for p in (root / "Evaluation.txt", *sorted(root.glob("*/Evaluation.txt"))) if p.is_file()), None)
    if table is None:
        raise DataError(f"{root}: Evaluation.txt is not there; expected it beside session1 to session6; check the path")
    sounds = {p.stem: p for p in table.parent.glob("session*/*/*/*.wav")}
    rated = [m for m in map(_LINE.match, table.read_text(encoding="utf-8", errors="replace").splitlines()) if m]
    if not rated:
        raise DataError(
            f"{table}: no line of the form 'UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.4; V:3.2; D:2.8 ; N:3.0;' found"
        )
    utterances, absent, strangers = {}, [], []
    for match in rated:
        name = f"MSP-IMPROV-{match['name']}"
        parts = _NAME.match(match["name"])
        if parts is None or match["label"] not in EMOTIONS:
            strangers.append(match[0].strip())
        elif name not in sounds:
            absent.append(name)
        else:
            utterances[name] = _utterance(name, match, parts, sounds[name], variant)
    if strangers:
        raise DataError(f"{table}: {len(strangers)} lines are not MSP-IMPROV's", strangers[:25])
    if not utterances:
        raise DataError(f"{table}: {len(absent)} clips and no sound; expected session?/*/*/{absent[0]}.wav")
    notes = [f"{len(absent)} rated clips have no sound file, for example {absent[0]}"] if absent else []
    listed, turned = _upright([utterances[name] for name in sorted(utterances)])
    return listed, notes + turned + (_sums_not_met(listed) if variant == "intended" else [])


def _sums_not_met(utterances: list[Utterance]) -> list[str]:
    counts = Counter(u.emotion for u in utterances)
    wrong = [
        f"{' + '.join(pair)} {found} (expected {expected})"
        for pair, expected in INTENDED_SUMS.items()
        if (found := sum(counts[emotion] for emotion in pair)) != expected
    ]
    if not wrong:
        return []
    return [
        f"the intended emotions are not those that Gao et al. 2022 counted: {', '.join(wrong)}; the copy is incomplete, or the "
        "paper used other labels (--corpus-set msp_improv.variant=majority takes the listeners' vote)"
    ]


def _utterance(name: str, match: re.Match[str], parts: re.Match[str], sound: Path, variant: str) -> Utterance:
    label = parts["intended"] if variant == "intended" else match["label"]
    return Utterance(
        id=f"msp_improv/{name}",
        corpus="msp_improv",
        speaker=f"msp_improv/{parts['speaker']}",
        session=f"msp_improv/{parts['session']}",
        gender={"F": "female", "M": "male"}[parts["gender"]],
        language="en",
        emotion=EMOTIONS[label],
        arousal=_rating(match["A"]),
        valence=_rating(match["V"]),
        audio=Audio(path=sound),
        extra={
            "original_label": label,
            "intended": EMOTIONS[parts["intended"]],
            "majority": EMOTIONS[match["label"]],
            "dominance": match["D"],
            "naturalness": match["N"],
            "recording": _RECORDINGS[parts["kind"]],
        },
    )


def _rating(text: str) -> float | None:
    return None if text == "NaN" else float(text)


def _upright(utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Turn the activation scale round if sadness is rated more active than anger."""

    def ratings(emotion: str) -> list[float]:
        return [u.arousal for u in utterances if u.extra["majority"] == emotion and u.arousal is not None]

    anger, sadness = ratings("anger"), ratings("sadness")
    if not anger or not sadness or mean(anger) >= mean(sadness):
        return utterances, []
    turned = [replace(u, arousal=None if u.arousal is None else round(6.0 - u.arousal, 6)) for u in utterances]
    return turned, [
        f"activation is rated {mean(anger):.2f} for anger and {mean(sadness):.2f} for sadness, so its scale runs "
        "downwards; it is turned round (6 - x)"
    ]


SPEC = NamedSpec(
    name="msp_improv",
    title="MSP-IMPROV",
    language="en",
    licence="on request, for research; must not be passed on",
    home="https://ecs.utdallas.edu/research/researchlabs/msp-lab (MSP-IMPROV)",
    source="form of Evaluation.txt and of the names as in Keesing 2020's reader; not checked on the files themselves",
    example="session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
    emotions=EMOTIONS,
    variants=("majority", "intended"),
    reader=read,
    expected={
        "majority": {
            "utterances": 8438,
            "speakers": 12,
            "emotions": {"anger": 792, "happiness": 2644, "sadness": 885, "neutral": 3477},
        },
        "intended": {"utterances": 8438, "speakers": 12},
    },
)
