"""Whether a shard's HDF5 file is built as it was written, seen before its content is read.

HDF5 checks the bytes of a chunk (fletcher32), but not its own notes on types, shapes and places of chunks: with one wrong byte
there, a chunk that is not found reads as zeros, numbers are read as of another type, or memory is asked for that no file could
fill. What repkit writes has one form, so everything that could go so wrong is compared with it. Source: own design.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt


def check_dataset(dataset: Any, dtype: npt.DTypeLike, n_dims: int, n_bytes: int) -> None:
    """See that type, filters and size of a dataset are those of a shard.

    Nothing of the dataset is read, so that a damaged shape costs no memory.

    Args:
        dataset: an open `h5py.Dataset`.
        dtype: of its values.
        n_dims: its dimensions.
        n_bytes: size of the file.

    Raises:
        ValueError: says what is otherwise.
    """
    import h5py

    name = _name(dataset)
    shape, chunk, wanted = dataset.shape, dataset.chunks, np.dtype(dtype)
    if not dataset.id.get_type().equal(h5py.h5t.py_create(wanted)):
        raise ValueError(f"{name} of type {dataset.dtype}; {wanted} was expected")
    if shape is None or chunk is None or len(shape) != n_dims:
        raise ValueError(f"{name} of shape {shape} in chunks {chunk}; {n_dims} dimensions in chunks were expected")
    filters = dataset.id.get_create_plist()
    if filters.get_nfilters() != 1 or filters.get_filter(0)[0] != h5py.h5z.FILTER_FLETCHER32:
        raise ValueError(f"{name} has other filters than its checksum")
    if _n_chunks(dataset) * _stored(dataset) > n_bytes:
        raise ValueError(f"{name} of shape {shape} is larger than the file")


def check_chunks(dataset: Any, n_bytes: int) -> None:
    """See that each chunk of a dataset that `check_dataset` has passed is there once; takes 6 us for each.

    Args:
        dataset: an open `h5py.Dataset`.
        n_bytes: size of the file.

    Raises:
        ValueError: says what is otherwise.
    """
    name, shape, chunk = _name(dataset), dataset.shape, dataset.chunks
    n_chunks, stored = _n_chunks(dataset), _stored(dataset)
    places: list[Any] = []
    dataset.id.chunk_iter(places.append)
    if len(places) != n_chunks or len({place.chunk_offset for place in places}) != n_chunks:
        raise ValueError(f"{name} has {len(places)} chunks; {n_chunks} were expected")
    for place in places:
        if any(at % size or at >= extent for at, size, extent in zip(place.chunk_offset, chunk, shape, strict=True)):
            raise ValueError(f"{name} has a chunk at {place.chunk_offset}, outside its shape {shape}")
        if place.filter_mask or place.size != stored:
            raise ValueError(f"{name} has a chunk of {place.size} bytes; {stored} with its checksum were expected")
    begins = sorted(place.byte_offset for place in places)
    if begins and (begins[-1] + stored > n_bytes or any(b - a < stored for a, b in pairwise(begins))):
        raise ValueError(f"{name} has chunks that lie over each other or behind the end of the file")


def _name(dataset: Any) -> str:
    return str(dataset.name).lstrip("/")


def _n_chunks(dataset: Any) -> int:
    """Return the chunks that its shape needs."""
    return math.prod(-(-extent // size) for extent, size in zip(dataset.shape, dataset.chunks, strict=True))


def _stored(dataset: Any) -> int:
    """Return the bytes of a chunk in the file, with the four of its checksum."""
    return int(math.prod(dataset.chunks) * dataset.dtype.itemsize) + 4


def check_root(file: Any, datasets: Collection[str]) -> None:
    """See that a file holds no other datasets than a shard can have, and that every attribute is one value.

    Args:
        file: an open `h5py.File`.
        datasets: names that a shard can have.

    Raises:
        ValueError: names what is otherwise.
    """
    if other := sorted(set(file) - set(datasets)):
        raise ValueError(f"holds {other[0]!r}, which no shard has")
    for name in file.attrs:
        if file.attrs.get_id(name).shape != ():
            raise ValueError(f"attribute {name} is not one value")


def refuse_absent(dataset: Any, start: int, stop: int) -> None:
    """See that HDF5 finds the chunks of some rows; where it does not, it gives zeros for them and says nothing.

    Args:
        dataset: an open `h5py.Dataset` (N, dim) whose chunks are as wide as itself.
        start: the first row.
        stop: the row behind the last one.

    Raises:
        OSError: a chunk is not found.
    """
    size = dataset.chunks[0]
    for number in range(start // size, -(-stop // size)):
        dataset.id.read_direct_chunk((number * size, 0))
