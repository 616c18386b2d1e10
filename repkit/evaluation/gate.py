"""The gate: whether stage one may be said to help.

It may where *functionals + trained* beats *functionals + untrained* with the whole 95 % interval of the difference in pooled
UAR above zero, under train and under per-speaker normalisation. Functionals stand on both sides because they cost nothing,
the untrained encoder because it has the same architecture and size: what is left is what training has taught. Both
normalisations, because each alone flatters somebody: per-speaker statistics use the test speaker's other utterances and
hide what an encoder knows of speakers, train statistics leave it in. Source: own design.

The difference is paired over folds, seeds and utterances. Several encoders that differ in the seed of their training
(members) stand for one: their hits are averaged, which is the mean of their UAR, because all have predicted the same
utterances. The interval draws speakers within corpora and gives every corpus the same weight
(`repkit.evaluation.intervals`), and is then widened, because a bootstrap over few speakers is too narrow
(`repkit.evaluation.intervals.widened`); the
spread over members is told beside it and is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.differences import FEWEST_SPEAKERS
from repkit.evaluation.intervals import (
    FEW_SPEAKERS,
    N_RESAMPLES,
    Interval,
    SpeakerCounts,
    bootstrap_difference,
    bootstrap_mean_difference,
    count_by_speaker,
    score,
    sign_flip_test,
    speaker_differences,
    widened,
)

if TYPE_CHECKING:
    import pandas as pd

MODES = ("train", "per_speaker")
"""Whose statistics standardise the vectors: the gate asks for both."""
TRAINED, UNTRAINED, FUNCTIONALS = "trained", "untrained", "functionals"
BOTH_TRAINED, BOTH_UNTRAINED = "functionals + trained", "functionals + untrained"
SYSTEMS = (FUNCTIONALS, UNTRAINED, TRAINED, BOTH_UNTRAINED, BOTH_TRAINED)
THE_PAIR = (BOTH_TRAINED, BOTH_UNTRAINED)
PAIRS = (THE_PAIR, (TRAINED, UNTRAINED), (TRAINED, FUNCTIONALS), (BOTH_TRAINED, FUNCTIONALS))
"""Differences that are told, first minus second; the gate reads the first alone."""
COLUMNS = ("normalisation", "corpus", "system", "member", "seed", "fold", "id", "speaker", "label", "prediction")

Verdict = Literal["passed", "not passed", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference in pooled UAR, the mean over corpora, under one normalisation.

    Attributes:
        first: system.
        second: system that is taken off.
        normalisation: one of the table's.
        interval: the value as a share from 0 to 1, with its 95 % interval over speakers.
        p: two-sided, by tossing the signs of all speakers' shares.
        corpora: the same of each corpus alone.
        lowest: of the differences between single members; None where each has one.
        highest: of the same.
        n_members: members of the first and of the second.
        n_utterances: predicted by all of both.
        n_unpaired: predicted by some only, and left out.
    """

    first: str
    second: str
    normalisation: str
    interval: Interval
    p: float
    corpora: Mapping[str, Interval]
    lowest: float | None
    highest: float | None
    n_members: tuple[int, int]
    n_utterances: int
    n_unpaired: int


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate says.

    Attributes:
        verdict: ``passed``, ``not passed`` or ``cannot be told``.
        reasons: sentences: the numbers the verdict rests on, or what is missing.
        differences: all of `PAIRS` that can be measured, per normalisation.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...] = field(default=())


def judge(table: pd.DataFrame, *, corpora: Sequence[str] = (), n_resamples: int = N_RESAMPLES) -> Gate:
    """Return what predictions on test utterances allow to say about one trained encoder.

    Args:
        table: `COLUMNS`: one row per prediction. ``system``: of `SYSTEMS`; ``member``: the encoder's store, several where
            trainings that differ in their seed stand for one; ``seed``: of the classifier. All rows have a label.
        corpora: that nothing can be told without, besides those of the table.
        n_resamples: of the bootstrap.

    Raises:
        DataError: a column is missing, or an utterance has two labels or speakers.
    """
    _check(table)
    differences = []
    for mode in dict.fromkeys([*MODES, *table["normalisation"].unique()]):
        rows = table[table["normalisation"] == mode]
        for first, second in PAIRS:
            found = _difference(rows, first, second, str(mode), n_resamples)
            differences += [found] if found is not None else []
    lacking = _lacking(table, differences, corpora)
    if lacking:
        return Gate("cannot be told", tuple(lacking), tuple(differences))
    decisive = [one for one in differences if (one.first, one.second) == THE_PAIR and one.normalisation in MODES]
    above = all(one.interval.low is not None and one.interval.low > 0 for one in decisive)
    told = tuple(_sentence(one) for one in decisive)
    return Gate("passed" if above else "not passed", told, tuple(differences))


