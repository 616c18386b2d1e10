"""All utterances of a run in memory, shared by the processes that train on them.

Nothing is read inside the training loop: frames lie end to end in one tensor, batches are cut out by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from repkit.api import MISSING, Batch


@dataclass(slots=True)
class RaggedTensor:
    """Sequences laid end to end.

    Attributes:
        values: (N, F), N the sum of all lengths.
        offsets: (n + 1,) int64 in this machine's memory, sequence i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: torch.Tensor
    offsets: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def padded(
        self,
        indices: torch.Tensor,
        first: torch.Tensor | None = None,
        most: int | torch.Tensor | None = None,
        n_steps: int = 0,
        standardise: Standardisation | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return values (B, T, F) float32, zero where padded, and lengths (B,) of some sequences.

        Args:
            indices: (B,) of the sequences.
            first: (B,) first step to take of each; 0 by default.
            most: steps to take at most, of all or (B,) of each; all by default.
            n_steps: T; by default the longest of the batch.
            standardise: what to do to the values.
        """
        starts, lengths = self.spans(indices, first, most)
        sizes = lengths.tolist()
        padded = self.values.new_zeros((len(sizes), max(n_steps, *sizes), self.values.shape[1]), dtype=torch.float32)
        # row by row each stays in the processor's cache, and padding is neither read nor standardised
        parts = [row[:size] for row, size in zip(padded, sizes)]
        for part, start, size in zip(parts, starts.tolist(), sizes):
            part.copy_(self.values[start : start + size])
        if standardise is not None:
            standardise.of_rows(parts, indices)
        return padded, lengths.to(padded.device)

    def spans(
        self, indices: torch.Tensor, first: torch.Tensor | None = None, most: int | torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows at which the parts of `padded` start and their lengths, both (B,) int64."""
        starts, lengths = self.offsets[indices], self.lengths[indices]
        if first is not None:
            starts, lengths = starts + first, lengths - first
        if most is not None:
            lengths = lengths.clamp(max=most)
        return starts, lengths

    def to(self, device: torch.device) -> RaggedTensor:
        """Return the sequences with their values on a device; offsets stay, so that lengths are known without asking it."""
        return RaggedTensor(self.values.to(device), self.offsets)


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

    def to(self, device: torch.device) -> Standardisation:
        """Return it with mean and scale on a device."""
        return Standardisation(self.mean.to(device), self.scale.to(device), self.group)

    def __call__(self, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Standardise (B, D) values of the utterances at indices."""
        groups = self.group[indices].to(self.mean.device)
        return (values - self.mean[groups]) * self.scale[groups]

    def of_rows(self, parts: Sequence[torch.Tensor], indices: torch.Tensor) -> None:
        """Standardise in place the rows (T_i, F) of each of the utterances at indices (B,)."""
        for part, group in zip(parts, self.group[indices].tolist(), strict=True):
            part.sub_(self.mean[group]).mul_(self.scale[group])


@dataclass(slots=True)
class Segments:
    """Items of fixed length, in the order of the utterances they are cut from.

    Attributes:
        utterance: (m,) int64, the utterance of each segment.
        first: (m,) int64, its first frame there.
        n_frames: frames of each; an utterance shorter than that makes one segment, padded with zeros.
    """

    utterance: torch.Tensor
    first: torch.Tensor
    n_frames: int

    @classmethod
    def cut(cls, lengths: torch.Tensor, n_frames: int, step: float) -> Segments:
        """Cut utterances of these lengths (n,) from start to start of `step` frames; a remainder is dropped.

        A segment counts where all its frames are there. The k-th begins at the frame nearest to k steps.

        Source: gao2022 sheet, section 2 (segments do not overlap; a remainder is dropped).
        """
        spare = (lengths - n_frames).clamp(min=0)
        # half a frame, because a start may be rounded down by as much
        counts = (torch.div(spare + 0.5, step, rounding_mode="floor") + 1).long()
        utterance = torch.repeat_interleave(torch.arange(len(lengths)), counts)
        place = torch.arange(len(utterance)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        return cls(utterance, (place * step).round().long().minimum(spare[utterance]), n_frames)

    def of(self, utterances: torch.Tensor) -> torch.Tensor:
        """Return the segments of some utterances, in the order of the utterances."""
        counts = torch.bincount(self.utterance)
        starts = counts.cumsum(0) - counts
        some = counts[utterances]
        within = torch.arange(int(some.sum())) - torch.repeat_interleave(some.cumsum(0) - some, some)
        return torch.repeat_interleave(starts[utterances], some) + within


@dataclass(slots=True)
class TrainingData:
    """What a run's jobs train on. Utterance i is the same one everywhere.

    Attributes:
        ids: n utterance ids.
        frames: log-Mel frames.
        targets: per view (n,) int64, `repkit.api.MISSING` where unlabelled.
        vectors: (n, D) or None.
        states: frame-level states or None; those of an utterance cover the time of its frames.
        corpora: (n,) int64, index of the corpus, or None.
        segments: the items that the utterances are cut into, or None when utterances are the items.
    """

    ids: Sequence[str]
    frames: RaggedTensor
    targets: Mapping[str, torch.Tensor]
    vectors: torch.Tensor | None = None
    states: RaggedTensor | None = None
    corpora: torch.Tensor | None = None
    segments: Segments | None = None

    def places_of_states(
        self, indices: torch.Tensor, first: torch.Tensor | None, most: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first state and the number of states, both (B,), that cover those frames of some utterances.

        Args:
            indices: (B,) utterances, which have states of the same time as their frames.
            first: (B,) first frame of each, None for the first of all.
            most: frames of each at most.
        """
        n_frames, n_states = self.frames.lengths[indices], self.states.lengths[indices]
        begin = torch.zeros_like(n_frames) if first is None else first
        end = begin + self.frames.spans(indices, first, most)[1]
        # rounded to the nearest state; all frames have all states
        begin, end = ((2 * frame * n_states + n_frames) // (2 * n_frames) for frame in (begin, end))
        begin = begin.minimum(n_states - 1)
        return begin, (end - begin).clamp(min=1)

    def to(self, device: torch.device) -> TrainingData:
        """Return the data with frames, vectors and states on a device; what decides about batches stays here."""
        return replace(
            self,
            frames=self.frames.to(device),
            vectors=None if self.vectors is None else self.vectors.to(device),
            states=None if self.states is None else self.states.to(device),
        )

    def share_memory(self) -> TrainingData:
        """Move every tensor to shared memory, so that worker processes read one copy."""
        tensors = [self.frames.values, self.frames.offsets, *self.targets.values()]
        tensors += [self.corpora] if self.corpora is not None else []
        tensors += [self.segments.utterance, self.segments.first] if self.segments is not None else []
        tensors += [self.vectors] if self.vectors is not None else []
        tensors += [self.states.values, self.states.offsets] if self.states is not None else []
        for tensor in tensors:
            tensor.share_memory_()
        return self


@dataclass(slots=True)
class FoldData:
    """The data as one fold sees them.

    Attributes:
        data: all utterances of the run.
        standardise_frames: with this fold's statistics.
        standardise_vectors: the same for utterance vectors.
        standardise_states: the same for frame-level states.
        weights: (n,) class weights of the train part.
        stripped: (n,) bool, utterances whose labels no batch shows (the fold's unlabelled audio).
        domains: per domain (n,) int64, `repkit.api.MISSING` where unknown or not heard in training.
    """

    data: TrainingData
    standardise_frames: Standardisation | None = None
    standardise_vectors: Standardisation | None = None
    standardise_states: Standardisation | None = None
    weights: torch.Tensor | None = None
    stripped: torch.Tensor | None = None
    domains: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def batch(
        self,
        items: torch.Tensor,
        crop: int | None = None,
        draw: torch.Generator | None = None,
        route: str | None = None,
        views: Sequence[str] = (),
    ) -> Batch:
        """Return a padded batch.

        Args:
            items: (B,) int64, utterances, or segments where the data have them.
            crop: most frames of an item.
            draw: crop at random places of it; None: from the start, or from the middle where half the item is longer
                than the crop (gerczuk2021 sheet, section 2: the place of its code).
            route: of the batch.
            views: views whose targets are shown; all by default.
        """
        data = self.data
        device = data.frames.values.device
        indices, first, most, n_steps = self.places(items, crop, draw)
        frames, lengths = data.frames.padded(indices, first, most, n_steps, self.standardise_frames)
        vectors = self.vectors_of(indices)
        states = state_lengths = None
        if data.states is not None:
            begin, count = data.places_of_states(indices, first, most)
            states, state_lengths = data.states.padded(indices, begin, count, standardise=self.standardise_states)
        return Batch(
            ids=[data.ids[i] for i in indices.tolist()],
            frames=frames,
            lengths=lengths,
            targets={view: target.to(device) for view, target in self.targets_of(indices, views).items()},
            vectors=vectors,
            states=states,
            state_lengths=state_lengths,
            domains={name: domain[indices].to(device) for name, domain in self.domains.items()},
            weights=None if self.weights is None else self.weights[indices].to(device),
            corpora=None if data.corpora is None else data.corpora[indices].to(device),
            route=route,
            dense=device.type != "cpu",
        )

    def places(
        self, items: torch.Tensor, crop: int | None = None, draw: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None, int | None, int]:
        """Return what `RaggedTensor.padded` takes of some items: utterances, first frames, most frames, T (0: the longest)."""
        segments = self.data.segments
        if segments is not None:
            return segments.utterance[items], segments.first[items], segments.n_frames, segments.n_frames
        if crop is not None:
            return items, _crop_places(self.data.frames.lengths[items], crop, draw), crop, 0
        return items, None, None, 0

    def vectors_of(self, indices: torch.Tensor) -> torch.Tensor | None:
        """Return the standardised vectors (B, D) of some utterances, None where the run has none."""
        if self.data.vectors is None:
            return None
        vectors = self.data.vectors[indices.to(self.data.vectors.device)].float()
        return vectors if self.standardise_vectors is None else self.standardise_vectors(vectors, indices)

    def targets_of(self, indices: torch.Tensor, views: Sequence[str] = ()) -> dict[str, torch.Tensor]:
        """Return the targets (B,) of each view, `MISSING` in views other than these (none given: all are shown)."""
        found = {}
        for view, target in self.data.targets.items():
            shown = target[indices]
            if views and view not in views:
                shown = torch.full_like(shown, MISSING)
            elif self.stripped is not None:
                shown = shown.masked_fill(self.stripped[indices], MISSING)
            found[view] = shown
        return found

    def to(self, device: torch.device, data: TrainingData | None = None) -> FoldData:
        """Return the fold on a device, where its data lie already if given."""
        if device == self.data.frames.values.device:
            return self
        parts = (self.standardise_frames, self.standardise_vectors, self.standardise_states)
        frames, vectors, states = (None if part is None else part.to(device) for part in parts)
        return replace(
            self,
            data=data or self.data.to(device),
            standardise_frames=frames,
            standardise_vectors=vectors,
            standardise_states=states,
        )

    def items_of(self, utterances: torch.Tensor) -> torch.Tensor:
        """Return the items of some utterances, in their order."""
        return utterances if self.data.segments is None else self.data.segments.of(utterances)


def _crop_places(lengths: torch.Tensor, crop: int, draw: torch.Generator | None) -> torch.Tensor:
    room = (lengths - crop).clamp(min=0)
    if draw is not None:
        return (torch.rand(len(lengths), generator=draw) * (room + 1)).floor().long().minimum(room)
    middle = torch.div(lengths, 2, rounding_mode="floor")
    return torch.where(middle > crop, middle, 0)


def sequential_batches(data: TrainingData, indices: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield utterances in batches of similar length, for evaluation; every one once."""
    order = data.frames.lengths[indices].argsort(stable=True)
    yield from indices[order].split(batch_size)
