"""Run directories: the one place that knows their file names. See docs/run-format.md."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from repkit.errors import DataError, RepkitError, RepkitWarning, UsageError
from repkit.runs.atomic import disk_full_message, is_disk_full, open_to_others, sync_folder, write_json_atomic

JOB_FILES = ("done.json", "predictions.parquet")
"""What a finished job cannot be without: that it is done, and what every score is computed from."""

LOCK = "lock"
"""Name of the file by which a process holds a folder."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What file systems without locks answer: Lustre mounted without ``-o flock``, NFS without a lock service."""


def canonical_hash(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON value with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        DataError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there; expected a file of a run directory; check the folder") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged ({error}); expected JSON; delete it and start the command again") from error


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line; a line is written in one call, so that readers never see half of it unless the disk is full."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def utc_now() -> str:
    """Return the time as ``20260131T235959Z``."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def is_whole_job(folder: Path) -> bool:
    """Tell whether a job's folder is there with all that makes it a finished job."""
    return all((folder / name).is_file() for name in JOB_FILES)


def is_finished(run: Path) -> bool:
    """Tell whether a run is done and still has every job that it was done with.

    Raises:
        DataError: status.json is damaged.
    """
    status = run / "status.json"
    told = read_json(status) if status.exists() else {}
    if not isinstance(told, dict) or told.get("state") != "done":
        return False
    jobs = _job_folders(run)
    return sum(map(is_whole_job, jobs)) >= max(len(jobs), int(told.get("jobs", 0)))


def _job_folders(run: Path) -> list[Path]:
    """Return the folders of all jobs of a run but those that are being filled."""
    found = [path for path in run.glob("jobs/*/seed_*/*") if ".tmp." not in path.name and path.name[0] != "."]
    return [path for path in found if path.is_dir()]


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run of ``repkit train-ser`` on disk.

    Attributes:
        path: ``runs/<recipe>/<utc time>_<signature8>``.
    """

    path: Path

    @classmethod
    def open(cls, root: Path, recipe: str, signature: str) -> tuple[RunDirectory, bool]:
        """Return the newest unfinished run of this signature, or a new one, and whether it is resumed.

        A run that is done and has lost a job since is unfinished.
        """
        parent = root / recipe
        stamp = utc_now()
        number = 1
        while True:
            for folder in sorted(parent.glob(f"*_{signature[:8]}"), reverse=True):
                if not is_finished(folder):
                    return cls(folder), True
            folder = parent / f"{stamp if number == 1 else f'{stamp}-{number}'}_{signature[:8]}"
            # there already: a run of the same second, finished, or begun by another process since we looked
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
                return cls(folder), False
            number += 1

    @classmethod
    def finished(cls, root: Path, recipe: str, signature: str) -> RunDirectory | None:
        """Return the newest run of this signature if it is finished; None if it is not, or there is none."""
        newest = max((root / recipe).glob(f"*_{signature[:8]}"), default=None)
        return cls(newest) if newest is not None and is_finished(newest) else None

    def write(self, name: str, value: object) -> None:
        """Write a JSON file of the run, atomically."""
        write_json_atomic(self.path / name, value)

    def set_status(self, state: str, **facts: object) -> None:
        """Record running, done, failed or interrupted."""
        self.write("status.json", {"state": state, "time": utc_now(), **facts})

    def log(self, event: str, **facts: object) -> None:
        """Append an event to the log."""
        append_jsonl(self.path / "log.jsonl", {"time": utc_now(), "event": event, **facts})

    def job_path(self, condition: str, seed: int, fold: str) -> Path:
        """Return the folder of a job; it exists only when the job is complete."""
        return self.path / "jobs" / condition / f"seed_{seed}" / fold


def start_job_folder(final: Path) -> Path:
    """Return an empty folder beside the final one, to be filled and then published; no other attempt has the same."""
    final.parent.mkdir(parents=True, exist_ok=True)
    # not the process id alone: two machines that share the folder may each have such a process
    temporary = final.with_name(f"{final.name}.tmp.{os.getpid()}-{secrets.token_hex(6)}")
    temporary.mkdir()
    return temporary


def publish_job_folder(temporary: Path, final: Path) -> None:
    """Sync every file of a folder and rename it, so that a job is there as a whole or not at all.

    Its files get the rights of any new file.

    When another attempt at the job, here or on another machine, was published first, that one is kept and this is deleted.
    """
    for path in sorted(temporary.iterdir()):
        open_to_others(path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():
            raise
        # made meanwhile by a process of a killed run, or by a worker that was taken for dead; its job is the same as ours
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(final.parent)


def sweep(root: Path) -> None:
    """Delete the job folders and files that a killed process left unfinished; nobody else may start to write.

    A worker elsewhere that goes on with a job of a killed run either has published it before or never will. A published job
    that has lost its predictions since is deleted too: what is left of it would keep it from being trained again.
    """
    lost = [folder for folder in _job_folders(root) if not is_whole_job(folder)]
    for folder in lost:
        folder.rename(folder.with_name(f"{folder.name}.tmp.lost"))
    for folder in root.glob("jobs/*/*/*.tmp.*"):
        swept = folder.with_name(f"{folder.name}.swept")
        with suppress(OSError):  # published at this moment
            folder.rename(swept)  # first, else half of it could be published while it is deleted
        shutil.rmtree(swept, ignore_errors=True)
    for pattern in ("*.tmp.*", "vectors/*.tmp.*", "figures/*.tmp.*"):
        for file in root.glob(pattern):
            file.unlink(missing_ok=True)


@contextmanager
def room_on_disk(path: Path) -> Iterator[None]:
    """Turn any library's word for a full disk into one error that names the path, the space and the remedy.

    Raises:
        DataError: the disk is full.
    """
    try:
        yield
    except RepkitError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DataError(disk_full_message(path, "finished jobs are kept")) from error


def make_folder(folder: Path, what: str) -> None:
    """Make a folder that is about to be written to, before hours of work are done for it.

    Args:
        folder: to make; may be there.
        what: option that names it, for the message.

    Raises:
        UsageError: it cannot be made, is a file, or may only be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a"):
            pass
    except OSError as error:
        if is_disk_full(error):
            raise DataError(disk_full_message(folder)) from error
        raise UsageError(
            f"{what} {folder}: {error}; a writable folder was expected; choose another {what}, or check its rights and its disk"
        ) from error


