"""The plugins as a stranger gets them: wheels in an environment that knows nothing of this checkout.

No dependency is downloaded: the environment borrows the installed ones, link by link, without repkit, its plugins and
whatever an editable install leaves behind.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = {path.parent.name: path.parent for path in sorted((ROOT / "plugins").glob("*/pyproject.toml"))}
SEVERAL = """
import contextlib, io, json, sys
from repkit.cli import main
printed = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["repkit", *words]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{words} ended with {end.code}: {said.getvalue()}")
    printed.append(said.getvalue())
print(json.dumps(printed))
"""
OURS = ("repkit", "_editable_impl_", "__editable__", "__pycache__")


class Environment:
    """A virtual environment of its own, and what can be run in it."""

    def __init__(self, folder: Path, dependencies: Path) -> None:
        self.folder = folder
        venv.create(folder / "env", with_pip=False)
        self.python = folder / "env/bin/python"
        self.site = Path(self._ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
        (self.site / "borrowed.pth").write_text(f"{dependencies}\n")
        self.here = folder / "here"
        self.here.mkdir()

    def install(self, *wheels: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "install"]
        succeed([*pip, "--quiet", "--no-deps", "--no-index", *wheels])

    def run(self, *words: object) -> str:
        """Run a program of the environment in an empty folder and return its standard output."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("REPKIT_", "PYTHON", "COV_"))}
        clean |= {"REPKIT_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        program = self.python.parent / str(words[0])
        return succeed([program, *words[1:]], cwd=self.here, env=clean)

    def commands(self, *commands: list[str]) -> list[str]:
        """Run several repkit commands in one process, for the time that imports take; return what each printed."""
        return json.loads(self.run("python", "-c", SEVERAL, json.dumps(commands)))

    def _ask(self, code: str) -> str:
        return succeed([self.python, "-I", "-c", code]).strip()


def succeed(words: list, **options: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def metadata_of(plugin: Path) -> dict:
    return tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A function from a folder to the wheel of the distribution in it, built from the sources as they are."""
    pytest.importorskip("hatchling", reason="wheels are built without a network; install repkit[dev]")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-index"]

    @cache
    def build(source: Path) -> Path:
        folder = tmp_path_factory.mktemp("wheel")
        succeed([*pip, "--no-build-isolation", "--wheel-dir", folder, source])
        (built,) = folder.glob("*.whl")
        return built

    return build


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory):
    """A folder of links to every installed distribution but ours."""
    folder = tmp_path_factory.mktemp("dependencies")
    for place in dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]):
        for path in Path(place).iterdir():
            if not path.name.lower().startswith(OURS) and path.suffix != ".pth":
                (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def environment(tmp_path, dependencies):
    made = Environment(tmp_path, dependencies)
    yield made
    shutil.rmtree(tmp_path / "env")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, dependencies, wheel):
    """An environment with the wheels of repkit and of the template."""
    made = Environment(tmp_path_factory.mktemp("stranger"), dependencies)
    made.install(wheel(ROOT), wheel(PLUGINS["template"]))
    return made


def test_nothing_comes_from_the_checkout(stranger):
    code = "import repkit, repkit_template, sys; print(repkit.__file__, repkit_template.__file__, *sys.path)"
    own, template, *path = stranger.run("python", "-c", code).split()
    assert Path(own).is_relative_to(stranger.site)
    assert Path(template).is_relative_to(stranger.site)
    assert [place for place in path if Path(place).is_relative_to(ROOT)] == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_requires_repkit_and_no_other_plugin(plugin):
    needs = metadata_of(PLUGINS[plugin])["dependencies"]
    assert [need for need in needs if need.startswith("repkit")] == ["repkit>=0.1,<0.2"]


def test_every_group_of_the_template_is_listed(stranger):
    listed = [line.split() for line in stranger.run("repkit", "plugins", "list").splitlines()]
    claimed = metadata_of(PLUGINS["template"])["entry-points"]
    assert len(claimed) >= 7
    for group, points in claimed.items():
        for name in points:
            assert [group, name] in [line[:2] for line in listed]
    assert {line[2] for line in listed if line[1].startswith("template")} == {"repkit-template"}


def test_every_component_of_the_template_passes_the_conformance_kit(stranger):
    points = metadata_of(PLUGINS["template"])["entry-points"]
    names = [name for group in points.values() for name in group]
    for name, said in zip(names, stranger.commands(*(["plugins", "check", name] for name in names)), strict=True):
        results = [line.split()[1] for line in said.splitlines()[1:]]
        assert results.count("passed") >= 5, name
        assert set(results) <= {"passed", "not"}, name  # applicable


def test_the_template_trains_end_to_end_on_its_own_corpus(stranger):
    toy = "--corpus toy=plugin:template_corpus"
    stranger.commands(
        f"embed --encoder plugin:template_encoder {toy} --out embeddings".split(),
        f"train-ser --recipe template {toy} --embeddings embeddings --set seeds=[0] --workers 1".split(),
    )
    (results,) = stranger.here.glob("runs/template/*/results.json")
    scores = {s["condition"]: s for s in json.loads(results.read_text())["scores"] if s["checkpoint"] == "selected"}
    assert set(scores) == {"BL", "loudness"}
    assert min(score["uar"]["mean"] for score in scores.values()) > 0.5  # three moods: chance is a third
    (done, *_) = results.parent.rglob("metrics.jsonl")
    record = json.loads(done.read_text().splitlines()[0])
    assert set(record["losses"]) == {"template_objective.emotion"}


def test_the_tests_that_the_template_brings_pass(stranger):
    shutil.copytree(PLUGINS["template"] / "tests", stranger.here / "tests")
    shutil.copy(PLUGINS["template"] / "pyproject.toml", stranger.here)
    said = stranger.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert " passed" in said
    assert "skipped" not in said


@pytest.mark.parametrize("plugin", sorted(set(PLUGINS) - {"template"}))  # which the tests above install alone
def test_a_plugin_installs_alone_and_its_recipes_are_valid(plugin, environment, wheel):
    told = metadata_of(PLUGINS[plugin])
    environment.install(wheel(ROOT), wheel(PLUGINS[plugin]))
    recipes = told.get("entry-points", {}).get("repkit.recipes", {})
    listed, *said = environment.commands(["recipes", "list"], *(["recipes", "check", name] for name in recipes))
    assert said == [f"{name}: ok, for `repkit train-ser`\n" for name in recipes]
    rows = [line.split()[:4] for line in listed.splitlines()]
    assert [name for name in recipes if [name, "train-ser", told["name"], told["version"]] not in rows] == []


def test_all_plugins_live_together(environment, wheel):
    environment.install(*map(wheel, [ROOT, *PLUGINS.values()]))
    said = environment.run("repkit", "plugins", "doctor")  # imports every component, and looks at what they require
    assert f"of {1 + len(PLUGINS)} distributions, 0 problems" in said
