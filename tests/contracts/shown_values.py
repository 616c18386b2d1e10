"""Names that shown commands give: recipes, encoders, corpora, papers, components. Which of them are there?"""

import re
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from repkit.audio.named_specs import SPECS
from repkit.audio.presets import PRESETS
from repkit.audio.synthetic import SYNTHETIC
from repkit.cli.recipes import check as check_recipe
from repkit.config import list_recipes
from repkit.config.load import assign, parse_assignment
from repkit.errors import RepkitError
from repkit.papers.load import list_papers, load_paper
from repkit.plugins import load
from repkit.workflows.probe import HEADS

ROOT = Path(__file__).resolve().parents[2]
RECIPE_FILES = sorted([*(ROOT / "recipes").glob("*.toml"), *(ROOT / "plugins").glob("*/src/*/recipes/*.toml")])
STAND_INS = {
    "DIR",
    "DISTRIBUTION",
    "ENCODER",
    "FILE",
    "FOLDER",
    "NAME",
    "ORG",
    "PAPER",
    "PATH",
    "PLACE",
    "RECIPE",
    "RUN",
    "SET",
}
"""Words in capitals that the reader replaces."""


@cache
def recipes():
    """Return the names of the repository's recipes and the command of each, installed or not."""
    found = {}
    for path in RECIPE_FILES:
        found[path.stem] = tomllib.loads(path.read_text(encoding="utf-8")).get("command")
    for path in RECIPE_FILES:  # a recipe that extends another has its command
        base = tomllib.loads(path.read_text(encoding="utf-8")).get("extends")
        found[path.stem] = found[path.stem] or found.get(base) or "train-ser"
    return found


@cache
def components():
    """Return the repository's components as (group without ``repkit.``, name), installed or not."""
    found = set()
    for path in [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]:
        points = tomllib.loads(path.read_text(encoding="utf-8"))["project"].get("entry-points", {})
        found |= {(group.removeprefix("repkit."), name) for group, names in points.items() for name in names}
    return frozenset(found)


def names(group):
    """Return the names of a group."""
    return {name for of, name in components() if of == group}


def is_stand_in(text):
    """Whether a value is the reader's to replace, as NAME, hf:ORG/NAME, untrained:RUN or ... are."""
    return text in ("", "...", "1") or not STAND_INS.isdisjoint(re.split(r"[:/=+.\-\[\]]", text))


def wrong_values(parsed, trained=frozenset()):
    """Return what is wrong with the names in a parsed command, one sentence each.

    Args:
        parsed: a `shown_commands.Parsed`.
        trained: folders that ``pretrain-ae --out`` of the same page makes.
    """
    command, given = parsed.command, parsed.given
    problems = []
    if "recipe" in given:
        problems += _recipe(command, given.get("recipe"), given.get("set_") or [])
    if command == "probe":
        problems += _recipe(command, "probe", given["set_"])
        problems += _among("--head", given["head"], HEADS)
    if given.get("probe_set"):
        problems += _recipe("probe", "probe", given["probe_set"])
    if command == "compare":
        problems += _among("--normalisation", given["normalisation"], ("train", "per_speaker", "per_corpus"))
    if command in ("probe", "compare"):
        problems += _among("--protocol", [given["protocol"]], names("protocols"))
    if command == "embed":
        problems += _encoder(given["encoder"], given.get("encoder_set") or [], trained)
    if command == "reproduce":
        problems += _paper(given["paper"], given["only"], given["table"])
    if command in ("plugins show", "plugins check"):
        problems += _among("component", [given["name"].split(":")[-1]], {name for _, name in components()})
    corpora = [text for option in ("corpus", "hold_out", "pretrain_corpus") for text in _list(given.get(option))]
    for text in corpora:
        problems += _corpus(text)
    problems += _settings_of_corpora(corpora, given.get("corpus_set") or [])
    if given.get("split") and command in ("pretrain-ae", "embed"):
        known = {
            split for text in corpora if text.split("=")[0] in PRESETS for split in PRESETS[text.split("=")[0]].splits
        }
        problems += _among("--split", [given["split"]], known) if known else []
    return problems


def _list(value):
    return [value] if isinstance(value, str) else list(value or [])


def _among(what, given, known):
    return [f"{what}: no {one!r}" for one in given if one and one not in known and not is_stand_in(one)]


def _recipe(command, name, settings):
    if name is None or name.endswith(".toml") or is_stand_in(name):
        return []
    if name not in recipes():
        return [f"no recipe {name!r}"]
    wanted = {"compare": "train-ser", "probe": "train-ser"}.get(command, command)
    if command not in ("recipes show", "recipes check") and recipes()[name] != wanted:
        return [f"recipe {name!r} is for {recipes()[name]}"]
    return _checked(name, tuple(settings))


@cache
def _checked(name, settings):
    try:
        if name in list_recipes():  # installed, so that keys and components can be looked up
            check_recipe(name, list(settings))
    except RepkitError as error:
        return [f"recipe {name!r}: {error}"]
    return []


def _encoder(text, settings, trained):
    if is_stand_in(text):
        return []
    kind, colon, rest = text.partition(":")
    if colon and kind == "hf":
        return []
    if colon and kind == "plugin":
        return _among("--encoder plugin", [rest], names("encoders"))
    of_run = colon and kind in ("untrained", "statistics")
    if kind in names("encoders") and not of_run:
        return _settings_of_encoder(kind, rest, settings)
    place = rest if of_run else text
    if place not in trained:
        return [f"--encoder {text}: neither an encoder nor the --out of a pretrain-ae on this page"]
    return []


def _settings_of_encoder(name, argument, settings):
    encoder = load("repkit.encoders", name)
    given = {}
    for text in settings:
        assign(given, *parse_assignment(text))
    if argument and not hasattr(encoder, "argument"):
        return [f"encoder {name} takes no argument"]
    try:
        encoder.Config(**given, **({encoder.argument: argument} if argument else {}))
    except (ValueError, RepkitError) as error:
        return [f"encoder {name}: {error}"]
    return []


def _corpus(text):
    name, equals, place = text.partition("=")
    if not equals:
        problem = [f"corpus {name}: needs {name}=PATH"] if name in SPECS else [f"no corpus {name!r}"]
        return [] if name in SYNTHETIC or name in PRESETS or is_stand_in(name) else problem
    if place.startswith("plugin:"):
        return _among("--corpus plugin", [place.removeprefix("plugin:")], names("corpora"))
    return [f"corpus {name} has no place"] if name in SYNTHETIC else []


def _settings_of_corpora(corpora, settings):
    if not corpora:  # a mention of the option alone
        return []
    given = {text.split("=")[0] for text in corpora}
    found = {setting.split(".")[0] for setting in settings}
    return [f"--corpus-set of {name}, which is not given" for name in found - given if not is_stand_in(name)]


def _paper(name, only, tables):
    if name.endswith(".toml") or is_stand_in(name):
        return []
    if name not in list_papers():
        return [f"no paper {name!r}"]
    paper = load_paper(name)
    systems = {system.id for system in paper.systems}
    wrong = [o for o in only if not is_stand_in(o) and not any(fnmatchcase(s, o.split("/")[0]) for s in systems)]
    return [f"--only: no system {one!r}" for one in wrong] + _among("--table", tables, {t.id for t in paper.tables})
