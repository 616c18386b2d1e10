"""Fill a store item by item; killed at any moment and started again, it ends as if nothing had happened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from repkit import __version__
from repkit.errors import DataError, StoreError
from repkit.runs.atomic import TEMPORARY, disk_full_message, is_disk_full
from repkit.store.manifest import MANIFEST, read_manifest, write_manifest
from repkit.store.shard import (
    ShardIndex,
    ShardWriter,
    damaged,
    fsize,
    open_hdf5,
    read_index,
    read_rows,
    sha256_of,
    shard_name,
)
from repkit.store.spec import StoreSpec

_SHARD = re.compile(r"shard-(\d{5,})\.h5")


class StoreWriter:
    """Writes a store; a context manager.

    Items come in the order of a stream that is the same every time (`repkit.api.Corpus.stream`): each is either
    added or left out, shard k holds kept items [k * shard_size, (k + 1) * shard_size). Every full shard is published
    at once; an orderly end without `finish` (an error, Ctrl-C) publishes the short last one too, which the next
    writer takes up again. After a kill only the items of the unpublished shard are made again.

    Args:
        path: folder of the store; made if missing.
        spec: identity of the store.
        shard_size: utterances per shard.

    Attributes:
        path: the folder.
        spec: identity of the store.
        finished: whether the store is complete; then nothing can be added.

    Raises:
        StoreError: the folder holds another store, a damaged one, or is being written by another process.
    """

    def __init__(self, path: str | os.PathLike[str], spec: StoreSpec, shard_size: int = 4096) -> None:
        if shard_size < 1:
            raise StoreError(f"{path}: shard size {shard_size}; at least 1 was expected; leave it at the default")
        self.path = Path(path)
        self.spec = spec
        self.finished = False
        self._shard_size = shard_size
        self._published: list[dict[str, Any]] = []
        self._left_out: list[tuple[str, str]] = []
        self._seen: set[str] = set()
        self._shard: ShardWriter | None = None
        self._n_closed = 0
        self._n_recorded = 0
        with self._disk():
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_folder(self.path)
        try:
            self._open()
        except BaseException:
            self._unlock()
            raise

    @property
    def n_done(self) -> int:
        """Stream items (kept and left out) that are safely on disk; where to go on after a restart."""
        return self._n_recorded

    @property
    def left_out(self) -> dict[str, str]:
        """Ids left out so far, in this run and before, with their reasons."""
        current = self._shard.left_out if self._shard else []
        return dict([*self._left_out, *current])

    def _open(self) -> None:
        if (self.path / MANIFEST).exists():
            manifest = read_manifest(self.path)
            self._refuse_other(manifest.spec)
            self.finished = True
            self._left_out = list(manifest.left_out)
            self._n_closed = self._n_recorded = manifest.n_utterances + len(manifest.left_out)
            return
        for stray in self.path.glob(TEMPORARY):
            stray.unlink(missing_ok=True)
        indices = sorted(int(match[1]) for entry in self.path.iterdir() if (match := _SHARD.fullmatch(entry.name)))
        for expected, index in enumerate(indices):
            if index != expected:
                raise StoreError(
                    f"{self.path / shard_name(expected)}: missing, but {shard_name(index)} is there; all shards before "
                    "the last were expected; restore it, or delete the store's folder and make it again"
                )
            self._take_up(read_index(self.path / shard_name(index)), last=index == indices[-1])

    def _take_up(self, index: ShardIndex, last: bool) -> None:
        """Check a published shard and count it; a short last one is copied into a new shard to be filled."""
        self._refuse_other(index.spec)
        if index.n_before != self._n_closed or index.index != len(self._published):
            raise damaged(index.path, f"starts at item {index.n_before}, {self._n_closed} was expected")
        values = np.empty((int(index.offsets[-1]), self.spec.dim), self.spec.dtype)
        with open_hdf5(index.path) as file:
            # also the check of every chunk's checksum, before its sha256 is put into the manifest as right
            read_rows(file, index, [(0, len(values))], values)
        self._seen.update(index.ids, (id for id, _ in index.left_out))
        if last and len(index.ids) < self._shard_size:
            shard = self._current()
            for row, id in enumerate(index.ids):
                part = values[index.offsets[row] : index.offsets[row + 1]]
                shard.add(id, part if self.spec.kind == "frames" else part[0])
            shard.left_out.extend(index.left_out)
            self._n_recorded = self._n_closed + index.n_seen
        else:
            self._left_out.extend(index.left_out)
            self._n_closed += index.n_seen
            self._n_recorded = self._n_closed
            self._published.append(_entry(index.path, sha256_of(index.path), len(index.ids), len(values)))

    def _refuse_other(self, found: StoreSpec) -> None:
        if found.fingerprint != self.spec.fingerprint:
            raise StoreError(
                f"{self.path}: a store of fingerprint {found.fingerprint[:12]}; {self.spec.fingerprint[:12]} was "
                "expected; choose another folder, or delete this one to make it again",
                found.differences(self.spec),
            )

    def _current(self) -> ShardWriter:
        if self._shard is None:
            self._shard = ShardWriter(self.path, len(self._published), self.spec, self._n_closed)
        return self._shard

    def add(self, id: str, values: npt.ArrayLike) -> None:
        """Add one utterance: (T, dim) frames with T >= 1, or one (dim,) vector.

        Raises:
            StoreError: wrong shape, not finite, too large for the dtype, an id seen before, or a full disk. The
                store is as it was; after a full disk the writer is of no use any more.
        """
        self._check_id(id)
        converted = self._convert(id, values)
        shard = self._current()
        try:
            shard.add(id, converted)
        except BaseException:
            self._abandon()
            raise
        self._seen.add(id)
        if len(shard.ids) == self._shard_size:
            self._publish()

    def leave_out(self, id: str, reason: str) -> None:
        """Record that an utterance was met and is left out, with the reason.

        Raises:
            StoreError: an id seen before.
        """
        self._check_id(id)
        self._current().left_out.append((id, reason))
        self._seen.add(id)

    def _check_id(self, id: str) -> None:
        if self.finished:
            raise StoreError(f"{self.path}: finished, but {id!r} came; no more was expected; make a new store")
        if self._lock is None:
            raise StoreError(f"{self.path}: closed, but {id!r} came; open a new StoreWriter to go on")
        if not id or "\0" in id:
            raise StoreError(f"{self.path}: id {id!r}; a text without NUL was expected; mend the corpus' ids")
        if id in self._seen:
            raise StoreError(f"{self.path}: id {id!r} came twice; every id once was expected; mend the corpus' ids")

    def _convert(self, id: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
        array = np.asarray(values)
        dim = self.spec.dim
        shape = (max(1, len(array)) if array.ndim else 1, dim) if self.spec.kind == "frames" else (dim,)
        if array.shape != shape or array.dtype.kind not in "fiu":
            wanted = f"(T, {dim}) with T >= 1" if self.spec.kind == "frames" else f"({dim},)"
            raise StoreError(
                f"{self.path}: {id!r} has shape {array.shape} {array.dtype}; {wanted} numbers were expected; "
                "leave the utterance out or mend what made it"
            )
        if not np.isfinite(array).all():
            raise StoreError(
                f"{self.path}: {id!r} holds NaN or infinity; finite numbers were expected; "
                "leave the utterance out or mend what made it"
            )
        with np.errstate(over="ignore"):
            converted = np.array(array, dtype=self.spec.dtype, order="C")
        if not np.isfinite(converted).all():
            raise StoreError(
                f"{self.path}: {id!r} holds {float(np.abs(array).max()):g}; at most "
                f"{float(np.finfo(self.spec.dtype).max):g} fits {self.spec.dtype}; store float32 instead"
            )
        return converted

    def _publish(self) -> None:
        shard, self._shard = self._current(), None
        try:
            digest = shard.publish()
        except BaseException:
            self._unlock()
            raise
        rows = shard.n_rows
        self._published.append(_entry(shard.path, digest, len(shard.ids), rows))
        self._left_out.extend(shard.left_out)
        self._n_closed += shard.n_seen
        self._n_recorded = self._n_closed

    def finish(self) -> None:
        """Publish the last shard and then the manifest, which makes the store complete; again: nothing.

        Raises:
            StoreError: nothing was kept, or a full disk.
        """
        if self.finished:
            return
        if self._lock is None:
            raise StoreError(f"{self.path}: closed before it was finished; open a new StoreWriter to go on")
        n_kept = sum(entry["n"] for entry in self._published) + (len(self._shard.ids) if self._shard else 0)
        if n_kept == 0:
            raise StoreError(
                f"{self.path}: no utterance was kept; at least one was expected; see why they were left out",
                [f"{id}: {reason}" for id, reason in list(self.left_out.items())[:20]],
            )
        if self._shard is not None:
            self._publish()
        with self._disk():
            write_manifest(
                self.path,
                spec=self.spec,
                shards=self._published,
                left_out=self._left_out,
                created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
                repkit_version=__version__,
            )
        self.finished = True

    def close(self) -> None:
        """Publish the short last shard, so that nothing made is lost, and let go of the folder."""
        try:
            shard = self._shard
            if shard is not None:
                if self._n_closed + shard.n_seen > self._n_recorded:
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
            os.close(lock)

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


def _entry(path: Path, digest: str, n: int, rows: int) -> dict[str, Any]:
    return {"file": path.name, "sha256": digest, "bytes": fsize(path), "n": n, "rows": rows}


def _lock_folder(path: Path) -> int | None:
    """Take the folder for this process; the lock goes with the process, also when it is killed."""
    handle = os.open(path, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"{path}: another process is writing this store; one writer was expected; wait for it or stop it"
        ) from error
    except (ImportError, OSError):
        pass  # a file system without locks; writers there are the user's care
    return handle


__all__ = ["StoreWriter"]
