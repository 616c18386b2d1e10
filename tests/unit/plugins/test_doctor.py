"""The doctor finds what is wrong with installed plugins, whatever their imports do, and says with whom."""

import sys
import time

import pytest

from repkit.api import API_VERSION
from repkit.plugins import components, doctor
from repkit.plugins.doctor import Finding, examine, probe, versions

GOOD = """
from repkit import api

class Thing:
    class Config(api.Config):
        pass
"""


@pytest.fixture(autouse=True)
def _only_strangers(monkeypatch):
    """Leave repkit's own components out, whose imports take seconds."""
    found = components

    def strangers(group=None):
        return [c for c in found(group) if not c.distribution.startswith("repkit")]

    monkeypatch.setattr(doctor, "components", strangers)


def told(findings, word):
    (one,) = [str(finding) for finding in findings if word in finding.who]
    return one


def test_all_is_well_with_a_plugin_that_keeps_the_rules(distribution):
    distribution("good-plugin", {"repkit.models": {"thing": "{module}:Thing"}}, GOOD)
    assert examine() == []


def test_failing_imports_are_blamed_and_the_others_still_looked_at(distribution):
    distribution("absent-plugin", {"repkit.models": {"gone": "no_such_module_anywhere:Thing"}})
    distribution("empty-plugin", {"repkit.models": {"nothing": "{module}:Nothing"}})
    distribution("raising-plugin", {"repkit.models": {"raises": "{module}:Thing"}}, "raise RuntimeError('no licence')")
    distribution("leaving-plugin", {"repkit.models": {"leaves": "{module}:Thing"}}, "import sys; sys.exit(7)")
    distribution("good-plugin", {"repkit.models": {"zzz": "{module}:Thing"}}, GOOD)
    findings = examine()
    assert len(findings) == 4
    assert told(findings, "absent-plugin").startswith(
        "plugin absent-plugin 1.2 (repkit.models: gone): no_such_module_anywhere:Thing failed to import: ModuleNotFoundError"
    )
    assert "has no attribute 'Nothing'" in told(findings, "empty-plugin")
    assert "RuntimeError: no licence; mend or uninstall it" in told(findings, "raising-plugin")
    assert "SystemExit: 7" in told(findings, "leaving-plugin")


def test_an_import_that_kills_its_process_harms_nobody_else(distribution):
    distribution("dying-plugin", {"repkit.models": {"a_first": "{module}:Thing"}}, "import os; os._exit(11)")
    distribution("good-plugin", {"repkit.models": {"later": "{module}:Thing"}}, GOOD)
    (finding,) = examine()
    assert finding.who == "plugin dying-plugin 1.2 (repkit.models: a_first)"
    assert "its import ended the process (exit code 11)" in finding.what


def test_an_import_that_never_ends_is_given_up(distribution):
    distribution("endless-plugin", {"repkit.models": {"waits": "{module}:Thing"}}, "import time; time.sleep(60)")
    started = time.monotonic()
    (answer,) = probe(doctor.components("repkit.models"), timeout_s=3)
    assert answer["problem"] == "its import took longer than 3 s"
    assert time.monotonic() - started < 30


def test_what_a_plugin_prints_is_no_answer(distribution):
    distribution("noisy-plugin", {"repkit.models": {"loud": "{module}:Thing"}}, "print('{\"number\": 5}')\n" + GOOD)
    assert examine() == []


def test_wrong_versions_and_missing_settings(distribution):
    later = API_VERSION[0] + 1
    distribution(
        "old-plugin",
        {
            "repkit.models": {
                "a": "{module}:Future",
                "b": "{module}:Worded",
                "c": "{module}:Bare",
                "d": "{module}:bare",
                "e": "{module}:Called",
            }
        },
        f"""
        from repkit import api

        class Future:
            api_version = ({later}, 0)
            class Config(api.Config):
                pass

        class Worded(Future):
            api_version = "1.0"

        class Bare:
            pass

        class Called:
            class Config(api.Config):
                name: str = "x"

        def bare():
            pass
        """,
    )
    found = {finding.who[-2]: str(finding) for finding in examine()}
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    assert f"built for API {later}.0; this repkit offers {API_VERSION[0]}.{API_VERSION[1]}" in found["a"]
    assert "api_version = '1.0'; write a pair" in found["b"]
    assert "has no settings; write an inner class Config(repkit.api.Config)" in found["c"]
    assert "points to a function; a class was expected" in found["d"]
    assert "has a setting called 'name'" in found["e"]


def test_a_recipe_that_is_not_there(distribution):
    code = "PATH = 'no/such/recipe.toml'\ndef found():\n    return __file__\n"
    distribution("recipe-plugin", {"repkit.recipes": {"lost": "{module}:PATH", "there": "{module}:found"}}, code)
    (finding,) = examine()
    assert finding.who.endswith("(repkit.recipes: lost)")
    assert "the recipe no/such/recipe.toml does not exist" in finding.what


def test_a_name_claimed_twice(distribution):
    distribution("one-plugin", {"repkit.models": {"same": "{module}:Thing"}}, GOOD)
    distribution("two-plugin", {"repkit.models": {"same": "{module}:Thing"}}, GOOD)
    (finding,) = examine()
    assert str(finding) == (
        "repkit.models: same: claimed by one-plugin 1.2 and two-plugin 1.2; uninstall one, or write 'one-plugin:same' in "
        "recipes to choose"
    )


@pytest.mark.parametrize("group", ["repkit.model", "repkit_models", "Repkit.models", "repkit-models"])
def test_a_misspelt_group(distribution, group):
    distribution("misspelt-plugin", {group: {"thing": "{module}:Thing"}}, GOOD)
    (finding,) = examine()
    assert finding == Finding(
        "plugin misspelt-plugin 1.2",
        f"announces 'thing' in the group {group!r}, which repkit does not read",
        "write 'repkit.models' in its pyproject.toml and install it again",
    )


def test_requirements_that_are_not_met(distribution):
    needs = [
        "numpy<1",
        "no-such-distribution>=2",
        "pydantic>=1",
        "pytest; extra == 'test'",
        "torch>=99; sys_platform == 'x'",
        "repkit>=9",
    ]
    distribution("needy-plugin", {"repkit.models": {"thing": "{module}:Thing"}}, GOOD, requires=needs)
    found = [str(finding) for finding in examine()]
    assert len(found) == 3
    assert found[0].startswith("needy-plugin: needs numpy<1; 2.")
    assert found[2].endswith("is installed; install it from a clone")  # the index has a stranger of that name
    assert found[1] == (
        "needy-plugin: needs no-such-distribution>=2, which is not installed; pip install 'no-such-distribution>=2'"
    )


def test_a_filter_that_names_nothing(distribution, monkeypatch):
    distribution("good-plugin", {"repkit.models": {"thing": "{module}:Thing"}}, GOOD)
    monkeypatch.setenv("REPKIT_PLUGINS", "good-plugin, god-plugin")
    (finding,) = examine()
    assert str(finding).startswith("REPKIT_PLUGINS: names 'god-plugin', which is not installed")
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    assert examine() == []


def test_versions_are_those_of_this_process():
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["api"] == f"{API_VERSION[0]}.{API_VERSION[1]}"
    assert {"torch", "torchaudio", "datasets", "transformers", "repkit"} <= set(found)
