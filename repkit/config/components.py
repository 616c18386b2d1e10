"""What the components of a recipe have against their settings, told together with what is wrong with the recipe itself.

The schema knows the keys of the core alone; those of a component stand in its ``Config``, which is only asked once its table
has a name. A recipe that is wrong on both sides would otherwise be refused twice, one repair after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from repkit.errors import RepkitError
from repkit.plugins.load import build_config, load
from repkit.plugins.wording import SAID

if TYPE_CHECKING:
    from repkit.config.schema import SerRecipe

GROUP_OF = {
    "frontend": "repkit.frontends",
    "protocol": "repkit.protocols",
    "model": "repkit.models",
    "objectives": "repkit.objectives",
}
"""From the tables of a recipe of train-ser to where their components are looked for."""

_OF_A_CONDITION = ("model", "objectives")


def capabilities_of(recipe: SerRecipe) -> frozenset[str]:
    """Return what the recipe's model can do under its settings; see `repkit.api.MODEL_CAPABILITIES`.

    Raises:
        PluginError: the model cannot be had.
        RecipeError: its settings do not validate.
    """
    model_class = load("repkit.models", recipe.model.name)
    if hasattr(model_class, "capabilities_for"):
        return frozenset(model_class.capabilities_for(build_config(model_class, recipe.model.settings, "model")))
    return frozenset(getattr(model_class, "capabilities", ()))


def with_components(error: ValidationError, recipe: object) -> ValidationError:
    """Return an error of a whole recipe with the lines of its components added.

    Args:
        error: what the schema found.
        recipe: what was to be validated; components whose tables the schema has refused are passed over.
    """
    lines = [line for where, table in _tables(recipe) for line in _lines(where, table)]
    told: list[InitErrorDetails] = [
        InitErrorDetails(type=_type_of(one), loc=one["loc"], input=one["input"], ctx=one.get("ctx", {}))
        for one in error.errors()
    ]
    # a line of braces would be taken for places to fill in, were it the text itself
    told += [
        InitErrorDetails(type=PydanticCustomError(SAID, "{line}", {"line": line}), loc=(), input=None)
        for line in dict.fromkeys(lines)
    ]
    return ValidationError.from_exception_data(error.title, told)


def _type_of(problem: Mapping[str, Any]) -> str | PydanticCustomError:
    if problem["type"] != SAID:
        return str(problem["type"])
    return PydanticCustomError(SAID, "{line}", problem["ctx"])


def _tables(recipe: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where a component's table stands, and the table; those of conditions where they set one of their own."""
    if not isinstance(recipe, Mapping):
        return
    yield from _of(recipe, "", tuple(GROUP_OF))
    conditions = recipe.get("conditions")
    for condition in conditions if isinstance(conditions, list | tuple) else ():
        own = condition.get("set") if isinstance(condition, Mapping) else None
        if isinstance(own, Mapping):
            over = {key: _laid(recipe.get(key), own[key]) for key in _OF_A_CONDITION if key in own}
            yield from _of(over, f"conditions.{condition.get('name')}.set.", _OF_A_CONDITION)


def _laid(base: object, own: object) -> object:
    """Return a condition's table laid over the recipe's, unless it is of another component."""
    if not (isinstance(base, Mapping) and isinstance(own, Mapping)):
        return own
    return {**base, **own} if own.get("name", base.get("name")) == base.get("name") else own


def _of(tables: Mapping[str, Any], prefix: str, keys: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key in keys:
        table = tables.get(key)
        several = table if isinstance(table, list | tuple) else ()
        listed = [(f"{prefix}{key}.{place}", one) for place, one in enumerate(several)] or [(f"{prefix}{key}", table)]
        for where, one in listed:
            if isinstance(one, Mapping) and isinstance(one.get("name"), str):
                yield where, one


def _lines(where: str, table: Mapping[str, Any]) -> list[str]:
    key = where.rpartition("set.")[2].partition(".")[0]
    settings = {name: value for name, value in table.items() if name not in ("name", "weight")}
    try:
        build_config(load(GROUP_OF[key], table["name"]), settings, where)
    except RepkitError as error:
        return list(error.problems) or [error.message]
    return []
