"""An objective of stage one under test, and how it is shown pieces, for the checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from repkit.api import EncoderStates, PretrainBatch, PretrainTask
from repkit.testing.kit import Broken, Case, case

GROUP = "repkit.pretraining"
LENGTHS = (40, 31, 24, 17)
"""Frames of the pieces that are shown."""
COLUMNS = (*(f"mel_{band:03d}" for band in range(12)), "log_f0", "voicing", "energy", "tilt", "voiced")
OPTIONAL = ("corrupt", "calibrate")


@case(GROUP)
class PretrainingCase(Case):
    """An objective with an encoder of two layers that is made up.

    Args:
        component: the class.
        settings: of its Config.
        name: for messages.
        columns: names of the frames' columns.
        frame_shift_s: seconds from one frame to the next.
        width: H of each layer.
        bidirectional: whether the states are said to know the frames after them.
    """

    def __init__(
        self,
        component: Any,
        settings: Mapping[str, Any],
        name: str,
        columns: Sequence[str] = COLUMNS,
        frame_shift_s: float = 0.04,
        width: int = 8,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(component, settings, name)
        self.task = PretrainTask(tuple(columns), frame_shift_s, (width, width), 4 * width, bidirectional)

    @property
    def traits(self) -> frozenset[str]:
        """The optional methods that the class has."""
        return frozenset(name for name in OPTIONAL if callable(getattr(self.component, name, None)))

    @cached_property
    def encoder(self) -> nn.ModuleList:
        """Two linear layers: as much of an encoder as an objective needs to be tried."""
        torch.manual_seed(1)
        width = self.task.layer_sizes[0]
        return nn.ModuleList([nn.Linear(self.task.n_bands, width), nn.Linear(width, width)])

    def batch(self, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> PretrainBatch:
        """Return standardised noise that moves slowly; half of the frames are voiced."""
        generator = torch.Generator().manual_seed(seed)
        counts = torch.tensor(list(lengths))
        steps = torch.randn(len(lengths), int(counts.max()) + 4, self.task.n_bands, generator=generator)
        frames = steps.unfold(1, 5, 1).mean(-1) * math.sqrt(5)
        batch = PretrainBatch(frames, counts)
        batch.frames = frames * batch.mask[..., None]
        batch.voiced = (torch.rand(frames.shape[:2], generator=generator) < 0.5) & batch.mask
        return batch

    def states(self, frames: torch.Tensor, lengths: torch.Tensor) -> EncoderStates:
        """Return states of frames, nonsense where padded, and their mean and deviation as the vector."""
        lowest = torch.tanh(self.encoder[0](frames))
        # a sum over the past, so that a state knows more than its own frame
        top = torch.tanh(self.encoder[1](lowest).cumsum(1) / 3)
        mask = (torch.arange(frames.shape[1])[None, :] < lengths[:, None])[..., None]
        both = torch.cat([lowest, top], dim=-1)
        mean = (both * mask).sum(1) / lengths[:, None]
        deviation = (((both - mean[:, None]) * mask).square().sum(1) / lengths[:, None] + 1e-6).sqrt()
        layers = tuple(torch.where(mask, layer, 7.0) for layer in (lowest, top))
        return EncoderStates(layers, torch.cat([mean, deviation], dim=-1), frames)

    def make(self) -> nn.Module:
        """Return a fresh objective in training mode, calibrated where it asks for it."""
        torch.manual_seed(0)
        found = self.component(self.config, self.task)
        if not isinstance(found, nn.Module):
            raise Broken(f"{self.name}(config, task) is a {type(found).__name__}", "derive it from torch.nn.Module")
        if "calibrate" in self.traits:
            with torch.no_grad():
                found.calibrate(iter([self.batch(seed=3), self.batch(seed=4)]))
        return found.train()

    def given(self, objective: nn.Module, batch: PretrainBatch) -> torch.Tensor:
        """Return what the encoder reads for an objective: the frames, or its own corruption of them."""
        if "corrupt" not in self.traits:
            return batch.frames
        result: torch.Tensor = objective.corrupt(batch.frames, batch.lengths, torch.Generator().manual_seed(5))
        return result

    def losses(self, objective: nn.Module, batch: PretrainBatch, progress: float = 0.5) -> dict[str, Any]:
        """Return the losses, always drawn with the same seed."""
        states = self.states(self.given(objective, batch), batch.lengths)
        torch.manual_seed(7)
        return dict(objective(batch, states, progress))


def padded(batch: PretrainBatch, more: int) -> PretrainBatch:
    """Return the batch with further padded frames."""
    rest = torch.zeros(len(batch.lengths), more, batch.frames.shape[2])
    voiced = None if batch.voiced is None else torch.cat([batch.voiced, rest[..., 0] > 0], dim=1)
    return PretrainBatch(torch.cat([batch.frames, rest], dim=1), batch.lengths, voiced)
