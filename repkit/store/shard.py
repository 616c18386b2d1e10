"""One HDF5 shard: written once under a temporary name, published whole, then never changed.

Datasets: ``ids`` (n,) fixed-length UTF-8 bytes; ``frames`` (N, dim) with ``offsets`` (n+1,) int64 and, where whoever made
them tells, ``starts`` (n,) float64 seconds, or ``vectors`` (n, dim); ``spec`` and ``left_out`` JSON as bytes (HDF5 attributes
end at 64 KiB, a list of speakers may not).
Attributes: ``schema``, ``schema_version``, ``index``, ``shard_size``, ``fingerprint``, ``n_before`` and ``n_seen`` (stream
items before and in this shard, kept or left out), ``complete`` (set last). No times, so that equal content gives equal
bytes, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from repkit.errors import StoreError
from repkit.runs.atomic import disk_full_message, is_disk_full, publish, temporary_name
from repkit.store.files import fsize, machine, sha256_of, shard_name, told_by_system, unread
from repkit.store.guarded import GuardedFile
from repkit.store.spec import SCHEMA, SCHEMA_VERSION, StoreSpec
from repkit.store.structure import check_chunks, check_dataset, check_root, refuse_absent

DATASETS = ("frames", "offsets", "starts", "vectors", "ids", "spec", "left_out")
FRAME_CHUNK = 256
VECTOR_CHUNK = 16
_FLUSH_BYTES = 8 << 20

Values = npt.NDArray[Any]
LeftOut = tuple[str, str]


class ShardWriter:
    """Writes one shard; frames go to disk as they come, so memory stays small.

    Args:
        folder: folder of the store.
        index: number of the shard.
        spec: identity of the store.
        shard_size: stream items of a full shard; this one holds items [index * shard_size, (index + 1) * shard_size).
    """

    def __init__(self, folder: Path, index: int, spec: StoreSpec, shard_size: int) -> None:
        import h5py

        self.path = folder / shard_name(index)
        self.spec = spec
        self.ids: list[str] = []
        self.left_out: list[LeftOut] = []
        self.index = index
        self._shard_size = shard_size
        self._lengths: list[int] = []
        self._starts: list[float | None] = []
        self._pending: list[Values] = []
        self._pending_bytes = 0
        # the name of this machine too: processes of several may write to one folder, and process ids repeat
        self._temporary = temporary_name(self.path.with_name(f"{self.path.stem}.tmp.{machine()}{self.path.suffix}"))
        try:
            self._guard = GuardedFile(self._temporary)
        except OSError as error:
            raise self._trouble(error) from error
        self._file: Any = h5py.File(self._guard, "w", rdcc_nbytes=1 << 20)
        self._frames: Any = None
        if spec.kind == "frames":
            self._frames = self._file.create_dataset(
                "frames",
                shape=(0, spec.dim),
                maxshape=(None, spec.dim),
                chunks=(FRAME_CHUNK, spec.dim),
                dtype=spec.dtype,
                fletcher32=True,
            )

    @property
    def n_rows(self) -> int:
        """Rows of the values dataset."""
        return sum(self._lengths) if self.spec.kind == "frames" else len(self.ids)

    @property
    def n_seen(self) -> int:
        """Stream items of this shard, kept and left out."""
        return len(self.ids) + len(self.left_out)

    def add(self, id: str, values: Values, start_s: float | None = None) -> None:
        """Add the values of one utterance, (T, dim) or (dim,), already of the store's dtype, and where its frames start."""
        self.ids.append(id)
        self._lengths.append(values.shape[0])
        self._starts.append(start_s)
        self._pending.append(values)
        self._pending_bytes += values.nbytes
        if self.spec.kind == "frames" and self._pending_bytes >= _FLUSH_BYTES:
            self._append_pending()

    def _append_pending(self) -> None:
        if self._pending:
            block = np.concatenate(self._pending)
            n = self._frames.shape[0]
            self._write(lambda: self._extend(n, block))
            self._pending, self._pending_bytes = [], 0

    def _extend(self, n: int, block: Values) -> None:
        self._frames.resize(n + len(block), axis=0)
        self._frames.write_direct(block, dest_sel=np.s_[n : n + len(block)])

    def _write(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            raise self._trouble(self._guard.error or error) from error
        if self._guard.error is not None:
            raise self._trouble(self._guard.error)

    def _trouble(self, error: BaseException) -> BaseException:
        if is_disk_full(error):
            return StoreError(disk_full_message(self.path, "the shards published so far stay and are not made again"))
        if isinstance(error, OSError):
            return StoreError(f"{self.path}: {error}; a writable folder was expected; check its rights and its disk")
        return error

    def publish(self) -> str:
        """Complete the shard, sync it and give it its name; return its SHA-256 (hex).

        Raises:
            StoreError: full disk; nothing is published.
        """
        try:
            self._write(self._complete)
            self._close()
            if self._guard.error is not None:
                raise self._trouble(self._guard.error)
            try:
                digest = sha256_of(self._temporary)
                publish(self._temporary, self.path)
            except OSError as error:
                raise self._trouble(error) from error
        except BaseException:
            self.discard()
            raise
        return digest

    def _complete(self) -> None:
        n = len(self.ids)
        if self.spec.kind == "frames":
            self._append_pending()
            offsets = np.zeros(n + 1, np.int64)
            np.cumsum(self._lengths, out=offsets[1:])
            self._create("offsets", offsets)
            if n and None not in self._starts:
                self._create("starts", np.array(self._starts, np.float64))
        else:
            stacked = np.stack(self._pending) if n else np.zeros((0, self.spec.dim), self.spec.dtype)
            self._create("vectors", stacked, chunks=(max(1, min(VECTOR_CHUNK, n)), self.spec.dim))
        encoded = [id.encode() for id in self.ids]
        self._create("ids", np.array(encoded, dtype=f"S{max(map(len, encoded), default=1)}"))
        self._create("spec", _json_bytes(self.spec.as_json()))
        self._create("left_out", _json_bytes(self.left_out))
        attributes = self._file.attrs
        attributes["schema"] = SCHEMA
        attributes["schema_version"] = SCHEMA_VERSION
        attributes["index"] = self.index
        attributes["fingerprint"] = self.spec.fingerprint
        attributes["shard_size"] = self._shard_size
        attributes["n_before"] = self.index * self._shard_size
        attributes["n_seen"] = self.n_seen
        attributes["complete"] = True

    def _create(self, name: str, array: Values, chunks: tuple[int, ...] | None = None) -> None:
        if chunks is None:
            chunks = (max(1, min(len(array), 1 << 16)),)
        # an extendible shape, because HDF5 lets no chunk be larger than a fixed, here possibly empty, dataset
        maxshape = (None, *array.shape[1:])
        self._file.create_dataset(name, data=array, chunks=chunks, maxshape=maxshape, fletcher32=True)

    def _close(self) -> None:
        if self._file is not None:
            file, self._file, self._frames = self._file, None, None
            try:
                file.close()
            except Exception as error:
                if self._guard.error is None:
                    raise self._trouble(error) from error
            finally:
                self._guard.close()

    def discard(self) -> None:
        """Delete the unfinished file; nothing happens after `publish`."""
        if self._file is not None and self._guard.error is None:
            self._guard.error = OSError("discarded")  # spares the disk the rest of the writing
        try:
            self._close()
        finally:
            # a stray matches TEMPORARY and is swept by the next writer
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class ShardIndex:
    """What a shard holds, without its values.

    Attributes:
        path: the file.
        spec: identity of the store.
        index: number of the shard.
        shard_size: stream items of a full shard of its store; 0 in stores of before, whose shards differ in theirs.
        n_before: stream items before it.
        n_seen: stream items in it.
        ids: n utterance ids.
        offsets: (n+1,) int64 rows of the utterances.
        left_out: ids and reasons.
        starts: (n,) float64 seconds of each utterance before its first frame; None where that is not told.
    """

    path: Path
    spec: StoreSpec
    index: int
    shard_size: int
    n_before: int
    n_seen: int
    ids: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    left_out: tuple[LeftOut, ...]
    starts: npt.NDArray[np.float64] | None = None


def open_hdf5(path: Path) -> Any:
    """Open a published shard for reading, without a lock (it never changes).

    Raises:
        StoreError: missing, no HDF5 file, or not to be read.
    """
    import h5py

    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: missing; a shard of the store was expected; restore it or make the store again"
        ) from error
    except OSError as error:
        raise damaged(path, error) from error


