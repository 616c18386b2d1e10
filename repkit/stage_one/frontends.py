"""From waveforms to the frames a stage-one encoder reads, by the frontend that is stored with its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from repkit.errors import BadAudioError, UsageError
from repkit.plugins.guards import make_frontend
from repkit.stage_one.trim import Trimmed


def build_frontend(name: str, settings: Mapping[str, Any], trim_db: float | None = None) -> Any:
    """Return the frontend registered under `name` with its settings.

    Args:
        name: in the group ``repkit.frontends``.
        settings: of its Config.
        trim_db: cut away ends that are so many dB below the loudest part (`repkit.stage_one.trim`); None keeps them.

    Raises:
        PluginError: no distribution offers the name, or its code is broken.
        RecipeError: the settings do not fit; all of them at once.
    """
    made = make_frontend(name, settings, f"frontend {name}")
    return made if trim_db is None else Trimmed(made, trim_db)


def rebuild_frontend(stored: Mapping[str, Any]) -> Any:
    """Return the frontend a model was saved with: ``name``, ``settings`` and, if known, ``trim_db`` and ``convention``.

    Raises:
        UsageError: the installed frontend of that name computes something else.
    """
    frontend = build_frontend(stored["name"], stored["settings"], stored.get("trim_db"))
    before, now = stored.get("convention", {}), frontend.convention()
    problems = [
        f"{key}: {before[key]!r} when the model was trained, {now[key]!r} now"
        for key in before.keys() & now.keys()
        if before[key] != now[key]
    ]
    if problems:
        raise UsageError(
            f"frontend {stored['name']}: computes other numbers than when the model was trained; the same were "
            "expected; install the repkit or plugin it was trained with, or train it again",
            sorted(problems),
        )
    return frontend


@torch.no_grad()
def frames_of(waveforms: Sequence[np.ndarray], frontend: Any) -> list[np.ndarray]:
    """Return (T_i, F) float32 frames of mono waveforms (S_i,) at 16 kHz, one by one (batches of them are no faster).

    Raises:
        BadAudioError: a waveform is too short for one frame.
    """
    frames = []
    for place, waveform in enumerate(waveforms):
        samples = torch.from_numpy(np.require(waveform, np.float32, ["C", "W"]))[None]
        values, counts = frontend(samples, torch.tensor([samples.shape[1]]))
        if not int(counts[0]):
            seconds = samples.shape[1] / frontend.sample_rate
            raise BadAudioError(
                f"waveform {place} of {len(waveforms)} (counted from 0): {seconds:.3f} s are too short for one frame; at least "
                "one was expected; leave it out or record more"
            )
        frames.append(values[0, : int(counts[0])].numpy())
    return frames


def cut_before_s(waveform: np.ndarray, frontend: Any) -> float:
    """Return the seconds of a mono float32 waveform (S,) at 16 kHz that a frontend cuts away before its first frame."""
    trims = getattr(frontend, "start_s", None)
    return 0.0 if trims is None else float(trims(torch.from_numpy(waveform)))


def states_start_s(encoder: Any, waveform: np.ndarray) -> float | None:
    """Return the seconds of a waveform (S,) before an encoder's first state; None where it makes no states or does not tell."""
    tells = getattr(encoder, "start_s", None) if encoder.level == "frame" else None
    return None if tells is None else float(tells(waveform))
