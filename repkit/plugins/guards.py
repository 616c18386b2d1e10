"""Strangers' frontends and encoders, watched: what they raise and what they return wrongly is blamed on their distribution.

Those that repkit brings itself are handed out as they are: an exception in them is a bug of repkit and keeps its traceback.
Corpora are watched by `repkit.audio.guarded`. Source: own design.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from repkit.errors import BadAudioError, PluginError
from repkit.plugins.blaming import blaming
from repkit.plugins.discover import blame, find
from repkit.plugins.load import build_config, load
from repkit.plugins.wording import shown

if TYPE_CHECKING:
    import torch

LEVELS = ("utterance", "frame")

_HEARD: Mapping[str, tuple[type, ...]] = {"corpora": (str, Mapping), "speakers": (str,)}
"""What an encoder's provenance lists under each key, where it says whom it has heard."""
_NO_LIST = "not a list of names: [] where nothing was heard, None where it is not known"


class Guarded:
    """A component and whom to blame for it; attributes that are not checked are the component's own.

    Args:
        inner: the component.
        group: its entry-point group.
        name: under which it was asked for.

    Raises:
        PluginError: an attribute or a method that the contract asks for is missing.
    """

    attributes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    def __init__(self, inner: Any, group: str, name: str) -> None:
        self._inner, self._group, self._name = inner, group, name
        missing = [key for key in self.attributes if not hasattr(inner, key)]
        missing += [f"{key}()" for key in self.methods if not callable(getattr(inner, key, None))]
        if missing:
            self._refuse(f"has no {', '.join(missing)}")

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):  # asked for by pickle before there is a component
            raise AttributeError(key)
        value = getattr(self._inner, key)
        return self._watched(value) if isinstance(value, MethodType) else value

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            with self._blaming():
                return method(*arguments, **named)

        return call

    def _blaming(self) -> AbstractContextManager[None]:
        return blaming(self._group, self._name)

    def _refuse(self, got: str, problems: Sequence[str] = ()) -> NoReturn:
        plain = self._name.rpartition(":")[2]
        raise PluginError(
            f"{blame(self._group, self._name)}: {got}; a component that keeps the contract of repkit.api was expected; run "
            f"`repkit plugins check {plain}`, mend it or choose another",
            problems,
        )

    def _mapping(self, method: str) -> Mapping[str, object]:
        with self._blaming():
            found = getattr(self._inner, method)()
        if not isinstance(found, Mapping):
            self._refuse(f"{method}() gives a {type(found).__name__}, not a mapping")
        return found


