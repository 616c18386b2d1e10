"""One seed, many independent streams: every random choice names what it is for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on the run's seed and on what it is used for.

    Drawing from one stream never shifts another, so that adding a random choice somewhere leaves the rest as it was.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """Return a CPU torch generator seeded by `derive_seed`."""
    import torch

    made = torch.Generator()
    made.manual_seed(derive_seed(seed, *names))
    return made
