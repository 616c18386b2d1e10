"""One writer at a time, also beside the writers of before, who locked the folder itself; none for a finished store."""

import os

import pytest
from store_helpers import fill, make_items, make_spec

import repkit.store.writer
from repkit.errors import StoreError
from repkit.runs.directory import FolderInUseError, locked
from repkit.store import StoreWriter, open_store
from repkit.store.files import StoreInUseError

fcntl = pytest.importorskip("fcntl")


def test_a_writer_holds_a_regular_file_and_the_folder_and_leaves_neither(tmp_path):
    path = tmp_path / "s"
    with StoreWriter(path, make_spec(), 5) as writer:
        writer.add("c/a", [[1.0] * 6])
        with pytest.raises(StoreInUseError, match="another process is writing this store"):
            StoreWriter(path, make_spec(), 5)
        with pytest.raises(FolderInUseError), locked(path):  # what holds between machines
            pass
        handle = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # what an earlier repkit looks at
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    assert os.listdir(path) == ["shard-00000.h5"]


def test_an_earlier_writer_at_work_is_respected(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items()[:3], finish=False)
    handle = os.open(tmp_path / "s", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    stray = tmp_path / "s" / "shard-00001.tmp.there.1-0-ab.h5"
    stray.write_bytes(b"its own")
    with pytest.raises(StoreInUseError):
        StoreWriter(tmp_path / "s", make_spec(), 5)
    assert stray.exists()
    os.close(handle)
    fill(tmp_path / "s", make_spec(), make_items())


def test_a_finished_store_needs_no_lock(tmp_path, monkeypatch):
    fill(tmp_path / "s", make_spec(), make_items())
    monkeypatch.setattr(repkit.store.writer, "lock_store", None)  # as in a folder that may only be read
    with StoreWriter(tmp_path / "s", make_spec(), 5) as writer:
        assert writer.finished
    assert len(open_store(tmp_path / "s")) == 20


def test_a_folder_that_may_not_be_written_is_told_as_such(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(StoreError, match="a file that this user may write was expected"):
        StoreWriter(tmp_path, make_spec(), 5)
