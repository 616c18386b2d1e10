"""New speech to what a run's models read: decoded, framed and encoded as the corpora were that they were trained on."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from repkit.api import BadAudioError, Utterance
from repkit.audio.base import audio_files
from repkit.audio.below import left_alone
from repkit.audio.decode import AUDIO_SUFFIXES, SAMPLE_RATE, decode, duration_s
from repkit.errors import DataError, UsageError
from repkit.features.extract import frames_of, one_thread
from repkit.features.normalise import fit_normaliser
from repkit.features.ragged import Ragged
from repkit.stage_one.frontends import states_start_s
from repkit.stage_one.waveforms import TOO_LARGE, array_of, is_far_beyond
from repkit.training.data import RaggedTensor
from repkit.workflows.embed import in_precision
from repkit.workflows.predict.encoders import Part
from repkit.workflows.predict.notes import warn_caller
from repkit.workflows.train_ser.states import in_time

_File = str | os.PathLike[str]
Sounds = _File | np.ndarray | Iterable[_File | np.ndarray]
"""What `collect` takes."""

WINDOW = 64
"""Utterances decoded and encoded at a time: their sound is let go before the next ones are read."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One recording.

    Attributes:
        name: how it is called in tables and messages: the path as given, of files below a folder the folder as given and
            the path below it, ``sound_0`` ... of arrays.
        source: file, or the bytes of one.
    """

    name: str
    source: Path | bytes

    def read(self, max_duration_s: float | None) -> np.ndarray:
        """Return its sound (S,) at 16 kHz, as a corpus would.

        Raises:
            BadAudioError: there is no such file; for more see `repkit.audio.decode.decode`.
            DataError: the system could not read it.
        """
        try:
            return decode(self.source, where=self.name, max_duration_s=max_duration_s)
        except DataError as error:
            if isinstance(self.source, bytes) or os.path.lexists(self.source):
                raise
            raise BadAudioError(f"{self.name}: there is no such file; one was expected; check the path") from error


@dataclass(slots=True)
class Prepared:
    """What the models are going to read; utterance i is the same one everywhere.

    Attributes:
        names: of the n sounds that can be used.
        frames: (T, F) float32 of each.
        vectors: (n, D) float32 or None.
        states: (T2, D) float32 of each, in the time of its frames; empty where the condition has none.
        bad: name and reason of the sounds that cannot be used.
        cut: name and seconds of those that are longer than what the models hear.
    """

    names: list[str] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    vectors: np.ndarray | None = None
    states: list[np.ndarray] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    cut: dict[str, float] = field(default_factory=dict)


def collect(sounds: Sounds, sample_rate: int = SAMPLE_RATE) -> list[Sound]:
    """Return the recordings named: files, all audio files below folders, arrays; each file once.

    Args:
        sounds: paths, and mono waveforms (S,) of floating-point numbers, full scale 1; or one of them. The rows of an array
            (n, S) are n waveforms, as for the encoders.
        sample_rate: of the waveforms, per second; files say their own.

    Warns:
        RepkitWarning: a folder holds recordings whose endings are not read.

    Raises:
        UsageError: nothing at all, a folder without audio, an array of another kind, or no rate.
    """
    rate = _whole(sample_rate)
    found: dict[str, Sound] = {}
    seen: set[Path] = set()
    for place, one in enumerate(_listed(sounds)):
        if isinstance(one, str | os.PathLike):
            for name, path in _files(os.fsdecode(one)):
                if path not in seen:
                    seen.add(path)
                    found[name] = Sound(name, path)
        else:
            found[f"sound_{place}"] = Sound(f"sound_{place}", _as_file(one, place, rate))
    if not found:
        raise UsageError("predict: no sound; expected at least one file, folder or waveform; give one")
    return list(found.values())


def _listed(sounds: Any) -> list[Any]:
    """Return the sounds as a list, also where there is one alone."""
    if isinstance(sounds, str | os.PathLike):
        return [sounds]
    if hasattr(sounds, "ndim") and not isinstance(array := array_of(sounds), str):
        sounds = array
        if array.dtype.kind not in "OSU":  # numbers and no file names
            if array.ndim == 1 and len(array):
                return [array]
            if array.ndim == 2 and array.shape[0] > array.shape[1]:
                raise UsageError(
                    f"sounds: an array of shape {array.shape}; a mono waveform (S,), or n of them as the rows of (n, S), was "
                    "expected; take the mean over its channels"
                )
    try:
        several = None if isinstance(sounds, bytes | bytearray | Mapping) else iter(sounds)
    except TypeError:
        several = None
    if several is None:
        raise UsageError(
            f"sounds: got {type(sounds).__name__}; files, folders and waveforms (arrays of samples), in a list or one alone, "
            "were expected; give such"
        )
    return list(several)


def _whole(sample_rate: Any) -> int:
    try:
        rate = int(sample_rate) if float(sample_rate) == int(sample_rate) else 0
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if rate < 1 or isinstance(sample_rate, str):
        raise UsageError(
            f"sample_rate: got {sample_rate!r}; a whole number of samples per second was expected; give the waveforms' own"
        )
    return rate


def _files(given: str) -> Iterator[tuple[str, Path]]:
    """Yield name and path of a file, or of the audio files below a folder; a name begins with what was given."""
    path = Path(given).expanduser()
    if not path.is_dir():
        yield given, path  # one that is not there is listed with the bad ones
        return
    files = audio_files(path)
    unread = left_alone(path, AUDIO_SUFFIXES)
    if not files:
        found = unread or f"files ending in {', '.join(AUDIO_SUFFIXES)} were expected in it or below; check the path"
        raise UsageError(f"{given}: a folder without audio files; {found}")
    if unread:
        warn_caller(f"{given}: {unread}")
    for file in files:
        yield os.path.join(given, file.relative_to(path)), file


def _as_file(waveform: Any, place: int, sample_rate: int) -> bytes:
    """Return a waveform as the bytes of a file, so that it passes every check that a file does."""
    values = array_of(waveform)
    if isinstance(values, str):
        raise UsageError(f"sound {place}: {values}")
    if values.ndim == 0:
        raise UsageError(
            f"sound {place}: got {type(waveform).__name__}; a file, a folder or a waveform was expected; samples are given as "
            "an array: numpy.asarray(samples)"
        )
    if values.ndim != 1:
        raise UsageError(
            f"sound {place}: an array of shape {values.shape}; a mono waveform (S,) was expected; take the mean over its channels"
        )
    if values.dtype.kind != "f":
        raise UsageError(
            f"sound {place}: an array of {values.dtype}; floating-point numbers of full scale 1 were expected; divide 16-bit "
            "samples by 32768"
        )
    samples = values.astype(np.float32)
    if is_far_beyond(samples[np.isfinite(samples)]):
        raise UsageError(f"sound {place}: {TOO_LARGE}")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def prepare(
    sounds: Sequence[Sound],
    frontend: Any,
    dtype: str,
    max_duration_s: float | None,
    parts: Sequence[Part],
    progress: Callable[[int, float], None] = lambda n, hours: None,
) -> Prepared:
    """Decode, frame and encode recordings; those that cannot be used are listed, the others go on.

    Args:
        sounds: what to read.
        frontend: of the run.
        dtype: type that frames were rounded to in training.
        max_duration_s: longest stretch that the models hear; None for all.
        parts: encoders of the condition's embeddings.
        progress: called after some of them with their number and the hours heard.
    """
    made = Prepared()
    blocks: list[np.ndarray] = []
    for first in range(0, len(sounds), WINDOW):
        window = sounds[first : first + WINDOW]
        heard = _frames_of(window, frontend, dtype, max_duration_s, made)
        joined = _encoded(heard, parts, max_duration_s, made, frontend.frame_shift_s) if parts else {}
        for sound, (_, frames) in heard.items():
            if sound.name in made.bad:
                made.cut.pop(sound.name, None)
                continue
            made.names.append(sound.name)
            made.frames.append(frames)
            if parts and joined[sound.name].ndim == 2:
                made.states.append(joined[sound.name])
            elif parts:
                blocks.append(joined[sound.name])
        samples = sum(len(waveform) for waveform, _ in heard.values())
        progress(len(window), samples / SAMPLE_RATE / 3600)
    if blocks:
        made.vectors = np.stack(blocks)
    return made


def _frames_of(
    sounds: Sequence[Sound], frontend: Any, dtype: str, max_duration_s: float | None, made: Prepared
) -> dict[Sound, tuple[np.ndarray, np.ndarray]]:
    found = {}
    with one_thread():
        for sound in sounds:
            try:
                waveform = sound.read(max_duration_s)
                frames = frames_of(waveform, frontend, sound.name)
                if isinstance(frames, BadAudioError):
                    raise frames
                found[sound] = (waveform, _rounded(frames, dtype, sound.name))
                if max_duration_s is not None:
                    seconds = duration_s(sound.source, where=sound.name)
                    if seconds > max_duration_s + 1e-3:
                        made.cut[sound.name] = seconds
            except DataError as error:  # one that cannot be read is no reason to let the others go
                made.bad[sound.name] = error.message
    return found


def _encoded(
    heard: Mapping[Sound, tuple[np.ndarray, np.ndarray]],
    parts: Sequence[Part],
    max_duration_s: float | None,
    made: Prepared,
    frame_shift_s: float,
) -> dict[str, np.ndarray]:
    """Return the embedding of each sound, joined over the parts, or its states in the time of its frames.

    What has none is added to the bad ones.
    """
    blocks: dict[str, list[np.ndarray]] = {sound.name: [] for sound in heard}
    n_frames = {sound.name: len(frames) for sound, (_, frames) in heard.items()}
    for part in parts:
        same = part.max_duration_s == max_duration_s
        waveforms = {}
        for sound, (waveform, _) in heard.items():
            if sound.name not in made.bad:
                try:
                    waveforms[sound.name] = waveform if same else sound.read(part.max_duration_s)
                except DataError as error:  # bad behind what the models hear
                    made.bad[sound.name] = error.message
        for name, values in zip(waveforms, _encode(part, list(waveforms.values())), strict=True):
            try:
                if isinstance(values, BadAudioError):
                    raise values
                found = _rounded(np.asarray(values), part.dtype, name)
                if found.ndim == 2:
                    encoder: Any = part.encoder
                    start_s = states_start_s(encoder, waveforms[name]) or 0.0
                    found = in_time(found, start_s, encoder.frame_shift_s, n_frames[name], frame_shift_s)
                blocks[name].append(found)
            except BadAudioError as error:
                made.bad[name] = error.message
    return {name: np.concatenate(own, axis=-1) for name, own in blocks.items() if len(own) == len(parts)}


def _encode(part: Part, waveforms: list[np.ndarray]) -> Sequence[np.ndarray | BadAudioError]:
    """Encode as `repkit embed` does."""
    if not waveforms:
        return []
    encoder: Any = part.encoder
    stages = hasattr(encoder, "frames") and hasattr(encoder, "encode_frames")
    with one_thread() if stages else nullcontext():
        # frames are of full precision, whatever that of the encoder
        given = [encoder.frames(waveform) for waveform in waveforms] if stages else waveforms
        with in_precision(part.precision):
            return list(encoder.encode_frames(given) if stages else encoder.encode(given))


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Let this thread take denormal numbers for zero, as in training, and leave it afterwards as it was found."""
    # torch does not tell: half of the smallest normal number is a denormal one
    before = sys.float_info.min / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _rounded(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Return float32 numbers as they come back from a store of this type."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(values).astype(dtype).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise BadAudioError(
            f"{name}: frames or vector hold numbers that are not finite or too large for {dtype}; leave it out"
        )
    return rounded


