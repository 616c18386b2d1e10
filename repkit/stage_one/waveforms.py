"""From waveforms to readouts: what the autoencoder and the encoder with objectives have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from repkit.errors import BadAudioError, UsageError
from repkit.stage_one.frontends import frames_of, rebuild_frontend
from repkit.stage_one.readouts import Layers, read_in_batches


def sound_waveforms(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return waveforms that an encoder can take, after looking at all of them.

    Corpora hand out nothing else; this is for arrays that a program of one's own brings.

    Args:
        waveforms: arrays (or CPU tensors) of floating-point samples (S,), full scale 1, at 16 kHz.

    Returns:
        the same as contiguous float32 arrays.

    Raises:
        UsageError: a single waveform instead of a list of them, one of several channels, or whole numbers.
        BadAudioError: an empty one, or samples that are NaN or infinite. All problems are in one message.
    """
    if not hasattr(waveforms, "__len__") and hasattr(waveforms, "__iter__"):
        waveforms = list(waveforms)
    if not hasattr(waveforms, "__len__") or isinstance(waveforms, str | bytes) or _is_number(waveforms):
        got = type(waveforms).__name__ + (f" of shape {np.shape(waveforms)}" if hasattr(waveforms, "shape") else "")
        raise UsageError(f"waveforms: got one {got}; expected a list of arrays (S,); write encode([waveform])")
    checked, shapes, samples = [], [], []
    for place, given in enumerate(waveforms):
        array = np.asarray(given)
        problem = _wrong_shape(array)
        if problem is not None:
            shapes.append((place, problem))
            continue
        array = np.ascontiguousarray(array, np.float32)
        problem = _wrong_samples(array)
        if problem is not None:
            samples.append((place, problem))
        checked.append(array)
    if shapes:
        _refuse(UsageError, sorted(shapes + samples), len(waveforms))
    if samples:
        _refuse(BadAudioError, samples, len(waveforms))
    return checked


def _is_number(waveforms: Sequence[np.ndarray]) -> bool:
    """Tell whether the items are samples and not waveforms."""
    return (hasattr(waveforms, "shape") and not waveforms.shape) or (len(waveforms) > 0 and np.ndim(waveforms[0]) == 0)


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


def _refuse(kind: type[UsageError | BadAudioError], problems: list[tuple[int, str]], n: int) -> NoReturn:
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
                mono or too short.
            BadAudioError: empty waveforms, or samples that are not finite.
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
