"""LibriSpeech and TED-LIUM as unpacked from OpenSLR: FLAC folders, SPHERE recordings with STM segment lists."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from repkit.api import Audio, Config, Utterance
from repkit.audio.base import FileCorpus
from repkit.audio.below import is_hidden
from repkit.audio.presets import LIBRISPEECH, TEDLIUM
from repkit.errors import DataError, did_you_mean

# the hub's names of splits to OpenSLR's folders
LIBRISPEECH_FOLDERS = {
    "train.clean.100": "train-clean-100",
    "train.clean.360": "train-clean-360",
    "train.other.500": "train-other-500",
    "train.100": "train-clean-100",
    "train.360": "train-clean-360",
    "train.500": "train-other-500",
    "validation.clean": "dev-clean",
    "validation.other": "dev-other",
    "test.clean": "test-clean",
    "test.other": "test-other",
}
_LIBRISPEECH_SPLITS = tuple(dict.fromkeys(LIBRISPEECH_FOLDERS.values()))
_TEDLIUM_SPLITS = ("train", "dev", "test")
_IGNORED = "ignore_time_segment_in_scoring"


class OpenSlrCorpus(FileCorpus):
    """A LibriSpeech (SLR12) or TED-LIUM (SLR7, 19, 51) folder; which one is seen from its layout.

    Args:
        config: the settings.

    Raises:
        DataError: the folder has neither layout.
    """

    class Config(Config):
        """Settings of an OpenSLR corpus.

        Attributes:
            name: name of the corpus.
            path: the folder, its parent, or (LibriSpeech) the folder of one split.
            split: the hub's name (train.clean.100, release2.train, validation) or the folder's (train-clean-100, dev).
            talks: TED-LIUM: take that many talks only, drawn with `seed`.
            seed: for `talks`.
        """

        name: str
        path: Path
        split: str | None = None
        talks: int | None = Field(None, ge=1)
        seed: int = 0

    def __init__(self, config: OpenSlrCorpus.Config) -> None:
        super().__init__()
        self.config = config
        self.name = config.name
        self.root = Path(config.path).expanduser()
        kind = find_openslr(self.root)
        if kind is None:
            raise DataError(
                f"{self.root}: has neither the layout of LibriSpeech ({LIBRISPEECH.layout}) nor of TED-LIUM "
                f"({TEDLIUM.layout}); check the path"
            )
        self.kind = kind
        self.licence = (LIBRISPEECH if kind == "librispeech" else TEDLIUM).licence
        self.expected: dict[str, Any] | None = None

    def _list(self) -> Sequence[Utterance]:
        return self._librispeech() if self.kind == "librispeech" else self._tedlium()

    def _librispeech(self) -> list[Utterance]:
        found = _librispeech_folders(self.root)
        default = "train-clean-100" if "train-clean-100" in found else (next(iter(found)) if len(found) == 1 else None)
        wanted = self.config.split and LIBRISPEECH_FOLDERS.get(self.config.split, self.config.split)
        folder = found.get(wanted or default or "")
        if folder is None:
            asked = f"no {wanted!r}{did_you_mean(wanted, found)}" if wanted else "several splits"
            raise DataError(
                f"{self.root}: {asked}; found {', '.join(found)}; name one with --corpus-set {self.name}.split=SPLIT"
            )
        hub_name = next(name for name, place in LIBRISPEECH_FOLDERS.items() if place == folder.name)
        self.expected = {"utterances": LIBRISPEECH.splits[hub_name][2]}
        sexes = _speakers_txt(next((p for p in (folder.parent / "SPEAKERS.TXT",) if p.is_file()), None))
        utterances = []
        for chapter in sorted(folder.glob("*/*/")):
            texts = _transcripts(chapter)
            for path in _visible(chapter, "*.flac"):
                speaker = chapter.parent.name
                utterances.append(
                    Utterance(
                        id=f"{self.name}/{path.stem}",
                        corpus=self.name,
                        speaker=f"{self.name}/{speaker}",
                        session=f"{self.name}/{chapter.name}",
                        gender=sexes.get(speaker),
                        language="en",
                        text=texts.get(path.stem),
                        audio=Audio(path=path),
                    )
                )
        if not utterances:
            raise DataError(f"{folder}: found 0 files; expected {LIBRISPEECH.layout}")
        return utterances

    def _tedlium(self) -> list[Utterance]:
        found = _tedlium_folders(self.root)
        asked = self.config.split or "train"
        wanted = asked.rsplit(".", 1)[-1].replace("validation", "dev")
        if wanted not in found:
            raise DataError(
                f"{self.root}: has no split {asked!r}; found {', '.join(found)}; name one with --corpus-set {self.name}.split=SPLIT"
            )
        folder = found[wanted]
        release = re.search(r"release[-_]?([123])", asked) or re.search(r"release[-_]?([123])", str(self.root))
        if release and self.config.talks is None:
            hub_name = wanted.replace("dev", "validation")
            self.expected = {"utterances": TEDLIUM.splits[f"release{release[1]}.{hub_name}"][2]}
        lists = _visible(folder / "stm", "*.stm")
        if self.config.talks is not None:
            if self.config.talks > len(lists):
                raise DataError(f"{folder}: has {len(lists)} talks; expected at least talks = {self.config.talks}")
            lists = sorted(random.Random(self.config.seed).sample(lists, self.config.talks))
        utterances: list[Utterance] = []
        problems: list[str] = []
        for segments in lists:
            sound = folder / "sph" / f"{segments.stem}.sph"
            if sound.is_file():
                utterances += _segments(self.name, segments, sound, problems)
            else:
                problems.append(f"{segments.name}: its recording {sound.name} is missing")
        if problems:
            raise DataError(f"{folder}: {len(problems)} problem(s) in {len(lists)} segment lists", problems[:25])
        if not utterances:
            raise DataError(f"{folder}: found {len(lists)} segment lists and no segment; expected {TEDLIUM.layout}")
        return utterances


def find_openslr(path: Path) -> str | None:
    """Return ``"librispeech"``, ``"tedlium"`` or None for the layout of a folder."""
    if not path.is_dir():
        return None
    return "librispeech" if _librispeech_folders(path) else "tedlium" if _tedlium_folders(path) else None


def _librispeech_folders(path: Path) -> dict[str, Path]:
    if path.name in _LIBRISPEECH_SPLITS:
        return {path.name: path}
    places = [path, path / "LibriSpeech"]
    return {s: place / s for place in places for s in _LIBRISPEECH_SPLITS if (place / s).is_dir()}


def _tedlium_folders(path: Path) -> dict[str, Path]:
    """Return split to the folder with ``sph`` and ``stm``; release 3 keeps the old parts under ``legacy``."""
    found: dict[str, Path] = {}
    for place in (path, *sorted(path.glob("TEDLIUM_release*")), path / "legacy", *sorted(path.glob("*/legacy"))):
        for split in _TEDLIUM_SPLITS:
            if (place / split / "stm").is_dir() and (place / split / "sph").is_dir():
                found.setdefault(split, place / split)
    for data in (path / "data", *sorted(path.glob("TEDLIUM_release*/data"))):
        if (data / "stm").is_dir() and (data / "sph").is_dir():
            found["train"] = data  # release 3
    return found


def _speakers_txt(file: Path | None) -> dict[str, str]:
    """Return speaker to gender from lines ``103 | F | train-clean-100 | 25.15 | Karen Savage``."""
    if file is None:
        return {}
    rows = [line.split("|") for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith(";")]
    return {
        r[0].strip(): {"F": "female", "M": "male"}[r[1].strip()] for r in rows if len(r) > 2 and r[1].strip() in "FM"
    }


def _visible(folder: Path, form: str) -> list[Path]:
    """Return the files of a form, sorted, without the hidden companions that macOS writes."""
    return sorted(path for path in folder.glob(form) if not is_hidden(path))


def _transcripts(chapter: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in _visible(chapter, "*.trans.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            found[name] = text
    return found


def _segments(corpus: str, segments: Path, sound: Path, problems: list[str]) -> list[Utterance]:
    """Return the segments of an STM list: ``talk channel speaker start end <label> text`` per line."""
    found = []
    for number, line in enumerate(segments.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split(maxsplit=6)
        try:
            talk, _, speaker, start, end = fields[0], fields[1], fields[2], float(fields[3]), float(fields[4])
        except (IndexError, ValueError):
            problems.append(
                f"{segments.name} line {number}: {line[:60]!r}; expected talk channel speaker start end ..."
            )
            continue
        text = fields[6] if len(fields) > 6 else ""
        if text.strip() == _IGNORED or speaker == "inter_segment_gap" or end <= start:
            continue
        found.append(
            Utterance(
                id=f"{corpus}/{talk}-{round(100 * start):07d}-{round(100 * end):07d}",
                corpus=corpus,
                speaker=f"{corpus}/{speaker}",
                session=f"{corpus}/{talk}",
                gender=_stm_gender(fields[5].lower() if len(fields) > 5 else ""),
                language="en",
                text=text.strip() or None,
                audio=Audio(path=sound, start_s=start, end_s=end),
            )
        )
    return found


def _stm_gender(label: str) -> str | None:
    """Return the gender in a label such as ``<o,f0,female>`` or ``<f0_m>``."""
    if "female" in label or "_f>" in label:
        return "female"
    return "male" if "male" in label or "_m>" in label else None