def member_counts(rows: pd.DataFrame, classes: Sequence[str]) -> list[SpeakerCounts]:
    """Return the counts (1, S, C) of each member of a system on one corpus, in the order of their names; seeds averaged.

    Pooled UAR is linear in the hits, so that the score of averaged hits is the mean of the seeds' scores.

    Args:
        rows: member, seed, speaker, label, prediction; the same utterances for every member and seed.
        classes: C classes.

    Raises:
        DataError: members or seeds that have predicted other utterances.
    """
    speakers = sorted(rows["speaker"].unique())
    found = []
    for _, part in rows.groupby("member", sort=True):
        columns = (part[c].tolist() for c in ("seed", "speaker", "label", "prediction"))
        counts = count_by_speaker(*columns, classes, speakers)
        totals = found[0].totals[0] if found else counts.totals[0]
        if any(not np.array_equal(one, totals) for one in counts.totals):
            raise DataError(
                "gate: members or seeds of one system have predicted different utterances; the same were expected; "
                "finish the runs, or compare what all have predicted"
            )
        found.append(SpeakerCounts(tuple(speakers), counts.hits.mean(axis=0, keepdims=True), counts.totals[:1]))
    return found


def average(members: Sequence[SpeakerCounts]) -> SpeakerCounts:
    """Return the counts of a system from those of its members: hits averaged, which averages their UAR."""
    return SpeakerCounts(members[0].speakers, np.mean([one.hits for one in members], axis=0), members[0].totals)


def shared_rows(tables: Sequence[pd.DataFrame]) -> tuple[list[pd.DataFrame], int]:
    """Return the rows on folds and utterances that every member and seed of all tables has predicted, and how many were not.

    Args:
        tables: of each system: member, seed, fold, id and more.
    """
    import pandas as pd

    some = pd.concat([rows.assign(table=place) for place, rows in enumerate(tables)])
    n_wanted = len(some.drop_duplicates(["table", "member", "seed"]))
    found = some.groupby(["fold", "id"], sort=False)["member"].transform("size")
    kept = some[found == n_wanted]
    n_all = len(some.drop_duplicates(["fold", "id"]))
    n_kept = len(kept.drop_duplicates(["fold", "id"]))
    return [kept[kept["table"] == place] for place in range(len(tables))], n_all - n_kept


def _difference(rows: pd.DataFrame, first: str, second: str, mode: str, n_resamples: int) -> Difference | None:
    """Return the difference over the corpora that both systems have; None where there is none."""
    pairs: dict[str, tuple[SpeakerCounts, SpeakerCounts]] = {}
    members: dict[str, Sequence[np.ndarray]] = {}
    n_utterances = n_unpaired = 0
    n_members = (0, 0)
    for corpus, part in rows.groupby("corpus", sort=True):
        systems = [part[part["system"] == name] for name in (first, second)]
        if any(one.empty for one in systems):
            continue
        both, unpaired = shared_rows(systems)
        n_unpaired += unpaired
        if both[0].empty:
            continue
        classes = sorted(both[0]["label"].unique())
        each = [member_counts(some, classes) for some in both]
        pairs[str(corpus)] = average(each[0]), average(each[1])
        members[str(corpus)] = [np.array([score(one) for one in some]) for some in each]
        n_members = len(each[0]), len(each[1])
        n_utterances += both[0]["id"].nunique()
    if not pairs:
        return None
    sizes = [len(one.speakers) for one, _ in pairs.values()]
    interval = widened(bootstrap_mean_difference(list(pairs.values()), n_resamples=n_resamples), sizes)
    shares = np.concatenate([speaker_differences(*pair) / len(pairs) for pair in pairs.values()])
    lowest = highest = None
    if max(n_members) > 1 and len({tuple(map(len, alone)) for alone in members.values()}) == 1:
        means = [np.mean([alone[side] for alone in members.values()], axis=0) for side in (0, 1)]
        every = np.subtract.outer(*means)
        lowest, highest = float(every.min()), float(every.max())
    return Difference(
        first=first,
        second=second,
        normalisation=mode,
        interval=interval,
        p=sign_flip_test(shares),
        corpora={
            name: widened(bootstrap_difference(*pair, n_resamples=n_resamples), [len(pair[0].speakers)])
            for name, pair in pairs.items()
        },
        lowest=lowest,
        highest=highest,
        n_members=n_members,
        n_utterances=n_utterances,
        n_unpaired=n_unpaired,
    )


