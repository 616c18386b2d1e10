"""Checks that hold for every class of component: its settings, its version, what it imports, that it can be built."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from repkit.errors import RepkitError
from repkit.plugins.load import wrong_settings, wrong_version
from repkit.testing.kit import Broken, Case, NotApplicable, check, settings_class

CLASSES = (
    "repkit.corpora",
    "repkit.frontends",
    "repkit.encoders",
    "repkit.pretraining",
    "repkit.models",
    "repkit.objectives",
    "repkit.protocols",
)
"""Groups whose components are classes with settings."""

CHOSEN_BY_NAME_ALONE = (
    "repkit.frontends",
    "repkit.pretraining",
    "repkit.models",
    "repkit.objectives",
    "repkit.protocols",
)
"""Groups that a recipe may use with nothing but ``name = ...``."""

ALLOWED = ("repkit.api", "repkit.testing")


@check(*CLASSES, first=True)
def builds(case: Case) -> None:
    """A component is built from its validated settings, as Class(config), models and objectives of both stages as Class(config, task).

    Prevents: a component that every recipe may name and no run can use.
    """
    case.make()


@check(*CLASSES)
def settings_are_a_config(case: Case) -> None:
    """Settings are an inner class Config(repkit.api.Config): frozen, unknown keys refused, JSON values, no name that is repkit's own.

    Prevents: a misspelt key of a recipe that is silently ignored, a setting that nobody can set, settings that change after the
    run's signature was computed, and a run directory that cannot say what was trained.
    """
    kind = settings_class(case.component)
    if kind is None:
        raise Broken(
            f"{case.name} has no such class",
            "write `class Config(repkit.api.Config)` inside it, with `pass` when there is nothing to set",
        )
    if wrong := wrong_settings(case.group, case.component):
        raise Broken(f"{case.name} {wrong[0]}", wrong[1])
    try:
        kind(**case.settings, a_key_nobody_has=1)
    except ValidationError as error:
        if not any(problem["type"] == "extra_forbidden" for problem in error.errors()):
            raise Broken(
                f"an unknown key is not refused: {error}", 'leave model_config as it is (extra = "forbid")'
            ) from error
    else:
        raise Broken("an unknown key is accepted", 'leave model_config as it is (extra = "forbid")')
    for key in type(case.config).model_fields:
        try:
            setattr(case.config, key, getattr(case.config, key))
        except ValidationError:
            continue
        raise Broken(f"the setting {key!r} can be changed afterwards", "leave model_config as it is (frozen = True)")
    text = case.config.model_dump_json()
    if type(case.config).model_validate_json(text) != case.config:
        raise Broken(
            f"written as JSON and read again the settings differ ({text})",
            "use types that survive it: numbers, text, tuples, mappings, paths",
        )


@check(*CHOSEN_BY_NAME_ALONE)
def every_setting_has_a_default(case: Case) -> None:
    """Every setting has a default.

    Prevents: a component that cannot be tried by name alone, and a recipe that breaks when a setting is added.
    """
    kind = settings_class(case.component)
    if kind is None:
        raise NotApplicable("there is no Config")
    missing = [key for key, field in kind.model_fields.items() if field.is_required()]
    if missing:
        raise Broken(
            f"no default for {', '.join(missing)}", "give each a default, the published value where there is one"
        )


@check(*CLASSES)
def api_version_fits(case: Case) -> None:
    """A component that states `api_version` states (major, minor), and this repkit accepts it.

    Prevents: a component that is refused, or not refused, at the next change of the public contract.
    """
    if getattr(case.component, "api_version", None) is None:
        raise NotApplicable("no api_version is stated")
    wrong = wrong_version(case.component)
    if wrong is not None:
        raise Broken(*wrong)


@check(*CLASSES)
def imports_only_the_contract(case: Case) -> None:
    """Of repkit a plugin imports repkit.api and repkit.testing only, and nothing of other plugins.

    Prevents: a plugin that breaks when a room inside repkit is moved, without any change of the API version.
    """
    own = case.component.__module__.partition(".")[0]
    if own == "repkit":
        raise NotApplicable("repkit's own components live in its rooms")
    for path in _sources(case.component):
        for line, name in _imports(path):
            root = name.partition(".")[0]
            inside = root == "repkit" and not any(
                name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED
            )
            if inside or (root.startswith("repkit_") and root != own):
                raise Broken(
                    f"{path.name}, line {line} imports {name}",
                    f"use what {' and '.join(ALLOWED)} offer, or copy the few lines you need",
                )


def _sources(component: Any) -> list[Path]:
    """Return the source files of a component's package, or the one of its module where it is in none."""
    module = sys.modules.get(component.__module__)
    package = sys.modules.get(component.__module__.partition(".")[0])
    places = [Path(place) for place in getattr(package, "__path__", ())]
    found = sorted(path for place in places for path in place.rglob("*.py"))
    file = getattr(module, "__file__", None)
    return found or ([Path(file)] if file else [])


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything a source file imports by an absolute name."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise Broken(f"{path.name}{line} cannot be read as Python: {why}", "mend the file, or leave it out") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def settings_variants(case: Case) -> Iterator[tuple[str, Any]]:
    """Yield the settings with one value changed each, as (what was changed, config), where the change is valid."""
    kind = type(case.config)
    for key, field in kind.model_fields.items():
        for value in _others(getattr(case.config, key), field.annotation):
            try:
                yield f"{key} = {value!r}", kind(**{**case.config.model_dump(), key: value})
            except (ValidationError, RepkitError):
                continue


def _others(value: Any, annotation: Any) -> tuple[Any, ...]:
    """Return values of the same kind as a setting's."""
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1)
    if isinstance(value, float):
        return (value * 1.25, value * 0.75)
    if isinstance(value, str):
        options: tuple[Any, ...] = getattr(annotation, "__args__", ())
        return tuple(option for option in options if isinstance(option, str) and option != value)
    return ()
