"""``repkit plugins``."""

from __future__ import annotations

import typer

from repkit.cli.shared import print_table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List installed components and who brings them.")


@app.callback()
def group() -> None:
    """List installed components and who brings them."""


@app.command("list")
def list_() -> None:
    """List the components of every group by name, without importing any."""
    from repkit.plugins import GROUPS, components

    rows = [(c.group, c.name, c.origin, c.value) for group in GROUPS for c in components(group)]
    print_table(("group", "name", "from", "points to"), rows)
