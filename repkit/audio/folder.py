"""One's own data: a folder with a CSV table, or with a file-name pattern."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from repkit.api import Audio, Config, Utterance
from repkit.audio.base import FileCorpus, RowProblems, audio_files, gender_of, shorten
from repkit.audio.below import files_below, left_alone
from repkit.audio.cells import composed
from repkit.audio.decode import AUDIO_SUFFIXES
from repkit.audio.emotions import canonical_emotion, check_emotion_map, is_emotion, unknown_emotion
from repkit.audio.table import TableOptions, check_roles, read_table, utterance_name
from repkit.errors import DataError

_GROUPS = ("id", "speaker", "session", "gender", "language", "emotion", "text")


class FolderCorpus(FileCorpus):
    """A folder of audio with a table or a file-name pattern (entry point ``folder``).

    With a table (``metadata.csv`` unless another is named) every row is an utterance. Columns of the usual names are
    found by themselves: file_name, speaker_id, session, gender, language, emotion, arousal, valence, text, start, end,
    channel; `Config.columns` maps others. Without a table, `Config.pattern` reads them from the path of each file.

    Args:
        config: the settings.
        expected: published counts, where the folder is a copy of a known corpus.
        licence: its terms of use.
    """

    class Config(Config):
        """Settings of a folder corpus.

        Attributes:
            name: name of the corpus.
            path: the folder, or the CSV table in it.
            table: name of the CSV table; None looks for metadata.csv, then for the only CSV there.
            columns: role to column, for columns with other names: ``{speaker = "Actor", audio = "Clip"}``.
            pattern: regular expression searched in each file's path below the folder without suffix, with named
                groups id, speaker, session, gender, language, emotion, text; other groups are kept as extra. Accents match
                however the file system stores them.
            language: ISO 639-1 code of all utterances that do not state their own.
            emotions: a corpus's label to a name of the vocabulary, before aliases are looked up.
            rating_range: lowest and highest value of the arousal and valence columns; mapped to 1 to 5.
            audio_suffixes: file endings looked for with a pattern, in any case.
        """

        name: str
        path: Path
        table: str | None = None
        columns: Mapping[str, str] = {}
        pattern: str | None = None
        language: str | None = None
        emotions: Mapping[str, str] = {}
        rating_range: tuple[float, float] = (1.0, 5.0)
        audio_suffixes: tuple[str, ...] = AUDIO_SUFFIXES

        @field_validator("columns")
        @classmethod
        def _known_roles(cls, value: Mapping[str, str]) -> Mapping[str, str]:
            return check_roles(value)

        @field_validator("emotions")
        @classmethod
        def _known_emotions(cls, value: Mapping[str, str]) -> Mapping[str, str]:
            return check_emotion_map(value)

        @field_validator("pattern")
        @classmethod
        def _compiles(cls, value: str | None) -> str | None:
            if value is not None:
                try:
                    groups = re.compile(value).groupindex
                except re.error as error:
                    raise ValueError(f"not a regular expression: {error}") from error
                if not groups:
                    raise ValueError("has no named group; expected for example (?P<speaker>\\d+)_(?P<emotion>[a-z]+)")
            return value

        @model_validator(mode="after")
        def _range(self) -> FolderCorpus.Config:
            if self.rating_range[0] >= self.rating_range[1]:
                raise ValueError("rating_range: expected [LOW, HIGH] with LOW < HIGH")
            return self

    def __init__(
        self, config: FolderCorpus.Config, *, expected: dict[str, Any] | None = None, licence: str = ""
    ) -> None:
        super().__init__()
        self.config = config
        self.name = config.name
        self.expected, self.licence = expected, licence
        given = Path(config.path).expanduser()
        self.root = given.parent if given.suffix.lower() in {".csv", ".tsv"} else given

    def _list(self) -> Sequence[Utterance]:
        if not self.root.is_dir():
            raise DataError(f"{self.root}: there is no such folder; expected the folder of corpus {self.name!r}")
        table = (
            None
            if self.config.pattern is not None
            else find_table(Path(self.config.path), self.config.table, self.name)
        )
        if self.config.pattern is not None:
            return self._from_names(self.config.pattern)
        if table is None:
            count = len(audio_files(self.root, self.config.audio_suffixes))
            raise DataError(
                f"{self.root}: {count} audio file(s) and no CSV table found; expected a metadata.csv with the columns "
                "file_name,speaker_id,emotion, or a file-name pattern such as "
                "'(?P<speaker>[^_/]+)_(?P<emotion>[a-z]+)' (for unlabelled speech of unknown speakers: '(?P<id>.+)')"
            )
        options = TableOptions(
            self.name, self.config.columns, self.config.language, self.config.emotions, self.config.rating_range
        )
        return read_table(table, self.root, options)

    def _from_names(self, pattern: str) -> list[Utterance]:
        files = audio_files(self.root, self.config.audio_suffixes)
        matched, strangers = [], []
        for path in files:
            relative = path.relative_to(self.root)
            match = re.search(composed(pattern), composed(relative.with_suffix("").as_posix()))
            if match:
                matched.append((path, match))
            else:
                strangers.append(relative.as_posix())
        if not matched:
            raise DataError(nothing_matched(self.root, files, pattern, self.config.audio_suffixes))
        if strangers:
            self.notes.append(
                f"corpus {self.name}: {len(strangers)} of {len(files)} audio files do not fit the pattern {pattern!r} "
                f"and are left alone, for example {strangers[0]}"
            )
        unread = left_alone(self.root, self.config.audio_suffixes)
        if unread:
            self.notes.append(f"corpus {self.name}: {unread}")
        problems = RowProblems()
        utterances = []
        seen: dict[str, str] = {}
        for path, match in matched:
            utterance = self._from_match(path, match, problems)
            if utterance is None:
                continue
            if utterance.id in seen:
                problems.add(
                    str(path.relative_to(self.root)), f"id {utterance.id!r} is also that of {seen[utterance.id]}"
                )
            seen[utterance.id] = str(path.relative_to(self.root))
            utterances.append(utterance)
        if problems:
            raise DataError(
                f"{self.root}: {len(problems)} of {len(matched)} file names cannot be used as they are; "
                f"map labels with --corpus-set {self.name}.emotions.CODE=EMOTION or correct the pattern",
                shorten(problems.lines()),
            )
        return utterances

    def _from_match(self, path: Path, match: re.Match[str], problems: RowProblems) -> Utterance | None:
        relative = path.relative_to(self.root).as_posix()
        groups = {name: value for name, value in match.groupdict().items() if value is not None}
        label = groups.get("emotion")
        emotions = {composed(given): emotion for given, emotion in self.config.emotions.items()}
        mapped = None if label is None else emotions.get(label, label)
        try:
            if mapped is not None and not is_emotion(mapped):
                raise ValueError(unknown_emotion(mapped, self.name))
            gender = gender_of(groups.get("gender", ""))
        except ValueError as error:
            problems.add(relative, str(error))
            return None
        emotion = None if mapped is None else canonical_emotion(mapped, relative)
        extra = {k: v for k, v in groups.items() if k not in _GROUPS}
        if label is not None:
            extra["original_label"] = label
        return Utterance(
            id=f"{self.name}/{groups.get('id') or utterance_name(relative)}",
            corpus=self.name,
            speaker=f"{self.name}/{groups['speaker']}" if "speaker" in groups else None,
            session=f"{self.name}/{groups['session']}" if "session" in groups else None,
            gender=gender,
            language=groups.get("language") or self.config.language,
            emotion=emotion,
            text=groups.get("text"),
            audio=Audio(path=path),
            extra=extra,
        )


def find_table(path: Path, table: str | None = None, corpus: str = "NAME") -> Path | None:
    """Return the CSV table of a folder: the one named, the path itself, metadata.csv, or the only one there.

    Args:
        path: the folder, or the table.
        table: name of a table in the folder.
        corpus: name of the corpus, for the option that errors show.

    Raises:
        DataError: the named table is missing, or there are several and none is called metadata.csv.
    """
    path = path.expanduser()
    if path.suffix.lower() in {".csv", ".tsv"}:
        if not path.is_file():
            raise DataError(f"{path}: there is no such table")
        return path
    if table is not None:
        if not (path / table).is_file():
            raise DataError(
                f"{path / table}: there is no such table; name one that is there with --corpus-set {corpus}.table=FILE.csv"
            )
        return path / table
    if (path / "metadata.csv").is_file():
        return path / "metadata.csv"
    others = sorted(p for p in path.glob("*") if p.suffix.lower() in {".csv", ".tsv"})
    if len(others) > 1:
        names = ", ".join(p.name for p in others)
        raise DataError(
            f"{path}: has several tables ({names}) and no metadata.csv; name one with --corpus-set "
            f"{shlex.quote(f'{corpus}.table={others[0].name}')}"
        )
    return others[0] if others else None


def nothing_matched(root: Path, files: Sequence[Path], pattern: str, suffixes: Sequence[str], example: str = "") -> str:
    """Return the sentence for a folder in which no file fits: how many were found and why none matched."""
    if not files:
        count = len(files_below(root))
        return (
            f"{root}: found {count} file(s), 0 matched because none ends in {', '.join(suffixes)}; "
            "check the path, unpack archives, extract the sound of videos"
        )
    shown = ", ".join(p.relative_to(root).as_posix() for p in files[:3])
    wanted = f"; a name that fits: {example}" if example else ""
    return (
        f"{root}: found {len(files)} audio file(s), 0 matched because no name (such as {shown}) has the form "
        f"{pattern!r}{wanted}; check the path and the pattern"
    )
