"""What several commands need: corpora from options, the console, interruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from repkit.api import Corpus
from repkit.config.load import assign, parse_assignment
from repkit.errors import RepkitError, UsageError


class Interrupted(RepkitError):
    """Ctrl-C."""

    exit_code = 130


@contextmanager
def interruptible(what_is_kept: str) -> Iterator[None]:
    """Turn Ctrl-C into one sentence that says what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {what_is_kept}; start the same command again to go on") from error


def check_out(path: Path) -> None:
    """Make the folder of an output file before any work is done for it.

    Raises:
        UsageError: a folder stands there, or its own folder cannot be made or written to.
    """
    why = "a folder of that name is there" if path.is_dir() else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"its folder cannot be made: {error.strerror}"
    if not why and not os.access(path.parent, os.W_OK):
        why = "its folder cannot be written to"
    if why:
        raise UsageError(f"--out {path}: {why}; a file that can be written was expected; choose another place")


def check_folder(path: Path, option: str) -> None:
    """Refuse a folder that cannot be there, before any work is done for it; nothing is made.

    Args:
        path: folder to write to.
        option: by which it was given, for messages; empty for an argument.

    Raises:
        UsageError: it is, or would lie below, something else than a folder, or one that cannot be written to.
    """
    whole = path.absolute()
    there = next(one for one in (whole, *whole.parents) if one.exists())
    why = ""
    if not there.is_dir():
        why = "a file of that name is there" if there == whole else f"{there} is a file"
    elif there != whole and not os.access(there, os.W_OK):
        why = f"{there} cannot be written to"
    if why:
        raise UsageError(f"{f'{option} {path}'.strip()}: {why}; a folder was expected; choose another place")


def parse_corpora(
    texts: Sequence[str],
    split: str | None = None,
    settings: Sequence[str] = (),
    *,
    option: str = "--corpus",
    more: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Corpus]:
    """Return the corpora named by ``--corpus`` options.

    Args:
        texts: ``NAME[=PLACE]`` each.
        split: part of hub datasets and OpenSLR corpora.
        settings: ``NAME.KEY=VALUE`` each, the values of ``--corpus-set``.
        option: by which `texts` were given, for messages; empty for arguments.
        more: further texts, by the option that gave them.

    Raises:
        UsageError: no corpus, one twice, or a setting of a corpus that is not given.
    """
    from repkit.audio.open import open_corpus

    given = [(option, text) for text in texts] + [(o, text) for o, some in (more or {}).items() for text in some]
    if not given:
        raise UsageError(
            f"{option}: none given; expected at least one NAME=PATH, for example {option} emodb=data/emodb"
        )
    places = [text.partition("=") for _, text in given]
    options: dict[str, Any] = {}
    for text in settings:
        path, value = parse_assignment(text, "--corpus-set")
        if len(path) < 2 or path[0] not in {name for name, _, _ in places}:
            names = ", ".join(name for name, _, _ in places)
            raise UsageError(
                f"--corpus-set {text}: expected NAME.KEY=VALUE with NAME one of {names}, "
                f"for example {places[0][0]}.columns.speaker=speaker_name"
            )
        assign(options, path, value, "--corpus-set")
    corpora: dict[str, Corpus] = {}
    by: dict[str, str] = {}
    for (how, text), (name, equals, location) in zip(given, places, strict=True):
        if name in corpora:
            first = f" by {by[name]}" if by[name] != how else ""
            raise UsageError(f"{f'{how} {text}'.strip()}: {name!r} was already given{first}; each corpus once")
        by[name] = how
        corpora[name] = open_corpus(
            name, location if equals else None, split=split, options=options.get(name, {}), option=how
        )
    return corpora


def console() -> Any:
    """Return the console that messages and progress go to (standard error, so that results can be piped)."""
    from rich.console import Console

    # paths and names may hold brackets and colons, which rich would take for markup and emoji
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def counting(description: str) -> Iterator[Callable[[str, int, float], None]]:
    """Show utterances and hours of speech done; yield what must be called with corpus, count and hours."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    screen = console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def tell(corpus: str, n: int, hours: float) -> None:
            if corpus not in tasks:
                tasks[corpus] = progress.add_task(f"{description} {corpus}", total=None, state="")
            progress.update(tasks[corpus], state=f"{n} utterances, {hours:.2f} h of speech")

        yield tell


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns to standard output, never cut, so that they can be read, searched and piped."""
    import typer

    table = [tuple(header), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def time_text(seconds: float) -> str:
    """Return a time with its unit: hours with two decimals, seconds where that would be 0.00 h or little more."""
    return f"{seconds / 3600:.2f} h" if seconds >= 36 else f"{max(seconds, 1):.0f} s"


def hours_text(hours: float | None) -> str:
    """Return hours with two decimals, short times with three; ``-`` where they are not known."""
    if hours is None:
        return "-"
    return f"{max(hours, 0.001):.3f}" if 0 < hours < 0.095 else f"{hours:.2f}"
