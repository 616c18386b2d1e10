"""What a store takes: one check of ids and values for whoever writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from repkit.errors import StoreError
from repkit.store.spec import StoreSpec


def check_id(path: Path, id: str) -> None:
    """Refuse an id no store can hold.

    Raises:
        StoreError: empty, or with a NUL.
    """
    if not id or "\0" in id:
        raise StoreError(f"{path}: id {id!r}; a text without NUL was expected; mend the corpus' ids")


def twice(path: Path, id: str) -> StoreError:
    """Return the error for an id that came before."""
    return StoreError(f"{path}: id {id!r} came twice; every id once was expected; mend the corpus' ids")


def convert(path: Path, spec: StoreSpec, id: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return values as a store keeps them, a copy of its dtype: (T, dim) with T >= 1, or (dim,).

    Raises:
        StoreError: wrong shape, not finite, or too large for the dtype.
    """
    array = np.asarray(values)
    shape = (max(1, len(array)) if array.ndim else 1, spec.dim) if spec.kind == "frames" else (spec.dim,)
    if array.shape != shape or array.dtype.kind not in "fiu":
        wanted = f"(T, {spec.dim}) with T >= 1" if spec.kind == "frames" else f"({spec.dim},)"
        raise StoreError(
            f"{path}: {id!r} has shape {array.shape} {array.dtype}; {wanted} numbers were expected; "
            "leave the utterance out or mend what made it"
        )
    if not np.isfinite(array).all():
        raise StoreError(
            f"{path}: {id!r} holds NaN or infinity; finite numbers were expected; "
            "leave the utterance out or mend what made it"
        )
    with np.errstate(over="ignore"):
        converted = np.array(array, dtype=spec.dtype, order="C")
    if not np.isfinite(converted).all():
        raise StoreError(
            f"{path}: {id!r} holds {float(np.abs(array).max()):g}; at most "
            f"{float(np.finfo(spec.dtype).max):g} fits {spec.dtype}; store float32 instead"
        )
    return converted


__all__ = ["check_id", "convert", "twice"]
