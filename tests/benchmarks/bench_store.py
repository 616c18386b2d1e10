"""Our store against the three usual ways to keep one array per utterance, on disk: writing, reading all, reading some.

The others: one HDF5 dataset per utterance, one HDF5 array that grows with every utterance (what netCDF files with an
unlimited dimension do), one npy file per utterance. Ours writes checksums (one per chunk, one per shard), flushes to the
disk and compares the checksums when it reads; the others do none of that.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import harness
import numpy as np

from repkit.store import StoreSpec, StoreWriter, open_store

Arrays = Mapping[str, np.ndarray]
WAYS = ("dataset per utterance", "growing array", "npy per utterance", "ours")


def material(kind: Literal["vectors", "frames"], quick: bool) -> dict[str, np.ndarray]:
    """Return random arrays by id: vectors (1024,) like the autoencoder's, or frames (T, 128), T from 60 to 320."""
    random = np.random.default_rng(0)
    if kind == "vectors":
        return {f"c/{i:06d}": random.random(1024, np.float32) for i in range(100 if quick else 1500)}
    lengths = random.integers(60, 320, 20 if quick else 200)
    return {f"c/{i:06d}": random.random((int(t), 128), np.float32) for i, t in enumerate(lengths)}


def writers(kind: Literal["vectors", "frames"], arrays: Arrays, folder: Path) -> dict[str, Callable[[], None]]:
    """Return per way a function that writes everything anew."""
    dim = next(iter(arrays.values())).shape[-1]
    spec = StoreSpec(kind=kind, dim=dim, dtype="float32", corpus="c", corpus_fingerprint="0" * 64)

    def fresh(way: str) -> Path:
        path = folder / way.replace(" ", "-")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def datasets() -> None:
        with h5py.File(fresh(WAYS[0]) / "all.h5", "w") as file:
            for name, values in arrays.items():
                file[name] = values

    def growing() -> None:
        with h5py.File(fresh(WAYS[1]) / "all.h5", "w") as file:
            table = file.create_dataset("values", (0, dim), "float32", maxshape=(None, dim), chunks=True)
            offsets = file.create_dataset("offsets", (1,), "int64", maxshape=(None,), chunks=True)
            names = file.create_dataset("ids", (0,), h5py.string_dtype(), maxshape=(None,), chunks=True)
            for number, (name, values) in enumerate(arrays.items()):
                rows = np.atleast_2d(values)
                end = len(table) + len(rows)
                for dataset, n, new in ((table, end, rows), (offsets, number + 2, end), (names, number + 1, name)):
                    before = len(dataset)
                    dataset.resize(n, 0)
                    dataset[before:] = new

    def files() -> None:
        path = fresh(WAYS[2])
        for name, values in arrays.items():
            np.save(path / (name.replace("/", "_") + ".npy"), values)

    def ours() -> None:
        path = fresh(WAYS[3])
        with StoreWriter(path, spec, shard_size=512) as writer:
            for name, values in arrays.items():
                writer.add(name, values)
            writer.finish()

    return dict(zip(WAYS, (datasets, growing, files, ours), strict=True))


def readers(ids: Sequence[str], folder: Path) -> dict[str, Callable[[], Any]]:
    """Return per way a function that opens what was written and reads these utterances in this order, one by one."""

    def datasets() -> list[np.ndarray]:
        with h5py.File(folder / "dataset-per-utterance" / "all.h5") as file:
            return [file[name][()] for name in ids]

    def growing() -> list[np.ndarray]:
        with h5py.File(folder / "growing-array" / "all.h5") as file:
            offsets, table = file["offsets"][()].tolist(), file["values"]
            row = {name.decode(): i for i, name in enumerate(file["ids"][()])}
            return [table[offsets[row[name]] : offsets[row[name] + 1]] for name in ids]

    def files() -> list[np.ndarray]:
        return [np.load(folder / "npy-per-utterance" / (name.replace("/", "_") + ".npy")) for name in ids]

    def ours() -> list[np.ndarray]:
        store = open_store(folder / "ours")
        found = [store.read(name) for name in ids]
        store.close()
        return found

    return dict(zip(WAYS, (datasets, growing, files, ours), strict=True))


def whole(folder: Path) -> Callable[[], Any]:
    """Return the way ours is read for training: everything into one array."""

    def run() -> np.ndarray:
        store = open_store(folder / "ours")
        values = store.load().values
        store.close()
        return values

    return run


def check(arrays: Arrays, ids: Sequence[str], read: Mapping[str, Callable[[], Any]]) -> None:
    """End the script unless every way gives back what was written, bit by bit."""
    for way, function in read.items():
        for name, found in zip(ids, function(), strict=True):
            if not np.array_equal(np.squeeze(found), arrays[name]):
                raise SystemExit(f"{way}: {name} differs from what was written")


def compare(page: harness.Page, options: harness.Options, kind: Literal["vectors", "frames"], folder: Path) -> str:
    """Add the section of one kind; return the phrase for the headline."""
    arrays = material(kind, options.quick)
    ids, n_rows = list(arrays), sum(len(np.atleast_2d(values)) for values in arrays.values())
    some = [ids[i] for i in np.random.default_rng(1).permutation(len(ids))[: len(ids) // 4]]
    n_some = sum(len(np.atleast_2d(arrays[name])) for name in some)
    page.text(
        f"## {kind.capitalize()}\n\n{len(ids)} utterances, {n_rows} rows of {next(iter(arrays.values())).shape[-1]} float32."
    )
    written = harness.interleave(writers(kind, arrays, folder), options.rounds)
    check(arrays, some, readers(some, folder))
    all_read = harness.interleave({**readers(ids, folder), "ours, all at once": whole(folder)}, options.rounds)
    some_read = harness.interleave(readers(some, folder), options.rounds)
    rows = []
    for what, seconds, n, best in (
        ("write", written, n_rows, "ours"),
        ("read all in order", all_read, n_rows, "ours, all at once"),
        ("read a quarter at random", some_read, n_some, "ours"),
    ):
        for way, taken in seconds.items():
            others = "" if way.startswith("ours") else str(harness.ratio(taken, seconds[best]))
            rows.append([f"{what}: {way}", f"{n / harness.median(taken):,.0f}", others])
    page.table(["what", "rows/s", "theirs / ours"], rows)
    against = (
        harness.ratio(written[WAYS[0]], written["ours"]),
        harness.ratio(all_read[WAYS[0]], all_read["ours, all at once"]),
    )
    return f"{kind} {against[0]} written, {against[1]} read"


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare both kinds."""
    page.text(
        "Opening is part of every read; files are in the page cache. Ours checks every chunk and every shard against its "
        "checksum and flushes what it writes to the disk, the others do neither. `ours, all at once` is how training reads."
    )
    with tempfile.TemporaryDirectory(prefix="repkit-bench-store-") as folder:
        parts = [compare(page, options, kind, Path(folder)) for kind in ("vectors", "frames")]
    page.headline("times one HDF5 dataset per utterance: " + "; ".join(parts))


if __name__ == "__main__":
    harness.main("store", "Stores", run)
