"""Write any corpus as a folder of FLAC files with a metadata.csv, the layout that one's own data has."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repkit.api import Corpus, Utterance
from repkit.audio.base import shorten
from repkit.audio.decode import SAMPLE_RATE
from repkit.audio.table import ROLES
from repkit.errors import BadAudioError, DataError, UsageError
from repkit.runs.atomic import disk_full_message, is_disk_full, temporary_name

COLUMNS = (
    "file_name",
    "utterance_id",
    "speaker_id",
    "session",
    "gender",
    "language",
    "emotion",
    "arousal",
    "valence",
    "text",
)
"""Columns every exported table has; the corpus' extra columns follow."""

_POSITIONS = {name for role in ("start", "end", "channel") for name in ROLES[role]}


@dataclass
class Export:
    """What was written.

    Attributes:
        folder: where.
        utterances: number of FLAC files.
        hours: their length.
        left_out: id to reason, of utterances whose sound cannot be used.
    """

    folder: Path
    utterances: int = 0
    hours: float = 0.0
    left_out: dict[str, str] = field(default_factory=dict)


def export_corpus(
    corpus: Corpus,
    folder: Path,
    *,
    on_bad_audio: str = "stop",
    progress: Callable[[int, float], None] | None = None,
) -> Export:
    """Write a corpus as ``folder/data/*.flac`` (16 kHz, mono, 16 bit) and ``folder/metadata.csv``.

    Read back by `repkit.audio.folder.FolderCorpus` under the same name it has the same ids, speakers and labels. The
    folder is there as a whole or not at all. Source: own design.

    Args:
        corpus: any corpus.
        folder: must not exist, or be empty.
        on_bad_audio: ``"stop"`` (after looking at all, so that every bad file is listed) or ``"skip"``.
        progress: called with utterances and hours done.

    Raises:
        UsageError: the folder holds something already, or cannot be made.
        DataError: sound that cannot be used, nothing to write, or the disk is full.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already and not empty; a new folder was expected; name another")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UsageError(
            f"{folder}: cannot be made ({error.strerror}); a new folder was expected; name one that lies below a folder"
        ) from error
    unfinished = temporary_name(folder)
    try:
        done = _write(corpus, unfinished, on_bad_audio, progress)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as error:
        if is_disk_full(error):
            raise DataError(disk_full_message(folder, "nothing of this export is kept")) from error
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    done.folder = folder
    return done


def _write(corpus: Corpus, folder: Path, on_bad_audio: str, progress: Callable[[int, float], None] | None) -> Export:
    done = Export(folder)
    rows: list[dict[str, str]] = []
    used: set[str] = set()
    for utterance, sound in corpus.stream():
        if isinstance(sound, BadAudioError):
            done.left_out[utterance.id] = sound.message
            continue
        if isinstance(sound, Exception):
            raise sound
        file_name = _file_name(utterance, used)
        _write_flac(folder / file_name, sound)
        rows.append(_row(utterance, file_name))
        done.utterances += 1
        done.hours += len(sound) / SAMPLE_RATE / 3600
        if progress is not None:
            progress(done.utterances, done.hours)
    if done.left_out and on_bad_audio == "stop":
        raise DataError(
            f"corpus {corpus.name}: the sound of {len(done.left_out)} utterances cannot be used; all of it was expected "
            "to be usable; mend or remove the files, or leave them out with --on-bad-audio skip",
            shorten(list(done.left_out.values())),
        )
    if not rows:
        raise DataError(f"corpus {corpus.name}: no utterance to write; expected at least one; check the corpus")
    _write_table(folder / "metadata.csv", rows)
    return done


def _file_name(utterance: Utterance, used: set[str]) -> str:
    """Return a path below the folder made of safe characters, unique also where case does not count."""
    name = utterance.id.removeprefix(f"{utterance.corpus}/")
    parts = [re.sub(r"[^\w.-]", "_", part, flags=re.ASCII).lstrip(".") or "_" for part in name.split("/")]
    stem = "/".join(parts)
    file_name, number = f"data/{stem}.flac", 2
    while file_name.casefold() in used:
        file_name, number = f"data/{stem}-{number}.flac", number + 1
    used.add(file_name.casefold())
    return file_name


def _write_flac(path: Path, sound: np.ndarray) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    # compressed originals may decode to a little over full scale
    soundfile.write(path, np.clip(sound, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _row(utterance: Utterance, file_name: str) -> dict[str, str]:
    def plain(text: str | None) -> str:
        return (text or "").removeprefix(f"{utterance.corpus}/")

    row = {
        "file_name": file_name,
        "utterance_id": plain(utterance.id),
        "speaker_id": plain(utterance.speaker),
        "session": plain(utterance.session),
        "gender": utterance.gender or "",
        "language": utterance.language or "",
        "emotion": utterance.emotion or "",
        "arousal": "" if utterance.arousal is None else f"{utterance.arousal:g}",
        "valence": "" if utterance.valence is None else f"{utterance.valence:g}",
        "text": utterance.text or "",
    }
    for key, value in utterance.extra.items():
        # a column called start, end or channel would be read as a position inside the file
        column = f"original_{key}" if key.casefold() in _POSITIONS or key in COLUMNS else key
        row[column] = value
    return row


def _write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    more = sorted({column for row in rows for column in row} - set(COLUMNS))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *more], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
