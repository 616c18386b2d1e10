"""What several commands need: corpora from options, the console, interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from repkit.api import Corpus
from repkit.errors import RepkitError, UsageError

CORPUS_HELP = (
    "Corpus as NAME=PATH (a folder with metadata.csv, an official download, LibriSpeech or TED-LIUM as downloaded, parquet), "
    "NAME=hub:ORG/ID, or a name alone (librispeech, tedlium, synthetic_a ...). Repeatable."
)


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


def parse_corpora(
    texts: Sequence[str], split: str | None = None, options: dict[str, Any] | None = None
) -> dict[str, Corpus]:
    """Return the corpora named by ``--corpus`` options.

    Raises:
        UsageError: no corpus, or one twice.
    """
    from repkit.audio.open import open_corpus

    if not texts:
        raise UsageError("--corpus: none given; expected at least one NAME=PATH, for example --corpus emodb=data/emodb")
    corpora: dict[str, Corpus] = {}
    for text in texts:
        name, equals, location = text.partition("=")
        if name in corpora:
            raise UsageError(f"--corpus {text}: {name!r} was already given; each corpus once")
        corpora[name] = open_corpus(name, location if equals else None, split=split, options=options or {})
    return corpora


def console() -> Any:
    """Return the console that messages and progress go to (standard error, so that results can be piped)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def counting(description: str) -> Iterator[Callable[[str, int, float], None]]:
    """Show utterances and hours of speech done; yield what must be called with corpus, count and hours."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    screen = console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[state]}"),
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
