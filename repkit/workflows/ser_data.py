"""Bring a plan's frames and embeddings into shared memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repkit.api import MISSING, Corpus, Utterance
from repkit.errors import DataError
from repkit.features.extract import extract_frames
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


def load_data(plan: SerPlan, stores: dict[str, Store]) -> TrainingData:
    """Return frames and targets of the plan's utterances.

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
    return TrainingData(ids=ids, frames=_ragged(plan, stores), targets=targets)


def _ragged(plan: SerPlan, stores: dict[str, Store]) -> RaggedTensor:
    values, lengths = [], []
    for name, store in stores.items():
        loaded = store.load([u.id for u in plan.utterances if u.corpus == name])
        values.append(loaded.values.astype(np.float32))
        lengths.append(np.diff(loaded.offsets))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return RaggedTensor(torch.from_numpy(np.concatenate(values)), torch.from_numpy(offsets))


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
            ragged = _ragged(plan, dict(condition.stores))
            ragged.values.share_memory_()
            ragged.offsets.share_memory_()
            states[condition.name] = ragged
    return vectors, states


def audio_hashes(data: TrainingData) -> dict[str, str]:
    """Return a hash of each utterance's frames; equal ones are the same sound."""
    offsets = data.frames.offsets.tolist()
    values = data.frames.values.numpy()
    return {
        i: hashlib.sha256(values[start:end].tobytes()).hexdigest()
        for i, start, end in zip(data.ids, offsets, offsets[1:], strict=False)
    }


def normalisation_groups(mode: str, min_clips: int, utterances: list[Utterance]) -> tuple[torch.Tensor | None, list[str]]:
    """Return each utterance's group under per_speaker and per_corpus, and what must be said about it.

    A speaker with fewer than min_clips clips is normalised with its corpus: the mean of two or three clips would remove
    the emotion with the voice (seen on URDU, where per-speaker statistics collapse to chance).

    Raises:
        DataError: per_speaker with an utterance whose speaker is not known.
    """
    if mode not in ("per_speaker", "per_corpus"):
        return None, []
    notes = []
    keys = [u.corpus for u in utterances]
    if mode == "per_speaker":
        unknown = [u.id for u in utterances if u.speaker is None]
        if unknown:
            raise DataError(f"normalisation per_speaker: {unknown[0]} has no speaker; name it or use per_corpus")
        clips: dict[str, int] = {}
        for u in utterances:
            clips[str(u.speaker)] = clips.get(str(u.speaker), 0) + 1
        few = sorted(s for s, n in clips.items() if n < min_clips)
        keys = [u.corpus if str(u.speaker) in few else str(u.speaker) for u in utterances]
        if few:
            notes.append(f"{len(few)} of {len(clips)} speakers have fewer than {min_clips} clips and are normalised with their corpus")
    names = {key: i for i, key in enumerate(sorted(set(keys)))}
    return torch.tensor([names[key] for key in keys]), notes
