"""Jobs in this process and in several: same results, failures told, the dead noticed."""

import os
import time

import pytest
import torch

from repkit.errors import DataError, RepkitError
from repkit.runs.executors import run_jobs


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
