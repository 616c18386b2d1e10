"""Every setting of a recipe with its origin, and that what is printed is the same recipe."""

import tomllib

import pytest

from repkit.config import load_recipe
from repkit.errors import RecipeError
from repkit.workflows.recipes import kind_of, resolved_settings, resolved_toml, toml_value

SHIPPED = ("attentive_cnn", "neumann2019_paper", "probe", "cpc_prosody_functionals", "autoencoder_paper", "scale_plan")


def origins(name, *assignments):
    return {".".join(map(str, one.key)): (one.value, one.origin) for one in resolved_settings(name, assignments)}


def test_each_setting_tells_where_it_comes_from():
    found = origins("attentive_cnn", "training.epochs=3", "objectives.0.alpha=0.5")
    assert found["labels.map"] == ("own", "attentive_cnn")
    assert found["model.name"] == ("attentive_cnn", "neumann2019")
    assert found["model.n_filters"] == (200, "default of attentive_cnn")
    assert found["training.epochs"] == (3, "--set")
    assert found["training.momentum"] == (0.0, "default")
    assert found["objectives.0.alpha"] == (0.5, "--set")
    assert found["objectives.0.beta"] == (0.2, "neumann2019")
    assert found["objectives.0.weight"] == (1.0, "default")
    assert found["training.patience"] == (None, "default")


def test_another_component_brings_its_own_defaults_and_no_setting_of_the_former():
    found = origins("attentive_cnn", "protocol.name=leave_one_speaker_out")
    assert found["protocol.name"] == ("leave_one_speaker_out", "--set")
    assert "protocol.n_groups" not in found
    assert found["protocol.dev"] == ("speakers", "default of leave_one_speaker_out")


def test_several_levels_are_told_apart(tmp_path):
    (tmp_path / "one.toml").write_text('extends = "attentive_cnn"\nname = "one"\n[training]\nepochs = 7\n')
    path = tmp_path / "two.toml"
    path.write_text('extends = "one"\nname = "two"\n[vector]\nby = "per_speaker"\n')
    found = origins(str(path))
    assert [found[key][1] for key in ("name", "vector.by", "training.epochs", "labels.map", "training.batch_size")] == [
        "two", "two", "one", "attentive_cnn", "neumann2019",
    ]  # fmt: skip
    first = resolved_toml(str(path)).splitlines()[0]
    assert "two, which extends one, which extends attentive_cnn, which extends neumann2019" in first


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_printed_is_the_same_recipe(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    path.write_text(resolved_toml(name), encoding="utf-8")
    assert "extends" not in tomllib.loads(path.read_text())
    was = {key: value for key, (value, _) in origins(name).items()}
    assert was == {key: value for key, (value, _) in origins(str(path)).items()}
    # and nothing in it is left to a default, but what is not set
    assert {origin for value, origin in origins(str(path)).values() if value is not None} == {name}
    kind = kind_of(name)
    one, two = (load_recipe(kind, given).model_dump(exclude={"training", "objectives"}) for given in (name, str(path)))
    for table in ("model", "protocol", "frontend"):
        for recipe in (one, two):
            recipe.pop(table, None)  # the component's own defaults are written out in the second
    assert one == two


def test_conditions_have_all_settings_of_their_models(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "attentive_cnn"\nname = "mine"\n[[conditions]]\nname = "small"\n[conditions.set.model]\n'
        'n_filters = 20\n[[conditions.set.objectives]]\nname = "multi_view"\nalpha = 0.0\n'
    )
    found = origins(str(path))
    assert found["conditions.0.set.model.n_filters"] == (20, "mine")
    assert found["conditions.0.set.model.pool_size"] == (30, "default of attentive_cnn")
    again = tmp_path / "again.toml"
    again.write_text(resolved_toml(str(path)))
    (condition,) = load_recipe(kind_of(str(again)), str(again)).conditions
    assert condition.set["objectives"] == [{"name": "multi_view", "alpha": 0.0}]
    assert condition.set["model"]["dropout"] == 0.8


def test_a_wrong_recipe_is_refused_as_by_check(tmp_path):
    with pytest.raises(RecipeError) as caught:
        resolved_settings("attentive_cnn", ["model.n_filter=3"])
    assert any("did you mean 'n_filters'" in line for line in caught.value.problems)
    path = tmp_path / "odd.toml"
    path.write_text('command = "sing"\nname = "odd"\n')
    with pytest.raises(RecipeError, match="'sing'; one of train-ser, pretrain-ae, scale was expected"):
        kind_of(str(path))


@pytest.mark.parametrize(
    "value", [True, 3, 1e-8, 2.0, 'quo"te \\ back', "Grüße", [1, 2.5], [], {}, {"a b": [{"c": "d"}]}, [["x"], ["y"]]]
)
def test_values_come_back_from_toml(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value
