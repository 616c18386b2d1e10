"""The JSON file in which a command keeps what it has found, and from which its page is written anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from repkit.errors import DataError
from repkit.runs.directory import read_json


def read_state(path: Path, schema: int) -> dict[str, Any]:
    """Return what a state file holds, empty where there is none.

    Raises:
        DataError: written by a version with another schema.
    """
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(path)
    if found.get("schema") != schema:
        raise DataError(f"{path}: schema {found.get('schema')}; {schema} was expected; give another --out")
    return found


def rebuild_page(path: Path, schema: int, command: str, write: Callable[..., None]) -> dict[str, Any]:
    """Write page, table and figure beside a state file anew, and return what that holds.

    Args:
        path: of the file.
        schema: that it must have.
        command: that writes it, for the message.
        write: called with the folder, the state and ``figure=True``.

    Raises:
        DataError: there is no such file, or it is of another version.
    """
    state = read_state(path, schema)
    if not state:
        raise DataError(
            f"{path}: not there; expected what `repkit {command}` writes; start it without --page-only, or give another --out"
        )
    write(path.parent, state, figure=True)
    return state
