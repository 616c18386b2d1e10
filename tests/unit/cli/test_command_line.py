"""The command line itself: start-up, help, lists, completion, a broken plugin."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from repkit.cli import COMMANDS, app
from repkit.errors import UsageError
from repkit.plugins import discover

HEAVY = (
    "torch",
    "torchaudio",
    "transformers",
    "datasets",
    "librosa",
    "sklearn",
    "scipy",
    "pandas",
    "numpy",
    "h5py",
    "matplotlib",
)


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [(["--help"], ()), (["--version"], ()), (["plugins", "list"], ("numpy",)), (["recipes", "list"], ("numpy",))],
)
def test_light_commands_import_nothing_heavy(arguments, allowed):
    code = f"""
import sys, json
sys.argv = ["repkit", *{arguments!r}]
from repkit.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) <= set(allowed)


def test_a_folder_of_train_ser_is_asked_for_by_its_right_name():
    result = run("train-ser", "--recipe", "demo", "--corpus", "synthetic_a", "--out", "here")
    assert isinstance(result.exception, UsageError)
    assert "write --runs here" in result.exception.message
    assert "--out" not in run("train-ser", "--help").output


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_is_listed_and_has_help(command):
    listed = run("--help").output
    assert command in listed
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_unknown_commands_and_options_are_usage_errors():
    assert run("trian-ser").exit_code == 2
    assert run("train-ser", "--recip", "x").exit_code == 2
    assert run("train-ser").exit_code == 2


def test_lists_name_what_is_there():
    corpora = run("corpora", "list").output
    for name in ("emodb", "iemocap", "librispeech", "tedlium", "synthetic_a"):
        assert name in corpora
    recipes = run("recipes", "list").output
    assert "neumann2019" in recipes
    plugins = run("plugins", "list").output
    assert "attentive_cnn" in plugins
    assert "repkit.stage_two.attentive_cnn:AttentiveCnn" in plugins  # never cut to the width of a terminal


def test_recipes_can_be_shown_and_checked(repo_root):
    assert run("recipes", "show", "demo").output == (repo_root / "recipes/demo.toml").read_text()
    for path in (repo_root / "recipes").glob("*.toml"):
        result = run("recipes", "check", path.stem)
        assert result.exit_code == 0, (path.stem, result.output, result.exception)
        assert "ok" in result.output


def test_a_corpus_is_shown_without_decoding():
    output = run("corpora", "show", "synthetic_a", "--n", "3").output
    assert output.count("synthetic_a/") >= 3
    assert "192 utterances, 8 speakers" in output


def test_a_broken_plugin_breaks_nothing_but_itself(monkeypatch):
    real = discover.entry_points
    broken = EntryPoint("broken", "no_such_module_anywhere:Thing", "repkit.models")
    monkeypatch.setattr(
        discover, "entry_points", lambda group: [*real(group=group), *([broken] if group == broken.group else [])]
    )
    assert run("--help").exit_code == 0
    assert "no_such_module_anywhere" in run("plugins", "list").output
    assert run("recipes", "check", "neumann2019").exit_code == 0


def test_the_shell_completes_commands():
    import os

    environment = {**os.environ, "_REPKIT_COMPLETE": "complete_bash", "COMP_WORDS": "repkit ", "COMP_CWORD": "1"}
    script = "import sys; sys.argv = ['repkit']; from repkit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert set(COMMANDS) <= set(done.stdout.split())