class GuardedFrontend(Guarded):
    """A frontend whose frames are looked at (`repkit.api.Frontend`)."""

    attributes = ("n_bands", "sample_rate", "frame_shift_s")
    methods = ("n_frames", "__call__", "convention")

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a waveform of n_samples samples."""
        with self._blaming():
            return int(self._inner.n_frames(n_samples))

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values."""
        return self._mapping("convention")

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32 and their counts (B,) from waveforms (B, S) and sample counts (B,).

        Raises:
            PluginError: an exception, another shape or type, values that are not finite, or other counts than `n_frames` says.
        """
        import torch

        with self._blaming():
            frames, counts = self._inner(waveforms, lengths)
        n, bands = len(waveforms), self._inner.n_bands
        for what, values, axes, dtype in (
            ("frames", frames, f"({n}, T, {bands})", torch.float32),
            ("counts", counts, f"({n},)", torch.int64),
        ):
            if not torch.is_tensor(values):
                self._refuse(f"{what} are a {type(values).__name__}, not a tensor {axes}")
            shape = tuple(values.shape)
            wanted = (n, shape[1] if len(shape) == 3 else -1, bands) if what == "frames" else (n,)
            if shape != wanted or values.dtype != dtype:
                self._refuse(f"{what} are {values.dtype} of shape {shape}, not {dtype} of shape {axes}")
        promised = [self.n_frames(size) for size in lengths.tolist()]
        if counts.tolist() != promised:
            self._refuse(
                f"{counts.tolist()} frames come out of {lengths.tolist()} samples, and n_frames() says {promised}"
            )
        if max(promised, default=0) > frames.shape[1]:
            self._refuse(f"counts {promised} with {frames.shape[1]} frames")
        if not torch.isfinite(frames).all() and torch.isfinite(waveforms).all():
            self._refuse("frames hold NaN or infinity for sound that is finite")
        return frames, counts


class GuardedEncoder(Guarded):
    """An encoder whose embeddings are looked at (`repkit.api.Encoder`)."""

    attributes = ("name", "dim", "level")
    methods = ("encode", "provenance")

    def __init__(self, inner: Any, group: str, name: str) -> None:
        super().__init__(inner, group, name)
        if not isinstance(inner.name, str) or not inner.name or "/" in inner.name:
            self._refuse(f"name is {inner.name!r}, not a word that can name a folder")
        if not isinstance(inner.dim, int) or inner.dim < 1:
            self._refuse(f"dim is {inner.dim!r}, not a whole number above 0")
        if inner.level not in LEVELS:
            self._refuse(f"level is {inner.level!r}, not one of {', '.join(LEVELS)}")
        shift = getattr(inner, "frame_shift_s", None)
        if inner.level == "frame" and not (isinstance(shift, float) and shift > 0):
            self._refuse(f"frame_shift_s is {shift!r}, not the seconds from one state to the next")

    def __getattr__(self, key: str) -> Any:
        value = super().__getattr__(key)
        return self._encode_frames if key == "encode_frames" else value

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values: config, checksum of the weights, corpora and speakers heard in training.

        Raises:
            PluginError: an exception, no mapping, or ``corpora`` or ``speakers`` that are given and are no list or set; of a text
                the audit would look for single letters among the speakers.
        """
        found = dict(self._mapping("provenance"))
        for key, kinds in _HEARD.items():
            heard = found.get(key)
            if heard is None:  # not known, which the audit says
                continue
            if not isinstance(heard, list | tuple | set | frozenset):
                self._refuse(f"provenance() gives {key} = {shown(heard)}, {_NO_LIST}")
            strange = next((one for one in heard if not isinstance(one, kinds)), None)
            if strange is not None or None in heard:
                self._refuse(f"provenance() gives {key} with {shown(strange)} among them, {_NO_LIST}")
            found[key] = sorted(heard) if isinstance(heard, set | frozenset) else list(heard)
        return found

    def encode(self, waveforms: Sequence[np.ndarray]) -> Sequence[np.ndarray | BadAudioError]:
        """Return one (D,) vector or one (T, D) sequence per waveform (16 kHz), float32.

        Raises:
            PluginError: an exception, another number of arrays, another shape or type, or values that are not finite.
        """
        with self._blaming():
            found = list(self._inner.encode(waveforms))
        return self._looked_at(waveforms, found)

    def _encode_frames(self, frames: Sequence[Any]) -> Sequence[np.ndarray | BadAudioError]:
        with self._blaming():
            found = list(self._inner.encode_frames(frames))
        return self._looked_at(frames, found)

    def _looked_at(self, given: Sequence[Any], found: Sequence[Any]) -> Sequence[np.ndarray | BadAudioError]:
        if len(found) != len(given):
            self._refuse(f"{len(found)} embeddings for {len(given)} sounds")
        dim = self._inner.dim
        axes = f"({dim},)" if self._inner.level == "utterance" else f"(T, {dim})"
        for sound, values in zip(given, found, strict=True):
            if isinstance(values, BadAudioError):
                continue
            if not isinstance(values, np.ndarray):
                self._refuse(f"an embedding is a {type(values).__name__}, not a numpy array {axes}")
            n_axes = 1 if self._inner.level == "utterance" else 2
            if values.ndim != n_axes or values.shape[-1] != dim or not values.size or values.dtype != np.float32:
                self._refuse(f"an embedding is {values.dtype} of shape {values.shape}, not float32 of shape {axes}")
            if not np.isfinite(values).all() and np.isfinite(sound).all():
                self._refuse("an embedding holds NaN or infinity for sound that is finite")
        return found


def make_frontend(name: str, settings: Mapping[str, Any], where: str) -> Any:
    """Return a frontend with its settings, a stranger's one watched.

    Args:
        name: in the group ``repkit.frontends``.
        settings: of its Config.
        where: place of the settings, for messages.

    Raises:
        PluginError: no distribution offers the name, or its code is broken.
        RecipeError: the settings do not fit; all of them at once.
    """
    return make("repkit.frontends", name, settings, where, GuardedFrontend)


def make_encoder(name: str, settings: Mapping[str, Any], where: str) -> Any:
    """Return an encoder (group ``repkit.encoders``) with its settings, a stranger's one watched; see `make_frontend`."""
    return make("repkit.encoders", name, settings, where, GuardedEncoder)


def make(group: str, name: str, settings: Mapping[str, Any], where: str, guard: type[Guarded]) -> Any:
    """Return a component with its settings, a stranger's one inside of a guard; see `make_frontend`."""
    kind = load(group, name)
    config = build_config(kind, settings, where)
    if find(group, name).distribution == "repkit":
        return kind(config)
    with blaming(group, name):
        made = kind(config)
    return guard(made, group, name)


__all__ = ["Guarded", "GuardedEncoder", "GuardedFrontend", "make", "make_encoder", "make_frontend"]
