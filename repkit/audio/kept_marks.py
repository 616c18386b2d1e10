"""Marks of files that an earlier process has looked at, so that not every start reads pieces of every file again.

A file counts as unchanged while its size, its times (of content and of inode) and its inode are what they were. As in git's
index, what was changed just before it was looked at is not kept: a second change within one tick of the clock would not show.
Source: own design.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from repkit.errors import RepkitError
from repkit.runs.directory import cache_root

_YOUNG_NS = 5_000_000_000  # file systems count time in ticks of up to 2 s
_WORTH_IT = 500  # files; fewer are looked at in no time


class KeptMarks:
    """The marks of one corpus's files; one JSON file of the cache, which is ignored where it is damaged."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._kept = {} if file is None else _read(file)
        self._changed = False

    def of(self, path: Path, found: os.stat_result, look: Callable[[], str]) -> str:
        """Return the mark of a file.

        Args:
            path: of the file.
            found: what the system says of it.
            look: makes the mark, by reading the file.
        """
        name = os.path.abspath(path)
        facts = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        kept = self._kept.get(name)
        if kept is not None and kept[:-1] == facts:
            return str(kept[-1])
        mark = look()
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _YOUNG_NS:
            self._kept[name] = [*facts, mark]
            self._changed = True
        return mark

    def save(self) -> None:
        """Write what is new; nothing happens where the cache cannot be written, or for a few files."""
        if self._file is None or not self._changed or len(self._kept) < _WORTH_IT:
            return
        with suppress(OSError, ValueError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # in place: half a file, of a killed process or of two at once, does not match its checksum and is ignored
            told = {"marks": self._kept, "checksum": _checksum(self._kept)}
            self._file.write_text(json.dumps(told), encoding="utf-8")
        self._changed = False


def kept_marks(root: Path | None) -> KeptMarks:
    """Return what is kept of the files of a corpus; without a folder or a cache, nothing is.

    Args:
        root: folder of the corpus.
    """
    if root is None:
        return KeptMarks(None)
    try:
        cache = cache_root()
    except RepkitError:  # whoever makes frames is told
        return KeptMarks(None)
    name = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:16]
    return _of_file(cache / "marks" / f"{name}.json")


@lru_cache(maxsize=64)
def _of_file(file: Path) -> KeptMarks:
    return KeptMarks(file)


def _read(file: Path) -> dict[str, list[Any]]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["checksum"] == _checksum(told["marks"]):
            return dict(told["marks"])
    return {}


def _checksum(marks: object) -> str:
    return hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()
