"""What a stage-one training has heard; it goes with the weights, so that an audit can ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from repkit.api import Utterance
from repkit.stage_one.settings import PretrainConfig


def provenance(
    config: PretrainConfig, stores: Sequence[Any], split: Any, utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Return corpora, speakers and settings of a training as JSON values.

    Args:
        config: settings.
        stores: open frames stores, one per corpus.
        split: `repkit.stage_one.hours.choose_speech`, which utterances are trained on and which are held out.
        utterances: all of them.
    """
    corpora = []
    unknown = {u.id for u in utterances if u.speaker is None and u.id in split.train}
    frame_shift_s = stores[0].spec.frame_shift_s or 0.0
    for store in stores:
        nameless = sum(id in unknown for id in store.ids)
        n = sum(id in split.train for id in store.ids)
        frames = sum(int(t) for id, t in zip(store.ids, store.lengths) if id in split.train)
        corpora.append(
            {
                "name": store.spec.corpus,
                "fingerprint": store.spec.corpus_fingerprint,
                "frames_fingerprint": store.spec.fingerprint,
                "utterances": n,
                "hours": round(frames * frame_shift_s / 3600, 4),
                # the audit asks for it: they may be speakers of a later test part
                **({"utterances_of_unknown_speakers": nameless} if nameless else {}),
            }
        )
    return {
        "corpora": corpora,
        "speakers": list(split.train_speakers),
        "held_out_speakers": list(split.dev_speakers),
        "settings": config.model_dump(mode="json"),
    }