def normalise(made: Prepared, mode: str, vectors_by: str | None) -> RaggedTensor:
    """Normalise what does not depend on train: frames by themselves, or by all of these sounds; vectors likewise, in place.

    A speaker's or a corpus' statistics are here those of all sounds, which the caller has said to be of one.

    Args:
        made: of the sounds.
        mode: of the run's normalisation.
        vectors_by: ``per_speaker`` or ``per_corpus`` where the vectors are standardised by these, else None.

    Returns:
        the frames.
    """
    names = tuple(made.names)
    utterances = [Utterance(id=name, corpus="new", speaker="new/one") for name in names]
    frames = Ragged.from_arrays(made.frames, names)
    if mode not in ("none", "global_train"):
        by = "per_utterance" if mode == "per_utterance" else "per_corpus"
        frames = fit_normaliser(by, frames, utterances, ()).apply(frames)
    if vectors_by is not None and made.vectors is not None:
        vectors = Ragged.from_vectors(made.vectors, names)
        made.vectors = fit_normaliser("per_corpus", vectors, utterances, ()).apply(vectors).values
    return RaggedTensor(torch.from_numpy(frames.values), torch.from_numpy(frames.offsets))


__all__ = ["Prepared", "Sound", "Sounds", "collect", "denormals_as_zero", "normalise", "prepare"]
