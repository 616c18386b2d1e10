"""Files of sound that the system may fail to read, told apart from files whose content is no sound.

Bad audio is recorded in a store and stays so; a folder that is away for a minute must not be. Source: own design.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, cast

from repkit.errors import DataError


class _SystemFile(io.FileIO):
    """Remembers what the system said when it did not read: libsndfile knows no errors and takes that for the file's end."""

    said: OSError | None = None

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        """Read into a buffer; nothing where the system fails."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.said = error
            return 0


def open_binary(source: Path | str | bytes) -> BinaryIO:
    """Open a file, or the bytes of one, for reading; see `raise_what_the_system_said`.

    Raises:
        OSError: what the system said.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    return cast(BinaryIO, io.BufferedReader(_SystemFile(source)))


def raise_what_the_system_said(stream: BinaryIO) -> None:
    """Raise what the system said while a stream of `open_binary` was read, if it failed.

    Raises:
        OSError: what the system said.
    """
    said = getattr(getattr(stream, "raw", None), "said", None)
    if said is not None:
        raise said


def unread(where: str, error: OSError) -> DataError:
    """Return the error for a file that the system did not let us read; it says nothing of the audio and is never recorded.

    Args:
        where: what to call the file.
        error: what the system said.
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DataError(
            f"{where}: there is no such file; a file was expected where the corpus lists one; restore it or its folder, or take "
            "it out of what lists it, then start the same command again"
        )
    return DataError(
        f"{where}: could not be read ({error.strerror or error}); a file that the system can read was expected, this is no fault of "
        "the audio; see to its rights, its disk, the network or the number of open files (ulimit -n), then start the same command "
        "again"
    )
