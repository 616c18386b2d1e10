"""Where the recipes of this distribution lie."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "recipes"


def dann() -> Path:
    """Return the recipe for one's own corpora, one of them held out."""
    return FOLDER / "dann.toml"


def dann_attentive() -> Path:
    """Return the same conditions over repkit's attentive CNN."""
    return FOLDER / "dann_attentive.toml"


def gao2022() -> Path:
    """Return the paper's multi-corpus experiment (table 2)."""
    return FOLDER / "gao2022.toml"


def gao2022_cross() -> Path:
    """Return the paper's cross-corpus experiment (tables 3 and 4)."""
    return FOLDER / "gao2022_cross.toml"
