"""``repkit probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from repkit.cli.options import Again, Corpora, CorpusSet, OnBadAudio, Runs, Workers
from repkit.cli.shared import check_folder, parse_corpora
from repkit.cli.train_ser import embedding_conditions, execute
from repkit.config import SerRecipe, find_recipe, load_recipe, refuse_unread

app = typer.Typer(add_completion=False)


@app.command()
def probe(
    embeddings: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]DIR[+DIR]...", help="Embedding stores made by `repkit embed`; DIR+DIR joins them."
        ),
    ],
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    protocol: Annotated[
        str | None, typer.Option(help="Rule that makes the folds.", show_default="leave_one_speaker_group_out")
    ] = None,
    head: Annotated[
        list[str],
        typer.Option(help="linear_svm, rbf_svm, logistic_regression or mlp. Repeatable.", show_default="linear_svm"),
    ] = [],  # noqa: B006
    by: Annotated[
        Literal["train", "per_speaker", "per_corpus"] | None,
        typer.Option(
            help="Whose utterances standardise the vectors; the latter two hear test audio and are flagged.",
            show_default="train",
        ),
    ] = None,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe `probe` (TOML value).")
    ] = [],  # noqa: B006
    runs: Runs = Path("runs"),
    workers: Workers = None,
    on_bad_audio: OnBadAudio = "stop",
    again: Again = False,
) -> None:
    """What a classical head reads from embeddings: a score in seconds, its settings chosen by inner folds of the training speakers."""
    from repkit.workflows.probe import with_heads

    check_folder(runs, "--runs")
    given = [*([f"protocol.name={protocol}"] if protocol else []), *([f"vector.by={by}"] if by else [])]
    recipe = load_recipe(SerRecipe, "probe", [*given, *set_])
    if "dev" not in recipe.protocol.settings and recipe.training.select_by != "dev.uar":
        table = recipe.protocol.model_copy(update={"dev": "none"})  # inner folds choose; a dev part would go unused
        recipe = recipe.model_copy(update={"protocol": table})
    resolved = with_heads(recipe, embedding_conditions(embeddings, ""), head or ["linear_svm"])
    refuse_unread(resolved, set_)
    corpora = parse_corpora(corpus, settings=corpus_set)
    execute(
        resolved, corpora, find_recipe("probe").read_text(encoding="utf-8"), runs, workers, on_bad_audio, again=again
    )
