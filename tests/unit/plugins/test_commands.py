"""`repkit plugins list | show | check | doctor`: what they print, their exit codes, and that nobody else is harmed."""

import sys

import pytest

import repkit.cli
from repkit.config import find_recipe
from repkit.errors import PluginError
from repkit.plugins import doctor

MODEL = """
import torch
from repkit import api

class Config(api.Config):
    hidden: int = 4

class Mean(torch.nn.Module):
    '''The mean frame, and a line.

    More of it.
    '''

    Config = Config

    def __init__(self, config, task):
        super().__init__()
        self.line = torch.nn.Linear(task.n_bands, config.hidden)
        self.heads = torch.nn.ModuleDict({v: torch.nn.Linear(config.hidden, len(c)) for v, c in task.views.items()})

    def forward(self, batch):
        shared = torch.tanh(self.line((batch.frames * batch.mask[..., None]).sum(1) / batch.lengths[:, None]))
        return api.Outputs({v: self.shape(head(shared)) for v, head in self.heads.items()}, shared)

    def shape(self, logits):
        return logits

    def parameter_groups(self):
        return {"shared": list(self.line.parameters()), "head": list(self.heads.parameters())}

class Crooked(Mean):
    def shape(self, logits):
        return logits[:, 1:]
"""

OBJECTIVE = """
import torch
from repkit import api

class Infinite(torch.nn.Module):
    class Config(api.Config):
        pass

    def __init__(self, config, task):
        super().__init__()

    def forward(self, outputs, batch, progress):
        return {view: logits.sum() / 0 for view, logits in outputs.logits.items()}
"""


