"""Strangers' corpora, watched: what the contract says of utterances and of sound, for the engine and for the conformance kit.

Each rule yields what was got and what to do. Source: own design; `repkit.plugins.guards` does the same for frontends and
encoders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from repkit.api import Utterance
from repkit.audio.base import shorten
from repkit.audio.emotions import EMOTIONS
from repkit.errors import BadAudioError, did_you_mean
from repkit.plugins.guards import Guarded, make

GROUP = "repkit.corpora"

Fault = tuple[str, str]
"""What was got, and what to do about it."""


def wrong_ids(name: str, utterances: Sequence[Utterance]) -> Iterator[Fault]:
    """Find ids that do not begin with the corpus' name or stand twice, and utterances of another corpus."""
    for utterance in utterances:
        if not isinstance(utterance, Utterance):
            yield f"a {type(utterance).__name__}", "list repkit.api.Utterance"
            return
        if not utterance.id.startswith(f"{name}/") or utterance.id == f"{name}/":
            yield f"the id {utterance.id!r}", f"begin ids with {name}/"
        if utterance.corpus != name:
            yield f"{utterance.id}: corpus {utterance.corpus!r}", f"set it to {name!r}"
    for i, n in Counter(utterance.id for utterance in utterances).items():
        if n > 1:
            yield f"{i!r} {n} times", "make ids unique"


def wrong_speakers(name: str, utterances: Sequence[Utterance]) -> Iterator[Fault]:
    """Find speakers and sessions that do not begin with the corpus' name."""
    for utterance in utterances:
        for what in ("speaker", "session"):
            value = getattr(utterance, what)
            if value is not None and not (value.startswith(f"{name}/") and value.partition("/")[2]):
                yield f"{utterance.id}: {what} {value!r}", f"write {name}/{what.upper()}, or None"


def wrong_labels(utterances: Sequence[Utterance]) -> Iterator[Fault]:
    """Find emotions, genders and languages that are none, and ratings outside 1 to 5."""
    for u in utterances:
        if u.emotion is not None and u.emotion not in EMOTIONS:
            yield (
                f"{u.id}: emotion {u.emotion!r}{did_you_mean(str(u.emotion), EMOTIONS)}",
                "use a word of `repkit.audio.emotions` (docs/corpora.md), or None",
            )
        if u.gender not in (None, "female", "male"):
            yield f"{u.id}: gender {u.gender!r}", "write female, male or None"
        if u.language is not None and not re.fullmatch("[a-z]{2,3}", u.language):
            yield f"{u.id}: language {u.language!r}", "write an ISO 639 code such as en, or None"
        for what in ("arousal", "valence"):
            value = getattr(u, what)
            if value is not None and not 1.0 <= value <= 5.0:
                yield f"{u.id}: {what} {value!r}", "map ratings to 1 (calm, negative) up to 5, or None"


def wrong_kind(sound: Any) -> str | None:
    """Return what a sound is when it is no float32 array (S,), else None."""
    if isinstance(sound, np.ndarray) and sound.dtype == np.float32 and sound.ndim == 1:
        return None
    return f"{type(sound).__name__} {getattr(sound, 'dtype', '')} {getattr(sound, 'shape', '')}".strip()


