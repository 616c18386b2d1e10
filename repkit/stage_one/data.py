"""Pieces of utterances to train on: cut from frames stores, in memory when they fit, batched by length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repkit.api import Utterance
from repkit.errors import DataError
from repkit.runs.seeding import generator
from repkit.stage_one.recurrent import pad


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames ``start`` to ``stop`` of one utterance of one store."""

    store: int
    id: str
    start: int
    stop: int


def cut(n_frames: int, longest: int, how: str, hop: int | None = None) -> list[tuple[int, int]]:
    """Return (start, stop) of the pieces of an utterance of n_frames frames.

    Args:
        n_frames: its length.
        longest: most frames of a piece.
        how: ``"split"``, ``"truncate"`` or ``"whole"``; see `PretrainConfig.chunks`.
        hop: distance of two pieces' starts when splitting; None puts them end to end, evenly long.
    """
    if how == "whole" or n_frames <= longest:
        return [(0, n_frames)]
    if how == "truncate":
        return [(0, longest)]
    if hop is None:
        # even pieces, because a rest of a few frames would be a poor utterance
        n = math.ceil(n_frames / longest)
        edges = [round(i * n_frames / n) for i in range(n + 1)]
        return list(pairwise(edges))
    starts = list(range(0, n_frames - longest, hop))
    return [*((s, s + longest) for s in starts), (n_frames - longest, n_frames)]


class Pieces:
    """All pieces of some stores' utterances.

    Attributes:
        pieces: in the order of the stores.
        lengths: (n,) int64 frames.
    """

    def __init__(
        self, stores: Sequence[Any], ids: Sequence[set[str]], longest: int, how: str, hop: int | None, ram_budget: float
    ) -> None:
        """Cut the utterances `ids` (one set per store) into pieces; hold the frames if `ram_budget` bytes allow."""
        self._stores = stores
        self._memory: list[dict[str, np.ndarray]] | None = None
        self.pieces: list[Piece] = []
        size = 0.0
        for number, (store, wanted) in enumerate(zip(stores, ids, strict=True)):
            for id, n_frames in zip(store.ids, store.lengths, strict=True):
                if id in wanted:
                    size += int(n_frames) * store.spec.dim * np.dtype(store.spec.dtype).itemsize
                    self.pieces += [Piece(number, id, a, b) for a, b in cut(int(n_frames), longest, how, hop)]
        self.lengths = np.array([piece.stop - piece.start for piece in self.pieces], np.int64)
        if size <= ram_budget:
            self._memory = []
            for store, wanted in zip(stores, ids, strict=True):
                chosen = [id for id in store.ids if id in wanted]
                values, offsets, _ = store.load(chosen, dtype=None)
                self._memory.append({id: values[offsets[i] : offsets[i + 1]] for i, id in enumerate(chosen)})

    def __len__(self) -> int:
        return len(self.pieces)

    def frames(self, index: int) -> np.ndarray:
        """Return (T, F) of one piece, in the dtype at hand."""
        piece = self.pieces[index]
        if self._memory is not None:
            return self._memory[piece.store][piece.id][piece.start : piece.stop]
        return self._stores[piece.store].read(piece.id)[piece.start : piece.stop]

    def batch(self, indices: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return zero-padded frames (B, T, F) float32 and lengths (B,) int64."""
        return pad([self.frames(int(i)) for i in indices], device)

    def in_order(self, batch_size: int) -> list[np.ndarray]:
        """Return batches of all pieces, longest first, for evaluation."""
        order = np.argsort(-self.lengths, kind="stable")
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class DevSplit:
    """Which utterances are heard in training and which only by the validation loss.

    Attributes:
        train: ids.
        dev: ids; empty when nothing is held out.
        train_speakers: speakers heard, sorted; utterances of unknown speakers add none.
        dev_speakers: held-out speakers, sorted; empty when utterances were held out.
        note: how it was chosen, for the log and the results.
    """

    train: frozenset[str]
    dev: frozenset[str]
    train_speakers: tuple[str, ...]
    dev_speakers: tuple[str, ...]
    note: str


def split_speakers(utterances: Sequence[Utterance], share: float, seed: int) -> DevSplit:
    """Hold out a share of the speakers (at least one), or of the utterances where speakers are not known.

    Raises:
        DataError: fewer than two utterances to divide.
    """
    ids = sorted(u.id for u in utterances)
    speakers = sorted({u.speaker for u in utterances if u.speaker is not None})
    if not share:
        return DevSplit(frozenset(ids), frozenset(), tuple(speakers), (), "nothing held out (dev_speakers = 0)")
    if len(ids) < 2:
        raise DataError(
            f"validation split: got {len(ids)} utterances; at least 2 were expected; "
            "give more speech or set dev_speakers = 0"
        )
    known = all(u.speaker is not None for u in utterances)
    if known and len(speakers) > 1:
        held = set(_draw(speakers, share, seed))
        dev = frozenset(u.id for u in utterances if u.speaker in held)
        left = tuple(s for s in speakers if s not in held)
        note = f"{len(held)} of {len(speakers)} speakers held out"
        return DevSplit(frozenset(ids) - dev, dev, left, tuple(sorted(held)), note)
    dev = frozenset(_draw(ids, share, seed))
    why = "there is only one speaker" if known else "the speakers of some utterances are not known"
    note = f"{len(dev)} of {len(ids)} utterances held out, not speakers, because {why}"
    return DevSplit(frozenset(ids) - dev, dev, tuple(speakers), (), note)


def _draw(names: Sequence[str], share: float, seed: int) -> list[str]:
    order = torch.randperm(len(names), generator=generator(seed, "dev split")).tolist()
    n = min(max(1, round(share * len(names))), len(names) - 1)
    return [names[i] for i in order[:n]]
