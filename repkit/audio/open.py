"""The one place that turns ``--corpus NAME[=PATH]`` into a corpus."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from repkit.api import Corpus
from repkit.audio.below import files_below
from repkit.audio.folder import FolderCorpus, find_table
from repkit.audio.guarded import open_plugin_corpus
from repkit.audio.named import NamedCorpus
from repkit.audio.named_specs import SPECS
from repkit.audio.presets import PRESETS
from repkit.audio.synthetic import SYNTHETIC, SyntheticCorpus
from repkit.errors import DataError, UsageError, did_you_mean
from repkit.plugins.load import validation_lines

_SYNTHETIC_LINES = {
    "synthetic_a": "generated voices, near and clean; 8 speakers, 4 emotions, 192 utterances; offline",
    "synthetic_b": "generated voices, noisy telephone; 8 speakers, 5 emotions, 200 utterances; offline",
    "synthetic_c": "generated voices, large room; 6 speakers, 6 emotions with ratings, 180 utterances; offline",
    "synthetic_unlabelled": "generated voices without labels; 24 speakers, 240 utterances; offline",
}


def corpus_names() -> list[tuple[str, str, str]]:
    """Return (name, one line, kind) of every corpus known by name; kind is synthetic, hub or named."""
    rows = [(name, _SYNTHETIC_LINES[name], "synthetic") for name in SYNTHETIC]
    rows += [(preset.name, preset.line, "hub") for preset in PRESETS.values()]
    rows += [(spec.name, spec.line(), "named") for spec in SPECS.values()]
    return rows


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""As of conditions: the name is that of a folder too, which an empty one, a path or ``..`` would put elsewhere."""


def open_corpus(
    name: str,
    location: str | None = None,
    *,
    split: str | None = None,
    options: Mapping[str, Any] | None = None,
    option: str | None = "--corpus",
) -> Corpus:
    """Return the corpus that a name, and possibly a place, stand for.

    - ``synthetic_a`` and its like: generated; no place.
    - ``librispeech``, ``tedlium``: the hub; with a place a ``metadata.csv`` folder, an OpenSLR folder or parquet files.
    - the named corpora (``emodb=PATH``, ``iemocap=PATH``, ...): the official download, or a folder with metadata.csv.
    - ``NAME=hub:ORG/DATASET``: any hub dataset.
    - ``NAME=plugin:COMPONENT``: a component of the group ``repkit.corpora``, built from `options` alone.
    - ``NAME=PATH`` with any other name: parquet files, or a folder with a CSV table or ``options["pattern"]``.

    Args:
        name: name of the corpus, the first part of its utterances' ids: letters, digits, ``_``, ``-`` and ``.``, the first a
            letter or digit.
        location: a folder, a CSV table, or ``hub:ORG/DATASET``.
        split: part of a hub dataset or OpenSLR corpus.
        options: further settings of the corpus class (``columns``, ``pattern``, ``variant``, ``streaming``...).
        option: by which it was given, for messages; empty for an argument of a command; None where a program asks, which
            is then told of arguments and not of options.

    Raises:
        UsageError: a name that is unknown or no name, a missing or empty place, settings that do not validate.
        DataError: nothing usable at the place.
    """
    given = dict(options or {})
    said = f"{_prefix(option)}{name}"
    if location is None and name:
        return _without_place(name, split, given, option)
    location = location or ""
    _check_name(name, location, option)
    if location.startswith("hub:"):
        return _hub(name, split, {"id": location.removeprefix("hub:"), **given}, option)
    if location.startswith("plugin:"):
        _no_split(said, split, option)
        component = location.removeprefix("plugin:")
        opened: Corpus = open_plugin_corpus(component, {"name": name, **given}, said)
        return opened
    if name in SYNTHETIC:
        raise UsageError(f"{said}={location}: {name} is generated and has no place; leave out ={location}")
    path = Path(location).expanduser()
    if not path.exists():
        raise DataError(f"{said}={location}: there is no such folder or file; check the path")
    if name in PRESETS:
        return _preset_at(name, path, split, given, option)
    settings = {"name": name, "path": path, **given}
    if name in SPECS and "pattern" not in given and "columns" not in given:
        _no_split(said, split, option)
        return NamedCorpus(_config(NamedCorpus.Config, settings, option))
    if _is_parquet(path) and "pattern" not in given:
        return _hub(name, split, {"path": path, **given}, option)
    _no_split(said, split, option)
    return FolderCorpus(_config(FolderCorpus.Config, settings, option))


def _prefix(option: str | None) -> str:
    return f"{option} " if option else ""


