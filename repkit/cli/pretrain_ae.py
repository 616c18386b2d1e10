"""``repkit pretrain-ae``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from repkit.cli.options import Corpora, CorpusSet, OnBadAudio, Scheduler
from repkit.cli.shared import check_folder, console, interruptible, parse_corpora
from repkit.config import PretrainRecipe, load_recipe

if TYPE_CHECKING:
    pass

app = typer.Typer(add_completion=False)


@app.command()
def pretrain_ae(
    out: Annotated[Path, typer.Option(help="Run folder; OUT/encoder is what `repkit embed` needs.")],
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    recipe: Annotated[str, typer.Option(help="Recipe name (`repkit recipes list`) or TOML file.")] = "autoencoder",
    split: Annotated[
        str | None, typer.Option(help="Split of hub corpora and of LibriSpeech or TED-LIUM folders.")
    ] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, for example training.epochs=20."),
    ] = [],  # noqa: B006
    on_bad_audio: OnBadAudio = "stop",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that make the frames; default one, or one per core for more than a little speech."
        ),
    ] = None,
    executor: Annotated[
        Literal["processes", "dask"], typer.Option(help="Where to make the frames: this machine, or a dask cluster.")
    ] = "processes",
    scheduler: Scheduler = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be heard and learnt; train nothing.")
    ] = False,
) -> None:
    """Stage one: train an encoder on unlabelled speech, the paper's autoencoder or on the objectives of the recipe.

    Started again with the same options it goes on where it was stopped, and does nothing when it is done.
    """
    check_folder(out, "--out")
    from repkit.stage_one.settings import settings_of

    config = settings_of(load_recipe(PretrainRecipe, recipe, set_))
    corpora = list(parse_corpora(corpus, split, corpus_set).values())
    screen = console()
    from repkit.runs.executors import default_workers, open_executor

    place = None
    if executor == "dask" or scheduler is not None:
        place = open_executor(executor, workers or default_workers(1 << 20), scheduler)
    from repkit.workflows.pretrain_ae import already_done
    from repkit.workflows.pretrain_ae import pretrain_ae as work

    if dry_run:
        done = already_done(corpora, out, config)
        for opened in corpora:
            utterances = opened.utterances()
            speakers = {u.speaker for u in utterances if u.speaker}
            screen.print(f"corpus     {opened.name}: {len(utterances)} utterances, {len(speakers)} speakers")
        for key, value in config.model_dump(mode="json").items():
            screen.print(f"{key:24} {value}")
        if done is not None:
            screen.print(f"finished   {out} holds all this already; nothing would be trained")
        return
    with interruptible("the last checkpoint is kept"):
        results = work(
            corpora, out, config, on_bad_audio=on_bad_audio, workers=workers, executor=place, notice=screen.print
        )
    typer.echo(f"encoder  {out / 'encoder'}")
    for line in _summary(results):
        typer.echo(line)


def _summary(results: dict[str, object]) -> list[str]:
    return [f"{name:24} {value:.4f}" for name, value in results.items() if isinstance(value, float)]
