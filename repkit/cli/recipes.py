"""``repkit recipes``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from repkit.cli.shared import print_table
from repkit.config import PretrainRecipe, SerRecipe, find_recipe, list_recipes, load_recipe
from repkit.config.load import read_tables
from repkit.errors import RecipeError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show and check recipes.")

KINDS: dict[str, Any] = {"train-ser": SerRecipe, "pretrain-ae": PretrainRecipe}


@app.command("list")
def list_() -> None:
    """List recipes: name, command, who brings it, what it does."""
    rows = []
    for name, origin in list_recipes().items():
        tables = read_tables(name)
        rows.append((name, str(tables.get("command", "train-ser")), origin, str(tables.get("description", ""))))
    print_table(("recipe", "command", "from", "description"), rows)


@app.command()
def show(recipe: Annotated[str, typer.Argument(help="Name or TOML file.")]) -> None:
    """Print a recipe as it is written."""
    typer.echo(find_recipe(recipe).read_text(encoding="utf-8"), nl=False)


@app.command()
def check(
    recipe: Annotated[str, typer.Argument(help="Name or TOML file.")],
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")] = [],  # noqa: B006
) -> None:
    """Validate a recipe and the settings of every component it names; print all problems at once."""
    kind = KINDS.get(str(read_tables(recipe).get("command", "train-ser")))
    if kind is None:
        raise RecipeError(f"recipe {recipe}: command must be one of {', '.join(KINDS)}")
    resolved = load_recipe(kind, recipe, set_)
    problems = check_components(resolved)
    if problems:
        raise RecipeError(f"recipe {recipe}: not valid", problems)
    typer.echo(f"{recipe}: ok, for `repkit {resolved.command}`")


def check_components(resolved: Any) -> list[str]:
    """Return what is wrong with the components' own tables."""
    from repkit.errors import RepkitError
    from repkit.plugins import build_config, load
    from repkit.plugins.load import validate

    if not isinstance(resolved, SerRecipe):
        from repkit.stage_one.settings import PretrainConfig

        try:
            validate(PretrainConfig, resolved.training, "training")
        except RepkitError as error:
            return list(error.problems or [error.message])
        return []
    tables = [
        ("repkit.frontends", "frontend", resolved.frontend),
        ("repkit.protocols", "protocol", resolved.protocol),
        ("repkit.models", "model", resolved.model),
        *(("repkit.objectives", f"objectives.{i}", table) for i, table in enumerate(resolved.objectives)),
    ]
    problems = []
    for group, where, table in tables:
        try:
            build_config(load(group, table.name), table.settings, where)
        except RepkitError as error:
            problems += error.problems or [error.message]
    return problems
