"""``repkit report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from repkit.cli.shared import check_out, console
from repkit.errors import UsageError
from repkit.runs.find import find_runs

app = typer.Typer(add_completion=False)


@app.command()
def report(
    run: Annotated[
        list[Path],
        typer.Argument(help="Run directory, or a folder in which to look for them; several are compared in one table."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the comparison: .md, .csv, .json or .tex, by its suffix. [default: print Markdown]"
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help="What the comparison is of: emotion, arousal or valence.", show_default="the first that all runs have"
        ),
    ] = None,
) -> None:
    """Score a run again from its predictions and rebuild report.md with its figures; or compare several runs."""
    from repkit.report.compare import compare_runs
    from repkit.report.compare_files import check_suffix, comparison_file
    from repkit.report.render import render
    from repkit.runs.atomic import write_text_atomic

    if out is not None:
        check_suffix(out)
        check_out(out)
    runs = _runs_at(run)
    if out is not None:
        write_text_atomic(out, comparison_file(runs, out, view))
        typer.echo(out)
    elif len(runs) == 1 and view is None:
        if not os.access(runs[0], os.W_OK):
            raise UsageError(
                f"{runs[0]}: cannot be written to; a run whose report.md can be written was expected; copy the run, or give --view "
                "VIEW, which prints a table and writes nothing"
            )
        typer.echo(render(runs[0]))
    else:
        typer.echo(compare_runs(runs, view=view))


def _runs_at(places: list[Path]) -> list[Path]:
    """Return the run directories at places, each once; of those that were searched for, what has not begun is told."""
    runs: dict[Path, Path] = {}
    for place in places:
        found = find_runs(place)
        begun = [path for path in found if path == place or (path / "utterances.parquet").is_file()]
        for path in sorted(set(found) - set(begun)):
            console().print(f"left out   {path}: stopped before its first training")
        runs |= {path.resolve(): path for path in begun or found}
    return list(runs.values())
