"""The check that every list of folds passes before anything is trained. Source: own design."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from repkit.api import Fold, Utterance
from repkit.errors import DataError, SpeakerLeakError

FEWEST_NAMESAKES = 3
"""So many speakers of a corpus, and all of them, must have namesakes in another one before it is said. Source: own design."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a reader of the scores must know about the folds.

    Attributes:
        flags: one sentence each, in a fixed order; empty when there is nothing to say.
    """

    flags: tuple[str, ...] = ()


def audit_folds(
    folds: Sequence[Fold],
    utterances: Iterable[Utterance],
    *,
    encoder_speakers: Iterable[str] | Mapping[str, Iterable[str]] = (),
    transductive: Iterable[str] = (),
    allow_dev_overlap: bool = False,
    labels: Mapping[str, str | None] | None = None,
    audio_hashes: Mapping[str, str] | None = None,
) -> Audit:
    """Refuse folds whose speakers leak; list all else that bears on the scores.

    Args:
        folds: the folds of one protocol.
        utterances: the utterances of the experiment.
        encoder_speakers: speakers that stage one has heard, all together or by condition.
        transductive: names of the steps that use the test speakers' unlabelled audio, for example
            ``"normalisation per_speaker"``.
        allow_dev_overlap: let train and dev share speakers (``dev = "utterances"``); flagged.
        labels: class of each id; by default the utterance's emotion.
        audio_hashes: hash of each id's audio, to find copies.

    Returns:
        the flags.

    Raises:
        SpeakerLeakError: test shares a speaker with train or dev, or dev with train without `allow_dev_overlap`.
        DataError: no fold, an id that is no utterance, an empty train or test part, or a speaker missing.
    """
    known = {utterance.id: utterance for utterance in utterances}
    _check_parts(folds, known)
    flags = _speaker_flags(folds, known, allow_dev_overlap)
    flags += _repeat_flags(folds, known)
    classes = labels if labels is not None else {i: utterance.emotion for i, utterance in known.items()}
    flags += _class_flags(folds, classes)
    flags += _overlap_flags(folds, known)
    flags += _same_name_flags(known)
    if not isinstance(encoder_speakers, Mapping):
        encoder_speakers = {"": encoder_speakers}
    tested = {str(known[i].speaker) for fold in folds for i in fold.test}
    for condition, speakers in encoder_speakers.items():
        heard = sorted(tested & set(speakers))
        if heard:
            name = f"condition {condition}: the encoder" if condition else "the encoder"
            flags.append(
                f"{name} has heard {len(heard)} of {len(tested)} test speakers without labels in its own training "
                f"({_some(heard)})"
            )
    flags += [f"transductive: {step} uses unlabelled audio of the test speakers" for step in transductive]
    flags += _unlabelled_flags(folds, known)
    flags += _copy_flags(folds, audio_hashes or {})
    return Audit(flags=tuple(flags))


def listed_folds(found: Iterable[Any]) -> list[Fold]:
    """Return what a protocol gives as a list of folds; called where a protocol is blamed for what it raises.

    Raises:
        TypeError: something else than a fold among them.
        ValueError: an id twice in a dev or test part, whose predictions could not be told apart.
    """
    folds = list(found)
    for fold in folds:
        if not isinstance(fold, Fold):
            raise TypeError(f"a {type(fold).__name__} among the folds; repkit.api.Fold was expected")
        for part, ids in _parts(fold, "dev", "test"):
            twice = next((i for i, n in Counter(ids).items() if n > 1), None)
            if twice is not None:
                raise ValueError(f"fold {fold.name!r}, {part} part: {twice!r} stands twice; every id once was expected")
    return folds


def unknown_speaker_flags(condition: str, sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say that an encoder has heard speakers whom nobody knows, and who may be those under test.

    Args:
        condition: its name.
        sources: provenance of its embeddings; each of ``corpora`` may give a number of ``utterances_of_unknown_speakers``. One
            that lists neither ``speakers`` nor an empty ``corpora`` does not say whom it has heard.
    """
    sources = [part for source in sources for part in joined_parts(source)]
    silent = {str(source.get("name") or source.get("encoder") or "unnamed") for source in sources if not _tells(source)}
    flags = []
    if silent:
        flags.append(
            f"condition {condition}: its embeddings do not say whom their encoder has heard ({_some(sorted(silent))}): the test "
            "speakers may be among them"
        )
    named = [c for source in sources for c in source.get("corpora") or () if isinstance(c, Mapping)]
    unknown = {c.get("name"): n for c in named if (n := c.get("utterances_of_unknown_speakers"))}
    if unknown:
        listed = ", ".join(f"{n} of corpus {name}" for name, n in unknown.items())
        flags.append(
            f"condition {condition}: the encoder may have heard test speakers in its own training (utterances of unknown "
            f"speakers: {listed})"
        )
    return flags


