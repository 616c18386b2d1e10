"""Shards made one by one, in any order, by any process: the store is the same to the last byte."""

import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
from store_helpers import assert_holds, fill, make_items, make_spec

from repkit.errors import BadAudioError, StoreError
from repkit.runs.executors import Event
from repkit.store import StoreWriter, open_store
from repkit.store.parts import Item, fill_by, make_shard


class Source:
    """A stream in memory; counts what was asked of it."""

    def __init__(self, items, pause=0.0):
        self.entries, self.pause, self.given = items, pause, []

    def items(self, start, stop):
        for n, (id, values) in enumerate(self.entries[start:stop], start):
            time.sleep(self.pause)
            self.given.append(n)
            yield Item(id, BadAudioError(f"{id}: silent") if values is None else values, 2.0)


def shuffled(order):
    """Return an executor that runs the jobs in this process in some order."""

    def execute(function, context, jobs, on_event):
        for job in [jobs[i] for i in order if i < len(jobs)]:
            on_event(Event("started", job, 0))
            value = function(context, job, lambda n, job=job: on_event(Event("epoch", job, 0, n)))
            on_event(Event("done", job, 0, value))

    return execute


def fill_in_parts(path, spec, source, order=range(5), progress=None):
    with StoreWriter(path, spec, 5) as writer:
        fill_by(shuffled(order), [writer], [source], [[id for id, _ in source.entries]], progress)
        writer.finish()


def contents(path):
    return {name: (path / name).read_bytes() for name in os.listdir(path) if name.startswith("shard")}


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1)])
def test_any_order_gives_the_bytes_of_the_writer(tmp_path, kind, order):
    items, spec, calls = make_items(kind), make_spec(kind), []
    fill(tmp_path / "whole", spec, items)
    fill_in_parts(tmp_path / "s", spec, Source(items), order, lambda *call: calls.append(call))
    assert_holds(open_store(tmp_path / "s"), items)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    ours, theirs = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("s", "whole"))
    assert ours["shards"] == theirs["shards"]
    assert ours["left_out"] == theirs["left_out"]
    assert calls[-1] == (0, 23, 46.0)


def test_what_is_there_is_kept_and_only_the_rest_is_made(tmp_path, kind):
    items, spec = make_items(kind), make_spec(kind)
    fill(tmp_path / "s", spec, items[:13], finish=False)  # shards 0 and 1, and 3 items of shard 2
    kept = {n: (tmp_path / "s" / n).stat().st_mtime_ns for n in ("shard-00000.h5", "shard-00001.h5")}
    source, calls = Source(items), []
    fill_in_parts(tmp_path / "s", spec, source, range(3), lambda *call: calls.append(call[1]))
    assert sorted(source.given) == list(range(10, 23))
    assert calls == [15, 20, 23]
    assert {name: (tmp_path / "s" / name).stat().st_mtime_ns for name in kept} == kept
    assert_holds(open_store(tmp_path / "s"), items)


def test_a_shard_made_twice_is_made_once(tmp_path, kind):
    items, spec = make_items(kind), make_spec(kind)
    source = Source(items)
    StoreWriter(tmp_path, spec, 5).close()
    first = make_shard(tmp_path, spec, 1, 5, lambda: source.items(5, 10), 5)
    assert source.given == [5, 6, 7, 8, 9]
    stamp = (tmp_path / "shard-00001.h5").stat().st_mtime_ns
    assert make_shard(tmp_path, spec, 1, 5, lambda: source.items(5, 10), 5) == first
    assert source.given == [5, 6, 7, 8, 9]
    assert (tmp_path / "shard-00001.h5").stat().st_mtime_ns == stamp
    with pytest.raises(StoreError, match="belongs to another store"):
        make_shard(tmp_path, make_spec(kind, corpus="d"), 1, 5, lambda: source.items(5, 10), 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda items: items.pop(7), "the stream gave 4 items; 5 were expected"),
        (lambda items: items.insert(7, items[6]), "came twice"),
        (
            lambda items: items.__setitem__(7, ("c/other", items[7][1])),
            r"other utterances .* at this place: c/other, c/ü7",
        ),
        (lambda items: items.__setitem__(7, (items[0][0], items[7][1])), "other utterances"),
        (lambda items: items.__setitem__(7, (items[7][0], np.full(items[7][1].shape, np.nan))), "NaN or infinity"),
    ],
)
def test_a_stream_that_does_not_fit_its_list_is_refused(tmp_path, kind, change, words):
    items, spec = make_items(kind), make_spec(kind)
    wrong = list(items)
    change(wrong)

    class Other(Source):
        def items(self, start, stop):
            end = (
                start + 4 if start == 5 and len(wrong) < len(items) else stop + (len(wrong) > len(items) and start == 5)
            )
            return Source(wrong).items(start, end)

    with pytest.raises(StoreError, match=words):
        fill_in_parts(tmp_path / "s", spec, Other(items))
    assert not list((tmp_path / "s").glob("*.tmp.*"))
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_several_stores_at_once(tmp_path):
    spec = make_spec()
    lists = [make_items(), [(f"d{id}", values) for id, values in make_items(n=7)]]
    with StoreWriter(tmp_path / "a", spec, 5) as a, StoreWriter(tmp_path / "b", spec, 5) as b:
        sources = [Source(items) for items in lists]
        fill_by(shuffled([6, 0, 5, 1, 2, 3, 4]), [a, b], sources, [[id for id, _ in items] for items in lists])
        a.finish()
        b.finish()
    for name, items in zip("ab", lists, strict=True):
        assert_holds(open_store(tmp_path / name), items)


