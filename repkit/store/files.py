"""The files of a store: their names, sizes and checksums, and the lock of the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
from contextlib import ExitStack, suppress
from pathlib import Path

from repkit.errors import RepkitError, StoreError
from repkit.runs.directory import LOCK, FolderInUseError, locked

_OF_THE_FORMAT = {0, errno.EINVAL, errno.EOVERFLOW}
"""Numbers that a damaged file leads to: lengths and places that no file has."""


class StoreInUseError(StoreError):
    """Another process is writing the store."""


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{index:05d}.h5"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def machine() -> str:
    """Return the name of this machine, as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:40] or "here"


def fsize(path: Path) -> int:
    """Return the size of a file in bytes, or -1 when it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def told_by_system(error: object) -> str:
    """Return what the system said, where it and not the content of a file is why it could not be read; else nothing."""
    if not isinstance(error, OSError) or error.errno is None or error.errno in _OF_THE_FORMAT:
        return ""
    return os.strerror(error.errno)


def unread(path: Path, said: str) -> StoreError:
    """Return the error for a file of a store that the system would not let us read; nothing is said of its content.

    Args:
        path: the file.
        said: see `told_by_system`.
    """
    return StoreError(
        f"{path}: could not be read ({said}); a file that can be read was expected; the store itself may be whole: see to the "
        "rights, the disk, the network or the number of open files (ulimit -n), then start the same command again"
    )


def lock_store(path: Path) -> ExitStack:
    """Take a store's folder for this process; the lock goes with the process, also when it is killed.

    Returns:
        what to close to let go of it; the lock file is then deleted.

    Raises:
        StoreInUseError: another process holds it.
        StoreError: the folder may not be written, or the disk is full.
    """
    held = ExitStack()
    try:
        held.enter_context(locked(path))
        held.callback(_unlink, path / LOCK)
        _lock_as_before(path, held)
    except FolderInUseError as error:
        held.close()
        raise StoreInUseError(
            f"{path}: another process is writing this store; one writer was expected; wait for it or stop it"
        ) from error
    except RepkitError as error:
        held.close()
        raise StoreError(error.message) from error
    return held


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _lock_as_before(path: Path, held: ExitStack) -> None:
    """Lock the folder itself too, as all writers of before did and nothing else: one of them may be at work here."""
    with suppress(ImportError, OSError):
        handle = os.open(path, os.O_RDONLY)
        held.callback(os.close, handle)
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(str(path)) from error
