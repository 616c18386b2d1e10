"""Frame-level states beside the frames of the same moments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from repkit.errors import StoreError
from repkit.store import Store

BY_TIME = "by time"
"""How states are laid beside frames, as runs note it; runs that note nothing laid all states beside all frames."""


def in_time(
    states: npt.NDArray[Any], start_s: float, state_shift_s: float, n_frames: int, frame_shift_s: float
) -> npt.NDArray[Any]:
    """Return states (T2, D) that cover the same time as frames, as `repkit.api.Batch` has them: T2 / T is the ratio of shifts.

    States before the first and behind the last frame are left out. Where the encoder has heard nothing (silence cut away, the
    end of a long utterance) its nearest state stands. Source: own design.

    Args:
        states: (T1, D), T1 at least 1.
        start_s: seconds of the utterance before the first of them.
        state_shift_s: seconds from one to the next.
        n_frames: T, frames of the utterance from its begin.
        frame_shift_s: seconds from one frame to the next.
    """
    n, first = max(1, round(n_frames * frame_shift_s / state_shift_s)), -round(start_s / state_shift_s)
    if first >= 0 and first + n <= len(states):
        return states[first : first + n]  # the usual case, without a copy
    return states[np.arange(first, first + n).clip(0, len(states) - 1)]


def check_states(stores: Mapping[str, Store], condition: str) -> None:
    """Refuse stores of states that do not tell when each state is.

    Raises:
        StoreError: seconds between states are missing, or the encoder cuts silence away and the store does not say how much.
    """
    for store in stores.values():
        if store.spec.frame_shift_s is None:
            raise StoreError(
                f"condition {condition!r}: {store.path} does not tell the seconds from one state to the next; they were expected, "
                "to lay states beside frames; its encoder lacks frame_shift_s: embed with --level utterance, or by another one"
            )
        if store.starts is None and any(_values(store.spec.source, "trim_db")):
            raise StoreError(
                f"condition {condition!r}: {store.path} does not tell where the states of each utterance start, although its "
                "encoder cuts silence away (trim_db); it was made by an earlier repkit: delete it and run `repkit embed` again"
            )


def _values(value: object, key: str) -> Iterator[object]:
    """Yield what stands under a key of an encoder's settings, however deep."""
    for name, inner in value.items() if isinstance(value, Mapping) else ():
        if name == key:
            yield inner
        yield from _values(inner, key)


__all__ = ["BY_TIME", "check_states", "in_time"]
