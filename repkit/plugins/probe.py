"""Import components in a process of its own and say how it went; started by `repkit.plugins.doctor`.

Standard input holds a JSON list of {group, name, value}. Before each import its number is written, afterwards what was
found, one JSON value per line, so that whoever reads knows which import has ended the process.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any


def look_at(group: str, name: str, value: str) -> dict[str, Any]:
    """Return what is wrong with an entry point.

    Returns:
        ``problem``: why it is of no use, or None; ``settings``: what is wrong with the class of its settings, and what to do, or
        None; ``version``: the same of the API version it states.
    """
    try:
        found = EntryPoint(name, value, group).load()
        if group == "repkit.recipes":
            path = Path(str(found() if callable(found) else found))
            return {"problem": None if path.is_file() else f"the recipe {path} does not exist"}
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        return {"problem": f"failed to import: {type(error).__name__}: {error}"}
    from repkit.plugins.load import wrong_kind, wrong_settings, wrong_version

    if wrong := wrong_kind(found):
        return {"problem": wrong[0]}
    return {"problem": None, "settings": wrong_settings(group, found), "version": wrong_version(found)}


def main() -> None:
    """Look at every entry point named on standard input."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what plugins print while they are imported is no answer
    for number, point in enumerate(json.load(sys.stdin)):
        print(json.dumps({"number": number}), file=answer, flush=True)
        found = look_at(**point)
        print(json.dumps({"number": number, **found}, default=str), file=answer, flush=True)


if __name__ == "__main__":
    main()
