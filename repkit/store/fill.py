"""Fill stores in this process, or by all cores when what is left is worth the start of more processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from repkit.errors import BadAudioError, UsageError
from repkit.runs.executors import Executor, default_workers, processes
from repkit.store.parts import Source, fill_by
from repkit.store.writer import StoreWriter

Progress = Callable[[int, int, float], None]
"""Told the number of a store, its utterances done (of earlier runs too) and the seconds of speech of this run."""

START_S = 10.0
"""Seconds by which several processes must be expected to be faster: each imports torch and what else it needs first."""


@dataclass(frozen=True)
class Filling:
    """A store to be filled.

    Attributes:
        writer: holds it.
        source: makes its items.
        ids: returns the utterances of the stream in its order; may be slow the first time.
        one_pass: whether the stream can only be read from its begin, so that shards cannot be made apart.
    """

    writer: StoreWriter
    source: Source
    ids: Callable[[], Sequence[str]]
    one_pass: bool = False


def fill(
    stores: Sequence[Filling],
    *,
    workers: int | None = 1,
    executor: Executor | None = None,
    most_workers: int | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> None:
    """Make all items of some stores that are not there yet; finishing the stores is left to the caller.

    Args:
        stores: what to fill; finished ones are left alone.
        workers: processes. 1 fills them here, in the order of the stream; more make a shard each at a time; None begins
            here and goes on with one process per core as soon as that is expected to save more than their start.
        executor: where to make the shards instead, for example by dask; `workers` then counts nothing.
        most_workers: upper limit of what None chooses.
        progress: see `Progress`.
        notice: told in a sentence how the work is done.

    Raises:
        UsageError: several processes were asked for, but the stores' sources cannot be sent to them.
        RepkitError: whatever a source or the store raises; what is done stays.
    """
    seconds = [0.0] * len(stores)

    def tell(number: int, n: int, s: float) -> None:
        if progress is not None:
            progress(number, n, seconds[number] + s)

    def apart(numbers: Sequence[int], chosen: Executor) -> None:
        todo = [stores[number] for number in numbers]
        fill_by(
            chosen,
            [one.writer for one in todo],
            [one.source for one in todo],
            [one.ids() for one in todo],
            lambda at, n, s: tell(numbers[at], n, s),
        )

    waiting = [number for number, one in enumerate(stores) if not one.writer.finished]
    if executor is not None or (workers or 1) > 1:
        here = [number for number in waiting if stores[number].one_pass]
        there = [number for number in waiting if not stores[number].one_pass]
        n_shards = sum(len(stores[n].writer.missing(len(stores[n].ids()))) for n in there)
        if executor is None and n_shards < 2:
            here, there = waiting, []
        if there:
            if (problem := _unsendable([stores[n].source for n in there])) is not None:
                raise UsageError(
                    f"several processes: {problem}; what can be pickled was expected; use one process (workers 1)"
                )
            n_workers = min(workers or 1, n_shards)
            _say(
                notice, f"{n_shards} shards " + (f"by {n_workers} processes" if executor is None else "by the executor")
            )
            apart(there, executor or processes(n_workers))
        for number in here:
            _fill_here(stores[number], number, tell, None)
        return
    for place, number in enumerate(waiting):
        watch = _Watch(stores, waiting[place:], most_workers) if workers is None else None
        seconds[number] += _fill_here(stores[number], number, tell, watch)
        if watch is not None and watch.n_workers > 1:
            _say(notice, f"{watch.n_left} utterances are left: going on with {watch.n_workers} processes")
            apart([n for n in waiting[place:] if not stores[n].one_pass], processes(watch.n_workers))
            for later in waiting[place + 1 :]:
                if stores[later].one_pass:
                    _fill_here(stores[later], later, tell, None)
            return


def _say(notice: Callable[[str], None] | None, text: str) -> None:
    if notice is not None:
        notice(text)


def _unsendable(sources: Sequence[Source]) -> str | None:
    try:
        pickle.dumps(list(sources))
    except Exception as error:  # noqa: BLE001 - whatever a foreign corpus or encoder raises when pickled
        return f"{type(error).__name__}: {error}"
    return None


class _Watch:
    """Tells, at the end of every shard, whether other processes would be done sooner."""

    def __init__(self, stores: Sequence[Filling], numbers: Sequence[int], most_workers: int | None) -> None:
        self.n_workers = 1
        self.n_left = 0
        self._stores = [stores[number] for number in numbers]
        self._most = most_workers
        self._wall, self._busy, self._n = time.perf_counter(), time.process_time(), 0

    def worth_it(self, n_made: int) -> bool:
        """Decide after n_made items of this process; the decision stays in `n_workers`."""
        if self._stores[0].one_pass:
            return False
        wall = time.perf_counter() - self._wall
        cores = max(1.0, (time.process_time() - self._busy) / wall)  # what the threads of this process keep busy
        apart = [one for one in self._stores if not one.one_pass]
        n_shards = 0
        self.n_left = 0
        for one in apart:
            missing = one.writer.missing(len(one.ids()))
            n_shards += len(missing)
            self.n_left += min(len(missing) * one.writer.shard_size, len(one.ids()))
        n_workers = default_workers(n_shards)
        if self._most is not None:
            n_workers = min(n_workers, self._most)
        saved = wall / n_made * self.n_left * (1 - cores / n_workers)
        if n_workers < 2 or saved < START_S or _unsendable([one.source for one in apart]) is not None:
            return False
        self.n_workers = n_workers
        return True


def _fill_here(one: Filling, number: int, tell: Progress, watch: _Watch | None) -> float:
    """Make what is missing in the order of the stream; return the seconds of speech made."""
    writer = one.writer
    gaps = writer.gaps()
    done = gaps[-1][0] - sum(stop - start for start, stop in gaps[:-1] if stop is not None)
    n_made, seconds = 0, 0.0
    for start, stop in gaps:
        writer.go_to(start)
        with closing(one.source.items(start, stop)) as items:
            for position, item in enumerate(items, start + 1):
                if isinstance(item.values, BadAudioError):
                    writer.leave_out(item.id, item.values.message)
                else:
                    writer.add(item.id, item.values, item.start_s)
                n_made += 1
                seconds += item.seconds
                tell(number, done + n_made, seconds)
                if watch is not None and position % writer.shard_size == 0 and watch.worth_it(n_made):
                    return seconds
    return seconds


__all__ = ["START_S", "Filling", "Progress", "fill"]
