"""``repkit recipes show --resolved``: every setting of a recipe, defaults and those of its components too, and its origin."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repkit.config import PretrainRecipe, SerRecipe, load_recipe
from repkit.config.load import Key, flat, parse_assignment, read_layers, read_tables
from repkit.errors import RecipeError
from repkit.plugins import build_config, load
from repkit.workflows.scale.recipe import ScaleRecipe

KINDS: dict[str, Any] = {"train-ser": SerRecipe, "pretrain-ae": PretrainRecipe, "scale": ScaleRecipe}
"""Kind of a recipe by its command."""

_COMPONENTS = {"frontend": "repkit.frontends", "protocol": "repkit.protocols", "model": "repkit.models"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 48
"""Column at which origins stand, where the value leaves room."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a resolved recipe.

    Attributes:
        key: where it stands.
        value: JSON value; None where nothing is set.
        origin: the recipe that sets it, ``--set``, ``default``, or ``default of COMPONENT``.
    """

    key: Key
    value: Any
    origin: str


def kind_of(name: str) -> Any:
    """Return the class of a recipe.

    Raises:
        RecipeError: its command has no recipes.
    """
    command = str(read_tables(name).get("command", "train-ser"))
    if command not in KINDS:
        raise RecipeError(
            f"recipe {name}: command {command!r}; one of {', '.join(KINDS)} was expected; mend the recipe"
        )
    return KINDS[command]


def resolved_settings(name: str, assignments: Sequence[str] = ()) -> list[Setting]:
    """Return every setting of a recipe with its origin.

    Args:
        name: recipe name or path.
        assignments: ``KEY=VALUE`` texts of ``--set``.

    Raises:
        RecipeError: the recipe or a component's table does not validate.
        UsageError: an assignment that cannot be read.
        PluginError: a component that cannot be had.
    """
    recipe = load_recipe(kind_of(name), name, assignments)
    whole, owners = _filled(recipe)
    layers = [(path.stem, flat(tables)) for path, tables in read_layers(name)]
    for text in assignments:
        path, value = parse_assignment(text)
        key: Key = tuple(int(part) if part.isdigit() else part for part in path)
        layers.append(("--set", {(*key, *inner): leaf for inner, leaf in flat(value).items()}))
    found = []
    for key, value in flat(whole).items():
        given = [origin for origin, settings in layers if key in settings]
        owner = next((text for place, text in owners.items() if key[: len(place)] == place), None)
        own = f"default of {owner}" if owner and key[-1] not in ("name", "weight") else "default"
        found.append(Setting(key, value, given[-1] if given else own))
    return found


def resolved_toml(name: str, assignments: Sequence[str] = ()) -> str:
    """Return a recipe with every setting written out, each with its origin, as TOML that can be trained by itself.

    Raises:
        RecipeError, UsageError, PluginError: see `resolved_settings`.
    """
    settings = resolved_settings(name, assignments)
    chain = [path.stem for path, _ in read_layers(name)][::-1]
    extends = "".join(f", which extends {parent}" for parent in chain[1:])
    lines = [f"# {chain[0]}{extends}: every setting, and which recipe, --set or default it comes from."]
    tables: dict[Key, list[Setting]] = {}
    for setting in settings:
        tables.setdefault(_table_of(setting.key), []).append(setting)
    for table, members in tables.items():
        if table:
            lines.append(f"\n[[{table[0]}]]" if len(table) == 2 else f"\n[{table[0]}]")
        lines += [_line(one.key[len(table) :], one) for one in members]
    return "\n".join(lines) + "\n"


def _filled(recipe: Any) -> tuple[dict[str, Any], dict[Key, str]]:
    """Return a recipe as JSON values with its components' defaults, and whose default a value at a place would be."""
    whole: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True)
    owners: dict[Key, str] = {}
    if isinstance(recipe, SerRecipe):
        _fill_ser(recipe, whole, owners)
    elif isinstance(recipe, PretrainRecipe):
        _fill_pretrain(recipe, whole, owners)
    # tables last: what follows a table's header in TOML belongs to it
    values = {key: value for key, value in whole.items() if not _is_table(value)}
    return {**values, **{key: value for key, value in whole.items() if _is_table(value)}}, owners


def _fill_ser(recipe: SerRecipe, whole: dict[str, Any], owners: dict[Key, str]) -> None:
    from repkit.workflows.train_ser.conditions import check_components

    check_components(recipe)
    for name, group in _COMPONENTS.items():
        whole[name] = _component(group, getattr(recipe, name), name)
        owners[name,] = whole[name]["name"]
    whole["objectives"] = [_component("repkit.objectives", one, "objectives") for one in recipe.objectives]
    owners |= {("objectives", place): one.name for place, one in enumerate(recipe.objectives)}
    if recipe.labels.category_map is None:
        whole["labels"]["category_map"] = "none"  # the word for it, where TOML has no null
    for place, condition in enumerate(recipe.conditions):
        of = recipe.of_condition(condition)
        if "model" in condition.set:
            whole["conditions"][place]["set"]["model"] = _component("repkit.models", of.model, "model")
            owners["conditions", place, "set", "model"] = of.model.name


def _fill_pretrain(recipe: PretrainRecipe, whole: dict[str, Any], owners: dict[Key, str]) -> None:
    from repkit.stage_one.settings import settings_of

    config = settings_of(recipe)
    training = config.model_dump(mode="json", exclude={"objectives"})
    frontend = load("repkit.frontends", config.frontend)
    settings = build_config(frontend, config.frontend_settings, "training.frontend_settings").model_dump(mode="json")
    settings.pop("fixed_length_s", None)  # a key of [training]
    whole["training"] = {**training, "frontend_settings": settings}
    owners["training", "frontend_settings"] = config.frontend
    whole["objectives"] = [_component("repkit.pretraining", one, "objectives") for one in recipe.objectives]
    owners |= {("objectives", place): one.name for place, one in enumerate(recipe.objectives)}


def _component(group: str, table: Any, where: str) -> dict[str, Any]:
    """Return a component's name, weight if it has one, and all its settings."""
    settings = build_config(load(group, table.name), table.settings, where).model_dump(mode="json")
    weight = {"weight": table.weight} if where == "objectives" else {}
    return {"name": table.name, **weight, **settings}


def _is_table(value: Any) -> bool:
    return bool(value) and (
        isinstance(value, Mapping) or (isinstance(value, list) and all(isinstance(one, Mapping) for one in value))
    )


def _table_of(key: Key) -> Key:
    """Return the table, or the place in a list of tables, that a setting stands in."""
    if len(key) < 2:
        return ()
    return key[:2] if isinstance(key[1], int) else key[:1]


def _line(key: Key, setting: Setting) -> str:
    """Return a setting as a line of its table, with its origin."""
    name = ".".join(_bare(str(part)) for part in key)
    if setting.value is None:
        return f"# {name} is not set".ljust(_WIDTH) + f"  # {setting.origin}"
    return f"{name} = {toml_value(setting.value)}".ljust(_WIDTH) + f"  # {setting.origin}"


def toml_value(value: Any) -> str:
    """Return a JSON value as TOML on one line; tables inside lists leave out what is not set."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_bare(str(k))} = {toml_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _bare(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
