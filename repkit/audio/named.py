"""Named corpora: the official downloads, read as they are unpacked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import model_validator

from repkit.api import Audio, Config, Utterance
from repkit.audio.base import FileCorpus, audio_files, shorten
from repkit.audio.folder import FolderCorpus, nothing_matched
from repkit.audio.named_spec import NamedSpec
from repkit.audio.named_specs import SPECS
from repkit.errors import DataError, did_you_mean

_FIELDS = {"speaker", "emotion", "gender", "session", "language", "text"}


class NamedCorpus(FileCorpus):
    """A corpus that repkit knows by name (entry point ``named``), in the layout of its official download.

    A folder with a ``metadata.csv`` is read by `repkit.audio.folder.FolderCorpus`; the published counts still hold.
    """

    class Config(Config):
        """Settings of a named corpus.

        Attributes:
            name: one of the names `repkit corpora list` shows.
            path: folder of the copy.
            variant: a corpus's own choice (msp_improv: majority or intended; ravdess: speech or speech_and_song).
        """

        name: str
        path: Path
        variant: str | None = None

        @model_validator(mode="after")
        def _known(self) -> NamedCorpus.Config:
            if self.name not in SPECS:
                raise ValueError(f"no named corpus {self.name!r}{did_you_mean(self.name, SPECS)}")
            variants = SPECS[self.name].variants
            if self.variant is not None and self.variant not in variants:
                raise ValueError(f"{self.name} has no variant {self.variant!r}; expected {', '.join(variants)}")
            return self

    def __init__(self, config: NamedCorpus.Config) -> None:
        super().__init__()
        self.config = config
        self.spec: NamedSpec = SPECS[config.name]
        self.name = config.name
        self.root = Path(config.path).expanduser()
        self.variant = config.variant or self.spec.variants[0]
        expected = self.spec.expected.get(self.variant)
        self.expected: dict[str, Any] | None = dict(expected) if expected else None
        self.licence = self.spec.licence

    def _list(self) -> Sequence[Utterance]:
        if not self.root.exists():
            raise DataError(f"{self.root}: there is no such folder; expected {self.spec.title}, from {self.spec.home}")
        if self.root.is_file() or (self.root / "metadata.csv").is_file():
            inner = FolderCorpus(FolderCorpus.Config(name=self.name, path=self.root, language=self.spec.language))
            self.root = inner.root
            listed = inner._list()
            self.notes += inner.notes
            return listed
        if self.spec.reader is not None:
            utterances, notes = self.spec.reader(self.root, self.variant)
        else:
            utterances, notes = read_names(self.spec, self.root, self.variant)
        if self.spec.complete is not None:
            utterances, more = self.spec.complete(self.root, utterances)
            notes += more
        self.notes += [f"corpus {self.name}: {note}" for note in notes]
        return utterances


def read_names(spec: NamedSpec, root: Path, variant: str) -> tuple[list[Utterance], list[str]]:
    """Return the utterances that a corpus's file names state, sorted by id, and what was left alone.

    Raises:
        DataError: no file fits, or two different files claim the same utterance.
    """
    files = audio_files(root)
    grammar = re.compile(rf"(?:^|/){spec.pattern}$")
    kept: dict[str, Utterance] = {}
    notes: list[str] = []
    strangers: list[str] = []
    problems: list[str] = []
    copies = matched = 0
    for path in files:
        relative = path.relative_to(root).with_suffix("").as_posix()
        reason = next((why for stems, why in spec.drop.items() if re.fullmatch(stems, path.stem)), None)
        if reason is not None:
            notes.append(f"{path.relative_to(root)} is left out: {reason}")
            matched += 1
            continue
        repaired = relative
        for wrong, right in spec.repairs:
            repaired = re.sub(wrong, right, repaired)
        match = grammar.search(repaired)
        if match is None:
            strangers.append(path.relative_to(root).as_posix())
            continue
        matched += 1
        groups = {name: value for name, value in match.groupdict().items() if value is not None}
        if not _wanted(spec, groups, variant):
            continue
        utterance = _utterance(spec, groups, repaired, path)
        other = kept.get(utterance.id)
        if other is None:
            kept[utterance.id] = utterance
        elif _preferred(spec, path, root) > _preferred(spec, other.audio.path, root):
            kept[utterance.id] = utterance
            copies += 1
        elif _preferred(spec, path, root) < _preferred(spec, other.audio.path, root) or _same_size(path, other):
            copies += 1
        else:
            problems.append(f"{path.relative_to(root)} and {_relative(other, root)} are both {utterance.id}")
    if not matched:
        message = nothing_matched(root, files, spec.pattern, (".wav", ".flac", ".mp3"), spec.example)
        hint = f". {spec.hint}" if spec.hint else ""
        raise DataError(f"{message}; expected {spec.title} as unpacked from {spec.home}{hint}")
    if problems:
        raise DataError(f"{root}: two different files for one utterance; take one of them away", shorten(problems))
    if copies:
        notes.append(f"{copies} second copies of files are left alone")
    if strangers:
        notes.append(f"{len(strangers)} of {len(files)} audio files are left alone, for example {strangers[0]}")
    return [kept[key] for key in sorted(kept)], notes


def _wanted(spec: NamedSpec, groups: dict[str, str], variant: str) -> bool:
    rules = spec.keep.get(variant, {})
    return all(groups.get(group) in allowed for group, allowed in rules.items())


def _preferred(spec: NamedSpec, path: Path | None, root: Path) -> int:
    parts = path.relative_to(root).parts if path is not None else ()
    return max((len(spec.prefer) - i for i, folder in enumerate(spec.prefer) if folder in parts), default=0)


def _same_size(path: Path, other: Utterance) -> bool:
    return other.audio.path is not None and path.stat().st_size == other.audio.path.stat().st_size


def _relative(utterance: Utterance, root: Path) -> str:
    return str(utterance.audio.path.relative_to(root)) if utterance.audio.path is not None else utterance.id


def _utterance(spec: NamedSpec, groups: dict[str, str], repaired: str, path: Path) -> Utterance:
    code = groups.get("emotion")
    speaker = groups.get("speaker")
    speaker = spec.speakers.get(speaker, speaker) if speaker is not None else None
    if speaker is not None:
        groups = {**groups, "speaker": speaker}
    gender = spec.genders.get(groups.get("gender", ""), spec.genders.get(speaker or ""))
    name = spec.id_form.format(**groups) if spec.id_form else repaired.rsplit("/", 1)[-1]
    extra = {k: spec.values.get(k, {}).get(v, v) for k, v in groups.items() if k not in _FIELDS}
    if code is not None:
        extra["original_label"] = code
    return Utterance(
        id=f"{spec.name}/{name}",
        corpus=spec.name,
        speaker=f"{spec.name}/{speaker}" if speaker is not None else None,
        session=f"{spec.name}/{groups['session']}" if "session" in groups else None,
        gender=gender,
        language=groups.get("language") or spec.language,
        emotion=spec.emotions[code] if code is not None else None,
        text=groups.get("text"),
        audio=Audio(path=path),
        extra=extra,
    )
