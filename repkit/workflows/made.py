"""Which frames and embeddings are there already, so that they need not be made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from repkit.api import Corpus
from repkit.errors import StoreError
from repkit.features.extract import frames_spec
from repkit.runs.directory import cache_root
from repkit.store import Store, open_store
from repkit.store.manifest import MANIFEST


def is_embedded(folder: Path, fingerprints: Mapping[str, str]) -> bool:
    """Tell whether a folder has finished stores of all corpora as they are now.

    Args:
        folder: of one encoder.
        fingerprints: of the corpora, by name.
    """
    for name, fingerprint in fingerprints.items():
        if not (folder / name / MANIFEST).exists():
            return False
        try:
            spec = open_store(folder / name).spec
        except StoreError:
            return False  # made again, which says what is wrong
        if spec.corpus_fingerprint != fingerprint:
            return False
    return True


def fingerprints_of(corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Return the fingerprint of each corpus by name."""
    return {name: corpus.fingerprint() for name, corpus in corpora.items()}


def made_frames(
    corpus: Corpus,
    frontend: Any,
    *,
    max_duration_s: float | None = None,
    dtype: Literal["float16", "float32"] | None = None,
) -> Store | None:
    """Return the frames that `repkit.features.extract.cached_frames` has made of the same arguments, None where it has not."""
    kept: Literal["float16", "float32"] = dtype or getattr(frontend, "store_dtype", "float16")
    spec = frames_spec(corpus, frontend, max_duration_s=max_duration_s, dtype=kept)
    path = cache_root() / "frames" / f"{corpus.name}-{spec.fingerprint[:16]}"
    return open_store(path, spec) if (path / MANIFEST).exists() else None


__all__ = ["fingerprints_of", "is_embedded", "made_frames"]
