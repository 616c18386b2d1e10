"""Train, dev and test by speaker within every corpus, as EmoNet's authors did where no official split exists.

Paper: Gerczuk et al. 2021, section 3. Its own lists are not published; repkit's are drawn by a seed, 60 / 20 / 20 of the
speakers, and lie in ``splits/`` for four corpora. A corpus with an official split brings it as a column or a file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from repkit import api

PARTS = ("train", "dev", "test")
SPLITS = Path(__file__).with_name("splits")
"""Folder of the lists that come with this distribution, one JSON file per corpus."""
_VALUES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "valid", "validation", "val"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class GerczukPartitions:
    """One train, dev and test part per corpus, all corpora together in one fold.

    The order of the speakers is chosen such that dev and test hold every emotion, so the split depends on the labels
    inside its test part (`stratified`). With ``orders = 1``, a column or a file it does not.
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            shares: aimed shares of a corpus' speakers in dev and in test.
            rotations: folds; each tests the next speakers of the circle. 1 is the paper's single split. With the default
                shares 5 test each of 10 speakers once; where 5 does not divide their number some are tested twice or
                never, which the audit says.
            seed: of the order of the speakers.
            orders: orders tried, seeds from `seed` on, for one whose dev and test hold every emotion of the corpus; the
                first of those that miss fewest is taken. Needed where speakers have few emotions each (urdu).
            hold_out: corpora that are tested whole and never trained on. Parts per corpus stay untrained for them.
            columns: corpus to the extra column that says train, dev or test (an official split).
            files: corpus to a JSON file with lists of speakers, as `write_split` makes it.
        """

        shares: tuple[float, float] = (0.2, 0.2)
        rotations: int = Field(default=1, ge=1)
        seed: int = 0
        orders: int = Field(default=20, ge=1)
        hold_out: tuple[str, ...] = ()
        columns: dict[str, str] = Field(default_factory=dict)
        files: dict[str, str] = Field(default_factory=dict)

        @model_validator(mode="after")
        def _shares_leave_train(self) -> GerczukPartitions.Config:
            if min(self.shares) <= 0 or sum(self.shares) >= 1:
                raise ValueError(f"shares must be above 0 and leave some speakers to train, got {list(self.shares)}")
            return self

    covers = "some"
    """Not every utterance is tested, unless rotations say so."""

    stratified = True
    """Which speakers are tested depends on the labels of all, those of test included: see `Config.orders`."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[api.Utterance]) -> list[api.Fold]:
        """Return one fold per rotation, ids sorted.

        Raises:
            DataError: a corpus that is not there, fewer than three speakers, an unknown value or file, an empty part.
        """
        corpora = self._by_corpus(utterances)
        folds = []
        for rotation in range(self.config.rotations):
            parts: dict[str, list[str]] = {part: [] for part in PARTS}
            for name, some in corpora.items():
                for part, ids in zip(PARTS, self.parts_of(name, some, rotation), strict=True):
                    parts[part].extend(ids)
            for part in ("train", "test"):
                if not parts[part]:
                    raise api.DataError(
                        f"protocol gerczuk2021_partitions: no utterance in {part}; expected at least one; hold out "
                        "fewer corpora or correct the columns and files"
                    )
            name = "partition" if self.config.rotations == 1 else f"rotation_{rotation + 1}"
            folds.append(api.Fold(name, *(tuple(sorted(parts[part])) for part in PARTS)))
        return folds

    def parts_of(
        self, corpus: str, utterances: Sequence[api.Utterance], rotation: int = 0
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the ids of train, dev and test of one corpus."""
        if corpus in self.config.hold_out:
            return (), (), tuple(u.id for u in utterances)
        if corpus in self.config.columns:
            return self._by_column(corpus, utterances, rotation)
        if corpus in self.config.files:
            return _by_file(corpus, utterances, Path(self.config.files[corpus]))
        return api.speaker_parts(utterances, self.config.shares, rotation, self._order(utterances))

    def _is_given(self, corpus: str) -> bool:
        config = self.config
        return corpus in {*config.hold_out, *config.columns, *config.files}

    def _order(self, utterances: Sequence[api.Utterance]) -> int:
        """Return the seed of the first order whose parts, over all rotations, miss fewest emotions."""
        emotion_of = {u.id: u.emotion for u in utterances}
        everything = set(emotion_of.values())

        def missing(seed: int) -> int:
            return sum(
                len(everything - {emotion_of[i] for i in ids})
                for rotation in range(self.config.rotations)
                for ids in api.speaker_parts(utterances, self.config.shares, rotation, seed)
            )

        best, fewest = self.config.seed, missing(self.config.seed)
        for seed in range(self.config.seed + 1, self.config.seed + self.config.orders):
            if not fewest:
                break
            if (n := missing(seed)) < fewest:
                best, fewest = seed, n
        return best

    def write_split(self, utterances: Sequence[api.Utterance], folder: Path) -> list[Path]:
        """Write ``CORPUS.json`` per corpus: the speakers of each part with their genders; no audio, no ids.

        Args:
            utterances: of one or several corpora.
            folder: is made where it is not there.

        Returns:
            the files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, some in self._by_corpus(utterances).items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps(self.split_table(name, some), indent=1) + "\n", encoding="utf-8")
            paths.append(path)
        return paths

    def split_table(self, corpus: str, utterances: Sequence[api.Utterance]) -> dict[str, Any]:
        """Return what `write_split` writes for one corpus: speakers without the corpus' name, by part.

        Raises:
            DataError: a speaker in two parts, which lists of speakers cannot say.
        """
        speaker_of = {u.id: str(u.speaker) for u in utterances}
        parts = self.parts_of(corpus, utterances)
        speakers = {p: sorted({speaker_of[i] for i in ids}) for p, ids in zip(PARTS, parts, strict=True)}
        listed = [speaker for some in speakers.values() for speaker in some]
        if len(listed) != len(set(listed)):
            raise api.DataError(
                f"corpus {corpus!r}: a speaker stands in two parts; expected one part each; keep its column instead"
            )
        genders = api.speaker_genders(utterances)
        return {
            "corpus": corpus,
            "shares": list(self.config.shares),
            "order": None if self._is_given(corpus) else self._order(utterances),
            **{p: [_short(speaker) for speaker in some] for p, some in speakers.items()},
            "genders": {_short(speaker): genders[speaker] for speaker in sorted(listed)},
        }

    def _by_corpus(self, utterances: Sequence[api.Utterance]) -> dict[str, list[api.Utterance]]:
        corpora: dict[str, list[api.Utterance]] = defaultdict(list)
        for utterance in api.check_utterances(utterances):
            corpora[utterance.corpus].append(utterance)
        config = self.config
        for setting, names in (("hold_out", config.hold_out), ("columns", config.columns), ("files", config.files)):
            unknown = sorted(set(names) - set(corpora))
            if unknown:
                raise api.DataError(
                    f"protocol.{setting}: no corpus {unknown[0]!r}; expected some of {', '.join(sorted(corpora))}; "
                    "correct the name or give the corpus"
                )
        return {name: corpora[name] for name in sorted(corpora)}

    def _by_column(
        self, corpus: str, utterances: Sequence[api.Utterance], rotation: int
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the parts a column states; dev speakers are taken from train where it names no dev."""
        column = self.config.columns[corpus]
        parts: dict[str, list[api.Utterance]] = {part: [] for part in PARTS}
        for utterance in utterances:
            value = utterance.extra.get(column, "").strip().lower()
            if value not in _VALUES:
                raise api.DataError(
                    f"utterance {utterance.id!r}, column {column!r}: {value!r}; expected one of "
                    f"{', '.join(_VALUES)}; correct protocol.columns.{corpus} or the corpus"
                )
            parts[_VALUES[value]].append(utterance)
        test = tuple(u.id for u in parts["test"])
        if parts["dev"] or not parts["train"]:
            return tuple(u.id for u in parts["train"]), tuple(u.id for u in parts["dev"]), test
        train, dev = api.split_dev(parts["train"], api.DevConfig(seed=self.config.seed), rotation, corpus)
        return train, dev, test


def _by_file(
    corpus: str, utterances: Sequence[api.Utterance], path: Path
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the parts that a file's lists of speakers state."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        part_of = {str(speaker): part for part in PARTS for speaker in table[part]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise api.DataError(
            f"protocol.files.{corpus}: {path}: {type(error).__name__}: {error}; expected JSON with the lists train, dev "
            "and test of speakers; make one with write_split"
        ) from error
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for utterance in utterances:
        speaker = _short(str(utterance.speaker))
        if speaker not in part_of:
            raise api.DataError(
                f"{path}: speaker {speaker!r} of corpus {corpus!r} stands in no part; expected every speaker in train, "
                "dev or test; add it to one of the lists"
            )
        parts[part_of[speaker]].append(utterance.id)
    return tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"])


def _short(speaker: str) -> str:
    return speaker.split("/", 1)[-1]
