"""What tells a parquet file from another of its name: all of it but the sound, and pieces of the sound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from repkit.audio.base import file_mark
from repkit.audio.system_file import unread

PIECES_PER_ROW = 4
"""Pieces looked at for each row of a block of sound: any cell of a quarter of the mean length or more is met."""

PIECE = 512
"""Bytes of a piece: 16 ms of 16-bit sound at 16 kHz."""

_BLOCK = 1 << 20


def parquet_mark(path: Path, audio: str) -> str:
    """Return size and 16 hex digits that change with any label, id, class name or cell of sound of a parquet file.

    Everything but the bytes of the sound is hashed whole, as it lies in the file: the other columns, the schema with the names
    of the classes, and the lengths and places of all blocks. Of the sound, pieces spread over each of its blocks (row groups)
    are hashed, `PIECES_PER_ROW` for each row, because the whole of a large corpus would take minutes at every start. Sound of
    another length is told by the lengths and places. Where cells name files instead of holding bytes, `file_mark` of these files
    is hashed too. Source: own design.

    Args:
        path: of the file.
        audio: name of its column of sound.

    Raises:
        DataError: the system does not let the file be read.
        ValueError: it is no parquet.
    """
    try:
        found = path.stat()
        mark = f"{found.st_size} {_hash_of(path, audio, found.st_size, found.st_mtime_ns)}"
        outside = _files_outside(path, audio, found.st_mtime_ns)
    except OSError as error:
        raise unread(str(path), error) from error
    if not outside:
        return mark
    digest = hashlib.sha256(mark.encode())
    for name in outside:
        file = Path(name)
        digest.update(f"\n{file_mark(file) if file.is_file() else -1}".encode())
    return f"{found.st_size} {digest.hexdigest()[:16]}"


@lru_cache(maxsize=1 << 16)
def _hash_of(path: Path, audio: str, size: int, changed_ns: int) -> str:
    """Return 16 hex digits; `changed_ns` makes what is kept in memory that of the file as it is."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        at = 0
        for start, length, rows in sorted(_blocks_of_sound(path, audio)):
            if start < at or start + length > size:
                continue  # not as parquet lies in a file: then it is hashed whole
            _hash_whole(digest, file, at, start)
            _hash_pieces(digest, file, start, length, rows)
            at = start + length
        _hash_whole(digest, file, at, size)
    return digest.hexdigest()[:16]


def _blocks_of_sound(path: Path, audio: str) -> Iterator[tuple[int, int, int]]:
    """Yield begin, length in bytes and rows of each block that holds nothing but the bytes of sound."""
    for _, column in _chunks(path, audio):
        starts = (column.dictionary_page_offset, column.data_page_offset)
        yield min(start for start in starts if start), column.total_compressed_size, column.num_values


def _chunks(path: Path, audio: str) -> Iterator[tuple[int, Any]]:
    """Yield the number of each row group and how the file describes its block of sound."""
    import pyarrow.parquet as pq

    described = pq.read_metadata(path)
    for number in range(described.num_row_groups):
        group = described.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            # a cell is {bytes, path}, or the bytes alone
            if column.path_in_schema in (audio, f"{audio}.bytes") and column.physical_type == "BYTE_ARRAY":
                yield number, column


def _hash_whole(digest: Any, file: IO[bytes], start: int, stop: int) -> None:
    file.seek(start)
    while start < stop and (block := file.read(min(_BLOCK, stop - start))):
        digest.update(block)
        start += len(block)


def _hash_pieces(digest: Any, file: IO[bytes], start: int, length: int, rows: int) -> None:
    count = max(2, PIECES_PER_ROW * rows)
    if length <= count * PIECE:
        _hash_whole(digest, file, start, start + length)
        return
    for number in range(count):
        file.seek(start + (length - PIECE) * number // (count - 1))
        digest.update(file.read(PIECE))


@lru_cache(maxsize=1 << 10)
def _files_outside(path: Path, audio: str, changed_ns: int) -> tuple[str, ...]:
    """Return the files that cells without bytes name, in the order of the rows."""
    import pyarrow.parquet as pq

    found: list[str] = []
    with pq.ParquetFile(path) as file:
        for group, column in _chunks(path, audio):
            told = column.statistics
            if told is not None and told.has_null_count and told.null_count == 0:
                continue
            for batch in file.iter_batches(batch_size=32, row_groups=[group], columns=[audio]):
                for cell in batch.column(0).to_pylist():
                    if isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path"):
                        found.append(str(cell["path"]))
    return tuple(found)