def _lacking(table: pd.DataFrame, differences: Sequence[Difference], corpora: Sequence[str]) -> list[str]:
    """Return why nothing can be told; empty where something can."""
    found = []
    by_mode = {one.normalisation: one for one in differences if (one.first, one.second) == THE_PAIR}
    known = {*corpora, *table["corpus"].unique()}
    for mode in MODES:
        rows = table[table["normalisation"] == mode]
        if rows.empty:
            found.append(f"nothing was measured under {_words(mode)} normalisation: the gate needs both")
            continue
        absent = [name for name in THE_PAIR if name not in set(rows["system"])]
        if absent:
            found.append(f"[{'] and ['.join(absent)}] not measured under {_words(mode)} normalisation")
            continue
        lacking = sorted(known - set(by_mode[mode].corpora)) if mode in by_mode else sorted(known)
        if lacking:
            found.append(
                f"no utterance of {', '.join(lacking)} was predicted by both systems under {_words(mode)} normalisation"
            )
        elif lost := _lost_members(table, mode, sorted(known)):
            found += lost
        elif by_mode[mode].n_unpaired:
            found.append(
                f"{by_mode[mode].n_unpaired} utterances under {_words(mode)} normalisation were not predicted by all "
                "encoders and seeds: a run is not finished"
            )
    if not found:
        sizes = {name: one.n_speakers for name, one in by_mode[MODES[0]].corpora.items()}
        few = [f"{name} {n}" for name, n in sizes.items() if n < FEWEST_SPEAKERS]
        if few:
            found.append(
                f"too few speakers ({', '.join(few)}): each corpus needs {FEWEST_SPEAKERS}, with fewer no interval over "
                "speakers can be trusted"
            )
        elif sum(sizes.values()) < FEW_SPEAKERS:
            found.append(
                f"too few speakers: {sum(sizes.values())} in all, {FEW_SPEAKERS} are needed for an interval to be trusted"
            )
    return found


def _lost_members(table: pd.DataFrame, mode: str, corpora: Sequence[str]) -> list[str]:
    """Return which encoders one corpus lacks under a normalisation: the mean over corpora would be of different encoders."""
    pair = table[table["system"].isin(THE_PAIR) & table["normalisation"].isin(MODES)]
    rows = pair[pair["normalisation"] == mode]
    there = set(zip(rows["system"], rows["member"], rows["corpus"], strict=True))
    wanted = sorted(set(zip(pair["system"], pair["member"], strict=True)))
    return [
        f"encoder {member} has no predictions on {corpus} as [{system}] under {_words(mode)} normalisation"
        for system, member in wanted
        for corpus in corpora
        if (system, member, corpus) not in there
    ]


def _sentence(one: Difference) -> str:
    low, high = one.interval.low or 0.0, one.interval.high or 0.0
    where = "above" if low > 0 else "below" if high < 0 else "not above"
    return (
        f"under {_words(one.normalisation)} normalisation [{one.first}] - [{one.second}] is {100 * one.interval.value:+.1f} "
        f"points of UAR, 95 % interval [{100 * low:+.1f}, {100 * high:+.1f}]: {where} zero"
    )


def _words(mode: str) -> str:
    return mode.replace("_", "-")


def _check(table: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"gate: columns {', '.join(missing)} missing; expected {', '.join(COLUMNS)}; add them")
    strange = sorted(set(table["system"].unique()) - set(SYSTEMS))
    if strange:
        raise DataError(f"gate: system {strange[0]!r}; one of {', '.join(SYSTEMS)} was expected")
    if table[["speaker", "label"]].isna().to_numpy().any():
        raise DataError("gate: rows without speaker or label; both were expected; leave out what is not labelled")
    known = table[["corpus", "id", "speaker", "label"]].drop_duplicates()
    if known.duplicated(["corpus", "id"]).any():
        name = known[known.duplicated(["corpus", "id"])]["id"].iloc[0]
        raise DataError(
            f"gate: utterance {name!r} has two labels or speakers; one was expected; use one version of a corpus"
        )
    twice = table.duplicated(["normalisation", "corpus", "system", "member", "seed", "fold", "id"])
    if twice.any():
        raise DataError(f"gate: utterance {table[twice]['id'].iloc[0]!r} is predicted twice; one row each was expected")


__all__ = [
    "COLUMNS",
    "MODES",
    "PAIRS",
    "SYSTEMS",
    "Difference",
    "Gate",
    "average",
    "judge",
    "member_counts",
    "shared_rows",
]
