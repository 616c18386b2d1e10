"""Read speech from files or bytes as mono float32 at 16 kHz.

libsndfile (soundfile) decodes, soxr resamples; neither needs anything from the system, torchcodec and ffmpeg are never
used. libsndfile quietly shortens a truncated WAV or SPHERE file, so the size the header promises is compared with what
is there before reading. Source: own design; measured facts on libsndfile 1.2.2.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from repkit.audio.system_file import open_binary, raise_what_the_system_said, unread
from repkit.errors import BadAudioError, UsageError

SAMPLE_RATE = 16000
"""Samples per second of everything repkit hears."""

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aif", ".aiff", ".au", ".sph", ".w64", ".rf64")
"""File name endings libsndfile reads, lower case."""

SILENT_BELOW = 1e-4
"""Peak, against full scale, below which a recording is silent: -80 dBFS, three steps of 16-bit sound, too few to hold speech.

The quietest utterances of four corpora of emotional speech peak at -47 (RAVDESS), -36 (EMOVO), -23 (Urdu) and 0 dBFS
(Emo-DB). What lies below is noise of the converter, or what is left of two channels that cancel each other. Source: own design.
"""

SHORTEST_S = 0.1
"""Seconds that an utterance must last at least."""

_BLOCK = 1 << 20  # samples per channel read at once: bounds memory whatever the length and the number of channels
_UNKNOWN = 1 << 62  # libsndfile says so many frames, or more, of a FLAC that was written to a pipe
_LATE_END_S = 0.5  # segment lists may end a little after their recording does
_DECODING_ERRORS = (soundfile.LibsndfileError, RuntimeError, OSError, ValueError, TypeError, struct.error)
_CONVERT = "convert it to 16 kHz WAV or FLAC (ffmpeg -i IN -ac 1 -ar 16000 OUT.wav)"


def decode(
    source: Path | str | bytes,
    *,
    where: str,
    start_s: float = 0.0,
    end_s: float | None = None,
    channel: int | None = None,
    max_duration_s: float | None = None,
    min_duration_s: float = SHORTEST_S,
) -> np.ndarray:
    """Return the wanted part of a recording as mono float32 (S,) at 16 kHz, full scale 1.

    Only the wanted part is read and converted, in blocks, so a two-hour file costs no more than what is asked of it.

    Args:
        source: a file, or the bytes of one (WAV, FLAC, MP3, Ogg Vorbis or Opus, AIFF, AU, NIST SPHERE).
        where: what to call this source in errors, usually the path or the utterance id.
        start_s: first second wanted.
        end_s: end in seconds, None for the end of the file.
        channel: 0-based channel to take, None for the mean of all.
        max_duration_s: longest part to return in seconds, counted from `start_s`; at least `min_duration_s`.
        min_duration_s: shortest part to accept in seconds, before it is cut to `max_duration_s`.

    Raises:
        UsageError: `max_duration_s` below `min_duration_s`.
        BadAudioError: no audio, truncated, empty, silent (peak below `SILENT_BELOW`), not finite or too short: the bytes
            themselves are to blame, now and ever.
        DataError: the file is not there, or the system could not read it (rights, disk, network, too many open files).
    """
    if max_duration_s is not None and max_duration_s < min_duration_s:  # no fault of the recording
        raise UsageError(
            f"max_duration_s: got {max_duration_s:g}; at least {min_duration_s:g} s was expected, the shortest that can be used; "
            "hear more of each utterance"
        )
    try:
        _check_source(source, where)
        with open_binary(source) as stream:
            try:
                _check_complete(stream, where)
                with _SoundFile(stream) as file:
                    return _read(file, where, start_s, end_s, channel, max_duration_s, min_duration_s)
            finally:
                raise_what_the_system_said(stream)
    except _DECODING_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unread(where, error) from error
        raise BadAudioError(
            f"{where}: could not be decoded ({_reason(error)}); expected an intact WAV, FLAC, MP3, Ogg, AIFF, AU or "
            f"SPHERE file; {_CONVERT}, or leave it out"
        ) from error


def duration_s(source: Path | str | bytes, *, where: str) -> float:
    """Return the length in seconds that the header states; only a FLAC whose header does not is decoded for it.

    Raises:
        BadAudioError: the header cannot be read, whoever is to blame: lengths are estimates, nothing is recorded of this.
    """
    try:
        _check_source(source, where)
        # libsndfile opens a file by its name several times faster than it reads a stream of Python's
        with _SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            return _n_frames(file) / float(file.samplerate)
    except _DECODING_ERRORS as error:
        raise BadAudioError(f"{where}: its header could not be read ({_reason(error)}); {_CONVERT}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, struct.error):
        return "its header is cut"
    text = str(error).strip()
    # the object's address that soundfile puts into its message says nothing to a user
    return text.split(">: ", 1)[-1].rstrip(".") or "libsndfile stopped in the middle of the data; it is damaged or cut"


def _check_source(source: Path | str | bytes, where: str) -> None:
    if isinstance(source, bytes | bytearray | memoryview):
        size = len(source)
    else:
        found = os.stat(source)
        if stat.S_ISDIR(found.st_mode):
            raise BadAudioError(f"{where}: is a folder; expected an audio file")
        size = found.st_size
    if size == 0:
        raise BadAudioError(f"{where}: has 0 bytes; expected audio; copy it again from the original or leave it out")


class _SoundFile(soundfile.SoundFile):
    """Does not move to where it has read to when nobody knows where the file ends, which libsndfile then fails at."""

    def seekable(self) -> bool:
        """Whether soundfile may seek by itself."""
        return super().seekable() and self.frames < _UNKNOWN


def _n_frames(file: soundfile.SoundFile) -> int:
    """Return the number of samples per channel, by reading the file through where its header does not state it."""
    if file.frames < _UNKNOWN:
        return file.frames
    n = 0
    while got := len(file.read(_BLOCK, dtype="float32", always_2d=True)):
        n += got
    file.seek(0)
    return n


def _read(
    file: soundfile.SoundFile,
    where: str,
    start_s: float,
    end_s: float | None,
    channel: int | None,
    max_duration_s: float | None,
    min_duration_s: float,
) -> np.ndarray:
    rate, available = file.samplerate, _n_frames(file)
    if channel is not None and not 0 <= channel < file.channels:
        raise BadAudioError(f"{where}: has {file.channels} channel(s); expected channel {channel} (counted from 0)")
    first = round(start_s * rate)
    stop = available if end_s is None else round(end_s * rate)
    if stop - available > _LATE_END_S * rate or (first >= available > 0):
        raise BadAudioError(
            f"{where}: lasts {available / rate:.3f} s; expected {start_s:g} s to "
            f"{'the end' if end_s is None else f'{end_s:g} s'}; "
            "the file is cut or the segment's times belong to another recording"
        )
    stop = whole = min(stop, available)
    if whole - first < min_duration_s * rate:
        raise BadAudioError(
            f"{where}: is {max(0, whole - first) / rate:.3f} s long; expected at least {min_duration_s:g} s; leave it out"
        )
    if max_duration_s is not None:
        stop = min(stop, first + max(1, round(max_duration_s * rate)))
    wanted = stop - first
    signal, got = _collect(file, first, wanted, channel, rate)
    # without a Xing header the length of an MP3 is an estimate: one or two codec frames less is no fault
    slack = max(2304, wanted // 100) if file.format == "MP3" else 0
    if got < wanted - slack:
        raise BadAudioError(
            f"{where}: is truncated: {got} samples ({got / rate:.3f} s) could be read; expected {wanted} "
            f"({wanted / rate:.3f} s) after its header; copy it again from the original or leave it out"
        )
    mixed = file.channels if channel is None and file.channels > 1 else 0
    _check_samples(signal, where, mixed, heard_s=wanted / rate if stop < whole else None)
    return signal


def _collect(
    file: soundfile.SoundFile, first: int, wanted: int, channel: int | None, rate: int
) -> tuple[np.ndarray, int]:
    """Return the resampled mono signal and how many source samples were read."""
    if first:
        file.seek(first)
    if wanted <= _BLOCK:
        mono = _mono(file.read(wanted, dtype="float32", always_2d=True), channel)
        signal = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE, quality="VHQ")
        return np.ascontiguousarray(signal, dtype=np.float32), len(mono)
    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32", quality="VHQ")
    pieces, got = [], 0
    for mono in _blocks(file, wanted, channel):
        got += len(mono)
        pieces.append(mono if resampler is None else resampler.resample_chunk(mono))
    if resampler is not None:
        pieces.append(resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    return np.concatenate(pieces, dtype=np.float32), got


def _blocks(file: soundfile.SoundFile, wanted: int, channel: int | None) -> Iterator[np.ndarray]:
    left = wanted
    while left > 0:
        mono = _mono(file.read(min(_BLOCK, left), dtype="float32", always_2d=True), channel)
        if not len(mono):
            return
        left -= len(mono)
        yield mono


def _mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """Return (S,) from (S, channels)."""
    if channel is not None:
        return np.ascontiguousarray(samples[:, channel])
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def _check_samples(signal: np.ndarray, where: str, mixed: int, heard_s: float | None) -> None:
    """Refuse a signal that nothing can be heard in.

    Args:
        signal: (S,).
        where: what to call it.
        mixed: number of channels it is the mean of, 0 for none.
        heard_s: seconds from its begin that are heard, None if it is heard to its end.

    Raises:
        BadAudioError: silent or not finite.
    """
    low, high = float(signal.min()), float(signal.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(signal)))
        raise BadAudioError(
            f"{where}: holds {bad} sample(s) that are NaN or infinite; expected finite ones; "
            "write it again or leave it out"
        )
    peak = (high - low) / 2  # a constant offset is not heard
    if peak < SILENT_BELOW:
        got = f"every sample is {low:g}" if low == high else f"its peak is {20 * math.log10(peak):.0f} dBFS"
        channels = (
            f"; it is the mean of {mixed} channels, which cancel each other if one is the other's negative: name one in a "
            "column channel (0, 1 ...)"
            if mixed
            else ""
        )
        part = "" if heard_s is None else f" in the {heard_s:g} s that are heard of it (max_duration_s)"
        raise BadAudioError(
            f"{where}: is silent{part}, {got}; expected speech, above {20 * math.log10(SILENT_BELOW):.0f} dBFS; "
            f"{'hear more of it, ' if part else ''}check the channel or leave it out{channels}"
        )


def _check_complete(stream: BinaryIO, where: str) -> None:
    """Compare the size that the header of an uncompressed or Ogg file promises with the bytes there; rewind."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(24)
    missing = 0
    if head == b"version https://git-lfs.":
        raise BadAudioError(
            f"{where}: is a Git LFS pointer, not the sound itself; run `git lfs pull` in its repository"
        )
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        missing = _missing_wav_bytes(stream, size)
    elif head.startswith(b"NIST_1A"):
        stream.seek(0)
        missing = _missing_sphere_bytes(stream.read(1024), size)
    elif head[:4] == b"FORM":
        missing = struct.unpack(">I", head[4:8])[0] + 8 - size
    elif head[:4] == b".snd":
        start, length = struct.unpack(">II", head[4:12])
        missing = 0 if length == 0xFFFFFFFF else start + length - size
    elif head[:4] == b"riff":
        stream.seek(16)
        missing = int.from_bytes(stream.read(8), "little") - size  # Wave64: its size includes its header
    elif head[:4] == b"OggS" and not _ogg_ends(stream, size):
        raise BadAudioError(
            f"{where}: is truncated: its last Ogg page ({size} bytes are there) is cut or does not end the stream; "
            "copy it again from the original or leave it out"
        )
    stream.seek(0)
    if missing > 0:
        raise BadAudioError(
            f"{where}: is truncated: {size} bytes are there; expected {missing} more after its header; "
            "copy it again from the original or leave it out"
        )


