"""Unlabelled speech known by name: ids, configs, splits and published counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repkit.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Preset:
    """A hub corpus that repkit knows.

    Attributes:
        name: name of the corpus.
        line: one line for lists.
        id: dataset id on the hub.
        splits: split to (config, the hub's split, published number of rows or None).
        default: the split taken when none is named.
        columns: role to column.
        language: ISO 639-1 code.
        licence: terms of use.
        home: where the original is.
        layout: what the OpenSLR folder looks like.
    """

    name: str
    line: str
    id: str
    splits: Mapping[str, tuple[str, str, int | None]]
    default: str
    columns: Mapping[str, str]
    language: str
    licence: str
    home: str
    layout: str

    def resolve(self, split: str | None) -> tuple[str, str, int | None]:
        """Return config, hub split and published count of a split.

        Raises:
            UsageError: there is no such split.
        """
        wanted = split or self.default
        if wanted not in self.splits:
            raise UsageError(
                f"corpus {self.name}: has no split {wanted!r}{did_you_mean(wanted, self.splits)}; expected one of "
                + ", ".join(self.splits)
            )
        return self.splits[wanted]

    def settings(self, split: str | None) -> dict[str, Any]:
        """Return the settings of a `repkit.audio.hub.HubCorpus` for a split."""
        config, hub_split, count = self.resolve(split)
        return {
            "id": self.id,
            "config": config,
            "split": hub_split,
            "columns": dict(self.columns),
            "language": self.language,
            "expected_rows": count,
            "streaming": True,
        }


_LIBRISPEECH_ROWS = {
    "train.clean.100": 28539,
    "train.clean.360": 104014,
    "train.other.500": 148688,
    "validation.clean": 2703,
    "validation.other": 2864,
    "test.clean": 2620,
    "test.other": 2939,
}

LIBRISPEECH = Preset(
    name="librispeech",
    line="read English, unlabelled; train.clean.100 has 28539 utterances (100 h); CC BY 4.0; or =PATH",
    id="openslr/librispeech_asr",
    splits={
        **{split: ("all", split, rows) for split, rows in _LIBRISPEECH_ROWS.items()},
        # the names of the configs clean and other, where they are not ambiguous
        "train.100": ("clean", "train.100", 28539),
        "train.360": ("clean", "train.360", 104014),
        "train.500": ("other", "train.500", 148688),
    },
    default="train.clean.100",
    columns={"audio": "audio", "id": "id", "speaker": "speaker_id", "session": "chapter_id", "text": "text"},
    language="en",
    licence="CC BY 4.0",
    home="https://www.openslr.org/12",
    layout="train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac",
)

_TEDLIUM_ROWS = {"release1": 56803, "release2": 92973, "release3": 268263}

TEDLIUM = Preset(
    name="tedlium",
    line="TED talks, unlabelled; release2.train has 92973 segments; CC BY-NC-ND 3.0; best as =PATH (OpenSLR 19)",
    id="LIUM/tedlium",
    splits={
        **{f"{release}.train": (release, "train", rows) for release, rows in _TEDLIUM_ROWS.items()},
        **{f"{release}.validation": (release, "validation", 591) for release in _TEDLIUM_ROWS},
        **{f"{release}.test": (release, "test", 1469) for release in _TEDLIUM_ROWS},
        "train": ("release2", "train", 92973),
        "validation": ("release2", "validation", 591),
        "test": ("release2", "test", 1469),
    },
    default="release2.train",
    columns={"audio": "audio", "id": "id", "speaker": "speaker_id", "gender": "gender", "text": "text"},
    language="en",
    licence="CC BY-NC-ND 3.0: audio made from it must not be passed on",
    home="https://www.openslr.org/19 (release 2; 7 and 51 for releases 1 and 3)",
    layout="train/sph/<talk>.sph and train/stm/<talk>.stm",
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (LIBRISPEECH, TEDLIUM)}
