"""Write docs/reference from the program itself: commands, recipe keys, corpora.

``python docs/generate.py`` writes the pages; with ``--check`` it writes nothing and exits with 1 when one is stale.
Same program in, same pages out: nothing depends on the terminal, the machine, the time or installed plugins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from generators.cli import cli_page
from generators.corpora import corpora_page
from generators.functionals import functionals_page
from generators.recipes import recipes_page

DOCS = Path(__file__).resolve().parent

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/recipes.md": recipes_page,
    "reference/corpora.md": corpora_page,
    "functionals.md": functionals_page,
}


def stale() -> list[str]:
    """Return the pages that are not what the program would write now."""
    found = []
    for name, make in PAGES.items():
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != make():
            found.append(name)
    return found


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or check them with ``--check``; return the exit code."""
    if list(arguments) == ["--check"]:
        old = stale()
        for name in old:
            sys.stderr.write(f"docs/{name}: stale; run make docs\n")
        return 1 if old else 0
    if arguments:
        sys.stderr.write(f"docs/generate.py: got {' '.join(arguments)}; expected nothing or --check\n")
        return 2
    for name, make in PAGES.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
