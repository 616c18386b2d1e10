"""Jobs that dask workers import by name; none of them needs torch."""

import os
import time
from pathlib import Path

from repkit.errors import DataError
from repkit.runs.directory import publish_job_folder, start_job_folder


class Context:
    """A folder, and a note there of every process that unpickles it."""

    def __init__(self, run, factor):
        self.run, self.factor = run, factor

    def __setstate__(self, state):
        self.__dict__.update(state)
        with (self.run / "unpickled.txt").open("a") as file:
            file.write(f"{os.getpid()}\n")


def publish(context, job, on_epoch):
    """Take a while, say who does it, leave a result."""
    (context.run / f"pid_{job}.txt").write_text(str(os.getpid()))
    for epoch in range(1, 5):
        on_epoch(epoch)
        time.sleep(0.12)
    final = context.run / "jobs" / "one" / "seed_0" / str(job)
    folder = start_job_folder(final)
    (folder / "done.json").write_text(str(context.factor * job))
    publish_job_folder(folder, final)
    return context.factor * job


def fail(context, job, on_epoch):
    """Fail on 1 at once, take a while else."""
    if job == 1:
        raise DataError("job 1: is bad; expected good; mend it", ["first", "second"])
    time.sleep(0.3)
    return job


def crash(context, job, on_epoch):
    raise KeyError("a bug")


def endless(context, job, on_epoch):
    """Go on until somebody says no, and tell."""
    (Path(context) / f"begun_{job}").touch()
    try:
        while True:
            on_epoch(1)
            time.sleep(0.05)
    finally:
        (Path(context) / f"ended_{job}").touch()


def where(context, job, on_epoch):
    return os.getcwd(), os.getpid()


def die_once(context, job, on_epoch):
    """Take the process with it the first time."""
    mark = Path(context) / "died"
    if job == 1 and not mark.exists():
        mark.touch()
        os._exit(1)
    return where(context, job, on_epoch)
