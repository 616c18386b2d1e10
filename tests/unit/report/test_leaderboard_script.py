"""docs/results/leaderboard.py says what has no row, and what its rows were given other than their recipes."""

import importlib.util
import json
import re
import sys

import pytest

from repkit.config import SerRecipe, load_recipe
from repkit.config.load import read_tables
from repkit.config.locate import list_recipes


@pytest.fixture
def script(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root / "docs/results"))
    monkeypatch.delitem(sys.modules, "common", raising=False)
    spec = importlib.util.spec_from_file_location("results_leaderboard", repo_root / "docs/results/leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    monkeypatch.delitem(sys.modules, "common")


def run_of(folder, name, change):
    """Write what a run of an installed recipe keeps of its settings."""
    resolved = load_recipe(SerRecipe, name).model_dump(mode="json")
    change(resolved)
    folder.mkdir(parents=True)
    (folder / "resolved.json").write_text(json.dumps(resolved))
    (folder / "status.json").write_text(json.dumps({"seconds": 120.0}))
    return folder


def fewer_epochs(resolved):
    resolved["training"]["epochs"] = 20
    del resolved["training"]["patience"]  # as if the run were older than the setting


def test_what_a_network_was_given_other_than_its_recipe_is_said_once(script, tmp_path):
    runs = [run_of(tmp_path / "attentive_cnn" / name, "attentive_cnn", fewer_epochs) for name in ("a", "b")]
    assert script.cuts(runs) == ["- **attentive_cnn**: `training.epochs = 20`, not 100."]
    assert script.cuts([run_of(tmp_path / "same", "attentive_cnn", dict)]) == ["- **attentive_cnn**: nothing."]


def inductive(resolved):
    resolved["training"] |= {"epochs": 15, "class_weights": "balanced"}
    resolved["normalisation"]["mode"] = "global_train"


def test_a_row_that_is_inductive_by_its_settings_alone_says_so(script, tmp_path):
    pytest.importorskip("repkit_baselines")
    (line,) = script.cuts([run_of(tmp_path / "run", "keesing2020_a1", inductive)])
    assert "`training.epochs = 15`, not 50" in line
    assert "`training.class_weights = balanced`, not balanced_all" in line
    assert line.endswith("; as its recipe says it would be transductive.")


def test_every_installed_system_has_a_row_or_is_listed(script, tmp_path):
    runs = [run_of(tmp_path / "attentive_cnn" / "a", "attentive_cnn", dict)]
    text = "\n".join(script.not_run(["train-ser --recipe probe"], runs))
    systems = [
        n for n in list_recipes() if read_tables(n).get("command") == "train-ser" and n not in ("demo", "template")
    ]
    assert [name for name in systems if f"\n| `{name}` |" not in text] == ["attentive_cnn"]
    assert "\n| `probe` | `svm` | repkit | leave_one_speaker_group_out | - | 1 |" in text, "an SVM has no epochs"
    assert "| `neumann2019` | `attentive_cnn` | repkit | leave_one_speaker_group_out | 100 | 3 |" in text
    assert "`mlp`" in text
    assert "`cpc`" in text
    assert "`masked_spans`" not in text, "it has rows"
    assert "the longest run above, attentive_cnn as it stands there, took 2 min" in text
    assert "repkit train-ser --recipe probe\n" in text


def test_the_page_lists_all_that_the_house_has_and_it_does_not_rank(script, repo_root):
    for plugin in ("adapters", "baselines", "cross_corpus", "dann"):
        pytest.importorskip(f"repkit_{plugin}")
    page = (repo_root / "docs/results/leaderboard.md").read_text(encoding="utf-8")
    ranked = set(re.findall(r"^\| \d+(?: ≈)? \| (\w+): \w+ \((\w+)", page, flags=re.MULTILINE))
    assert ("keesing2020_a1", "aldeneh_cnn") in ranked
    origins = list_recipes()
    of = {
        name: load_recipe(SerRecipe, name)
        for name in origins
        if name not in script.NO_SYSTEMS and read_tables(name).get("command") == "train-ser"
    }
    listed = script.unrun_table(of, origins, ranked).splitlines()[2:]
    assert len(listed) > 5
    for row in listed:
        recipe_and_models = "|".join(row.split("|")[:3])
        assert f"\n{recipe_and_models}|" in page, (
            "an installed system is neither ranked nor listed: make the page again"
        )
    networks = [
        name
        for name, recipe in of.items()
        if any(name == one for one, _ in ranked) and recipe.training.select_by != "nested"
    ]
    assert all(f"- **{name}**: `" in page for name in networks)
