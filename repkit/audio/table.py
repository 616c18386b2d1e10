"""Read a corpus's CSV table into utterances; all that is wrong with it is found in one pass."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repkit.api import Audio, Utterance
from repkit.audio.base import VALUE, RowProblems, gender_of, shorten
from repkit.audio.below import files_below
from repkit.audio.cells import composed, is_comma_number, is_missing, number
from repkit.audio.emotions import canonical_emotion, is_emotion, unknown_emotion
from repkit.audio.system_file import unread
from repkit.errors import DataError, did_you_mean

ROLES: dict[str, tuple[str, ...]] = {
    "audio": ("file_name", "path", "file", "audio", "filename", "wav", "file_path", "audio_path"),
    "id": ("utterance_id", "id"),
    "speaker": ("speaker_id", "speaker", "spk", "speakerid", "actor", "subject"),
    "session": ("session", "session_id"),
    "gender": ("gender", "sex"),
    "language": ("language", "lang"),
    "emotion": ("emotion", "label", "emotion_label"),
    "arousal": ("arousal", "activation", "aro"),
    "valence": ("valence", "val"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "start": ("start", "start_s", "begin"),
    "end": ("end", "end_s", "stop"),
    "channel": ("channel",),
}
"""What a column can be, and the names under which each is found without a column map."""


def check_roles(columns: Mapping[str, str], without: Sequence[str] = ()) -> Mapping[str, str]:
    """Return a column map; for the settings of corpora that take one.

    Args:
        columns: role to column.
        without: roles that this kind of corpus has no use for.

    Raises:
        ValueError: a role that is none, with the nearest one.
    """
    able = [role for role in ROLES if role not in without]
    for role in columns:
        if role not in able:
            raise ValueError(f"no such role {role!r}{did_you_mean(role, able)}; expected {', '.join(able)}")
    return columns


_NUMBERS = ("arousal", "valence", "start", "end", "channel")
_FIRST_LINE = re.compile(r'"?sep=(.)"?[,;\t]*(\r\n|\r|\n|$)', re.IGNORECASE)
"""What Excel writes and reads before the header to tell the delimiter."""


@dataclass(frozen=True)
class _Row:
    """A line of the table: its number, its cells by column, more cells than columns, columns for which it has no cell."""

    line: int
    cells: Mapping[str, str]
    surplus: bool
    absent: frozenset[str]


@dataclass(frozen=True)
class TableOptions:
    """How to read a table; see `repkit.audio.folder.FolderCorpus.Config` for each setting."""

    name: str
    columns: Mapping[str, str]
    language: str | None
    emotions: Mapping[str, str]
    rating_range: tuple[float, float]


def read_table(table: Path, root: Path, options: TableOptions) -> list[Utterance]:
    """Return the utterances of a CSV table (comma, semicolon or tab; UTF-8; a header line).

    A first line such as ``sep=;`` states another delimiter. In every column that repkit uses, words that programs write for
    nothing (`repkit.audio.cells.MISSING`) are nothing, unless `options` maps them to an emotion. Labels, speakers and names
    of columns and files match however their accents are stored. Numbers may have decimal commas where the delimiter is no
    comma and no number of the column has a point.

    Args:
        table: the CSV file.
        root: folder that the audio column is relative to.
        options: names and maps.

    Raises:
        DataError: columns missing, mapped wrongly or standing twice, rows with too many or too few cells, labels, speakers,
            ratings, times or files that cannot be used, speakers that differ only in case, ids that stand twice; `problems`
            names each with its line.
    """
    delimiter, header, rows = _rows(table)
    columns = _columns(table, header, options)
    reader = _RowReader(table, root, columns, options)
    if delimiter != ",":
        used = {columns[role] for role in _NUMBERS if role in columns}
        # beside points a comma may as well be one of thousands
        pointed = {c for c in used for row in rows if "." in row.cells[c] and number(row.cells[c]) is not None}
        reader.comma_columns = used - pointed
    utterances = [reader.read(row) for row in rows]
    if reader.problems:
        raise DataError(
            f"{table}: {len(reader.problems)} problem(s) in {len(rows)} rows; correct them all, then run again",
            shorten(reader.problems.lines()),
        )
    if not rows:
        raise DataError(f"{table}: has a header and no rows; expected one row per utterance")
    return [utterance for utterance in utterances if utterance is not None]


def _rows(table: Path) -> tuple[str, list[str], list[_Row]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}: is not UTF-8 text (byte {error.start}: {error.reason}); save it as CSV in UTF-8"
        ) from error
    except OSError as error:
        raise unread(str(table), error) from error
    stated = _FIRST_LINE.match(text)
    text = text[stated.end() :] if stated else text
    first = text.split("\n", 1)[0]
    if not first.strip():
        raise DataError(f"{table}: is empty; expected a header line such as file_name,speaker_id,gender,emotion")
    delimiter = stated[1] if stated else max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    header = [composed(name or "").strip() for name in (reader.fieldnames or [])]
    reader.fieldnames = header
    rows = []
    for row in reader:
        surplus = bool(row.pop(None, None))  # DictReader keeps surplus cells under None
        absent = frozenset(name for name, cell in row.items() if cell is None)
        cells = {name: (cell or "").strip() for name, cell in row.items()}
        if surplus or any(cells.values()):
            rows.append(_Row(reader.line_num + bool(stated), cells, surplus, absent))
    return delimiter, header, rows


def _columns(table: Path, header: Sequence[str], options: TableOptions) -> dict[str, str]:
    """Return the column of each role that has one."""
    given = {role: composed(column) for role, column in options.columns.items()}
    problems = []
    for role, column in given.items():
        if role not in ROLES:
            problems.append(
                f"columns.{role}: no such role{did_you_mean(role, ROLES)}; expected one of {', '.join(ROLES)}"
            )
        elif column and column not in header:
            problems.append(f"columns.{role} = {column!r}: no such column{did_you_mean(column, header)}")
    lower = {name.casefold(): name for name in header}
    found: dict[str, str] = {}
    for role, names in ROLES.items():
        if role in given:
            if given[role] in header:
                found[role] = given[role]
            continue
        match = next((lower[name] for name in names if name in lower), None)
        if match is not None:
            found[role] = match
    if "audio" not in found and "audio" not in given:
        problems.append(
            f"no column with the audio files (looked for {', '.join(ROLES['audio'])}): add --corpus-set "
            f"{options.name}.columns.audio=COLUMN"
        )
    for role, column in found.items():
        # a name given is meant letter by letter, one that was found by itself in any case
        same = [n for n in header if n == column or (role not in given and n.casefold() == column.casefold())]
        if len(same) > 1:
            option = f", or name it: --corpus-set {options.name}.columns.{role}=COLUMN" if len(set(same)) > 1 else ""
            problems.append(
                f"{len(same)} columns are called {' or '.join(dict.fromkeys(same))}; expected one, as {role}; keep the one that "
                f"is meant{option}"
            )
    labelled = {"emotion", "arousal", "valence"} & set(found)
    if labelled and "speaker" not in found and "speaker" not in given:
        problems.append(
            f"no column with the speakers (looked for {', '.join(ROLES['speaker'])}), and without speakers nothing can be "
            f"tested fairly: add --corpus-set {options.name}.columns.speaker=COLUMN, or an empty COLUMN if they are truly "
            "unknown"
        )
    if problems:
        raise DataError(f"{table}: columns do not fit; the columns found are: {', '.join(header)}", problems)
    return found


class _RowReader:
    """Turns rows into utterances and collects what is wrong with them."""

    def __init__(self, table: Path, root: Path, columns: Mapping[str, str], options: TableOptions) -> None:
        self.table, self.root, self.columns, self.options = table, root, columns, options
        self.problems = RowProblems()
        self.comma_columns: set[str] = set()
        self._lines: dict[str, int] = {}
        self._spelt: dict[str, tuple[str, int]] = {}
        self._files: dict[str, Path] | None = None
        self._known = set(columns.values())
        self._emotions = {composed(label): emotion for label, emotion in options.emotions.items()}

    def read(self, row: _Row) -> Utterance | None:
        where = f"{self.table.name} line {row.line}"
        before = len(self.problems)
        if row.surplus:
            self.problems.add(
                where, "has more cells than the header has; put text with the delimiter in it between quotes"
            )
            return None
        absent = [column for column in self.columns.values() if column in row.absent]
        if absent:
            self.problems.add(
                where,
                f"has fewer cells than the header, none for {', '.join(absent)}; expected a cell for each column; "
                "fill the row up, with empty cells where nothing is known",
            )
            return None
        value = {role: self._cell(role, row.cells[column]) for role, column in self.columns.items()}
        if not value["audio"]:
            self.problems.add(where, f"{self._empty('audio', row)}; expected an audio file")
            return None
        path = self._path(where, value["audio"])
        start, end = self._seconds(where, "start", value), self._seconds(where, "end", value)
        channel = self._seconds(where, "channel", value)
        if start is not None and end is not None and end <= start:
            self.problems.add(where, f"end {end:g} s is not after start {start:g} s")
        name = value.get("id") or segment_name(utterance_name(value["audio"]), start, end)
        if name in self._lines:
            self.problems.add(where, f"id {name!r} stands already in line {self._lines[name]}")
        self._lines.setdefault(name, row.line)
        speaker = self._speaker(where, row.line, value.get("speaker", ""))
        emotion = self._emotion(where, value.get("emotion", ""))
        arousal, valence = self._rating(where, "arousal", value), self._rating(where, "valence", value)
        labelled = emotion is not None or arousal is not None or valence is not None
        if labelled and "speaker" in self.columns and not speaker:
            self.problems.add(
                where,
                f"{self._empty('speaker', row)} for {VALUE}; expected the speaker of a labelled utterance; fill it in or take "
                "the row out",
                value["audio"],
            )
        gender = self._gender(where, value.get("gender", ""))
        if len(self.problems) > before or path is None:
            return None
        corpus = self.options.name
        return Utterance(
            id=f"{corpus}/{name}",
            corpus=corpus,
            speaker=f"{corpus}/{speaker}" if speaker else None,
            session=f"{corpus}/{composed(value['session'])}" if value.get("session") else None,
            gender=gender,
            language=value.get("language") or self.options.language,
            emotion=emotion,
            arousal=arousal,
            valence=valence,
            text=value.get("text") or None,
            audio=Audio(path=path, start_s=start or 0.0, end_s=end, channel=None if channel is None else int(channel)),
            extra={k: v for k, v in row.cells.items() if k and v and k not in self._known},
        )

    def _cell(self, role: str, text: str) -> str:
        """Return a cell, empty where it holds a word for nothing that is not meant: na is a language, labels may be mapped."""
        meant = (role == "language" and text == "na") or (role == "emotion" and composed(text) in self._emotions)
        return text if meant or not is_missing(text) else ""

    def _empty(self, role: str, row: _Row) -> str:
        text = row.cells[self.columns[role]]
        return f"{self.columns[role]} is {repr(text) + ', which counts as empty' if text else 'empty'}"

    def _speaker(self, where: str, line: int, text: str) -> str:
        speaker = composed(text)
        first, its_line = self._spelt.setdefault(speaker.lower(), (speaker, line))
        if first != speaker:
            self.problems.add(
                where,
                f"{self.columns['speaker']} {speaker!r} differs only in case from {first!r} in line {its_line}, and would be "
                "another person; expected one name per person; write it alike, or give two people names that differ in more",
            )
        return speaker

    def _path(self, where: str, text: str) -> Path | None:
        path = self.root / text.replace("\\", "/")
        try:
            if path.is_file():
                return path
        except OSError as error:
            raise unread(str(path), error) from error
        if self._files is None:
            self._files = {composed(p.relative_to(self.root).as_posix()).casefold(): p for p in files_below(self.root)}
        spelt_otherwise = self._files.get(composed(Path(text.replace("\\", "/")).as_posix()).casefold())
        if spelt_otherwise is not None:
            return spelt_otherwise
        stem = composed(Path(text).stem).casefold()
        alike = next((p for key, p in self._files.items() if Path(key).stem == stem and p != self.table), None)
        hint = f"; there is {alike.relative_to(self.root)}" if alike else ""
        self.problems.add(where, f"there is no file {text!r} in {self.root}{hint}")
        return None

    def _emotion(self, where: str, label: str) -> str | None:
        if not label:
            return None
        label = composed(label)
        mapped = self._emotions.get(label, label)
        if not is_emotion(mapped):
            self.problems.add(where, unknown_emotion(mapped, self.options.name))
            return None
        return canonical_emotion(mapped, where)

    def _gender(self, where: str, label: str) -> str | None:
        try:
            return gender_of(label)
        except ValueError as error:
            self.problems.add(where, str(error))
            return None

    def _seconds(self, where: str, role: str, value: Mapping[str, str]) -> float | None:
        text = value.get(role, "")
        if not text:
            return None
        found = self._number(role, text)
        if found is None or found < 0:
            self._wrong_number(where, role, text, "expected a number from 0 up")
            return None
        return found

    def _rating(self, where: str, role: str, value: Mapping[str, str]) -> float | None:
        text = value.get(role, "")
        if not text:
            return None
        low, high = self.options.rating_range
        found = self._number(role, text)
        if found is None or not low <= found <= high:
            scale = f"(--corpus-set '{self.options.name}.rating_range=[LOW, HIGH]' states another scale)"
            self._wrong_number(where, role, text, f"expected a rating from {low:g} to {high:g} {scale}")
            return None
        return round(1.0 + 4.0 * (found - low) / (high - low), 6)

    def _number(self, role: str, text: str) -> float | None:
        return number(text, decimal_comma=self.columns[role] in self.comma_columns)

    def _wrong_number(self, where: str, role: str, text: str, expected: str) -> None:
        column = self.columns[role]
        if is_comma_number(text) and column not in self.comma_columns:
            expected = (
                "expected a decimal point: commas are read only where none separates columns and no number of the column has a "
                "point; write 2.75 for 2,75"
            )
        self.problems.add(where, f"{column} is {VALUE}; {expected}", text)


def utterance_name(relative: str) -> str:
    """Return the path without suffix, and without the folder ``data`` that Hugging Face audio folders have."""
    path = Path(relative.replace("\\", "/"))
    name = path.with_suffix("").as_posix().removeprefix("./")
    return name.removeprefix("data/")


def segment_name(name: str, start_s: float | None, end_s: float | None) -> str:
    """Return the name of a part of a recording, with its times in milliseconds; the name itself for the whole."""
    if start_s is None and end_s is None:
        return name
    stop = "end" if end_s is None else f"{round(1000 * end_s):07d}"
    return f"{name}_{round(1000 * (start_s or 0)):07d}-{stop}"