def _check_name(name: str, location: str, option: str | None) -> None:
    """Refuse a name that cannot be a folder's, and a place that is not said, which would be the folder one stands in."""
    said = f"{_prefix(option)}{name}={location}"
    if not _NAME.fullmatch(name):
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip("_.-") or "mine"
        raise UsageError(
            f"{said}: {name!r} is no name of a corpus; letters, digits, '_', '-' and '.' were expected, the first a letter or "
            f"digit; write {_prefix(option)}{shlex.quote(f'{plain}={location}')}"
        )
    if not location:
        raise UsageError(f"{said}: no place after the '='; a folder, a table or hub:ORG/DATASET was expected; name it")


def _without_place(name: str, split: str | None, given: dict[str, Any], option: str | None) -> Corpus:
    said = f"{_prefix(option)}{name}"
    if name in SYNTHETIC:
        _no_split(said, split, option)
        settings = {"name": name, **SYNTHETIC[name], **given}
        return SyntheticCorpus(_config(SyntheticCorpus.Config, settings, option))
    if name in PRESETS:
        return _hub(name, split, {**PRESETS[name].settings(split), **given}, option)
    if name in SPECS:
        spec = SPECS[name]
        raise UsageError(
            f"{said}: needs the folder of your copy; write {said}=PATH. "
            f"{spec.title} is obtained from {spec.home} ({spec.licence})"
        )
    known = [row[0] for row in corpus_names()]
    if Path(name).expanduser().exists():
        label = re.sub(r"[^A-Za-z0-9_]+", "_", Path(name).expanduser().resolve().stem).strip("_") or "mine"
        raise UsageError(
            f"{said}: is a place without a name for the corpus in it; expected NAME=PATH; write "
            f"{_prefix(option)}{shlex.quote(f'{label}={name}')}"
        )
    raise UsageError(
        f"{said}: is not known{did_you_mean(name, known)}; expected one of {', '.join(known)}, "
        f"or {said}=PATH for a folder of your own, or {said}=hub:ORG/DATASET"
    )


def _preset_at(name: str, path: Path, split: str | None, given: dict[str, Any], option: str | None) -> Corpus:
    """Return a preset read from a place: the first of metadata.csv, the OpenSLR layout and parquet that is there."""
    from repkit.audio.openslr import OpenSlrCorpus, find_openslr

    preset, said = PRESETS[name], f"{_prefix(option)}{name}"
    if not _is_parquet(path):
        if path.is_file() or (path / "metadata.csv").is_file():
            _no_split(said, split, option)
            settings = {"name": name, "path": path, "language": preset.language, **given}
            return FolderCorpus(_config(FolderCorpus.Config, settings, option), licence=preset.licence)
        if find_openslr(path) is not None:
            settings = {"name": name, "path": path, "split": split, **given}
            return OpenSlrCorpus(_config(OpenSlrCorpus.Config, settings, option))
        if "pattern" in given or find_table(path, corpus=name) is not None:
            _no_split(said, split, option)
            return FolderCorpus(_config(FolderCorpus.Config, {"name": name, "path": path, **given}, option))
        raise DataError(
            f"{said}={path}: holds neither metadata.csv, nor the OpenSLR layout ({preset.layout}), nor "
            "parquet files; check the path"
        )
    return _hub(name, split, {**preset.settings(split), "path": path, **given}, option)


def _is_parquet(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".parquet"
    if (path / "metadata.csv").is_file():
        return False
    return any(file.suffix == ".parquet" for file in files_below(path))


def _hub(name: str, split: str | None, settings: dict[str, Any], option: str | None) -> Corpus:
    from repkit.audio.hub import HubCorpus

    if split is not None:
        settings.setdefault("split", split)
    return HubCorpus(_config(HubCorpus.Config, {"name": name, **settings}, option))


def _no_split(said: str, split: str | None, option: str | None) -> None:
    if split is not None:
        given = f"split={split!r}" if option is None else f"--split {split}"
        raise UsageError(f"{said}: has no splits; none was expected; leave out {given}")


def _config(cls: Any, settings: Mapping[str, Any], option: str | None) -> Any:
    name = settings["name"]
    try:
        return cls(**settings)
    except ValidationError as error:
        fields = sorted(set(cls.model_fields) - {"name", "path"})  # these two are NAME=PATH itself
        how = "arguments, KEY=VALUE" if option is None else f"--corpus-set {name}.KEY=VALUE"
        raise UsageError(
            f"corpus {name}: settings do not fit; those it has are {', '.join(fields)}, given as {how}",
            validation_lines(error, name, tuple(fields)),
        ) from None
