"""Read a recipe strictly: ``extends``, ``--set``, unknown keys refused, all problems at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from repkit.config.idle import idle_settings, unread_settings
from repkit.config.locate import find_recipe
from repkit.config.schema import ComponentTable, SerRecipe, merge_tables
from repkit.errors import RecipeError, UsageError
from repkit.plugins.load import validation_lines

Recipe = TypeVar("Recipe", bound=BaseModel)
_NOTHING_CHANGES = "settings that would change nothing"
Key = tuple[str | int, ...]
"""Where a setting stands in a recipe; a number is a place in a list of tables."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        RecipeError: not TOML; names file, line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}; mend the file") from error


def parse_assignment(text: str, option: str = "--set") -> tuple[list[str], Any]:
    """Split ``a.b=value`` into its path and a TOML value; a bare word is text.

    Raises:
        UsageError: no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{option} {text}: expected KEY=VALUE, for example training.epochs=50")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return key.strip().split("."), parsed


def assign(tables: dict[str, Any], path: Sequence[str], value: Any, option: str = "--set") -> None:
    """Set a value inside nested tables; a number steps into a list.

    Args:
        tables: changed in place.
        path: keys, the outermost first.
        value: what to set.
        option: by which it was given, for messages.

    Raises:
        UsageError: the path leads through something that is no table.
    """
    place: Any = tables
    for position, part in enumerate(path):
        last = position == len(path) - 1
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                raise UsageError(
                    f"{option} {'.'.join(path)}: {part!r} is no index of a list of {len(place)}; use 0 to {len(place) - 1}"
                )
            if last:
                place[int(part)] = value
            else:
                place = place[int(part)]
        elif isinstance(place, dict):
            if last:
                place[part] = value
            else:
                place = place.setdefault(part, {})
        else:
            raise UsageError(f"{option} {'.'.join(path)}: {'.'.join(path[:position])} is a value, not a table")


def read_layers(name: str) -> list[tuple[Path, dict[str, Any]]]:
    """Return a recipe's file with its tables, and before it whatever it extends, the farthest first.

    Args:
        name: recipe name or path.

    Raises:
        RecipeError: no such recipe, not TOML, or recipes that extend one another in a circle.
    """
    layers: list[tuple[Path, dict[str, Any]]] = []
    path = find_recipe(name)
    while True:
        chain = [before for before, _ in layers]
        if path.resolve() in (before.resolve() for before in chain):
            names = " -> ".join(str(one) for one in [*chain, path])
            raise RecipeError(
                f"recipe {name}: extends itself in a circle: {names}; recipes that end in one without extends were "
                "expected; take extends out of one of them"
            )
        tables = read_toml(path)
        parent = tables.pop("extends", None)
        layers.append((path, tables))
        if parent is None:
            return layers[::-1]
        if not isinstance(parent, str):
            raise RecipeError(
                f'{path}: extends = {parent!r}; the name of one recipe was expected, as extends = "neumann2019"'
            )
        path = _parent_of(path, parent)


def _parent_of(path: Path, parent: str) -> Path:
    """Return the recipe that one extends: beside it, else by name; a copy may extend its own namesake."""
    beside = path.parent / f"{parent}.toml"
    if beside.is_file() and beside.resolve() != path.resolve():
        return beside
    try:
        return find_recipe(parent)
    except RecipeError as error:
        raise RecipeError(f"{path}: extends {parent!r}: {error.message}", error.problems) from error


def read_tables(name: str) -> dict[str, Any]:
    """Return a recipe's tables laid over those of all that it extends; see `read_layers`."""
    merged: dict[str, Any] = {}
    for _, tables in read_layers(name):
        merged = merge_tables(merged, tables)
    return merged


