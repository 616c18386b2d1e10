"""A checkpoint as a large shared base and small parts; how parts are named. Source: own design."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import torch
from torch import nn

from repkit import api


def part_key(name: str) -> str:
    """Return the name as torch allows it inside a module dictionary; almost always the name itself."""
    key = name.replace("%", "%25").replace(".", "%2E")
    return f"{key}%" if hasattr(nn.ModuleDict, key) or key == "training" else key


def part_name(key: str) -> str:
    """Return the name that `part_key` was given."""
    return unquote(key.removesuffix("%"))


def split_state(state: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Return a checkpoint of `AdapterResNet` as its parts: ``base``, ``corpora.NAME``, ``views.VIEW``.

    Names inside the parts stay whole, so that any of them can be loaded alone or joined again.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        first, second, *_ = name.split(".")
        key = "base" if first == "base" else f"{first}.{part_name(second)}"
        parts.setdefault(key, {})[name] = value
    return parts


def join_state(*parts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return one checkpoint from parts of it, for example an old base with corpora of several runs.

    Raises:
        UsageError: a tensor stands in two of them.
    """
    joined: dict[str, torch.Tensor] = {}
    for part in parts:
        twice = sorted(set(joined) & set(part))
        if twice:
            raise api.UsageError(
                f"join_state: {twice[0]!r} (and {len(twice) - 1} more) stands in two parts; expected each once; leave "
                "one of them out"
            )
        joined |= part
    return joined
