"""``repkit leaderboard``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from repkit.cli.shared import check_out
from repkit.runs.find import find_runs

app = typer.Typer(add_completion=False)


@app.command()
def leaderboard(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories of train-ser, or folders in which to look for them.")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    protocol: Annotated[
        list[str],
        typer.Option(
            metavar="ID", help="Also rank runs of this protocol id, which no published split has. Repeatable."
        ),
    ] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of Markdown.")] = False,
) -> None:
    """Rank finished runs on published splits (protocol published_split), scored again from their predictions.

    What cannot be ranked (not finished, selected on test, pretrained self-supervised weights, other folds) is listed with
    the reason.
    """
    from repkit.report.leaderboard import make_board
    from repkit.report.leaderboard_page import board_markdown
    from repkit.runs.atomic import write_text_atomic

    if out is not None:
        check_out(out)
    board = make_board([run for place in runs for run in find_runs(place)], protocols=protocol)
    if as_json:
        text = json.dumps(board.as_json(), indent=2) + "\n"
    else:
        text = f"# Leaderboard\n\n{board_markdown(board)}\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text_atomic(out, text)
        typer.echo(out)
