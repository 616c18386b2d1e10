"""Functionals of the piece: the vector must tell how its bands and its prosody are distributed.

Source: own design. The targets are of the kind that hand-made feature sets have been built on for emotion since the INTERSPEECH
2009 challenge (Schuller, Steidl and Batliner 2009): means, deviations, percentiles, movement.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from repkit import api
from repkit.stage_one.objectives.parts import Constants, chosen_columns
from repkit.stage_one.objectives.prosody_contours import CONTOURS, PITCH

LEAST_VALUES = 2
"""Fewer frames of a contour make no functional of it."""


class CropFunctionals(nn.Module):
    """Regress functionals of each column from the pooled vector by one linear map (group ``repkit.pretraining``).

    Per column mean, standard deviation, percentiles and mean absolute difference of neighbouring frames over the valid frames
    (pitch: over those where one is heard), standardised over the training speech; mean squared error.
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            percentiles: between 0 and 100, with linear interpolation between frames.
        """

        percentiles: tuple[float, ...] = Field((5.0, 25.0, 50.0, 75.0, 95.0))

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        mel = chosen_columns(task, "mel")
        prosody = [task.columns.index(name) for name in CONTOURS if name in task.columns]
        self.columns = mel + prosody
        self.n_mel = len(mel)
        self.pitch = self.columns.index(task.columns.index(PITCH)) if PITCH in task.columns else None
        self.register_buffer("shares", torch.tensor(config.percentiles) / 100, persistent=False)
        self.per_column = 3 + len(config.percentiles)
        self.constants = Constants(len(self.columns) * self.per_column)
        self.head = nn.Linear(task.vector_dim, len(self.columns) * self.per_column)

    shares: Tensor

    def calibrate(self, batches: Iterable[api.PretrainBatch]) -> None:
        """Measure mean and deviation of every functional."""
        for batch in batches:
            values, counted = self.functionals(batch)
            self.constants.add(values.flatten(1), counted.flatten(1))
        self.constants.close()

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return ``mel`` and, where there are such columns, ``prosody``: mean squared errors of standardised functionals."""
        values, counted = self.functionals(batch)
        target = self.constants(values.flatten(1)).view_as(values)
        predicted = self.head(states.vector).float().view_as(values)
        error = (predicted - target).square().masked_fill(~counted, 0.0)
        losses = {}
        for name, part in (("mel", slice(0, self.n_mel)), ("prosody", slice(self.n_mel, None))):
            if error[:, part].numel():
                losses[name] = error[:, part].sum() / counted[:, part].sum().clamp(min=1)
        return losses

    @torch.no_grad()
    def functionals(self, batch: api.PretrainBatch) -> tuple[Tensor, Tensor]:
        """Return functionals (B, columns, 3 + percentiles) and where they mean something (the same shape, bool)."""
        x = batch.frames[..., self.columns]
        known = batch.mask[..., None].expand_as(x)
        if self.pitch is not None and batch.voiced is not None:
            known = known.clone()
            known[..., self.pitch] &= batch.voiced
        n = known.sum(1)
        mean = torch.where(known, x, 0.0).sum(1) / n.clamp(min=1)
        deviation = (torch.where(known, x - mean[:, None], 0.0).square().sum(1) / n.clamp(min=1)).sqrt()
        both = known[:, 1:] & known[:, :-1]
        steps = torch.where(both, (x[:, 1:] - x[:, :-1]).abs(), 0.0).sum(1) / both.sum(1).clamp(min=1)
        values = torch.cat([torch.stack([mean, deviation, steps], -1), self._percentiles(x, known, n)], dim=-1)
        counted = (n >= LEAST_VALUES)[..., None].repeat(1, 1, values.shape[-1])
        counted[..., 2] &= both.any(1)
        return torch.where(counted, values, 0.0), counted

    def _percentiles(self, x: Tensor, known: Tensor, n: Tensor) -> Tensor:
        """Return (B, columns, percentiles)."""
        ordered = x.masked_fill(~known, torch.inf).sort(dim=1).values  # unknown values come last
        place = self.shares * (n[..., None] - 1).clamp(min=0)  # (B, columns, percentiles)
        below = place.floor().long()
        above = torch.minimum(below + 1, (n[..., None] - 1).clamp(min=0))
        low, high = (ordered.gather(1, at.movedim(-1, 1)).movedim(1, -1) for at in (below, above))
        return torch.where(n[..., None] > 0, low + (high - low) * (place - below), 0.0)
