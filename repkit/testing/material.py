"""Small made-up tasks, batches and comparisons for the checks of models, objectives and recipes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from repkit.api import MISSING, Batch, Outputs, TaskSpec

CLASSES: Mapping[str, tuple[str, ...]] = {
    "emotion": ("anger", "happiness", "neutral", "sadness"),
    "arousal": ("low", "medium", "high"),
    "valence": ("low", "medium", "high"),
}
VECTOR_DIM, STATE_DIM = 5, 3
LENGTHS = (131, 97, 64, 33, 12, 5)
"""Frames of the utterances of a batch: long enough that deep pooling leaves several positions, and short ones."""
ABSENT = -1e29
"""Logits at or below it stand for classes that an item's corpus does not have."""
TOLERANCE = 1e-4
"""Largest difference, relative to the outputs' size, that other shapes of the same arithmetic may make."""

CORPORA: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "kit_a": dict(CLASSES),
    "kit_b": {**CLASSES, "emotion": ("anger", "neutral", "sadness")},
    "kit_c": dict(CLASSES),
}
"""Classes of each corpus: kit_b has no happiness."""


def make_task(
    views: Sequence[str] = ("emotion", "arousal"),
    *,
    n_bands: int = 16,
    vector_dim: int = 0,
    state_dim: int = 0,
    domains: Mapping[str, int] | None = None,
    n_frames: int = 0,
    shared_dim: int = 0,
) -> TaskSpec:
    """Return a task over the three corpora of the kit."""
    return TaskSpec(
        views={view: CLASSES[view] for view in views},
        n_bands=n_bands,
        vector_dim=vector_dim,
        state_dim=state_dim,
        domains=dict(domains or {}),
        corpora={name: {view: classes[view] for view in views} for name, classes in CORPORA.items()},
        n_frames=n_frames,
        shared_dim=shared_dim,
    )


def make_batch(task: TaskSpec, seed: int = 0, lengths: Sequence[int] = LENGTHS) -> Batch:
    """Return a batch of noise: corpora in turn, targets among the classes of each item's corpus, zero where padded.

    With segments (``task.n_frames``) all items have that many frames, padded where `lengths` says fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    if task.n_frames:
        lengths = [min(length, task.n_frames) for length in lengths]
    counts = torch.tensor(list(lengths), dtype=torch.int64)
    size = len(lengths)
    corpora = torch.arange(size) % max(1, len(task.corpora))
    frames = torch.randn(size, task.n_frames or int(counts.max()), task.n_bands, generator=generator)
    vectors = torch.randn(size, task.vector_dim, generator=generator) if task.vector_dim else None
    states = state_counts = None
    if task.state_dim:
        state_counts = torch.div(counts, 3, rounding_mode="floor").clamp(min=1)
        states = torch.randn(size, int(state_counts.max()), task.state_dim, generator=generator)
        states = states * _valid(states, state_counts)
    return Batch(
        ids=[f"kit/{i:02d}" for i in range(size)],
        frames=frames * _valid(frames, counts),
        lengths=counts,
        targets={view: _targets(task, view, corpora) for view in task.views},
        vectors=vectors,
        states=states,
        state_lengths=state_counts,
        domains={name: (torch.arange(size) + i) % n for i, (name, n) in enumerate(task.domains.items())},
        corpora=corpora,
    )


def _valid(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return (torch.arange(values.shape[1])[None, :] < counts[:, None])[..., None].to(values.dtype)


def _targets(task: TaskSpec, view: str, corpora: torch.Tensor) -> torch.Tensor:
    names = list(task.corpora)
    found = []
    for place, corpus in enumerate(corpora.tolist()):
        has = task.corpora[names[corpus]][view] if names else task.views[view]
        found.append(task.views[view].index(has[place % len(has)]))
    return torch.tensor(found)


def take(batch: Batch, rows: Sequence[int], trim: bool = True) -> Batch:
    """Return some items of a batch in that order; `trim` removes the padding that they no longer need."""
    index = torch.tensor(list(rows))
    longest = int(batch.lengths[index].max()) if trim else batch.frames.shape[1]
    states, state_lengths = batch.states, batch.state_lengths
    if states is not None and state_lengths is not None:
        state_lengths = state_lengths[index]
        states = states[index][:, : int(state_lengths.max()) if trim else states.shape[1]]
    return Batch(
        ids=[batch.ids[row] for row in rows],
        frames=batch.frames[index][:, :longest],
        lengths=batch.lengths[index],
        targets={view: target[index] for view, target in batch.targets.items()},
        vectors=None if batch.vectors is None else batch.vectors[index],
        states=states,
        state_lengths=state_lengths,
        domains={name: domain[index] for name, domain in batch.domains.items()},
        weights=None if batch.weights is None else batch.weights[index],
        corpora=None if batch.corpora is None else batch.corpora[index],
        route=batch.route,
    )


def of_corpus(batch: Batch, corpus: int) -> Batch:
    """Return the batch as if all its items were of one corpus."""
    return replace(batch, corpora=torch.full_like(batch.lengths, corpus))


def routed(batch: Batch, view: str) -> Batch:
    """Return the batch as a phase with ``route = "view"`` would give it: only that view's targets are shown."""
    targets = {v: t if v == view else torch.full_like(t, MISSING) for v, t in batch.targets.items()}
    return replace(batch, targets=targets, route=view)


