"""What ``repkit scale`` reads: hours, seeds, updates, and the recipes of stage one that are trained on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from repkit.config import PretrainRecipe, load_recipe
from repkit.config.schema import merge_tables

if TYPE_CHECKING:
    from repkit.stage_one.settings import PretrainConfig

_THE_PLAN_SAYS = ("hours", "hours_seed", "updates", "seed")
"""Keys of ``[training]`` that follow from the cell."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


def _not_of_a_cell(training: Mapping[str, Any]) -> Mapping[str, Any]:
    wrong = [key for key in _THE_PLAN_SAYS if key in training]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)} of a cell follow from hours, data_seed, updates and seeds; leave them out"
        )
    return training


class Curve(_Table):
    """One line of the figure: a recipe of pretrain-ae."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="begins the names of its encoders")
    recipe: str = Field(description="of `repkit pretrain-ae`")
    training: dict[str, Any] = Field(default_factory=dict, description="laid over the plan's `[training]`")
    readout: str | None = Field(default=None, description="as of `repkit embed`; none: the plan's")
    layers: Literal["last", "all"] | None = Field(default=None, description="as of `repkit embed`; none: the plan's")

    _checked = field_validator("training")(_not_of_a_cell)


class ScaleRecipe(_Table):
    """A recipe of ``repkit scale``."""

    schema_version: Literal[1] = Field(default=1, alias="schema", description="version of this format")
    command: Literal["scale"] = Field(default="scale", description="the command the recipe is for")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="small letters, digits, `_`, `.`, `-`")
    description: str = Field(default="", description="one line for `repkit recipes list`")
    hours: tuple[float, ...] = Field(description="of speech, each a point of every curve")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), description="every curve is trained once per hours and seed")
    updates: int = Field(ge=1, description="of every training, however much speech it hears")
    data_seed: int = Field(default=0, ge=0, description="of the draw of the speech, the same for all seeds")
    readout: str | None = Field(default=None, description="as of `repkit embed`; none: the encoder's own")
    layers: Literal["last", "all"] | None = Field(default=None, description="as of `repkit embed`")
    training: dict[str, Any] = Field(default_factory=dict, description="laid over the `[training]` of every recipe")
    curves: tuple[Curve, ...] = Field(min_length=1, description="what is trained")

    _checked = field_validator("training")(_not_of_a_cell)

    @field_validator("hours", "seeds")
    @classmethod
    def _distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len({f"{one:g}" for one in value}) != len(value) or min(value) < 0:
            raise ValueError("at least one, each once and none below zero, was expected")
        return value

    @field_validator("hours")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            raise ValueError("hours above zero were expected")
        return tuple(sorted(value))

    @field_validator("curves")
    @classmethod
    def _names_differ(cls, value: tuple[Curve, ...]) -> tuple[Curve, ...]:
        names = [curve.name for curve in value]
        if len(set(names)) != len(names):
            raise ValueError(f"names of curves must differ, got {names}")
        return value

    def config_of(self, curve: Curve, hours: float, seed: int) -> PretrainConfig:
        """Return the settings of one training.

        Raises:
            RecipeError: the curve's recipe does not validate with what is laid over it.
            PluginError: an objective that is not installed.
        """
        from repkit.stage_one.settings import settings_of

        recipe = load_recipe(PretrainRecipe, curve.recipe)
        cell = {"hours": hours, "hours_seed": self.data_seed, "updates": self.updates, "seed": seed}
        training: dict[str, Any] = recipe.training
        for over in (self.training, curve.training, cell):
            training = merge_tables(training, over)
        return settings_of(recipe.model_copy(update={"training": training}))

    def readout_of(self, curve: Curve) -> dict[str, Any]:
        """Return the options of `embed` that say what is read off an encoder of a curve."""
        return {"readout": curve.readout or self.readout, "layers": curve.layers or self.layers}


__all__ = ["Curve", "ScaleRecipe"]
