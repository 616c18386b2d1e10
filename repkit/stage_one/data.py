"""Pieces of utterances to train on: cut from frames stores, in memory or read window by window, batched by length."""

from __future__ import annotations

import math
import mmap
import threading
from array import array
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from repkit.api import Utterance
from repkit.errors import DataError
from repkit.features.collate import length_batches
from repkit.runs.seeding import derive_seed, generator
from repkit.stage_one.recurrent import pad
from repkit.store import SHARD_SIZE, StoreSpec

_AT_ONCE = 32
"""Utterances read in one go, so that what reading needs besides stays small."""

_READING = threading.Lock()
"""Held while a store is read, because the pieces of training and validation share its open files."""


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
        how: ``"split"``, ``"truncate"``, ``"whole"`` or ``"random"`` (here evenly spread); see `PretrainConfig.chunks`.
        hop: distance of two pieces' starts when splitting; None puts them end to end, evenly long.
    """
    if how == "whole" or n_frames <= longest:
        return [(0, n_frames)]
    if how == "truncate":
        return [(0, longest)]
    if how == "random":
        n = math.ceil(n_frames / longest)
        return [(start, start + longest) for start in (round(i * (n_frames - longest) / (n - 1)) for i in range(n))]
    if hop is None:
        # even pieces, because a rest of a few frames would be a poor utterance
        n = math.ceil(n_frames / longest)
        edges = [round(i * n_frames / n) for i in range(n + 1)]
        return list(pairwise(edges))
    starts = list(range(0, n_frames - longest, hop))
    return [*((s, s + longest) for s in starts), (n_frames - longest, n_frames)]


class Pieces:
    """All pieces of some stores' utterances, and the order they are heard in.

    What is too large for memory is read by *windows*: shard-sized blocks of utterances, in an order drawn from (seed,
    epoch), are put together until they make up the frames of a window; its pieces are shuffled and batched by length among
    themselves; while it is heard, the next one is read. So every piece is heard once an epoch, memory is that of two
    windows however large the corpus is, and the order depends neither on the memory nor on where a run was stopped. A
    corpus of one window is shuffled as a whole.

    Attributes:
        lengths: (n,) int64 frames of each piece, in the order of the stores.
        in_memory: whether all frames are held.
    """

    def __init__(
        self,
        stores: Sequence[Any],
        ids: Sequence[set[str]],
        longest: int,
        how: str,
        hop: int | None,
        ram_budget: float,
        window_frames: float = math.inf,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Cut utterances into pieces.

        Args:
            stores: open frames stores.
            ids: the utterances wanted of each.
            longest: most frames of a piece.
            how: see `cut`.
            hop: see `cut`.
            ram_budget: bytes up to which all frames are held in memory.
            window_frames: frames of a window; one more block may go over it.
            weights: how often the pieces of each store are heard in an epoch, of `batches`; None for once.
        """
        self._stores = stores
        self._ids: list[str] = []
        first_of_store: list[int] = []
        blocks, counts, table = array("q"), array("q"), array("q")  # a list of numbers takes four times the memory
        size = 0
        chances = array("d")  # of each piece to be heard in an epoch
        self._random = how == "random"
        for store, wanted, weight in zip(stores, ids, weights or [1.0] * len(stores), strict=True):
            # a piece heard several times has as many entries, the last one with the chance that is left
            shares = [min(1.0, weight - copy) for copy in range(math.ceil(weight))]
            first_of_store.append(len(self._ids))
            first_block = 1 + (blocks[-1] if blocks else -1)
            for place, (id, n_frames) in enumerate(zip(store.ids, store.lengths, strict=True)):
                if id not in wanted:
                    continue
                for start, stop in cut(int(n_frames), longest, how, hop):
                    for share in shares:
                        table.extend((len(self._ids), start, stop))
                        chances.append(share)
                self._ids.append(id)
                blocks.append(first_block + place // SHARD_SIZE)
                counts.append(int(n_frames))
                size += int(n_frames) * store.spec.dim * np.dtype(store.spec.dtype).itemsize
        self._first_of_store = np.array(first_of_store, np.int64)
        self._blocks = np.unique(np.array(blocks, np.int64), return_inverse=True)[1]
        self._table = np.array(table, np.int64).reshape(-1, 3)
        self._chances = np.array(chances) if any(chance != 1.0 for chance in chances) else None
        self.lengths = self._table[:, 2] - self._table[:, 1]
        self._block_frames = np.bincount(self._blocks, weights=np.array(counts, np.float64))
        self._frames_of = np.array(counts, np.int64)
        self._window_frames = window_frames
        self.in_memory = size <= ram_budget
        self._memory: dict[int, np.ndarray] = {}
        self._resident: tuple[Tensor, np.ndarray] | None = None
        self._too_large = False
        self._reader = ThreadPoolExecutor(1, "repkit-frames")
        self._coming: Future[dict[int, np.ndarray]] | None = None
        self._set_windows(np.arange(len(self._block_frames)))

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Piece:
        utterance, start, stop = self._table[index].tolist()
        store = int(np.searchsorted(self._first_of_store, utterance, "right")) - 1
        return Piece(store, self._ids[utterance], start, stop)

    # ------------------------------------------------------------------ order

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch, each an array of piece numbers, and read from now on in their order.

        Args:
            batch_size: pieces per batch; the last one of a window may be smaller.
            seed: of the run.
            epoch: counted from 0.
        """
        order = np.random.default_rng([derive_seed(seed, "windows"), epoch]).permutation(len(self._block_frames))
        windows = self._heard(self._set_windows(order), seed, epoch)
        found = []
        for number, pieces in enumerate(windows):
            own_seed = derive_seed(seed, "window", number) if len(windows) > 1 else seed
            found += [pieces[b] for b in length_batches(self.lengths[pieces], batch_size, own_seed, epoch)]
        return found

    def _heard(self, windows: list[np.ndarray], seed: int, epoch: int) -> list[np.ndarray]:
        """Draw an epoch's places of random pieces and leave out those that it does not hear."""
        if self._random:
            utterances, lengths = self._table[:, 0], self.lengths
            draw = np.random.default_rng([derive_seed(seed, "places"), epoch])
            starts = draw.integers(0, self._frames_of[utterances] - lengths + 1)
            self._table[:, 1], self._table[:, 2] = starts, starts + lengths
        if self._chances is None:
            return windows
        draw = np.random.default_rng([derive_seed(seed, "corpora"), epoch])
        heard = draw.random(len(self._table)) < self._chances
        return [pieces[heard[pieces]] for pieces in windows if heard[pieces].any()]

    def in_order(self, batch_size: int) -> list[list[np.ndarray]]:
        """Return batches of all pieces for evaluation, window by window, longest first in each."""
        windows = self._set_windows(np.arange(len(self._block_frames)))
        ordered = [pieces[np.argsort(-self.lengths[pieces], kind="stable")] for pieces in windows]
        return [[pieces[i : i + batch_size] for i in range(0, len(pieces), batch_size)] for pieces in ordered]

    def _set_windows(self, order: np.ndarray) -> list[np.ndarray]:
        """Put blocks together in this order; return the pieces of each window, in the order of the stores."""
        of_block = np.zeros(len(order), np.int64)
        window, frames = 0, 0.0
        for block in order:
            if frames >= self._window_frames:
                window, frames = window + 1, 0.0
            of_block[block] = window
            frames += self._block_frames[block]
        self._window_of = of_block[self._blocks] if len(order) else np.zeros(0, np.int64)
        self._n_windows = window + 1
        if not self.in_memory:  # what is there belongs to another order
            self._memory, self._coming = {}, None
        of_piece = self._window_of[self._table[:, 0]]
        return [np.flatnonzero(of_piece == number) for number in range(self._n_windows)]

    # ------------------------------------------------------------------ frames

    def frames(self, index: int) -> np.ndarray:
        """Return (T, F) of one piece, in the dtype at hand."""
        utterance, start, stop = self._table[index].tolist()
        if utterance not in self._memory:
            self._enter(int(self._window_of[utterance]))
        return self._memory[utterance][start:stop]

    def batch(self, indices: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return zero-padded frames (B, T, F) float32 and lengths (B,) int64."""
        device = torch.device(device)
        resident = self._on_device(device) if self.in_memory and device.type != "cpu" else None
        if resident is None:
            return pad([self.frames(int(i)) for i in indices], device)
        rows, first = resident
        utterances, starts, stops = self._table[list(indices)].T
        parts = [rows[a:b] for a, b in zip((first[utterances] + starts).tolist(), (first[utterances] + stops).tolist())]
        return pad_sequence(parts, batch_first=True).float(), torch.from_numpy(stops - starts).to(device)

    def _on_device(self, device: torch.device) -> tuple[Tensor, np.ndarray] | None:
        """Return all frames (N, F) on a GPU, where they stay, and the first row of each utterance; None if it has no room."""
        if self._resident is None and not self._too_large:
            if not self._memory:
                self._enter(0)
            parts = [self._memory[i] for i in range(len(self._ids))]
            first = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
            size = sum(part.nbytes for part in parts)
            # half of what is free stays for the model and its batches
            self._too_large = device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] / 2
            if not self._too_large:
                self._resident = torch.from_numpy(np.concatenate(parts)).to(device), first
        return self._resident

    def _enter(self, window: int) -> None:
        if self.in_memory:
            self._memory = self._read(np.arange(len(self._ids)))
            return
        coming, self._coming = self._coming, None
        self._memory = {}
        found = None if coming is None else coming.result()
        if found is None or self._window_of[next(iter(found))] != window:
            found = self._read(np.flatnonzero(self._window_of == window))
        self._memory = found
        if window + 1 < self._n_windows:
            following = np.flatnonzero(self._window_of == window + 1)
            self._coming = self._reader.submit(self._read, following)

    def _read(self, utterances: np.ndarray) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        edges = [*self._first_of_store.tolist(), len(self._ids)]
        for store, (first, after) in zip(self._stores, pairwise(edges), strict=True):
            of_store = utterances[(utterances >= first) & (utterances < after)].tolist()
            for at in range(0, len(of_store), SHARD_SIZE):
                chosen = of_store[at : at + SHARD_SIZE]
                at_frame = [0, *np.cumsum(self._frames_of[chosen]).tolist()]
                block = _in_own_pages(at_frame[-1], store.spec)
                with _READING:
                    for few in range(0, len(chosen), _AT_ONCE):
                        ids = [self._ids[i] for i in chosen[few : few + _AT_ONCE]]
                        block[at_frame[few] : at_frame[few + len(ids)]] = store.load(ids, dtype=None).values
                    store.close()  # an open shard holds some megabytes of chunks, and there may be many
                found |= {i: block[a:b] for i, (a, b) in zip(chosen, pairwise(at_frame), strict=True)}
        return found


def _in_own_pages(n_frames: int, spec: StoreSpec) -> np.ndarray:
    """Return an empty (n_frames, F) array whose memory goes back to the system when it is dropped.

    `repkit.runs.executors.keep_freed_memory` makes the C library keep what is freed, and blocks of ever other sizes would
    not fit into what the ones before have left: memory would grow with the corpus.
    """
    kind = np.dtype(spec.dtype)
    pages = mmap.mmap(-1, max(1, n_frames * spec.dim * kind.itemsize), access=mmap.ACCESS_COPY)
    return np.frombuffer(pages, kind, n_frames * spec.dim).reshape(n_frames, spec.dim)


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
