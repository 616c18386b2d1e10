"""Jobs on a real dask cluster of three workers, one of which is killed: done once each, with the same results."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dask_jobs
import numpy as np
import pandas as pd
import pytest
from cli_helpers import RECIPE, speech

from repkit.errors import DataError, RepkitError, UsageError
from repkit.runs import dask_executor
from repkit.runs.dask_executor import run_on_dask
from repkit.runs.executors import open_executor, processes

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Path of the file of a scheduler with three workers, all of them processes of the command line."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error",
    }
    common = ["--scheduler-file", file, "--no-dashboard"]
    worker = ["worker", *common, "--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", folder]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            # the scheduler does without the modules of the jobs
            env=environment if arguments is worker else {**environment, "PYTHONPATH": ""},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for arguments in (["scheduler", *common, "--port", "0", "--host", "127.0.0.1"], worker, worker, worker)
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=30, set_as_default=False) as client:
            client.wait_for_workers(3, timeout=60)
        yield str(file)
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Log(list):
    """Events, and what to do at the first epoch."""

    def __init__(self, at_first_epoch=None):
        super().__init__()
        self.at_first_epoch = at_first_epoch

    def __call__(self, event):
        first = event.kind == "epoch" and not any(e.kind == "epoch" for e in self)
        self.append(event)
        if first and self.at_first_epoch:
            self.at_first_epoch(event)

    def jobs(self, kind):
        return [event.job for event in self if event.kind == kind]


def results(folder):
    return {p.parent.name: p.read_text() for p in folder.glob("jobs/one/seed_0/*/done.json") if ".tmp." not in str(p)}


def test_every_job_is_done_once_and_the_context_travels_once_to_each_worker(scheduler, tmp_path):
    log = Log()
    run_on_dask(dask_jobs.publish, dask_jobs.Context(tmp_path, 3), range(9), scheduler, log)
    assert {event.job: event.value for event in log if event.kind == "done"} == {job: 3 * job for job in range(9)}
    assert sorted(log.jobs("done")) == sorted(log.jobs("started")) == list(range(9))
    assert {event.worker for event in log} == {0, 1, 2}
    assert set(log.jobs("epoch")) == set(range(9))
    unpickled = Counter((tmp_path / "unpickled.txt").read_text().split())
    assert set(unpickled.values()) == {1}
    assert len(unpickled) == 3
    assert results(tmp_path) == {str(job): str(3 * job) for job in range(9)}
    assert not list(tmp_path.glob(".*"))


def test_one_worker_does_one_job_at_a_time(scheduler):
    log = Log()
    run_on_dask(dask_jobs.where, None, range(12), scheduler, log)
    assert {event.value[0] for event in log if event.kind == "done"} == {os.getcwd()}  # paths may be relative
    busy = set()
    for event in log:
        if event.kind == "started":
            assert event.worker not in busy
            busy.add(event.worker)
        elif event.kind == "done":
            busy.remove(event.worker)


def test_a_failure_keeps_its_message_and_stops_further_jobs(scheduler):
    log = Log()
    with pytest.raises(DataError) as raised:
        run_on_dask(dask_jobs.fail, None, range(20), scheduler, log)
    assert raised.value.message == "job 1: is bad; expected good; mend it"
    assert raised.value.problems == ("first", "second")
    assert log.jobs("failed") == [1]
    assert set(log.jobs("started")) == {1, *log.jobs("done")}  # those that were running were finished
    assert len(log.jobs("started")) <= 4


def test_a_bug_comes_back_with_its_traceback(scheduler):
    with pytest.raises(RuntimeError, match="job 5 failed in its process:(?s:.*)in crash(?s:.*)a bug"):
        run_on_dask(dask_jobs.crash, None, [5], scheduler, Log())


def test_an_interrupt_ends_the_jobs_at_their_next_epoch(scheduler, tmp_path):
    def interrupt(event):
        raise KeyboardInterrupt

    log = Log(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_on_dask(dask_jobs.endless, str(tmp_path), range(50), scheduler, log)

    def jobs_that(word):
        return {path.name.partition("_")[2] for path in tmp_path.glob(f"{word}_*")}

    # a job that was sent out may be taken back before it begins
    deadline = time.monotonic() + 30
    while jobs_that("begun") != jobs_that("ended"):
        assert time.monotonic() < deadline, "jobs go on after an interrupt"
        time.sleep(0.05)
    assert 1 <= len(jobs_that("begun")) <= len(log.jobs("started")) <= 3


def test_a_run_computes_what_the_processes_compute(scheduler, tmp_path):
    """Two real trainings by the executor of that name, against the same in this process: equal to the last bit."""
    from repkit.config.load import load_recipe
    from repkit.config.schema import SerRecipe
    from repkit.workflows.train_ser.data import frame_stores, load_data
    from repkit.workflows.train_ser.jobs import run_job
    from repkit.workflows.train_ser.plan import make_plan
    from repkit.workflows.train_ser.run import make_context

    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    plan = make_plan(load_recipe(SerRecipe, str(tmp_path / "tiny.toml"), ["seeds=[0]"]), {"toy": speech()})
    data, *_ = load_data(plan, frame_stores(plan, "stop", lambda *news: None))
    for name, execute in (("dask", open_executor("dask", 1, scheduler)), ("here", processes(1))):
        (tmp_path / name).mkdir()
        execute(run_job, make_context(tmp_path / name, plan, data, {}, {}), plan.jobs, Log())
    tables = [sorted((tmp_path / name).rglob("predictions.parquet")) for name in ("dask", "here")]
    assert len(tables[0]) == len(tables[1]) == len(plan.jobs) == 2
    for one, other in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(other), check_exact=True)
        assert np.isfinite(pd.read_parquet(one).filter(like="p_").to_numpy(dtype=float)).all()


def test_the_job_of_a_killed_worker_is_run_again_elsewhere(scheduler, tmp_path):
    killed = []

    def kill(event):
        killed.append(event)
        os.kill(int((tmp_path / "dask" / f"pid_{event.job}.txt").read_text()), signal.SIGKILL)

    log = Log(kill)
    for name in ("dask", "here"):
        (tmp_path / name).mkdir()
    run_on_dask(dask_jobs.publish, dask_jobs.Context(tmp_path / "dask", 7), range(5), scheduler, log)
    processes(1)(dask_jobs.publish, dask_jobs.Context(tmp_path / "here", 7), range(5), Log())
    assert results(tmp_path / "dask") == results(tmp_path / "here") == {str(job): str(7 * job) for job in range(5)}
    assert sorted(log.jobs("done")) == list(range(5))
    assert sorted(log.jobs("started")) == sorted([*range(5), killed[0].job])
    (again,) = [event for event in log if event.kind == "done" and event.job == killed[0].job]
    assert again.worker != killed[0].worker
    assert not log.jobs("failed")


def test_a_job_that_kills_its_workers_is_named(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_executor, "MOST_DEATHS", 1)
    log = Log(lambda event: os.kill(int((tmp_path / f"pid_{event.job}.txt").read_text()), signal.SIGKILL))
    with pytest.raises(RepkitError, match=r"job [01]: 1 dask workers died while running it") as raised:
        run_on_dask(dask_jobs.publish, dask_jobs.Context(tmp_path, 7), range(8), scheduler, log)
    assert "finished jobs are kept" in str(raised.value)
    assert len(log.jobs("failed")) == 1
    assert set(log.jobs("started")) == {*log.jobs("failed"), *log.jobs("done")}


def test_a_cluster_of_its_own_replaces_its_only_worker_and_ends_with_the_run(tmp_path):
    """The context is lost with the worker and sent again."""
    log = Log()
    run_on_dask(dask_jobs.die_once, str(tmp_path), [1, 2], None, log, n_workers=1)
    assert sorted(log.jobs("done")) == [1, 2]
    assert sorted(log.jobs("started")) in ([1, 1, 2], [1, 1, 2, 2])
    (pid,) = {event.value[1] for event in log if event.kind == "done"}
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_scheduler_that_cannot_be_reached_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(dask_executor, "_CONNECT_S", 0.5)
    with pytest.raises(
        UsageError, match=r"scheduler tcp://127.0.0.1:9: no answer within (?s:.*)start one: dask scheduler"
    ):
        open_executor("dask", 1, "tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="gone.json: no such file"):
        open_executor("dask", 1, str(tmp_path / "gone.json"))
