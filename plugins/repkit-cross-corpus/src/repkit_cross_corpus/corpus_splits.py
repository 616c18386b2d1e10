"""Train, dev and test speakers of one corpus, and the checks that the protocols of this distribution share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from repkit import api

Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Ids of train, dev and test, each sorted."""


def _circle(*speakers: str) -> Callable[[int], tuple[str, str]]:
    """Return a rule: dev and test speaker of each rotation of a circle that starts with test, dev."""

    def parts(rotation: int) -> tuple[str, str]:
        return speakers[(rotation + 1) % len(speakers)], speakers[rotation % len(speakers)]

    return parts


def _iemocap(rotation: int) -> tuple[str, str]:
    """Return dev and test talker: the two of one session, of which train then hears nothing.

    The two talk to each other: half of a dialogue chooses the epoch, the other half is tested (sheet, trap 6).
    """
    session = f"{5 - rotation % 5:02d}"
    genders = "FM" if (rotation % 5 + rotation // 5) % 2 == 0 else "MF"
    return session + genders[0], session + genders[1]


NAMED_SPLITS: Mapping[str, tuple[frozenset[str], Callable[[int], tuple[str, str]]]] = {
    "emovo": (frozenset({"f1", "f2", "f3", "m1", "m2", "m3"}), _circle("m3", "f3", "m2", "f2", "m1", "f1")),
    "savee": (frozenset({"DC", "JE", "JK", "KL"}), _circle("KL", "JK", "JE", "DC")),
    "iemocap": (frozenset(f"{session:02d}{gender}" for session in range(1, 6) for gender in "FM"), _iemocap),
}
"""Corpora too small for 10 % of the speakers: all their speakers, and the dev and test speaker of each rotation.

Source: own decision (the paper only says 80/10/10 with other speakers); in rotation 0 EMOVO trains on f1 m1 f2 m2 with
dev f3 and test m3, SAVEE on DC JE with dev JK and test KL, IEMOCAP on sessions 1 to 4 with dev 05F and test 05M. Emo-DB
(8/1/1), RAVDESS (20/2/2, both genders in each) and EPST come out of the rule for all other corpora.
"""


def corpus_parts(utterances: Sequence[api.Utterance], rotation: int, seed: int, named_splits: bool) -> Parts:
    """Split one corpus by whole speakers, about 80/10/10.

    Args:
        utterances: of one corpus, all with a speaker.
        rotation: 0 for the split itself; more moves dev and test on to other speakers.
        seed: of the order of the speakers, where no split is named.
        named_splits: take the split of `NAMED_SPLITS` for a corpus of that name.

    Raises:
        DataError: fewer than three speakers, or a corpus of a known name with other speakers than that has.
    """
    corpus = utterances[0].corpus
    if not named_splits or corpus not in NAMED_SPLITS:
        return _by_speaker(utterances, rotation, seed)
    expected, rule = NAMED_SPLITS[corpus]
    found = {str(utterance.speaker).split("/", 1)[-1] for utterance in utterances}
    if found != expected:
        raise api.DataError(
            f"corpus {corpus!r}: speakers {', '.join(sorted(found)[:12])}; {', '.join(sorted(expected))} were expected, "
            "for which the split of a corpus of that name is laid down; give all of the corpus, call it by another name, "
            "or split it like any other (--set protocol.named_splits=false)"
        )
    dev, test = rule(rotation)
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for utterance in utterances:
        speaker = str(utterance.speaker).split("/", 1)[-1]
        parts["dev" if speaker == dev else "test" if speaker == test else "train"].append(utterance.id)
    train, held, tested = (tuple(sorted(parts[part])) for part in ("train", "dev", "test"))
    return train, held, tested


def _by_speaker(utterances: Sequence[api.Utterance], rotation: int, seed: int) -> Parts:
    corpus = utterances[0].corpus
    n_speakers = len({utterance.speaker for utterance in utterances})
    if n_speakers < 3:
        raise api.DataError(
            f"corpus {corpus!r}: {n_speakers} speaker{'s' * (n_speakers != 1)} in {len(utterances)} utterances with "
            "usable labels; at least 3 were expected, one each for train, dev and test; test it whole "
            f"(--hold-out {corpus}=PATH instead of --corpus), or add speakers"
        )
    return api.speaker_parts(utterances, rotation=rotation, seed=seed)


def by_corpus(utterances: Iterable[api.Utterance]) -> dict[str, list[api.Utterance]]:
    """Return the utterances of every corpus, sorted by its name."""
    groups: dict[str, list[api.Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(utterance.corpus, []).append(utterance)
    return {name: groups[name] for name in sorted(groups)}


def check_names(names: Sequence[str], corpora: Iterable[str], key: str) -> None:
    """Refuse names that are no corpus of the run, and repeated ones.

    Raises:
        DataError: names the first, with the nearest corpus.
    """
    known = list(corpora)
    for place, name in enumerate(names):
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise api.DataError(
                f"protocol.{key}: {name!r} is no corpus with usable labels{hint}; one of {', '.join(known)} was "
                "expected; correct the name, or give the corpus with --corpus"
            )
        if name in names[:place]:
            raise api.DataError(f"protocol.{key}: {name!r} stands there twice; once was expected; remove one")
