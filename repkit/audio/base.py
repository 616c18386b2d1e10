"""What corpora made of audio files have in common: lazy listing, decoding, fingerprint, published counts."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from repkit.api import Utterance
from repkit.audio.below import files_below, is_hidden
from repkit.audio.cells import is_missing
from repkit.audio.decode import AUDIO_SUFFIXES, decode
from repkit.audio.kept_marks import KeptMarks, kept_marks
from repkit.audio.system_file import unread
from repkit.errors import BadAudioError, DataError, RepkitWarning

MAX_PROBLEMS = 25
_PIECES, _PIECE = 9, 4096  # how many are read of a file to know it again, and bytes of each


class FileCorpus:
    """A corpus whose utterances are files or parts of files under one folder.

    Subclasses fill `name`, `root`, and write `_list`.

    Attributes:
        name: name of the corpus, the first part of every id.
        root: folder of the corpus.
        expected: published counts (``utterances``, ``speakers``, ``emotions``) or None.
        licence: terms of use in one line, empty if unknown.
        notes: what listing had to say (files left alone, repairs), filled by `utterances`.
    """

    name: str
    root: Path
    expected: dict[str, Any] | None = None
    licence: str = ""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._utterances: tuple[Utterance, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # workers get the settings, not the listing: more than a pipe holds would block if a worker died at its start
        return {**self.__dict__, "_utterances": None}

    def _list(self) -> Sequence[Utterance]:
        raise NotImplementedError

    def utterances(self) -> Sequence[Utterance]:
        """Return all utterances in a fixed order; decodes no audio.

        Raises:
            DataError: nothing found, or labels, speakers or files that cannot be used, all at once.
        """
        if self._utterances is None:
            listed = tuple(self._list())
            self._utterances = listed
            for line in [*self.notes, *count_mismatches(self.name, listed, self.expected)]:
                warnings.warn(line, RepkitWarning, stacklevel=2)
        return self._utterances

    def read(self, utterance: Utterance, max_duration_s: float | None = None) -> np.ndarray:
        """Return the sound as mono float32 (S,) at 16 kHz, full scale 1.

        Raises:
            BadAudioError: unreadable, truncated, empty, silent, not finite or too short.
        """
        audio = utterance.audio
        if audio.path is None:
            raise DataError(f"{utterance.id}: has no audio file; it does not belong to corpus {self.name!r}")
        return decode(
            audio.path,
            where=str(audio.path),
            start_s=audio.start_s,
            end_s=audio.end_s,
            channel=audio.channel,
            max_duration_s=max_duration_s,
        )

    def stream(
        self, skip: int = 0, max_duration_s: float | None = None
    ) -> Iterator[tuple[Utterance, np.ndarray | Exception]]:
        """Yield utterances in order with their sound, or with the `BadAudioError` met, after skipping some."""
        for utterance in self.utterances()[skip:]:
            yield utterance, read_or_error(self, utterance, max_duration_s)

    def fingerprint(self) -> str:
        """Return sha256 (hex) over ids, speakers, labels, positions and `file_mark`; not over where the folder lies."""
        return fingerprint_of(self.utterances(), self.root)


def read_or_error(corpus: Any, utterance: Utterance, max_duration_s: float | None) -> np.ndarray | BadAudioError:
    """Return the sound of an utterance, or the `BadAudioError` it raises."""
    try:
        sound: np.ndarray = corpus.read(utterance, max_duration_s)
    except BadAudioError as error:
        return error
    return sound


def fingerprint_of(utterances: Sequence[Utterance], root: Path | None, more: Mapping[str, Any] | None = None) -> str:
    """Return sha256 (hex) over what utterances hold; paths count relative to the corpus's folder, with `file_mark`.

    Raises:
        DataError: a file that was listed is not there any more.
    """
    digest = hashlib.sha256(json.dumps(more or {}, sort_keys=True).encode())
    marks: dict[Path, int | str] = {}
    kept = kept_marks(root)
    for u in utterances:
        place: str | None = None
        if u.audio.path is not None:
            path = u.audio.path
            place = path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else path.name
            if path not in marks:
                marks[path] = _mark_of_listed(path, u.id, kept)
        row = [u.id, u.speaker, u.session, u.gender, u.language, u.emotion, u.arousal, u.valence]
        row += [place, marks.get(u.audio.path, 0) if u.audio.path else 0]
        row += [u.audio.start_s, u.audio.end_s, u.audio.channel]
        digest.update(json.dumps(row, ensure_ascii=False).encode())
        digest.update(b"\n")
    kept.save()
    return digest.hexdigest()


def _mark_of_listed(path: Path, id: str, kept: KeptMarks) -> int | str:
    try:
        return file_mark(path, kept)
    except (FileNotFoundError, NotADirectoryError) as error:
        moved = "" if path.is_absolute() else f" from {Path.cwd()}, where this program is now"
        raise DataError(
            f"{path}: the file of {id} was there when its corpus was listed and is not{moved}; it was expected; put it back, "
            "or open the corpus again"
        ) from error


def file_mark(path: Path, kept: KeptMarks | None = None) -> int | str:
    """Return what tells a file from another of its name: its size, and a hash of pieces of it.

    Of FLAC the size is enough, because it follows from all samples; a WAV of other sound is as long. A few pieces spread over
    the file, its begin and end among them, tell noise, gain, filters and other recordings, and cost little where the whole
    would be read again at every start. Source: own design.

    Args:
        path: of the file.
        kept: what is known from earlier, so that a file which has not changed is not read.

    Raises:
        FileNotFoundError, NotADirectoryError: it is not there.
        DataError: the system does not let us read it.
    """
    try:
        found = path.stat()
        if path.suffix.lower() == ".flac":
            return found.st_size
        pieces = (kept or KeptMarks(None)).of(
            path, found, lambda: _hash_of_pieces(path, found.st_size, found.st_mtime_ns)
        )
        return f"{found.st_size} {pieces}"
    except (FileNotFoundError, NotADirectoryError):
        raise  # whoever knows why the file was looked for says so
    except OSError as error:
        raise unread(str(path), error) from error


@lru_cache(maxsize=1 << 20)
def _hash_of_pieces(path: Path, size: int, changed_ns: int) -> str:
    """Return 16 hex digits; `changed_ns` makes what is kept in memory that of the file as it is."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for number in range(_PIECES):
            file.seek(max(0, size - _PIECE) * number // (_PIECES - 1))
            digest.update(file.read(_PIECE))
    return digest.hexdigest()[:16]


def count_mismatches(name: str, utterances: Sequence[Utterance], expected: Mapping[str, Any] | None) -> list[str]:
    """Return one line per published count that is not met."""
    if not expected:
        return []
    found: dict[str, Any] = {
        "utterances": len(utterances),
        "speakers": len({u.speaker for u in utterances if u.speaker is not None}),
    }
    lines = [
        f"corpus {name}: {found[what]} {what} found; expected {expected[what]}; "
        "the copy is incomplete, has been changed, or is another release"
        for what in ("utterances", "speakers")
        if expected.get(what) is not None and expected[what] != found[what]
    ]
    if expected.get("emotions"):
        counts = Counter(u.emotion for u in utterances)
        wrong = [
            f"{emotion} {counts.get(emotion, 0)} (expected {count})"
            for emotion, count in sorted(expected["emotions"].items())
            if counts.get(emotion, 0) != count
        ]
        if wrong:
            lines.append(f"corpus {name}: emotions differ from the published counts: {', '.join(wrong)}")
    return lines


def audio_files(root: Path, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> list[Path]:
    """Return all audio files under a folder, sorted by their relative path; suffixes in any case.

    Links to folders are followed. Hidden files (such as the ``._x.wav`` companions that macOS writes) are left alone.

    Raises:
        DataError: the folder does not exist.
    """
    if not root.exists():
        raise DataError(f"{root}: there is no such folder; expected the folder of a corpus; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; expected the folder of a corpus")
    wanted = {suffix.lower() for suffix in suffixes}
    return [path for path in files_below(root) if path.suffix.lower() in wanted and not is_hidden(path)]


VALUE = "\0value"  # no cell can hold this
"""Stands in a fault's text where `RowProblems` puts the values that have it."""

_MAX_VALUES = 3


class RowProblems:
    """What is wrong with the rows of a table, where many rows often have the same fault."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}
        self._values: dict[str, dict[str, None]] = {}

    def add(self, where: str, what: str, value: str = "") -> None:
        """Note that the row at `where` has this fault; `value` is told in place of `VALUE`, and is not what tells faults apart."""
        self._rows.setdefault(what, []).append(where)
        self._values.setdefault(what, {})[value] = None

    def __len__(self) -> int:
        """Return how many faults were noted, alike or not."""
        return sum(map(len, self._rows.values()))

    def lines(self) -> list[str]:
        """Return one line per kind of fault, in the order met, with the first row and how many more have the same."""
        return [
            f"{_rows_text(rows)}: {what.replace(VALUE, _values_text(list(self._values[what])))}"
            for what, rows in self._rows.items()
        ]


def _rows_text(rows: Sequence[str]) -> str:
    return rows[0] if len(rows) == 1 else f"{rows[0]} and {len(rows) - 1} more row{'s' if len(rows) > 2 else ''}"


def _values_text(values: Sequence[str]) -> str:
    more = len(values) - _MAX_VALUES
    return ", ".join(repr(value) for value in values[:_MAX_VALUES]) + (f" and {more} more" if more > 0 else "")


def shorten(problems: Sequence[str]) -> list[str]:
    """Return the first problems and a line saying how many more there are."""
    if len(problems) <= MAX_PROBLEMS:
        return list(problems)
    return [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more"]


def gender_of(label: str) -> str | None:
    """Return ``"female"``, ``"male"`` or None (unknown) for a corpus's word or letter.

    Raises:
        ValueError: a word that is none of these.
    """
    key = label.strip().casefold()
    if key in {"f", "female", "w", "woman", "weiblich", "femmina", "femme", "feminine"}:
        return "female"
    if key in {"m", "male", "man", "männlich", "maschio", "homme", "masculine"}:
        return "male"
    if is_missing(key) or key in {"unknown", "?", "other"}:
        return None
    raise ValueError(f"gender {label!r} is not known; expected female, male or nothing")
