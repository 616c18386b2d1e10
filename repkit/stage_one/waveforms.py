"""From waveforms to readouts: what the autoencoder and the encoder with objectives have in common."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from repkit.errors import BadAudioError, RepkitWarning, UsageError
from repkit.stage_one.frontends import frames_of, rebuild_frontend
from repkit.stage_one.readouts import Layers, read_in_batches

FAR_BEYOND = 100.0
"""Peak from which floating-point samples cannot have full scale 1; those of 16 bits reach 32768. Source: own design."""

TOO_LARGE = (
    f"samples beyond {FAR_BEYOND:g}; expected floating-point samples with full scale 1; divide by the largest number of the "
    "type that they were (int16: 32768)"
)
"""What is said of samples for which `is_far_beyond` is true."""


def sound_waveforms(waveforms: Iterable[Any]) -> list[np.ndarray]:
    """Return waveforms that an encoder can take, after looking at all of them.

    Corpora hand out nothing else; this is for arrays that a program of one's own brings.

    Args:
        waveforms: arrays (or CPU tensors) of floating-point samples (S,), full scale 1, at 16 kHz.

    Returns:
        the same as contiguous, writable float32 arrays.

    Warns:
        RepkitWarning: samples of another full scale, by their peak (`FAR_BEYOND`).

    Raises:
        UsageError: a single waveform instead of a list of them, one of several channels, whole numbers, or no array.
        BadAudioError: an empty one, or samples that are NaN or infinite. All problems are in one message.
    """
    given = _listed(waveforms)
    checked, shapes, samples, far = [], [], [], []
    for place, one in enumerate(given):
        found = array_of(one)
        problem = found if isinstance(found, str) else _wrong_shape(found)
        if problem is not None:
            shapes.append((place, problem))
            continue
        # torch warns of arrays that cannot be written to
        array = np.require(found, np.float32, ["C", "W"])
        problem = _wrong_samples(array)
        if problem is not None:
            samples.append((place, problem))
        elif is_far_beyond(array):
            far.append(place)
        checked.append(array)
    if shapes:
        refuse_waveforms(UsageError, sorted(shapes + samples), len(given))
    if samples:
        refuse_waveforms(BadAudioError, samples, len(given))
    if far:  # no error: a corpus of such files could not be embedded any more
        which = f"{len(far)} of {len(given)} have, first number {far[0]} (counted from 0),"
        warnings.warn(f"waveforms: {which} {TOO_LARGE}", RepkitWarning, stacklevel=3)
    return checked


def _listed(waveforms: Iterable[Any]) -> list[Any]:
    shape = getattr(waveforms, "shape", None)
    try:
        several = None if isinstance(waveforms, str | bytes | Mapping) else iter(waveforms)
    except TypeError:  # one number, or what holds nothing
        several = None
    items = [] if several is None else list(several)
    if several is None or (items and _is_number(items[0])):
        got = type(waveforms).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
        raise UsageError(f"waveforms: got one {got}; expected a list of arrays (S,); write encode([waveform])")
    return items


def _is_number(item: Any) -> bool:
    """Tell whether an item is a sample and not a waveform."""
    return isinstance(item, str) or getattr(item, "shape", None) == () or isinstance(item, int | float)


def array_of(given: Any) -> np.ndarray | str:
    """Return what numpy makes of an array, a tensor or a list, or why it makes nothing of it."""
    try:
        found = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        return (
            f"got {type(given).__name__}, of which numpy makes no array ({str(error).splitlines()[0]}); expected an array of "
            "floating-point samples; of a tensor give tensor.detach().float().cpu()"
        )
    return found


def is_far_beyond(samples: np.ndarray) -> bool:
    """Tell whether finite samples (S,) have another full scale than 1, as those of whole numbers in floats have."""
    return bool(len(samples)) and max(float(samples.max()), -float(samples.min())) > FAR_BEYOND


def _wrong_shape(array: np.ndarray) -> str | None:
    if array.ndim == 2:
        axis = int(np.argmin(array.shape))
        return (
            f"got an array {array.shape}, {array.shape[axis]} channel(s); expected mono, (S,); take the mean over channels: "
            f"waveform.mean(axis={axis})"
        )
    if array.ndim != 1:
        return f"got an array {array.shape}; expected mono, (S,)"
    if array.dtype.kind != "f":
        return (
            f"got samples of type {array.dtype}; expected floating-point samples with full scale 1; divide by the largest "
            "number of that type (int16: 32768)"
        )
    return None


def _wrong_samples(array: np.ndarray) -> str | None:
    if not len(array):
        return "is empty; expected samples; leave it out"
    n_bad = int(np.count_nonzero(~np.isfinite(array)))
    if n_bad:
        return f"{n_bad} of {len(array)} samples are NaN or infinite; expected finite ones; read the sound again, or leave it out"
    return None


def refuse_waveforms(kind: type[UsageError | BadAudioError], problems: Sequence[tuple[int, str]], n: int) -> NoReturn:
    """Raise one error for all waveforms that cannot be encoded.

    Args:
        kind: of the error.
        problems: number of each such waveform, counted from 0, and what is wrong with it.
        n: waveforms in all.
    """
    if len(problems) == 1:
        place, problem = problems[0]
        raise kind(f"waveform {place} of {n} (counted from 0): {problem}")
    lines = [f"waveform {place}: {problem}" for place, problem in problems]
    more = [f"and {len(lines) - 20} more"] if len(lines) > 20 else []
    raise kind(
        f"waveforms: {len(problems)} of {n} cannot be encoded (counted from 0); mend them or leave them out",
        lines[:20] + more,
    )


class EncodesWaveforms:
    """Mixed into a model that has ``readout(frames, lengths, kind, which)``, and its frontend in ``config.frontend``."""

    default_readout = "mean_sd_delta"
    config: Any
    device: torch.device
    training: bool

    @torch.no_grad()
    def encode_waveforms(
        self,
        waveforms: Sequence[np.ndarray],
        kind: str | None = None,
        batch_size: int = 64,
        which: Layers | None = None,
    ) -> list[np.ndarray]:
        """Return one float32 readout per mono waveform (S,) at 16 kHz, by default `default_readout`, whatever the batch.

        Raises:
            UsageError: the model was saved without its frontend, a readout that it does not have, or waveforms that are not
                mono.
            BadAudioError: empty or too short waveforms, or samples that are not finite.
        """
        return self.encode_frames(frames_of(sound_waveforms(waveforms), self.frontend), kind, batch_size, which)

    @torch.no_grad()
    def encode_frames(
        self,
        frames: Sequence[np.ndarray],
        kind: str | None = None,
        batch_size: int = 64,
        which: Layers | None = None,
    ) -> list[np.ndarray]:
        """Return the same from the frames (T, F) that this model's frontend has made of each."""

        def read(padded: Tensor, lengths: Tensor) -> Any:
            return self.readout(padded, lengths, kind or self.default_readout, which)  # type: ignore[attr-defined]

        was_training = self.training
        self.eval()  # type: ignore[attr-defined]
        try:
            return read_in_batches(frames, read, batch_size, self.device)
        finally:
            self.train(was_training)  # type: ignore[attr-defined]

    @property
    def frontend(self) -> Any:
        """The frontend that makes this model's frames, built from the config on first use."""
        if "_frontend" not in self.__dict__:
            if not self.config.frontend:
                raise UsageError(
                    f"{type(self).__name__}: its config.json names no frontend; expected {{'name', 'settings'}}; "
                    "pass frames to readout() or save the model through pretrain-ae"
                )
            self.__dict__["_frontend"] = rebuild_frontend(self.config.frontend)
        return self.__dict__["_frontend"]
