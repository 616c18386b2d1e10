"""The processes of openSMILE: Ctrl-C, death, and the same command again."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from repkit.api import PluginError
from repkit.audio.open import open_corpus
from repkit.store import open_store
from repkit.workflows.embed import embed

pytest.importorskip("opensmile")

from opensmile_material import IS09, RATE, hum, make
from repkit_baselines import opensmile_worker


@pytest.fixture(scope="module")
def sound():
    return hum()


@pytest.fixture(scope="module")
def encoder():
    return make(feature_set="IS09", n_workers=2)


def gone(pid, seconds=10.0):
    """Whether a process ends within the time; a zombie that nobody waits for has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def test_workers_do_not_hear_an_interrupt(encoder, sound):
    wanted = encoder.encode([sound] * 4)
    for pid in encoder._workers.process_ids:
        os.kill(pid, signal.SIGINT)
    for one, other in zip(encoder.encode([sound] * 4), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@on_linux
def test_a_worker_that_dies_is_an_error_and_the_next_call_works(sound):
    encoder = make(**IS09)
    wanted = encoder.encode([sound])[0]
    (pid,) = encoder._workers.process_ids
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PluginError, match="a worker process ended with code -9 while encoding 2 sounds"):
        encoder.encode([sound, sound])
    np.testing.assert_array_equal(encoder.encode([sound])[0], wanted)
    (pid,) = encoder._workers.process_ids
    del encoder
    gc.collect()  # the traceback above refers to it
    assert gone(pid)


SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(opensmile_worker.__file__).parent)!r})
import numpy as np
from opensmile_worker import SmileWorkers
workers = SmileWorkers({{"feature_set": "ComParE_2016", "level": "func", "sample_rate": 16000}}, 1)
print(*workers.process_ids, flush=True)
noise = np.random.default_rng(0).integers(-9999, 9999, 16000 * 20).astype(np.int16)
while True:
    workers.run([noise])
"""


@on_linux
def test_a_script_without_a_guard_works_and_its_workers_die_with_it(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    script = subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, text=True)
    pid = int(script.stdout.readline())
    assert not gone(pid, 0.3)  # at work
    script.kill()
    script.wait()
    script.stdout.close()
    assert gone(pid)


@on_linux
def test_ctrl_c_in_the_middle_and_the_same_command_again(tmp_path):
    """A real Ctrl-C: SIGINT to the whole process group while native code runs."""
    (tmp_path / "noise").mkdir()
    noise = 0.1 * np.random.default_rng(3).standard_normal(70 * RATE)
    soundfile.write(tmp_path / "noise" / "a.wav", noise, RATE)
    (tmp_path / "noise" / "metadata.csv").write_text("file_name,speaker_id,emotion\na.wav,s,neutral\n")
    given = ["--encoder", "opensmile:ComParE_2016", "--corpus", f"noise={tmp_path / 'noise'}"]
    command = subprocess.Popen(
        [sys.executable, "-m", "repkit", "embed", *given, "--out", tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    store = tmp_path / "out" / "opensmile-ComParE_2016" / "noise"
    try:
        until = time.monotonic() + 60
        while not store.exists() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.4)  # the sound is read in no time; openSMILE needs more than a second for it
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        assert children
        started = time.monotonic()
        os.killpg(command.pid, signal.SIGINT)
        _, said = command.communicate(timeout=30)
        took = time.monotonic() - started
    finally:
        command.kill()
    assert command.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert took < 5
    assert all(gone(int(pid), 3) for pid in children)
    assert not list(store.glob("*.json")), "a manifest would make it a finished store"
    assert not list(store.glob("*.h5")), "no row of the block that was not finished"

    corpus = open_corpus("noise", str(tmp_path / "noise"))
    embed("opensmile:ComParE_2016", [corpus], tmp_path / "out")
    embed("opensmile:ComParE_2016", [corpus], tmp_path / "whole")
    resumed, whole = open_store(store), open_store(tmp_path / "whole" / "opensmile-ComParE_2016" / "noise")
    assert resumed.spec == whole.spec
    assert resumed.ids == whole.ids
    (id,) = whole.ids
    assert np.isfinite(whole.read(id)).all()
    np.testing.assert_array_equal(resumed.read(id), whole.read(id))
