"""Errors that tell a user where, what was found, what was expected and what to do.

Every error a user can cause is a `RepkitError`; the CLI prints its message without a traceback and
leaves with its exit code. Anything else is a bug in repkit and keeps its traceback (exit code 1).

Exit codes: 0 ok, 1 bug, 2 usage or recipe, 3 plugin, 4 data. Source: own design.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class RepkitWarning(UserWarning):
    """Something a user should know that does not stop the work."""


class RepkitError(Exception):
    """An error a user can understand and mend.

    Args:
        message: one sentence, *where: what we got; what was expected; what to do*.
        problems: further lines, one per problem, when several were found at once.
    """

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[RepkitError], tuple[str, tuple[str, ...]]]:
        # the default reduction would hand the joined text back as the message after a worker process raised
        return type(self), (self.message, self.problems)


class UsageError(RepkitError):
    """A wrong option, name or recipe."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that does not validate; `problems` holds all of them."""


class PluginError(RepkitError):
    """A component could not be found, imported or kept its contract broken; the message blames its distribution."""

    exit_code = 3


class DataError(RepkitError):
    """Corpora, audio, labels, stores or folds that cannot be used as they are."""

    exit_code = 4


class BadAudioError(DataError):
    """One utterance whose audio cannot be used: unreadable, empty, silent, not finite or too short."""


class StoreError(DataError):
    """A store that is damaged, incomplete or made by something else than what is asked for."""


class SpeakerLeakError(DataError):
    """A speaker stands in more than one of train, dev and test."""


_CLOSE_ENOUGH = 0.65
"""Share of letters in common (difflib's ratio): one wrong letter of three passes, 'ekman' for 'neumann2019' (0.50) and 'wavs'
for 'ravdess' (0.55) do not. Source: own design."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, an empty string where none is close.

    Capitals do not matter. A single letter is close to nothing but itself: whatever was meant, it was no slip.
    """
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(one.casefold(), one)
    key = name.casefold()
    close = [key] if key in plain else get_close_matches(key, plain, n=1, cutoff=_CLOSE_ENOUGH) if len(key) > 1 else []
    return f"; did you mean {plain[close[0]]!r}?" if close else ""
