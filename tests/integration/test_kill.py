"""The three commands killed and interrupted: nothing finished is lost or done twice, and the end is the same.

tests/unit/store kills the store many more times, test_stage_one_resume the training of the autoencoder.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_helpers import PRETRAIN, RECIPE, ok
from safetensors.numpy import load_file

import repkit.workflows.train_ser.run
from repkit.runs.directory import publish_job_folder, read_json, start_job_folder
from repkit.store import open_store

EPOCHS = 8
N_JOBS = 8

SLOW = """\
import time
from repkit.stage_two.attentive_cnn import AttentiveCnn


class SlowCnn(AttentiveCnn):
    def forward(self, batch):
        if self.training:
            time.sleep(0.04)
        return super().forward(batch)
"""
"""The usual model, made to sleep, so that a signal finds a job at work on a machine of any speed."""


@pytest.fixture(scope="module")
def slow_cnn(tmp_path_factory):
    """Install the plugin repkit-slow in a folder of its own, for this process and for those it starts."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "repkit_slow.py").write_text(SLOW, encoding="utf-8")
    info = folder / "repkit_slow-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: repkit-slow\nVersion: 0.1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[repkit.models]\nslow_cnn = repkit_slow:SlowCnn\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        yield


def drive(what, folder, *arguments):
    program = Path(__file__).with_name("kill_driver.py")
    done = subprocess.run(
        [sys.executable, program, what, folder, json.dumps(arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "log.json").read_text())


def options(folder, stage_one):
    (folder / "tiny.toml").write_text(RECIPE.replace("attentive_cnn", "slow_cnn"), encoding="utf-8")
    wanted = ["--recipe", folder / "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}"]
    wanted += ["--embeddings", stage_one / "emb" / "ae", "--set", f"training.epochs={EPOCHS}"]
    return list(map(str, wanted))


@pytest.fixture(scope="module")
def killed(stage_one, slow_cnn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("train-ser-killed")
    return folder, drive("train_ser", folder, options(folder, stage_one), N_JOBS)


def only_run(root):
    (run,) = (root / "tiny").iterdir()
    return run


def same_predictions(one, other):
    names = sorted(p.relative_to(one) for p in one.glob("jobs/*/*/*/*"))
    assert names == sorted(p.relative_to(other) for p in other.glob("jobs/*/*/*/*"))
    assert sum(name.name == "predictions.parquet" for name in names) == N_JOBS
    for name in names:
        if name.name == "predictions.parquet":
            pd.testing.assert_frame_equal(pd.read_parquet(one / name), pd.read_parquet(other / name), check_exact=True)
        elif name.suffix == ".safetensors":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_train_ser_killed_again_and_again_ends_as_if_nothing_had_happened(killed):
    folder, log = killed
    assert [entry["end"] for entry in log].count(-signal.SIGKILL) >= 5
    assert log[-1]["end"] == 0
    whole, run = only_run(folder / "whole"), only_run(folder / "killed")  # one run, continued every time
    same_predictions(whole, run)
    assert read_json(whole / "results.json") == read_json(run / "results.json")
    assert read_json(run / "status.json")["state"] == "done"
    assert not list(run.rglob("*.tmp.*"))
    assert not list((folder / "cache-killed").rglob("*.tmp.*"))


def test_finished_jobs_are_never_run_again(killed):
    folder, log = killed
    counts = [len(entry["jobs"]) for entry in log]
    assert counts == sorted(counts)
    assert len({*counts} - {0, N_JOBS}) >= 2  # it was killed with some jobs done and some not
    for before, after in pairwise(log):
        assert before["jobs"].items() <= after["jobs"].items()  # same files, same times
        if before["jobs"] and "protocol" in after["text"]:  # else it was killed before it could say so
            assert f"(continued, {len(before['jobs'])} of {N_JOBS} jobs done)" in after["text"]
    events = [json.loads(line) for line in (only_run(folder / "killed") / "log.jsonl").read_text().splitlines()]
    finished = [(e["condition"], e["seed"], e["fold"]) for e in events if e["event"] == "done"]
    assert len(finished) == len(set(finished))
    assert [e["event"] for e in events].count("started") <= 1  # a kill may come before the first line of the log
    assert [e["event"] for e in events].count("resumed") >= 4


def test_a_job_published_by_a_process_of_a_killed_run_is_kept(tmp_path):
    """A process that outlives its parent by a moment may publish what the restarted command is computing too."""
    final = tmp_path / "jobs" / "BL" / "seed_0" / "fold"
    ours = start_job_folder(final)
    (ours / "done.json").write_text("2")
    final.mkdir()
    (final / "done.json").write_text("1")
    publish_job_folder(ours, final)
    assert [p.name for p in final.parent.iterdir()] == ["fold"]
    assert (final / "done.json").read_text() == "1"


def processes_below(pid):
    """Return the ids of all processes that descend from one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def session(command, **options):
    """Start a program in a session of its own, of which nothing is left afterwards, whatever a test finds."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def gone(processes):
    deadline = time.monotonic() + 20
    while any(map(alive, processes)):
        assert time.monotonic() < deadline, "processes outlive their parent"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_two_processes_are_stopped_with_their_parent_and_compute_what_one_does(
    killed, stage_one, tmp_path, monkeypatch
):
    """Ctrl-C, then a kill, then the rest: most jobs were made by two processes, in the other run by one."""
    root = tmp_path / "runs"
    command = [sys.executable, "-m", "repkit", "train-ser", *options(tmp_path, stage_one), "--runs", root]
    command += ["--workers", "2"]
    draw = random.Random(1)
    environment = {**os.environ, "REPKIT_CACHE": str(tmp_path / "cache")}

    def done():
        return [p for p in root.glob("tiny/*/jobs/*/*/*/done.json") if ".tmp." not in p.parent.name]

    def until_more_are_done(process, n):
        n += len(done())
        deadline = time.monotonic() + 120
        while len(done()) < n and process.poll() is None:
            assert time.monotonic() < deadline, "no job was finished"
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.1))
        return processes_below(process.pid)

    with session(command, env=environment) as first:
        children = until_more_are_done(first, 2)
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, text = first.communicate(timeout=60)
        assert first.returncode == 130, text
        gone(children)
    assert "error: interrupted; frames and finished jobs are kept; start the same command again to go on" in text
    assert "Traceback" not in text
    assert len(children) >= 2
    run = only_run(root)
    status = read_json(run / "status.json")
    assert (status["state"], status["jobs"]) == ("interrupted", N_JOBS)
    # a folder may be there before the parent has noted it
    assert 1 <= status["done"] <= len(done()) < N_JOBS
    before = {path: path.stat().st_mtime_ns for path in done()}

    with session(command, env=environment) as second:
        children = until_more_are_done(second, 2)
        second.kill()
        second.communicate(timeout=60)
        gone(children)
    assert len(children) >= 2
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    assert "(continued, " in ok("train-ser", *options(tmp_path, stage_one), "--runs", root, "--workers", 1).err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(run.rglob("*.tmp.*"))
    same_predictions(only_run(killed[0] / "whole"), run)


