"""The form in which a named corpus is described: one small, mostly declarative object per corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repkit.api import Utterance

Reader = Callable[[Path, str], tuple[list[Utterance], list[str]]]
"""(folder, variant) to utterances and notes, for corpora whose labels stand in files."""

Completer = Callable[[Path, list[Utterance]], tuple[list[Utterance], list[str]]]
"""(folder, utterances) to utterances completed from a side table, and notes."""


@dataclass(frozen=True, kw_only=True)
class NamedSpec:
    """How the official download of a corpus is read.

    Attributes:
        name: name on the command line.
        title: full name.
        language: ISO 639-1 code, None when files differ (group ``language``).
        licence: terms of use in one line.
        home: where it is obtained.
        source: what the grammar was checked against; says what could not be checked.
        example: an audio file's path below the folder.
        pattern: regular expression for a path below the folder without suffix, matched at its end after a separator;
            groups: speaker, emotion, gender, session, language, text, and any others, which are kept as extra.
        emotions: code to emotion.
        genders: speaker, or what the group ``gender`` catches, to female or male.
        speakers: other spellings of speakers.
        values: group to (code to word), for extra groups.
        id_form: how the utterance's name is built from the groups; the file's stem when empty.
        repairs: (regular expression, replacement) applied to the path before the grammar.
        drop: regular expression of stems to reason, for files known to be unusable.
        prefer: folder names that win where the same utterance stands in several copies.
        keep: variant to (group to allowed codes); utterances of other codes are left out silently.
        variants: names of variants, the default one first.
        expected: variant to published counts.
        reader: reads utterances from label files instead of the grammar.
        complete: adds what a side table knows.
        hint: what to do when no audio is found.
    """

    name: str
    title: str
    language: str | None
    licence: str
    home: str
    source: str
    example: str
    pattern: str = ""
    emotions: Mapping[str, str] = field(default_factory=dict)
    genders: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    id_form: str = ""
    repairs: Sequence[tuple[str, str]] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    prefer: Sequence[str] = ()
    keep: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    variants: Sequence[str] = ("default",)
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reader: Reader | None = None
    complete: Completer | None = None
    hint: str = ""

    def line(self) -> str:
        """Return one line for lists: title, language, published size."""
        counts = self.expected.get(self.variants[0], {})
        size = f", {counts['utterances']} utterances" if counts.get("utterances") else ""
        speakers = f", {counts['speakers']} speakers" if counts.get("speakers") else ""
        return f"{self.title} ({self.language or 'several languages'}){size}{speakers}; =PATH"
