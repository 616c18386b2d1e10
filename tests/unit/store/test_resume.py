"""Killed, interrupted and started again: the end is as if nothing had happened."""

import json
import multiprocessing
import os
import random
import signal
import time

import h5py
import numpy as np
import pytest
from store_helpers import assert_holds, fill, make_items, make_spec

from repkit.errors import StoreError
from repkit.store import StoreWriter, open_store
from repkit.store.manifest import write_manifest
from repkit.store.shard import ShardWriter, manifest_entry, read_index, sha256_of

N_KILLS = 12


def _write_slowly(path, kind, items):
    with StoreWriter(path, make_spec(kind), 5) as writer:
        for id, values in items[writer.n_done :]:
            time.sleep(0.0005)
            if values is None:
                writer.leave_out(id, f"{id}: silent")
            else:
                writer.add(id, values)
        writer.finish()


def _digests(path):
    return [entry["sha256"] for entry in json.loads((path / "manifest.json").read_text())["shards"]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_sigkill_at_any_moment(tmp_path, kind):
    items = make_items(kind, n=120)
    fill(tmp_path / "whole", make_spec(kind), items)
    whole = _digests(tmp_path / "whole")
    context = multiprocessing.get_context("fork")
    chance = random.Random(5)
    kills, strays, progress, round = 0, 0, set(), 0
    while kills < N_KILLS:
        # a round ends when a writer got to its end alive; slower and slower kills make sure that it does
        path = tmp_path / f"round{round}"
        round += 1
        longest = 0.03
        while True:
            writer = context.Process(target=_write_slowly, args=(path, kind, items))
            writer.start()
            writer.join(chance.uniform(0.004, longest))
            if writer.exitcode is None:
                os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            if writer.exitcode == 0:
                break
            assert writer.exitcode == -signal.SIGKILL
            kills += 1
            longest *= 1.1
            if path.exists():
                strays += any(".tmp." in name for name in os.listdir(path))
                shards = sorted(path.glob("shard-?????.h5"))
                progress.add(len(shards))
                for shard in shards[-2:]:  # what has its name is whole, after every kill
                    assert shard.name == f"shard-{read_index(shard).index:05d}.h5"
                    assert read_index(shard).ids
        assert_holds(open_store(path, make_spec(kind)), items)
        assert _digests(path) == whole
        assert not list(path.glob("*.tmp.*"))
    assert strays > 0, "no kill hit a writer at work"
    assert len(progress) > 2


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 6, 11, 22, 23])
def test_an_orderly_stop_loses_nothing(tmp_path, kind, stop):
    items = make_items(kind)
    spec = make_spec(kind)

    def interrupted():
        with StoreWriter(tmp_path / "s", spec, 5) as writer:
            for id, values in items[:stop]:
                writer.leave_out(id, f"{id}: silent") if values is None else writer.add(id, values)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(StoreError, match="missing"):
        open_store(tmp_path / "s")
    with StoreWriter(tmp_path / "s", spec, 5) as writer:
        assert writer.n_done == stop
        assert not writer.finished
    fill(tmp_path / "s", spec, items)
    fill(tmp_path / "whole", spec, items)
    assert_holds(open_store(tmp_path / "s", spec), items)
    assert open_store(tmp_path / "s").load().ids == open_store(tmp_path / "whole").load().ids
    assert [read_index(p).ids for p in sorted((tmp_path / "s").glob("shard*"))] == [
        read_index(p).ids for p in sorted((tmp_path / "whole").glob("shard*"))
    ]


def test_starts_are_kept_through_a_stop_and_told_where_all_are_known(tmp_path):
    """One short shard is taken up again; a shard of an earlier repkit, without starts, leaves the store without them."""
    items = [(f"c/{i}", np.ones((2, 6))) for i in range(7)]
    for name, early in (("told", 0.25), ("old", None)):
        path, spec = tmp_path / name, make_spec()
        for stop in (2, 7):
            with StoreWriter(path, spec, 5) as writer:
                for place, (id, values) in enumerate(items[writer.n_done : stop], writer.n_done):
                    writer.add(id, values, place / 8 if place >= 2 else early)
        with StoreWriter(path, spec, 5) as writer:
            for place in range(7, 15):  # one shard of nothing that is kept
                writer.leave_out(f"c/{place}", "silent")
            writer.finish()
    starts = open_store(tmp_path / "told").starts
    assert list(starts.values()) == [0.25, 0.25, 0.25, 0.375, 0.5, 0.625, 0.75]
    assert list(starts) == [id for id, _ in items]
    assert open_store(tmp_path / "old").starts is None


def test_many_small_steps(tmp_path, kind):
    items = make_items(kind)
    spec = make_spec(kind)
    for _ in range(len(items)):
        with StoreWriter(tmp_path / "s", spec, 5) as writer:
            id, values = items[writer.n_done]
            writer.leave_out(id, f"{id}: silent") if values is None else writer.add(id, values)
    fill(tmp_path / "s", spec, items)
    assert_holds(open_store(tmp_path / "s"), items)
    assert len(list((tmp_path / "s").glob("shard*"))) == 5


def test_killed_before_the_manifest(tmp_path):
    items = make_items()
    fill(tmp_path / "s", make_spec(), items)
    (tmp_path / "s" / "manifest.json").unlink()
    (tmp_path / "s" / "shard-00003.tmp.99-0.h5").write_bytes(b"half a shard")
    (tmp_path / "s" / "manifest.tmp.99-1.json").write_bytes(b"{")
    with StoreWriter(tmp_path / "s", make_spec(), 5) as writer:
        assert writer.n_done == len(items)
        writer.finish()
    assert_holds(open_store(tmp_path / "s"), items)
    assert not list((tmp_path / "s").glob("*.tmp.*"))


