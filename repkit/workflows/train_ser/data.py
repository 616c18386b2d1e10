"""Bring a plan's frames and embeddings into shared memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from repkit.api import DOMAINS, MISSING
from repkit.errors import DataError, UsageError
from repkit.features.extract import cached_frames, look_through
from repkit.features.normalise import fit_normaliser
from repkit.features.ragged import Ragged
from repkit.plugins.guards import make_frontend
from repkit.runs.executors import Executor
from repkit.store import Store
from repkit.training.data import RaggedTensor, Segments, TrainingData
from repkit.workflows.train_ser.plan import SerPlan
from repkit.workflows.train_ser.states import in_time

Progress = Callable[[str, int, float], None]
"""Told the corpus, the utterances done and the hours of speech done."""


def build_frontend(plan: SerPlan) -> Any:
    """Return the recipe's frontend."""
    return make_frontend(plan.recipe.frontend.name, plan.recipe.frontend.settings, "frontend")


def frame_stores(
    plan: SerPlan,
    on_bad_audio: str,
    progress: Progress,
    workers: int | None = None,
    executor: Executor | None = None,
    notice: Callable[[str], None] | None = None,
) -> dict[str, Store]:
    """Return the log-Mel store of every corpus, made in the cache where it is not there yet.

    Args:
        plan: what is planned.
        on_bad_audio: ``stop`` or ``skip``.
        progress: told how far it is.
        workers: most processes; several are used only where that is sooner done. None for one per core at most.
        executor: where to make shards of frames instead.
        notice: told in a sentence when several processes are used.

    Raises:
        DataError: audio that cannot be used, all files at once, unless on_bad_audio is ``skip``.
    """
    frontend = build_frontend(plan)

    def frames_of(name: str) -> Store:
        return cached_frames(
            plan.corpora[name],
            frontend,
            on_bad_audio=on_bad_audio,
            max_duration_s=plan.recipe.max_duration_s,
            progress=lambda n, hours: progress(name, n, hours),
            workers=1 if workers == 1 else None,
            most_workers=workers,
            executor=executor,
            notice=notice,
        )

    return dict(zip(plan.corpora, look_through(frames_of, plan.corpora), strict=True))


def remove_left_out(plan: SerPlan, stores: dict[str, Store]) -> dict[str, str]:
    """Return the plan's utterances whose audio was left out, with the reason; empty when there are none."""
    wanted = {u.id for u in plan.utterances}
    return {i: why for store in stores.values() for i, why in store.left_out.items() if i in wanted}


def load_data(plan: SerPlan, stores: dict[str, Store]) -> tuple[TrainingData, tuple[str, ...], dict[str, str]]:
    """Return frames and targets of the plan's utterances, notes on their normalisation, and a hash of each one's sound.

    Frames are normalised here except under global_train, whose statistics each fold takes from its own train part.

    Raises:
        DataError: the frames do not cover the utterances.
    """
    ids = [u.id for u in plan.utterances]
    for name, store in stores.items():
        store.require([i for i in ids if i.startswith(f"{name}/")], "frames")
    targets = {}
    for view in (*plan.recipe.labels.views, *plan.recipe.labels.auxiliary):
        index = {c: i for i, c in enumerate(plan.labels.classes[view])}
        found = [plan.labels.targets(u)[view] for u in plan.utterances]
        targets[view] = torch.tensor([MISSING if c is None else index[c] for c in found])
    frames = _load_ragged(plan, stores)
    hashes = {i: hashlib.sha256(frames[i].tobytes()).hexdigest() for i in ids}
    table, notes = plan.recipe.normalisation, ()
    if table.mode not in ("none", "global_train"):
        normaliser = fit_normaliser(table.mode, frames, plan.utterances, (), table.min_clips)
        frames, notes = normaliser.apply(frames), normaliser.notes
    corpora = list(plan.corpora)
    data = TrainingData(
        ids=ids,
        frames=_tensors(frames),
        targets=targets,
        corpora=torch.tensor([corpora.index(u.corpus) for u in plan.utterances]),
    )
    data.segments = cut_segments(plan, data.frames.lengths)
    return data, notes, hashes


def cut_segments(plan: SerPlan, lengths: torch.Tensor) -> Segments | None:
    """Return the segments of utterances of these lengths (n,) in frames, or None when the recipe has none."""
    table = plan.recipe.segments
    if table is None:
        return None
    frontend = build_frontend(plan)
    n_frames = frontend.n_frames(round(table.length_s * frontend.sample_rate))
    if n_frames < 1:
        raise UsageError(
            f"segments.length_s {table.length_s}: shorter than one frame of the frontend; a longer one was expected"
        )
    return Segments.cut(lengths, n_frames, (table.step_s or table.length_s) / frontend.frame_shift_s)