def tensors_of(outputs: Outputs) -> dict[str, torch.Tensor]:
    """Return logits and shared vector by the names that messages use."""
    return {**{f"logits[{view!r}]": logits for view, logits in outputs.logits.items()}, "shared": outputs.shared}


def difference(one: Outputs, other: Outputs) -> tuple[float, str]:
    """Return the largest difference of two outputs, relative to their size where that exceeds 1, and where it is."""
    worst, where = 0.0, "outputs"
    first, second = tensors_of(one), tensors_of(other)
    if first.keys() != second.keys():
        return float("inf"), f"views {sorted(first)} against {sorted(second)}"
    for name, value in first.items():
        a, b = value.detach().double().clamp(min=-1e4), second[name].detach().double().clamp(min=-1e4)
        if a.shape != b.shape:
            return float("inf"), f"the shape of {name}"
        present = torch.maximum(a, b) > -1e4  # absent classes must not set the scale
        size = float(torch.maximum(a.abs(), b.abs())[present].max()) if present.any() else 1.0
        gap = float((a - b).abs().max()) / max(1.0, size) if a.numel() else 0.0
        if math.isnan(gap):  # every later gap would seem larger, and replace it
            return math.inf, name
        if gap > worst:
            worst, where = gap, name
    return worst, where


def same_bits(one: Outputs, other: Outputs) -> str | None:
    """Return what differs between two outputs, or None when they are equal to the bit."""
    first, second = tensors_of(one), tensors_of(other)
    if first.keys() != second.keys():
        return "views"
    return next((name for name, value in first.items() if not torch.equal(value, second[name])), None)


def changed_entries(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of a state dict's entries that are not equal to the bit."""
    return [name for name, value in before.items() if not torch.equal(value, after[name])]


def copy_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a module's state dict."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def generator_states() -> tuple[object, ...]:
    """Return the states of the generators of random, numpy and torch, comparable with ``==``."""
    legacy = np.random.get_state(legacy=False)
    inner = legacy["state"]
    numpy_state = (inner["key"].tobytes(), inner["pos"], legacy["has_gauss"], legacy["gauss"])
    return random.getstate(), numpy_state, torch.random.get_rng_state().numpy().tobytes()


def touched_generators(before: tuple[object, ...]) -> list[str]:
    """Return the generators that have moved since `generator_states`."""
    after = generator_states()
    names = ("random", "numpy.random", "torch")
    return [name for name, old, new in zip(names, before, after, strict=True) if old != new]
