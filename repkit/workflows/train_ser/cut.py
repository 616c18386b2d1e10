"""What the audit says of utterances that are longer than a recipe lets the models hear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import torch

from repkit.audio.lengths import utterance_seconds
from repkit.workflows.train_ser.context import is_estimator
from repkit.workflows.train_ser.data import build_frontend
from repkit.workflows.train_ser.plan import SerPlan


def cut_notes(plan: SerPlan, lengths: torch.Tensor | None = None) -> tuple[str, ...]:
    """Return the audit's note on test utterances of which only the begin is heard (``max_duration_s``), if there are any.

    It is no part of the protocol: its id stands for the utterances, not for how much a system hears of them.

    Args:
        plan: what is planned.
        lengths: frames of every utterance (n,), so that only the files of those at the limit are looked at; None to
            look at the headers of all test utterances.
    """
    limit = plan.recipe.max_duration_s
    hearing = [c.name for c in plan.conditions if not is_estimator(c.recipe)]  # the others read vectors alone
    if limit is None or not hearing:
        return ()
    tested = {i for fold in plan.folds for i in fold.test}
    utterances = [u for u in plan.utterances if u.id in tested]
    if lengths is not None:
        frontend = build_frontend(plan)
        most = frontend.n_frames(round(limit * frontend.sample_rate))
        full = {u.id for u, n in zip(plan.utterances, lengths.tolist(), strict=True) if n >= most}
        utterances = [u for u in utterances if u.id in full]
    seconds = dict(utterance_seconds(utterances))
    cut = [u for u in utterances if u.id in seconds and seconds[u.id] > limit]
    # of corpora without files nothing tells what comes after the part that is heard
    unknown = [] if lengths is None else [u for u in utterances if u.id not in seconds]
    notes = []
    if cut:
        longest = max(seconds[u.id] for u in cut)
        notes.append(
            f"{len(cut)} of {len(tested)} test utterances are longer than {limit:g} s and are heard only up to there "
            f"(max_duration_s); the longest lasts {longest:.1f} s{_vectors_hear(plan, limit)}"
        )
    if unknown:
        notes.append(
            f"{len(unknown)} of {len(tested)} test utterances last {limit:g} s or longer and are heard only up to there "
            f"(max_duration_s); how much longer is not known{'' if cut else _vectors_hear(plan, limit)}"
        )
    return tuple(notes)


def _vectors_hear(plan: SerPlan, limit: float) -> str:
    """Return which conditions' embeddings were made of more than the models hear, as far as their stores tell."""
    more: dict[str, dict[str, None]] = {}
    for condition in plan.conditions:
        for store in condition.stores.values():
            source = store.spec.source
            for one in [part["source"] for part in source.get("parts", ())] or [source]:
                heard = _heard_s(one)
                if heard > limit:
                    extent = "the whole utterance" if heard == inf else f"its first {heard:g} s"
                    more.setdefault(extent, {})[condition.name] = None
    told = [f"the embeddings of {', '.join(names)} were made of {extent}" for extent, names in more.items()]
    return f"; {'; '.join(told)}" if told else ""


def _heard_s(source: Mapping[str, Any]) -> float:
    """Return how many seconds of an utterance embeddings were made of at most, 0 where their store does not tell."""
    if "max_duration_s" not in source:
        return 0.0
    limits = [source["max_duration_s"], *_fixed_lengths(source)]
    return min((float(one) for one in limits if one is not None), default=inf)


def _fixed_lengths(value: object) -> Iterator[float | None]:
    """Yield every ``fixed_length_s`` of an encoder's settings, however deep."""
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if key == "fixed_length_s":
            yield inner
        yield from _fixed_lengths(inner)
