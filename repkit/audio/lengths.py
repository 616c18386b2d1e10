"""How long utterances are, from the headers of their files: nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from repkit.api import Corpus


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
    import soundfile

    utterances = corpus.utterances()
    step = 1 if most is None else max(1, -(-len(utterances) // most))
    found = []
    for one in utterances[::step]:
        if one.audio.path is None:
            return None
        try:
            end = one.audio.end_s or soundfile.info(str(one.audio.path)).duration
        except (OSError, RuntimeError):
            continue
        found.append(end - one.audio.start_s)
    return Lengths(tuple(found), len(utterances)) if found else None
