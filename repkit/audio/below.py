"""Files below a folder, through links to folders too, and what is said of recordings that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from repkit.audio.decode import AUDIO_SUFFIXES
from repkit.errors import DataError

UNREAD_SUFFIXES = (
    *(".3g2", ".3gp", ".aac", ".ac3", ".aifc", ".amr", ".ape", ".avi", ".caf", ".ds2", ".dss", ".flv", ".gsm", ".m4a"),
    *(".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp4", ".mpeg", ".mpg", ".pcm", ".ra", ".raw", ".spx", ".voc"),
    *(".vox", ".weba", ".webm", ".wma", ".wmv", ".wv"),
)
"""Endings of recordings and videos that are not looked for; lower case."""


def files_below(root: Path) -> list[Path]:
    """Return all files below a folder, sorted by their relative path; nothing if there is no such folder.

    Links to folders are followed (`pathlib.Path.rglob` does not before Python 3.13), but never back into a folder that one is
    already in. Links to nothing are no files. Source: own design.

    Raises:
        DataError: a folder that cannot be listed, or recordings whose names are not UTF-8, which no table or store could hold.
    """
    found: list[tuple[str, Path]] = []
    # each folder's own real path and those of all folders on the way to it
    chains = {os.fspath(root): {os.path.realpath(root)}}

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError) or os.fspath(error.filename) != os.fspath(
            root
        ):
            raise _unlisted(error) from error

    for folder, inner, names in os.walk(root, onerror=refuse, followlinks=True):
        chain = chains.pop(folder)
        kept = []
        for name in inner:
            path = os.path.join(folder, name)
            real = os.path.realpath(path)
            if real not in chain:
                kept.append(name)
                chains[path] = chain | {real}
        inner[:] = kept
        paths = (Path(folder, name) for name in names)
        try:
            found += [(path.relative_to(root).as_posix(), path) for path in paths if path.is_file()]
        except OSError as error:
            raise _unlisted(error) from error
    _refuse_other_encodings(root, [name for name, _ in found])
    return [path for _, path in sorted(found)]


def _unlisted(error: OSError) -> DataError:
    return DataError(
        f"{error.filename}: could not be looked into ({error.strerror}); a folder that can be listed was expected, what is in it "
        "would be missing without a word; see to its rights, its disk or the network, then start the same command again"
    )


def _refuse_other_encodings(root: Path, names: Sequence[str]) -> None:
    """Refuse recordings and tables of recordings whose names cannot be written as UTF-8; other files may be called anything."""
    strange = [
        os.fsencode(name).decode("utf-8", "backslashreplace")
        for name in names
        if not _is_utf8(name) and Path(name).suffix.lower() in (*AUDIO_SUFFIXES, ".parquet")
    ]
    if strange:
        raise DataError(
            f"{root}: {len(strange)} file name(s) are not UTF-8; names of that encoding were expected; rename them, all at once "
            "with `convmv -r -f latin1 -t utf8 --notest FOLDER`",
            [*strange[:25], *([f"and {len(strange) - 25} more"] if len(strange) > 25 else [])],
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_hidden(path: Path) -> bool:
    """Whether the file's name begins with a dot, as those of the ``._x.wav`` companions that macOS writes do."""
    return path.name.startswith(".")


def left_alone(root: Path, suffixes: Sequence[str]) -> str:
    """Return a sentence on the recordings below a folder whose endings are not read; empty where there are none.

    Args:
        root: the folder.
        suffixes: endings that are read.
    """
    unread = set(UNREAD_SUFFIXES) - {suffix.lower() for suffix in suffixes}
    found = [path.suffix.lower() for path in files_below(root) if path.suffix.lower() in unread and not is_hidden(path)]
    if not found:
        return ""
    many, it = ("files", "them") if len(found) > 1 else ("file", "it")
    return (
        f"{len(found)} {many} ending in {', '.join(sorted(set(found)))} {'were' if len(found) > 1 else 'was'} left alone: "
        f"expected {', '.join(suffixes)}; convert {it} to WAV or FLAC"
    )
