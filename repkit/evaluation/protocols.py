"""Rules that make folds; every one keeps the test speakers out of train and dev.

All are deterministic and independent of the order of the utterances: folds are sorted by name, ids inside them too, and
random choices come from hashes of names, not from a library's generator. None of them imports torch.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from repkit.api import Fold, Utterance
from repkit.api.splits import DevConfig, check_utterances, hash_key, speaker_genders, split_dev
from repkit.errors import DataError, did_you_mean


class _GroupProtocol:
    """One fold per group of utterances that is tested together."""

    Config: type[DevConfig] = DevConfig
    name = ""
    """As recipes write it; what messages say."""
    groups_are = "speaker"
    """What is tested together."""

    def __init__(self, config: DevConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Return one fold per group.

        Args:
            utterances: all utterances of the experiment, in any order.

        Returns:
            folds sorted by their groups, ids sorted.

        Raises:
            DataError: no utterance, an id twice, a speaker missing, or too few speakers.
        """
        ordered = check_utterances(utterances)
        groups = self.groups(ordered)
        if len(groups) < 2:
            raise DataError(self._too_few(ordered, groups))
        folds = []
        for index, (name, test) in enumerate(groups.items()):
            rest = [utterance for utterance in ordered if utterance.id not in test]
            train, dev = split_dev(rest, self.config, index, name)
            folds.append(Fold(name=name, train=train, dev=dev, test=tuple(sorted(test))))
        return folds

    def _too_few(self, utterances: Sequence[Utterance], groups: Mapping[str, frozenset[str]]) -> str:
        n_speakers = len({utterance.speaker for utterance in utterances})
        got = f"protocol {self.name}: 1 {self.groups_are} with usable labels ({', '.join(groups)})"
        if n_speakers == 1:
            return (
                f"{got}, and no other speaker; expected at least 2, because nobody is tested on a voice heard in training; "
                "no protocol can do it with this one speaker: add a corpus or speakers (3 or more, so that there is a dev "
                "speaker too)"
            )
        return (
            f"{got}; expected at least 2, so that one is left to train on; add corpora, or choose "
            f"--set protocol.name=leave_one_speaker_out ({n_speakers} speakers)"
        )

    def groups(self, utterances: Sequence[Utterance]) -> dict[str, frozenset[str]]:
        """Return the ids that are tested together, by fold name."""
        raise NotImplementedError


class LeaveOneSpeakerOut(_GroupProtocol):
    """One fold per speaker. Source: usual for Emo-DB; neumann2019 table 1 cites others by it."""

    name = "leave_one_speaker_out"

    class Config(DevConfig):
        """No settings but dev's."""

    def groups(self, utterances: Sequence[Utterance]) -> dict[str, frozenset[str]]:
        """Return each speaker's ids."""
        return _named_groups("speaker", _ids_by(utterances, {u.id: str(u.speaker) for u in utterances}))


class LeaveOneSpeakerGroupOut(_GroupProtocol):
    """One fold per speaker up to `max_speakers`, otherwise speaker groups of balanced size.

    Source: keesing2020 section 3 and its code: more than 12 speakers make 6 group folds by scikit-learn's
    ``GroupKFold``. Its rule (largest speaker first into the smallest fold) is written out here with a stable sort,
    because its own breaks ties between speakers of equal size by the machine's sorting routine.
    """

    name = "leave_one_speaker_group_out"

    class Config(DevConfig):
        """Settings.

        Attributes:
            n_groups: number of folds when there are more than `max_speakers` speakers.
            max_speakers: most speakers that get a fold each.
            gender_balanced: deal women and men out separately; the paper does not, and on RAVDESS, whose numbers
                alternate between genders, six folds may then test one gender each.
        """

        n_groups: int = Field(default=6, ge=2)
        max_speakers: int = Field(default=12, ge=1)
        gender_balanced: bool = False

    config: Config

    def groups(self, utterances: Sequence[Utterance]) -> dict[str, frozenset[str]]:
        """Return each speaker's ids, or each speaker group's."""
        by_speaker = _ids_by(utterances, {u.id: str(u.speaker) for u in utterances})
        if len(by_speaker) <= self.config.max_speakers:
            return _named_groups("speaker", by_speaker)
        n_groups = self.config.n_groups
        _require_speakers(self.name, len(by_speaker), n_groups, "n_groups")
        sizes = {speaker: len(ids) for speaker, ids in by_speaker.items()}
        genders = speaker_genders(utterances) if self.config.gender_balanced else {}
        group_of: dict[str, int] = {}
        loads = np.zeros(n_groups, dtype=np.int64)
        for kind in sorted({genders.get(speaker) or "" for speaker in sizes}):
            some = {speaker: n for speaker, n in sizes.items() if (genders.get(speaker) or "") == kind}
            group_of.update(_balanced(some, loads))
        return _numbered_groups(by_speaker, group_of, n_groups)


