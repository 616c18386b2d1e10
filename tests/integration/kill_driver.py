"""A program that runs repkit's command line in processes of its own and kills them; started by test_kill.py.

It loads the heavy libraries once and forks a child for every attempt, so that an attempt costs what its work costs.
What happened goes to log.json in the folder given.
"""

import fcntl
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import time
import traceback
from pathlib import Path

from repkit.cli import main

LONGEST_S = 120
draw = random.Random(0)


def preload(*modules):
    """Import what the children need, lest each of them does."""
    for name in (*modules, "h5py", "rich.progress", "repkit.audio.open"):
        importlib.import_module(name)
    import torch

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimiser loads a second's worth of torch


def slow_down(place, name, seconds):
    """Make a function take its time, so that a signal finds the process at work on a machine of any speed."""
    place = pkgutil.resolve_name(place)
    real = getattr(place, name)

    def slow(*arguments, **options):
        time.sleep(seconds)
        return real(*arguments, **options)

    setattr(place, name, slow)


def attempt(arguments, text, number=0, ready=lambda: False, wait=0.0):
    """Fork, run ``repkit ARGUMENTS``, wait until `ready` and a little more, send the signal; return how it ended."""
    Path(text).unlink(missing_ok=True)
    child = os.fork()
    if not child:
        os.setsid()
        handle = os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv = ["repkit", *map(str, arguments)]
        code = 1
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # an orderly end of so large a process takes longer than its work
    end, deadline = 0, time.monotonic() + LONGEST_S
    while not end and not ready():
        end, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            raise TimeoutError(f"{arguments}: {Path(text).read_text()}")
    if not end:
        time.sleep(wait)
        os.kill(child, number)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def done_jobs(root):
    """Return when each finished job was finished, by its path."""
    return {
        str(p.relative_to(root)): p.stat().st_mtime_ns
        for p in root.glob("tiny/*/jobs/*/*/*/done.json")
        if ".tmp." not in p.parent.name
    }


def train_ser(folder, options, n_jobs):
    """Kill train-ser while it makes frames, between and in jobs, and while it draws the report."""
    preload("matplotlib.pyplot", "sklearn.manifold", "repkit.workflows.train_ser.run", "repkit.stage_two.attentive_cnn")

    def arguments(name):
        os.environ["REPKIT_CACHE"] = str(folder / f"cache-{name}")
        return ["train-ser", *options, "--workers", 1, "--runs", folder / name]

    text, root, cache = folder / "text", folder / "killed", folder / "cache-killed" / "frames"
    assert attempt(arguments("whole"), text) == 0, text.read_text()
    n_done = len(done_jobs(root))
    moments = [lambda: list(cache.glob("*")), *[lambda: len(done_jobs(root)) > n_done] * 5]
    moments += [lambda: n_done < n_jobs == len(done_jobs(root))]
    moments += [lambda: text.exists() and f"(continued, {n_jobs} of {n_jobs} jobs done)" in text.read_text()]
    log = []
    for ready in moments:
        n_done = len(done_jobs(root))
        end = attempt(arguments("killed"), text, signal.SIGKILL, ready, draw.uniform(0, 0.6))
        log.append({"end": end, "jobs": done_jobs(root), "text": text.read_text()})
    end = attempt(arguments("killed"), text)
    log.append({"end": end, "jobs": done_jobs(root), "text": text.read_text()})
    return log


def held(folder):
    """Tell whether a process is filling a store."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def stage_one(folder, toy, encoder, options):
    """Kill and interrupt pretrain-ae and embed."""
    preload("accelerate", "torch.utils.tensorboard", "transformers.conversion_mapping")
    preload("repkit.stage_one.gru_autoencoder", "repkit.workflows.embed", "repkit.workflows.pretrain_ae")
    slow_down("repkit.stage_one.train", "save_checkpoint", 0.05)
    slow_down("repkit.store.writer.StoreWriter", "add", 0.04)
    os.environ["REPKIT_CACHE"] = str(folder / "cache")
    text = folder / "text"
    corpus = ["--corpus", f"toy={toy}"]
    log = []

    def pretrain(out, *more):
        return attempt(["pretrain-ae", *corpus, "--out", out, *options], text, *more)

    def newest():
        return max((p.name for p in out.glob("checkpoints/step-*.json") if ".tmp." not in p.name), default="")

    assert pretrain(folder / "ae-whole") == 0, text.read_text()
    out = folder / "ae-killed"
    for number in [signal.SIGKILL, signal.SIGINT]:
        before = newest()
        end = pretrain(out, number, lambda before=before: newest() != before, draw.uniform(0, 0.1))
        status = json.loads((out / "status.json").read_text())
        log.append({"end": end, "newest": newest(), "status": status, "text": text.read_text()})
    assert pretrain(out) == 0, text.read_text()

    def embed(out, *more):
        return attempt(["embed", "--encoder", encoder, *corpus, "--out", out], text, *more)

    assert embed(folder / "emb-whole") == 0, text.read_text()
    out = folder / "emb-killed"
    for number in [signal.SIGKILL, signal.SIGTERM]:  # the latter as batch systems end a job
        end = embed(
            out,
            number,
            lambda: list(out.glob("*/toy")) and held(next(out.glob("*/toy"))),
            draw.uniform(0, 0.1),
        )
        log.append({"end": end, "manifest": bool(list(out.glob("*/toy/manifest.json"))), "text": text.read_text()})
    assert embed(out) == 0, text.read_text()
    return log


if __name__ == "__main__":
    where = Path(sys.argv[2])
    found = globals()[sys.argv[1]](where, *json.loads(sys.argv[3]))
    (where / "log.json").write_text(json.dumps(found), encoding="utf-8")
