"""Helpers for protocols: checks of the utterances, dev parts, and train, dev, test parts of one corpus by speaker.

Source: own design; neumann2019 leaves dev undefined (sheet, trap 9). Every choice comes from hashes of names, so that it
is the same on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from repkit.api.config import Config
from repkit.api.data import Utterance
from repkit.errors import DataError

DEFAULT_SHARE = 0.15
"""Aimed share of the remaining speakers that go to dev."""
MOST_SHARE = 0.2
"""One speaker is added to balance the genders only up to this share."""


class DevConfig(Config):
    """How dev is taken; part of the settings of every protocol.

    Attributes:
        dev: ``"speakers"`` holds whole speakers out (default); ``"utterances"`` takes `dev_fraction` of every training
            session stratified by emotion, so that dev and train share speakers, as readings of the paper do;
            ``"none"`` has no dev part, so that only the last epoch can be used.
        n_dev_speakers: number of dev speakers, of each corpus where there are several; by default about 15 % of the
            speakers not under test, at least one.
        dev_fraction: share of each training session for ``dev = "utterances"``.
        seed: of every random choice.
    """

    dev: Literal["speakers", "utterances", "none"] = "speakers"
    n_dev_speakers: int | None = Field(default=None, ge=1)
    dev_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    seed: int = 0


def hash_key(*parts: object) -> str:
    """Return a key that orders things at random but the same on every machine and under every library version."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()


