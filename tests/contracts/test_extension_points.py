"""The page on extension points and the template that it prints are one thing, and say what the program says."""

import ast
import dataclasses
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from repkit import api
from repkit.cli.plugins import app as plugins_app
from repkit.plugins import GROUPS

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "plugins/template"
SOURCE = TEMPLATE / "src/repkit_template"
PAGE = (ROOT / "docs/extension-points.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CODE = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")
MOST_LINES = 39

_PARTS = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
SECTIONS = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def section_of(path):
    """Return the section of the group whose entry point leads into a file of the template."""
    module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    (group,) = [
        group
        for group, points in PROJECT["entry-points"].items()
        for to in points.values()
        if to.split(":")[0] == module
    ]
    return SECTIONS[f"`{group}`"]


def imports(code):
    """Return the dotted names that some code imports; ``from a import b`` is ``a.b``."""
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports break when a module is copied alone"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_every_group_has_one_section_in_the_order_of_the_program():
    assert [title.strip("`") for title in SECTIONS if title.startswith("`")] == list(GROUPS)
    assert list(PROJECT["entry-points"]) == list(GROUPS)


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_the_page_prints_the_template_word_for_word(path):
    printed = blocks(section_of(path), "python")
    assert printed == [path.read_text(encoding="utf-8")]
    assert f"`src/repkit_template/{path.relative_to(SOURCE).as_posix()}`, complete:" in section_of(path)


def test_the_page_prints_no_other_component():
    printed = [block for title, text in SECTIONS.items() if title.startswith("`") for block in blocks(text, "python")]
    assert len(printed) == len(CODE) == len(GROUPS)


def test_the_page_prints_recipe_and_entry_points_word_for_word():
    (recipe,) = SOURCE.rglob("*.toml")
    assert recipe.read_text(encoding="utf-8") in blocks(SECTIONS["`repkit.recipes`"], "toml")
    for group, points in PROJECT["entry-points"].items():
        shown = [tomllib.loads(block) for block in blocks(SECTIONS[f"`{group}`"], "toml")]
        assert {"project": {"entry-points": {group: points}}} in shown


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_component_is_complete_in_under_forty_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_template_and_the_page_import_only_the_public_contract():
    shown = [path.read_text(encoding="utf-8") for path in CODE]
    shown += [
        block for title, text in SECTIONS.items() if not title.startswith("`") for block in blocks(text, "python")
    ]
    of_repkit = [name for code in shown for name in imports(code) if name.split(".")[0] == "repkit"]
    assert of_repkit
    assert [name for name in of_repkit if not name.startswith(("repkit.api", "repkit.testing"))] == []
    assert [name for code in shown[: len(CODE)] for name in imports(code) if "testing" in name] == []


def test_the_template_declares_what_it_imports():
    declared = {Requirement(text).name for text in PROJECT["dependencies"]}
    used = {name.split(".")[0] for path in CODE for name in imports(path.read_text(encoding="utf-8"))}
    assert used - set(sys.stdlib_module_names) == declared


def test_the_page_names_every_capability_domain_and_optional_method():
    models, objectives = SECTIONS["`repkit.models`"], SECTIONS["`repkit.objectives`"]
    rows = set(re.findall(r"^ *\| `(\w+)` \|", models[models.index("| capability |") :], flags=re.MULTILINE))
    assert rows == set(api.MODEL_CAPABILITIES)
    (domains,) = re.findall(r"which of ([`\w, ]+) must", objectives)
    assert re.findall(r"\w+", domains) == list(api.DOMAINS)
    pretraining = SECTIONS["`repkit.pretraining`"]
    for protocol, text in (
        (api.SerModel, models),
        (api.Objective, objectives),
        (api.PretrainingObjective, pretraining),
    ):
        optional = re.findall(r"^ *- ``(\w+)", protocol.__doc__, flags=re.MULTILINE)
        assert optional
        assert [name for name in optional if f"- `{name}" not in text] == []


@pytest.mark.parametrize(
    ("protocol", "group"),
    [
        (api.Corpus, "repkit.corpora"),
        (api.Frontend, "repkit.frontends"),
        (api.Encoder, "repkit.encoders"),
        (api.SerModel, "repkit.models"),
        (api.EvaluationProtocol, "repkit.protocols"),
    ],
)
def test_the_page_names_every_member_of_a_contract(protocol, group):
    members = {*getattr(protocol, "__annotations__", {}), *vars(protocol)}
    members = {name for name in members if not name.startswith("_")} - {"Config", "config"}
    assert members
    assert [name for name in members if f"`{name}" not in SECTIONS[f"`{group}`"]] == []


@pytest.mark.parametrize(("value", "prefix"), [(api.TaskSpec, "task"), (api.Batch, "batch"), (api.Outputs, "outputs")])
def test_the_page_names_what_models_and_objectives_are_given(value, prefix):
    text = SECTIONS["`repkit.models`"] + SECTIONS["`repkit.objectives`"]
    fields = {field.name for field in dataclasses.fields(value)} - {"ids"}
    assert [name for name in fields if f"`{prefix}.{name}" not in text] == []


@pytest.mark.parametrize(
    ("value", "prefix"), [(api.PretrainTask, "task"), (api.PretrainBatch, "batch"), (api.EncoderStates, "states")]
)
def test_the_page_names_what_objectives_of_stage_one_are_given(value, prefix):
    fields = {field.name for field in dataclasses.fields(value)}
    assert [name for name in fields if f"`{prefix}.{name}" not in SECTIONS["`repkit.pretraining`"]] == []


def test_the_page_names_every_field_of_a_fold_and_the_version():
    fields = ", ".join(field.name for field in dataclasses.fields(api.Fold))
    assert f"`Fold({fields})`" in SECTIONS["`repkit.protocols`"]
    assert f"now {api.API_VERSION}" in PAGE


def test_the_page_names_every_command_for_plugins():
    names = [command.name or command.callback.__name__.strip("_") for command in plugins_app.registered_commands]
    assert [name for name in names if f"`repkit plugins {name}" not in PAGE] == []