@pytest.fixture
def repkit_main(monkeypatch, capsys):
    """Run the real entry point; returns exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["repkit", *map(str, arguments)])
        code = 0
        try:
            repkit.cli.main()
        except SystemExit as end:
            code = end.code or 0
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


@pytest.fixture
def quick_doctor(monkeypatch):
    """Leave out repkit's own components and those of this project's plugins, whose imports take seconds."""
    found = doctor.components
    monkeypatch.setattr(
        doctor, "components", lambda group=None: [c for c in found(group) if "stranger" in c.distribution]
    )


def rows(out):
    return {line.split()[0]: line for line in out.splitlines()}


def test_a_list_imports_nothing_and_marks_what_is_claimed_twice(repkit_main, distribution):
    module = distribution(
        "stranger", {"repkit.models": {"mean": "{module}:Mean", "attentive_cnn": "{module}:Mean"}}, MODEL
    )
    code, out, _ = repkit_main("plugins", "list")
    assert code == 0
    assert module not in sys.modules
    lines = [line.split() for line in out.splitlines()]
    assert ["repkit.models", "mean", "stranger", "1.2", f"{module}:Mean"] in lines
    assert ["repkit.models", "attentive_cnn", "(!)", "stranger", "1.2", f"{module}:Mean"] in lines
    assert [line[3] for line in lines if line[1:3] == ["attentive_cnn", "(!)"]] == ["repkit", "stranger"]
    assert out.rstrip().endswith("(!) claimed by several distributions: recipes must say DISTRIBUTION:NAME")
    assert "(!) mean" not in out
    assert "mean (!)" not in out


def test_a_list_without_double_names_has_no_marks(repkit_main, distribution):
    distribution("stranger", {"repkit.models": {"mean": "{module}:Mean"}}, MODEL)
    assert "(!)" not in repkit_main("plugins", "list")[1]


def test_a_component_is_shown(repkit_main, distribution):
    module = distribution("stranger", {"repkit.models": {"mean": "{module}:Mean"}}, MODEL)
    code, out, _ = repkit_main("plugins", "show", "mean")
    assert code == 0
    assert "from        stranger 1.2" in out
    assert f"points to   {module}:Mean" in out
    assert "what it is  The mean frame, and a line." in out
    assert "API         not stated, this repkit offers 1." in out
    assert "declares" not in out
    assert [line.split() for line in out.splitlines()[-2:]] == [
        ["setting", "type", "default", "meaning"],
        ["hidden", "int", "4"],
    ]
    code, out, _ = repkit_main("plugins", "show", "speaker_k_fold", "--group", "protocols")
    assert code == 0
    assert "n_dev_speakers" in out
    assert "number of folds." in out


def test_every_owner_of_a_name_is_shown_unless_one_is_chosen(repkit_main, distribution):
    distribution("stranger", {"repkit.models": {"attentive_cnn": "{module}:Mean"}}, MODEL)
    assert repkit_main("plugins", "show", "attentive_cnn")[1].count("what it is") == 2
    out = repkit_main("plugins", "show", "stranger:attentive_cnn")[1]
    assert out.count("what it is") == 1
    assert "The mean frame" in out


def test_a_recipe_is_shown(repkit_main, distribution, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('# repkit train-ser --recipe mine --corpus a=B\nname = "mine"\ndescription = "a test"\n')
    distribution(
        "stranger",
        {"repkit.recipes": {"mine": "{module}:PATH"}},
        f"from pathlib import Path\nPATH = Path({str(path)!r})",
    )
    code, out, _ = repkit_main("plugins", "show", "mine")
    assert code == 0
    assert f"file        {path}" in out
    assert "what it is  a test" in out
    assert "runs as     repkit train-ser --recipe mine --corpus a=B" in out


def test_unknown_names_and_groups(repkit_main, monkeypatch):
    code, _, err = repkit_main("plugins", "show", "attentive_cn")
    assert code == 3
    assert "no component named 'attentive_cn' in any group; did you mean 'attentive_cnn'?" in err
    code, _, err = repkit_main("plugins", "show", "log_mel", "--group", "frontend")
    assert code == 2
    assert "--group frontend: no such group; did you mean 'repkit.frontends'?" in err
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    code, _, err = repkit_main("plugins", "check", "aldeneh_cnn")
    assert code == 3
    assert "it comes with repkit-baselines (in a clone of repkit: pip install ./plugins/repkit-baselines)" in err


def test_a_component_that_keeps_the_rules_is_told_so(repkit_main, distribution):
    distribution("stranger", {"repkit.models": {"mean": "{module}:Mean"}}, MODEL)
    code, out, err = repkit_main("plugins", "check", "mean", "--set", "hidden=3")
    assert (code, err) == (0, "")
    assert rows(out)["logits_of_every_view"].split() == ["logits_of_every_view", "passed"]
    assert "not applicable  the component does not declare 'per_corpus'" in rows(out)["corpora_are_read"]
    assert "failed" not in out


def test_wrong_shapes_are_found_and_blamed(repkit_main, distribution):
    distribution("stranger", {"repkit.models": {"crooked": "{module}:Crooked"}}, MODEL)
    code, out, err = repkit_main("plugins", "check", "crooked")
    assert code == 3
    assert "logits['emotion'] has the shape (6, 3), (6, 4) was expected" in rows(out)["logits_of_every_view"]
    assert err.startswith("error: plugin stranger 1.2 (repkit.models: crooked): ")
    assert "  - logits_of_every_view: " in err
    assert "Prevents: a run that fails when its first predictions are written" in err


def test_losses_that_are_not_finite_are_found_and_blamed(repkit_main, distribution):
    distribution("stranger", {"repkit.objectives": {"infinite": "{module}:Infinite"}}, OBJECTIVE)
    code, out, err = repkit_main("plugins", "check", "infinite")
    assert code == 3
    assert "emotion is " in rows(out)["losses_are_named_finite_scalars"]
    assert "plugin stranger 1.2 (repkit.objectives: infinite)" in err


def test_a_broken_import_is_told_by_check_and_show(repkit_main, distribution):
    distribution("stranger", {"repkit.models": {"gone": "no_such_module_anywhere:Thing"}})
    for command in ("check", "show"):
        code, _, err = repkit_main("plugins", command, "gone")
        assert code == 3
        assert "plugin stranger 1.2 (repkit.models: gone = no_such_module_anywhere:Thing) failed to import" in err


def test_a_version_that_is_no_pair_and_a_component_that_is_no_class_are_told_by_every_command(
    repkit_main, distribution, tmp_path
):
    code = MODEL + "\nMean.api_version = '1.0'\nNUMBER = 7\n"
    distribution("stranger", {"repkit.models": {"mean": "{module}:Mean", "number": "{module}:NUMBER"}}, code)
    train = ("train-ser", "--recipe", "demo", "--corpus", "synthetic_a", "--dry-run", "--set")
    for name, said in (
        ("mean", "(repkit.models: mean): api_version = '1.0'; write a pair of whole numbers such as (1, "),
        ("number", "(repkit.models: number): points to an int; a class was expected"),
    ):
        for command in (("plugins", "show", name), ("plugins", "check", name), (*train, f"model.name={name}")):
            code, out, err = repkit_main(*command)
            assert (code, out) == (3, ""), command
            assert f"plugin stranger 1.2 {said}" in err


def test_checks_that_fail_of_one_cause_are_told_together_and_last(repkit_main, distribution):
    code = MODEL.replace("shared = torch.tanh", "raise IndexError('nothing there')\n        shared = torch.tanh")
    module = distribution("stranger", {"repkit.models": {"mean": "{module}:Mean"}}, code)
    code, out, err = repkit_main("plugins", "check", "mean")
    assert code == 3
    results = [line for line in out.splitlines() if "  failed" in line]
    assert len(results) > 5
    assert out.splitlines()[-len(results) :] == results
    told = [line for line in err.splitlines() if "nothing there" in line]
    assert len(told) == 1
    assert told[0].startswith("  - logits_of_every_view (and ")
    assert f"Got: IndexError in {module}.py, line 2" in told[0]
    assert "To do: mend the component" in told[0]


def test_a_file_of_the_package_that_is_no_python_is_named(repkit_main, distribution, tmp_path):
    module = distribution("stranger", {"repkit.models": {"mean": "{module}.model:Mean"}})
    package = tmp_path / "site" / module
    (tmp_path / "site" / f"{module}.py").unlink()
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.py").write_text(MODEL)
    (package / "notes.py").write_text("import os\nthis is no python\n")
    code, out, _ = repkit_main("plugins", "check", "mean")
    assert code == 3
    assert "notes.py, line 2 cannot be read as Python: invalid syntax" in rows(out)["imports_only_the_contract"]


def test_a_broken_corpus_ends_with_code_3(repkit_main, distribution):
    code = """
