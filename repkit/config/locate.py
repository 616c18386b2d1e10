"""Find a recipe: a path, a name shipped with repkit, or one that a plugin brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from repkit.errors import PluginError, RecipeError, did_you_mean
from repkit.plugins import components, load
from repkit.plugins.blaming import blaming
from repkit.plugins.discover import brought_by


def _own_folder() -> Path:
    spec = importlib.util.find_spec("repkit")
    package = Path(str(spec.origin)).parent if spec and spec.origin else Path(__file__).parents[1]
    shipped = package / "_recipes"  # inside a wheel
    return shipped if shipped.is_dir() else package.parent / "recipes"  # in a checkout


def list_recipes() -> dict[str, str]:
    """Return recipe names and where each comes from (``repkit`` or a distribution)."""
    found = {path.stem: "repkit" for path in sorted(_own_folder().glob("*.toml"))}
    for component in components("repkit.recipes"):
        found[component.name] = component.origin
    return found


def find_recipe(name: str) -> Path:
    """Return the TOML file of a recipe given by name or path.

    Raises:
        RecipeError: no such recipe; the message names close ones and the package that may bring it.
        PluginError: two distributions bring one of that name.
    """
    path = Path(name)
    if name.endswith(".toml") or path.is_file():
        if not path.is_file():
            raise RecipeError(
                f"recipe {name}: no such file; give an existing TOML file or a name of `repkit recipes list`"
            )
        return path
    owner, _, plain = name.rpartition(":")  # "distribution:name" chooses between two that claim it
    own = _own_folder() / f"{plain}.toml"
    has_own = own.is_file() and owner in ("", "repkit")
    claims = [c for c in components("repkit.recipes") if c.name == plain and owner in ("", c.distribution)]
    if has_own and claims:
        raise PluginError(
            f"recipe {plain!r} is claimed by repkit and {' and '.join(c.origin for c in claims)}; write "
            f"'repkit:{plain}' or '{claims[0].distribution}:{plain}' to choose one"
        )
    if has_own:
        return own
    if claims:
        brought = load("repkit.recipes", name)
        with blaming("repkit.recipes", name):
            path = Path(str(brought() if callable(brought) else brought))
        if not path.is_file():
            raise PluginError(
                f"{claims[0].blame}: points to {path}, which does not exist; a TOML file was expected; reinstall or mend the plugin"
            )
        return path
    known = list_recipes()
    raise RecipeError(
        f"recipe {name!r}: not found{did_you_mean(name, known)}{brought_by(name)}; known: {', '.join(known) or 'none'}"
    )
