"""Who may import what: the layers, and which rooms must stay light."""

import ast
import json
import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import repkit
from repkit import api
from repkit.plugins import GROUPS

LIGHT = ("api", "audio", "cli", "config", "errors", "plugins", "runs", "store")
"""Rooms that load neither torch nor anything as slow: lists, checks and folds must not wait for it."""

HEAVY = ("torch", "torchaudio", "transformers", "datasets", "librosa", "matplotlib", "accelerate")


def modules_of(room):
    """Return the names of all modules of a room."""
    name = f"repkit.{room}"
    folder = Path(repkit.__file__).parent / Path(*room.split("."))
    if not folder.is_dir():
        return [name]
    return [name, *(found.name for found in pkgutil.walk_packages([str(folder)], f"{name}."))]


def loaded_after(statements):
    """Return which heavy libraries a fresh process has loaded after some statements."""
    code = f"import json, sys\n{statements}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_layers_hold(repo_root):
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_light_rooms_load_nothing_heavy():
    # the layer that models may use is a torch module; repkit.api loads its file when it is asked for
    modules = [module for room in LIGHT for module in modules_of(room) if module != "repkit.api.dropout"]
    assert len(modules) > 40
    assert loaded_after("\n".join(f"import {module}" for module in modules)) == []


def test_the_probe_can_fail():
    assert "torch" in loaded_after("import repkit.training.optim, torch")


@pytest.mark.parametrize("module", ["repkit", "repkit.api", "repkit.cli"])
def test_what_everyone_imports_first_is_small(module):
    code = f"import sys, {module}\nprint(sorted(m for m in sys.modules if m.startswith('repkit.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in ast.literal_eval(done.stdout)}
    assert rooms <= {"repkit": set(), "repkit.api": {"api", "errors"}, "repkit.cli": {"cli", "errors"}}[module]


def test_the_public_contract_holds_what_it_names():
    for name in api.__all__:
        assert getattr(api, name) is not None
    assert len(api.__all__) == len(set(api.__all__))


def test_the_public_contract_imports_nothing_of_repkit_but_itself_and_the_errors():
    for path in (Path(repkit.__file__).parent / "api").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith("repkit") or name.startswith(("repkit.api", "repkit.errors")), (
                    path.name,
                    name,
                )


def test_every_entry_point_of_repkit_is_a_component_with_settings():
    found = 0
    for group in GROUPS:
        for point in entry_points(group=group):
            if point.dist is not None and point.dist.name == "repkit":
                component = point.load()
                assert issubclass(component.Config, api.Config), point
                component.Config.model_json_schema()
                found += 1
    assert found >= 15


def test_no_file_is_longer_than_a_reader_can_hold(repo_root):
    """About 400 lines; a model that transformers wants in one file may be longer."""
    long = {}
    for path in (repo_root / "repkit").rglob("*.py"):
        n = len(path.read_text(encoding="utf-8").splitlines())
        if n > 470:
            long[path.name] = n
    assert not long
