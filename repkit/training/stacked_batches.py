"""The batches of many trainings as one: K jobs, B items each, drawn, cut and standardised as each would do alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from repkit.api import MISSING
from repkit.training.data import FoldData, Standardisation


@dataclass(slots=True)
class Plan:
    """What K jobs do in S steps of at most B items; the items of a step that are none are -1.

    Attributes:
        indices: (S, K, B) int64 utterances, on the device; any utterance where there is no item.
        present: (S, K, B) bool, on the device.
        starts: (S, K, B) int64 first row of each item's frames, on the device.
        lengths: (S, K, B) int64 frames of each item, on the device; 1 where there is none.
        longest: (S,) most frames of a step.
        targets: per view (S, K, B) int64, on the device.
        weights: (S, K, B) float32 on the device, or None.
        states: first row and number of each item's states, (S, K, B) int64 on the device, and the most of a step; or None.
    """

    indices: torch.Tensor
    present: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    longest: list[int]
    targets: dict[str, torch.Tensor]
    weights: torch.Tensor | None
    states: tuple[torch.Tensor, torch.Tensor, list[int]] | None


class StackedFolds:
    """The folds of K trainings over the same utterances.

    Args:
        folds: on the same device, without segments; statistics of the same shapes.
    """

    def __init__(self, folds: Sequence[FoldData]) -> None:
        self.folds = list(folds)
        self.data = folds[0].data
        self.device = self.data.frames.values.device
        self._frames = _Standardisations([fold.standardise_frames for fold in folds])
        self._vectors = _Standardisations([fold.standardise_vectors for fold in folds])
        self._states = _Standardisations([fold.standardise_states for fold in folds])
        self._corpora = None if self.data.corpora is None else self.data.corpora.to(self.device)

    def plan(
        self,
        batches: Sequence[Sequence[torch.Tensor]],
        crop: int | None = None,
        draws: Sequence[torch.Generator | None] | None = None,
        views: Sequence[str] = (),
    ) -> Plan:
        """Lay out the batches (each (b,) utterances) of every job; jobs may have fewer steps than others."""
        n_jobs, n_steps = len(batches), max(map(len, batches))
        width = max(len(items) for some in batches for items in some)
        shape = (n_steps, n_jobs, width)
        indices = torch.zeros(shape, dtype=torch.int64)
        present = torch.zeros(shape, dtype=torch.bool)
        starts, lengths = torch.zeros(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64)
        state_starts, state_lengths = torch.zeros_like(starts), torch.ones_like(lengths)
        targets = {view: torch.full(shape, MISSING) for view in self.data.targets}
        weighted = self.folds[0].weights is not None
        weights = torch.zeros(shape) if weighted else None
        for job, (fold, some) in enumerate(zip(self.folds, batches, strict=True)):
            sizes = torch.tensor([len(items) for items in some])
            here = torch.zeros(n_steps, width, dtype=torch.bool)
            here[: len(some)] = torch.arange(width)[None, :] < sizes[:, None]
            items = torch.cat(list(some))
            first, most = _first_frames(fold, some, crop, None if draws is None else draws[job])
            begins, counts = self.data.frames.spans(items, first, most)
            present[:, job] = here
            laid = [(indices, items), (starts, begins), (lengths, counts)]
            if self.data.states is not None:
                begins, counts = self.data.states.spans(items, *self.data.places_of_states(items, first, most))
                laid += [(state_starts, begins), (state_lengths, counts)]
            for whole, part in laid:
                whole[:, job][here] = part
            for view, shown in fold.targets_of(items, views).items():
                targets[view][:, job][here] = shown
            if weights is not None and fold.weights is not None:
                weights[:, job][here] = fold.weights[items]
        longest = lengths.amax(dim=(1, 2)).tolist()
        on = {"device": self.device, "non_blocking": True}
        states = None
        if self.data.states is not None:
            states = (state_starts.to(**on), state_lengths.to(**on), state_lengths.amax(dim=(1, 2)).tolist())
        return Plan(
            indices.to(**on),
            present.to(**on),
            starts.to(**on),
            lengths.to(**on),
            longest,
            {view: target.to(**on) for view, target in targets.items()},
            None if weights is None else weights.to(**on),
            states,
        )

    def fields(self, plan: Plan, step: int, rows: torch.Tensor | None = None) -> dict[str, Any]:
        """Return the fields of a `repkit.api.Batch` of one step, each with a leading axis of jobs.

        Args:
            plan: of these jobs.
            step: 0-based.
            rows: (k,) the jobs wanted; None for all.
        """

        def of(values: torch.Tensor) -> torch.Tensor:
            return values[step] if rows is None else values[step][rows]

        indices, lengths, data = of(plan.indices), of(plan.lengths), self.data
        frames, mask = _cut(data.frames.values, of(plan.starts), lengths, plan.longest[step])
        frames = self._frames(frames, indices, rows) * mask[..., None]
        found: dict[str, Any] = {
            "frames": frames,
            "lengths": lengths,
            "targets": {view: of(target) for view, target in plan.targets.items()},
        }
        if plan.weights is not None:
            found["weights"] = of(plan.weights)
        if data.vectors is not None:
            found["vectors"] = self._vectors(data.vectors[indices].float(), indices, rows)
        if data.states is not None and plan.states is not None:
            begins, counts, longest = of(plan.states[0]), of(plan.states[1]), plan.states[2][step]
            states, known = _cut(data.states.values, begins, counts, longest)
            found["states"] = self._states(states, indices, rows) * known[..., None]
            found["state_lengths"] = counts
        if self._corpora is not None:
            found["corpora"] = self._corpora[indices]
        return found


def _first_frames(
    fold: FoldData, batches: Sequence[torch.Tensor], crop: int | None, draw: torch.Generator | None
) -> tuple[torch.Tensor | None, int | None]:
    if crop is None:
        return None, None
    # batch by batch, because that is how a training alone draws
    places = [fold.places(items, crop, draw)[1] for items in batches]
    return torch.cat([first for first in places if first is not None]), crop


def _cut(
    values: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor, n_steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (K, B, T, F) float32 of sequences laid end to end (N, F), and their mask (K, B, T)."""
    steps = torch.arange(n_steps, device=values.device)
    rows = starts[..., None] + torch.minimum(steps, lengths[..., None] - 1)
    return values[rows].float(), steps < lengths[..., None]


class _Standardisations:
    """The statistics of K jobs, or none of any."""

    def __init__(self, parts: Sequence[Standardisation | None]) -> None:
        known = [part for part in parts if part is not None]
        self._group: torch.Tensor | None = None
        if known:
            self._mean = torch.stack([part.mean for part in known])  # (K, G, F)
            self._scale = torch.stack([part.scale for part in known])
            self._group = known[0].group.to(self._mean.device)

    def __call__(self, values: torch.Tensor, indices: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Standardise (K, B, T, F) or (K, B, D) values of the utterances at indices (K, B)."""
        if self._group is None:
            return values
        jobs = torch.arange(len(indices), device=indices.device) if rows is None else rows
        groups = self._group[indices]  # (K, B)
        mean, scale = self._mean[jobs[:, None], groups], self._scale[jobs[:, None], groups]
        if values.ndim == 4:
            mean, scale = mean[:, :, None], scale[:, :, None]
        return (values - mean) * scale
