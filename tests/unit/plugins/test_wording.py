"""What is said of wrong settings: in the words of whoever typed them, never in those of the validation library."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from repkit.config import SerRecipe, load_recipe
from repkit.errors import RecipeError
from repkit.plugins.wording import shown, validation_lines


class Inner(BaseModel):
    model_config = {"extra": "forbid"}
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Table(BaseModel):
    model_config = {"extra": "forbid", "allow_inf_nan": False}
    seeds: tuple[int, ...] = (0,)
    epochs: int = Field(default=1, ge=1, lt=100)
    rate: float = Field(default=0.1, gt=0.0, le=0.5)
    balanced: bool = False
    kind: Literal["adam", "sgd"] = "adam"
    name: str = Field(default="x", pattern="^[a-z]+$")
    folder: str | tuple[str, ...] | None = None
    path: Path = Path("x")
    inner: Inner = Inner()
    several: tuple[int, ...] = Field(default=(1,), min_length=1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value):
        if len(set(value)) < len(value):
            raise ValueError("each once")
        return value


def lines(**table):
    with pytest.raises(ValidationError) as caught:
        Table.model_validate(table)
    return validation_lines(caught.value, "t", tuple(Table.model_fields))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"seeds": 3}, "t.seeds: got 3; a list was expected, for example [3]"),
        ({"seeds": "0,1,2"}, "t.seeds: got '0,1,2'; a list was expected, for example [0, 1, 2]"),
        ({"seeds": [0.5]}, "t.seeds.0: got 0.5; a whole number was expected"),
        ({"seeds": [1, 1]}, "t.seeds: got [1, 1]; each once"),
        ({"epochs": "two"}, "t.epochs: got 'two'; a whole number was expected"),
        ({"epochs": 0}, "t.epochs: got 0; at least 1 was expected"),
        ({"epochs": 100}, "t.epochs: got 100; a number below 100 was expected"),
        ({"rate": 0}, "t.rate: got 0; a number above 0 was expected"),
        ({"rate": 0.75}, "t.rate: got 0.75; at most 0.5 was expected"),
        ({"rate": float("inf")}, "t.rate: got inf; a finite number was expected"),
        ({"balanced": "maybe"}, "t.balanced: got 'maybe'; true or false was expected"),
        ({"kind": "adamm"}, "t.kind: got 'adamm'; did you mean 'adam'; one of 'adam', 'sgd' was expected"),
        ({"kind": True}, "t.kind: got true; one of 'adam', 'sgd' was expected"),
        ({"name": "A b"}, "t.name: got 'A b'; text of the form ^[a-z]+$ was expected"),
        ({"name": 3}, "t.name: got 3; text was expected"),
        ({"folder": 3}, "t.folder: got 3; text or a list was expected"),
        ({"path": 3}, "t.path: got 3; a path was expected"),
        ({"inner": 3}, "t.inner: got 3; a table was expected"),
        ({"inner": {"low": 2.0}}, "t.inner: low is above high"),
        ({"several": []}, "t.several: got []; a list of at least 1 was expected"),
        ({"epoch": 3}, "t.epoch: unknown key; did you mean 'epochs'?"),
        ({"epochs": {"a": 1}}, "t.epochs: got a table with a; a whole number was expected"),
    ],
)
def test_one_line_says_what_was_got_and_what_was_expected(table, line):
    assert lines(**table) == [line]


def test_no_word_of_the_library_is_left():
    text = " ".join(lines(seeds=3, epochs="two", balanced=[], kind=4, inner={"low": 3.0}, folder=True)).lower()
    for word in ("input", "valid", "pydantic", "value error", "tuple", "literal", "str]"):
        assert word not in text


def test_two_keys_of_the_same_wrong_value_stay_two_lines():
    assert len(lines(epochs="x", rate="x")) == 2


def test_long_values_are_cut():
    assert len(shown("x" * 500)) == 80
    assert shown([True, {"a": 1}, "b"]) == "[true, a table with a, 'b']"


def test_a_recipe_and_its_components_are_told_together():
    with pytest.raises(RecipeError) as caught:
        load_recipe(SerRecipe, "attentive_cnn", ["training.epoch=3", "model.drop=1", "protocol.ngroups=3"])
    assert sorted(caught.value.problems) == [
        "model.drop: unknown key; did you mean 'dropout'?",
        "protocol.ngroups: unknown key; did you mean 'n_groups'?",
        "training.epoch: unknown key; did you mean 'epochs'?",
    ]


def test_components_of_lists_and_conditions_and_missing_ones_are_among_them(monkeypatch):
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    text = '[{name = "x", set = {model = {drpout = 0.5}}}, {name = "y", set = {model = {name = "mlp", dropuot = 1}}}]'
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            SerRecipe,
            "attentive_cnn",
            ["seeds=3", "objectives.0.alpha=-1", "frontend.name=log_mell", f"conditions={text}"],
        )
    problems = caught.value.problems
    assert problems[0] == "seeds: got 3; a list was expected, for example [3]"
    assert any(line.startswith("no component named 'log_mell' in repkit.frontends; did you mean") for line in problems)
    assert "objectives.0.alpha: got -1; at least 0 was expected" in problems
    assert "conditions.x.set.model.drpout: unknown key; did you mean 'dropout'?" in problems
    assert "conditions.y.set.model.dropuot: unknown key" in problems  # asked of mlp, which has no dropout
    assert len(problems) == 5


def test_a_table_that_the_schema_refuses_is_not_asked_for_its_component():
    with pytest.raises(RecipeError) as caught:
        load_recipe(SerRecipe, "attentive_cnn", ["model=3", "objectives=4"])
    assert caught.value.problems == (
        "model: got 3; a table was expected",
        "objectives: got 4; a list was expected, for example [4]",
    )


def test_a_key_of_another_table_is_not_suggested_for_itself():
    with pytest.raises(RecipeError) as caught:
        load_recipe(SerRecipe, "demo", ['phases=[{name="one", epochs=2}]', "epochs=3"])
    assert caught.value.problems == (
        "phases.0.epochs: unknown key of this table; write 'epochs' in the table it belongs to, training settings of a phase as "
        "phases.0.training.epochs",
        "epochs: unknown key of this table; write 'epochs' in the table it belongs to",
    )
