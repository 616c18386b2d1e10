"""Import one component by name and blame its distribution when that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from repkit.api import API_VERSION, Config
from repkit.errors import PluginError, RecipeError
from repkit.plugins.discover import find
from repkit.plugins.wording import validation_lines


def load(group: str, name: str) -> Any:
    """Import the component called name of a group and return its class.

    Raises:
        PluginError: unknown or doubly claimed name, import failure, no class, built for another API version, no settings, or
            settings of reserved names.
    """
    component = find(group, name)
    try:
        loaded = component.entry_point.load()
    except (Exception, SystemExit) as error:  # a script that ends itself when imported must not end the command
        raise PluginError(
            f"plugin {component.origin} ({group}: {component.name} = {component.value}) failed to import: "
            f"{type(error).__name__}: {error}; mend or uninstall it, or choose another component"
        ) from error
    found = None
    if group != "repkit.recipes":
        found = wrong_kind(loaded) or wrong_version(loaded) or wrong_settings(group, loaded)
    if found is not None:
        raise PluginError(f"{component.blame}: {found[0]}; {found[1]}")
    return loaded


def wrong_kind(loaded: Any) -> tuple[str, str] | None:
    """Return what an entry point leads to when it is no class, and what to do, else None."""
    if isinstance(loaded, type):
        return None
    kind = type(loaded).__name__
    return f"points to {'an' if kind[0] in 'aeiou' else 'a'} {kind}; a class was expected", "mend or uninstall it"


def wrong_version(loaded: Any) -> tuple[str, str] | None:
    """Return what is wrong with the ``api_version`` that a class states, and what to do; None where it fits or is not stated."""
    stated = getattr(loaded, "api_version", None)
    if stated is None:
        return None
    if not (isinstance(stated, tuple) and len(stated) == 2 and all(isinstance(part, int) for part in stated)):
        return f"api_version = {stated!r}", f"write a pair of whole numbers such as {API_VERSION}"
    if stated[0] != API_VERSION[0] or stated[1] > API_VERSION[1]:
        return (
            f"built for API {stated[0]}.{stated[1]}; this repkit offers {API_VERSION[0]}.{API_VERSION[1]}",
            "install a version of it that fits",
        )
    return None


RESERVED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("repkit.frontends", "repkit.models", "repkit.protocols"), ("name",)),
    **dict.fromkeys(("repkit.objectives", "repkit.pretraining"), ("name", "weight")),
}
"""Keys of a component's table in a recipe that are repkit's own, so that a setting called so could never be set."""


def wrong_settings(group: str, loaded: Any) -> tuple[str, str] | None:
    """Return what is wrong with the class of a component's settings, and what to do; None where nothing is."""
    kind = getattr(loaded, "Config", None)
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        return "has no settings", "write an inner class Config(repkit.api.Config), empty when there is nothing to set"
    taken = [name for name in RESERVED.get(group, ()) if name in kind.model_fields]
    if taken:
        return (
            f"has a setting called {taken[0]!r}, which in the component's table of a recipe is repkit's own key and never reaches it",
            "give the setting another name",
        )
    return None


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


__all__ = ["build_config", "load", "validate", "validation_lines", "wrong_kind", "wrong_settings", "wrong_version"]