def test_left_out_since_the_last_shard_are_met_again(tmp_path):
    writer = StoreWriter(tmp_path / "s", make_spec("vectors"), 2)
    for id in "ab":
        writer.add(id, np.zeros(6))
    writer.leave_out("c", "silent")
    assert writer.n_done == 2
    assert writer.left_out == {"c": "silent"}
    writer._abandon()  # as a kill does
    with StoreWriter(tmp_path / "s", make_spec("vectors"), 2) as writer:
        assert writer.n_done == 2
        writer.leave_out("c", "silent")
        writer.finish()
    store = open_store(tmp_path / "s")
    assert store.ids == ("a", "b")
    assert store.left_out == {"c": "silent"}


@pytest.mark.parametrize("lost", [[1], [0, 2], [0, 1, 2, 3], [4], [0, 4]])
def test_missing_shards_are_made_again_and_the_others_kept(tmp_path, kind, lost):
    items, spec = make_items(kind), make_spec(kind)
    fill(tmp_path / "whole", spec, items)
    fill(tmp_path / "s", spec, items, finish=False)
    for index in lost:
        (tmp_path / "s" / f"shard-{index:05d}.h5").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("shard*")}
    fill(tmp_path / "s", spec, items)  # goes through all that comes after the first gap
    assert_holds(open_store(tmp_path / "s"), items)
    assert _digests(tmp_path / "s") == _digests(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_gaps(tmp_path):
    items, spec = make_items(), make_spec()
    with StoreWriter(tmp_path / "s", spec, 5) as writer:
        assert (writer.gaps(), writer.n_done, writer.missing(23)) == ([(0, None)], 0, [0, 1, 2, 3, 4])
    fill(tmp_path / "s", spec, items, finish=False)
    with StoreWriter(tmp_path / "s", spec, 5) as writer:
        # the last shard holds 3 of at most 5: whether more come only the stream knows
        assert (writer.gaps(), writer.missing(23), writer.missing(24)) == ([(23, None)], [], [4])
        with pytest.raises(StoreError, match=r"shard-00004\.h5, beyond the 22 utterances"):
            writer.missing(22)
    for index in (0, 1, 3):
        (tmp_path / "s" / f"shard-{index:05d}.h5").unlink()
    with StoreWriter(tmp_path / "s", spec, 5) as writer:
        assert (writer.gaps(), writer.n_done) == ([(0, 10), (15, 20), (23, None)], 0)
        assert writer.missing(23) == [0, 1, 3]
        with pytest.raises(StoreError, match="items 0 to 10, 15 to 20 of the stream are missing"):
            writer.finish()
        with pytest.raises(StoreError, match="the begin of a gap was expected"):
            writer.go_to(5)
        for start, stop in writer.gaps():
            writer.go_to(start)
            for id, values in items[start:stop]:
                writer.leave_out(id, f"{id}: silent") if values is None else writer.add(id, values)
        writer.finish()
    assert_holds(open_store(tmp_path / "s"), items)


def test_an_item_that_is_not_where_it_was_is_refused(tmp_path):
    items, spec = make_items(), make_spec()
    fill(tmp_path / "s", spec, items, finish=False)
    (tmp_path / "s" / "shard-00000.h5").unlink()
    with StoreWriter(tmp_path / "s", spec, 5) as writer:
        with pytest.raises(StoreError, match="came twice"):
            writer.add(items[7][0], items[7][1])
        for id, values in items[:5]:
            writer.leave_out(id, f"{id}: silent") if values is None else writer.add(id, values)
        with pytest.raises(StoreError, match=r"shard-00001\.h5: damaged \(it should hold 'c/other'"):
            writer.add("c/other", items[5][1])


def test_an_unfinished_store_keeps_the_size_of_its_shards(tmp_path, kind):
    items, spec = make_items(kind), make_spec(kind)
    fill(tmp_path / "s", spec, items[:8], finish=False)
    fill(tmp_path / "s", spec, items, shard_size=100)
    assert_holds(open_store(tmp_path / "s"), items)
    assert [read_index(p).n_seen for p in sorted((tmp_path / "s").glob("shard*"))] == [5, 5, 5, 5, 3]


def test_stores_of_before(tmp_path, kind):
    """Their shards held so many kept utterances each: a finished one is read, an unfinished one is refused."""
    items, spec = make_items(kind), make_spec(kind)
    shards = [ShardWriter(tmp_path, index, spec, 5) for index in (0, 1)]
    for n, (id, values) in enumerate(items):
        if values is None:
            shards[n >= 15].left_out.append((id, f"{id}: silent"))
        else:
            shards[n >= 15].add(id, values.astype(spec.dtype))
    for shard in shards:
        shard.publish()
        with h5py.File(shard.path, "r+") as file:
            del file.attrs["shard_size"]
            file.attrs["n_before"] = 0 if shard is shards[0] else 15
    with pytest.raises(StoreError, match="begun by an earlier repkit"):
        StoreWriter(tmp_path, spec, 5)
    write_manifest(
        tmp_path,
        spec=spec,
        shards=[manifest_entry(s.path, sha256_of(s.path), len(s.ids), s.n_rows) for s in shards],
        left_out=[pair for s in shards for pair in s.left_out],
        created_utc="2026-01-01T00:00:00+00:00",
        repkit_version="0",
    )
    assert_holds(open_store(tmp_path, spec), items)
    with StoreWriter(tmp_path, spec) as writer:
        assert writer.finished
        assert writer.n_done == 23
