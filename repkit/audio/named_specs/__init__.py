"""One small file per named corpus; `SPECS` holds them by name. A new corpus is a new file and a name in `_MODULES`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from repkit.audio.named_spec import NamedSpec

_MODULES = (
    "cafe",
    "crema_d",
    "demos",
    "emodb",
    "emofilm",
    "emovo",
    "enterface",
    "epst",
    "iemocap",
    "jl",
    "msp_improv",
    "portuguese",
    "ravdess",
    "savee",
    "shemo",
    "smartkom",
    "tess",
    "urdu",
)

SPECS: Mapping[str, NamedSpec] = {name: import_module(f"{__name__}.{name}").SPEC for name in _MODULES}
"""All named corpora, alphabetical."""
