"""``repkit plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from repkit.cli.shared import print_table
from repkit.errors import PluginError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repkit.plugins import Component
    from repkit.testing import Result

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, show and check installed components and who brings them."
)

GroupOption = Annotated[
    str | None,
    typer.Option("--group", metavar="GROUP", help="Where a name stands in several groups: models, protocols ..."),
]
NameArgument = Annotated[str, typer.Argument(help="Name of a component; DISTRIBUTION:NAME where several claim it.")]


@app.callback()
def group() -> None:
    """List, show and check installed components and who brings them."""


@app.command("list")
def list_() -> None:
    """List the components of every group by name, without importing any; (!) marks names that several claim."""
    from repkit.plugins import GROUPS, claimed_twice, components
    from repkit.plugins.discover import fits_the_rule

    twice = claimed_twice()
    rows = [
        (c.group, f"{c.name} (!)" if (c.group, c.name) in twice else c.name, c.origin, c.value)
        for group in GROUPS
        for c in components(group)
    ]
    print_table(("group", "name", "from", "points to"), rows)
    crooked = [c.origin + ": " + c.name for c in components() if not fits_the_rule(c.name)]
    if crooked:
        typer.echo(f"names that are not small letters, digits and underscores: {', '.join(crooked)}")
    if twice:
        typer.echo("(!) claimed by several distributions: recipes must say DISTRIBUTION:NAME")


@app.command()
def show(name: NameArgument, group: GroupOption = None) -> None:
    """Show a component: who brings it, what it is, what it declares, its settings."""
    for place, component in enumerate(_find(name, group)):
        if place:
            typer.echo()
        _show(component)


@app.command()
def check(
    name: NameArgument,
    group: GroupOption = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting, for example the folder that a corpus reads. Repeatable."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Try the rules of its group on a component; exit code 3 when it breaks any."""
    from repkit.config.load import assign, parse_assignment
    from repkit.testing import check_component

    found = _find(name, group, recipes=True)
    if len({(c.group, c.distribution) for c in found}) > 1:
        several = ", ".join(f"{c.group} of {c.distribution}" for c in found)
        raise UsageError(f"{name}: stands for {several}; choose by --group GROUP or as DISTRIBUTION:NAME")
    settings: dict[str, Any] = {}
    for text in set_:
        path, value = parse_assignment(text)
        assign(settings, path, value)
    component = found[0]
    report = check_component(component.group, _full_name(component), settings=settings)
    kept = [(r.check.name, r.status, r.message) for r in report.results if r.ok]
    print_table(("check", "result", ""), [*kept, *((r.check.name, r.status, r.got) for r in report.failed)])
    if not report.ok:
        raise PluginError(
            f"{component.blame}: {len(report.failed)} of {len(report.results)} checks failed; rules that all components of "
            "the group keep were expected; mend it, its author has the lines below",
            _by_cause(report.failed),
        )


def _by_cause(failed: Sequence[Result]) -> list[str]:
    """Return a line for each thing that was got, however many checks got it, the commonest first."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for result in failed:
        alike.setdefault((result.got, result.do), []).append(result)
    lines = []
    for (got, do), results in sorted(alike.items(), key=lambda pair: -len(pair[1])):
        first, *others = results
        more = f" (and {len(others)} more: {', '.join(r.check.name for r in others)})" if others else ""
        lines.append(
            f"{first.check.name}{more}: {first.check.rule} Got: {got}. To do: {do}. Prevents: {first.check.harm}"
        )
    return lines


@app.command()
def doctor() -> None:
    """Import every component, each blamed for itself, and print what is wrong; exit code 3 when anything is."""
    from repkit.plugins import components
    from repkit.plugins.doctor import examine, versions

    print_table(("", "version"), list(versions().items()))
    found = components()
    problems = examine()
    bringing = len({c.distribution for c in found})
    typer.echo(f"{len(found)} components of {bringing} distributions, {len(problems)} problems")
    if problems:
        raise PluginError(f"plugins doctor: {len(problems)} problems", [str(finding) for finding in problems])


def _full_name(component: Component) -> str:
    """Return a name that no other distribution can claim; recipes that repkit ships stand outside of the metadata."""
    from repkit.plugins import components

    installed = component.name in {c.name for c in components(component.group)}
    return f"{component.distribution}:{component.name}" if installed else component.name


def _find(name: str, group: str | None, recipes: bool = False) -> list[Component]:
    """Return the components of a name, from one group or from all.

    Args:
        name: with or without its distribution.
        group: with or without ``repkit.``; None for all.
        recipes: whether to look among the recipes that repkit ships when no entry point has the name.

    Raises:
        UsageError: no such group.
        PluginError: no such component.
    """
    from repkit.plugins import GROUPS, components
    from repkit.plugins.discover import brought_by

    wanted = None if group is None else group if group.startswith("repkit.") else f"repkit.{group}"
    if wanted is not None and wanted not in GROUPS:
        raise UsageError(f"--group {group}: no such group{did_you_mean(wanted, GROUPS)}; one of {', '.join(GROUPS)}")
    everything = components(wanted)
    owner, _, plain = name.rpartition(":")
    found = [c for c in everything if c.name == plain and owner in ("", c.distribution)]
    if not found and recipes and wanted in (None, "repkit.recipes"):
        found = [c for c in _own_recipes() if c.name == plain and owner in ("", c.distribution)]
    if not found:
        where = wanted or "any group"
        raise PluginError(
            f"no component named {name!r} in {where}{did_you_mean(plain, {c.name for c in everything})}{brought_by(plain)}; "
            "`repkit plugins list` shows all"
        )
    return found


def _own_recipes() -> list[Component]:
    from importlib.metadata import EntryPoint

    from repkit import __version__
    from repkit.config import list_recipes
    from repkit.plugins import Component

    group = "repkit.recipes"
    return [
        Component(group, name, "", "repkit", __version__, EntryPoint(name, "", group))
        for name, origin in list_recipes().items()
        if origin == "repkit"
    ]


def _show(component: Component) -> None:
    from repkit.api import API_VERSION
    from repkit.plugins import GROUPS, load
    from repkit.plugins.describe import declarations, first_paragraph, settings_of

    loaded = load(component.group, _full_name(component))
    offered = f"this repkit offers {API_VERSION[0]}.{API_VERSION[1]}"
    stated = getattr(loaded, "api_version", None)
    rows = [
        ("name", component.name),
        ("group", f"{component.group}: {GROUPS[component.group]}"),
        ("from", component.origin),
        ("points to", component.value),
        ("API", f"{stated[0]}.{stated[1]}, {offered}" if stated else f"not stated, {offered}"),
    ]
    if component.group == "repkit.recipes":
        from repkit.config.load import read_toml

        path = loaded() if callable(loaded) else loaded
        rows += [("file", str(path)), ("what it is", str(read_toml(path).get("description", "")))]
        rows.append(("runs as", path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")))
    else:
        rows.append(("what it is", first_paragraph(loaded) or "it does not say"))
    rows += [("declares", line) for line in declarations(component.group, loaded)]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        typer.echo(f"{key.ljust(width)}  {value}")
    settings = settings_of(loaded) if component.group != "repkit.recipes" else []
    if settings:
        typer.echo()
        print_table(
            ("setting", "type", "default", "meaning"), [(s.key, s.kind, s.default, s.meaning) for s in settings]
        )
