"""Bring a plan's frames and embeddings into shared memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repkit.api import MISSING, Corpus
from repkit.features.extract import extract_frames
from repkit.features.normalise import fit_normaliser
from repkit.features.ragged import Ragged
from repkit.plugins import build_config, load
from repkit.runs.directory import cache_root, canonical_hash
from repkit.store import Store
from repkit.training.data import RaggedTensor, TrainingData
from repkit.workflows.ser_plan import SerPlan

Progress = Callable[[str, int, float], None]
"""Told the corpus, the utterances done and the hours of speech done."""


def build_frontend(plan: SerPlan) -> Any:
    """Return the recipe's frontend."""
    frontend_class = load("repkit.frontends", plan.recipe.frontend.name)
    return frontend_class(build_config(frontend_class, plan.recipe.frontend.settings, "frontend"))


def frame_stores(plan: SerPlan, on_bad_audio: str, progress: Progress) -> dict[str, Store]:
    """Return the log-Mel store of every corpus, made in the cache where it is not there yet.

    Raises:
        DataError: audio that cannot be used, all files at once, unless on_bad_audio is ``skip``.
    """
    frontend = build_frontend(plan)
    stores = {}
    for name, corpus in plan.corpora.items():
        stores[name] = extract_frames(
            corpus,
            frontend,
            frames_path(corpus, frontend, plan.recipe.max_duration_s),
            on_bad_audio=on_bad_audio,
            max_duration_s=plan.recipe.max_duration_s,
            dtype="float16",
            progress=lambda n, hours, name=name: progress(name, n, hours),
        )
    return stores


def frames_path(corpus: Corpus, frontend: Any, max_duration_s: float | None) -> Path:
    """Return where the frames of a corpus are cached, by content and settings."""
    key = canonical_hash([corpus.fingerprint(), dict(frontend.convention()), max_duration_s])[:12]
    return cache_root() / "frames" / f"{corpus.name}-{key}"


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
    for view in plan.recipe.labels.views:
        index = {c: i for i, c in enumerate(plan.labels.classes[view])}
        found = [plan.labels.targets(u)[view] for u in plan.utterances]
        targets[view] = torch.tensor([MISSING if c is None else index[c] for c in found])
    frames = _load_ragged(plan, stores)
    hashes = {i: hashlib.sha256(frames[i].tobytes()).hexdigest() for i in ids}
    table, notes = plan.recipe.normalisation, ()
    if table.mode not in ("none", "global_train"):
        normaliser = fit_normaliser(table.mode, frames, plan.utterances, (), table.min_clips)
        frames, notes = normaliser.apply(frames), normaliser.notes
    return TrainingData(ids=ids, frames=_tensors(frames), targets=targets), notes, hashes


def _load_ragged(plan: SerPlan, stores: Mapping[str, Store]) -> Ragged:
    parts = [Ragged(*stores[name].load([u.id for u in plan.utterances if u.corpus == name])) for name in plan.corpora]
    return Ragged.from_arrays([part[i] for part in parts for i in part.ids], [i for part in parts for i in part.ids])


def _tensors(frames: Ragged) -> RaggedTensor:
    return RaggedTensor(torch.from_numpy(frames.values), torch.from_numpy(frames.offsets))


def load_embeddings(plan: SerPlan) -> tuple[dict[str, torch.Tensor], dict[str, RaggedTensor]]:
    """Return per condition the utterance vectors (n, D) or the frame-level states, in the order of the utterances."""
    vectors, states = {}, {}
    for condition in plan.conditions:
        if condition.fusion == "late":
            parts = [
                condition.stores[name].load([u.id for u in plan.utterances if u.corpus == name]).values
                for name in plan.corpora
            ]
            vectors[condition.name] = torch.from_numpy(np.concatenate(parts).astype(np.float32)).share_memory_()
        elif condition.fusion == "early":
            states[condition.name] = _tensors(_load_ragged(plan, condition.stores))
            states[condition.name].values.share_memory_()
            states[condition.name].offsets.share_memory_()
    return vectors, states
