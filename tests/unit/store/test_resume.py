"""Killed, interrupted and started again: the end is as if nothing had happened."""

import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
from store_helpers import assert_holds, fill, make_items, make_spec

from repkit.errors import StoreError
from repkit.store import StoreWriter, open_store
from repkit.store.shard import read_index

N_KILLS = 25


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
            longest *= 1.05
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


def test_many_small_steps(tmp_path, kind):
    items = make_items(kind)
    spec = make_spec(kind)
    for _ in range(len(items)):
        with StoreWriter(tmp_path / "s", spec, 5) as writer:
            id, values = items[writer.n_done]
            writer.leave_out(id, f"{id}: silent") if values is None else writer.add(id, values)
    fill(tmp_path / "s", spec, items)
    assert_holds(open_store(tmp_path / "s"), items)
    assert len(list((tmp_path / "s").glob("shard*"))) == 4


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


def test_a_missing_shard_stops_the_writer(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    (tmp_path / "s" / "shard-00001.h5").unlink()
    with pytest.raises(StoreError, match=r"shard-00001\.h5: missing, but shard-00002\.h5 is there"):
        StoreWriter(tmp_path / "s", make_spec(), 5)