from repkit import api

class Voices:
    class Config(api.Config):
        name: str = "kit"

    def __init__(self, config):
        self.name = config.name

    def utterances(self, *given, **named):
        raise FileNotFoundError("no table")

    read = stream = fingerprint = utterances
"""
    module = distribution("stranger", {"repkit.corpora": {"voices": "{module}:Voices"}}, code)
    code, _, err = repkit_main("corpora", "check", "mine=plugin:voices")
    assert code == 3
    assert f"plugin stranger 1.2 (repkit.corpora: voices): FileNotFoundError in {module}.py, line 12: no table" in err


def test_another_major_version_of_the_contract_is_refused(repkit_main, distribution):
    code = MODEL + "\nMean.api_version = (2, 0)\n"
    distribution("stranger", {"repkit.models": {"mean": "{module}:Mean"}}, code)
    code, _, err = repkit_main("plugins", "check", "mean")
    assert code == 3
    assert "plugin stranger 1.2 (repkit.models: mean): built for API 2.0; this repkit offers 1." in err


def test_a_name_in_two_places_has_to_be_chosen(repkit_main, distribution):
    points = {"repkit.models": {"attentive_cnn": "{module}:Mean"}, "repkit.objectives": {"log_mel": "{module}:Mean"}}
    distribution("stranger", points, MODEL)
    code, _, err = repkit_main("plugins", "check", "attentive_cnn")
    assert code == 2
    assert "repkit.models of repkit, repkit.models of stranger; choose by --group GROUP or as DISTRIBUTION:NAME" in err
    assert repkit_main("plugins", "check", "stranger:attentive_cnn")[0] == 0
    assert repkit_main("plugins", "check", "log_mel")[0] == 2
    assert repkit_main("plugins", "check", "log_mel", "--group", "repkit.frontends")[0] == 0


def test_recipes_that_repkit_ships_can_be_checked(repkit_main):
    code, out, _ = repkit_main("plugins", "check", "demo")
    assert code == 0
    assert "two_steps_can_be_trained" in out


def test_what_a_corpus_needs_is_given_by_settings(repkit_main, tmp_path):
    code, out, err = repkit_main("plugins", "check", "folder")
    assert code == 3
    assert "folder.path: missing" in out
    assert "plugin repkit 0.1.0 (repkit.corpora: folder): 1 of " in err
    code, _, err = repkit_main("plugins", "check", "synthetic", "--set", "n_speakers=1", "--set", "n_sentences=1")
    assert (code, err) == (0, "")


def test_a_broken_plugin_changes_nothing_for_any_other_command(repkit_main, distribution):
    wanted = repkit_main("recipes", "check", "demo")
    distribution("stranger", {"repkit.models": {"gone": "no_such_module_anywhere:Thing"}})
    distribution("other-stranger", {"repkit.objectives": {"infinite": "{module}:Infinite"}}, "import sys; sys.exit(9)")
    assert repkit_main("recipes", "check", "demo") == wanted
    assert wanted[0] == 0
    assert repkit_main("plugins", "show", "attentive_cnn")[0] == 0
    assert repkit_main("plugins", "list")[0] == 0


def test_the_doctor_says_all_is_well(repkit_main, distribution, quick_doctor):
    distribution("stranger", {"repkit.models": {"mean": "{module}:Mean"}}, MODEL)
    code, out, err = repkit_main("plugins", "doctor")
    assert (code, err) == (0, "")
    assert rows(out)["python"].split()[1] == ".".join(map(str, sys.version_info[:3]))
    assert out.splitlines()[-1].endswith("distributions, 0 problems")


def test_the_doctor_says_what_is_wrong(repkit_main, distribution, quick_doctor):
    distribution("stranger", {"repkit.models": {"gone": "no_such_module_anywhere:Thing"}})
    distribution("misspelt-stranger", {"repkit.model": {"thing": "{module}:Thing"}})
    distribution("loud-stranger", {"repkit.corpora": {"NC-Hum": "collections:OrderedDict"}})
    assert "not small letters, digits and underscores: loud-stranger 1.2: NC-Hum" in repkit_main("plugins", "list")[1]
    code, out, err = repkit_main("plugins", "doctor")
    assert code == 3
    assert out.splitlines()[-1].endswith(", 4 problems")
    assert "plugin loud-stranger 1.2 (repkit.corpora: NC-Hum): 'NC-Hum' is no name of the rule" in err
    assert "plugin loud-stranger 1.2 (repkit.corpora: NC-Hum): has no settings" in err
    assert "  - plugin stranger 1.2 (repkit.models: gone): no_such_module_anywhere:Thing failed to import" in err
    assert "which repkit does not read; write 'repkit.models' in its pyproject.toml" in err


def test_a_recipe_whose_function_raises_is_blamed_and_hides_no_other(repkit_main, distribution):
    distribution(
        "other-plugin", {"repkit.recipes": {"odd": "{module}:odd"}}, "def odd():\n    raise RuntimeError('oops')"
    )
    with pytest.raises(PluginError, match=r"plugin other-plugin 1.2 \(repkit.recipes: odd\): RuntimeError in .*: oops"):
        find_recipe("odd")
    code, out, _ = repkit_main("recipes", "list")
    assert code == 0
    assert "demo" in out


def test_a_recipe_that_a_plugin_claims_besides_repkit_is_an_error_that_names_both(distribution, tmp_path):
    theirs = tmp_path / "demo.toml"
    theirs.write_text('name = "demo"\n')
    distribution("other-plugin", {"repkit.recipes": {"demo": "{module}:DEMO"}}, f"DEMO = {str(theirs)!r}")
    with pytest.raises(
        PluginError, match="recipe 'demo' is claimed by repkit and other-plugin 1.2; write 'repkit:demo'"
    ):
        find_recipe("demo")
    assert find_recipe("other-plugin:demo") == theirs
    assert find_recipe("repkit:demo").read_text().startswith("# repkit train-ser --recipe demo")
