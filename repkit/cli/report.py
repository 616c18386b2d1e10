"""``repkit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repkit.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def report(
    run: Annotated[list[Path], typer.Argument(help="Run directory; several are compared in one table.")],
    out: Annotated[Path | None, typer.Option(help="Markdown file for the comparison of several runs.")] = None,
) -> None:
    """Score a run again from its predictions and rebuild report.md with its figures; or compare several runs."""
    from repkit.report.compare import compare_runs
    from repkit.report.render import render
    from repkit.runs.atomic import write_text_atomic

    for folder in run:
        if not (folder / "protocol.json").is_file():
            raise UsageError(
                f"{folder}: no run directory of `repkit train-ser` (protocol.json is missing); give runs/RECIPE/TIME_SIGNATURE"
            )
    if len(run) == 1 and out is None:
        typer.echo(render(run[0]))
        return
    text = compare_runs(run)
    if out is None:
        typer.echo(text)
    else:
        write_text_atomic(out, text)
        typer.echo(out)