def _missing_wav_bytes(stream: BinaryIO, size: int) -> int:
    position, long = 12, 0
    while position + 8 <= size:
        stream.seek(position)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"ds64":  # of RF64 (EBU Tech 3306): the lengths of the file and of its data in 64 bits
            long = struct.unpack("<QQ", stream.read(16))[1]
        if name == b"data":
            length = long or length
            # programs that write to a pipe leave 0 or the largest number here
            piped = length == 0 or (not long and length >= 0x7FFFFF00)
            return 0 if piped else position + 8 + length - size
        position += 8 + length + length % 2
    return 0


def _missing_sphere_bytes(head: bytes, size: int) -> int:
    fields = {}
    for line in head.decode("latin-1").splitlines():
        parts = line.split(maxsplit=2)
        if parts[:1] == ["end_head"]:
            break
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    try:
        header = int(head[8:16])
        data = int(fields["sample_count"]) * int(fields.get("channel_count", 1)) * int(fields["sample_n_bytes"])
    except (KeyError, ValueError):
        return 0
    # shortened (compressed) data is smaller than its samples; libsndfile refuses it by itself
    return 0 if "embedded" in fields.get("sample_coding", "") else header + data - size


def _ogg_ends(stream: BinaryIO, size: int) -> bool:
    """Whether the last page of an Ogg stream is whole and carries the end-of-stream flag (RFC 3533, header type 0x04)."""
    stream.seek(max(0, size - 70000))  # a page has at most 65307 bytes
    tail = stream.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail) or not tail[page + 5] & 0x04:
        return False
    segments = tail[page + 27 : page + 27 + tail[page + 26]]
    return len(segments) == tail[page + 26] and page + 27 + len(segments) + sum(segments) <= len(tail)
