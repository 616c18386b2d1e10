"""A corpus through a frontend into a store of frames."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from repkit.api import Corpus, Frontend, Utterance
from repkit.errors import BadAudioError, DataError, RepkitWarning, StoreError
from repkit.features.pipeline import ahead
from repkit.runs.directory import cache_root
from repkit.runs.executors import Executor
from repkit.store import SHARD_SIZE, Item, Store, StoreSpec, StoreWriter, open_store
from repkit.store.files import StoreInUseError
from repkit.store.fill import Filling, fill
from repkit.store.manifest import MANIFEST

OnBadAudio = Literal["stop", "skip"]
T = TypeVar("T")
R = TypeVar("R")
_SHOWN = 20
_LOOK_AGAIN_S = 1.0  # between two looks whether another process is done


def frames_spec(
    corpus: Corpus,
    frontend: Frontend,
    *,
    max_duration_s: float | None = None,
    dtype: Literal["float16", "float32"] = "float16",
) -> StoreSpec:
    """Return the identity of the store that `extract_frames` makes of the same arguments."""
    return StoreSpec(
        kind="frames",
        dim=frontend.n_bands,
        dtype=dtype,
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint(),
        source={**frontend.convention(), "max_duration_s": max_duration_s},
        frame_shift_s=frontend.frame_shift_s,
    )


def cached_frames(
    corpus: Corpus,
    frontend: Frontend,
    *,
    cache: Path | None = None,
    on_bad_audio: OnBadAudio = "stop",
    max_duration_s: float | None = None,
    dtype: Literal["float16", "float32"] | None = None,
    progress: Callable[[int, float], None] | None = None,
    workers: int | None = 1,
    most_workers: int | None = None,
    executor: Executor | None = None,
    notice: Callable[[str], None] | None = None,
) -> Store:
    """Return the frames of a corpus from the cache, where they are made if they are not there yet.

    While another process makes them, as of many that start together one does, this one waits, and says so once.

    Args:
        corpus: where the sound comes from.
        frontend: waveforms to frames.
        cache: folder of the cache, None for `repkit.runs.directory.cache_root`.
        on_bad_audio: see `extract_frames`.
        max_duration_s: see `extract_frames`.
        dtype: see `extract_frames`; by default the frontend's ``store_dtype``, or float16 where it names none.
        progress: see `extract_frames`.
        workers: see `extract_frames`.
        most_workers: see `extract_frames`.
        executor: see `extract_frames`.
        notice: see `extract_frames`.

    Raises:
        DataError, StoreError: see `extract_frames`.
    """
    dtype = dtype or getattr(frontend, "store_dtype", "float16")
    spec = frames_spec(corpus, frontend, max_duration_s=max_duration_s, dtype=dtype)
    folder = (cache or cache_root()) / "frames" / f"{corpus.name}-{spec.fingerprint[:16]}"
    return extract_frames(
        corpus,
        frontend,
        folder,
        on_bad_audio=on_bad_audio,
        max_duration_s=max_duration_s,
        dtype=dtype,
        progress=progress,
        workers=workers,
        most_workers=most_workers,
        executor=executor,
        notice=notice,
        wait=True,
    )


def extract_frames(
    corpus: Corpus,
    frontend: Frontend,
    path: str | os.PathLike[str],
    *,
    on_bad_audio: OnBadAudio = "stop",
    max_duration_s: float | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    shard_size: int = SHARD_SIZE,
    progress: Callable[[int, float], None] | None = None,
    workers: int | None = 1,
    most_workers: int | None = None,
    executor: Executor | None = None,
    notice: Callable[[str], None] | None = None,
    wait: bool = False,
) -> Store:
    """Fill a store with the frames of all utterances of a corpus; go on where an earlier run was stopped.

    A finished store of the same settings is opened at once, no audio is read.

    Args:
        corpus: where the sound comes from.
        frontend: waveforms to frames.
        path: folder of the store.
        on_bad_audio: ``"stop"`` goes through the whole corpus, keeps the good frames, and then lists every bad file;
            ``"skip"`` records the bad ones in the store with the reason and goes on.
        max_duration_s: seconds read of each utterance, None for all.
        dtype: type on disk.
        shard_size: utterances per shard.
        progress: called with the number of utterances done (of earlier runs too) and the hours of speech of this run:
            after every utterance, or now and then where other processes make the shards.
        workers: processes. 1 decodes in a thread and makes the frames in this one; more make a shard each at a time; None
            begins here and goes on with one process per core if that is expected to be sooner done.
        most_workers: upper limit of what None chooses.
        executor: where to make the shards instead; see `repkit.store.fill.fill`.
        notice: told in a sentence when several processes are used, or another one is waited for.
        wait: wait while another process fills this store, instead of refusing; a `RepkitWarning` says so where `notice` is None.

    Raises:
        DataError: audio that cannot be used (``on_bad_audio="stop"``); `problems` lists 20 at most.
        StoreError: the folder holds another store, a damaged one, or is being filled by another process, or the disk is full.
        UsageError: several workers for a corpus or a frontend that cannot be sent to another process.
    """
    spec = frames_spec(corpus, frontend, max_duration_s=max_duration_s, dtype=dtype)
    if (Path(path) / MANIFEST).exists():  # several commands may read it at the same time, so that none takes the folder
        store = open_store(path, spec)
        if on_bad_audio == "stop" and store.left_out:
            raise bad_audio_error(corpus.name, list(store.left_out.items()), path)
        return store

    def say(text: str) -> None:
        text = f"frames of {corpus.name}: {text}"
        if notice is None:
            warnings.warn(text, RepkitWarning, stacklevel=3)
        else:
            notice(text)

    with _writer(path, spec, shard_size, say if wait else None) as writer, one_thread():
        fill(
            [Filling(writer, FramesSource(corpus, frontend, max_duration_s), listing(corpus), one_pass(corpus))],
            workers=workers,
            most_workers=most_workers,
            executor=executor,
            progress=None if progress is None else lambda _, n, seconds: progress(n, seconds / 3600),
            notice=None if notice is None else say,
        )
        if on_bad_audio == "stop" and writer.left_out:
            raise bad_audio_error(corpus.name, list(writer.left_out.items()), path)
        writer.finish()
    return open_store(path, spec)


def _writer(
    path: str | os.PathLike[str], spec: StoreSpec, shard_size: int, waiting: Callable[[str], None] | None
) -> StoreWriter:
    """Return the writer of a store; `waiting` is told once that it waits for another process, None refuses to wait."""
    told = False
    while True:
        try:
            return StoreWriter(path, spec, shard_size)
        except StoreInUseError:
            if waiting is None:
                raise
            if not told:
                waiting("another process is making them; waiting for it")
                told = True
            time.sleep(_LOOK_AGAIN_S)


@dataclass(frozen=True)
class FramesSource:
    """The frames of a corpus as items of a store (`repkit.store.Source`).

    Attributes:
        corpus: where the sound comes from.
        frontend: waveforms to frames.
        max_duration_s: seconds read of each utterance, None for all.
    """

    corpus: Corpus
    frontend: Frontend
    max_duration_s: float | None

    def items(self, start: int, stop: int | None) -> Generator[Item]:
        """Yield the frames of the utterances [start, stop), decoded in a thread of its own."""
        with closing(decoded(self.corpus, start, stop, self.max_duration_s)) as stream:
            for utterance, sound in stream:
                if isinstance(sound, np.ndarray):
                    seconds = len(sound) / self.frontend.sample_rate
                    yield Item(utterance.id, frames_of(sound, self.frontend, utterance.id), seconds)
                else:
                    yield Item(utterance.id, sound)


def decoded(
    corpus: Corpus, start: int, stop: int | None, max_duration_s: float | None
) -> Generator[tuple[Utterance, np.ndarray | BadAudioError]]:
    """Yield the utterances [start, stop) of a corpus and their sound, which a thread decodes ahead.

    Raises:
        Exception: whatever else than bad audio the corpus met, in its place.
    """
    sound = corpus.stream(skip=start, max_duration_s=max_duration_s)
    limited = islice(sound, None if stop is None else stop - start)
    with closing(ahead(limited, lambda pair: getattr(pair[1], "nbytes", 0), name="decode")) as stream:
        for utterance, found in stream:
            if isinstance(found, Exception) and not isinstance(found, BadAudioError):
                raise found
            yield utterance, found


def frames_of(sound: np.ndarray, frontend: Frontend, id: str) -> np.ndarray | BadAudioError:
    """Return the (T, F) float32 frames of a waveform (S,), or why it has none."""
    import torch

    with torch.inference_mode():
        waveform = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
        frames, counts = frontend(waveform[None], torch.tensor([len(waveform)]))
        count = int(counts[0])
        if count == 0:
            return BadAudioError(f"{id}: {len(sound) / frontend.sample_rate:.3f} s is too short for one frame")
        values: np.ndarray = frames[0, :count].cpu().numpy()
        return values


def listing(corpus: Corpus) -> Callable[[], Sequence[str]]:
    """Return a function that returns the ids of a corpus; listed when first asked for."""
    return lambda: [utterance.id for utterance in corpus.utterances()]


def one_pass(corpus: Any) -> bool:
    """Whether a corpus can only be read from its begin (its attribute ``one_pass``), as a stream from the hub is."""
    return bool(getattr(corpus, "one_pass", False))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: two stages that each use all cores are slower than two of one core each."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def look_through(work: Callable[[T], R], corpora: Iterable[T]) -> list[R]:
    """Return what comes of each corpus; audio that cannot be used is complained of once all of them are looked through.

    Args:
        work: called with each; raises `DataError` for what is wrong with its audio.
        corpora: corpora, or whatever stands for them.

    Raises:
        StoreError: at once.
        DataError: that of the corpus that has one, or one that holds those of several.
    """
    found: list[R] = []
    refused: list[DataError] = []
    for corpus in corpora:
        try:
            found.append(work(corpus))
        except StoreError:
            raise
        except DataError as error:
            refused.append(error)
    if len(refused) > 1:
        raise DataError("; ".join(e.message for e in refused), [line for e in refused for line in e.problems])
    if refused:
        raise refused[0]
    return found


def bad_audio_error(corpus: str, bad: Sequence[tuple[str, str]], path: str | os.PathLike[str]) -> DataError:
    """Return the error that lists audio that cannot be used, 20 at most.

    Args:
        corpus: its name.
        bad: ids and reasons.
        path: folder of the store that the good ones are in.
    """
    lines = [reason if id in reason else f"{id}: {reason}" for id, reason in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"and {len(bad) - _SHOWN} more")
    return DataError(
        f"corpus {corpus!r}: {len(bad)} utterances have audio that cannot be used; sound of at least one frame in "
        f"every file was expected; mend them and delete {os.fspath(path)}, or go on without them: --on-bad-audio skip",
        lines,
    )
