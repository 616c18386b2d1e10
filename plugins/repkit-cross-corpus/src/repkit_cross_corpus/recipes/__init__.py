"""Where the recipes of this distribution are."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def cross_corpus() -> Path:
    """Return the recipe that trains on the union of corpora with repkit's own choices."""
    return _FOLDER / "cross_corpus.toml"


def parry2019() -> Path:
    """Return the recipe with the choices of the paper, all three architectures."""
    return _FOLDER / "parry2019.toml"


def leave_one_corpus_out() -> Path:
    """Return the recipe that tests every corpus on a model of all the others."""
    return _FOLDER / "leave_one_corpus_out.toml"


def corpus_pairs() -> Path:
    """Return the recipe that trains on each corpus alone and tests on all."""
    return _FOLDER / "corpus_pairs.toml"
