"""``repkit corpora``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from repkit.cli.shared import CORPUS_HELP, console, parse_corpora, print_table
from repkit.errors import DataError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show and check corpora.")


@app.command("list")
def list_() -> None:
    """List the corpora that repkit reads by name; any folder with a metadata.csv works too."""
    from repkit.audio.open import corpus_names

    print_table(("corpus", "kind", "description"), [(name, kind, text) for name, text, kind in corpus_names()])


@app.command()
def show(
    corpus: Annotated[str, typer.Argument(help=CORPUS_HELP)],
    n: Annotated[int, typer.Option(help="Utterances to show.")] = 10,
) -> None:
    """Show the first utterances of a corpus with their labels; decodes no audio."""
    opened = next(iter(parse_corpora([corpus]).values()))
    utterances = opened.utterances()
    rows = [
        (
            u.id,
            u.speaker or "",
            u.session or "",
            u.gender or "",
            u.language or "",
            u.emotion or "",
            _number(u.arousal),
            _number(u.valence),
        )
        for u in utterances[:n]
    ]
    print_table(("id", "speaker", "session", "gender", "language", "emotion", "arousal", "valence"), rows)
    speakers = {u.speaker for u in utterances if u.speaker}
    typer.echo(f"{len(utterances)} utterances, {len(speakers)} speakers, fingerprint {opened.fingerprint()[:12]}")
    licence = getattr(opened, "licence", "")
    if licence:
        typer.echo(f"licence: {licence}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


@app.command()
def check(
    corpus: Annotated[list[str], typer.Argument(help=CORPUS_HELP)],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")] = None,
) -> None:
    """Decode every file and print utterances, hours, speakers, emotions by gender, and what is wrong with which file."""
    from rich.progress import Progress

    from repkit.audio.inspect import check_corpus
    from repkit.training.executors import default_workers

    n_bad = 0
    for name, opened in parse_corpora(corpus).items():
        screen = console()
        with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
            task = progress.add_task(f"decoding {name}", total=None)
            report = check_corpus(
                opened,
                n_jobs=workers or default_workers(10**6),
                progress=lambda done, total, task=task, progress=progress: progress.update(
                    task, completed=done, total=total
                ),
            )
        n_bad += _print(name, report)
    if n_bad:
        raise DataError(
            f"corpora check: {n_bad} utterances cannot be used; mend or remove them, or train with --on-bad-audio skip"
        )


def _print(name: str, report: Any) -> int:
    typer.echo(report.as_text() if hasattr(report, "as_text") else str(report))
    return len(report.problems)
