"""A full disk, too little shared memory, Ctrl-C and a second process: nothing is lost, and the same command goes on."""

import errno
import os
import resource
from contextlib import contextmanager

import numpy as np
from bad_input import TRAIN, no_report
from cli_helpers import PRETRAIN, cli, ok

import repkit.training.data
import repkit.workflows.train_ser.jobs
import repkit.workflows.train_ser.run
from repkit.runs.directory import read_json
from repkit.store import open_store


@contextmanager
def no_room(limit):
    """No file may grow beyond some bytes: a true failure of the file system, as a full disk or a quota is one."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def assert_full(done, *places):
    assert done.code == 4, done.err
    assert "the disk is full or a size limit is reached (" in done.err
    assert "MB free); room to write was expected; make room and start the same command again" in done.err
    assert any(str(place) in done.err for place in places), done.err
    assert "Traceback" not in done.err


def test_a_full_disk_stops_embed_and_the_same_command_goes_on_with_room(here, stage_one):
    command = ("embed", "--encoder", stage_one / "ae", "--corpus", f"toy={stage_one / 'toy'}", "--out", "emb")
    with no_room(4000):
        assert_full(cli(*command), "emb/ae/toy")
    assert not list((here / "emb").rglob("*.tmp.*"))
    ok(*command)
    a, b = open_store(here / "emb/ae/toy"), open_store(stage_one / "emb/ae/toy")
    assert a.spec.fingerprint == b.spec.fingerprint
    np.testing.assert_array_equal(a.load().values, b.load().values)


def test_a_full_disk_stops_pretrain_ae_and_the_same_command_goes_on_with_room(here, stage_one, monkeypatch):
    command = ("pretrain-ae", "--corpus", f"toy={stage_one / 'toy'}", "--out", "ae", *PRETRAIN)
    with no_room(4000):
        assert_full(cli(*command), "cache/frames/toy-")
    monkeypatch.setenv("REPKIT_CACHE", str(stage_one / "cache"))  # frames are there: now the checkpoint fails
    with no_room(4000):
        assert_full(cli(*command), "ae/checkpoints")
    ok(*command)
    assert read_json(here / "ae/status.json")["state"] == "done"
    name = "encoder/model.safetensors"
    assert (here / "ae" / name).read_bytes() == (stage_one / "ae" / name).read_bytes()


def test_a_full_disk_stops_train_ser_and_finished_jobs_are_kept(here, stage_one, monkeypatch):
    command = (*TRAIN, "--corpus", f"toy={stage_one / 'toy'}", "--set", "seeds=[0, 1]")
    with no_room(4000):
        assert_full(cli(*command), "cache/frames/toy-")
    assert not (here / "runs").exists()
    ok(*command, "--dry-run")

    real, calls = repkit.workflows.train_ser.jobs.write_predictions, []

    def full_at_the_third(path, *more):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *more)

    no_report(monkeypatch)
    monkeypatch.setattr(repkit.workflows.train_ser.jobs, "write_predictions", full_at_the_third)
    assert_full(cli(*command), "runs/tiny/")
    (run,) = (here / "runs/tiny").iterdir()
    status = read_json(run / "status.json")
    assert (status["state"], status["done"]) == ("failed", 2)
    assert not list(run.glob("jobs/*/*/*.tmp.*"))  # what was begun takes no room
    kept = {p: p.stat().st_mtime_ns for p in run.glob("jobs/*/*/*/done.json") if ".tmp." not in p.parent.name}
    assert len(kept) == 2
    assert "(continued, 2 of 4 jobs done)" in ok(*command).err
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert len([p for p in run.glob("jobs/*/*/*/done.json") if ".tmp." not in p.parent.name]) == 4
    assert not list(run.rglob("*.tmp.*"))


def test_a_place_that_may_only_be_read_is_told_before_any_frame_is_made(here, stage_one, monkeypatch):
    """As on a file system that is mounted so; rights would not hold back a superuser."""
    (here / "runs").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("/runs") and real(path, mode))
    done = cli(*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")
    assert (done.code, "--runs runs/tiny: " in done.err) == (2, True), done.err
    assert "/runs cannot be written to; a writable folder was expected; choose another --runs" in done.err
    assert not (here / "cache" / "frames").exists()


def test_a_full_disk_while_the_run_is_described_or_reported(here, stage_one, monkeypatch):
    command = (*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")

    def full(*more, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    with monkeypatch.context() as patch:
        patch.setattr(repkit.workflows.train_ser.run, "_write_utterances", full)
        assert_full(cli(*command), "runs")
    with monkeypatch.context() as patch:
        patch.setattr(repkit.workflows.train_ser.run, "render", full)
        assert_full(cli(*command), "runs")
    no_report(monkeypatch)
    assert "(continued, 2 of 2 jobs done)" in ok(*command).err
    (run,) = (here / "runs/tiny").iterdir()
    assert read_json(run / "status.json")["state"] == "done"


def test_too_little_shared_memory_is_told(here, stage_one, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(repkit.training.data.TrainingData, "share_memory", full)
    done = cli(*TRAIN, "--corpus", f"toy={stage_one / 'toy'}", "--workers", 2)
    assert done.code == 4
    assert "/dev/shm: unable to allocate" in done.err
    assert "use --workers 1" in done.err


def test_an_interrupted_run_says_what_is_kept(here, stage_one, monkeypatch):
    real = repkit.workflows.train_ser.run.run_job

    def interrupted(context, job, on_epoch):
        if job.fold == "group_2":
            raise KeyboardInterrupt
        return real(context, job, on_epoch)

    monkeypatch.setattr(repkit.workflows.train_ser.run, "run_job", interrupted)
    done = cli(*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")
    assert done.code == 130
    assert "error: interrupted; frames and finished jobs are kept; start the same command again to go on" in done.err
    (run,) = (here / "runs/tiny").iterdir()
    status = read_json(run / "status.json")
    assert (status["state"], status["jobs"], status["done"]) == ("interrupted", 2, 1)


def test_two_commands_do_not_write_one_run(here, stage_one, monkeypatch):
    command = (*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")
    seen = []
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: seen.append(cli(*command)))
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    ok(*command)
    (second,) = seen
    assert second.code == 2
    assert "another process is at work here" in second.err
