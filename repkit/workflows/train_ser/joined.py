"""Several embeddings of one condition, joined so that each weighs alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from repkit.runs.directory import canonical_hash
from repkit.store import Store, StoreSpec
from repkit.store.reader import LoadedVectors


def block_weights(blocks: Sequence[int]) -> torch.Tensor:
    """Return the factor (D,) float32 of every column of joined embeddings, D = sum of the blocks.

    Standardised columns of a block of D_k are multiplied by sqrt(m / D_k), m the mean of all D_k: divided by the root of
    the block's dimension, so that every block brings the same share to lengths and inner products, and multiplied by
    one number common to all, so that the whole keeps the size of a plain standardised vector (one block: factor 1; blocks
    of one size: plain joining), for which the settings of models were chosen. Source: own design.

    Args:
        blocks: D_k of each embedding.
    """
    mean = sum(blocks) / len(blocks)
    return torch.cat([torch.full((dim,), (mean / dim) ** 0.5) for dim in blocks])


class JoinedStore:
    """Stores of utterance vectors of one corpus, read as one whose vectors stand side by side.

    It offers of `repkit.store.Store` what planning and loading use. The vectors come as they are stored; their
    standardisation and weights (`block_weights`) are each fold's.

    Attributes:
        parts: the stores.
        spec: of the whole: dimensions added; the sources of the parts, and what any of them has heard.
        left_out: ids that any part left out, and why.
        blocks: D of each part.
    """

    def __init__(self, parts: Sequence[Store]) -> None:
        """Join stores of one corpus.

        Args:
            parts: stores of kind ``vectors`` and of one corpus fingerprint, at least one.
        """
        self.parts = tuple(parts)
        self.blocks = tuple(store.spec.dim for store in parts)
        self.left_out = {i: why for store in parts for i, why in store.left_out.items()}
        sources = [store.spec.source for store in parts]
        self.spec = StoreSpec(
            kind="vectors",
            dim=sum(self.blocks),
            dtype="float32",
            corpus=parts[0].spec.corpus,
            corpus_fingerprint=parts[0].spec.corpus_fingerprint,
            source={
                "encoder": "joined",
                "parts": [{"dim": s.spec.dim, "dtype": s.spec.dtype, "source": s.spec.source} for s in parts],
                "corpora": _unique(one for s in sources for one in s.get("corpora") or ()),
                "speakers": _unique(one for s in sources for one in s.get("speakers") or ()),
            },
        )

    def require(self, ids: Iterable[str], what: str) -> None:
        """Make sure that all ids are in every part.

        Raises:
            StoreError: see `repkit.store.Store.require`.
        """
        wanted = list(ids)
        for store in self.parts:
            store.require(wanted, what)

    def load(self, ids: Sequence[str]) -> LoadedVectors:
        """Return the joined vectors (n, D) float32 of these utterances.

        Raises:
            StoreError: unknown ids, or a damaged shard.
        """
        return LoadedVectors(np.concatenate([store.load(ids).values for store in self.parts], axis=1), tuple(ids))


def _unique(values: Iterable[Any]) -> list[Any]:
    """Return JSON values, each once, in their order."""
    return list({canonical_hash(value): value for value in values}.values())
