"""What the distributions declare: all that they import, one set of bounds, every room in the layers."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]
BROUGHT = {"dask": "distributed", "pydantic-core": "pydantic"}
"""Halves of a distribution that only work in the version which the other half asks for."""


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def read(file):
    return tomllib.loads(file.read_text(encoding="utf-8"))


def needs(file):
    """Return canonical name to bounds of all that a distribution declares, extras included."""
    project = read(file)["project"]
    lines = [
        *project["dependencies"],
        *(one for extra in project.get("optional-dependencies", {}).values() for one in extra),
    ]
    return {canonical(need.name): need.specifier for need in map(Requirement, lines)}


@cache
def owners():
    return {module: {canonical(name) for name in names} for module, names in packages_distributions().items()}


def imported(folder):
    """Return the distributions whose modules the code of a folder imports, anywhere in it."""
    found = {}
    own = {path.stem for path in folder.iterdir()}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - own:
                found[name] = owners().get(name, {name})
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_all_that_is_imported_is_declared(file):
    folder = ROOT / "repkit" if file.parent == ROOT else file.parent / "src"
    declared = {*needs(file), canonical(read(file)["project"]["name"])}
    undeclared = {
        module
        for module, names in imported(folder).items()
        if not declared & {BROUGHT.get(name, name) for name in names}
    }
    assert undeclared == set()


@pytest.mark.parametrize("file", FILES[1:], ids=lambda file: file.parent.name)
def test_plugins_have_the_bounds_of_repkit(file):
    ours, theirs = needs(FILES[0]), needs(file)
    assert {name: theirs[name] for name in theirs if name in ours} == {
        name: ours[name] for name in theirs if name in ours
    }
    assert read(file)["project"]["requires-python"] == read(FILES[0])["project"]["requires-python"]


def test_the_pythons_that_are_admitted_are_those_that_are_named():
    project = read(FILES[0])["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert project["requires-python"] == f">={named[0]},<3.{int(named[-1].partition('.')[2]) + 1}"
    words = f"Python {', '.join(named[:-1])} {{}} {named[-1]}"
    assert words.format("and") in (ROOT / "constraints.txt").read_text(encoding="utf-8").partition("\n")[0]
    assert words.format("or") in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_room_stands_in_the_layers_and_is_closed_to_plugins():
    layers, plugins, _ = read(FILES[0])["tool"]["importlinter"]["contracts"]
    floors = [re.findall(r"\w+", floor) for floor in layers["layers"]]
    rooms = {room for floor in floors for room in floor}
    public = {"repkit.api", "repkit.errors", "repkit.testing"}
    assert {*plugins["forbidden_modules"], *public} == {f"repkit.{room}" for room in rooms}
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8").partition("```\n")[2].partition("```")[0]
    printed = [re.findall(r"\w+", re.split(r" {2,}", line)[0]) for line in page.splitlines()]
    assert printed == floors


def test_nobody_is_told_to_install_a_strangers_repkit():
    """On the package index the name is another project's: only paths of a clone are shown."""
    folders = [ROOT / "docs", ROOT / "plugins", ROOT / "recipes", ROOT / "repkit"]
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".md", ".py", ".toml")]
    shown = re.compile(r"""pip install (?:-\S+ (?:\S+ )?)*["']?repkit""")
    assert [str(path) for path in [ROOT / "README.md", *paths] if shown.search(path.read_text(encoding="utf-8"))] == []
    assert shown.search('pip install -c constraints.txt "repkit[distributed]"')
