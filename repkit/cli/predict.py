"""``repkit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from repkit.cli.options import Device
from repkit.cli.shared import check_out, console, counting, interruptible, print_table
from repkit.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False)

SUFFIXES = (".csv", ".parquet", ".json")
MOST_ROWS = 40
"""Rows of the table on the screen."""


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run directory of train-ser.")],
    # texts, because a path of pathlib is not written as it was given
    sound: Annotated[list[str], typer.Argument(metavar="FILE_OR_FOLDER", help="Audio files, or folders of such.")],
    condition: Annotated[
        str | None, typer.Option(help="Whose models; default the run's reference (BL, where there is one).")
    ] = None,
    seed: Annotated[list[int], typer.Option(help="Use the models of this seed only. Repeatable; default all.")] = [],  # noqa: B006
    fold: Annotated[list[str], typer.Option(help="Use the models of this fold only. Repeatable; default all.")] = [],  # noqa: B006
    encoder: Annotated[
        list[str],
        typer.Option(
            metavar="DIR",
            help="For conditions with embeddings: the encoder that made them, as given to embed (a run of pretrain-ae, hf:NAME "
            "...); functionals need none. Repeatable, for joined embeddings.",
        ),
    ] = [],  # noqa: B006
    same_speaker: Annotated[
        bool,
        typer.Option("--same-speaker", help="All files are of one speaker; for runs that standardise by speaker."),
    ] = False,
    same_corpus: Annotated[
        bool,
        typer.Option(
            "--same-corpus",
            help="All files are of one corpus (one room, one microphone); for runs that standardise by corpus.",
        ),
    ] = False,
    as_corpus: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Corpus of the run whose own parts or weights to use, where models have such."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table to write, by its ending: .csv, .parquet or .json.")
    ] = None,
    on_bad_audio: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="Files that cannot be used are listed and the others predicted; stop: then exit with 4."),
    ] = "stop",
    device: Device = "auto",
) -> None:
    """Predict new audio files with the models of a run, the mean over its folds and seeds; needs no corpus."""
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--out {out}: ending {out.suffix!r}; one of {', '.join(SUFFIXES)} was expected; name the file so"
        )
    if out is not None:
        check_out(out)
    from repkit.workflows.predict import Choice, apply_run

    screen = console()
    choice = Choice(condition, tuple(seed), tuple(fold), tuple(encoder), same_speaker, same_corpus, as_corpus, device)
    with interruptible("nothing was written"), counting("hearing") as tell:
        found = apply_run(run, sound, choice, progress=lambda n, hours: tell("files", n, hours))
    for note in found.notes:
        screen.print(f"note: {note}", markup=False)
    screen.print(f"mean of {found.n_models} model(s) of condition {found.condition}", markup=False)
    if out is not None:
        _write(found.table, out)
        typer.echo(out)
    else:
        _show(found.table)
    if found.bad:
        problems = [reason if name in reason else f"{name}: {reason}" for name, reason in found.bad.items()]
        text = f"{len(found.bad)} of {found.table['file'].nunique()} files cannot be used and were left out"
        if on_bad_audio == "stop":
            raise DataError(
                f"predict: {text}; sound of at least one frame in every file was expected; mend them, or go on without "
                "them: --on-bad-audio skip",
                problems,
            )
        for line in (f"note: {text}", *(f"  - {problem}" for problem in problems)):
            screen.print(line, markup=False)


def _write(table: pd.DataFrame, path: Path) -> None:
    from repkit.runs.atomic import atomic_write

    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False)
        elif path.suffix.lower() == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_json(temporary, orient="records", indent=1, force_ascii=False)


def _show(table: pd.DataFrame) -> None:
    """Print the first rows: on a terminal as a table, else in aligned columns that are never cut."""
    from rich.console import Console
    from rich.table import Table

    good = table[table["error"].isna()]
    classes = [column for column in table.columns if column.startswith("p_") and good[column].notna().any()]
    one_view = table["view"].nunique() == 1
    header = [
        "file",
        *([] if one_view else ["view"]),
        "prediction",
        *(c.removeprefix("p_") for c in classes),
        "agreement",
    ]
    rows = [
        [
            row["file"],
            *([] if one_view else [row["view"]]),
            row["prediction"],
            *(_share(row[c]) for c in classes),
            _share(row["agreement"]),
        ]
        for row in good.head(MOST_ROWS).to_dict("records")
    ]
    screen = Console(highlight=False, markup=False, emoji=False)
    if screen.is_terminal:
        shown = Table(*header)
        for row in rows:
            shown.add_row(*row)
        screen.print(shown)
    else:
        print_table(header, rows)
    if len(good) > MOST_ROWS:
        console().print(f"{len(good) - MOST_ROWS} more rows; --out FILE.csv writes them all", markup=False)


def _share(value: Any) -> str:
    return "" if value != value else f"{value:.2f}"
