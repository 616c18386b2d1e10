"""Feature sets of openSMILE as an encoder: IS09 to IS13, ComParE, GeMAPS, emobase and configurations of your own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
from pydantic import Field, field_validator

from repkit import api
from repkit_baselines.opensmile_worker import SmileWorkers, WorkerError

SAMPLE_RATE = 16000
FRAME_SHIFT_S = 0.01

LICENCE = "audEERING Research License: openSMILE and features made with it are free for research and teaching only"
"""Of openSMILE, not of this plugin; stands in every store made with it."""

FEATURE_SETS: dict[str, tuple[float, str]] = {
    "IS09": (0.025, "IS09_emotion"),
    "IS10": (0.07, "IS10_paraling IS10_paraling_compat"),
    "IS11": (0.07, "IS11_speaker_state"),
    "IS12": (0.07, "IS12_speaker_trait IS12_speaker_trait_compat"),
    "IS13": (0.06, "IS13_ComParE"),
    "ComParE_2016": (0.06, "ComParE2016 ComParE"),
    "GeMAPSv01a": (0.06, ""),
    "GeMAPSv01b": (0.06, ""),
    "eGeMAPSv01a": (0.06, ""),
    "eGeMAPSv01b": (0.06, ""),
    "eGeMAPSv02": (0.06, ""),
    "emobase": (0.04, ""),
}
"""Sets that the package brings: seconds from which the functionals are finite (measured with opensmile 2.6.0 on tones and
noise, in steps of 5 ms), and further names under which a set is known (upper and lower case alike)."""

_NAMES = {alias.lower(): name for name, (_, aliases) in FEATURE_SETS.items() for alias in (name, *aliases.split())}
_INCLUDED = re.compile(rb"\\\{([^{}\\]+)\}")


class OpensmileEncoder:
    """Functionals (one vector per utterance) or low-level descriptors (frames) of openSMILE (group ``repkit.encoders``).

    Sound is rounded to 16 bit, clipped and handed over in memory with its rate: what SMILExtract computes from a WAV file
    of that sound, and the same for a corpus of any file format. It runs in processes of its own
    (`repkit_baselines.opensmile_worker`). A sound that gives values that are not finite, most often because it is too
    short, becomes a `repkit.errors.BadAudioError`. openSMILE is free for research and teaching only (`LICENCE`).

    Source: Eyben, Wöllmer & Schuller 2010 (openSMILE); Schuller, Steidl & Batliner 2009 (IS09); Eyben et al. 2016 (GeMAPS).

    Attributes:
        name: ``opensmile-IS09``, with ``-frames`` at frame level and the ``sink_level`` when one is given.
        dim: number of features.
        level: ``"utterance"`` or ``"frame"``.
        frame_shift_s: seconds from one frame to the next, None for vectors.
        feature_names: of the columns, as openSMILE calls them.
    """

    argument = "feature_set"

    class Config(api.Config):
        """Settings.

        Attributes:
            feature_set: a name of `FEATURE_SETS`, or the path of a configuration (``.conf``) written for external source
                and sink, as the documentation of the package opensmile shows.
            level: ``"utterance"`` for functionals, ``"frame"`` for low-level descriptors without their deltas.
            sink_level: data level of the configuration to read; by default ``func`` and ``lld``, or ``lld_de`` for the deltas.
            frame_shift_s: of a configuration of your own at frame level; all sets of the package have 0.01.
            n_workers: processes; by default as many as there are CPU cores for this process. Changes no result.
        """

        feature_set: str = Field(description=f"{', '.join(FEATURE_SETS)} or the path of a .conf file")
        level: Literal["utterance", "frame"] = "utterance"
        sink_level: str | None = None
        frame_shift_s: float = Field(default=FRAME_SHIFT_S, gt=0)
        n_workers: int | None = Field(default=None, ge=1)

        @field_validator("feature_set")
        @classmethod
        def _known(cls, value: str) -> str:
            known = _NAMES.get(value.lower())
            if known is None and not value.endswith(".conf"):
                close = get_close_matches(value.lower(), _NAMES, n=1, cutoff=0.5)
                raise ValueError(
                    f"expected one of {', '.join(FEATURE_SETS)} or the path of a .conf file"
                    + (f"; did you mean {_NAMES[close[0]]!r}?" if close else "")
                )
            if known is None and not Path(value).is_file():
                raise ValueError("no such file; the path of an openSMILE configuration was expected")
            return known or value

    def __init__(self, config: OpensmileEncoder.Config) -> None:
        self.config = config
        self.level = config.level
        self._own = Path(config.feature_set) if config.feature_set not in FEATURE_SETS else None
        self._set = self._own.stem if self._own else config.feature_set
        self._sink = config.sink_level or ("func" if config.level == "utterance" else "lld")
        self.name = f"opensmile-{self._set}" + ("-frames" if self.level == "frame" else "")
        if config.sink_level and not self._own:
            self.name += f"-{config.sink_level}"
        if importlib.util.find_spec("opensmile") is None:
            raise api.PluginError(
                f"encoder {self.name}: the package opensmile is not installed; in a clone of repkit: "
                f"pip install './plugins/repkit-baselines[opensmile]' ({LICENCE})"
            )
        if "GeMAPS" in self._set and self._sink == "lld_de" and not self._own:
            # asked for all the same, the library corrupts its memory
            raise api.UsageError(f"encoder {self.name}: {self._set} has no deltas; expected sink_level func or lld")
        settings = {
            "feature_set": os.fspath(self._own.resolve()) if self._own else self._set,
            "level": self._sink,
            "sample_rate": SAMPLE_RATE,
        }
        try:
            self._workers = SmileWorkers(settings, config.n_workers or joblib.cpu_count())
        except WorkerError as error:
            raise api.UsageError(
                f"encoder {self.name}: openSMILE cannot be started with data level {self._sink!r} ({error}); expected a "
                "configuration with external source and sink that has this level; see sink_level"
            ) from error
        self.feature_names = self._workers.feature_names
        self.dim = len(self.feature_names)
        self.frame_shift_s = config.frame_shift_s if self.level == "frame" else None

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray | api.BadAudioError]:
        """Return one (D,) vector or (T, D) sequence per waveform (16 kHz), float32, or why there is none.

        Raises:
            PluginError: openSMILE crashed.
            UsageError: a data level of frames was asked for as one vector.
            KeyboardInterrupt: at once; nothing of these waveforms is returned.
        """
        sounds = [_sixteen_bit(sound) for sound in waveforms]
        try:
            found = self._workers.run(sounds)
        except WorkerError as error:
            raise api.PluginError(
                f"encoder {self.name}: {error} while encoding {len(sounds)} sounds; an answer was expected; start again, "
                "and report it to openSMILE if it happens at the same place"
            ) from error
        return [self._checked(values, len(sound)) for values, sound in zip(found, sounds, strict=True)]

    def _checked(self, values: np.ndarray | str, n_samples: int) -> np.ndarray | api.BadAudioError:
        if isinstance(values, str):
            what = f"openSMILE says {values}"
        elif n_bad := int((~np.isfinite(values)).sum()) or int(values.size == 0):
            what = f"{n_bad} of {values.size} values are not finite"
        elif self.level == "frame":
            return values
        elif len(values) == 1:
            return values[0]
        else:
            raise api.UsageError(
                f"encoder {self.name}: data level {self._sink!r} gives {len(values)} rows for a sound; one was expected; "
                "choose another sink_level, or level frame"
            )
        known = f"; {self._set} is known to work from {FEATURE_SETS[self._set][0]} s" if not self._own else ""
        return api.BadAudioError(
            f"{self.name}: {what} for {n_samples / SAMPLE_RATE:.3f} s of sound{known}; leave it out"
        )

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values; nothing was trained, so that no corpus or speaker was heard."""
        return {
            "encoder": "opensmile",
            "name": self.name,
            "feature_set": self._set,
            "data_level": self._sink,
            "config_sha256": _checksum(self._own) if self._own else None,
            "opensmile": self._workers.version,
            "sample_rate": SAMPLE_RATE,
            "quantisation": "16 bit, rounded",
            "licence": LICENCE,
            "corpora": [],
            "speakers": [],
        }


def _sixteen_bit(sound: np.ndarray) -> np.ndarray:
    """Return int16; full scale 1 is 32768, so that what was decoded from 16 bit comes out as it was in the file."""
    return np.clip(np.rint(np.asarray(sound, np.float64) * 32768), -32768, 32767).astype(np.int16)


def _checksum(config: Path) -> str:
    """Return the SHA-256 (hex) of a configuration and, in order, of all files that it includes."""
    digest = hashlib.sha256()
    waiting, seen = [config], set()
    while waiting:
        path = waiting.pop(0)
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text = path.read_bytes()
        digest.update(text)
        waiting += [path.parent / os.fsdecode(name).strip() for name in _INCLUDED.findall(text)]
    return digest.hexdigest()
