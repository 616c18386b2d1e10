"""Sequences of different lengths in one array, keyed by utterance id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from repkit.errors import DataError


@dataclass(frozen=True, eq=False)
class Ragged:
    """Frames of many utterances, one after the other; vectors are sequences of length one.

    Attributes:
        values: (N, F) float32 (float16 is taken too, to save memory).
        offsets: (n+1,) int64; utterance i is ``values[offsets[i]:offsets[i + 1]]``.
        ids: n utterance ids, all different.

    Raises:
        DataError: the parts do not belong together.
    """

    values: np.ndarray
    offsets: np.ndarray
    ids: tuple[str, ...]
    _row: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "offsets", np.asarray(self.offsets, np.int64))
        object.__setattr__(self, "_row", {id: row for row, id in enumerate(self.ids)})
        if self.values.ndim != 2 or self.offsets.shape != (len(self.ids) + 1,) or len(self._row) != len(self.ids):
            raise DataError(
                f"ragged: values {self.values.shape}, offsets {self.offsets.shape}, {len(self.ids)} ids of which "
                f"{len(self._row)} different; (N, F), one offset more than ids and no id twice were expected"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.values) or (np.diff(self.offsets) < 0).any():
            raise DataError(
                f"ragged: offsets from {self.offsets[0]} to {self.offsets[-1]}; "
                f"0 to {len(self.values)} in ascending order was expected"
            )

    @classmethod
    def from_arrays(cls, arrays: Sequence[np.ndarray], ids: Iterable[str]) -> Ragged:
        """Join (T, F) arrays, one per id."""
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        values = np.concatenate(arrays) if arrays else np.zeros((0, 0), np.float32)
        return cls(np.asarray(values, np.float32), offsets, tuple(ids))

    @classmethod
    def from_vectors(cls, values: np.ndarray, ids: Iterable[str]) -> Ragged:
        """Take (n, D) vectors as sequences of length one; nothing is copied."""
        return cls(values, np.arange(len(values) + 1, dtype=np.int64), tuple(ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self._row

    def __getitem__(self, id: str) -> np.ndarray:
        """Return the (T, F) frames of an utterance, a view.

        Raises:
            DataError: an unknown id.
        """
        return self.at(self.row(id))

    def at(self, row: int) -> np.ndarray:
        """Return the (T, F) frames of the utterance at a place, a view."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def row(self, id: str) -> int:
        """Return the place of an utterance.

        Raises:
            DataError: an unknown id.
        """
        try:
            return self._row[id]
        except KeyError:
            raise DataError(
                f"utterance {id!r}: no frames; it was expected among {len(self.ids)} utterances; make the store again "
                "from the same corpus, or leave the utterance out"
            ) from None

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64 frames per utterance."""
        return np.diff(self.offsets)

    @property
    def dim(self) -> int:
        """Number of bands F."""
        return int(self.values.shape[1])

    def take(self, ids: Iterable[str]) -> Ragged:
        """Return the utterances of these ids in their order, a copy.

        Raises:
            DataError: an unknown id, or one twice.
        """
        wanted = tuple(ids)
        rows = [self.row(id) for id in wanted]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.lengths[rows], out=offsets[1:])
        values = np.empty((int(offsets[-1]), self.dim), self.values.dtype)
        for at, row in enumerate(rows):
            values[offsets[at] : offsets[at + 1]] = self.at(row)
        return Ragged(values, offsets, wanted)