def damaged(path: Path, what: object) -> StoreError:
    """Return the error for a shard that cannot be trusted, or that the system would not let us read."""
    if said := told_by_system(what):
        return unread(path, said)
    return StoreError(
        f"{path}: damaged ({what}); an unchanged shard was expected; "
        "restore it from a copy, or delete the store's folder and make it again"
    )


def read_index(path: Path) -> ShardIndex:
    """Read ids, offsets and provenance of a published shard.

    Raises:
        StoreError: missing, damaged, incomplete or of an unknown schema version.
    """
    with open_hdf5(path) as file:
        try:
            n_bytes = fsize(path)
            check_root(file, DATASETS)
            check_schema(path, file.attrs.get("schema"), file.attrs.get("schema_version"))
            if not file.attrs.get("complete", False):
                raise damaged(path, "not marked complete")

            def read(name: str, dtype: npt.DTypeLike | None = None) -> Any:
                # None of ids alone: its width is that of the longest
                check_dataset(file[name], dtype or f"S{file[name].dtype.itemsize}", 1, n_bytes)
                check_chunks(file[name], n_bytes)
                return file[name][()]

            spec = StoreSpec.from_json(json.loads(bytes(read("spec", np.uint8))))
            raw = read("ids")
            ids = tuple(id.decode() for id in raw.tolist())
            values = file[spec.kind]
            check_dataset(values, spec.dtype, 2, n_bytes)
            offsets = read("offsets", np.int64) if spec.kind == "frames" else np.arange(len(ids) + 1, dtype=np.int64)
            index = ShardIndex(
                path=path,
                spec=spec,
                index=int(file.attrs["index"]),
                shard_size=int(file.attrs.get("shard_size", 0)),
                n_before=int(file.attrs["n_before"]),
                n_seen=int(file.attrs["n_seen"]),
                ids=ids,
                offsets=offsets,
                left_out=tuple((str(id), str(reason)) for id, reason in json.loads(bytes(read("left_out", np.uint8)))),
                starts=read("starts", np.float64) if "starts" in file else None,
            )
            if str(file.attrs["fingerprint"]) != spec.fingerprint:
                raise damaged(path, "its fingerprint does not match its spec")
            if (
                values.shape != (int(offsets[-1]), spec.dim)
                or values.chunks[1] != spec.dim
                or len(offsets) != len(ids) + 1
                or offsets[0] != 0
                or (np.diff(offsets) < 0).any()
                or (index.starts is not None and index.starts.shape != (len(ids),))
            ):
                raise damaged(path, f"{spec.kind} of shape {values.shape} {values.dtype} for {len(ids)} ids")
            if index.n_seen != len(ids) + len(index.left_out):
                raise damaged(path, f"{index.n_seen} items seen, {len(ids)} kept, {len(index.left_out)} left out")
        except StoreError:
            raise
        except Exception as error:  # of a damaged file h5py and json raise whatever they meet
            raise damaged(path, error) from error
    return index


