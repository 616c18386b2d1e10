"""``repkit embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repkit.cli.options import Corpora, CorpusSet, Scheduler
from repkit.cli.shared import console, counting, interruptible, parse_corpora
from repkit.config.load import assign, parse_assignment

app = typer.Typer(add_completion=False)


@app.command()
def embed(
    encoder: Annotated[
        str,
        typer.Option(
            help="functionals (statistics of mel bands and prosody, no network); run of pretrain-ae; untrained:RUN (same network, random weights) and statistics:RUN (mean and deviation "
            "per band, no network) are its controls; hf:ORG/NAME or hf:FOLDER is a transformers speech encoder; "
            "NAME:ARGUMENT an installed one with what it takes, such as opensmile:IS09; plugin:NAME one that takes nothing."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of all embeddings; stores go to OUT/ENCODER/CORPUS.")],
    encoder_set: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            help="Setting of the encoder (TOML value), such as trim_db=0 of functionals; `repkit plugins show NAME` lists "
            "them. The store's name and provenance say what is not the default. Repeatable.",
        ),
    ] = [],  # noqa: B006
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of hub corpora.")] = None,
    level: Annotated[
        Literal["utterance", "frame"], typer.Option(help="One vector per utterance, or a sequence of states.")
    ] = "utterance",
    readout: Annotated[
        str | None,
        typer.Option(
            help="Runs of pretrain-ae: last, mean, mean_sd, mean_sd_delta (default with objectives) or attentive; of the "
            "autoencoder also representation (the paper's vector, default), states and pooled."
        ),
    ] = None,
    layers: Annotated[
        Literal["last", "all"] | None,
        typer.Option(help="Runs of pretrain-ae: layers that the readout reads; default all."),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Transformers encoders: hidden layer, -1 the last.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="untrained: seed of the random weights; default the run's own.")
    ] = None,
    init: Annotated[
        Literal["paper", "torch"] | None,
        typer.Option(help="untrained: initialisation, the paper's or torch's; default what the run began with."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Utterances at once; changes no result.")] = None,
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Numbers on disk.")] = "float32",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="Of the encoder's products; bf16 is faster and a little less exact.")
    ] = "fp32",
    on_bad_audio: Annotated[
        Literal["stop", "skip"], typer.Option(help="stop: list bad files; skip: leave them out and record it.")
    ] = "stop",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes of one thread each; default one, or one per core for more than a little speech."
        ),
    ] = None,
    executor: Annotated[
        Literal["processes", "dask"], typer.Option(help="Where to work: this machine, or a dask cluster.")
    ] = "processes",
    scheduler: Scheduler = None,
) -> None:
    """Encode corpora into HDF5 embedding stores; an interrupted one is continued when the same command is given again."""
    from repkit.runs.executors import default_workers, open_executor
    from repkit.workflows.embed import embed as work

    screen = console()
    corpora = parse_corpora(corpus, split, corpus_set)
    options: dict[str, Any] = {
        "level": level if level != "utterance" else None,
        "readout": readout,
        "layers": layers,
        "layer": layer,
        "seed": seed,
        "init": init,
        "batch_size": batch_size,
    }
    settings: dict[str, Any] = {}
    for text in encoder_set:
        path, value = parse_assignment(text, "--encoder-set")
        assign(settings, path, value, "--encoder-set")
    place = None
    if executor == "dask" or scheduler is not None:
        place = open_executor(executor, workers or default_workers(1 << 20), scheduler)
    with interruptible("finished shards are kept"), counting("embedding") as tell:
        stores = work(
            encoder,
            list(corpora.values()),
            out,
            dtype=dtype,
            precision=precision,
            on_bad_audio=on_bad_audio,
            workers=workers,
            executor=place,
            notice=screen.print,
            progress=lambda name, done, total: tell(name, done, 0.0),
            settings=settings,
            **options,
        )
    for name, store in stores.items():
        typer.echo(
            f"{name}  {len(store)} utterances, {store.spec.dim} dimensions, {len(store.left_out)} left out  {store.path}"
        )
