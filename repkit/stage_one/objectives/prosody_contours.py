"""Prosody contours: the states must tell pitch, voicing, level and tilt, and how they move, now and a little later.

Source: own design. Prosody as a target of self-supervised speech models: Pascual et al., "Learning problem-agnostic speech
representations from multiple self-supervised tasks" (PASE), Interspeech 2019, whose workers regress log F0, voicing, energy and
more at the frame; the contours ahead of it and the slopes are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from repkit import api
from repkit.stage_one.objectives.parts import Constants, central_difference, masked_mean

CONTOURS = ("log_f0", "voicing", "energy", "tilt")
"""Columns that count as prosody."""
PITCH = "log_f0"


class ProsodyContours(nn.Module):
    """Regress prosody from the top layer's states (group ``repkit.pretraining``).

    Mean absolute error of standardised contours over valid frames. Pitch counts where the frontend has heard one: at a frame
    for its height, at a frame and both its neighbours for its slope.
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            ahead: frames from the state to the second set of targets; 0 for the frame itself alone.
            deltas: whether the slopes, half the difference of a frame's neighbours, are targets too.
        """

        ahead: int = Field(3, ge=0)
        deltas: bool = True

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        self.config = config
        self.names = [name for name in CONTOURS if name in task.columns]
        if not self.names:
            raise api.UsageError(
                f"objective prosody_contours: the frontend makes no column {', '.join(CONTOURS)}; at least one was expected; "
                "use frontend = 'affect'"
            )
        self.columns = [task.columns.index(name) for name in self.names]
        self.slopes = Constants(len(self.names))
        self.shifts = sorted({0, config.ahead})
        n_targets = len(self.names) * (2 if config.deltas else 1)
        self.head = nn.Linear(task.layer_sizes[-1], n_targets * len(self.shifts))

    def calibrate(self, batches: Iterable[api.PretrainBatch]) -> None:
        """Measure mean and deviation of the slopes."""
        for batch in batches:
            slopes, counted = self._slopes(batch)
            self.slopes.add(slopes[counted.any(-1)], counted[counted.any(-1)])
        self.slopes.close()

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return the mean absolute error of each contour, and of all slopes together as ``slopes``, over now and ahead."""
        predicted = self.head(states.layers[-1]).float().chunk(len(self.shifts), dim=-1)
        found: dict[str, list[Tensor]] = {}
        for shift, values in zip(self.shifts, predicted, strict=True):
            for name, target, counted, column in self._targets(batch):
                # frame t + shift is the target of state t
                error = (values[:, : max(0, values.shape[1] - shift), column] - target[:, shift:]).abs()
                found.setdefault(name, []).append(masked_mean(error, counted[:, shift:]))
        return {name: torch.stack(losses).mean() for name, losses in found.items()}

    def _targets(self, batch: api.PretrainBatch) -> Iterator[tuple[str, Tensor, Tensor, int]]:
        """Yield name, target (B, T), where it counts (B, T) and the column of the prediction."""
        heights, counted = self._heights(batch)
        for place, name in enumerate(self.names):
            yield name, heights[..., place], counted[..., place], place
        if self.config.deltas:
            slopes, counted = self._slopes(batch)
            slopes = self.slopes(slopes)
            for place in range(len(self.names)):
                yield "slopes", slopes[..., place], counted[..., place], len(self.names) + place

    def _heights(self, batch: api.PretrainBatch) -> tuple[Tensor, Tensor]:
        """Return the contours (B, T, P) and where they count."""
        counted = batch.mask[..., None].repeat(1, 1, len(self.names))
        if PITCH in self.names and batch.voiced is not None:
            counted[..., self.names.index(PITCH)] &= batch.voiced
        return batch.frames[..., self.columns], counted

    def _slopes(self, batch: api.PretrainBatch) -> tuple[Tensor, Tensor]:
        """Return the slopes (B, T, P) and where they count; at both ends of a piece there is none."""
        heights, known = self._heights(batch)
        slopes, counted = torch.zeros_like(heights), torch.zeros_like(known)
        slopes[:, 1:-1] = central_difference(heights)
        counted[:, 1:-1] = known[:, :-2] & known[:, 1:-1] & known[:, 2:]
        return slopes, counted