class GuardedCorpus(Guarded):
    """A corpus whose utterances and sound are looked at (`repkit.api.Corpus`)."""

    attributes = ("name",)
    methods = ("utterances", "read", "stream", "fingerprint")

    def __init__(self, inner: Any, group: str, name: str) -> None:
        super().__init__(inner, group, name)
        self._utterances: tuple[Utterance, ...] | None = None

    def check_name(self, wanted: str) -> None:
        """Refuse a corpus that is not called by the NAME it was opened by, under which its utterances are looked for.

        Raises:
            PluginError: it has another name.
        """
        if self._inner.name != wanted:
            self._refuse(f"opened as {wanted!r}, it calls itself {self._inner.name!r}; take `name` from the settings")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_utterances": None}  # as `repkit.audio.base.FileCorpus` does, for the same reason

    def utterances(self) -> Sequence[Utterance]:
        """Return all utterances in a fixed order, looked at when listed first.

        Raises:
            PluginError: an exception, or all ids, speakers and labels that break the contract.
        """
        if self._utterances is None:
            with self._blaming():
                listed = tuple(self._inner.utterances())
                faults = _faults(self._inner.name, listed)
            if faults:
                self._refuse(
                    f"corpus {self._inner.name!r} breaks {len(faults)} rules of its utterances", shorten(faults)
                )
            self._utterances = listed
        return self._utterances

    def read(self, utterance: Utterance, max_duration_s: float | None = None) -> np.ndarray:
        """Return the sound as mono float32 (S,) at 16 kHz.

        Raises:
            BadAudioError: unreadable, or empty, or not finite.
            PluginError: another exception, or sound of another type or shape.
        """
        with self._blaming():
            sound = self._inner.read(utterance, max_duration_s)
        return self._heard(utterance, sound)

    def stream(
        self, skip: int = 0, max_duration_s: float | None = None
    ) -> Iterator[tuple[Utterance, np.ndarray | Exception]]:
        """Yield utterances in order with their sound, or with the `BadAudioError` met, after skipping some.

        Raises:
            PluginError: an exception, other utterances than `utterances` lists at this place, or sound as `read` refuses it.
        """
        place = skip
        with closing(self._pairs(skip, max_duration_s)) as pairs:
            for utterance, sound in pairs:
                wanted = self.utterances()[place].id if place < len(self.utterances()) else "the end"
                if utterance.id != wanted:
                    self._refuse(f"stream gives {utterance.id!r} at place {place}, where utterances() has {wanted!r}")
                place += 1
                if isinstance(sound, Exception):
                    with self._blaming():
                        if not isinstance(sound, BadAudioError):
                            raise sound
                    yield utterance, sound
                    continue
                try:
                    heard = self._heard(utterance, sound)
                except BadAudioError as error:
                    yield utterance, error
                else:
                    yield utterance, heard
        if place < len(self.utterances()):
            self._refuse(f"stream ends after {place} of {len(self.utterances())} utterances")

    def _pairs(self, skip: int, max_duration_s: float | None) -> Iterator[Any]:
        with self._blaming():
            stream = self._inner.stream(skip=skip, max_duration_s=max_duration_s)
            try:
                yield from stream
            finally:
                if hasattr(stream, "close"):
                    stream.close()

    def fingerprint(self) -> str:
        """Return a hash (hex) of what the corpus holds."""
        with self._blaming():
            found = self._inner.fingerprint()
        if not isinstance(found, str) or not found:
            self._refuse(f"fingerprint() gives {found!r}, not a hash in hex")
        return found

    def _heard(self, utterance: Utterance, sound: Any) -> np.ndarray:
        wrong = wrong_kind(sound)
        if wrong is not None:
            self._refuse(f"{utterance.id}: the sound is {wrong}, not mono: numpy float32 (S,) at 16 kHz")
        if not len(sound) or not np.isfinite(sound).all():
            what = "no sample" if not len(sound) else "samples that are not finite"
            raise BadAudioError(f"{utterance.id}: {what}; finite sound was expected; mend it or leave it out")
        return np.asarray(sound)


def _faults(name: str, utterances: Sequence[Utterance]) -> list[str]:
    ids = list(wrong_ids(name, utterances))
    if any(not isinstance(utterance, Utterance) for utterance in utterances):
        found: Iterable[Fault] = ids
    else:
        found = [*ids, *wrong_speakers(name, utterances), *wrong_labels(utterances)]
    return [f"{got}: {do}" for got, do in found]


def open_plugin_corpus(component: str, settings: Mapping[str, Any], where: str) -> Any:
    """Return the corpus of a component (group ``repkit.corpora``), a stranger's one watched.

    Raises:
        PluginError: no such component, its code is broken, or it is not called as it was opened.
        RecipeError: the settings do not fit; all of them at once.
    """
    made = make(GROUP, component, settings, where, GuardedCorpus)
    if isinstance(made, GuardedCorpus):
        made.check_name(str(settings["name"]))
    return made


__all__ = ["GuardedCorpus", "open_plugin_corpus", "wrong_ids", "wrong_kind", "wrong_labels", "wrong_speakers"]
