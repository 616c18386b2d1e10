"""Import one component by name and blame its distribution when that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from repkit.api import API_VERSION, Config
from repkit.errors import PluginError, RecipeError
from repkit.plugins.discover import Component, find
from repkit.plugins.wording import validation_lines


def load(group: str, name: str) -> Any:
    """Import the component called name of a group and return its class.

    Raises:
        PluginError: unknown or doubly claimed name, import failure, or built for another API version.
    """
    component = find(group, name)
    try:
        loaded = component.entry_point.load()
    except Exception as error:
        raise PluginError(
            f"plugin {component.origin} ({group}: {component.name} = {component.value}) failed to import: "
            f"{type(error).__name__}: {error}; mend or uninstall it, or choose another component"
        ) from error
    _check_version(component, loaded)
    return loaded


def _check_version(component: Component, loaded: Any) -> None:
    major, minor = getattr(loaded, "api_version", API_VERSION)
    if major != API_VERSION[0] or minor > API_VERSION[1]:
        raise PluginError(
            f"{component.blame}: built for API {major}.{minor}; "
            f"this repkit offers {API_VERSION[0]}.{API_VERSION[1]}; install a version of it that fits"
        )


def build_config(component_class: Any, table: Mapping[str, Any], where: str) -> Any:
    """Validate a recipe table against ``component_class.Config`` and return the config.

    Raises:
        RecipeError: every unknown key and wrong value of the table at once, prefixed with where it stands.
    """
    return validate(getattr(component_class, "Config", Config), table, where)


def validate(config_class: type[Config], table: Mapping[str, Any], where: str) -> Any:
    """Return a config made from a table.

    Raises:
        RecipeError: every unknown key and wrong value of the table at once, prefixed with where it stands.
    """
    try:
        return config_class(**table)
    except ValidationError as error:
        raise RecipeError(
            f"{where}: not valid", validation_lines(error, where, tuple(config_class.model_fields))
        ) from error


__all__ = ["build_config", "load", "validate", "validation_lines"]