POOL = """\
import sys, time
from pathlib import Path
from repkit.runs.executors import run_jobs


def sleep(context, job, on_epoch):
    (Path(context) / str(job)).touch()
    time.sleep(300)


if __name__ == "__main__":
    run_jobs(sleep, sys.argv[1], range(50_000), 2, lambda event: None)
"""
"""More jobs than a pipe holds, each without end and without an epoch to look up at."""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_pool_with_a_long_queue_ends_at_once_with_all_its_processes(tmp_path, number):
    program = tmp_path / "pool.py"
    program.write_text(POOL, encoding="utf-8")
    (tmp_path / "started").mkdir()
    with session([sys.executable, program, tmp_path / "started"]) as pool:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "started").iterdir())) < 2:
            assert pool.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children = processes_below(pool.pid)
        assert len(children) >= 2
        if number == signal.SIGINT:
            os.killpg(pool.pid, number)
        else:
            pool.kill()
        _, text = pool.communicate(timeout=30)
        assert text.count("KeyboardInterrupt\n") == (number == signal.SIGINT)  # of the parent alone
        gone(children)


def test_pretrain_ae_and_embed_killed_and_interrupted(stage_one, tmp_path):
    settings = ("training.epochs=3", "training.checkpoint_every_steps=1", "training.batch_size=4")
    more = [option for setting in settings for option in ("--set", setting)]
    log = drive("stage_one", tmp_path, str(stage_one / "toy"), str(stage_one / "ae"), [*PRETRAIN, *more])
    (killed, interrupted), embedded = log[:2], log[2:]
    assert killed["end"] == -signal.SIGKILL
    assert interrupted["end"] == 130
    assert (
        "error: interrupted; the last checkpoint is kept; start the same command again to go on" in interrupted["text"]
    )
    assert interrupted["status"]["state"] == "interrupted"
    assert int(interrupted["newest"][5:14]) == interrupted["status"]["updates"]
    a, b = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("ae-whole", "ae-killed"))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])

    assert [entry["end"] for entry in embedded] == [-signal.SIGKILL, 130]
    assert "error: interrupted; finished shards are kept; start the same command again to go on" in embedded[1]["text"]
    a, b = (open_store(tmp_path / name / "ae" / "toy").load() for name in ("emb-whole", "emb-killed"))
    assert a.ids == b.ids
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)
