"""What the commands that run many trainings are all asked for, and how it is said in the commands that they print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from repkit.api import Corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Corpora and how to work on them.

    Attributes:
        corpora: labelled ones, by name.
        places: how each was given (``emodb=PATH``), for commands.
        corpus_set: settings of corpora as given.
        workers: processes, None for one per core.
        on_bad_audio: stop or skip.
    """

    corpora: Mapping[str, Corpus]
    places: Mapping[str, str] = field(default_factory=dict)
    corpus_set: tuple[str, ...] = ()
    workers: int | None = None
    on_bad_audio: Literal["stop", "skip"] = "stop"

    def settings_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the settings of some corpora, as ``--corpus-set`` takes them."""
        return tuple(text for text in self.corpus_set if text.split(".")[0] in names)

    def corpus_words(self, names: Sequence[str], held_out: Sequence[str] = ()) -> list[str]:
        """Return the options of a command that give some corpora, and others to be tested whole, with their settings."""
        given = [("--corpus", self.places.get(name, f"{name}=PATH")) for name in names]
        given += [("--hold-out", self.places.get(name, f"{name}=PATH")) for name in held_out]
        given += [("--corpus-set", text) for text in self.settings_of([*names, *held_out])]
        return [word for pair in given for word in pair]

    def audio_words(self) -> list[str]:
        """Return the option that leaves out bad audio, nothing where that is not asked for."""
        return ["--on-bad-audio", "skip"] if self.on_bad_audio == "skip" else []
