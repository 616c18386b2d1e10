"""A file for the HDF5 library to write to that survives a full disk."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any


class GuardedFile:
    """A file that remembers a failed write instead of failing.

    A write error inside the HDF5 library leaves a file that cannot be closed and ends the process with a
    segmentation fault at exit (seen with HDF5 2.0 on a full disk); so HDF5 is told that all is well, and the
    shard's writer looks at `error`.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file: IO[bytes] = path.open("w+b", buffering=0)

    def write(self, data: Any) -> int:
        """Write, or after a failure only say so."""
        view = memoryview(data)
        size = view.nbytes
        while self.error is None and view.nbytes:
            try:
                view = view[self._file.write(view) :]
            except OSError as error:
                self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file; a failure is remembered."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        return int(self._file.readinto(buffer))  # type: ignore[attr-defined]

    def read(self, size: int = -1) -> bytes:
        """Read bytes."""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def flush(self) -> None:
        """Do nothing; the file has no buffer of its own."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
