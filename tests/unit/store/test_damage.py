"""Flipped bits, missing files, unknown versions, a full disk: never a wrong number, always a name and a remedy."""

import errno
import json
import os
import random

import h5py
import numpy as np
import pytest
from store_helpers import assert_holds, fill, make_items, make_spec

import repkit.store.manifest
import repkit.store.reader
import repkit.store.shard
from repkit.errors import StoreError
from repkit.store import StoreWriter, open_store


def _flip(path, offset, bit=1):
    content = bytearray(path.read_bytes())
    content[offset] ^= bit
    path.write_bytes(content)


def _offset_of_values(path, kind):
    with h5py.File(path, "r") as file:
        return file[kind].id.get_chunk_info(0).byte_offset


def test_any_flipped_bit_is_found_on_opening(tmp_path, kind):
    fill(tmp_path / "s", make_spec(kind), make_items(kind))
    shard = tmp_path / "s" / "shard-00001.h5"
    whole = shard.read_bytes()
    chance = random.Random(3)
    for _ in range(30):
        _flip(shard, chance.randrange(len(whole)), 1 << chance.randrange(8))
        with pytest.raises(StoreError, match=r"shard-00001\.h5: damaged \(sha256"):
            open_store(tmp_path / "s")
        shard.write_bytes(whole)
    open_store(tmp_path / "s").verify()


def test_a_flipped_bit_in_a_large_store_is_found_on_loading_and_reading(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(repkit.store.reader, "_VERIFY_ON_OPEN", 0)
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items)
    shard = tmp_path / "s" / "shard-00001.h5"
    _flip(shard, _offset_of_values(shard, kind) + 1)
    store = open_store(tmp_path / "s")
    np.testing.assert_array_equal(store.read(store.ids[0]), items[0][1])
    store.load(store.ids[:4])  # items 0 to 4, of which one is left out
    with pytest.raises(StoreError, match=r"shard-00001\.h5: damaged"):
        store.read(store.ids[4])
    with pytest.raises(StoreError, match=r"shard-00001\.h5: damaged"):
        store.load()
    with pytest.raises(StoreError, match="1 damaged shards"):
        store.verify()


def test_what_the_checksum_of_a_chunk_cannot_see(tmp_path, monkeypatch):
    """fletcher32 takes 0xFFFF for 0x0000: loading finds it by the SHA-256, reading because it is no number."""
    monkeypatch.setattr(repkit.store.reader, "_VERIFY_ON_OPEN", 0)
    fill(tmp_path / "s", make_spec("vectors"), [("c/a", np.zeros(6)), ("c/b", np.ones(6))])
    shard = tmp_path / "s" / "shard-00000.h5"
    content = bytearray(shard.read_bytes())
    at = _offset_of_values(shard, "vectors")
    assert content[at : at + 2] == b"\0\0"
    content[at : at + 2] = b"\xff\xff"
    shard.write_bytes(content)
    store = open_store(tmp_path / "s")
    with h5py.File(shard, "r") as file:
        assert np.isnan(file["vectors"][0, 0])  # no complaint from HDF5
    with pytest.raises(StoreError, match="'c/a' is not finite"):
        store.read("c/a")
    np.testing.assert_array_equal(store.read("c/b"), np.ones(6))
    with pytest.raises(StoreError, match="sha256"):
        store.load(["c/b"])


def test_a_flipped_bit_is_found_when_an_unfinished_store_is_taken_up(tmp_path, kind):
    fill(tmp_path / "s", make_spec(kind), make_items(kind), finish=False)
    shard = tmp_path / "s" / "shard-00001.h5"
    _flip(shard, _offset_of_values(shard, kind) + 1)
    with pytest.raises(StoreError, match=r"shard-00001\.h5: damaged"):
        StoreWriter(tmp_path / "s", make_spec(kind), 5)
    shard.write_bytes(b"not HDF5")
    with pytest.raises(StoreError, match=r"shard-00001\.h5: damaged"):
        StoreWriter(tmp_path / "s", make_spec(kind), 5)


def test_missing_and_cut_shards(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items())
    (tmp_path / "s" / "shard-00001.h5").unlink()
    shard = tmp_path / "s" / "shard-00002.h5"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(StoreError, match="restore them") as caught:
        open_store(tmp_path / "s")
    assert caught.value.problems[0] == "shard-00001.h5: missing"
    assert caught.value.problems[1].startswith("shard-00002.h5: ")


