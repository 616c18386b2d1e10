"""One wrong byte in HDF5's own notes on a shard that no manifest vouches for: refused, or without any effect; never zeros."""

import shutil

import h5py
import numpy as np
import pytest
from store_helpers import assert_holds, fill, make_items, make_spec

from repkit.errors import StoreError
from repkit.store import StoreWriter, open_store
from repkit.store.shard import FRAME_CHUNK, open_hdf5, read_index, read_rows, read_values


def long_items(kind):
    """Items of several chunks: 40 vectors, or 40 utterances of 20 frames."""
    draw = np.random.default_rng(2)
    shape = (20, 6) if kind == "frames" else (6,)
    return [(f"c/{i:02d}", draw.integers(1, 500, shape).astype(np.float32)) for i in range(40)]


def replaced(path, name, skip=None, **changes):
    """Write a dataset of a shard anew with other settings, and without the chunk that begins at a row."""
    with h5py.File(path, "r+") as file:
        old = file[name]
        values = old[()]
        settings = {"dtype": old.dtype, "chunks": old.chunks, "maxshape": old.maxshape, "fletcher32": True, **changes}
        del file[name]
        new = file.create_dataset(name, shape=values.shape, **settings)
        for start in range(0, len(values), new.chunks[0]):
            if start != skip:
                new[start : start + new.chunks[0]] = values[start : start + new.chunks[0]]


def test_a_byte_of_the_notes(tmp_path, kind):
    """Every 43rd byte of the first 2,900, where superblock, tables and trees of chunks lie."""
    items = long_items(kind)
    fill(tmp_path / "whole", make_spec(kind), items, shard_size=50, finish=False)
    whole = (tmp_path / "whole" / "shard-00000.h5").read_bytes()
    refused = 0
    for place in [*range(5, 2900, 43), *range(1433, 1437)]:
        folder = tmp_path / "s"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        content = bytearray(whole)
        content[place] ^= 0xFF
        (folder / "shard-00000.h5").write_bytes(content)
        try:
            with StoreWriter(folder, make_spec(kind), 50) as writer:
                writer.finish()
        except StoreError:
            refused += 1
            continue
        assert_holds(open_store(folder), items)
    assert refused > 7


@pytest.mark.parametrize("first", [True, False])
def test_a_chunk_that_is_not_there_is_no_zeros(tmp_path, kind, first):
    fill(tmp_path / "s", make_spec(kind), long_items(kind), shard_size=50, finish=False)
    path = tmp_path / "s" / "shard-00000.h5"
    index = read_index(path)
    size = FRAME_CHUNK if kind == "frames" else 16
    replaced(path, kind, skip=0 if first else size)
    with h5py.File(path) as file:
        assert not file[kind][(0 if first else size)].any()  # as HDF5 has it
    with pytest.raises(StoreError, match=r"shard-00000\.h5: damaged \(.* chunks; \d were expected"):
        StoreWriter(tmp_path / "s", make_spec(kind), 50)
    # as a reader of a store too large to be verified at once does it
    with open_hdf5(path) as file:
        for number, (start, stop) in enumerate(zip(index.offsets[:-1], index.offsets[1:], strict=True)):
            out = np.empty((stop - start, 6), np.float16)
            missing = start < size if first else stop > size and start < 2 * size
            if missing:
                with pytest.raises(StoreError, match="damaged"):
                    read_rows(file, index, [(start, stop)], out)
            else:
                read_rows(file, index, [(start, stop)], out)
                np.testing.assert_array_equal(np.atleast_2d(long_items(kind)[number][1]), out)


def test_values_that_are_zero_are_read(tmp_path, kind):
    items = [(id, values * (i % 2)) for i, (id, values) in enumerate(long_items(kind))]
    fill(tmp_path / "s", make_spec(kind), items, shard_size=50, finish=False)
    fill(tmp_path / "s", make_spec(kind), items, shard_size=50)
    assert_holds(open_store(tmp_path / "s"), items)


@pytest.mark.parametrize("name", ["ids", "left_out", "offsets"])
def test_a_length_that_no_file_could_fill_costs_no_memory(tmp_path, name):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    path = tmp_path / "s" / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file[name].resize((1 << 43,))  # 8 TB and more
    with pytest.raises(StoreError, match=rf"damaged \({name} of shape .* is larger than the file"):
        read_index(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "float32"}, "frames of type float32; float16 was expected"),
        ({"dtype": ">f2"}, "frames of type >f2; float16 was expected"),
        ({"fletcher32": False}, "frames has other filters"),
        ({"compression": "gzip"}, "frames has other filters"),
    ],
)
def test_another_type_or_filter(tmp_path, changes, words):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    path = tmp_path / "s" / "shard-00000.h5"
    replaced(path, "frames", **changes)
    with pytest.raises(StoreError, match=words):
        read_index(path)


def test_a_dataset_that_no_shard_has(tmp_path):
    """As where one byte of the name of another one is wrong, so that it seems not to be there."""
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    path = tmp_path / "s" / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file["startt"] = np.zeros(3)
    with pytest.raises(StoreError, match="holds 'startt', which no shard has"):
        read_index(path)


def test_what_the_checksum_of_a_chunk_cannot_see_is_not_vouched_for(tmp_path):
    """fletcher32 takes 0xFFFF for 0x0000, which in float16 is no number."""
    fill(tmp_path / "s", make_spec("vectors"), [("c/a", np.zeros(6)), ("c/b", np.ones(6))], finish=False)
    path = tmp_path / "s" / "shard-00000.h5"
    with h5py.File(path) as file:
        at = file["vectors"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at : at + 2] = b"\xff\xff"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="a value is not finite"):
        read_values(read_index(path))
