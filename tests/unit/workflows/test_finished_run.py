"""A finished run that is asked for again: nothing is trained, its page follows the recipe."""

import json

import pytest

import repkit.workflows.train_ser.run as module
from repkit.config import SerRecipe
from repkit.errors import UsageError
from repkit.runs.directory import RunDirectory, locked, read_json

RECIPE = SerRecipe(name="x", conditions=[{"name": "C", "embeddings": "here"}])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run and the runs that were rendered."""
    drawn = []
    monkeypatch.setattr(module, "render", drawn.append)
    (tmp_path / "resolved.json").write_text(json.dumps(RECIPE.model_dump(mode="json", by_alias=True)))
    return RunDirectory(tmp_path), drawn


def test_its_page_is_left_where_only_places_have_changed(run):
    directory, drawn = run
    moved = RECIPE.with_embeddings([RECIPE.conditions[0].model_copy(update={"embeddings": "there"})])
    moved = moved.model_copy(update={"description": "other"})
    assert module._asked_again(directory, moved, "text") == directory.path
    assert drawn == []
    assert not (directory.path / "recipe.toml").exists()


def test_its_page_is_written_anew_for_another_reference(run):
    directory, drawn = run
    other = RECIPE.model_copy(update={"reference": "C"})
    assert module._asked_again(directory, other, "text") == directory.path
    assert drawn == [directory.path]
    told = read_json(directory.path / "resolved.json")
    assert (told["reference"], told["conditions"][0]["embeddings"]) == ("C", "here")
    assert (directory.path / "recipe.toml").read_text() == "text"
    module._asked_again(directory, other, "text")
    assert len(drawn) == 1
    with locked(directory.path), pytest.raises(UsageError, match="another process is at work here"):
        module._asked_again(directory, RECIPE, "text")
