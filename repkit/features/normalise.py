"""Zero mean and unit variance per band, by statistics of whom: nobody, the utterance, train, the speaker, the corpus.

Per speaker and per corpus use the (unlabelled) test utterances too: they are transductive, and results say so.
Speaker normalisation as in Parry et al. 2019 and Keesing et al. 2020 (see our sheets); the fall-back is our own design.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from repkit.api import Utterance
from repkit.errors import DataError, UsageError, did_you_mean
from repkit.features.ragged import Ragged

MODES = ("none", "per_utterance", "global_train", "per_speaker", "per_corpus")
TRANSDUCTIVE = ("per_speaker", "per_corpus")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and standard deviation of every band.

    Attributes:
        mean: (F,) float64.
        std: (F,) float64, population; 1 where a band is constant.
    """

    mean: np.ndarray
    std: np.ndarray

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """Return (frames - mean) / std, float32."""
        return ((frames - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Fitted by `fit_normaliser`.

    Attributes:
        mode: one of `MODES`.
        transductive: whether statistics of test utterances are used.
        notes: sentences for the report, such as who fell back to the corpus' statistics.
        groups: statistics by group: ``"train"``, a speaker, or ``"corpus <name>"``.
        group_of: group of each utterance, for modes with several groups.
    """

    mode: str
    transductive: bool
    notes: tuple[str, ...] = ()
    groups: Mapping[str, Statistics] = field(default_factory=dict)
    group_of: Mapping[str, str] = field(default_factory=dict)

    def statistics(self, id: str) -> Statistics | None:
        """Return what an utterance is normalised by; None when that depends on itself only or nothing is done.

        Raises:
            DataError: an utterance that was not there when the statistics were fitted.
        """
        if self.mode in ("none", "per_utterance"):
            return None
        if self.mode == "global_train":
            return self.groups["train"]
        if id not in self.group_of:
            raise DataError(
                f"normalisation {self.mode}: utterance {id!r} was not among those the statistics come from; "
                "fit on all utterances that are used"
            )
        return self.groups[self.group_of[id]]

    def normalise(self, id: str, frames: np.ndarray) -> np.ndarray:
        """Return the (T, F) frames of one utterance normalised, float32."""
        if self.mode == "none":
            return np.asarray(frames, np.float32)
        if self.mode == "per_utterance":
            shift = frames[:1].mean(0, dtype=np.float64)
            return _statistics(*_sums(frames, shift), shift).apply(frames)
        statistics = self.statistics(id)
        return statistics.apply(frames) if statistics is not None else np.asarray(frames, np.float32)

    def apply(self, frames: Ragged, ids: Iterable[str] | None = None) -> Ragged:
        """Return these utterances (all when None) normalised, a copy.

        Raises:
            DataError: an utterance without frames or unknown when fitted.
        """
        taken = frames.take(frames.ids if ids is None else ids)
        values = np.empty(taken.values.shape, np.float32)
        for row, id in enumerate(taken.ids):
            values[taken.offsets[row] : taken.offsets[row + 1]] = self.normalise(id, taken.at(row))
        return Ragged(values, taken.offsets, taken.ids)

    def describe(self) -> dict[str, object]:
        """Return mode, transductive flag and notes as JSON values, for the protocol and the report."""
        return {"mode": self.mode, "transductive": self.transductive, "notes": list(self.notes)}


def fit_normaliser(
    mode: str,
    frames: Ragged,
    utterances: Sequence[Utterance],
    train_ids: Iterable[str],
    min_clips: int = 10,
) -> Normaliser:
    """Fit statistics in float64: over frames for sequences, over utterances for vectors (`Ragged.from_vectors`).

    Args:
        mode: ``"none"``; ``"per_utterance"``: by its own frames; ``"global_train"``: by all of train;
            ``"per_speaker"``: by all utterances of the speaker in `frames`, test ones too; ``"per_corpus"``: by all
            utterances of the corpus in `frames`, test ones too.
        frames: all utterances that are used.
        utterances: at least those; tells speaker and corpus.
        train_ids: ids to learn from.
        min_clips: speakers with fewer utterances, and utterances without a speaker, get the statistics of their
            corpus (per_speaker only); `Normaliser.notes` states how many.

    Raises:
        UsageError: an unknown mode, per_utterance on vectors, or min_clips below 1.
        DataError: nothing to fit on, or utterances unknown.
    """
    if mode not in MODES:
        raise UsageError(f"normalisation: {mode!r}; one of {', '.join(MODES)} was expected{did_you_mean(mode, MODES)}")
    if min_clips < 1:
        raise UsageError(f"normalisation: min_clips {min_clips}; at least 1 was expected; the default is 10")
    if mode == "none":
        return Normaliser(mode, False)
    if mode == "per_utterance":
        if len(frames) and bool((frames.lengths == 1).all()):
            raise UsageError(
                "normalisation: per_utterance on one vector per utterance leaves zeros only; frames were expected; "
                "choose global_train"
            )
        return Normaliser(mode, False)
    if mode == "global_train":
        train = tuple(dict.fromkeys(train_ids))
        if not train:
            raise DataError(
                "normalisation global_train: no train utterance; at least one was expected; check the folds"
            )
        return Normaliser(mode, False, groups={"train": _fit(frames, {"train": train})["train"]})
    return _fit_groups(mode, frames, utterances, min_clips)


def _fit_groups(mode: str, frames: Ragged, utterances: Sequence[Utterance], min_clips: int) -> Normaliser:
    known = {utterance.id: utterance for utterance in utterances}
    unknown = [id for id in frames.ids if id not in known]
    if unknown:
        raise DataError(
            f"normalisation {mode}: {len(unknown)} utterances have frames but no entry in the corpus (first: "
            f"{unknown[0]!r}); speaker and corpus of each were expected; pass the utterances the frames were made of"
        )
    group_of = {id: f"corpus {known[id].corpus}" for id in frames.ids}
    members: dict[str, list[str]] = {}
    for id, group in group_of.items():
        members.setdefault(group, []).append(id)
    notes: tuple[str, ...] = ()
    if mode == "per_speaker":
        by_speaker: dict[str, list[str]] = {}
        for id in frames.ids:
            speaker = known[id].speaker
            if speaker is not None:
                by_speaker.setdefault(speaker, []).append(id)
        large = {speaker: ids for speaker, ids in by_speaker.items() if len(ids) >= min_clips}
        group_of.update((id, speaker) for speaker, ids in large.items() for id in ids)
        notes = _fall_back_notes(frames, by_speaker, large, min_clips)
        members.update(large)
    used = set(group_of.values())
    groups = _fit(frames, {group: tuple(ids) for group, ids in members.items() if group in used})
    return Normaliser(mode, True, notes, groups, group_of)


def _fall_back_notes(
    frames: Ragged, by_speaker: Mapping[str, list[str]], large: Mapping[str, list[str]], min_clips: int
) -> tuple[str, ...]:
    notes = []
    small = {speaker: len(ids) for speaker, ids in sorted(by_speaker.items()) if speaker not in large}
    if small:
        shown = ", ".join(f"{speaker} {n}" for speaker, n in list(small.items())[:10])
        more = f" and {len(small) - 10} more" if len(small) > 10 else ""
        notes.append(
            f"per_speaker: {len(small)} of {len(by_speaker)} speakers have fewer than {min_clips} clips "
            f"({shown}{more}); their {sum(small.values())} utterances use the statistics of their corpus"
        )
    nobody = len(frames) - sum(map(len, by_speaker.values()))
    if nobody:
        notes.append(f"per_speaker: {nobody} utterances without a speaker use the statistics of their corpus")
    return tuple(notes)


def _fit(frames: Ragged, members: Mapping[str, Sequence[str]]) -> dict[str, Statistics]:
    # sums around a value near the data, so that small deviations from a large mean keep their digits
    shift = frames.values[: 1 << 14].mean(0, dtype=np.float64) if len(frames.values) else np.zeros(frames.dim)
    result = {}
    for group, ids in members.items():
        count, total, squares = 0, np.zeros(frames.dim), np.zeros(frames.dim)
        for id in ids:
            n, part, part_squares = _sums(frames[id], shift)
            count, total, squares = count + n, total + part, squares + part_squares
        result[group] = _statistics(count, total, squares, shift)
    return result


def _sums(frames: np.ndarray, shift: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    centred = frames.astype(np.float64) - shift
    return len(frames), centred.sum(0), np.square(centred).sum(0)


def _statistics(count: int, total: np.ndarray, squares: np.ndarray, shift: np.ndarray) -> Statistics:
    mean = total / count
    std = np.sqrt(np.maximum(0.0, squares / count - np.square(mean)))
    # a constant band stays constant instead of being blown up by its rounding errors
    constant = std <= 1e-7 * np.abs(mean + shift) + 1e-12
    return Statistics(mean + shift, np.where(constant, 1.0, std))