def joined_parts(source: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the provenance of each of the embeddings that are joined, or the one."""
    return [part["source"] for part in source["parts"]] if source.get("encoder") == "joined" else [source]


def single_class_flags(utterances: Iterable[Utterance], labels: Mapping[str, str | None]) -> list[str]:
    """Say that speakers have one class only, so that what is standardised by speaker has lost it with the speaker's mean.

    Args:
        utterances: of the experiment; those without a speaker or a class do not count.
        labels: class of each id.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        label = labels.get(utterance.id)
        if utterance.speaker and label is not None:
            classes[utterance.speaker].add(label)
    single = sorted(speaker for speaker, found in classes.items() if len(found) == 1)
    if not single:
        return []
    return [
        f"{len(single)} of {len(classes)} speakers have a single class ({_some(single)}): statistics by speaker take the class away"
    ]


def _tells(source: Mapping[str, Any]) -> bool:
    """Whether a provenance says which speakers its training has heard."""
    return isinstance(source.get("speakers"), list | tuple) or source.get("corpora") == []


def fits_a_folder(name: str) -> bool:
    """Whether a fold of this name can have a folder for its job."""
    return name.strip() == name and name.isprintable() and not set(name) & {"/", "\\"} and name not in ("", ".", "..")


def _check_parts(folds: Sequence[Fold], known: Mapping[str, Utterance]) -> None:
    if not folds:
        raise DataError("audit: no fold; expected at least one; check the protocol")
    names = Counter(fold.name for fold in folds)
    if max(names.values()) > 1:
        name = next(name for name, n in names.items() if n > 1)
        raise DataError(f"audit: {names[name]} folds are named {name!r}; expected unique names; rename them")
    for fold in folds:
        if not fits_a_folder(fold.name):
            raise DataError(
                f"audit: fold {fold.name!r}: its name cannot be that of a folder; one without slashes, not empty, and not . or "
                ".. was expected; rename it"
            )
        for part, ids in (("train", fold.train), ("test", fold.test)):
            if not ids:
                raise DataError(
                    f"fold {fold.name!r}: the {part} part is empty; expected at least one utterance; check the protocol"
                )
        for part, ids in _parts(fold, "train", "dev", "test", "unlabelled"):
            for i in ids:
                if i not in known:
                    raise DataError(
                        f"fold {fold.name!r}, {part} part: {i!r} is no utterance of the corpora; expected one of "
                        f"{len(known)} ids; make the folds from the same corpora"
                    )
                if part != "unlabelled" and not known[i].speaker:
                    raise DataError(
                        f"fold {fold.name!r}, {part} part: utterance {i!r} has no speaker; expected one, because "
                        "speaker-disjoint parts cannot be shown without; fill the speaker column or leave it out"
                    )


def _speaker_flags(folds: Sequence[Fold], known: Mapping[str, Utterance], allow_dev_overlap: bool) -> list[str]:
    leaks: list[str] = []
    dev_shared: dict[str, set[str]] = {}
    for fold in folds:
        speakers = {part: {str(known[i].speaker) for i in ids} for part, ids in _parts(fold, "train", "dev", "test")}
        for one, other in (("train", "test"), ("dev", "test"), ("train", "dev")):
            shared = speakers[one] & speakers[other]
            if shared and (one, other) == ("train", "dev") and allow_dev_overlap:
                dev_shared[fold.name] = shared
            elif shared:
                leaks.append(f"fold {fold.name!r}: {_some(sorted(shared), 10)} in {one} and in {other}")
    if leaks:
        raise SpeakerLeakError(
            f"folds: the same speakers stand in two parts, first {leaks[0]}; expected speaker-disjoint train, dev and "
            "test; correct the split, or for train and dev alone choose --set protocol.dev=utterances knowingly",
            leaks[:20],
        )
    if not dev_shared:
        return []
    n = len(set().union(*dev_shared.values()))
    return [
        f"dev is not speaker-disjoint from train ({n} shared speakers, {len(dev_shared)} of {len(folds)} folds): "
        "the epoch is chosen on speakers that were trained on"
    ]


def _repeat_flags(folds: Sequence[Fold], known: Mapping[str, Utterance]) -> list[str]:
    flags = []
    for part in ("train", "dev", "test"):
        repeated = {i: fold.name for fold in folds for i, n in Counter(dict(_parts(fold, part))[part]).items() if n > 1}
        if repeated:
            i, name = next(iter(repeated.items()))
            flags.append(f"{len(repeated)} utterances stand twice in a {part} part (first {i} in fold {name})")
    tested = Counter(i for fold in folds for i in set(fold.test))
    again = sorted(i for i, n in tested.items() if n > 1)
    if again:
        flags.append(
            f"{len(again)} utterances are tested in several folds ({_some(again)}): pooled scores count each time"
        )
    never = len(known) - len(tested)
    if never:
        flags.append(f"{never} of {len(known)} utterances are never tested: the scores cover {len(tested)} utterances")
    placed = {i for fold in folds for _, ids in _parts(fold, "train", "dev", "test", "unlabelled") for i in ids}
    nowhere = [i for i in known if i not in placed]
    if nowhere:
        flags.append(
            f"{len(nowhere)} of {len(known)} utterances are in no part of any fold ({_some(nowhere)}): nothing is trained or "
            "tested on them"
        )
    no_dev = [fold.name for fold in folds if not fold.dev]
    if no_dev:
        flags.append(f"no dev part in {len(no_dev)} of {len(folds)} folds: nothing is chosen on dev there")
    return flags


def _class_flags(folds: Sequence[Fold], labels: Mapping[str, str | None]) -> list[str]:
    ids = {i for fold in folds for _, part in _parts(fold, "train", "dev", "test") for i in part}
    classes = sorted({label for i in ids if (label := labels.get(i)) is not None})
    absent: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fold in folds:
        for part, members in _parts(fold, "train", "dev", "test"):
            present = {labels.get(i) for i in members}
            for name in classes:
                if members and name not in present:
                    absent[part, name].append(fold.name)
    meaning = {
        "train": "the model cannot learn it there",
        "dev": "the epoch is chosen without it",
        "test": "a fold's UAR averages the classes present",
    }
    return [
        f"class {name} is absent from the {part} part of {len(names)} of {len(folds)} folds ({_some(names)}): "
        f"{meaning[part]}"
        for (part, name), names in sorted(absent.items(), key=lambda item: (item[0][0] != "train", item[0]))
    ]


def _overlap_flags(folds: Sequence[Fold], known: Mapping[str, Utterance]) -> list[str]:
    """Say where test shares sessions or sentences with train, and where several test speakers have one gender."""

    def overlap(key: Callable[[Utterance], str | None]) -> tuple[int, int]:
        n_shared = n_known = 0
        for fold in folds:
            trained = {key(known[i]) for i in fold.train} - {None}
            values = [value for i in fold.test if (value := key(known[i])) is not None]
            n_known += len(values)
            n_shared += sum(value in trained for value in values)
        return n_shared, n_known

    tested = sum(len(fold.test) for fold in folds)

    def of_known(n: int, what: str) -> str:
        return f"{n} test utterances" if n == tested else f"the {n} test utterances whose {what} is known (of {tested})"

    flags = []
    shared, total = overlap(lambda utterance: utterance.session)
    if shared:
        flags.append(
            f"{shared} of {of_known(total, 'session')} come from a session that is also in train (other speakers)"
        )
    shared, total = overlap(lambda u: f"{u.corpus}/{u.text.strip().lower()}" if u.text else None)
    if shared:
        flags.append(f"{shared} of {of_known(total, 'sentence')} say a sentence that is also in train (other speakers)")
    one_gender = [
        fold.name
        for fold in folds
        if len({known[i].speaker for i in fold.test}) > 1
        and len({known[i].gender for i in fold.test}) == 1
        and known[fold.test[0]].gender is not None
        and len({known[i].gender for i in (*fold.train, *fold.test)} - {None}) > 1
    ]
    if one_gender:
        flags.append(
            f"{len(one_gender)} of {len(folds)} folds test several speakers of one gender only ({_some(one_gender)})"
        )
    return flags


def _same_name_flags(known: Mapping[str, Utterance]) -> list[str]:
    """Say where all speakers of a corpus have namesakes in another one: they may be the same people, and count as others.

    Numbers say nothing, for most corpora number their speakers. Source: own design.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for utterance in known.values():
        if utterance.speaker:
            names[utterance.corpus].add(utterance.speaker.removeprefix(f"{utterance.corpus}/"))
    flags = []
    for pair in combinations(sorted(names), 2):
        small, large = sorted(pair, key=lambda corpus: len(names[corpus]))
        lower = {name.lower() for name in names[large]}
        alike = all(name.lower() in lower and not name.isdigit() for name in names[small])
        if alike and len(names[small]) >= FEWEST_NAMESAKES:
            flags.append(
                f"all {len(names[small])} speakers of corpus {small} have namesakes in corpus {large} "
                f"({_some(sorted(names[small]))}), who count as other people: recordings of the same people belong into one corpus"
            )
    return flags


def _unlabelled_flags(folds: Sequence[Fold], known: Mapping[str, Utterance]) -> list[str]:
    heard = [
        fold.name
        for fold in folds
        if {known[i].speaker for i in fold.unlabelled} & {known[i].speaker for i in fold.test}
    ]
    if not heard:
        return []
    return [
        f"transductive: training hears unlabelled audio of test speakers in {len(heard)} of {len(folds)} folds "
        f"({_some(heard)})"
    ]


def _copy_flags(folds: Sequence[Fold], audio_hashes: Mapping[str, str]) -> list[str]:
    if not audio_hashes:
        return []
    ids_of: dict[str, list[str]] = defaultdict(list)
    for i in sorted({i for fold in folds for _, part in _parts(fold, "train", "dev", "test") for i in part}):
        if i in audio_hashes:
            ids_of[audio_hashes[i]].append(i)
    copies = [ids for ids in ids_of.values() if len(ids) > 1]
    if not copies:
        return []
    crossing = 0
    for fold in folds:
        part_of = {i: part for part, ids in _parts(fold, "train", "dev", "test") for i in ids}
        crossing += sum(
            "test" in {part_of.get(one), part_of.get(other)} and part_of.get(one) != part_of.get(other)
            for ids in copies
            for one, other in combinations(ids, 2)
            if one in part_of and other in part_of
        )
    first = " = ".join(copies[0][:3])
    return [
        f"{len(copies)} sounds stand under several ids (first {first}); {crossing} such pairs cross into a test part"
    ]


def _parts(fold: Fold, *names: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, getattr(fold, name)) for name in names]


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
