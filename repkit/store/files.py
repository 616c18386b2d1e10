"""The files of a store: their names, sizes and checksums, and the lock of the folder."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path

from repkit.errors import StoreError


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


def lock_folder(path: Path) -> int:
    """Take a folder for this process; the lock goes with the process, also when it is killed.

    Returns:
        what to close to let go of it.

    Raises:
        StoreError: another process holds it.
    """
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
