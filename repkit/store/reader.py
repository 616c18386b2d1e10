"""Read a finished store: by utterance id, or as a whole into memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from repkit.errors import StoreError
from repkit.store.files import fsize, sha256_of, told_by_system, unread
from repkit.store.manifest import read_manifest
from repkit.store.shard import ShardIndex, damaged, open_hdf5, read_index, read_rows
from repkit.store.spec import StoreSpec

_OPEN_FILES = 64
"""Shards kept open at once; a large store has thousands, a process may open a thousand files."""

_VERIFY_ON_OPEN = 256 << 20
"""Stores up to this many bytes are compared with their checksums when opened (0.2 s), larger ones when loaded."""


class LoadedFrames(NamedTuple):
    """Frames in memory.

    Attributes:
        values: (N, dim) all frames one after the other.
        offsets: (n+1,) int64; utterance i is values[offsets[i]:offsets[i + 1]].
        ids: n utterance ids.
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    ids: tuple[str, ...]


class LoadedVectors(NamedTuple):
    """Vectors in memory.

    Attributes:
        values: (n, dim).
        ids: n utterance ids.
    """

    values: npt.NDArray[Any]
    ids: tuple[str, ...]


class Store:
    """A finished store, opened by `open_store`; can be pickled and used in forked workers.

    Attributes:
        path: the folder, as given.
        spec: identity of the store.
        ids: all utterance ids, in the order of the corpus.
        lengths: (n,) int64 frames per utterance, None for vectors.
        starts: by utterance id the seconds before its first frame; None where the store does not tell them of all.
        left_out: ids without values and why.
        created_utc: when it was finished, ISO 8601.
    """

    def __init__(self, path: str | os.PathLike[str], spec: StoreSpec | None = None) -> None:
        self.path = Path(path).expanduser()
        self._folder = self.path.absolute()  # it is read later, perhaps from another working folder
        self._manifest = read_manifest(self.path)
        self.spec = self._manifest.spec
        if spec is not None and spec.fingerprint != self.spec.fingerprint:
            raise StoreError(
                f"{self.path}: a store of fingerprint {self.spec.fingerprint[:12]}; {spec.fingerprint[:12]} was "
                "expected; point to the store made with the same settings, or make it again",
                self.spec.differences(spec),
            )
        self.left_out = dict(self._manifest.left_out)
        self.created_utc = self._manifest.created_utc
        self._verified: set[int] = set()
        self._files: dict[int, Any] = {}
        self._files_pid = os.getpid()
        problems = []
        for entry in self._manifest.shards:
            size = fsize(self._folder / entry["file"])
            if size != entry["bytes"]:
                problems.append(
                    f"{entry['file']}: " + ("missing" if size < 0 else f"{size} bytes instead of {entry['bytes']}")
                )
        if problems:
            raise StoreError(
                f"{self.path}: shards are not as they were written; all {len(self._manifest.shards)} were expected; "
                "restore them from a copy, or delete the store's folder and make it again",
                problems,
            )
        if sum(entry["bytes"] for entry in self._manifest.shards) <= _VERIFY_ON_OPEN:
            self.verify()
        self._shards = [self._index(number) for number in range(len(self._manifest.shards))]
        self.ids: tuple[str, ...] = tuple(id for shard in self._shards for id in shard.ids)
        self._place = {
            id: (number, row) for number, shard in enumerate(self._shards) for row, id in enumerate(shard.ids)
        }
        self.lengths: npt.NDArray[np.int64] | None = None
        if self.spec.kind == "frames":
            parts = [np.diff(shard.offsets) for shard in self._shards]
            self.lengths = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        self.starts: dict[str, float] | None = None
        if all(shard.starts is not None for shard in self._shards if shard.ids):
            starts = [float(start) for shard in self._shards if shard.starts is not None for start in shard.starts]
            self.starts = dict(zip(self.ids, starts, strict=True))

    def _index(self, number: int) -> ShardIndex:
        entry = self._manifest.shards[number]
        index = read_index(self._folder / entry["file"])
        if index.spec.fingerprint != self.spec.fingerprint or index.index != number or len(index.ids) != entry["n"]:
            raise damaged(index.path, "it belongs to another store or place")
        return index

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self._place

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_files_pid": -1}

    def _file(self, number: int) -> Any:
        if self._files_pid != os.getpid():
            # a handle must not be shared with the process this one was forked from
            self._files, self._files_pid = {}, os.getpid()
        file = self._files.pop(number, None)
        if file is None:
            if len(self._files) >= _OPEN_FILES:  # the one not used for the longest time
                self._files.pop(next(iter(self._files))).close()
            file = open_hdf5(self._shards[number].path)
        self._files[number] = file
        return file

    def close(self) -> None:
        """Close the shards that are open; they are opened again when needed."""
        files, self._files = self._files, {}
        if self._files_pid == os.getpid():
            for file in files.values():
                file.close()

    def read(self, id: str) -> npt.NDArray[Any]:
        """Return the values of one utterance, (T, dim) or (dim,), float32; its chunks' checksums are compared.

        Raises:
            StoreError: an unknown id, or a damaged shard.
        """
        if id not in self._place:
            self.require([id], "reading")
        number, row = self._place[id]
        shard = self._shards[number]
        start, stop = int(shard.offsets[row]), int(shard.offsets[row + 1])
        out = np.empty((stop - start, self.spec.dim), self.spec.dtype)
        read_rows(self._file(number), shard, [(start, stop)], out)
        if not np.isfinite(out).all():
            # none is ever written; fletcher32 cannot tell a word 0x0000 from 0xFFFF, which is NaN in float16
            raise damaged(shard.path, f"{id!r} is not finite")
        values = out.astype(np.float32, copy=False)
        return values if self.spec.kind == "frames" else values[0]

    def load(self, ids: Sequence[str] | str | None = None, dtype: npt.DTypeLike | None = np.float32) -> Any:
        """Return the values of many utterances in memory, after comparing every shard touched with its SHA-256.

        Args:
            ids: utterances in the order wanted, or one of them; None for all in the order of the store.
            dtype: type in memory; None for that on disk.

        Returns:
            `LoadedFrames` (values, offsets, ids) or `LoadedVectors` (values, ids); ``Any`` to type checkers, which cannot know
            what a folder holds and would allow to unpack neither.

        Raises:
            StoreError: unknown ids, or a damaged shard.
        """
        wanted = self.ids if ids is None else (ids,) if isinstance(ids, str) else tuple(ids)
        self.require(wanted, "loading")
        places = [self._place[id] for id in wanted]
        lengths = [int(self._shards[n].offsets[row + 1] - self._shards[n].offsets[row]) for n, row in places]
        offsets = np.zeros(len(wanted) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        values = np.empty((int(offsets[-1]), self.spec.dim), dtype or self.spec.dtype)
        by_shard: dict[int, list[int]] = {}
        for at, (number, _) in enumerate(places):
            by_shard.setdefault(number, []).append(at)
        for number, positions in sorted(by_shard.items()):
            self._verify_shard(number)
            for first, last in _runs(positions, [places[at][1] for at in positions]):
                self._read_run(number, places[first][1], places[last][1], values[offsets[first] : offsets[last + 1]])
        self.close()  # an experiment holds many stores, and a process may have some hundred files open
        if self.spec.kind == "frames":
            return LoadedFrames(values, offsets, wanted)
        return LoadedVectors(values, wanted)

    def _read_run(self, number: int, first_row: int, last_row: int, out: npt.NDArray[Any]) -> None:
        shard = self._shards[number]
        start, stop = int(shard.offsets[first_row]), int(shard.offsets[last_row + 1])
        # HDF5's own conversion between float types is slower than numpy's
        raw = out if out.dtype == self.spec.dtype else np.empty((stop - start, self.spec.dim), self.spec.dtype)
        read_rows(self._file(number), shard, [(start, stop)], raw)
        if raw is not out:
            out[...] = raw

    def require(self, ids: Iterable[str], what: str) -> None:
        """Make sure that all ids are in the store.

        Args:
            ids: utterance ids.
            what: who needs them, for the message.

        Raises:
            StoreError: lists the missing utterances (20 at most) and says what to do.
        """
        missing = [id for id in ids if id not in self._place]
        if missing:
            shown = [
                f"{id}" + (f": left out, {self.left_out[id]}" if id in self.left_out else "") for id in missing[:20]
            ]
            if len(missing) > 20:
                shown.append(f"and {len(missing) - 20} more")
            skipped = any(id in self.left_out for id in missing)
            remedy = "go on without those left out: --on-bad-audio skip" if skipped else "leave these utterances out"
            raise StoreError(
                f"{self.path}: {len(missing)} of the utterances that {what} needs are not in the store, which holds "
                f"{len(self.ids)} of corpus {self.spec.corpus!r}; all were expected; "
                f"make the store again from the same corpus, or {remedy}",
                shown,
            )

    def verify(self) -> None:
        """Compare every shard with the SHA-256 of the manifest.

        Raises:
            StoreError: names the damaged shards.
        """
        problems = []
        for number in range(len(self._manifest.shards)):
            try:
                self._verify_shard(number, again=True)
            except StoreError as error:
                problems.append(error.message)
        if problems:
            raise StoreError(f"{self.path}: {len(problems)} damaged shards; {problems[0]}", problems[1:])

    def _verify_shard(self, number: int, again: bool = False) -> None:
        if number not in self._verified or again:
            entry = self._manifest.shards[number]
            try:
                found = sha256_of(self._folder / entry["file"])
            except OSError as error:
                raise unread(self.path / entry["file"], told_by_system(error) or str(error)) from error
            if found != entry["sha256"]:
                raise damaged(self.path / entry["file"], f"sha256 {found[:12]} instead of {entry['sha256'][:12]}")
            self._verified.add(number)


def _runs(positions: list[int], rows: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) positions of stretches whose positions and rows both go up by one."""
    start = 0
    for i in range(1, len(positions) + 1):
        if i == len(positions) or positions[i] != positions[i - 1] + 1 or rows[i] != rows[i - 1] + 1:
            yield positions[start], positions[i - 1]
            start = i


def open_store(path: str | os.PathLike[str], spec: StoreSpec | None = None) -> Store:
    """Open a finished store for reading.

    Args:
        path: its folder.
        spec: what it must be; None takes any.

    Raises:
        StoreError: unfinished, of an unknown schema version, made by something else than `spec` says (the fields
            that differ are listed), shards missing or damaged.
    """
    return Store(path, spec)


__all__ = ["LoadedFrames", "LoadedVectors", "Store", "open_store"]
