"""Hugging Face hub datasets and local parquet: any id, config, split and revision, with a column map."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import field_validator, model_validator

from repkit.api import Config, Utterance
from repkit.audio.base import RowProblems, gender_of, shorten
from repkit.audio.cells import is_missing
from repkit.audio.decode import decode
from repkit.audio.emotions import canonical_emotion, check_emotion_map, is_emotion, unknown_emotion
from repkit.audio.hub_download import is_commit, load_hub
from repkit.audio.parquet_mark import parquet_mark
from repkit.audio.presets import PRESETS
from repkit.audio.rows import DatasetRows, ParquetRows, Row, Rows, find_parquet
from repkit.audio.table import ROLES, check_roles, utterance_name
from repkit.errors import BadAudioError, DataError, RepkitWarning, did_you_mean

_NO_ROLES = ("start", "end", "channel")
"""What columns of audio files may be and those of a dataset that carries its audio may not."""

_NO_CONTENT = ("path", "streaming", "expected_rows", "allow_partial")
"""Settings that change no id, label or sound by themselves."""


class HubCorpus:
    """A dataset of the hub, or parquet files of the same form (entry point ``hub``).

    Sources are tried in this order: the dataset as it is; the hub's own parquet branch, refusing partial copies; then
    an error that says how to go on with a local copy. Audio is never decoded by `datasets`.

    Streamed corpora give their utterances by `stream`; `utterances` then reads the whole stream once without decoding.
    """

    class Config(Config):
        """Settings of a hub corpus.

        Attributes:
            name: name of the corpus.
            id: dataset id on the hub, ``ORG/NAME``.
            config: its configuration, None if it has one only.
            split: its split.
            revision: branch, tag or commit; a commit makes sure that nothing changes under you.
            path: folder with parquet files, or one file, instead of the hub.
            columns: role to column, for columns with other names: ``{speaker = "speaker_id", audio = "audio"}``.
            streaming: read from the hub as needed and store nothing; local parquet is never copied.
            allow_partial: accept a copy that is known to be cut.
            language: ISO 639-1 code of all utterances that do not state their own.
            emotions: a dataset's label to a name of the vocabulary.
            rating_range: lowest and highest value of the arousal and valence columns; mapped to 1 to 5.
            expected_rows: published number of rows.
        """

        name: str
        id: str | None = None
        config: str | None = None
        split: str | None = None
        revision: str | None = None
        path: Path | None = None
        columns: Mapping[str, str] = {}
        streaming: bool = False
        allow_partial: bool = False
        language: str | None = None
        emotions: Mapping[str, str] = {}
        rating_range: tuple[float, float] = (1.0, 5.0)
        expected_rows: int | None = None

        @field_validator("columns")
        @classmethod
        def _known_roles(cls, value: Mapping[str, str]) -> Mapping[str, str]:
            return check_roles(value, _NO_ROLES)

        @field_validator("emotions")
        @classmethod
        def _known_emotions(cls, value: Mapping[str, str]) -> Mapping[str, str]:
            return check_emotion_map(value)

        @model_validator(mode="after")
        def _one_source(self) -> HubCorpus.Config:
            if self.id is None and self.path is None:
                raise ValueError("needs a dataset id or a path with parquet files")
            return self

    def __init__(self, config: HubCorpus.Config) -> None:
        self.config = config
        self.name = config.name
        self.licence = PRESETS[config.name].licence if config.name in PRESETS else ""
        self.expected: dict[str, Any] | None = (
            None if config.expected_rows is None else {"utterances": config.expected_rows}
        )
        self.notes: list[str] = []
        self._rows: Rows | None = None
        self._origin: Mapping[str, Any] = {}
        self._columns: dict[str, str] = {}
        self._utterances: tuple[Utterance, ...] | None = None
        self._index: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        # workers get the rows, not the listing: 100 bytes an utterance for each of them
        return {**self.__dict__, "_utterances": None, "_index": {}}

    def utterances(self) -> Sequence[Utterance]:
        """Return all utterances in the order of the rows; decodes no audio.

        Raises:
            DataError: the dataset cannot be had, columns are missing, labels are unknown, ids stand twice.
        """
        if self._utterances is None:
            rows, columns = self._open()
            meta = [column for role, column in columns.items() if role != "audio"]
            problems = RowProblems()
            listed: list[Utterance] = []
            for number, row in enumerate(rows.scan(meta or [columns["audio"]])):
                utterance = self._utterance(number, row, problems)
                if utterance.id in self._index:
                    problems.add(
                        f"row {number}", f"id {utterance.id!r} stands already in row {self._index[utterance.id]}"
                    )
                self._index[utterance.id] = number
                listed.append(utterance)
            if problems:
                self._index = {}
                raise DataError(
                    f"{self._what()}: {len(problems)} problem(s) in {len(listed)} rows", shorten(problems.lines())
                )
            self._utterances = tuple(listed)
        return self._utterances

    def read(self, utterance: Utterance, max_duration_s: float | None = None) -> np.ndarray:
        """Return the sound as mono float32 (S,) at 16 kHz; not possible where the corpus is streamed.

        Raises:
            BadAudioError: unreadable, truncated, empty, silent, not finite or too short.
            DataError: the corpus is streamed.
        """
        rows, columns = self._open()
        if isinstance(rows, DatasetRows) and rows.streamed:
            rows.row(0)  # raises: says why and what to do
        self.utterances()
        if utterance.id not in self._index:
            raise DataError(f"{utterance.id}: is not in corpus {self.name!r}")
        row = rows.row(self._index[utterance.id])
        return _sound(row[columns["audio"]], utterance.id, max_duration_s)

    def stream(
        self, skip: int = 0, max_duration_s: float | None = None
    ) -> Iterator[tuple[Utterance, np.ndarray | Exception]]:
        """Yield utterances in order with their sound, or with the `BadAudioError` met, after skipping some rows.

        Raises:
            DataError: at the end, if fewer rows came than were published and `allow_partial` is not set.
        """
        rows, columns = self._open()
        count = skip
        for row in rows.rows(skip):
            problems = RowProblems()
            utterance = self._utterance(count, row, problems)
            if problems:
                if not (isinstance(rows, DatasetRows) and rows.streamed):
                    self.utterances()  # raises: says what is wrong with all rows
                raise DataError(f"{self._what()}: row {count} cannot be used", problems.lines())
            count += 1
            try:
                sound: np.ndarray | Exception = _sound(row[columns["audio"]], utterance.id, max_duration_s)
            except BadAudioError as error:
                sound = error
            yield utterance, sound
        self._check_count(count)

    @property
    def one_pass(self) -> bool:
        """Whether it can only be read from its begin."""
        return self.config.streaming

    def fingerprint(self) -> str:
        """Return sha256 (hex) over all settings that bear on ids, labels or sounds, and over what they lead to.

        That is, of local parquet, its files; of the hub the commit, asked for once where `revision` names none, and whether the
        parquet branch of the hub had to be taken, whole or in part.

        Raises:
            DataError: the dataset cannot be had, or nobody knows its commit.
        """
        what = self.config.model_dump(mode="json", exclude=set(_NO_CONTENT))
        if self.config.path is not None:
            rows, columns = self._open()
            files = rows.files if isinstance(rows, ParquetRows) else ()
            what["files"] = [[file.name, parquet_mark(file, columns["audio"])] for file in files]
            what["rows"] = rows.count
        elif not is_commit(self.config.revision):
            self._open()
            if not self._origin:
                raise DataError(
                    f"{self._what()}: the hub did not say which commit this is; a commit was expected, by which frames are known "
                    f"again; give one with --corpus-set {self.name}.revision=COMMIT"
                )
            what["origin"] = dict(self._origin)
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def unused_columns(self) -> list[str]:
        """Return the columns that no role has been found for, in their order."""
        rows, columns = self._open()
        return [name for name in rows.columns if name not in columns.values()]

    def _what(self) -> str:
        c = self.config
        place = str(c.path) if c.path is not None else f"hub:{c.id}"
        return f"corpus {c.name} ({place}{f', {c.config}' if c.config else ''}{f', {c.split}' if c.split else ''})"

    def _open(self) -> tuple[Rows, dict[str, str]]:
        if self._rows is None:
            c = self.config
            if c.path is not None:
                path = Path(c.path).expanduser()
                files = find_parquet(path, c.config, c.split, allow_partial=c.allow_partial)
                rows: Rows = ParquetRows(files)
            else:
                found = load_hub(c.id or "", c.config, c.split, c.revision, c.streaming, c.allow_partial)
                if found.note:
                    self._warn(found.note)
                self._origin = found.origin
                rows = DatasetRows(found.dataset, c.columns.get("audio", "audio"), self._what())
            self._columns = self._find_columns(rows.columns)
            self._rows = rows
            if rows.count is not None:
                self._check_count(rows.count)
        return self._rows, self._columns

    def _warn(self, line: str) -> None:
        self.notes.append(line)
        warnings.warn(line, RepkitWarning, stacklevel=3)

    def _check_count(self, count: int) -> None:
        expected = self.config.expected_rows
        if expected is None or count == expected:
            return
        line = f"{self._what()}: {count} rows; expected {expected}, the published number"
        if count < expected and self.config.path is None and not self.config.allow_partial:
            raise DataError(
                f"{line}; the copy is cut: take it with --corpus-set {self.name}.allow_partial=true, or use another source"
            )
        if line not in self.notes:
            self._warn(line)

    def _find_columns(self, present: Sequence[str]) -> dict[str, str]:
        given = self.config.columns
        problems = [
            f"columns.{role} = {column!r}: no such column{did_you_mean(column, present)}"
            for role, column in given.items()
            if column and column not in present
        ]
        found: dict[str, str] = {}
        lower = {name.casefold(): name for name in present}
        for role, names in ROLES.items():
            if role in _NO_ROLES:
                continue
            names = ("audio", *names) if role == "audio" else names
            column = given[role] if role in given else next((lower[n] for n in names if n in lower), "")
            if column and column in present:
                found[role] = column
        if "audio" not in found:
            problems.append(f"no column with audio: add --corpus-set {self.name}.columns.audio=COLUMN")
        if problems:
            raise DataError(f"{self._what()}: columns do not fit; the columns are: {', '.join(present)}", problems)
        return found

    def _utterance(self, number: int, row: Row, problems: RowProblems) -> Utterance:
        c, where = self.config, f"row {number}"
        rows, columns = self._open()
        value = {
            role: _try(lambda column=column: rows.label(column, row.get(column)), where, problems)
            for role, column in columns.items()
            if role != "audio"
        }
        name = value.get("id")
        name = f"{c.split or 'row'}_{number:08d}" if name in (None, "") else utterance_name(str(name))
        # nobody is called none; a label may be, and be mapped
        speaker, session = (
            None if text is None or is_missing(text) else text
            for text in map(_text, (value.get("speaker"), value.get("session")))
        )
        return Utterance(
            id=f"{c.name}/{name}",
            corpus=c.name,
            speaker=f"{c.name}/{speaker}" if speaker else None,
            session=f"{c.name}/{session}" if session else None,
            gender=_try(lambda: gender_of(_text(value.get("gender")) or ""), where, problems),
            language=_text(value.get("language")) or c.language,
            emotion=_try(lambda: self._emotion(_text(value.get("emotion"))), where, problems),
            arousal=_try(lambda: self._rating("arousal", value.get("arousal")), where, problems),
            valence=_try(lambda: self._rating("valence", value.get("valence")), where, problems),
            text=_text(value.get("text")),
        )

    def _emotion(self, label: str | None) -> str | None:
        if label is None:
            return None
        mapped = self.config.emotions.get(label, label)
        if not is_emotion(mapped):
            raise ValueError(unknown_emotion(mapped, self.name))
        return canonical_emotion(mapped, self.name)

    def _rating(self, role: str, value: Any) -> float | None:
        if value is None or value == "" or value != value:
            return None
        low, high = self.config.rating_range
        number = float(value)
        if not low <= number <= high:
            raise ValueError(f"{self._columns[role]} is {value!r}; expected a rating from {low:g} to {high:g}")
        return round(1.0 + 4.0 * (number - low) / (high - low), 6)


def _try(make: Callable[[], Any], where: str, problems: RowProblems) -> Any:
    try:
        return make()
    except (ValueError, TypeError) as error:
        problems.add(where, str(error))
    return None


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value).strip() or None


def _sound(audio: Any, where: str, max_duration_s: float | None) -> np.ndarray:
    data = audio.get("bytes") if isinstance(audio, Mapping) else audio
    path = audio.get("path") if isinstance(audio, Mapping) else None
    if data is None and path:
        file = Path(path)
        # nobody has looked for it before; that its whole folder is away is no fault of the table
        if not os.path.exists(file) and os.path.isdir(file.parent):
            raise BadAudioError(f"{where} ({path}): there is no such file; restore it, or take it out of what lists it")
        return decode(file, where=f"{where} ({path})", max_duration_s=max_duration_s)
    if not isinstance(data, bytes):
        raise BadAudioError(f"{where}: its audio cell holds neither bytes nor a path; expected {{bytes, path}}")
    return decode(data, where=f"{where} ({path})" if path else where, max_duration_s=max_duration_s)
