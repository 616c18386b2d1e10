"""What the cells of tables hold: nothing, words in any spelling of their accents, numbers. Source: own design."""

from __future__ import annotations

import re
import unicodedata

MISSING = frozenset({"", "na", "n/a", "nan", "<na>", "none", "null"})
"""What programs write for nothing, in lower case: R, pandas, Python, databases."""


def is_missing(text: str) -> bool:
    """Whether a cell holds nothing, or the word of some program for nothing, in any case."""
    return text.strip().lower() in MISSING


def composed(text: str) -> str:
    """Return the text with each accent in its letter (NFC): macOS and others write ``ü`` as ``u`` and a mark behind it."""
    return unicodedata.normalize("NFC", text)


def number(text: str, *, decimal_comma: bool = False) -> float | None:
    """Return the decimal number that a cell states, or None for anything else.

    Args:
        text: the cell.
        decimal_comma: read ``2,75`` too.
    """
    if decimal_comma and is_comma_number(text):
        text = text.replace(",", ".")
    # float() also takes nan, inf, 1_0 and the like, which are never meant
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) else None


def is_comma_number(text: str) -> bool:
    """Whether a cell states a number with one comma, as ``2,75``."""
    return re.fullmatch(r"[+-]?\d*,\d+", text) is not None
