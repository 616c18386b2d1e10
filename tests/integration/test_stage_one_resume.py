"""pretrain_ae and embed in real processes that are really killed, many times.

One driver process imports torch once and forks a child for every attempt, so that an attempt takes a second.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from repkit.store import open_store

DRIVER = '''
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from repkit.audio.synthetic import SyntheticCorpus
from repkit.stage_one.gru_layer import gru_layer
from repkit.stage_one.train import PretrainConfig
from repkit.workflows.embed import embed
from repkit.workflows.pretrain_ae import pretrain_ae

# the compiled loops are loaded once here and not in every child
for low in (torch.float32, torch.bfloat16):
    gru_layer(torch.nn.GRU(2, 2), torch.zeros(2, 1, 2), None, low).sum().backward()
    with torch.no_grad():
        gru_layer(torch.nn.GRU(2, 2), torch.zeros(2, 1, 2), None, low)

folder = Path(sys.argv[1])
draw = random.Random(0)
log = []


def corpus(n):
    return SyntheticCorpus(SyntheticCorpus.Config(name="toy", n_speakers=4, n_sentences=n, duration_s=0.6))


def train(out):
    # a checkpoint every third update; changes no result
    config = PretrainConfig(hidden_size=8, batch_size=4, epochs=6, frontend_settings={"bands": 16}, device="cpu",
                            input_noise=0.1, checkpoint_every_steps=3)
    pretrain_ae([corpus(2)], out, config, cache=folder / "cache", progress="none")


def train_mix(out):
    objectives = ({"name": "cpc", "steps": [3], "size": 8, "others": 4}, {"name": "masked_spans", "span": 2},
                  {"name": "crop_functionals"})
    config = PretrainConfig(hidden_size=8, batch_size=4, epochs=4, frontend="affect", frontend_settings={"bands": 8},
                            device="cpu", chunks="random", chunk_s=0.4, gain_db=6.0, noise_share=0.5, objectives=objectives,
                            corpus_weights={"toy": 1.5}, checkpoint_every_steps=3)
    pretrain_ae([corpus(1)], out, config, cache=folder / "cache", progress="none")


def vectors(out):
    def progress(*done):
        (folder / "some-done").touch()
        time.sleep(0.03)

    (folder / "some-done").unlink(missing_ok=True)
    embed(str(folder / "ae-whole"), [corpus(4)], out, window=4, progress=progress)


def attempt(work, out, number, ready, wait):
    """Fork, let the child come to the state `ready`, wait, send it the signal; returns how it ended."""
    child = os.fork()
    if not child:
        try:
            work(out)
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    end = 0
    while not end and not ready():
        end, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if not end:
        time.sleep(wait)
        os.kill(child, number)
        _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def newest(out):
    return max((p.name for p in (out / "checkpoints").glob("step-*.json") if ".tmp." not in p.name), default="")


def run_to_end(work, out):
    assert attempt(work, out, 0, lambda: False, 0) == 0


run_to_end(train, folder / "ae-whole")
for out, number, times in (("ae-killed", signal.SIGKILL, 6), ("ae-int", signal.SIGINT, 1), ("ae-term", signal.SIGTERM, 1)):
    out = folder / out
    ends = []
    for _ in range(times):
        before = newest(out)
        ends.append(attempt(train, out, number, lambda: newest(out) != before, draw.uniform(0, 0.1)))
    state = json.loads((out / "status.json").read_text())
    log.append({"ends": ends, "newest": newest(out), "state": state["state"], "updates": state["updates"]})
    run_to_end(train, out)

run_to_end(train_mix, folder / "mix-whole")
out = folder / "mix-killed"
for _ in range(3):
    before = newest(out)
    attempt(train_mix, out, signal.SIGKILL, lambda: newest(out) != before, draw.uniform(0, 0.1))
mix = {"newest": newest(out), "state": json.loads((out / "status.json").read_text())["state"]}
run_to_end(train_mix, out)

run_to_end(vectors, folder / "vectors-whole")
store = folder / "vectors-killed" / "ae-whole" / "toy"
ends = [attempt(vectors, folder / "vectors-killed", signal.SIGKILL, store.exists, draw.uniform(0, 0.3)) for _ in range(4)]
(folder / "some-done").unlink(missing_ok=True)
ends.append(attempt(vectors, folder / "vectors-killed", signal.SIGINT, (folder / "some-done").exists, 0.1))
log.append(mix)
log.append({"ends": ends, "manifest": (store / "manifest.json").exists(), "kept": bool(list(store.glob("shard-?????.h5")))})
run_to_end(vectors, folder / "vectors-killed")
(folder / "log.json").write_text(json.dumps(log))
'''


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    script = folder / "driver.py"
    script.write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "log.json").read_text())


def test_killed_again_and_again_the_weights_are_bit_equal(driven):
    folder, (killed, *_) = driven
    assert killed["ends"].count(-9) >= 3  # the others had already ended
    same_run(folder, "ae-killed")


@pytest.mark.parametrize(("place", "name"), [(1, "ae-int"), (2, "ae-term")])
def test_asked_to_stop_it_saves_the_update_at_hand(driven, place, name):
    folder, log = driven
    stopped = log[place]
    assert stopped["ends"] == [130]
    assert stopped["state"] == "interrupted"
    assert int(stopped["newest"][5:14]) == stopped["updates"]  # nothing done was lost
    same_run(folder, name)


def test_objectives_killed_again_and_again_end_with_the_same_weights(driven):
    folder, (*_, mix, _) = driven
    assert mix["state"] == "running"  # it was killed before its end
    assert mix["newest"]
    a, b = (load_file(folder / name / "encoder" / "model.safetensors") for name in ("mix-whole", "mix-killed"))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    losses = [
        [(m["epoch"], m["train_losses"], m["dev_losses"]) for m in map(json.loads, text.splitlines())]
        for text in ((folder / name / "metrics.jsonl").read_text() for name in ("mix-whole", "mix-killed"))
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def same_run(folder, name):
    a, b = (load_file(folder / f / "encoder" / "model.safetensors") for f in ("ae-whole", name))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    losses = [
        [(m["epoch"], m["train_rmse"], m["dev_rmse"]) for m in map(json.loads, text.splitlines())]
        for text in ((folder / f / "metrics.jsonl").read_text() for f in ("ae-whole", name))
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_embed_killed_ends_with_the_same_store(driven):
    folder, (*_, killed) = driven
    assert killed["ends"][:4] == [-9] * 4
    assert killed["ends"][4] == 130
    assert not killed["manifest"]
    assert killed["kept"]  # Ctrl-C publishes what is done
    a, b = (open_store(folder / name / "ae-whole" / "toy").load() for name in ("vectors-whole", "vectors-killed"))
    assert a.ids == b.ids
    # an utterance's batch mates differ after a restart, so the last bits may
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)
