"""All utterances of a run in memory, shared by the processes that train on them.

Nothing is read inside the training loop: frames lie end to end in one tensor, batches are cut out by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from repkit.api import Batch
from repkit.runs.seeding import generator


@dataclass(slots=True)
class RaggedTensor:
    """Sequences laid end to end.

    Attributes:
        values: (N, F), N the sum of all lengths.
        offsets: (n + 1,) int64, sequence i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: torch.Tensor
    offsets: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def padded(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return values (B, T, F) float32 (padding holds rubbish), lengths (B,) and mask (B, T) of some sequences."""
        lengths = self.lengths[indices]
        steps = torch.arange(int(lengths.max()))
        mask = steps[None, :] < lengths[:, None]
        rows = self.offsets[indices][:, None] + torch.minimum(steps[None, :], lengths[:, None] - 1)
        return self.values[rows].float(), lengths, mask


@dataclass(slots=True)
class Standardisation:
    """Mean and scale of each utterance's group (all train, its speaker, its corpus ...).

    Attributes:
        mean: (G, F) float32.
        scale: (G, F) float32, one over the standard deviation.
        group: (n,) int64, the group of every utterance.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    group: torch.Tensor

    def __call__(self, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Standardise (B, T, F) or (B, D) values of the utterances at indices."""
        groups = self.group[indices]
        mean, scale = self.mean[groups], self.scale[groups]
        if values.ndim == 3:
            mean, scale = mean[:, None, :], scale[:, None, :]
        return (values - mean) * scale


@dataclass(slots=True)
class TrainingData:
    """What a run's jobs train on. Utterance i is the same one everywhere.

    Attributes:
        ids: n utterance ids.
        frames: log-Mel frames.
        targets: per view (n,) int64, `repkit.api.MISSING` where unlabelled.
        vectors: (n, D) or None.
        states: frame-level states or None.
        domains: per domain (n,) int64.
    """

    ids: Sequence[str]
    frames: RaggedTensor
    targets: Mapping[str, torch.Tensor]
    vectors: torch.Tensor | None = None
    states: RaggedTensor | None = None
    domains: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def share_memory(self) -> TrainingData:
        """Move every tensor to shared memory, so that worker processes read one copy."""
        tensors = [self.frames.values, self.frames.offsets, *self.targets.values(), *self.domains.values()]
        tensors += [self.vectors] if self.vectors is not None else []
        tensors += [self.states.values, self.states.offsets] if self.states is not None else []
        for tensor in tensors:
            tensor.share_memory_()
        return self


@dataclass(slots=True)
class FoldData:
    """The data as one fold sees them: standardised with that fold's statistics, class weights of its train part."""

    data: TrainingData
    standardise_frames: Standardisation | None = None
    standardise_vectors: Standardisation | None = None
    standardise_states: Standardisation | None = None
    weights: torch.Tensor | None = None
    labels_stripped: frozenset[int] = frozenset()

    def batch(self, indices: torch.Tensor) -> Batch:
        """Return the padded batch of the utterances at indices (B,) int64."""
        data = self.data
        frames, lengths, mask = data.frames.padded(indices)
        if self.standardise_frames is not None:
            frames = self.standardise_frames(frames, indices)
        frames = frames * mask[..., None]
        vectors = None
        if data.vectors is not None:
            vectors = data.vectors[indices].float()
            if self.standardise_vectors is not None:
                vectors = self.standardise_vectors(vectors, indices)
        states = state_lengths = None
        if data.states is not None:
            states, state_lengths, state_mask = data.states.padded(indices)
            if self.standardise_states is not None:
                states = self.standardise_states(states, indices)
            states = states * state_mask[..., None]
        return Batch(
            ids=[data.ids[i] for i in indices.tolist()],
            frames=frames,
            lengths=lengths,
            targets={view: target[indices] for view, target in data.targets.items()},
            vectors=vectors,
            states=states,
            state_lengths=state_lengths,
            domains={name: domain[indices] for name, domain in data.domains.items()},
            weights=None if self.weights is None else self.weights[indices],
        )


def shuffled_batches(indices: torch.Tensor, batch_size: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """Return all indices in random batches; the order depends on seed and epoch alone."""
    order = torch.randperm(len(indices), generator=generator(seed, "batches", epoch))
    return list(indices[order].split(batch_size))


def sequential_batches(data: TrainingData, indices: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield indices in batches of similar length, for evaluation; every index once."""
    order = data.frames.lengths[indices].argsort(stable=True)
    yield from indices[order].split(batch_size)
