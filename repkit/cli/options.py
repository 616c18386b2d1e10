"""Options that several commands share, so that they are spelled and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ONE_CORPUS_HELP = (
    "Corpus as NAME=PATH (a folder with metadata.csv, an official download, LibriSpeech or TED-LIUM as downloaded, parquet), "
    "NAME=hub:ORG/ID, NAME=plugin:COMPONENT, or a name alone (librispeech, tedlium, synthetic_a ...)."
)
CORPUS_HELP = f"{ONE_CORPUS_HELP} Repeatable."
CORPUS_SET_HELP = (
    "Setting of a corpus (TOML value): NAME.columns.ROLE=COLUMN, NAME.pattern=REGEX, NAME.emotions.LABEL=EMOTION, "
    "NAME.rating_range=[1, 7], NAME.variant=..., NAME.revision=... Repeatable."
)

Corpora = Annotated[list[str], typer.Option(help=CORPUS_HELP)]
CorpusSet = Annotated[list[str], typer.Option(metavar="NAME.KEY=VALUE", help=CORPUS_SET_HELP)]
ProbeSet = Annotated[
    list[str], typer.Option(metavar="KEY=VALUE", help="Override a key of the recipe `probe`. Repeatable.")
]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
OnBadAudio = Annotated[
    Literal["stop", "skip"],
    typer.Option(help="stop: list bad files and train nothing; skip: leave them out and record it."),
]
"""Of commands that train one thing; those that train many say what happens to the others."""
PageOnly = Annotated[bool, typer.Option("--page-only", help="Train nothing: write the page of --out anew.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes of one thread each; default one per core.")]
Again = Annotated[
    bool, typer.Option("--again", help="Train anew what a finished run holds already, in a folder of its own.")
]
Executor = Annotated[
    Literal["auto", "processes", "batched", "dask"],
    typer.Option(
        help="processes: one job each; batched: jobs of equal shape as one program, for GPUs; dask: several machines; "
        "auto: batched on a GPU, else processes."
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU where there is one.")]
AtOnce = Annotated[int, typer.Option(min=1, help="batched: most trainings in one program.")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="dask: address or scheduler file; default a cluster here.")
]
AT_ONCE = 64
"""Default of `AtOnce`: that of `repkit.workflows.train_ser.batched`, which takes a second to import."""
