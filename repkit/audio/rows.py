"""Rows of tables that carry audio: parquet files read directly, and Hugging Face datasets, map-style or streamed.

Audio is handed out as bytes and never decoded here: the `datasets` library would call torchcodec, which needs ffmpeg.
Streams are never shuffled: a shuffled stream cannot be resumed exactly, and each of its passes ends with a 5 s sleep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from repkit.audio.below import files_below, is_hidden
from repkit.audio.cells import is_missing
from repkit.audio.system_file import unread
from repkit.errors import DataError, did_you_mean

Row = dict[str, Any]


class Rows(Protocol):
    """A table with an audio column."""

    columns: tuple[str, ...]
    count: int | None

    def scan(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield all rows with these columns only."""
        ...

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield whole rows after skipping some."""
        ...

    def row(self, index: int) -> Row:
        """Return one whole row."""
        ...

    def label(self, column: str, value: Any) -> Any:
        """Return the name behind a class number, None for -1 and for cells that hold nothing, or the value itself.

        Raises:
            ValueError: a class number without a name.
        """
        ...


class ParquetRows:
    """Parquet files, read with pyarrow: nothing is copied to a cache, skipping jumps over row groups."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, rows
        self.columns: tuple[str, ...] = ()
        self._names: dict[str, list[str]] = {}
        for path in self.files:
            with _parquet(path) as file:
                names = tuple(file.schema_arrow.names)
                if self.columns and set(names) != set(self.columns):
                    raise DataError(
                        f"{path}: columns {', '.join(names)}; expected those of {self.files[0].name}: "
                        f"{', '.join(self.columns)}; files of one split must agree"
                    )
                self.columns = self.columns or names
                self._names = self._names or _class_names(file.schema_arrow.metadata)
                self._groups += [(path, g, file.metadata.row_group(g).num_rows) for g in range(file.num_row_groups)]
        self.count: int | None = sum(rows for _, _, rows in self._groups)
        self._cached: tuple[int, Any] | None = None

    def scan(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield all rows with these columns only."""
        return self._iterate(0, list(columns))

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield whole rows after skipping some."""
        return self._iterate(skip, None)

    def _iterate(self, skip: int, columns: list[str] | None) -> Iterator[Row]:
        for path, group, count in self._groups:
            if skip >= count:
                skip -= count
                continue
            with _parquet(path) as file:
                for batch in file.iter_batches(batch_size=32, row_groups=[group], columns=columns):
                    if skip >= batch.num_rows:
                        skip -= batch.num_rows
                        continue
                    yield from batch.slice(skip).to_pylist()
                    skip = 0

    def row(self, index: int) -> Row:
        """Return one whole row."""
        first = 0
        for number, (path, group, count) in enumerate(self._groups):
            if index < first + count:
                if self._cached is None or self._cached[0] != number:
                    with _parquet(path) as file:
                        self._cached = (number, file.read_row_group(group))
                found: Row = self._cached[1].slice(index - first, 1).to_pylist()[0]
                return found
            first += count
        raise IndexError(index)

    def label(self, column: str, value: Any) -> Any:
        """Return the name behind a class number, None for -1 and for cells that hold nothing, or the value itself.

        Raises:
            ValueError: a class number without a name.
        """
        return _class_name(self._names.get(column), column, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None}


def _parquet(path: Path) -> Any:
    """Open a parquet file.

    Raises:
        DataError: the system does not let us read it, or it is no parquet.
    """
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unread(str(path), error) from error
        raise DataError(f"{path}: could not be read as parquet ({error}); copy it again") from error


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the class names that `datasets` writes into a parquet file's schema."""
    import json

    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (KeyError, ValueError):
        return {}
    return {k: v["names"] for k, v in features.items() if isinstance(v, dict) and v.get("_type") == "ClassLabel"}


def _class_name(names: Sequence[str] | None, column: str, value: Any) -> Any:
    """Return the name of a class number; -1 is how the hub writes that there is no label, as in test parts.

    Of plain cells NaN and the words for nothing become None, but for ``none``: a label may be called so and be mapped.
    """
    if names is None:
        nothing = value != value or (isinstance(value, str) and is_missing(value) and value.strip().lower() != "none")
        return None if nothing else value
    if not isinstance(value, int):
        return value
    if value == -1:
        return None
    if not 0 <= value < len(names):
        raise ValueError(f"{column} is {value}; expected a class from 0 to {len(names) - 1}, or -1 for no label")
    return names[value]


class DatasetRows:
    """A Hugging Face dataset, map-style or streamed, with its audio column not decoded."""

    def __init__(self, dataset: Any, audio: str, what: str) -> None:
        import datasets

        names = list(dataset.column_names or [])
        if not names:  # a stream whose columns are only known from its first row
            dataset = dataset._resolve_features()
            names = list(dataset.column_names or [])
        if audio not in names:
            raise DataError(
                f"{what}: has no column {audio!r}{did_you_mean(audio, names)}; the columns are {', '.join(names)}; "
                "name it with --corpus-set NAME.columns.audio=COLUMN"
            )
        self.columns = tuple(names)
        self._features = dict(dataset.features or {})
        self._dataset = dataset.cast_column(audio, datasets.Audio(decode=False))
        self.streamed = isinstance(dataset, datasets.IterableDataset)
        self._what = what
        self.count: int | None = _published_rows(dataset) if self.streamed else len(dataset)

    def scan(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield all rows with these columns only; a stream is read through for it."""
        yield from self._dataset.select_columns(list(columns))

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield whole rows after skipping some."""
        if self.streamed:
            yield from self._dataset.skip(skip) if skip else self._dataset
        else:
            for index in range(skip, len(self._dataset)):
                yield self._dataset[index]

    def row(self, index: int) -> Row:
        """Return one whole row; only map-style datasets can."""
        if self.streamed:
            raise DataError(
                f"{self._what}: is streamed, so single utterances cannot be asked for; give --corpus-set NAME.streaming=false (it is "
                "then stored on disk) or extract features first"
            )
        found: Row = self._dataset[index]
        return found

    def label(self, column: str, value: Any) -> Any:
        """Return the name behind a class number, None for -1 and for cells that hold nothing, or the value itself.

        Raises:
            ValueError: a class number without a name.
        """
        return _class_name(getattr(self._features.get(column), "names", None), column, value)


def _published_rows(dataset: Any) -> int | None:
    """Return the number of rows that a stream's own description states."""
    splits = getattr(dataset.info, "splits", None)
    info = splits.get(str(dataset.split)) if splits and dataset.split is not None else None
    return getattr(info, "num_examples", None) or None


def find_parquet(path: Path, config: str | None, split: str | None, *, allow_partial: bool) -> list[Path]:
    """Return the parquet files of one split, in the layouts of the hub.

    Found are ``<config>/<split>/*.parquet``, ``<split>/*.parquet``, ``[data/]<split>-00000-of-00001.parquet``,
    ``<split>.parquet``, and files that name no split where there is no other.

    Raises:
        DataError: none, several splits to choose from, or only a partial copy.
    """
    if path.is_file():
        return [path]
    groups: dict[str, list[Path]] = {}
    for file in sorted(file for file in files_below(path) if file.suffix == ".parquet" and not is_hidden(file)):
        groups.setdefault(_split_of(file.relative_to(path)), []).append(file)
    if not groups:
        raise DataError(f"{path}: holds no *.parquet file; check the path")
    wanted = [f"{config}/{split}", split] if split else [f"{config}/", *([""] if "" in groups else [])]
    names = [name for name in wanted if name in groups]
    if not names and (split is None or set(groups) == {""}) and len(groups) == 1:
        names = list(groups)
    if names:
        chosen = groups[names[0]]
        if "partial-" in names[0] and not allow_partial:
            raise DataError(_partial(str(path), names[0]))
        return chosen
    partial = next((name for name in groups if split and name.rsplit("/", 1)[-1] == f"partial-{split}"), None)
    if partial is not None:
        if not allow_partial:
            raise DataError(_partial(str(path), partial))
        return groups[partial]
    known = sorted(groups)
    raise DataError(
        f"{path}: has parquet files of the splits {', '.join(known)}; expected {split or 'one split'}"
        f"{did_you_mean(split or '', known)}; name one with --corpus-set NAME.split=SPLIT"
    )


def _partial(where: str, name: str) -> str:
    return (
        f"{where}: {name} is a partial copy, cut at a size limit of the hub; results on it are not those of the whole "
        "corpus; take it with --corpus-set NAME.allow_partial=true, or use the whole corpus from its original home"
    )


def _split_of(relative: Path) -> str:
    folders = [part for part in relative.parts[:-1] if part != "data"]
    if folders:
        return "/".join(folders[-2:])
    stem = re.sub(r"-\d{5}-of-\d{5}.*$", "", relative.stem)
    return "" if re.fullmatch(r"[\d_-]*|part.*|data", stem) else stem
