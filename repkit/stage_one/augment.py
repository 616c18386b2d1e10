"""Other recordings of the same speech, made of its frames: another gain, another microphone, a steady noise.

Frames are cached and sound is not, so that augmentation works on log-mel bands and energy at their absolute level (frontend
``affect``); F0, voicing and tilt stay as they are, and so do slopes. What is changed is what the encoder reads and what
objectives ask for alike. Source: own design; the kinds are common (Snyder et al. 2018 for noise, Park et al. 2019 for work on the
features).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from repkit.errors import UsageError

EQ_TERMS = 4
"""Cosines over the bands that make an equaliser curve, the slowest half a period long."""


@dataclass(frozen=True)
class Augmentation:
    """How frames are changed; nothing when all are 0.

    Attributes:
        gain_db: each piece gets a gain drawn from plus to minus this.
        eq_db: standard deviation of a smooth curve over the bands, drawn for each piece.
        noise_share: share of the pieces that get a steady noise with the spectrum of the piece.
        noise_snr_db: least and greatest distance of speech and noise.
        db_per_unit: dB that a difference of 1 in a band or in the energy stands for.
        bands: number of bands, the first columns.
        energy: place of the energy, or None.
    """

    gain_db: float
    eq_db: float
    noise_share: float
    noise_snr_db: tuple[float, float]
    db_per_unit: float
    bands: int
    energy: int | None

    def __call__(self, frames: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed frames (B, T, F), padding as it was; everything is drawn piece by piece from the generator (CPU)."""
        if not (self.gain_db or self.eq_db or self.noise_share):
            return frames
        places = [*range(self.bands), *([] if self.energy is None else [self.energy])]
        level = frames[..., places] * self.db_per_unit  # dB
        mask = (torch.arange(frames.shape[1], device=frames.device)[None, :] < lengths[:, None])[..., None]
        n = len(frames)

        def draw(*shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator).to(frames.device)

        gain = (2 * draw(1, 1) - 1) * self.gain_db
        level = level + gain
        weights = (2 * draw(EQ_TERMS) - 1) * (
            self.eq_db * math.sqrt(6 / EQ_TERMS)
        )  # so that the curve has that deviation
        terms = torch.arange(1, EQ_TERMS + 1, device=frames.device)[:, None] * math.pi / self.bands
        curve = weights @ torch.cos(terms * (torch.arange(self.bands, device=frames.device) + 0.5))
        level[..., : self.bands] += curve[:, None]
        low, high = self.noise_snr_db
        snr = low + (high - low) * draw(1, 1)
        noisy = draw(1, 1) < self.noise_share
        power = 10 ** (level / 10)
        noise = (power * mask).sum(1, keepdim=True) / lengths[:, None, None] * 10 ** (-snr / 10)
        level = torch.where(noisy, 10 * torch.log10((power + noise).clamp_min(1e-30)), level)
        changed = frames.clone()
        changed[..., places] = torch.where(mask, level / self.db_per_unit, frames[..., places])
        return changed


def augmentation_for(frontend: object, columns: tuple[str, ...], **settings: object) -> Augmentation:
    """Return the augmentation of a frontend's frames.

    Args:
        frontend: makes the frames.
        columns: their names.
        **settings: gain_db, eq_db, noise_share, noise_snr_db.

    Raises:
        UsageError: something is to be changed, and the frames have no absolute level.
    """
    config = getattr(frontend, "config", None)
    absolute = getattr(config, "scaling", None) == "absolute"
    if not absolute and any(settings[name] for name in ("gain_db", "eq_db", "noise_share")):
        raise UsageError(
            f"augmentation: gain_db, eq_db and noise_share change the level of bands, which the frontend "
            f"{type(frontend).__name__} does not keep; frontend = 'affect' with scaling = 'absolute' was expected; "
            "use it, or set them to 0"
        )
    return Augmentation(
        db_per_unit=float(getattr(config, "range_db", 1.0)),
        bands=sum(name.startswith("mel_") for name in columns),
        energy=columns.index("energy") if "energy" in columns else None,
        **settings,  # type: ignore[arg-type]
    )
