"""Settings of training that would change nothing beside the others, so that none is given in vain. Source: own design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from repkit.config.components import capabilities_of
from repkit.config.schema import PhaseTable, SerRecipe, TrainingTable
from repkit.errors import RepkitError
from repkit.plugins.wording import shown

_NEEDS: Mapping[str, tuple[str, Callable[[TrainingTable], bool]]] = {
    "momentum": ("optimiser = 'sgd'", lambda table: table.optimiser == "sgd"),
    "adam_epsilon": ("optimiser = 'adam' or 'adamw'", lambda table: table.optimiser in ("adam", "adamw")),
    "decay": ("schedule = 'time_decay'", lambda table: table.schedule == "time_decay"),
    "min_gain": ("patience", lambda table: table.patience is not None),
    "length_step_frames": (
        "sampler = 'length_sorted' or 'length_binned'",
        lambda table: table.sampler in ("length_sorted", "length_binned"),
    ),
}
"""What a key of a training table needs in the same table, in words, and whether it is there."""
READ_BY_ESTIMATORS = ("select_by",)
"""Keys of a training table that a model fitted in one go reads (`repkit.training.estimators`)."""
_Phases = list[tuple[PhaseTable, TrainingTable]]


def idle_settings(recipe: SerRecipe) -> list[str]:
    """Return a line for each setting that no training of the recipe reads, empty where all are read.

    A value counts as given where it is not the default, because a recipe that is written out in full names them all. What
    ``[training]`` says may be meant for some conditions and phases alone.
    """
    trained = _trained(recipe)
    lines = _idle("training", recipe.training.model_dump(), [pair for of in trained.values() for pair in of])
    for phase in recipe.phases:
        some = [pair for of in trained.values() for pair in of if pair[0].name == phase.name]
        lines += _idle(f"phases.{phase.name}.training", phase.training, some)
    for condition in recipe.conditions:
        own = condition.set.get("training")
        if isinstance(own, Mapping) and condition.name in trained:
            where = f"conditions.{condition.name}.set.training"
            lines += _idle(where, own, trained[condition.name])
            lines += unread_settings(where, own, [recipe.of_condition(condition)])
    cut = [pair for of in trained.values() for pair in of if pair[1].crop_s is not None]
    if recipe.segments is not None and cut:
        lines.append(
            f"training.crop_s: {cut[0][1].crop_s:g} beside [segments], whose items are {recipe.segments.length_s:g} s long and "
            "never cropped; one of the two was expected; leave one out"
        )
    return lines


def unread_settings(where: str, given: Mapping[str, Any], recipes: Sequence[SerRecipe]) -> list[str]:
    """Return a line for each setting of a training table that no model reads, because all are fitted in one go.

    Args:
        where: the table's place in the recipe.
        given: what is said there on purpose; not what a recipe has from one that it extends, whose model may be another.
        recipes: of all that are trained.
    """
    given = {key: value for key, value in given.items() if key not in READ_BY_ESTIMATORS}
    if not given:
        return []
    try:
        if not all("estimator" in capabilities_of(one) for one in recipes):
            return []
    except RepkitError:  # told where components are looked at
        return []
    names = " and ".join(dict.fromkeys(repr(one.model.name) for one in recipes))
    return [
        f"{where}.{key}: {shown(value)} is not read by model {names}, which is fitted in one go, without epochs; of {where} "
        f"only {', '.join(READ_BY_ESTIMATORS)} was expected; leave it out, or choose another model"
        for key, value in given.items()
    ]


def _trained(recipe: SerRecipe) -> dict[str, _Phases]:
    """Return the phases of the baseline and of each condition."""
    found = {"": recipe.resolved_phases()}
    for condition in recipe.conditions:
        with suppress(
            ValidationError
        ):  # told with all that is wrong in conditions, once their components are looked at
            found[condition.name] = recipe.of_condition(condition).resolved_phases()
    return found


def _idle(where: str, given: Mapping[str, Any], phases: _Phases) -> list[str]:
    lines = []
    for key, (needed, reads) in _NEEDS.items():
        default = TrainingTable.model_fields[key].default
        if given.get(key, default) != default and not any(reads(table) for _, table in phases):
            lines.append(
                f"{where}.{key}: {given[key]:g} is not read without {needed}; set that as well, or {key} = {default:g}"
            )
    return lines