def test_a_job_begun_again_elsewhere_does_not_take_progress_back(tmp_path):
    items, calls = make_items(), []

    def execute(function, context, jobs, on_event):
        for n in (3, 1):  # the process that had made three is lost
            on_event(Event("epoch", jobs[0], 0, n))
        for job in jobs:
            on_event(Event("done", job, 0, function(context, job, lambda n: None)))

    with StoreWriter(tmp_path, make_spec(), 5) as writer:
        fill_by(execute, [writer], [Source(items)], [[id for id, _ in items]], lambda *call: calls.append(call[1]))
    assert calls == [3, 3, 5, 10, 15, 20, 23]


def _make_in_processes(path, kind, items):
    """Two processes make shards while a third holds the folder; all of one process group."""
    os.setsid()
    context = multiprocessing.get_context("fork")

    def execute(function, parts, jobs, on_event):
        results = context.Queue()

        def work(mine):
            for job in mine:
                results.put((job, function(parts, job, lambda n: None)))

        for number in (0, 1):
            context.Process(target=work, args=(jobs[number::2],)).start()
        for _ in jobs:
            job, value = results.get()
            on_event(Event("done", job, 0, value))

    with StoreWriter(path, make_spec(kind), 5) as writer:
        fill_by(execute, [writer], [Source(items, pause=0.0005)], [[id for id, _ in items]])
        writer.finish()


def _wait_until_free(path):
    """Wait for the forked workers' end: they have inherited the lock of the folder."""
    deadline = time.monotonic() + 20
    while path.exists():
        try:
            return StoreWriter(path, make_spec(), 5).close()
        except StoreError as error:
            if "another process" not in error.message:
                return None
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_sigkill_at_any_moment_with_any_number_of_shards_there(tmp_path, kind):
    items = make_items(kind, n=100)
    fill(tmp_path / "whole", make_spec(kind), items)
    context, chance = multiprocessing.get_context("fork"), random.Random(7)
    kills, gaps, longest = 0, set(), 0.03
    path = tmp_path / "s"
    while not (path / "manifest.json").exists():
        parent = context.Process(target=_make_in_processes, args=(path, kind, items))
        parent.start()
        parent.join(chance.uniform(0.01, longest))
        if parent.exitcode is None:
            try:
                os.killpg(parent.pid, signal.SIGKILL)
            except ProcessLookupError:  # before it led a group
                os.kill(parent.pid, signal.SIGKILL)
            kills += 1
        parent.join()
        longest *= 1.13
        _wait_until_free(path)
        if path.exists() and not (path / "manifest.json").exists():
            with StoreWriter(path, make_spec(kind), 5) as writer:
                gaps.add(tuple(writer.missing(100)))
        if kills == 6:  # shards got lost besides
            for shard in sorted(path.glob("shard-?????.h5"))[1:2]:
                shard.unlink()
    assert kills >= 5
    assert len(gaps) > 2
    assert contents(path) == contents(tmp_path / "whole")
    assert_holds(open_store(path, make_spec(kind)), items)
    assert not list(path.glob("*.tmp.*"))
