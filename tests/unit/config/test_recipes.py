"""Recipes: strict, all problems at once, extends, --set."""

import re

import pytest

from repkit.config import PretrainRecipe, SerRecipe, find_recipe, list_recipes, load_recipe
from repkit.config.load import assign, parse_assignment, read_layers, read_tables
from repkit.config.schema import Condition, merge_tables
from repkit.errors import RecipeError, UsageError
from repkit.workflows.scale.recipe import ScaleRecipe


def write(folder, text, name="mine"):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def test_every_shipped_recipe_loads_and_its_first_line_is_its_command(repo_root):
    kinds = {"train-ser": SerRecipe, "pretrain-ae": PretrainRecipe, "scale": ScaleRecipe}
    paths = sorted((repo_root / "recipes").glob("*.toml"))
    assert len(paths) >= 8
    for path in paths:
        command = read_tables(str(path))["command"]
        resolved = load_recipe(kinds[command], str(path))
        assert resolved.name == path.stem
        assert path.read_text().startswith(f"# repkit {command} --recipe {path.stem}")


def test_all_problems_are_told_at_once_with_suggestions(tmp_path):
    path = write(tmp_path, 'name = "x"\nseds = [1]\nseeds = [1, "two"]\n[training]\nepochs = 0\nlearning_rte = 1\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(SerRecipe, path)
    problems = "\n".join(caught.value.problems)
    assert "seds: unknown key; did you mean 'seeds'?" in problems
    assert "seeds.1: got 'two'" in problems
    assert "training.epochs: got 0" in problems
    assert "training.learning_rte: unknown key; did you mean 'learning_rate'?" in problems
    assert caught.value.exit_code == 2


def test_set_takes_typed_values_and_words():
    assert parse_assignment("training.learning_rate=1e-4") == (["training", "learning_rate"], 1e-4)
    assert parse_assignment("seeds=[1, 2]") == (["seeds"], [1, 2])
    assert parse_assignment("labels.map=own") == (["labels", "map"], "own")
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        parse_assignment("training.epochs")


def test_set_reaches_into_lists_and_refuses_values():
    tables = {"objectives": [{"name": "multi_view", "alpha": 0.2}], "name": "x"}
    assign(tables, ["objectives", "0", "alpha"], 0.3)
    assert tables["objectives"][0]["alpha"] == 0.3
    with pytest.raises(UsageError, match="is no index of a list of 1"):
        assign(tables, ["objectives", "1", "alpha"], 0.3)
    with pytest.raises(UsageError, match="name is a value, not a table"):
        assign(tables, ["name", "first"], 1)
    with pytest.raises(UsageError, match="^--corpus-set name.first"):
        assign(tables, ["name", "first"], 1, "--corpus-set")


def test_extends_lays_over_and_another_component_replaces_the_whole_table():
    base = {"protocol": {"name": "a", "k": 3}, "training": {"epochs": 5, "batch_size": 2}}
    over = {"protocol": {"name": "b"}, "training": {"epochs": 9}}
    assert merge_tables(base, over) == {"protocol": {"name": "b"}, "training": {"epochs": 9, "batch_size": 2}}
    assert merge_tables(base, {"protocol": {"name": "a", "m": 1}})["protocol"] == {"name": "a", "k": 3, "m": 1}


def test_extends_goes_over_several_levels(tmp_path):
    write(tmp_path, 'extends = "neumann2019"\nname = "one"\n[training]\nepochs = 7\nbatch_size = 3\n', "one")
    write(
        tmp_path,
        'extends = "one"\nname = "two"\n[training]\nepochs = 8\n[protocol]\nname = "fixed"\ntest = ["a"]\n',
        "two",
    )
    path = write(tmp_path, 'extends = "two"\nname = "three"\n[training]\nlearning_rate = 0.5\n', "three")
    recipe = load_recipe(SerRecipe, path)
    training = recipe.training
    assert (recipe.name, training.epochs, training.batch_size, training.learning_rate) == ("three", 8, 3, 0.5)
    assert recipe.labels.map == "neumann2019"  # of the farthest one
    assert recipe.protocol.settings == {"test": ["a"]}  # nothing is left of the other protocol's settings
    assert [layer.stem for layer, _ in read_layers(path)] == ["neumann2019", "one", "two", "three"]


def test_recipes_that_extend_each_other_in_a_circle_are_refused(tmp_path):
    write(tmp_path, 'extends = "two"\nname = "one"\n', "one")
    path = write(tmp_path, 'extends = "one"\nname = "two"\n', "two")
    with pytest.raises(RecipeError, match=r"in a circle: \S+two.toml -> \S+one.toml -> \S+two.toml"):
        load_recipe(SerRecipe, path)


def test_a_copy_may_extend_the_recipe_it_is_named_after(tmp_path):
    path = write(tmp_path, 'extends = "attentive_cnn"\nname = "mine"\nseeds = [4]\n', "attentive_cnn")
    recipe = load_recipe(SerRecipe, path)
    assert (recipe.name, recipe.seeds, recipe.labels.map) == ("mine", (4,), "own")


@pytest.mark.parametrize(
    ("extends", "said"),
    [
        ("3", "extends = 3; the name of one recipe was expected"),
        ('"neuman2019"', r"mine.toml: extends 'neuman2019': .*did you mean 'neumann2019'"),
    ],
)
def test_what_cannot_be_extended_is_told_with_the_file(tmp_path, extends, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe(SerRecipe, write(tmp_path, f'extends = {extends}\nname = "x"\n'))


def test_a_recipe_of_another_command_is_refused():
    with pytest.raises(RecipeError, match="is for `repkit pretrain-ae`, not for `repkit train-ser`"):
        load_recipe(SerRecipe, "autoencoder")


def test_unknown_recipes_are_explained(monkeypatch):
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    with pytest.raises(RecipeError, match=r"did you mean 'neumann2019'\?"):
        find_recipe("neuman2019")
    with pytest.raises(RecipeError, match="it comes with repkit-dann"):
        find_recipe("dann")
    with pytest.raises(RecipeError, match="no such file"):
        find_recipe("not_there.toml")
    assert "neumann2019" in list_recipes()


def test_broken_toml_names_line_and_column(tmp_path):
    with pytest.raises(RecipeError, match="line 1, column"):
        load_recipe(SerRecipe, write(tmp_path, "name = = 3"))


def test_condition_rules(tmp_path):
    path = write(tmp_path, 'name = "x"\n[[conditions]]\nname = "BL"\nembeddings = "e"\n')
    with pytest.raises(RecipeError, match="not valid") as caught:
        load_recipe(SerRecipe, path)
    assert "BL is the baseline's" in caught.value.problems[0]


def test_a_setting_of_a_component_that_the_recipe_leaves_at_its_default_can_be_changed(tmp_path):
    path = write(tmp_path, 'name = "x"\n')
    recipe = load_recipe(SerRecipe, path, ["frontend.n_mels=30", "objectives.0.alpha=0.1", "model.dropout=0.5"])
    assert (recipe.frontend.name, recipe.frontend.settings) == ("log_mel", {"n_mels": 30})
    assert [(one.name, one.settings) for one in recipe.objectives] == [("multi_view", {"alpha": 0.1})]
    assert (recipe.model.name, recipe.model.settings) == ("attentive_cnn", {"dropout": 0.5})
    other = load_recipe(SerRecipe, path, ["frontend.bands=9", "frontend.name=spectrogram"])
    assert (other.frontend.name, other.frontend.settings) == ("spectrogram", {"bands": 9})
    held_out = load_recipe(SerRecipe, path, (), {"protocol": {"hold_out": ["a"]}})
    assert (held_out.protocol.name, held_out.protocol.settings) == ("leave_one_speaker_group_out", {"hold_out": ["a"]})


def test_embeddings_given_replace_those_of_the_recipe():
    own = [{"name": "own", "embeddings": "OLD"}, {"name": "sys", "set": {"target_audio": "test"}}]
    new = [Condition(name="new", embeddings="NEW")]
    found = SerRecipe(name="x", conditions=own).with_embeddings(new).conditions
    assert [(c.name, c.embeddings, c.set) for c in found] == [
        ("sys", None, {"target_audio": "test"}), ("sys.new", "NEW", {"target_audio": "test"}),
    ]  # fmt: skip
    assert [c.name for c in SerRecipe(name="x", conditions=own[:1]).with_embeddings(new).conditions] == ["new"]


SGD, TIMED = 'optimiser = "sgd"\n', 'schedule = "time_decay"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[training]\nmomentum = 0.9\n", "training.momentum: 0.9 is not read without optimiser = 'sgd'"),
        (f"[training]\n{SGD}adam_epsilon = 1e-7\n", "training.adam_epsilon: 1e-07 is not read without optimiser = 'adam'"),
        ("[training]\ndecay = 0.1\n", "training.decay: 0.1 is not read without schedule = 'time_decay'"),
        ("[training]\nmin_gain = 0.1\n", "training.min_gain: 0.1 is not read without patience; .* or min_gain = 0"),
        ("[training]\ncrop_s = 2\n[segments]\nlength_s = 0.5\n", r"crop_s: 2 beside \[segments\].* 0.5 s long"),
        ('[[phases]]\nname = "a"\ntraining = {crop_s = 2}\n[segments]\nlength_s = 0.5\n', r"crop_s: 2 beside \[seg"),
        ("[training]\nlength_step_frames = 64\n", "training.length_step_frames: 64 is not read without sampler = 'length_sorted'"),
        (f'[training]\n{SGD}[[phases]]\nname = "a"\ntraining = {{optimiser = "adam", momentum = 0.5}}\n',
         r"phases.a.training.momentum: 0.5"),
        ('[[conditions]]\nname = "c"\nset.training = {momentum = 0.5}\n', r"conditions.c.set.training.momentum: 0.5"),
        # of use to a phase or a condition, or read
        (f"[training]\n{SGD}momentum = 0.9\n{TIMED}decay = 0.1\npatience = 3\nmin_gain = 0.1\ncrop_s = 2\n", None),
        ('[training]\nmomentum = 0.9\n[[phases]]\nname = "a"\ntraining = {optimiser = "sgd"}\n', None),
        ('[training]\nmomentum = 0.9\n[[conditions]]\nname = "c"\nset.training = {optimiser = "sgd"}\n', None),
    ],
)  # fmt: skip
def test_settings_that_would_change_nothing_are_refused(tmp_path, text, said):
    path = write(tmp_path, f'name = "x"\n{text}')
    if said is None:
        assert load_recipe(SerRecipe, path).name == "x"
        return
    with pytest.raises(RecipeError, match="settings that would change nothing") as caught:
        load_recipe(SerRecipe, path)
    (line,) = caught.value.problems
    assert re.search(said, line)


def test_utterances_are_not_cut_below_what_can_be_used():
    assert load_recipe(SerRecipe, "attentive_cnn", ["max_duration_s=0.1"]).max_duration_s == 0.1
    with pytest.raises(RecipeError) as caught:
        load_recipe(SerRecipe, "attentive_cnn", ["max_duration_s=0.05"])
    assert caught.value.problems == ("max_duration_s: got 0.05; at least 0.1 was expected",)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("hours=[]", "hours: got []; at least one, each once and none below zero, was expected"),
        ("hours=[0]", "hours: got [0]; hours above zero were expected"),
    ],
)
def test_a_wrong_list_of_hours_is_shown_once(setting, said):
    with pytest.raises(RecipeError) as caught:
        load_recipe(ScaleRecipe, "scale_plan", [setting])
    assert caught.value.problems == (said,)
