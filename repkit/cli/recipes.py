"""``repkit recipes``."""

from __future__ import annotations

from typing import Annotated

import typer

from repkit.cli.shared import print_table
from repkit.config import SerRecipe, find_recipe, list_recipes, load_recipe, refuse_unread
from repkit.config.load import read_tables
from repkit.errors import RepkitError, UsageError
from repkit.workflows.recipes import kind_of
from repkit.workflows.scale.recipe import ScaleRecipe

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show and check recipes.")


@app.command("list")
def list_() -> None:
    """List recipes: name, command, who brings it, what it does."""
    rows = []
    for name, origin in list_recipes().items():
        try:
            tables = read_tables(name)
        except RepkitError as error:  # one that is broken must not hide the others
            rows.append((name, "?", origin, f"cannot be read: {error.message}"))
            continue
        rows.append((name, str(tables.get("command", "train-ser")), origin, str(tables.get("description", ""))))
    print_table(("recipe", "command", "from", "description"), rows)


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="Name or TOML file.")],
    resolved: Annotated[
        bool,
        typer.Option(
            "--resolved", help="Every setting, those of the recipes it extends and all defaults too, with its origin."
        ),
    ] = False,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key; with --resolved.")
    ] = [],  # noqa: B006
) -> None:
    """Print a recipe as it is written, or with --resolved all that it comes to, as a recipe of its own."""
    if resolved:
        from repkit.workflows.recipes import resolved_toml

        typer.echo(resolved_toml(recipe, set_), nl=False)
    elif set_:
        raise UsageError(
            f"--set {set_[0]}: given without --resolved; a recipe as it is written cannot be overridden; add --resolved"
        )
    else:
        typer.echo(find_recipe(recipe).read_text(encoding="utf-8"), nl=False)


@app.command()
def check(
    recipe: Annotated[str, typer.Argument(help="Name or TOML file.")],
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")] = [],  # noqa: B006
) -> None:
    """Validate a recipe and the settings of every component it names; print all problems at once."""
    resolved = load_recipe(kind_of(recipe), recipe, set_)
    if isinstance(resolved, SerRecipe):
        from repkit.workflows.train_ser.conditions import check_components

        check_components(resolved)
        refuse_unread(resolved, set_)
    elif isinstance(resolved, ScaleRecipe):
        from repkit.workflows.scale.cells import configs_of

        configs_of(resolved)
    else:
        from repkit.stage_one.settings import settings_of

        settings_of(resolved)
    typer.echo(f"{recipe}: ok, for `repkit {resolved.command}`")
