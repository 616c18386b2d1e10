"""EPST, Emotional Prosody Speech and Transcripts (LDC2002S28, Liberman et al. 2002)."""

from __future__ import annotations

import re
from pathlib import Path

from repkit.api import Audio, Utterance
from repkit.audio.below import files_below
from repkit.audio.emotions import canonical_emotion, is_emotion
from repkit.audio.named_spec import NamedSpec
from repkit.errors import DataError

_LINE = re.compile(
    r"^\s*(?P<start>\d+\.?\d*)\s+(?P<end>\d+\.?\d*)\s+(?P<side>[AB]):\s*(?P<label>[^,]+?)\s*,\s*(?P<text>.*)$"
)


def read(root: Path, variant: str) -> tuple[list[Utterance], list[str]]:
    """Return the spans that the transcripts label with an emotion.

    What is known: 15 SPHERE recordings of two channels (two microphones of the same talker) at 22.05 kHz with a
    transcript each (LDC's page); lines ``start end A: emotion, words`` with seconds, ``[MISC]`` for chat, brackets for
    remarks, lines "Emotion category ..." between the tasks (from a public course project's reader of one file). What is
    not: no transcript was seen. Lines of another form are left alone and counted in a note; the talker is taken to be
    the part of the file name before the underscore (``cc_001``). The first channel is read.
    """
    sounds = {p.stem: p for p in files_below(root) if p.suffix.lower() in {".sph", ".wav", ".flac"}}
    sheets = [p for p in files_below(root) if p.suffix == ".txt" and p.stem in sounds]
    if not sheets:
        raise DataError(
            f"{root}: found {len(sounds)} recording(s), 0 matched because none has a transcript of the same name; "
            "expected speech/cc_001.sph and transcr/cc_001.txt"
        )
    utterances: list[Utterance] = []
    others: list[str] = []
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            match = _LINE.match(line)
            if match is not None and is_emotion(match["label"]) and float(match["end"]) > float(match["start"]):
                utterances.append(_utterance(sheet, sounds[sheet.stem], match))
            elif line.strip() and "[MISC]" not in line and not re.search(r":\s*(\(|Emotion category)", line):
                others.append(f"{sheet.name} line {number}: {line.strip()[:60]}")
    if not utterances:
        raise DataError(
            f"{root}: {len(sheets)} transcripts and no line 'start end A: emotion, words' in them", others[:10]
        )
    notes = [f"{len(others)} transcript lines are left alone, for example {others[0]}"] if others else []
    return utterances, notes


def _utterance(sheet: Path, sound: Path, match: re.Match[str]) -> Utterance:
    start, end, label = float(match["start"]), float(match["end"]), match["label"]
    speaker = sheet.stem.split("_")[0]
    return Utterance(
        id=f"epst/{sheet.stem}_{round(1000 * start):07d}",
        corpus="epst",
        speaker=f"epst/{speaker}",
        session=f"epst/{sheet.stem}",
        language="en",
        emotion=canonical_emotion(label, sheet.name),
        text=match["text"].strip() or None,
        audio=Audio(path=sound, start_s=start, end_s=end, channel=0),
        extra={"original_label": label},
    )


SPEC = NamedSpec(
    name="epst",
    title="Emotional Prosody Speech and Transcripts",
    language="en",
    licence="LDC licence",
    home="https://catalog.ldc.upenn.edu/LDC2002S28",
    source="LDC's description and a public reader of one transcript; not checked on the files themselves",
    example="speech/cc_001.sph with transcr/cc_001.txt",
    reader=read,
    # Parry 2019 table 1; LDC says 15 recordings, later readers find 7 or 8 talkers
    expected={"default": {"utterances": 2409, "speakers": 13}},
)
