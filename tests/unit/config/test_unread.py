"""Settings of [training] that a model fitted in one go never reads: refused where they were typed, kept where inherited."""

import pytest

from repkit.config import Condition, SerRecipe, load_recipe, refuse_unread
from repkit.errors import RecipeError
from repkit.workflows.probe import with_heads

STORE = Condition(name="f", embeddings="out/functionals")


def resolved(recipe, *assignments):
    """As train-ser does: the recipe, the embeddings, then what was typed."""
    found = load_recipe(SerRecipe, recipe, assignments).with_embeddings([STORE])
    refuse_unread(found, assignments)
    return found


def test_epochs_of_a_support_vector_machine_are_refused():
    with pytest.raises(RecipeError, match="recipe probe: settings that would change nothing") as caught:
        resolved("probe", "training.epochs=3", "training.learning_rate=0.5", "training.select_by=nested")
    assert caught.value.problems == tuple(
        f"training.{key} is not read by model 'svm', which is fitted in one go, without epochs; of training only select_by "
        "was expected; leave it out, or choose another model"
        for key in ("epochs: 3", "learning_rate: 0.5")
    )
    with pytest.raises(RecipeError, match="settings that would change nothing"):
        resolved("probe", "training={epochs=3, select_by='nested'}")
    assert resolved("probe", "training.select_by=nested", "vector.by=per_speaker", "model.c=[1.0]")


@pytest.mark.parametrize("head", ["linear_svm", "rbf_svm", "logistic_regression", "mlp"])
def test_every_head_of_the_probe_is_such_a_model(head):
    recipe = with_heads(load_recipe(SerRecipe, "probe", ["training.epochs=3"]), [STORE], [head])
    with pytest.raises(RecipeError, match="settings that would change nothing"):
        refuse_unread(recipe, ["training.epochs=3"])


def test_what_some_condition_reads_is_kept(tmp_path):
    path = tmp_path / "mine.toml"
    svm = '[[conditions]]\nname = "svm"\nset = {model = {name = "svm"}}\n'
    path.write_text(f'extends = "attentive_cnn"\nname = "mine"\n{svm}')
    assert resolved(str(path), "training.epochs=3").training.epochs == 3  # of the baseline, a network
    assert resolved("attentive_cnn", "training.epochs=3").training.epochs == 3
    path.write_text(f'extends = "attentive_cnn"\nname = "mine"\nbaseline = false\n{svm}')
    with pytest.raises(RecipeError, match="settings that would change nothing"):
        resolved(str(path), "training.epochs=3")


def test_what_a_recipe_inherits_is_kept_and_what_a_condition_says_is_not(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'extends = "attentive_cnn"\nname = "mine"\nbaseline = false\n[training]\nepochs = 7\n[model]\nname = "svm"\n'
    path.write_text(text)
    assert resolved(str(path)).training.epochs == 7
    table = '[[conditions]]\nname = "one"\nset = {model = {name = "svm"}, training = {select_by = "nested"%s}}\n'
    path.write_text('extends = "attentive_cnn"\nname = "mine"\n' + table % "")
    load_recipe(SerRecipe, str(path))
    path.write_text('extends = "attentive_cnn"\nname = "mine"\n' + table % ", batch_size = 8")
    with pytest.raises(RecipeError, match="settings that would change nothing") as caught:
        load_recipe(SerRecipe, str(path))
    assert caught.value.problems[0].startswith("conditions.one.set.training.batch_size: 8 is not read by model 'svm'")


def test_a_model_that_is_not_there_is_told_elsewhere():
    refuse_unread(load_recipe(SerRecipe, "probe", ["model.name=nope", "training.epochs=3"]), ["training.epochs=3"])
