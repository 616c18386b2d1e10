"""Jobs in this process and in several: same results, failures told, the dead noticed."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from repkit.errors import DataError, RepkitError, UsageError
from repkit.runs import worker_start
from repkit.runs.executors import default_workers, open_executor, processes, run_jobs


def square(context, job, on_epoch):
    on_epoch(1)
    return context["factor"].item() * job * job


def fail_on_three(context, job, on_epoch):
    if job == 3:
        raise DataError("job 3: is bad; expected good; mend it", ["first", "second"])
    time.sleep(0.01)
    return job


def crash_on_two(context, job, on_epoch):
    if job == 2:
        raise KeyError("a bug")
    return job


def die_on_one(context, job, on_epoch):
    if job == 1:
        time.sleep(0.5)  # the news that it started travels through a thread
        os._exit(9)
    return job


def collect(function, jobs, workers, context=None):
    events = []
    try:
        run_jobs(function, context, jobs, workers, events.append)
    except Exception as error:  # noqa: BLE001 - handed to the test
        return events, error
    return events, None


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers):
    context = {"factor": torch.tensor(2.0).share_memory_()}
    events, error = collect(square, [1, 2, 3, 4, 5], workers, context)
    assert error is None
    done = {event.job: event.value for event in events if event.kind == "done"}
    assert done == {1: 2, 2: 8, 3: 18, 4: 32, 5: 50}
    assert sum(event.kind == "epoch" for event in events) == 5


def test_a_failure_keeps_its_message_and_stops_further_jobs():
    events, error = collect(fail_on_three, list(range(40)), 2)
    assert isinstance(error, DataError)
    assert error.message == "job 3: is bad; expected good; mend it"
    assert error.problems == ("first", "second")
    assert len([event for event in events if event.kind == "done"]) < 39


def test_a_bug_comes_back_with_its_traceback():
    _, error = collect(crash_on_two, [1, 2], 2)
    assert isinstance(error, RuntimeError)
    assert "a bug" in str(error)
    assert "crash_on_two" in str(error)


def test_a_process_that_dies_is_named_with_its_job():
    _, error = collect(die_on_one, [1, 2], 2)
    assert isinstance(error, RepkitError)
    assert "died with exit code 9 while running 1" in str(error)


def test_no_jobs_is_no_work():
    assert collect(square, [], 2) == ([], None)


def look_around(context, job, on_epoch):
    time.sleep(0.2)  # so that both processes get one
    facts = {name: os.environ.get(name) for name in ("REPKIT_CACHE", "OMP_NUM_THREADS", "REPKIT_NEW")}
    return os.getpid(), os.getcwd(), facts, multiprocessing.get_start_method(), float(np.random.rand())


def add_up(context, job, on_epoch):
    return sum(tensor.item() for tensor in context)


def test_a_later_pool_sees_the_environment_of_its_own_time(monkeypatch, tmp_path):
    """Processes come from a server that may be older than what this process has set since."""
    collect(look_around, [1, 2], 2)
    monkeypatch.setenv("REPKIT_CACHE", "somewhere else")
    monkeypatch.setenv("REPKIT_NEW", "1")
    monkeypatch.chdir(tmp_path)
    events, error = collect(look_around, [1, 2], 2)
    assert error is None
    seen = [event.value for event in events if event.kind == "done"]
    assert len({pid for pid, *_ in seen} - {os.getpid()}) == 2
    assert {where for _, where, *_ in seen} == {str(tmp_path)}
    wanted = {"REPKIT_CACHE": "somewhere else", "OMP_NUM_THREADS": "1", "REPKIT_NEW": "1"}
    assert all(facts == wanted for _, _, facts, *_ in seen)
    assert len({number for *_, number in seen}) == 2  # random numbers that nobody seeded differ between processes


def test_more_tensors_than_the_server_takes(monkeypatch):
    context = [torch.tensor(1.0).share_memory_() for _ in range(300)]
    events, error = collect(add_up, [1, 2], 2, context)
    assert error is None
    assert [event.value for event in events if event.kind == "done"] == [300.0, 300.0]


def test_the_server_is_used_where_it_can_be(monkeypatch):
    monkeypatch.delenv("REPKIT_WORKER_START", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert worker_start.start_methods() == ("forkserver", "spawn")
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    assert worker_start.start_methods() == ("spawn",)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    monkeypatch.setenv("REPKIT_WORKER_START", "spawn")
    assert worker_start.start_methods() == ("spawn",)
    monkeypatch.delenv("REPKIT_WORKER_START")
    monkeypatch.setattr("sys.platform", "darwin")
    assert worker_start.start_methods() == ("spawn",)


def test_executors_by_name():
    events = []
    open_executor("processes", 1)(square, {"factor": torch.tensor(2.0)}, [3], events.append)
    assert [event.value for event in events if event.kind == "done"] == [18]
    with pytest.raises(UsageError, match="executor: 'proceses'; one of processes, dask was expected; did you mean"):
        open_executor("proceses", 1)
    with pytest.raises(UsageError, match="scheduler 'tcp://x:1' given; processes of this machine have no scheduler"):
        open_executor("processes", 1, "tcp://x:1")
    with pytest.raises(UsageError, match="workers: 0; at least 1"):
        processes(0)


def leave_on_one(context, job, on_epoch):
    if job == 1:
        sys.exit(0)
    return job


def leave_hard(context, job, on_epoch):
    time.sleep(0.2)
    os._exit(0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_leaves_with_0_has_failed(workers):
    events, error = collect(leave_on_one, [1, 2], workers)
    assert isinstance(error, RuntimeError)
    assert "job 1" in str(error)
    assert 1 not in [event.job for event in events if event.kind == "done"]


def test_a_process_that_ends_with_0_in_its_job_is_not_waited_for():
    _, error = collect(leave_hard, [1, 2], 2)
    assert "died with exit code 0 while running" in str(error)


def be_killed_or_talk(context, job, on_epoch):
    if job == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # at once: the news that it started dies with it
    for epoch in range(100):
        time.sleep(0.02)
        on_epoch(epoch)


def test_a_killed_process_is_told_of_at_once_though_the_others_are_never_silent():
    events, error = collect(be_killed_or_talk, list(range(8)), 2)
    assert re.search("worker process . died with exit code -9 (in or before its first job|while running 0)", str(error))
    assert "done" not in {event.kind for event in events}


@pytest.mark.parametrize(("given", "expected"), [({}, "32"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7")])
def test_few_kernels_are_kept_before_any_is_made_unless_the_user_says_how_many(given, expected):
    """oneDNN reads the variable once, at its first kernel; tests/benchmarks/bench_primitive_cache.py measures what it does."""
    code = (
        "import os, torch; from repkit.runs.executors import prepare_process; prepare_process(); "
        "torch.nn.functional.conv1d(torch.ones(1, 1, 9), torch.ones(1, 1, 3)); "
        "print(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN")} | given
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_no_more_processes_than_jobs_or_cores_that_may_be_used(monkeypatch):
    """LOKY_MAX_CPU_COUNT is one of the limits that joblib looks at; affinity and a container's quota are others."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(48)), raising=False)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "5")
    assert [default_workers(n) for n in (0, 1, 4, 100)] == [1, 1, 4, 5]
