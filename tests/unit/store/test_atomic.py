import errno
import json
import os
import struct

import pytest

from repkit.errors import DataError
from repkit.runs.atomic import atomic_write, is_disk_full, write_json_atomic, write_text_atomic


def test_file_appears_whole_and_no_temporary_stays(tmp_path):
    with atomic_write(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"12")
        assert not (tmp_path / "a.bin").exists()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".bin"
        assert temporary.match("*.tmp.*")
    assert (tmp_path / "a.bin").read_bytes() == b"12"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_failure_keeps_the_old_file(tmp_path):
    write_text_atomic(tmp_path / "a.txt", "old")

    def fail():
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_round_trip_and_refusal_of_nan(tmp_path):
    write_json_atomic(tmp_path / "a.json", {"b": [1, "é"], "a": None})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": [1, "é"], "a": None}
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["a"] is None


def test_full_disk_names_path_and_free_space(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a\.txt: the disk is full .*MB free"):
        write_text_atomic(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EFBIG, "x"), True),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space')"), True),
        (RuntimeError("Io error: No space left on device (os error 28)"), True),
        (OSError("errno = 2"), False),
        (OSError("errno = 280"), False),
        (OSError(errno.EACCES, "denied"), False),
    ],
)
def test_what_counts_as_a_full_disk(error, full):
    assert is_disk_full(error) is full


@pytest.mark.skipif(os.name != "posix", reason="rights of files")
@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_made_for_its_owner_alone_gets_the_rights_of_any_new_file(tmp_path, mask, rights):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a.bin") as temporary:
            temporary.touch(mode=0o600)  # as safetensors makes its files
        with atomic_write(tmp_path / "wide.bin") as temporary:
            temporary.touch()
            temporary.chmod(0o664)  # as a folder's access list may give
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == rights
    assert (tmp_path / "wide.bin").stat().st_mode & 0o777 == 0o664  # nothing is taken away


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="access lists of Linux")
def test_the_access_list_of_a_folder_decides_and_not_the_umask(tmp_path):
    everyone = (1 << 32) - 1
    entries = [(1, 7, everyone), (4, 7, everyone), (32, 0, everyone)]  # u::rwx, g::rwx, o::---
    try:
        os.setxattr(
            tmp_path,
            "system.posix_acl_default",
            struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries),
        )
    except OSError:
        pytest.skip("a file system without access lists")
    with atomic_write(tmp_path / "a.bin") as temporary:
        temporary.touch(mode=0o600)
    write_json_atomic(tmp_path / "a.json", {})
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.bin", "a.json")] == [0o660, 0o660]
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "a.json"]