def test_what_the_system_says_is_not_told_as_damage(tmp_path):
    """With `delete the store's folder` as the remedy, a limit of open files would cost hours of work."""
    resource = pytest.importorskip("resource")
    fill(tmp_path / "s", make_spec(), make_items())
    store = open_store(tmp_path / "s")  # imports what is needed
    shard = tmp_path / "s" / "shard-00000.h5"
    old, handle = resource.getrlimit(resource.RLIMIT_NOFILE), os.dup(0)
    os.close(handle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handle, old[1]))
    try:
        for read in (
            lambda: repkit.store.shard.read_index(shard),
            lambda: repkit.store.manifest.read_manifest(store.path),
        ):
            with pytest.raises(StoreError, match=r"could not be read \(Too many open files\)") as caught:
                read()
            assert "delete" not in caught.value.message
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert_holds(open_store(tmp_path / "s"), make_items())


def test_unfinished_and_absent(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    with pytest.raises(StoreError, match="start the command that fills it again"):
        open_store(tmp_path / "s")
    with pytest.raises(StoreError, match="check the path"):
        open_store(tmp_path / "nothing")
    fill(tmp_path / "all" / "emodb", make_spec(), make_items())
    with pytest.raises(StoreError, match=r"name one of the stores in it: emodb$"):
        open_store(tmp_path / "all")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema version 2; version 1 was expected"),
        ({"schema": "other"}, "no store of repkit"),
        ({"n_utterances": 3}, "checksum does not match"),
        ({"left_out": []}, "checksum does not match"),
    ],
)
def test_changed_manifest(tmp_path, change, words):
    fill(tmp_path / "s", make_spec(), make_items())
    path = tmp_path / "s" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=words):
        open_store(tmp_path / "s")


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_broken_manifest_can_be_made_again(tmp_path, content):
    items = make_items()
    fill(tmp_path / "s", make_spec(), items)
    path = tmp_path / "s" / "manifest.json"
    path.write_text(content)
    with pytest.raises(StoreError, match="delete it and start the command"):
        open_store(tmp_path / "s")
    path.unlink()
    fill(tmp_path / "s", make_spec(), items)
    assert_holds(open_store(tmp_path / "s"), items)


def test_unknown_schema_version_of_a_shard(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    with h5py.File(tmp_path / "s" / "shard-00000.h5", "r+") as file:
        file.attrs["schema_version"] = 7
    with pytest.raises(StoreError, match="schema version 7; version 1 was expected"):
        StoreWriter(tmp_path / "s", make_spec(), 5)


@pytest.mark.parametrize("limit", [3000, 12_000, 40_000, 100_000])
def test_size_limit(tmp_path, kind, limit):
    """A real failure of the file system (EFBIG); a native HDF5 file would end the process with a segmentation fault."""
    resource = pytest.importorskip("resource")
    random = np.random.default_rng(0)
    shape = (40, 64) if kind == "frames" else (2048,)
    spec = make_spec(kind, dim=shape[-1], dtype="float32")
    items = [(f"c/{i}", random.normal(size=shape).astype(np.float32)) for i in range(23)]
    fill(tmp_path / "s", spec, items[:2], shard_size=20, finish=False)
    published = sorted(os.listdir(tmp_path / "s"))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(StoreError) as caught:
            fill(tmp_path / "s", spec, items, shard_size=20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "the disk is full or a size limit is reached (" in caught.value.message
    assert "MB free" in caught.value.message
    assert str(tmp_path / "s") in caught.value.message
    assert sorted(os.listdir(tmp_path / "s")) == published
    fill(tmp_path / "s", spec, items, shard_size=20)
    assert open_store(tmp_path / "s", spec).ids == tuple(id for id, _ in items)
    np.testing.assert_array_equal(open_store(tmp_path / "s").load().values, np.vstack([v for _, v in items]))


def test_no_space_left_when_syncing(tmp_path, monkeypatch):
    items = make_items()
    spec = make_spec()
    fill(tmp_path / "s", spec, items[:13], finish=False)
    before = sorted(os.listdir(tmp_path / "s"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(repkit.store.shard, "publish", full)
        with pytest.raises(StoreError, match=r"shard-0000\d\.h5: the disk is full .*MB free"):
            fill(tmp_path / "s", spec, items)
    assert sorted(os.listdir(tmp_path / "s")) == before
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StoreError, match="the disk is full"):
            fill(tmp_path / "s", spec, items)
    fill(tmp_path / "s", spec, items)
    assert_holds(open_store(tmp_path / "s", spec), items)


def test_no_space_left_for_the_manifest(tmp_path, monkeypatch):
    items = make_items()
    replace = os.replace

    def full_for_json(source, target):
        if str(target).endswith(".json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_for_json)
        with pytest.raises(StoreError, match="the disk is full"):
            fill(tmp_path / "s", make_spec(), items)
    with StoreWriter(tmp_path / "s", make_spec(), 5) as writer:
        assert writer.n_done == len(items)
        writer.finish()
    assert_holds(open_store(tmp_path / "s"), items)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a writable folder was expected"):
        StoreWriter(tmp_path / "file" / "s", make_spec())
