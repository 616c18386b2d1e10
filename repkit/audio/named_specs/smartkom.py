"""SmartKom Public, talk with an information machine (Schiel, Steininger & Türk, LREC 2002)."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from repkit.api import Audio, Utterance
from repkit.audio.below import files_below
from repkit.audio.emotions import canonical_emotion
from repkit.audio.named_spec import NamedSpec
from repkit.errors import DataError


def read(root: Path, variant: str) -> tuple[list[Utterance], list[str]]:
    """Return the turns of the talkers, each with the user state that covers most of it.

    Reads ``<session>/<session>_<speaker>.par`` (BAS Partitur): ``SAM:`` the sample rate, ``TRN:`` turns (start and
    duration in samples), ``USH:`` user states. The sound is a part of ``<session>/<session>?.wav``. The machine's own
    files (speaker SMA) are left alone. Where two states cover a turn equally the earlier one counts.
    """
    sheets = [p for p in files_below(root) if p.suffix == ".par" and re.fullmatch(r"w\d+_[a-z]+_[A-Z]{3}", p.stem)]
    sheets = [p for p in sheets if not p.stem.endswith("_SMA")]
    if not sheets:
        raise DataError(
            f"{root}: no annotation file found; expected SK-Public/w001_pk/w001_pk_AAA.par beside w001_pkd.wav"
        )
    utterances: list[Utterance] = []
    notes: list[str] = []
    for sheet in sheets:
        turns, note = _turns(sheet)
        utterances += turns
        notes += note
    if not utterances:
        raise DataError(f"{root}: {len(sheets)} annotation files and no labelled turn with sound in them", notes[:25])
    return utterances, notes


def _turns(sheet: Path) -> tuple[list[Utterance], list[str]]:
    text = sheet.read_bytes().decode("latin-1")
    fields = [line.split() for line in text.splitlines()]
    rate = next((int(f[1]) for f in fields if f[:1] == ["SAM:"] and len(f) > 1), 16000)
    # the quotation mark is how the annotators wrote an umlaut: "Uberlegen
    states = [(int(f[1]), int(f[2]), f[3].replace('"', "")) for f in fields if f[:1] == ["USH:"] and len(f) > 3]
    spans = [(int(f[1]), int(f[2])) for f in fields if f[:1] == ["TRN:"] and len(f) > 2]
    session = sheet.stem.rsplit("_", 1)[0]
    sound = next(iter(sorted(sheet.parent.glob(f"{session}?.wav"))), None)
    if not states or not spans or sound is None:
        what = "sound file" if sound is None else "USH or TRN line"
        return [], [f"{sheet.name} is left out: no {what}"]
    speaker = sheet.stem.rsplit("_", 1)[1]
    turns = []
    for number, (start, length) in enumerate(spans):
        label = _state(start, start + length, states)
        if label is None:
            continue
        turns.append(
            Utterance(
                id=f"smartkom/{sheet.stem}_{number:03d}",
                corpus="smartkom",
                speaker=f"smartkom/{speaker}",
                session=f"smartkom/{session}",
                language="de",
                emotion=canonical_emotion(label, sheet.name),
                audio=Audio(path=sound, start_s=start / rate, end_s=(start + length) / rate),
                extra={"original_label": label},
            )
        )
    return turns, []


def _state(start: int, end: int, states: list[tuple[int, int, str]]) -> str | None:
    """Return the label with the longest overlap with [start, end), None if nothing overlaps."""
    overlap: dict[str, int] = defaultdict(int)
    for begin, length, label in states:
        shared = min(end, begin + length) - max(start, begin)
        if shared > 0:
            overlap[label] += shared
    return max(overlap, key=lambda label: overlap[label]) if overlap else None


SPEC = NamedSpec(
    name="smartkom",
    title="SmartKom Public",
    language="de",
    licence="on request, for research",
    home="https://clarin.phonetik.uni-muenchen.de/BASRepository",
    source="Keesing 2020's reader of the .par files; not checked on the files themselves. Its code takes the first "
    "state that touches a turn where its paper says the longest, which is what is done here, so counts may differ",
    example="SK-Public/w001_pk/w001_pkd.wav with w001_pk_AAA.par",
    reader=read,
    expected={
        "default": {
            "utterances": 2295,
            "speakers": 86,
            # Restklasse is "other" here
            "emotions": {
                "anger": 99,
                "happiness": 118,
                "neutral": 1786,
                "other": 46,
                "surprise": 9,
            },
        }
    },
)
