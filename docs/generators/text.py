"""Markdown and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

HEADER = "<!-- Written by docs/generate.py (make docs); change the program, not this page. -->"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(header), ["---"] * len(header), *([str(c).replace("|", "\\|") for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def described(*classes: type) -> dict[str, str]:
    """Return what docstrings say about attributes or arguments; earlier classes win, bases come last.

    A text that only says "see ..." gives way to what a later class says.
    """
    found: dict[str, str] = {}
    for one in classes:
        for kind in one.__mro__:
            for name, text in _sections(kind.__dict__.get("__doc__") or "").items():
                if name not in found or found[name].startswith("see "):
                    found[name] = text
    return found


def _sections(doc: str) -> dict[str, str]:
    """Return name to text of a Google-style ``Attributes`` or ``Args`` section."""
    lines = inspect.cleandoc(doc).split("\n")
    starts = [i for i, line in enumerate(lines) if line in ("Attributes:", "Args:")]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[starts[0] + 1 :] if starts else []:
        if line and not line.startswith(" "):
            break
        match = re.fullmatch(r"    (\w+(?:, \w+)*): (.*)", line)
        # a list of names may run over several lines
        head = re.fullmatch(r"    (\w+(?:, \w+)*),", line)
        tail = re.fullmatch(r"     +(\w+(?:, \w+)*): (.*)", line) if names and not found.get(names[-1]) else None
        if head:
            names = head[1].split(", ")
            found.update(dict.fromkeys(names, ""))
        elif tail:
            names += tail[1].split(", ")
            found.update(dict.fromkeys(names, tail[2]))
        elif match:
            names = match[1].split(", ")
            found.update(dict.fromkeys(names, match[2]))
        else:
            text = line.strip()
            text = f"<br>{text[2:]}" if text.startswith("* ") else text
            for name in names:
                found[name] = f"{found[name]} {text}".strip()
    return {name: _plain(text) for name, text in found.items()}


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring on one line."""
    text = inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0]
    return _plain(text.replace("\n", " "))


def _plain(text: str) -> str:
    text = re.sub(r"\s*\(entry point ``\w+``\)|\s*\(`repkit\.api\.\w+`\)", "", text)
    return re.sub(r"``(.+?)``", r"`\1`", text).replace(" <br>", "<br>").strip()