def attributes(plan: SerPlan) -> dict[str, list[str | None]]:
    """Return speaker, corpus, language and gender of every utterance."""
    return {name: [getattr(u, name) for u in plan.utterances] for name in DOMAINS}


def corpus_classes(plan: SerPlan) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return per corpus the classes of each view that occur in it, in the order of the view's."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in plan.corpora:
        targets = [plan.labels.targets(u) for u in plan.utterances if u.corpus == name]
        found[name] = {
            view: tuple(c for c in plan.labels.classes[view] if any(t[view] == c for t in targets))
            for view in (*plan.recipe.labels.views, *plan.recipe.labels.auxiliary)
        }
    return found


def crop_frames(plan: SerPlan) -> dict[float, int]:
    """Return the frames of every crop_s of the plan's conditions."""
    frontend = build_frontend(plan)
    wanted = {table.crop_s for c in plan.conditions for _, table in c.recipe.resolved_phases()} - {None}
    return {crop: max(1, frontend.n_frames(round(crop * frontend.sample_rate))) for crop in wanted if crop is not None}


def _load_ragged(plan: SerPlan, stores: Mapping[str, Store]) -> Ragged:
    parts = [Ragged(*stores[name].load([u.id for u in plan.utterances if u.corpus == name])) for name in plan.corpora]
    if len(parts) == 1:
        return parts[0]  # not copied: the frames of a large corpus are most of what a run holds in memory
    return Ragged.from_arrays([part[i] for part in parts for i in part.ids], [i for part in parts for i in part.ids])


def _tensors(frames: Ragged) -> RaggedTensor:
    return RaggedTensor(torch.from_numpy(frames.values), torch.from_numpy(frames.offsets))


def load_embeddings(
    plan: SerPlan, n_frames: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, RaggedTensor], tuple[str, ...]]:
    """Return per condition the utterance vectors (n, D) or the frame-level states, in the order of the utterances.

    Vectors standardised by speaker or by corpus are so here, with notes on it; those by train are left to each fold.

    Args:
        plan: what is planned.
        n_frames: (n,) int64 frames of every utterance, whose time the states are going to cover.
    """
    vectors, states = {}, {}
    notes: dict[str, None] = {}
    ids = tuple(u.id for u in plan.utterances)
    for condition in plan.conditions:
        if condition.fusion == "late":
            parts = [
                condition.stores[name].load([u.id for u in plan.utterances if u.corpus == name]).values
                for name in plan.corpora
            ]
            values = np.concatenate(parts).astype(np.float32)
            table = condition.recipe.vector
            if table.standardise and table.by != "train":
                normaliser = fit_normaliser(
                    table.by, Ragged.from_vectors(values, ids), plan.utterances, (), table.min_clips
                )
                values = normaliser.apply(Ragged.from_vectors(values, ids)).values
                notes |= dict.fromkeys(f"vector {note}" for note in normaliser.notes)
            vectors[condition.name] = torch.from_numpy(values)
        elif condition.fusion == "early":
            states[condition.name] = _tensors(_load_states(plan, condition.stores, n_frames))
    return vectors, states, tuple(notes)


def _load_states(plan: SerPlan, stores: Mapping[str, Any], n_frames: torch.Tensor) -> Ragged:
    """Return the states of every utterance that cover the time of its frames."""
    frame_shift_s, ids = build_frontend(plan).frame_shift_s, [u.id for u in plan.utterances]
    frames, values = dict(zip(ids, n_frames.tolist(), strict=True)), []
    for name in plan.corpora:
        store = stores[name]
        found = Ragged(*store.load([u.id for u in plan.utterances if u.corpus == name]))
        starts = dict.fromkeys(found.ids, 0.0) if store.starts is None else store.starts
        shift_s = store.spec.frame_shift_s
        values += [in_time(found[i], starts[i], shift_s, frames[i], frame_shift_s) for i in found.ids]
    return Ragged.from_arrays(values, ids)


def share(data: TrainingData, vectors: Mapping[str, torch.Tensor], states: Mapping[str, RaggedTensor]) -> None:
    """Move all that the processes of a run read to shared memory, in place.

    Raises:
        DataError: there is not enough of it, as in a container with the usual 64 MB.
    """
    tensors = [*vectors.values(), *(tensor for s in states.values() for tensor in (s.values, s.offsets))]
    try:
        data.share_memory()
        for tensor in tensors:
            tensor.share_memory_()
    except RuntimeError as error:
        frames = data.frames.values
        size = sum(t.numel() * t.element_size() for t in [frames, *tensors]) / 1e6
        raise DataError(
            f"/dev/shm: {error}; room for {size:.0f} MB was expected, which the processes share; "
            "make it larger (docker run --shm-size) or use --workers 1"
        ) from error