def check_writable(folder: Path, what: str) -> None:
    """Refuse a folder that will be made or written to when hours of work are done; nothing is made.

    Args:
        folder: need not be there.
        what: option that names it, for the message.

    Raises:
        UsageError: it, or what it would lie in, may only be read.
    """
    whole = folder.absolute()
    there = next(one for one in (whole, *whole.parents) if one.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(
            f"{what} {folder}: {there} cannot be written to; a writable folder was expected; choose another {what}, or check "
            "its rights and its disk"
        )


class FolderInUseError(UsageError):
    """Another process holds a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock goes with the process, however it ends.

    It is that of a file opened for writing: between machines, NFS and Lustre lock neither folders nor files that are only read.
    Where the file system has no locks, a `RepkitWarning` says so, and nobody is kept out. Whoever holds a folder may delete its
    lock file. Source: own design.

    Raises:
        FolderInUseError: another process holds it.
        UsageError: its lock file may not be written.
        DataError: the disk is full.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        os.close(handle)


def _lock(folder: Path) -> int:
    """Return an open handle of the folder's lock file, with the lock."""
    path = folder / LOCK
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if is_disk_full(error):
                raise DataError(disk_full_message(path)) from error
            raise UsageError(
                f"{path}: {error.strerror}; a file that this user may write was expected, it keeps two processes from working in "
                "one folder; have its owner open it to you, or choose another folder"
            ) from error
        try:
            _flock(handle, folder)
            if _is_still(path, handle):
                return handle
            os.close(handle)  # whoever held it has deleted it since we opened it: it keeps nobody out
        except BaseException:
            os.close(handle)
            raise


def _flock(handle: int, folder: Path) -> None:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUseError(
            f"{folder}: another process is at work here; expected to be alone; wait for it or stop it"
        ) from error
    except (ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise UsageError(
                f"{folder}: could not be locked ({error}); a file system that locks files was expected; choose another folder"
            ) from error
        warnings.warn(
            f"{folder}: its file system has no locks ({error}); see to it that one process at a time works in this folder",
            RepkitWarning,
            stacklevel=2,
        )


def _is_still(path: Path, handle: int) -> bool:
    """Whether the path leads to the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def cache_root() -> Path:
    """Return the folder for frames that can be made again: $REPKIT_CACHE, else $XDG_CACHE_HOME or ``~/.cache`` and ``repkit``.

    Raises:
        UsageError: none of these is set and this user has no home.
    """
    if given := os.environ.get("REPKIT_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repkit"
    except RuntimeError as error:
        raise UsageError(
            f"cache: {error}; a folder for frames was expected; name one in the environment variable REPKIT_CACHE"
        ) from error
