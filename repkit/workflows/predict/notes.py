"""What ``repkit predict`` says beside its predictions."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from repkit.errors import RepkitWarning


def warn_caller(text: str) -> None:
    """Warn of the line outside repkit from which it was called, by whichever of its doors."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "repkit":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, RepkitWarning, stacklevel=level)


def vectors_by(description: Mapping[str, Any]) -> str | None:
    """Return by whom the vectors are standardised beside train, None where by train alone."""
    table, embeddings = description["vector"], description["embeddings"]
    is_vector = embeddings is not None and embeddings["level"] == "utterance"
    return table["by"] if is_vector and table["standardise"] and table["by"] != "train" else None


def idle_notes(description: Mapping[str, Any], *, same_speaker: bool, same_corpus: bool) -> list[str]:
    """Return what was told of the sounds and changes nothing, because the run standardises nothing by it."""
    used = {description["normalisation"]["mode"], vectors_by(description)}
    told = {"speaker": same_speaker, "corpus": same_corpus}
    return [
        f"--same-{one} (same_{one}) changes nothing: this run standardises nothing by {one}"
        for one, given in told.items()
        if given and f"per_{one}" not in used
    ]


def sound_notes(description: Mapping[str, Any], cut: Mapping[str, float], n_used: int, n: int) -> list[str]:
    """Return what must be known of the sounds: which were cut, and of how few a speaker's mean and deviation are.

    Args:
        description: of a model of the run.
        cut: name of each sound that was cut to its whole length in seconds.
        n_used: sounds that could be used.
        n: sounds in all.
    """
    notes = []
    most = description["max_duration_s"]
    if cut:
        name, seconds = max(cut.items(), key=lambda pair: pair[1])
        notes.append(
            f"{len(cut)} of {n} sounds are longer than {most:g} s and were heard only up to there, as in training "
            f"(max_duration_s); the longest, {name}, has {seconds:.1f} s"
            + ("; their embeddings are of the whole" if _embeds_more(description) else "")
        )
    by = {"normalisation": description["normalisation"]["mode"], "vector": vectors_by(description)}
    least = max((description[table]["min_clips"] for table, mode in by.items() if mode == "per_speaker"), default=0)
    if n_used < least:
        notes.append(
            f"mean and deviation of the speaker come from {n_used} sounds, in training from at least {least}: the fewer, "
            "the more they are those of what is said and felt in them"
        )
    return notes


def _embeds_more(description: Mapping[str, Any]) -> bool:
    embeddings = description["embeddings"]
    return embeddings is not None and any(p["source"].get("max_duration_s") is None for p in embeddings["parts"])


__all__ = ["idle_notes", "sound_notes", "vectors_by", "warn_caller"]