class LeaveOneSessionOut(_GroupProtocol):
    """One fold per recording session (IEMOCAP: 5, MSP-IMPROV: 6). Source: neumann2019 section 3."""

    name = "leave_one_session_out"
    groups_are = "session"

    class Config(DevConfig):
        """No settings but dev's."""

    def groups(self, utterances: Sequence[Utterance]) -> dict[str, frozenset[str]]:
        """Return each session's ids."""
        missing = [utterance.id for utterance in utterances if not utterance.session]
        if missing:
            missing_corpus = missing[0].split("/", 1)[0]
            raise DataError(
                f"utterance {missing[0]!r} (and {len(missing) - 1} more): no session; expected one for "
                f"leave_one_session_out; name the column with --corpus-set {missing_corpus}.columns.session=COLUMN, or choose "
                "--set protocol.name=leave_one_speaker_out"
            )
        return _named_groups("session", _ids_by(utterances, {u.id: str(u.session) for u in utterances}))


class SpeakerKFold(_GroupProtocol):
    """k folds of speakers, dealt at random within each gender. Source: own design."""

    name = "speaker_k_fold"

    class Config(DevConfig):
        """Settings.

        Attributes:
            k: number of folds.
        """

        k: int = Field(default=5, ge=2)

    config: Config

    def groups(self, utterances: Sequence[Utterance]) -> dict[str, frozenset[str]]:
        """Return the ids of each group of speakers."""
        by_speaker = _ids_by(utterances, {u.id: str(u.speaker) for u in utterances})
        _require_speakers(self.name, len(by_speaker), self.config.k, "k")
        genders = speaker_genders(utterances)
        dealt = sorted(by_speaker, key=lambda s: (genders[s] or "", hash_key(self.config.seed, s)))
        group_of = {speaker: place % self.config.k for place, speaker in enumerate(dealt)}
        return _numbered_groups(by_speaker, group_of, self.config.k)