def assigned(tables: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's tables with the ``KEY=VALUE`` texts of ``--set`` laid on, changed in place.

    Raises:
        UsageError: an assignment that cannot be read, or that leads through a value.
    """
    parsed = [parse_assignment(text) for text in assignments]
    for path, value in parsed:
        if len(path) == 2 and path[1] == "name" and _other_name(tables.get(path[0]), value):
            tables[path[0]] = {"name": value}  # the settings of the other component mean nothing to this one
    for path, value in parsed:
        assign(tables, path, value)
    return tables


def flat(value: Any, key: Key = ()) -> dict[Key, Any]:
    """Return the values inside tables, and inside lists of tables that stand at the top, by where they stand."""
    if isinstance(value, Mapping) and value:
        items: list[tuple[str | int, Any]] = list(value.items())
    elif len(key) == 1 and isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        items = list(enumerate(value))
    else:
        return {key: value}
    return {place: leaf for inner, one in items for place, leaf in flat(one, (*key, inner)).items()}


def _nested_keys(kind: type[BaseModel]) -> list[str]:
    """Return the keys of the tables inside a recipe, for suggestions."""
    tables = [field.annotation for field in kind.model_fields.values()]
    return [
        key
        for table in tables
        if isinstance(table, type) and issubclass(table, BaseModel)
        for key in table.model_fields
    ]


def _default_components(kind: type[BaseModel], keys: Iterable[str]) -> dict[str, Any]:
    """Return the components that a recipe has where it names none, so that a single setting of theirs can be changed."""
    found: dict[str, Any] = {}
    for key in keys:
        default = kind.model_fields[key].default if key in kind.model_fields else None
        if isinstance(default, ComponentTable):
            found[key] = default.model_dump()
        elif isinstance(default, tuple) and default and isinstance(default[0], ComponentTable):
            found[key] = [one.model_dump() for one in default]
    return found


def _other_name(table: Any, name: object) -> bool:
    return isinstance(table, Mapping) and table.get("name") != name


def load_recipe(
    kind: type[Recipe], name: str, assignments: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        kind: `SerRecipe` or `PretrainRecipe`.
        name: recipe name or path.
        assignments: ``KEY=VALUE`` texts of ``--set``.
        overrides: tables from other options, laid on last.

    Raises:
        RecipeError: every problem at once, or settings that would change nothing.
        UsageError: an assignment that cannot be read.
    """
    tables = read_tables(name)
    command = kind.model_fields["command"].default
    if tables.get("command", command) != command:
        raise RecipeError(f"recipe {name}: is for `repkit {tables['command']}`, not for `repkit {command}`")
    wanted = {*(parse_assignment(text)[0][0] for text in assignments), *(overrides or {})}
    tables = {**_default_components(kind, wanted - {*tables}), **tables}
    tables = merge_tables(assigned(tables, assignments), overrides or {})
    try:
        recipe = kind.model_validate(tables)
    except ValidationError as error:
        known = (*kind.model_fields, *_nested_keys(kind))
        raise RecipeError(f"recipe {name}: not valid", validation_lines(error, "", known)) from error
    idle = idle_settings(recipe) if isinstance(recipe, SerRecipe) else []
    if idle:
        raise RecipeError(f"recipe {name}: {_NOTHING_CHANGES}", idle)
    return recipe


def refuse_unread(recipe: SerRecipe, assignments: Sequence[str]) -> None:
    """Refuse values of ``--set`` that no model of a recipe reads, because all of them are fitted in one go.

    What the recipe itself says stays as it is: it may extend one whose model is trained by epochs.

    Args:
        recipe: with all conditions that will be trained.
        assignments: ``KEY=VALUE`` texts of ``--set``, laid on already.

    Raises:
        RecipeError: lists them.
    """
    given: dict[str, Any] = {}
    for path, value in map(parse_assignment, assignments):
        if path[0] == "training":
            given |= {path[1]: value} if len(path) > 1 else dict(value)
    recipes = [recipe] if recipe.baseline or not recipe.conditions else []
    try:
        recipes += [recipe.of_condition(condition) for condition in recipe.conditions]
    except ValidationError:  # told with all that is wrong in conditions, once their components are looked at
        return
    if unread := unread_settings("training", given, recipes):
        raise RecipeError(f"recipe {recipe.name}: {_NOTHING_CHANGES}", unread)
