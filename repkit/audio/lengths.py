"""How long utterances are, from the headers of their files: nothing is decoded that states its length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from repkit.api import Corpus, Utterance
from repkit.errors import BadAudioError


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the utterances of a corpus.

    Attributes:
        seconds: of all, or of some that are evenly spread.
        n: how many utterances there are.
    """

    seconds: tuple[float, ...]
    n: int

    @property
    def hours(self) -> float:
        """Expected hours of the whole corpus."""
        return sum(self.seconds) / len(self.seconds) * self.n / 3600


def file_seconds(corpus: Corpus, most: int | None = None) -> Lengths | None:
    """Return how long the utterances of a corpus are; None where they are no plain files, or none can be read.

    Files that cannot be read are passed over: whatever decodes them later says what is wrong.

    Args:
        corpus: whose files.
        most: look at so many utterances only, evenly spread; None for all.
    """
    utterances = corpus.utterances()
    step = 1 if most is None else max(1, -(-len(utterances) // most))
    some = utterances[::step]
    if any(one.audio.path is None for one in some):
        return None
    found = tuple(seconds for _, seconds in utterance_seconds(some))
    return Lengths(found, len(utterances)) if found else None


def utterance_seconds(utterances: Iterable[Utterance]) -> Iterator[tuple[str, float]]:
    """Yield id and length of every utterance that is a plain file, or a part of one, whose header can be read."""
    from repkit.audio.decode import duration_s

    durations: dict[Path, float | None] = {}  # several utterances may be segments of one recording
    for one in utterances:
        path = one.audio.path
        if path is None:
            continue
        if path not in durations:
            try:
                durations[path] = duration_s(path, where=str(path))
            except BadAudioError:
                durations[path] = None
        whole = durations[path]
        if whole is not None:
            end = whole if one.audio.end_s is None else min(whole, one.audio.end_s)
            yield one.id, end - one.audio.start_s
