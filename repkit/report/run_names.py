"""What tells one run from another: its signature, the models of its conditions, and the settings it was given."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from repkit.config.load import Key, flat, parse_assignment
from repkit.config.schema import NOT_TRAINING
from repkit.errors import UsageError
from repkit.evaluation.run_files import RunFiles

_SIGNATURE = re.compile(r".+_([0-9a-f]{8})")
_NO_SETTING = ("schema", "schema_version", "command", "name", *NOT_TRAINING)
"""Keys of a recipe that tables show otherwise, or that change no score."""
_COMMANDS = ("train-ser", "probe", "compare", "reproduce")
"""Commands whose --set lays values over the recipe of a run."""
MOST_TEXT = 60


def model_of(files: RunFiles, condition: str) -> str | None:
    """Return the name of a condition's model, None where the run does not tell."""
    own = files.infos[condition].settings.get("model") if condition in files.infos else None
    table = own if isinstance(own, Mapping) and "name" in own else files.recipe.get("model")
    return str(table["name"]) if isinstance(table, Mapping) and "name" in table else None


def models_of(files: RunFiles) -> dict[str, str]:
    """Return the model of each condition that tells, by condition."""
    found = {condition: model_of(files, condition) for condition in files.conditions}
    return {condition: name for condition, name in found.items() if name is not None}


def signature_of(files: RunFiles) -> str:
    """Return a run's short signature, the end of its folder's name; the whole name where it has no such end."""
    match = _SIGNATURE.fullmatch(files.path.name)
    return match[1] if match else files.path.name


def run_labels(runs: Sequence[RunFiles]) -> list[str]:
    """Return what to call each run: its short signature, its folder where two have that, its path where two have both."""
    labels = [signature_of(run) for run in runs]
    for longer in (lambda run: run.path.name, lambda run: str(run.path)):
        twice = {label for label, n in Counter(labels).items() if n > 1}
        labels = [longer(run) if label in twice else label for run, label in zip(runs, labels)]
    return labels


def differing_settings(runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """Return for each run the settings in which it differs from the other runs of its recipe, by dotted key.

    The model's name is not among them: it is told with every row.
    """
    settings = [
        {key: value for key, value in flat(run.recipe).items() if key and key[0] not in _NO_SETTING} for run in runs
    ]
    found = []
    for run, mine in zip(runs, settings):
        others = [theirs for other, theirs in zip(runs, settings) if other.recipe.get("name") == run.recipe.get("name")]
        found.append(
            {
                _dotted(key): value
                for key, value in sorted(mine.items(), key=lambda item: _dotted(item[0]))
                if key != ("model", "name") and any(key not in theirs or theirs[key] != value for theirs in others)
            }
        )
    return found


def given_settings(files: RunFiles) -> dict[str, Any]:
    """Return what the command of a run has set by ``--set``, by dotted key, from its command.txt."""
    path = files.path / "command.txt"
    try:
        words = shlex.split(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if len(words) < 2 or words[1] not in _COMMANDS:
        return {}  # a script of somebody's own, whose options mean something else
    found = {}
    for before, word in pairwise(words):
        text = word if before == "--set" else word.removeprefix("--set=") if word.startswith("--set=") else None
        if text is None:
            continue
        try:
            key, value = parse_assignment(text)
        except UsageError:
            continue
        found[".".join(key)] = value
    return found


def settings_text(settings: Mapping[str, Any], most: int, mark: str = "") -> str:
    """Return settings as ``key = value`` in one line.

    Args:
        settings: by dotted key.
        most: how many are shown; of the others, how many they are.
        mark: put before and after each.
    """
    shown = [f"{mark}{key} = {_short(value)}{mark}" for key, value in list(settings.items())[:most]]
    more = [f"and {len(settings) - most} more settings"] if len(settings) > most else []
    return ", ".join([*shown, *more])


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))
