"""Run directories and seeds."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from repkit.errors import DataError, RepkitWarning, UsageError
from repkit.runs import worker_start
from repkit.runs.directory import (
    FolderInUseError,
    RunDirectory,
    cache_root,
    is_finished,
    locked,
    make_folder,
    publish_job_folder,
    read_json,
    start_job_folder,
    sweep,
)
from repkit.runs.environment import environment
from repkit.runs.seeding import derive_seed, generator


def test_seeds_differ_by_purpose_and_never_change():
    assert derive_seed(0, "weights") == derive_seed(0, "weights")
    assert len({derive_seed(s, n) for s in range(3) for n in ("weights", "batches", "dropout")}) == 9
    # pinned: another value would silently change every published result
    assert derive_seed(0, "weights") == 133441691874178746
    assert 0 <= derive_seed(2**40, "x") < 2**63
    assert generator(1, "a").initial_seed() == derive_seed(1, "a")


def test_an_unfinished_run_is_continued_and_a_finished_one_is_not(tmp_path):
    first, resumed = RunDirectory.open(tmp_path, "demo", "abcdef0123")
    assert not resumed
    again, resumed = RunDirectory.open(tmp_path, "demo", "abcdef0123")
    assert resumed
    assert again.path == first.path
    other, resumed = RunDirectory.open(tmp_path, "demo", "fedcba9876")
    assert not resumed
    assert other.path != first.path
    first.set_status("done")
    new, resumed = RunDirectory.open(tmp_path, "demo", "abcdef0123")
    assert not resumed
    assert new.path != first.path


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_begun_by_another_process_in_the_same_second_is_seen(tmp_path, monkeypatch, finished):
    """Between the look for unfinished runs and the new folder; a finished one is never overwritten."""
    monkeypatch.setattr("repkit.runs.directory.utc_now", lambda: "20260131T235959Z")
    mkdir, other = Path.mkdir, RunDirectory(tmp_path / "demo" / "20260131T235959Z_abcdef01")

    def slow(path, *arguments, **more):
        if path == other.path and not path.exists():
            mkdir(path, parents=True)
            if finished:
                other.set_status("done")
        mkdir(path, *arguments, **more)

    monkeypatch.setattr(Path, "mkdir", slow)
    run, resumed = RunDirectory.open(tmp_path, "demo", "abcdef0123")
    assert resumed != finished
    assert run.path.name == ("20260131T235959Z-2_abcdef01" if finished else other.path.name)


def test_a_job_folder_is_there_as_a_whole_or_not_at_all(tmp_path):
    run = RunDirectory(tmp_path)
    final = run.job_path("BL", 0, "f")
    folder = start_job_folder(final)
    for name in ("done.json", "predictions.parquet"):
        (folder / name).write_text("{}")
    assert not final.exists()
    publish_job_folder(folder, final)
    assert (final / "done.json").exists()
    start_job_folder(run.job_path("BL", 1, "f"))  # left unfinished
    sweep(tmp_path)
    assert [p.name for p in tmp_path.glob("jobs/*/*/*")] == ["f"]


def test_two_processes_never_share_a_run(tmp_path):
    code = "import sys; from pathlib import Path; from repkit.runs.directory import locked\nwith locked(Path(sys.argv[1])): pass"
    with locked(tmp_path):
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "another process is at work here" in other.stderr
    with locked(tmp_path):
        pass
    with locked(tmp_path), pytest.raises(UsageError, match="another process"), locked(tmp_path):
        pass


def test_where_there_are_no_locks_a_warning_says_so(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")  # Lustre mounted without -o flock

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(RepkitWarning, match="no locks.*one process at a time"), locked(tmp_path):
        pass


def test_a_lock_file_that_may_not_be_written_is_told(tmp_path):
    (tmp_path / "lock").mkdir()  # whoever runs the tests, it cannot be opened for writing
    with pytest.raises(UsageError, match=r"/lock: Is a directory; a file that this user may write"), locked(tmp_path):
        pass


def test_a_lock_file_that_its_holder_deletes_meanwhile_is_not_taken(tmp_path, monkeypatch):
    import fcntl

    real, deleted = fcntl.flock, []

    def flock(handle, how):
        real(handle, how)
        if not deleted:
            deleted.append((tmp_path / "lock").unlink())

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path), pytest.raises(FolderInUseError), locked(tmp_path):
        pass


def test_where_the_cache_is(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("REPKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "repkit"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    with pytest.raises(UsageError, match="home directory.*REPKIT_CACHE"):
        cache_root()
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_root() == tmp_path / ".cache" / "repkit"


def test_damaged_json_is_named(tmp_path):
    path = tmp_path / "status.json"
    with pytest.raises(DataError, match="not there"):
        read_json(path)
    path.write_text('{"state": ')
    with pytest.raises(DataError, match="damaged"):
        read_json(path)


def test_the_environment_names_versions_but_no_place(tmp_path):
    found = environment()
    assert found["packages"]["torch"].startswith("2.")
    assert str(tmp_path.home()) not in str(found)


def test_what_a_killed_process_left_is_swept(tmp_path):
    job = tmp_path / "jobs" / "BL" / "seed_0"
    for left in (job / "fold.tmp.12", tmp_path / "vectors", tmp_path / "figures"):
        left.mkdir(parents=True)
    (job / "fold.tmp.12" / "split.json").write_text("{")
    kept = [tmp_path / "status.json", tmp_path / "vectors" / "ae.safetensors"]
    stray = [
        tmp_path / "status.tmp.12-0.json",
        tmp_path / "vectors" / "ae.tmp.12-7.safetensors",
        tmp_path / "figures" / "a.tmp.1-2.png",
    ]
    for file in (*kept, *stray):
        file.write_text("x")
    sweep(tmp_path)
    assert not any(file.exists() for file in (job / "fold.tmp.12", *stray))
    assert all(file.exists() for file in kept)


def test_two_attempts_at_one_job_never_touch_each_other(tmp_path, monkeypatch):
    """Two machines of one shared folder may run the same job, in processes of the same number."""
    monkeypatch.setattr("os.getpid", lambda: 7)
    final = tmp_path / "jobs" / "BL" / "seed_0" / "fold"
    first, second = start_job_folder(final), start_job_folder(final)
    (second / "done.json").write_text("2")
    (first / "done.json").write_text("1")
    publish_job_folder(first, final)
    publish_job_folder(second, final)
    assert [p.name for p in final.parent.iterdir()] == ["fold"]
    assert (final / "done.json").read_text() == "1"


def test_a_swept_attempt_can_no_longer_be_published(tmp_path, monkeypatch):
    """A worker elsewhere may finish its job at the moment its run is started again: as a whole or not at all."""
    final = tmp_path / "jobs" / "BL" / "seed_0" / "fold"
    folder = start_job_folder(final)
    for name in ("a.json", "done.json"):
        (folder / name).write_text("1")
    whole = []

    def while_deleting(path, ignore_errors):
        with pytest.raises(FileNotFoundError):
            publish_job_folder(folder, final)
        whole.append(path)

    monkeypatch.setattr("shutil.rmtree", while_deleting)
    sweep(tmp_path)
    assert len(whole) == 1
    assert not final.exists()


def test_the_newest_run_of_a_signature_counts_as_finished_only_when_it_is(tmp_path):
    def made(name, state):
        folder = tmp_path / "demo" / name
        folder.mkdir(parents=True)
        if state:
            (folder / "status.json").write_text(json.dumps({"state": state}))
        return folder

    def found():
        run = RunDirectory.finished(tmp_path, "demo", "abcdef0123")
        return None if run is None else run.path.name

    assert found() is None
    made("20260101T000000Z_abcdef01", "done")
    made("20260301T000000Z_99999999", "done")  # of another signature
    assert found() == "20260101T000000Z_abcdef01"
    made("20260102T000000Z_abcdef01", "done")
    assert found() == "20260102T000000Z_abcdef01"
    made("20260103T000000Z_abcdef01", "interrupted")  # begun again and to be continued
    assert found() is None
    made("20260104T000000Z_abcdef01", None)
    assert found() is None


def test_a_finished_run_that_has_lost_predictions_is_continued_with_the_job_that_lost_them(tmp_path):
    run, _ = RunDirectory.open(tmp_path, "demo", "abcdef0123")
    jobs = [run.job_path("BL", seed, "f") for seed in (0, 1)]
    for job in jobs:
        job.mkdir(parents=True)
        for name in ("done.json", "predictions.parquet", "selected.safetensors"):
            (job / name).write_text("x")
    (jobs[0].parent / ".notes").mkdir()  # whatever a file browser leaves is no job
    run.set_status("done", jobs=2)
    assert RunDirectory.finished(tmp_path, "demo", "abcdef0123").path == run.path
    assert is_finished(run.path)
    (jobs[1] / "predictions.parquet").unlink()
    assert not is_finished(run.path)
    assert RunDirectory.finished(tmp_path, "demo", "abcdef0123") is None
    again, resumed = RunDirectory.open(tmp_path, "demo", "abcdef0123")
    assert (again.path, resumed) == (run.path, True)
    sweep(run.path)
    assert [job.exists() for job in jobs] == [True, False]
    assert not list(run.path.rglob("*lost*"))
    assert not is_finished(run.path)  # one of the two jobs that it was done with is gone as a whole
    (run.path / "status.json").write_text("[]")
    assert not is_finished(run.path)


@pytest.mark.skipif(os.name != "posix", reason="rights of files")
def test_files_of_a_job_get_the_rights_of_any_new_file(tmp_path):
    final = tmp_path / "jobs" / "BL" / "seed_0" / "fold"
    before = os.umask(0o027)
    try:
        folder = start_job_folder(final)
        (folder / "selected.safetensors").touch(mode=0o600)
        publish_job_folder(folder, final)
    finally:
        os.umask(before)
    assert (final / "selected.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=rf"--out .*{place}: .*a writable folder was expected; choose another --out"):
        make_folder(tmp_path / place, "--out")
    make_folder(tmp_path / "new" / "one", "--out")
    make_folder(tmp_path / "new" / "one", "--out")


def test_a_temporary_folder_too_long_for_a_socket_leaves_spawned_workers(monkeypatch):
    class Process:
        def __init__(self, method):
            self.method, self.pid = method, None

        def start(self):
            if self.method == "forkserver":
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind("x" * 120)

    def context(method):
        return SimpleNamespace(Process=lambda **_: Process(method), set_forkserver_preload=lambda _: None)

    monkeypatch.setattr("torch.multiprocessing.get_context", context)
    monkeypatch.setattr(worker_start, "start_methods", lambda: ("forkserver", "spawn"))
    assert [worker.method for worker in worker_start.start_workers(2, "os", print, ())] == ["spawn", "spawn"]
