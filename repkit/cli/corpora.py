"""``repkit corpora``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repkit.cli.options import CORPUS_HELP, ONE_CORPUS_HELP, CorpusSet
from repkit.cli.shared import check_folder, console, counting, interruptible, parse_corpora, print_table
from repkit.errors import DataError

MOST_CLIPPED = 10
"""Utterances that `check` lists as clipped; the worst come first."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show, check and export corpora.")


@app.command("list")
def list_() -> None:
    """List the corpora that repkit reads by name; any folder with a metadata.csv works too."""
    from repkit.audio.open import corpus_names

    print_table(("corpus", "kind", "description"), [(name, kind, text) for name, text, kind in corpus_names()])


@app.command()
def show(
    corpus: Annotated[str, typer.Argument(help=ONE_CORPUS_HELP)],
    corpus_set: CorpusSet = [],  # noqa: B006
    n: Annotated[int, typer.Option(min=1, help="Utterances to show.")] = 10,
) -> None:
    """Show the first utterances of a corpus with their labels; decodes no audio."""
    opened = next(iter(parse_corpora([corpus], settings=corpus_set, option="").values()))
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
    corpus_set: CorpusSet = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")] = None,
) -> None:
    """Decode every file and print utterances, hours, speakers, emotions by gender, and what is wrong with which file."""
    from rich.progress import Progress

    from repkit.audio.inspect import check_corpus
    from repkit.runs.executors import default_workers

    n_bad = 0
    for name, opened in parse_corpora(corpus, settings=corpus_set, option="").items():
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
    """Print what `check_corpus` found and return the number of utterances that cannot be used."""
    typer.echo(
        f"{name}: {report.utterances} utterances, {report.usable} usable, {report.hours:.2f} h, "
        f"{report.shortest_s:.1f} to {report.longest_s:.1f} s each"
    )
    genders = ", ".join(f"{gender or 'unknown gender'} {n}" for gender, n in report.genders.items())
    typer.echo(f"speakers     {report.speakers}" + (f" ({genders})" if genders else ""))
    if any(report.languages):
        typer.echo("languages    " + ", ".join(f"{code or 'unknown'} {n}" for code, n in report.languages.items()))
    if report.rated:
        typer.echo(f"rated        {report.rated} with arousal or valence")
    typer.echo(f"fingerprint  {report.fingerprint[:12]}")
    if report.licence:
        typer.echo(f"licence      {report.licence}")
    columns = sorted({gender for counts in report.emotions.values() for gender in counts})
    rows = [
        (emotion or "(no label)", *(counts.get(gender, 0) for gender in columns), sum(counts.values()))
        for emotion, counts in report.emotions.items()
    ]
    typer.echo()
    print_table(("emotion", *(gender or "unknown" for gender in columns), "all"), rows)
    lists = {
        f"cannot be used ({len(report.problems)})": [f"{key}: {why}" for key, why in report.problems.items()],
        f"same sound under several ids ({len(report.duplicates)})": [" = ".join(ids) for ids in report.duplicates],
        f"clipped, their loudest parts cut off at full scale ({len(report.clipped)})": _clipped(report.clipped),
        f"to know ({len(report.warnings)})": report.warnings,
    }
    for title, lines in lists.items():
        if lines:
            typer.echo(f"\n{title}:")
            for line in lines:
                typer.echo(f"  - {line}")
    return len(report.problems)


def _clipped(shares: dict[str, float]) -> list[str]:
    """Return one line for each of the most clipped utterances, and how many more there are."""
    worst = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    more = [f"and {len(worst) - MOST_CLIPPED} more"] if len(worst) > MOST_CLIPPED else []
    return [f"{key}: {100 * share:.1f} % of its samples" for key, share in worst[:MOST_CLIPPED]] + more


@app.command()
def export(
    corpus: Annotated[str, typer.Argument(help=ONE_CORPUS_HELP)],
    folder: Annotated[Path, typer.Argument(help="New folder to write.")],
    corpus_set: CorpusSet = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of hub corpora.")] = None,
    on_bad_audio: Annotated[
        Literal["stop", "skip"], typer.Option(help="stop: list bad files and write nothing; skip: leave them out.")
    ] = "stop",
) -> None:
    """Write a corpus as FLAC files (16 kHz, mono) with a metadata.csv, to be read as NAME=FOLDER."""
    from repkit.audio.export import export_corpus

    check_folder(folder, "")
    opened = next(iter(parse_corpora([corpus], split, corpus_set, option="").values()))
    with interruptible("nothing of this export is kept"), counting("writing") as tell:
        done = export_corpus(
            opened, folder, on_bad_audio=on_bad_audio, progress=lambda n, hours: tell(opened.name, n, hours)
        )
    typer.echo(
        f"{opened.name}  {done.utterances} utterances, {done.hours:.2f} h, {len(done.left_out)} left out  {folder}"
    )
    for utterance_id, reason in done.left_out.items():
        typer.echo(f"left out  {utterance_id}: {reason}")
    licence = getattr(opened, "licence", "")
    if licence:
        typer.echo(f"licence: {licence}")
