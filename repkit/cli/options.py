"""Options that several commands share, so that they are spelled and explained alike."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Workers = Annotated[int | None, typer.Option(min=1, help="Processes of one thread each; default one per core.")]
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
"""Default of `AtOnce`: that of `repkit.workflows.ser_batched`, which takes a second to import."""
