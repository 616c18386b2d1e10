"""Make one shard of a store, whoever makes the others; and fill a store by many processes that do so.

The process that fills the store holds its folder (`StoreWriter`), plans the shards and writes the manifest; any other
process, on this machine or another, makes shards. What a shard holds depends on the stream alone, so that one that is
made twice is the same both times. Source: own design.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt

from repkit.errors import BadAudioError, RepkitWarning, StoreError
from repkit.runs.executors import Event, Executor
from repkit.store.files import fsize, sha256_of, shard_name
from repkit.store.shard import ShardWriter, read_index, read_values
from repkit.store.spec import StoreSpec
from repkit.store.values import check_id, convert, twice
from repkit.store.writer import StoreWriter


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a stream on its way into a store.

    Attributes:
        id: of the utterance.
        values: (T, dim) frames or (dim,) vector, or why it is left out.
        seconds: of speech.
        start_s: seconds of the utterance before its first frame; None where that is not known.
    """

    id: str
    values: npt.ArrayLike | BadAudioError
    seconds: float = 0.0
    start_s: float | None = None


class Source(Protocol):
    """What makes the items of a store, the same every time; goes to other processes by pickle."""

    def items(self, start: int, stop: int | None) -> Generator[Item]:
        """Yield the items [start, stop) of the stream, to its end when stop is None; may be closed before its end."""
        ...


def make_shard(
    path: str | os.PathLike[str],
    spec: StoreSpec,
    index: int,
    shard_size: int,
    items: Callable[[], Iterable[Item]],
    n_items: int,
) -> str:
    """Make a shard if it is not there, and return its SHA-256 (hex).

    It is written under a temporary name, synced and renamed. A whole one of the same identity is checked and kept; a
    short one, which an interrupted writer has left, is made again.

    Args:
        path: folder of the store.
        spec: identity of the store.
        index: number of the shard.
        shard_size: stream items of a full shard.
        items: makes the items; called when the shard must be made.
        n_items: items of this shard: shard_size, or fewer at the end of the stream.

    Raises:
        StoreError: another store's or a damaged shard is there; more or fewer items came; an item that cannot be stored;
            a full disk. Nothing is published then.
    """
    path = Path(path)
    name = path / shard_name(index)
    if fsize(name) >= 0:
        found = read_index(name)
        if found.spec.fingerprint == spec.fingerprint and found.shard_size == shard_size and found.n_seen == n_items:
            read_values(found)
            return sha256_of(name)
        if found.spec.fingerprint != spec.fingerprint or found.n_seen > n_items:
            raise StoreError(
                f"{name}: belongs to another store; fingerprint {spec.fingerprint[:12]} and {n_items} items were "
                "expected; choose another folder, or delete this one to make it again",
                found.spec.differences(spec),
            )
    shard = ShardWriter(path, index, spec, shard_size)
    try:
        seen: set[str] = set()
        for item in items():
            check_id(path, item.id)
            if item.id in seen:
                raise twice(path, item.id)
            seen.add(item.id)
            if isinstance(item.values, BadAudioError):
                shard.left_out.append((item.id, item.values.message))
            else:
                shard.add(item.id, convert(path, spec, item.id, item.values), item.start_s)
        if len(seen) != n_items:
            raise StoreError(
                f"{name}: the stream gave {len(seen)} items; {n_items} were expected; the corpus has changed or its "
                "list of utterances does not match its stream; mend it and start the same command again"
            )
        return shard.publish()
    except BaseException:
        shard.discard()
        raise


@dataclass(frozen=True)
class Part:
    """A store to fill, as other processes see it.

    Attributes:
        path: its folder.
        spec: its identity.
        shard_size: stream items of a full shard.
        n_items: length of the stream.
        source: what makes its items.
    """

    path: Path
    spec: StoreSpec
    shard_size: int
    n_items: int
    source: Source


@dataclass(frozen=True)
class Parts:
    """The context of `make_part`.

    Attributes:
        parts: all stores to fill.
        run: folder of the first of them, which an executor of several machines makes sure that all of them see.
    """

    parts: Sequence[Part]
    run: Path


REPORT_EVERY = 32
"""Items between two reports of a process that makes a shard."""


def make_part(context: Parts, job: tuple[int, int], on_epoch: Callable[[int], None]) -> Mapping[str, Any]:
    """Make one shard: the job of `fill_by`.

    Args:
        context: all stores to fill.
        job: number of the store, number of the shard.
        on_epoch: told the items done.

    Returns:
        ``sha256`` of the shard and ``seconds`` of speech.
    """
    if parent_process() is not None:
        # what there is to say of corpora and frontends was said where they were opened
        warnings.simplefilter("ignore", RepkitWarning)
    number, index = job
    part = context.parts[number]
    start = index * part.shard_size
    stop = min(start + part.shard_size, part.n_items)
    seconds = 0.0

    def items() -> Iterator[Item]:
        nonlocal seconds
        for n, item in enumerate(part.source.items(start, stop), 1):
            yield item
            seconds += item.seconds
            if n % REPORT_EVERY == 0:
                on_epoch(n)

    digest = make_shard(part.path, part.spec, index, part.shard_size, items, stop - start)
    return {"sha256": digest, "seconds": seconds}


def fill_by(
    executor: Executor,
    writers: Sequence[StoreWriter],
    sources: Sequence[Source],
    ids: Sequence[Sequence[str]],
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Make all missing shards of some stores by an executor; the stores still have to be finished.

    Args:
        executor: runs the jobs, one per shard.
        writers: of the stores, which hold their folders.
        sources: of their items.
        ids: of the utterances of each stream, in its order.
        progress: called with the number of the store, its utterances done (of earlier runs too) and the seconds of speech
            of this run.

    Raises:
        RepkitError: of a job, as it was raised; shards that are done stay.
    """
    parts = [
        Part(writer.path.absolute(), writer.spec, writer.shard_size, len(named), source)
        for writer, source, named in zip(writers, sources, ids, strict=True)
    ]
    jobs = [(number, index) for number, part in enumerate(parts) for index in writers[number].missing(part.n_items)]
    done = [part.n_items for part in parts]
    for number, index in jobs:
        done[number] -= _length(parts[number], index)
    running: dict[tuple[int, int], int] = {}
    seconds = [0.0] * len(parts)

    def on_event(event: Event) -> None:
        job = cast(tuple[int, int], event.job)
        number, index = job
        part = parts[number]
        if event.kind == "epoch":
            running[job] = max(running.get(job, 0), event.value)  # a job whose process was lost begins again
        elif event.kind == "done":
            running.pop(job, None)
            first = index * part.shard_size
            writers[number].take_in(index, event.value["sha256"], ids[number][first : first + part.shard_size])
            done[number] += _length(part, index)
            seconds[number] += event.value["seconds"]
        else:
            return
        if progress is not None:
            progress(number, done[number] + sum(n for j, n in running.items() if j[0] == number), seconds[number])

    if jobs:
        executor(make_part, Parts(parts, parts[0].path), jobs, on_event)


def _length(part: Part, index: int) -> int:
    return min(part.shard_size, part.n_items - index * part.shard_size)


__all__ = ["Item", "Part", "Parts", "Source", "fill_by", "make_part", "make_shard"]
