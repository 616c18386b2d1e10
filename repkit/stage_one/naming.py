"""How settings of an encoder show in the name of what it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from repkit.errors import UsageError
from repkit.runs.directory import canonical_hash

OPERATIONAL = ("batch_size", "device", "n_workers")
"""Settings that change no result, whatever encoder has them."""

OWN_OPTIONS = frozenset({"level", "readout", "layers", "layer", "untrained", "seed", "init"})
"""Settings that an encoder's own name tells, unless its class says otherwise by ``named_settings``."""

_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,24}")


def setting_word(key: str, value: object) -> str:
    """Return a setting as a part of a folder's name: ``bands_64``; the hash of a value that is long or has other signs."""
    text = f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{key}_{text if _SAFE.fullmatch(text) else canonical_hash(value)[:8]}"


def changed_settings(encoder: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings given that change results and are not the defaults, as JSON values, sorted by name.

    Args:
        encoder: built with them.
        settings: by name, as given.
    """
    found = {}
    config = getattr(encoder, "config", None)
    for key in sorted(set(settings) - set(OPERATIONAL)):
        value = getattr(config, key, settings[key])  # as validated: 30.0 of a given 30
        if value != encoder.Config.model_fields[key].get_default(call_default_factory=True):
            found[key] = to_jsonable_python(value)
    return found


def name_with(encoder: Any, changed: Mapping[str, Any]) -> str:
    """Return an encoder's name, with the settings behind it that it does not tell by itself.

    Args:
        encoder: its class may say by ``named_settings`` which settings its name tells.
        changed: of `changed_settings`.
    """
    told = getattr(encoder, "named_settings", OWN_OPTIONS)
    parts = encoder.name.split("-")
    untold = [setting_word(key, value) for key, value in changed.items() if key not in told and value not in parts]
    return "-".join([encoder.name, *untold])


def refuse_idle(config: Any) -> None:
    """Refuse settings of a stage-one encoder that would change nothing beside its others.

    Args:
        config: of the encoder, with ``path``, ``untrained``, ``init``, ``seed``, ``level`` and ``readout``.

    Raises:
        UsageError: ``init`` or ``seed`` of a trained encoder, or another readout beside level ``"frame"``.
    """
    for name in ("init", "seed"):
        value = getattr(config, name)
        if value is not None and not config.untrained:
            raise UsageError(
                f"encoder {config.path}: {name} = {value!r} of a trained encoder, whose weights are those of its run; write "
                f"untrained:{config.path} for the control with random ones, or leave {name} out"
            )
    usual = type(config).model_fields["readout"].default
    if config.level == "frame" and config.readout not in ("sequence", usual):
        raise UsageError(
            f"encoder {config.path}: readout = {config.readout!r} beside level = 'frame', which is the states over time; leave "
            "one of them out"
        )


def own_seed(provenance: Mapping[str, Any] | None) -> int:
    """Return the seed that a run of stage one was trained with, from the provenance in its model; 0 where it does not say."""
    settings = (provenance or {}).get("settings") or {}
    return int(settings.get("seed", 0))


def untrained_mark(seed: int, run_seed: int, init: str | None) -> str:
    """Return what stands before the run's name in that of its untrained control; the run's own seed needs no mark.

    Args:
        seed: of the random weights.
        run_seed: of the run.
        init: initialisation asked for, None for the run's own.
    """
    return "untrained-" + (f"seed{seed}-" if seed != run_seed else "") + (f"{init}-" if init else "")