class Fixed:
    """One fold given by lists of speakers or by a column of the corpus. Source: own design."""

    class Config(DevConfig):
        """Settings: either `column` or `test`, not both.

        Attributes:
            train: speakers to train on; empty means all that are in neither `dev` nor `test`.
            dev: how dev is taken from train when neither `dev_speakers` nor the column names a dev part.
            dev_speakers: dev speakers.
            test: test speakers.
            column: name of an extra column that says train, dev or test for each utterance.
            train_values: values of the column that mean train.
            dev_values: values of the column that mean dev.
            test_values: values of the column that mean test.
        """

        train: tuple[str, ...] = ()
        dev_speakers: tuple[str, ...] = ()
        test: tuple[str, ...] = ()
        column: str | None = None
        train_values: tuple[str, ...] = ("train", "training")
        dev_values: tuple[str, ...] = ("dev", "devel", "development", "valid", "validation", "val")
        test_values: tuple[str, ...] = ("test", "testing")

    covers = "some"

    def __init__(self, config: Config) -> None:
        self.config = config

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Return the one fold, named ``"fixed"``.

        Raises:
            DataError: a speaker or column that is not there, a speaker named twice, or an empty part.
        """
        ordered = check_utterances(utterances)
        if (self.config.column is None) == (not self.config.test):
            raise DataError(
                f"protocol fixed: {'neither column nor test is' if self.config.column is None else 'column and test are both'} "
                "set; expected one of them; give the column that says train, dev or test for each utterance (--set "
                "protocol.column=COLUMN), or the test speakers (--set 'protocol.test=[\"SPEAKER\"]')"
            )
        part_of = self._by_column(ordered) if self.config.column else self._by_speaker(ordered)
        parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
        for utterance in ordered:
            if utterance.id in part_of:
                parts[part_of[utterance.id]].append(utterance)
        for name in ("train", "test"):
            if not parts[name]:
                raise DataError(
                    f"protocol fixed: no utterance in the {name} part; expected at least one; check the lists of "
                    "speakers (protocol.train, dev_speakers, test) or the values of the column (protocol.train_values, "
                    "dev_values, test_values)"
                )
        if parts["dev"]:
            train = tuple(utterance.id for utterance in parts["train"])
            dev = tuple(utterance.id for utterance in parts["dev"])
        else:
            train, dev = split_dev(parts["train"], self.config, 0, "fixed")
        return [Fold(name="fixed", train=train, dev=dev, test=tuple(u.id for u in parts["test"]))]

    def _by_column(self, utterances: Sequence[Utterance]) -> dict[str, str]:
        column = str(self.config.column)
        columns = sorted({name for utterance in utterances for name in utterance.extra})
        if column not in columns:
            raise DataError(
                f"protocol fixed: no utterance has the column {column!r}; the corpus has "
                f"{', '.join(columns) or 'no extra column'}{did_you_mean(column, columns)}; correct it: --set "
                "protocol.column=COLUMN"
            )
        part_of_value = {
            value: part
            for part, values in (
                ("train", self.config.train_values),
                ("dev", self.config.dev_values),
                ("test", self.config.test_values),
            )
            for value in values
        }
        part_of = {}
        for utterance in utterances:
            value = utterance.extra.get(column, "").strip().lower()
            if value and value not in part_of_value:
                raise DataError(
                    f"utterance {utterance.id!r}, column {column!r}: {value!r}; expected one of "
                    f"{', '.join(part_of_value)} or nothing{did_you_mean(value, part_of_value)}; correct it, or say what it "
                    f"means, for example --set 'protocol.train_values=[\"{value}\"]' (dev_values, test_values)"
                )
            if value:
                part_of[utterance.id] = part_of_value[value]
        return part_of

    def _by_speaker(self, utterances: Sequence[Utterance]) -> dict[str, str]:
        speakers = sorted({str(utterance.speaker) for utterance in utterances})
        given = {"train": self.config.train, "dev": self.config.dev_speakers, "test": self.config.test}
        part_of: dict[str, str] = {}
        for part, names in given.items():
            for name in names:
                speaker = _find_speaker(name, speakers, part)
                if part_of.get(speaker, part) != part:
                    raise DataError(
                        f"protocol fixed: speaker {speaker!r} stands in {part_of[speaker]} and in {part}; expected one "
                        "part each; remove it from one"
                    )
                part_of[speaker] = part
        if not self.config.train:
            part_of.update({speaker: "train" for speaker in speakers if speaker not in part_of})
        return {u.id: part_of[str(u.speaker)] for u in utterances if str(u.speaker) in part_of}


def _find_speaker(name: str, speakers: Sequence[str], part: str) -> str:
    """Return the full name of a speaker given in full or without its corpus."""
    found = [speaker for speaker in speakers if speaker == name or speaker.split("/", 1)[-1] == name]
    if len(found) == 1:
        return found[0]
    got = "is not in the corpora" if not found else f"could be {' or '.join(found)}"
    raise DataError(
        f"protocol fixed: {part} speaker {name!r} {got}; expected one of {', '.join(speakers[:30])}"
        f"{did_you_mean(name, speakers)}; correct the name"
    )


def _require_speakers(protocol: str, n_speakers: int, n_groups: int, key: str) -> None:
    if n_speakers >= n_groups:
        return
    if n_speakers == 1:
        do = "no protocol can do it with one speaker: add a corpus or speakers"
    else:
        do = f"ask for fewer folds (--set protocol.{key}={n_speakers}), or add speakers"
    raise DataError(
        f"protocol {protocol}: {n_speakers} speaker(s) with usable labels for {n_groups} folds; expected as many speakers "
        f"or more; {do}"
    )


def _ids_by(utterances: Sequence[Utterance], key_of: Mapping[str, str]) -> dict[str, frozenset[str]]:
    ids: dict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        ids[key_of[utterance.id]].append(utterance.id)
    return {key: frozenset(ids[key]) for key in sorted(ids)}


def _balanced(sizes: Mapping[str, int], loads: np.ndarray) -> dict[str, int]:
    """Give each speaker, largest first, to the group with the smallest load; `loads` (G,) is carried on in place."""
    speakers = sorted(sizes)
    largest_first = np.argsort([sizes[speaker] for speaker in speakers], kind="stable")[::-1]
    group_of = {}
    for place in largest_first:
        group = int(np.argmin(loads))
        loads[group] += sizes[speakers[place]]
        group_of[speakers[place]] = group
    return group_of


def _named_groups(kind: str, groups: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Name folds after their group: without the corpus when there is only one, safe as a folder name, unique."""
    corpora = {key.split("/", 1)[0] for key in groups}
    named: dict[str, frozenset[str]] = {}
    for key, ids in groups.items():
        short = key.split("/", 1)[-1] if len(corpora) == 1 else key
        name = f"{kind}_{re.sub(r'[^A-Za-z0-9.-]+', '_', short)}"
        while name in named:
            name += "_"
        named[name] = ids
    return named


def _numbered_groups(
    by_speaker: Mapping[str, frozenset[str]], group_of: Mapping[str, int], n_groups: int
) -> dict[str, frozenset[str]]:
    width = len(str(n_groups))
    return {
        f"group_{group + 1:0{width}d}": frozenset(
            i for speaker, ids in by_speaker.items() if group_of[speaker] == group for i in ids
        )
        for group in range(n_groups)
    }
