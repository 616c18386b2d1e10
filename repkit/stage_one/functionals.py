"""An encoder without a network: several hundred statistics of mel bands and prosody, each with a name.

What any learnt representation has to beat, and a vector worth having by itself (docs/functionals.md lists every number).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from repkit.features.extract import one_thread
from repkit.features.log_mel import mel_bank
from repkit.features.prosody import Contours, PitchConfig, check_grid, deltas, levelled, mean_squares
from repkit.features.spectral import SAMPLE_RATE, frame_count, hz_from_mel, mel_from_hz
from repkit.stage_one.contour_statistics import DELTA_STATISTICS, RHYTHM, STATISTICS, describe, rhythm
from repkit.stage_one.naming import setting_word
from repkit.stage_one.waveforms import sound_waveforms

CONTOURS: Mapping[str, tuple[str, str]] = {
    "f0": ("F0 above 27.5 Hz, voiced frames only", "semitones"),
    "voicing": ("strength of periodicity, 0 to 1", "1"),
    "energy": ("10 log10 of the frame's mean square, at least -100", "dB"),
    "tilt": ("slope of the spectrum from 100 Hz to 5 kHz", "dB/octave"),
}
"""Prosody contours: meaning and unit."""

BAND_FLOOR = 1e-10
"""Energy added to every mel band: -100 dB of full scale."""

_SEMITONES = 12.0 / np.log(2.0)


class FunctionalsEncoder:
    """Statistics of 40 log-mel bands and of prosody (group ``repkit.encoders``).

    Frames of 40 ms every 10 ms. Of every mel band (dB of full scale) the 14 statistics of
    `repkit.stage_one.contour_statistics` and the deviation of its slope; of F0, voicing, energy and tilt the same 14, and 12
    of their slopes; then stretches, pauses, peaks and voice quality. F0 is described over voiced frames. Where nothing is
    voiced, F0 lies midway between its limits and does not vary. Sounds shorter than a frame are filled with zeros to one.
    Source: own design.

    Attributes:
        name: ``functionals``, with what differs from the defaults behind it.
        dim: number of statistics.
        level: ``"utterance"``.
        named_settings: settings that the name tells: all of them.
        feature_names: their names, in order: ``mel_07_p50``, ``f0_slope``, ``energy_delta_sd``, ``pause_rate``.
    """

    level = "utterance"
    frame_shift_s = None
    argument = "parts"
    named_settings: frozenset[str]

    class Config(PitchConfig):
        """Settings.

        Attributes:
            parts: ``"all"``, or one block alone: ``"mel"`` (statistics of the bands) or ``"prosody"`` (all others), so that
                the two can be joined with equal weight.
            bands: mel bands from 0 to 8 kHz.
            window_s: length of a frame in seconds.
            shift_s: seconds from one frame to the next.
            trim_db: what lies before the first and after the last frame that is at most so many dB below the loudest is
                cut off; 0 for nothing.
            level: ``"absolute"``: how loud the utterance is counts; ``"removed"``: every utterance is first brought to
                the same root mean square.
            low_hz: lowest F0.
            high_hz: highest F0.
            voiced_at: strength of voicing (0 to 1) from which a frame is voiced.
            silence_db: frames so many dB below the loudest of the utterance are never voiced.
        """

        parts: Literal["all", "mel", "prosody"] = "all"
        bands: int = Field(default=40, ge=1)
        window_s: float = Field(default=0.040, gt=0.0)
        shift_s: float = Field(default=0.010, gt=0.0)
        trim_db: float = Field(default=40.0, ge=0.0)
        level: Literal["absolute", "removed"] = "absolute"

        @model_validator(mode="after")
        def _check(self) -> FunctionalsEncoder.Config:
            check_grid(self.window_s, self.shift_s, self.low_hz)
            return self

    def __init__(self, config: FunctionalsEncoder.Config | None = None) -> None:
        self.config = config = config or self.Config()
        self._window, self._shift = round(config.window_s * SAMPLE_RATE), round(config.shift_s * SAMPLE_RATE)
        bank = mel_bank(config.bands, self._window, 0.0, SAMPLE_RATE / 2, "htk", None)
        self._contours = Contours(self._window, self._shift, config, bank)
        top = mel_from_hz(SAMPLE_RATE / 2, "htk")
        self._centres_hz = hz_from_mel(np.linspace(0.0, top, config.bands + 2)[1:-1], "htk")
        self.feature_names = feature_names(config.bands, config.parts)
        self.dim = len(self.feature_names)
        self.name = "-".join(["functionals", *_words(config)])

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (dim,) float32 vector per waveform (S,) at 16 kHz."""
        with (
            torch.no_grad(),
            one_thread(),
        ):  # more are no sooner done with arrays as small, and stand in each other's way
            return [self._encode(waveform) for waveform in sound_waveforms(waveforms)]

    def _encode(self, waveform: np.ndarray) -> np.ndarray:
        signal = torch.from_numpy(waveform)
        if len(signal) < self._window:
            signal = torch.nn.functional.pad(signal, (0, self._window - len(signal)))
        signal = self._trimmed(signal)
        if self.config.level == "removed":
            signal = levelled(signal)
        n_frames = frame_count(len(signal), self._window, self._shift)
        prosody, power = self._contours(signal, n_frames)
        bands = (power + BAND_FLOOR).log10_().mul_(10.0)
        shift_s = self._shift / SAMPLE_RATE
        times = np.arange(n_frames) * shift_s
        found = []
        if self.config.parts != "prosody":
            slopes = deltas(bands, shift_s).numpy().astype(np.float64)
            found.append(np.column_stack([describe(bands.numpy().T, times), slopes.std(0)]).ravel())
        if self.config.parts != "mel":
            found += self._prosody(prosody, bands.numpy().T.astype(np.float64), times, shift_s)
        return np.concatenate(found).astype(np.float32)

    def _trimmed(self, signal: torch.Tensor) -> torch.Tensor:
        """Return the samples of the first to the last frame that is not silent beside the loudest."""
        if not self.config.trim_db:
            return signal
        n_frames = frame_count(len(signal), self._window, self._shift)
        energy = mean_squares(signal, self._window, self._shift, n_frames)
        loud = (energy > energy.max() * 10.0 ** (-self.config.trim_db / 10.0)).nonzero()[:, 0]
        if not len(loud):
            return signal
        return signal[int(loud[0]) * self._shift : int(loud[-1]) * self._shift + self._window]

    def _prosody(self, prosody: torch.Tensor, bands: np.ndarray, times: np.ndarray, shift_s: float) -> list[np.ndarray]:
        """Return the statistics of the prosody contours and of their slopes, and the rhythm."""
        values = prosody.numpy().T.astype(np.float64)
        voiced = values[4] > 0.5
        middle = 0.5 * (np.log(self.config.low_hz) + np.log(self.config.high_hz))
        values[0] = _SEMITONES * ((values[0] if voiced.any() else np.full_like(values[0], middle)) - np.log(27.5))
        slopes = deltas(torch.from_numpy(values[:4].T), shift_s).numpy().T
        which = np.flatnonzero(voiced) if voiced.any() else np.arange(1)
        near = np.diff(which) == 1
        pitch = describe(np.stack([values[0], slopes[0]])[:, which], times[which], near)
        others = describe(np.concatenate([values[1:4], slopes[1:4]]), times)
        kept = [list(STATISTICS).index(name) for name in DELTA_STATISTICS]
        plain, moving = np.concatenate([pitch[:1], others[:3]]), np.concatenate([pitch[1:], others[3:]])[:, kept]
        f0, voicing, energy, tilt = values[:4]
        more = rhythm(energy, slopes[2], f0, slopes[0], voicing, tilt, voiced, bands, self._centres_hz, shift_s)
        return [np.concatenate([plain, moving], axis=1).ravel(), more]

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values; nothing was trained, so that no corpus or speaker was heard."""
        return {
            "encoder": "functionals",
            "name": self.name,
            "version": "1",
            "settings": self.config.model_dump(mode="json"),
            "corpora": [],
            "speakers": [],
        }


FunctionalsEncoder.named_settings = frozenset(FunctionalsEncoder.Config.model_fields)


def _words(config: FunctionalsEncoder.Config) -> list[str]:
    """Return what is not the default in words."""
    plain = (config.parts != "all", config.level == "removed", not config.trim_db)
    words = [word for word, is_so in zip((config.parts, "level-free", "untrimmed"), plain, strict=True) if is_so]
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        if key not in ("parts", "level") and value != field.default and (key, value) != ("trim_db", 0.0):
            words.append(setting_word(key, value))
    return words


def feature_names(bands: int = 40, parts: str = "all") -> tuple[str, ...]:
    """Return the names of the statistics in their order."""
    mel = [f"mel_{band:02d}_{name}" for band in range(bands) for name in (*STATISTICS, "delta_sd")]
    prosody = [
        f"{contour}_{name}" for contour in CONTOURS for name in (*STATISTICS, *(f"delta_{n}" for n in DELTA_STATISTICS))
    ]
    return (*(mel if parts != "prosody" else ()), *([*prosody, *RHYTHM] if parts != "mel" else ()))