def check_utterances(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Return the utterances sorted by id after seeing that each has a speaker and an id of its own.

    Raises:
        DataError: naming the first utterance without a speaker, or the first id that stands twice.
    """
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if not ordered:
        raise DataError("protocol: no utterance; expected at least one; check the corpus and its label map")
    nameless = [utterance.id for utterance in ordered if not utterance.speaker]
    if nameless:
        raise DataError(
            f"utterance {nameless[0]!r} (and {len(nameless) - 1} more): no speaker; expected one, because folds must "
            "keep speakers apart; fill the speaker column, name it with --corpus-set "
            f"{nameless[0].split('/', 1)[0]}.columns.speaker=COLUMN, or leave these utterances out",
            [f"{name}: no speaker" for name in nameless[:20]],
        )
    twice = [name for name, n in Counter(utterance.id for utterance in ordered).items() if n > 1]
    if twice:
        raise DataError(
            f"utterance {twice[0]!r} stands in the corpora {Counter(u.id for u in ordered)[twice[0]]} times; expected "
            "unique ids; remove the duplicate or give the corpora different names"
        )
    return ordered


def speaker_parts(
    utterances: Sequence[Utterance],
    shares: tuple[float, float] = (0.1, 0.1),
    rotation: int = 0,
    seed: int = 0,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Split one corpus into train, dev and test by whole speakers, genders as even as the numbers allow.

    Args:
        utterances: of one corpus, all with a speaker.
        shares: aimed shares of the speakers in dev and in test; each part gets at least one speaker.
        rotation: moves the parts on, so that after enough rotations every speaker has been tested.
        seed: of the order of the speakers.

    Returns:
        ids of train, dev and test, each sorted.

    Raises:
        DataError: fewer than three speakers.
    """
    genders = speaker_genders(utterances)
    corpus = utterances[0].corpus if utterances else "corpus"
    if len(genders) < 3:
        raise DataError(
            f"corpus {corpus!r}: {len(genders)} speaker(s) with usable labels; at least 3 were expected, one each for "
            f"train, dev and test; hold the corpus out whole (--hold-out {corpus}=PATH instead of --corpus), or add speakers"
        )
    by_gender: dict[str, list[str]] = defaultdict(list)
    for speaker in sorted(genders, key=lambda s: hash_key(seed, s)):
        by_gender[genders[speaker] or ""].append(speaker)
    # genders dealt in turn: any window of the circle is balanced where the corpus is
    order = [
        speaker
        for _, speaker in sorted(
            ((place + 0.5) / len(speakers), speaker)
            for speakers in by_gender.values()
            for place, speaker in enumerate(speakers)
        )
    ]
    n_dev, n_test = (max(1, round(share * len(order))) for share in shares)
    if n_dev + n_test >= len(order):
        n_dev = n_test = 1
    start = rotation * n_test % len(order)
    order = order[start:] + order[:start]
    part_of = {s: "test" if i < n_test else "dev" if i < n_test + n_dev else "train" for i, s in enumerate(order)}
    ids = sorted(u.id for u in utterances)
    speaker_of = {u.id: str(u.speaker) for u in utterances}
    train, dev, test = (tuple(i for i in ids if part_of[speaker_of[i]] == part) for part in ("train", "dev", "test"))
    return train, dev, test


def split_dev(
    rest: Sequence[Utterance], config: DevConfig, fold_index: int, fold_name: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the utterances that are not under test.

    Args:
        rest: utterances outside test, all with a speaker.
        config: how dev is taken.
        fold_index: position of the fold; dev speakers rotate with it.
        fold_name: for messages and for the seed of utterance draws.

    Returns:
        ids of train and of dev, each sorted.

    Raises:
        DataError: too few speakers are left to hold one out, or nothing is left.
    """
    if not rest:
        raise DataError(
            f"fold {fold_name!r}: no utterance is left to train on; expected speakers outside the test part; "
            "add speakers or test fewer of them at a time"
        )
    if config.dev == "none":
        dev: set[str] = set()
    elif config.dev == "utterances":
        dev = _dev_utterances(rest, config, fold_name)
    else:
        speakers = _dev_speakers_of_corpora(rest, config, fold_index, fold_name)
        dev = {utterance.id for utterance in rest if utterance.speaker in speakers}
    ids = sorted(utterance.id for utterance in rest)
    return tuple(i for i in ids if i not in dev), tuple(i for i in ids if i in dev)


def _dev_utterances(rest: Sequence[Utterance], config: DevConfig, fold_name: str) -> set[str]:
    """Draw `dev_fraction` of every session (of every speaker where sessions are unknown), stratified by emotion."""
    sessions: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for utterance in rest:
        sessions[utterance.session or str(utterance.speaker)][utterance.emotion or ""].append(utterance.id)
    drawn: set[str] = set()
    for session, strata in sorted(sessions.items()):
        exact = {emotion: config.dev_fraction * len(ids) for emotion, ids in strata.items()}
        take = {emotion: math.floor(share) for emotion, share in exact.items()}
        # largest remainder: the session gives its share although many strata are smaller than ten utterances
        open_places = round(sum(exact.values())) - sum(take.values())
        by_remainder = sorted(
            strata, key=lambda e: (-round(exact[e] - take[e], 9), hash_key(config.seed, fold_name, session, e))
        )
        for emotion in by_remainder[: max(0, open_places)]:
            take[emotion] += 1
        for emotion, ids in strata.items():
            drawn.update(sorted(ids, key=lambda i: hash_key(config.seed, fold_name, i))[: take[emotion]])
    if not drawn:
        raise DataError(
            f"fold {fold_name!r}: dev_fraction = {config.dev_fraction} of {len(rest)} utterances in {len(sessions)} "
            "sessions gives no dev utterance; expected at least one; raise it (--set protocol.dev_fraction=0.2) or hold whole "
            "speakers out (--set protocol.dev=speakers)"
        )
    return drawn


def _dev_speakers_of_corpora(rest: Sequence[Utterance], config: DevConfig, fold_index: int, fold_name: str) -> set[str]:
    """Choose dev speakers of every corpus, so that none is spent on dev and none is missing there.

    A corpus of a single speaker stays in train whole, unless all are such.
    """
    corpora: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in rest:
        corpora[utterance.corpus].append(utterance)
    several = [some for _, some in sorted(corpora.items()) if len({u.speaker for u in some}) > 1]
    if len(corpora) == 1 or not several:
        return _dev_speakers(rest, config, fold_index, fold_name)
    return {speaker for some in several for speaker in _dev_speakers(some, config, fold_index, fold_name)}


def _dev_speakers(rest: Sequence[Utterance], config: DevConfig, fold_index: int, fold_name: str) -> set[str]:
    """Choose dev speakers: a window that rotates with the fold, mended by single swaps.

    A swap is made while it lowers, in this order: the classes missing from train, the classes missing from dev, the
    imbalance of genders, the departure of dev's share of utterances from half to twice its share of speakers.
    """
    speakers = sorted({str(utterance.speaker) for utterance in rest})
    if len(speakers) < 2:
        raise DataError(
            f"fold {fold_name!r}: {len(speakers)} speaker is left outside the test part; expected at least 2, one for "
            "train and one for dev; use a corpus of 3 or more speakers, or take dev from the training speaker's utterances "
            "(--set protocol.dev=utterances), or none (--set protocol.dev=none --set training.select_by=last)"
        )
    genders = speaker_genders(rest)
    size = config.n_dev_speakers or _default_size(speakers, genders)
    if size >= len(speakers):
        raise DataError(
            f"fold {fold_name!r}: n_dev_speakers = {size} with {len(speakers)} speakers outside the test part; "
            f"expected at most {len(speakers) - 1}, so that train keeps one; lower it, for example --set "
            "protocol.n_dev_speakers=1"
        )
    start = fold_index * size % len(speakers)
    order = speakers[start:] + speakers[:start]
    classes = {name: place for place, name in enumerate(sorted({utterance.emotion or "" for utterance in rest}))}
    rows = {speaker: row for row, speaker in enumerate(order)}
    counts = np.zeros((len(order), len(classes)), dtype=np.int64)
    for utterance in rest:
        counts[rows[str(utterance.speaker)], classes[utterance.emotion or ""]] += 1
    surplus = np.array([(genders[s] == "female") - (genders[s] == "male") for s in order])
    chosen, others = list(range(size)), list(range(size, len(order)))
    inside, women = counts[chosen].sum(axis=0), surplus[chosen].sum()
    best = _least_faults(inside[None], women[None], counts, size)[0]
    while best > (0, 0, 0, 0.0):
        # every swap by what it adds to dev and takes from it: counting anew would take the square of the speakers each time
        swapped = (inside - counts[chosen, None] + counts[others]).reshape(-1, len(classes))
        faults, place = _least_faults(swapped, (women - surplus[chosen, None] + surplus[others]).ravel(), counts, size)
        if faults >= best:
            break
        best, (old, new) = faults, divmod(place, len(others))
        chosen[old] = others[new]
        others = [row for row in range(len(order)) if row not in chosen]
        inside, women = counts[chosen].sum(axis=0), surplus[chosen].sum()
    return {order[row] for row in chosen}


def _default_size(speakers: Sequence[str], genders: Mapping[str, str | None]) -> int:
    size = max(1, round(DEFAULT_SHARE * len(speakers)))
    both = {"female", "male"} <= {genders[speaker] for speaker in speakers}
    if both and size % 2 and size + 1 <= MOST_SHARE * len(speakers):
        size += 1
    return size


def _least_faults(
    inside: np.ndarray, women: np.ndarray, counts: np.ndarray, size: int
) -> tuple[tuple[int, int, int, float], int]:
    """Return the faults of the best of K choices of dev speakers, and which choice that is, the first of equal ones.

    Args:
        inside: (K, classes), dev utterances of each class.
        women: (K,), by how many dev has more female than male speakers.
        counts: (speakers, classes), utterances of each speaker.
        size: number of dev speakers.
    """
    whole = counts.sum(axis=0)
    train, dev = (inside == whole).sum(axis=1), (inside == 0).sum(axis=1)
    # two of a kind is a fault only where another choice exists, which the swaps find out
    imbalance = np.maximum(0, np.abs(women) - size % 2)
    totals, which = np.unique(inside.sum(axis=1), return_inverse=True)
    shares = [int(total) / int(whole.sum()) / (size / len(counts)) for total in totals]
    departure = np.array([round(max(0.0, abs(math.log2(share)) - 1.0), 6) for share in shares])[which]
    place = int(np.lexsort((departure, imbalance, dev, train))[0])
    return (int(train[place]), int(dev[place]), int(imbalance[place]), float(departure[place])), place


def speaker_genders(utterances: Sequence[Utterance]) -> dict[str, str | None]:
    """Return each speaker's gender, by majority where a corpus contradicts itself; None where unknown."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        votes[str(utterance.speaker)].update([utterance.gender] if utterance.gender else [])
    return {
        speaker: min(count, key=lambda gender: (-count[gender], gender)) if count else None
        for speaker, count in votes.items()
    }
