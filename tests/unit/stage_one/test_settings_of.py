"""A recipe of pretrain-ae that is wrong in several tables is refused once, with all of it."""

import pytest

from repkit.config import PretrainRecipe, load_recipe
from repkit.errors import RecipeError
from repkit.stage_one.settings import settings_of


def problems_of(**tables):
    with pytest.raises(RecipeError) as caught:
        settings_of(load_recipe(PretrainRecipe, "cpc", [], tables))
    return caught.value.message, [line.partition(":")[0] for line in caught.value.problems]


def test_training_and_objectives_are_told_together():
    objectives = [{"name": "cpc", "stepz": 1}, {"name": "prosody_contours", "aheadd": 2}]
    assert problems_of(training={"epoch": 3}, objectives=objectives) == (
        "recipe cpc: not valid",
        ["training.epoch", "objectives.0.stepz", "objectives.1.aheadd"],
    )
    assert problems_of(training={"epoch": 3}) == ("training: not valid", ["training.epoch"])