def check_schema(path: Path, schema: object, version: object) -> None:
    """Refuse what this code cannot read.

    Raises:
        StoreError: another schema or an unknown version.
    """
    if schema != SCHEMA:
        raise StoreError(f"{path}: schema {schema!r}; {SCHEMA!r} was expected; this is no store of repkit")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema version {version}; version {SCHEMA_VERSION} was expected; "
            "read it with the repkit that wrote it, or make the store again"
        )


def read_rows(file: Any, index: ShardIndex, rows: Sequence[tuple[int, int]], out: Values) -> None:
    """Read row ranges [start, stop) into `out` one after the other, checked by fletcher32.

    Raises:
        StoreError: a chunk does not match its checksum, or is not found.
    """
    at = 0
    try:
        dataset = file[index.spec.kind]
        for start, stop in rows:
            if stop > start:
                dataset.read_direct(out, np.s_[start:stop], np.s_[at : at + stop - start])
                if not out[at : at + stop - start].any(axis=1).all():
                    refuse_absent(dataset, start, stop)
                at += stop - start
    except Exception as error:  # of a damaged file h5py raises whatever it meets
        raise damaged(index.path, error) from error


def _json_bytes(value: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, sort_keys=True, ensure_ascii=False).encode(), np.uint8)


def read_values(index: ShardIndex) -> Values:
    """Return all values of a shard, as on disk; every chunk must be there and is compared with its checksum.

    Raises:
        StoreError: a chunk does not match its checksum or is not there, or a value is not finite.
    """
    values = np.empty((int(index.offsets[-1]), index.spec.dim), index.spec.dtype)
    with open_hdf5(index.path) as file:
        try:
            check_chunks(file[index.spec.kind], fsize(index.path))
        except Exception as error:  # see read_index
            raise damaged(index.path, error) from error
        read_rows(file, index, [(0, len(values))], values)
    if not np.isfinite(values).all():  # none is ever written; see Store.read
        raise damaged(index.path, "a value is not finite")
    return values


def manifest_entry(path: Path, digest: str, n: int, rows: int) -> dict[str, Any]:
    """Return what the manifest says of a published shard."""
    return {"file": path.name, "sha256": digest, "bytes": fsize(path), "n": n, "rows": rows}
