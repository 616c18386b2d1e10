"""Fill a store item by item; killed at any moment and started again, it ends as if nothing had happened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from repkit import __version__
from repkit.errors import DataError, StoreError
from repkit.runs.atomic import TEMPORARY, disk_full_message, is_disk_full
from repkit.store.files import lock_store, sha256_of, shard_name
from repkit.store.manifest import MANIFEST, read_manifest, write_manifest
from repkit.store.shard import (
    LeftOut,
    ShardIndex,
    ShardWriter,
    damaged,
    manifest_entry,
    read_index,
    read_values,
)
from repkit.store.spec import StoreSpec
from repkit.store.values import check_id, convert, twice

SHARD_SIZE = 512
"""Stream items of a shard: seconds to minutes of work, which is what a kill costs at most."""

_SHARD = re.compile(r"shard-(\d{5,})\.h5")


class StoreWriter:
    """Writes a store; a context manager. It alone holds the folder, also while other processes make its shards.

    Items come in the order of a stream that is the same every time (`repkit.api.Corpus.stream`): each is either
    added or left out, and shard k holds the items [k * shard_size, (k + 1) * shard_size), kept and left out together.
    So a shard can be made without the ones before it: by `repkit.store.parts.make_shard` in any process, which this
    writer is then told of by `take_in`. Every full shard is published at once; an orderly end without `finish` (an error,
    Ctrl-C) publishes the one that was begun too, which the next writer takes up again. After a kill only the items of
    unpublished shards are made again.

    Args:
        path: folder of the store; made if missing.
        spec: identity of the store.
        shard_size: stream items per shard; an unfinished store keeps the one it was begun with.

    Attributes:
        path: the folder.
        spec: identity of the store.
        shard_size: stream items per shard.
        finished: whether the store is complete; then nothing can be added.

    Raises:
        StoreInUseError: another process is writing an unfinished store there (a `StoreError`; nobody holds a finished one).
        StoreError: the folder holds another store, a damaged one, or may not be written.
    """

    def __init__(self, path: str | os.PathLike[str], spec: StoreSpec, shard_size: int = SHARD_SIZE) -> None:
        if shard_size < 1:
            raise StoreError(f"{path}: shard size {shard_size}; at least 1 was expected; leave it at the default")
        self.path = Path(path)
        self.spec = spec
        self.shard_size = shard_size
        self.finished = False
        self._entries: dict[int, dict[str, Any]] = {}
        self._counts: dict[int, int] = {}  # stream items of each published shard
        self._left_out: dict[int, tuple[LeftOut, ...]] = {}
        self._seen: set[str] = set()
        self._shard: ShardWriter | None = None
        self._position = 0  # of the next item in the stream
        self._lock: ExitStack | None = None
        if not (self.path / MANIFEST).exists():
            with self._disk():
                self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_store(self.path)
        try:
            self._open()
        except BaseException:
            self._unlock()
            raise

    @property
    def n_done(self) -> int:
        """Where to go on after a restart: the place in the stream of the first item (kept or left out) not on disk."""
        return self.gaps()[0][0] if not self.finished else self._position

    @property
    def left_out(self) -> dict[str, str]:
        """Ids left out so far, in this run and before, with their reasons, in the order of the stream."""
        parts = dict(self._left_out)
        if self._shard is not None:
            parts[self._shard.index] = tuple(self._shard.left_out)
        return dict(pair for index in sorted(parts) for pair in parts[index])

    def gaps(self) -> list[tuple[int, int | None]]:
        """Return the stretches [start, stop) of the stream that are not on disk; the last one has no known end (None).

        A stretch ends where a shard ends, so that a writer fed with all of it has published it.
        """
        last = max(self._counts, default=-1)
        found: list[tuple[int, int | None]] = []
        for index in range(last + 1):
            start, stop = index * self.shard_size + self._counts.get(index, 0), (index + 1) * self.shard_size
            if start < stop:
                if found and found[-1][1] == start:
                    start = found.pop()[0]
                found.append((start, stop))
        end = (last + 1) * self.shard_size
        if found and found[-1][1] == end:
            return [*found[:-1], (found[-1][0], None)]
        return [*found, (end, None)]

    def missing(self, n_items: int) -> list[int]:
        """Return the shards of a stream of n_items items that are not whole on disk.

        Raises:
            StoreError: there are shards beyond the end of the stream.
        """
        if self.finished:
            return []
        n_shards = -(-n_items // self.shard_size)
        if self._counts and max(self._counts) * self.shard_size + self._counts[max(self._counts)] > n_items:
            raise StoreError(
                f"{self.path}: holds {shard_name(max(self._counts))}, beyond the {n_items} utterances of the corpus; the "
                "corpus it was begun with was expected; delete the store's folder and make it again"
            )
        return [
            index
            for index in range(n_shards)
            if self._counts.get(index, 0) < min(self.shard_size, n_items - index * self.shard_size)
        ]

    def take_in(self, index: int, sha256: str, ids: Sequence[str] | None = None) -> None:
        """Count a shard that another process has made.

        Args:
            index: its number.
            sha256: its checksum, as whoever made it said.
            ids: the utterances it should hold or leave out, if they are known.

        Raises:
            StoreError: it is of another store, or holds others.
        """
        found = read_index(self.path / shard_name(index))
        self._check_place(found, index)
        here = [*found.ids, *(id for id, _ in found.left_out)]
        if ids is not None and sorted(ids) != sorted(here):
            strange = sorted(set(ids) ^ set(here))[:5]
            raise damaged(found.path, f"other utterances than the corpus has at this place: {', '.join(strange)}")
        replaced = self._counts.get(index, 0) > 0
        if not replaced and (again := next((id for id in here if id in self._seen), None)) is not None:
            raise twice(self.path, again)
        self._count(found, sha256)

    def _open(self) -> None:
        if (self.path / MANIFEST).exists():
            manifest = read_manifest(self.path)
            self._refuse_other(manifest.spec)
            self.finished = True
            self._left_out = {0: tuple(manifest.left_out)}
            self._position = manifest.n_utterances + len(manifest.left_out)
            return
        for stray in self.path.glob(TEMPORARY):
            stray.unlink(missing_ok=True)
        indices = sorted(int(match[1]) for entry in self.path.iterdir() if (match := _SHARD.fullmatch(entry.name)))
        for number, index in enumerate(indices):
            found = read_index(self.path / shard_name(index))
            self._refuse_other(found.spec)
            if not found.shard_size:
                raise StoreError(
                    f"{found.path}: begun by an earlier repkit, which divided stores into shards in another way; a "
                    "finished store or one begun by this repkit was expected; delete the store's folder and make it again"
                )
            if number == 0:
                self.shard_size = found.shard_size
            self._check_place(found, index)
            # also the check of every chunk's checksum, before the file's is put into the manifest as right
            read_values(found)
            self._count(found, sha256_of(found.path))
        self._position = self.n_done

    def _check_place(self, found: ShardIndex, index: int) -> None:
        self._refuse_other(found.spec)
        size = self.shard_size
        if found.index != index or found.shard_size != size or found.n_before != index * size:
            raise damaged(
                found.path,
                f"shard {found.index} of {found.shard_size} items each, from item {found.n_before}; "
                f"shard {index} of {size} each was expected",
            )
        if not 0 < found.n_seen <= size:
            raise damaged(found.path, f"{found.n_seen} items; 1 to {size} were expected")

    def _count(self, found: ShardIndex, sha256: str) -> None:
        self._seen.update(found.ids, (id for id, _ in found.left_out))
        self._counts[found.index] = found.n_seen
        self._left_out[found.index] = found.left_out
        self._entries[found.index] = manifest_entry(found.path, sha256, len(found.ids), int(found.offsets[-1]))

    def _refuse_other(self, found: StoreSpec) -> None:
        if found.fingerprint != self.spec.fingerprint:
            raise StoreError(
                f"{self.path}: a store of fingerprint {found.fingerprint[:12]}; {self.spec.fingerprint[:12]} was "
                "expected; choose another folder, or delete this one to make it again",
                found.differences(self.spec),
            )

    def _current(self) -> ShardWriter:
        """Return the shard of the next item; one that was published short is copied into a new one to be filled."""
        if self._shard is None:
            index = self._position // self.shard_size
            self._shard = ShardWriter(self.path, index, self.spec, self.shard_size)
            if self._counts.get(index):
                found = read_index(self.path / shard_name(index))
                values = read_values(found)
                for row, id in enumerate(found.ids):
                    part = values[found.offsets[row] : found.offsets[row + 1]]
                    start_s = None if found.starts is None else float(found.starts[row])
                    self._shard.add(id, part if self.spec.kind == "frames" else part[0], start_s)
                self._shard.left_out.extend(found.left_out)
        return self._shard

    def add(self, id: str, values: npt.ArrayLike, start_s: float | None = None) -> None:
        """Add one utterance: (T, dim) frames with T >= 1, or one (dim,) vector.

        Args:
            id: of the utterance.
            values: its frames or vector.
            start_s: seconds of the utterance before its first frame; None where that is not known.

        Raises:
            StoreError: wrong shape, not finite, too large for the dtype, an id seen before, or a full disk. The
                store is as it was; after a full disk the writer is of no use any more.
        """
        if self._is_there(id):
            return
        converted = convert(self.path, self.spec, id, values)
        try:
            self._current().add(id, converted, start_s)
        except BaseException:
            self._abandon()
            raise
        self._step(id)

    def leave_out(self, id: str, reason: str) -> None:
        """Record that an utterance was met and is left out, with the reason.

        Raises:
            StoreError: an id seen before, or a full disk.
        """
        if not self._is_there(id):
            self._current().left_out.append((id, reason))
            self._step(id)

    def _is_there(self, id: str) -> bool:
        """Check an id; tell whether a shard that was made earlier holds the item at this place, which is then passed."""
        if self.finished:
            raise StoreError(f"{self.path}: finished, but {id!r} came; no more was expected; make a new store")
        if self._lock is None:
            raise StoreError(f"{self.path}: closed, but {id!r} came; open a new StoreWriter to go on")
        check_id(self.path, id)
        index, place = divmod(self._position, self.shard_size)
        there = self._shard is None and place < self._counts.get(index, 0)
        if there and id not in self._seen:
            raise damaged(self.path / shard_name(index), f"it should hold {id!r}")
        if not there and id in self._seen:
            raise twice(self.path, id)
        self._position += there
        return there

    def _step(self, id: str) -> None:
        self._seen.add(id)
        self._position += 1
        if self._shard is not None and self._shard.n_seen == self.shard_size:
            self._publish()

    def _publish(self) -> None:
        shard, self._shard = self._current(), None
        try:
            digest = shard.publish()
        except BaseException:
            self._unlock()
            raise
        self._counts[shard.index] = shard.n_seen
        self._left_out[shard.index] = tuple(shard.left_out)
        self._entries[shard.index] = manifest_entry(shard.path, digest, len(shard.ids), shard.n_rows)

    def go_to(self, position: int) -> None:
        """Go on at a place of the stream where one of the `gaps` begins.

        Raises:
            StoreError: none begins there, or a shard is begun.
        """
        if self._shard is not None or position not in (start for start, _ in self.gaps()):
            raise StoreError(
                f"{self.path}: item {position} cannot come next; the begin of a gap was expected; see StoreWriter.gaps"
            )
        self._position = position

    def finish(self) -> None:
        """Publish the last shard and then the manifest, which makes the store complete; again: nothing.

        Raises:
            StoreError: nothing was kept, a shard is missing, or a full disk.
        """
        if self.finished:
            return
        if self._lock is None:
            raise StoreError(f"{self.path}: closed before it was finished; open a new StoreWriter to go on")
        n_kept = sum(e["n"] for k, e in self._entries.items() if self._shard is None or k != self._shard.index)
        if n_kept + (len(self._shard.ids) if self._shard else 0) == 0:
            raise StoreError(
                f"{self.path}: no utterance was kept; at least one was expected; see why they were left out",
                [f"{id}: {reason}" for id, reason in list(self.left_out.items())[:20]],
            )
        if self._shard is not None:
            self._publish()
        if len(self.gaps()) > 1:
            wanted = ", ".join(f"{start} to {stop}" for start, stop in self.gaps()[:-1])
            raise StoreError(
                f"{self.path}: items {wanted} of the stream are missing; all before the last were expected; start the "
                "command that fills the store again"
            )
        with self._disk():
            write_manifest(
                self.path,
                spec=self.spec,
                shards=[self._entries[index] for index in sorted(self._entries)],
                left_out=list(self.left_out.items()),
                created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
                repkit_version=__version__,
            )
        self.finished = True

    def close(self) -> None:
        """Publish the shard that was begun, so that nothing made is lost, and let go of the folder."""
        try:
            shard = self._shard
            if shard is not None:
                if shard.n_seen > self._counts.get(shard.index, 0):
                    self._publish()
                else:
                    self._abandon()  # exactly what is published already
        finally:
            self._unlock()

    def _abandon(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.discard()
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except (OSError, DataError) as error:
            if is_disk_full(error):
                raise StoreError(disk_full_message(self.path)) from error
            raise StoreError(
                f"{self.path}: {error}; a writable folder was expected; check its rights and its disk"
            ) from error

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["SHARD_SIZE", "StoreWriter"]
