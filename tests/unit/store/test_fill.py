"""Who makes the shards: this process, or several once that pays; the store is the same."""

import numpy as np
import pytest
from store_helpers import assert_holds, make_items, make_spec

import repkit.store.fill
from repkit.errors import BadAudioError, UsageError
from repkit.runs.executors import Event
from repkit.store import StoreWriter, open_store
from repkit.store.fill import Filling, fill
from repkit.store.parts import Item


class Source:
    def __init__(self, items):
        self.entries, self.given, self.closed = items, [], 0

    def items(self, start, stop):
        try:
            for n, (id, values) in enumerate(self.entries[start:stop], start):
                self.given.append(n)
                yield Item(id, BadAudioError(f"{id}: silent") if values is None else values, 3600.0)
        finally:
            self.closed += 1


@pytest.fixture
def elsewhere(monkeypatch):
    """Let `processes` run the jobs here and note them."""
    asked = []

    def processes(n_workers):
        def execute(function, context, jobs, on_event):
            asked.append((n_workers, list(jobs)))
            for job in jobs[::-1]:
                on_event(Event("done", job, 0, function(context, job, lambda n: None)))

        return execute

    monkeypatch.setattr(repkit.store.fill, "processes", processes)
    monkeypatch.setattr(repkit.store.fill, "default_workers", lambda n_jobs: min(4, n_jobs))
    return asked


def run(path, items, source=None, one_pass=False, **options):
    source, calls, said = source or Source(items), [], []
    with StoreWriter(path, make_spec(), 5) as writer:
        fill(
            [Filling(writer, source, lambda: [id for id, _ in items], one_pass)],
            progress=lambda *call: calls.append(call),
            notice=said.append,
            **options,
        )
        writer.finish()
    assert_holds(open_store(path), items)
    assert calls[-1][1] == len(items)
    return source, calls, said


def test_here_in_the_order_of_the_stream(tmp_path, elsewhere):
    items = make_items()
    source, calls, said = run(tmp_path, items)
    assert source.given == list(range(23))
    assert calls == [(0, n, n * 3600.0) for n in range(1, 24)]
    assert (elsewhere, said) == ([], [])


def test_goes_on_elsewhere_when_that_pays(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(repkit.store.fill, "START_S", -1e9)
    source, calls, said = run(tmp_path, make_items(), workers=None)
    assert elsewhere == [(4, [(0, 1), (0, 2), (0, 3), (0, 4)])]
    assert source.given[:5] == [0, 1, 2, 3, 4]  # and a generator that runs ahead of its reader is closed
    assert source.closed == 5
    assert calls[-1][2] == 23 * 3600.0
    assert said == ["20 utterances are left: going on with 4 processes"]


def test_an_upper_limit(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(repkit.store.fill, "START_S", -1e9)
    run(tmp_path / "a", make_items(), workers=None, most_workers=2)
    assert [n for n, _ in elsewhere] == [2]
    run(tmp_path / "b", make_items(), workers=None, most_workers=1)
    assert len(elsewhere) == 1


def test_little_work_stays_here(tmp_path, elsewhere):
    run(tmp_path / "a", make_items(), workers=None)  # milliseconds
    run(tmp_path / "b", make_items(n=4), workers=8)  # one shard
    assert elsewhere == []


def test_what_can_only_be_read_from_its_begin_stays_here(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(repkit.store.fill, "START_S", -1e9)
    for name, workers in (("a", None), ("b", 4)):
        source, _, _ = run(tmp_path / name, make_items(), one_pass=True, workers=workers)
        assert source.given == list(range(23))
    assert elsewhere == []


def test_what_cannot_be_sent_stays_here_or_is_refused(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(repkit.store.fill, "START_S", -1e9)

    class Local(Source):  # pickle finds classes by their module
        pass

    run(tmp_path / "a", make_items(), Local(make_items()), workers=None)
    with pytest.raises(UsageError, match=r"several processes: .*Local.*use one process"):
        run(tmp_path / "b", make_items(), Local(make_items()), workers=2)
    assert elsewhere == []


def test_an_executor_given_makes_every_shard(tmp_path, elsewhere):
    items, jobs = make_items(), []

    def execute(function, context, given, on_event):
        jobs.extend(given)
        for job in given:
            on_event(Event("done", job, 0, function(context, job, lambda n: None)))

    _, _, said = run(tmp_path, items, executor=execute)
    assert jobs == [(0, k) for k in range(5)]
    assert said == ["5 shards by the executor"]
    assert elsewhere == []


def test_only_what_is_missing_is_made(tmp_path, elsewhere):
    items = make_items()
    source = Source(items)

    def stopped():
        with StoreWriter(tmp_path, make_spec(), 5) as writer:
            for n, item in enumerate(source.items(0, None)):
                if n == 12:
                    raise KeyboardInterrupt
                values = item.values
                writer.add(item.id, values) if isinstance(values, np.ndarray) else writer.leave_out(
                    item.id, values.message
                )

    with pytest.raises(KeyboardInterrupt):
        stopped()
    (tmp_path / "shard-00000.h5").unlink()
    again, calls, _ = run(tmp_path, items)
    assert again.given == [0, 1, 2, 3, 4, *range(12, 23)]
    assert calls[0] == (0, 8, 3600.0)
