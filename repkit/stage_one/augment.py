"""Other recordings of the same speech, made of its frames: another voice, pace, room, gain, microphone, a steady noise.

Frames are cached and sound is not, so that augmentation works on log-mel bands and energy at their absolute level (frontend
``affect``). A shift of pitch moves log F0, a tempo moves every column in time; these two and the room move tilt and slopes with
the bands. Voicing stays as it is under all but the tempo; F0, tilt and slopes stay under gain, equaliser and noise. What is
changed is what the encoder reads and what objectives ask for alike. Source: own design; the kinds are common (Snyder et al.
2018 for noise and rooms, Ko et al. 2015 for speed, Park et al. 2019 for work on the features).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repkit.errors import UsageError
from repkit.features.affect import LOG_F0, TILT
from repkit.features.spectral import SAMPLE_RATE
from repkit.stage_one.warps import MelAxis, level_of, power_of, resampled, reverberated, slopes

EQ_TERMS = 4
"""Cosines over the bands that make an equaliser curve, the slowest half a period long."""

SWITCHES = ("gain_db", "eq_db", "noise_share", "room_share", "pitch_semitones", "tempo")
"""Settings that change nothing at all where they are 0."""


@dataclass(frozen=True)
class Augmentation:
    """How frames are changed; nothing when all are 0.

    Applied in this order: tempo, pitch, room, gain, equaliser, noise.

    Attributes:
        gain_db: each piece gets a gain drawn from plus to minus this.
        eq_db: standard deviation of a smooth curve over the bands, drawn for each piece.
        noise_share: share of the pieces that get a steady noise with the spectrum of the piece.
        noise_snr_db: least and greatest distance of speech and noise.
        room_share: share of the pieces that get a room (`repkit.stage_one.warps.reverberated`).
        room_rt60_s: least and greatest seconds in which a room's sound decays by 60 dB.
        pitch_semitones: each piece is shifted by semitones drawn from plus to minus this, spectrum and F0 alike, as
            resampling would, but at its tempo.
        tempo: each piece is played faster by a factor drawn from 1 / (1 + tempo) to 1 + tempo, evenly on a logarithmic
            scale, at its pitch; it gets shorter or longer.
        columns: place of every column of the frames by name; the bands come first.
        bands: their number.
        db_per_unit: dB that a difference of 1 in a band or in the energy stands for.
        db_at_zero: dB that 0 stands for.
        frame_shift_s: seconds from one frame to the next.
        window_s: seconds of a frame.
        axis: the bands' frequencies; None where nothing needs them.
    """

    gain_db: float
    eq_db: float
    noise_share: float
    noise_snr_db: tuple[float, float]
    room_share: float
    room_rt60_s: tuple[float, float]
    pitch_semitones: float
    tempo: float
    columns: Mapping[str, int]
    bands: int
    db_per_unit: float
    db_at_zero: float
    frame_shift_s: float
    window_s: float
    axis: MelAxis | None

    def __call__(self, frames: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return changed frames (B, T', F), zero where padded, and their counts (B,); with a tempo T' is not T.

        Args:
            frames: (B, T, F) float32, zero where padded.
            lengths: (B,) int64 valid frames.
            generator: on the CPU; everything is drawn from it, piece by piece.
        """
        if not any(getattr(self, name) for name in SWITCHES):
            return frames, lengths
        # what is switched off is drawn as well, so that no setting changes what another one draws
        gain, weights, snr, noisy, *other = (torch.rand(len(frames), n, generator=generator) for n in _DRAWS)
        if self.room_share or self.pitch_semitones or self.tempo:
            frames, lengths = self._elsewhere(frames, lengths, *(draw[:, 0] for draw in other))
        if self.gain_db or self.eq_db or self.noise_share:
            frames = self._recorded(frames, lengths, *(draw.to(frames.device) for draw in (gain, weights, snr, noisy)))
        return frames, lengths

    @property
    def _levels(self) -> list[int]:
        """Places of the bands and of the energy."""
        return [*range(self.bands), *([self.columns["energy"]] if "energy" in self.columns else [])]

    # ------------------------------------------------------------------ voice, pace and room

    def _elsewhere(
        self, frames: Tensor, lengths: Tensor, room: Tensor, rt60: Tensor, pitch: Tensor, tempo: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = frames.device
        if self.tempo:
            speed = ((1 + self.tempo) ** (2 * tempo - 1)).to(device)
            frames, lengths = resampled(frames, lengths, speed, self.window_s / self.frame_shift_s)
            if "voiced" in self.columns:  # a decision, on the side where most of the frame lies
                frames[..., self.columns["voiced"]] = (frames[..., self.columns["voiced"]] > 0.5).to(frames.dtype)
            moving = [place for name, place in self.columns.items() if name.endswith("_delta")]
            frames[..., moving] = frames[..., moving] * speed[:, None, None]  # per second
        if not (self.pitch_semitones or self.room_share):
            return frames, lengths
        mask = _mask(frames, lengths)
        changed, bands = frames.clone(), self.bands
        level = frames[..., self._levels] * self.db_per_unit + self.db_at_zero  # dB of full scale
        before = power_of(level)
        power = before.clone()
        roomy = room < self.room_share
        if self.pitch_semitones and self.axis is not None:
            octaves = (2 * pitch - 1) * self.pitch_semitones / 12
            power[..., :bands] = self.axis.shifted(before[..., :bands], (2**octaves).to(device))
            self._move_pitch(changed, mask, (octaves * math.log(2)).to(device))
        else:
            mask = mask & roomy.to(device)[:, None, None]  # the others stay to the last bit
        rows = roomy.nonzero()[:, 0]
        if len(rows):
            low, high = self.room_rt60_s
            seconds = (low + (high - low) * rt60[rows]).to(device)
            rows = rows.to(device)
            power[rows] = reverberated(power[rows], seconds, self.frame_shift_s)
        moved = torch.where(mask, level_of(power) - level, 0.0) / self.db_per_unit
        self._enter(changed, self._levels, moved, lengths)
        if "tilt" in self.columns and self.axis is not None:
            tilted = self.axis.tilt(power[..., :bands]) - self.axis.tilt(before[..., :bands])
            moved = torch.where(mask, tilted[..., None], 0.0) / TILT[1]
            self._enter(changed, [self.columns["tilt"]], moved, lengths)
        return changed, lengths

    def _move_pitch(self, frames: Tensor, mask: Tensor, by: Tensor) -> None:
        """Add to ln F0 (in place); a piece without any voice has 0 throughout and keeps it."""
        place = self.columns.get("log_f0")
        if place is not None:
            heard = (frames[..., place] != 0).any(dim=1, keepdim=True)
            frames[..., place] += torch.where(mask[..., 0] & heard, by[:, None] / LOG_F0[1], 0.0)

    def _enter(self, frames: Tensor, places: list[int], moved: Tensor, lengths: Tensor) -> None:
        """Add a change (B, T, n) to columns (in place), and its slopes to theirs."""
        frames[..., places] = frames[..., places] + moved
        names = {place: name for name, place in self.columns.items()}
        for at, place in enumerate(places):
            delta = self.columns.get(f"{names[place]}_delta")
            if delta is not None:
                frames[..., delta] += (
                    slopes(moved[..., at : at + 1], lengths, self.frame_shift_s)[..., 0]
                    * (_mask(frames, lengths)[..., 0])
                )

    # ------------------------------------------------------------------ level, microphone and noise

    def _recorded(
        self, frames: Tensor, lengths: Tensor, gain: Tensor, weights: Tensor, snr: Tensor, noisy: Tensor
    ) -> Tensor:
        places = self._levels
        level = frames[..., places] * self.db_per_unit  # dB
        mask = _mask(frames, lengths)
        level = level + (2 * gain[..., None] - 1) * self.gain_db
        weights = (2 * weights - 1) * (self.eq_db * math.sqrt(6 / EQ_TERMS))  # so that the curve has that deviation
        terms = torch.arange(1, EQ_TERMS + 1, device=frames.device)[:, None] * math.pi / self.bands
        curve = weights @ torch.cos(terms * (torch.arange(self.bands, device=frames.device) + 0.5))
        level[..., : self.bands] += curve[:, None]
        low, high = self.noise_snr_db
        distance = low + (high - low) * snr[..., None]
        power = 10 ** (level / 10)
        noise = (power * mask).sum(1, keepdim=True) / lengths[:, None, None] * 10 ** (-distance / 10)
        loud = 10 * torch.log10((power + noise).clamp_min(1e-30))
        level = torch.where(noisy[..., None] < self.noise_share, loud, level)
        changed = frames.clone()
        changed[..., places] = torch.where(mask, level / self.db_per_unit, frames[..., places])
        return changed


_DRAWS = (1, EQ_TERMS, 1, 1, 1, 1, 1, 1)
"""Random numbers of a piece: gain, curve, distance of the noise, whether there is one, whether there is a room, its RT60,
pitch, tempo; new ones come last, so that recipes of before draw what they drew."""


def _mask(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T, 1), True where a frame is valid."""
    return (torch.arange(frames.shape[1], device=frames.device)[None, :] < lengths[:, None])[..., None]


def augmentation_for(frontend: object, columns: tuple[str, ...], **settings: object) -> Augmentation:
    """Return the augmentation of a frontend's frames.

    Args:
        frontend: makes the frames.
        columns: their names.
        **settings: those of `repkit.stage_one.settings.AUGMENTATION`.

    Raises:
        UsageError: something is to be changed, and the frames have no absolute level, or too few bands for another pitch.
    """
    config = getattr(frontend, "config", None)
    absolute = getattr(config, "scaling", None) == "absolute"
    if not absolute and any(settings[name] for name in SWITCHES):
        raise UsageError(
            f"augmentation: {', '.join(SWITCHES[:-1])} and {SWITCHES[-1]} change bands at their absolute level, which the "
            f"frontend {type(frontend).__name__} does not keep; frontend = 'affect' with scaling = 'absolute' was expected; "
            "use it, or set them to 0"
        )
    bands = sum(name.startswith("mel_") for name in columns)
    if settings["pitch_semitones"] and bands < 2:
        raise UsageError(
            f"augmentation: pitch_semitones with {bands} band; two or more were expected, between which a spectrum can be "
            "moved; raise training.frontend_settings.bands, or set it to 0"
        )
    window_s = float(getattr(config, "window_s", 0.0))
    warped = settings["room_share"] or settings["pitch_semitones"]
    return Augmentation(
        columns={name: place for place, name in enumerate(columns)},
        bands=bands,
        db_per_unit=float(getattr(config, "range_db", 1.0)),
        db_at_zero=float(getattr(config, "centre_db", 0.0)),
        frame_shift_s=float(getattr(frontend, "frame_shift_s", 0.0)),
        window_s=window_s,
        axis=MelAxis(bands, round(window_s * SAMPLE_RATE)) if warped and bands > 1 else None,
        **settings,  # type: ignore[arg-type]
    )
