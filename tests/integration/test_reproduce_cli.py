"""``repkit reproduce`` through the command line: a paper of three runs on generated voices."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_helpers import PRETRAIN, cli, ok, speech, write_corpus
from reproduce_helpers import PAPER, cells, given, make_place, make_voices, runs

import repkit.workflows.train_ser.run
from repkit.errors import UsageError
from repkit.runs.directory import locked, read_json


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory)


@pytest.fixture
def place(here, monkeypatch):
    return make_place(here, monkeypatch)


def test_the_table_of_a_paper(place, voices):
    ok("train-ser", "--recipe", "tiny.toml", "--corpus", f"one={voices['one']}", "--workers", 1)
    by_hand = runs()
    done = ok("reproduce", "toy.toml", *given(voices), "--workers", 1)
    found = cells()
    states = {key: cell["state"] for key, cell in found.items()}
    measured = {("alone", "CNN", "one"), ("alone", "CNN", "two"), ("across", "Plain", "two"), ("across", "Wide", "two")}
    assert {key for key, state in states.items() if state == "measured"} == measured
    assert states["alone", "CNN", "savee"] == states["alone", "Gone", "one"] == "missing"
    assert states["alone", "People", "one"] == "published"
    # the run of train-ser was found, the two conditions share a run
    assert [found["alone", "CNN", "one"]["run"]["path"]] == by_hand
    assert len(runs()) == 3
    assert found["across", "Plain", "two"]["run"] == found["across", "Wide", "two"]["run"]
    # our numbers are those of the run's own scores
    scored = read_json(Path(by_hand[0]) / "results.json")["scores"][0]
    ours = found["alone", "CNN", "one"]["ours"]
    assert (ours["value"], ours["n_utterances"]) == (pytest.approx(scored["uar"]["mean"]), 16)
    assert ours["difference"] == pytest.approx(ours["value"] - 0.5)
    assert ours["verdict"] == ("inside" if ours["low"] <= 0.5 <= ours["high"] else "outside")
    assert found["alone", "CNN", "two"]["differs"] == ["16 clips, the paper 17"]
    assert found["alone", "CNN", "one"]["differs"] == []
    # what is printed and written
    assert "missing: needs --corpus savee=PATH\n  alone, savee: CNN 70.2" in done.out
    assert "http://kahlan.eps.surrey.ac.uk/savee" in done.out
    assert "did you mean 'gao2022_cross'?" in done.out
    assert "4 of 9 cells are measured." in done.out
    page = Path("reproduce/toy/table.md").read_text()
    assert "the second row is a misprint" in page
    assert f"| Plain | two | 50.25 | {100 * found['across', 'Plain', 'two']['ours']['value']:.1f} |" in page
    assert f"repkit train-ser --recipe systems.toml --corpus one={voices['one']} --hold-out two={voices['two']}" in page
    with Path("reproduce/toy/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {r["ours"] for r in rows if r["state"] != "measured"} == {""}
    assert Path("reproduce/toy/figure.png").stat().st_size > 5000
    # the command that is printed gives the same run: it is done, so nothing is left to do
    before = {p: p.stat().st_mtime_ns for p in Path("runs").rglob("done.json")}
    again = ok("reproduce", "toy.toml", *given(voices), "--workers", 1)
    assert {p: p.stat().st_mtime_ns for p in Path("runs").rglob("done.json")} == before
    assert len(runs()) == 3
    assert again.out == done.out


def test_where_to_work_is_asked_as_of_train_ser(place, voices, monkeypatch):
    seen = []

    def train_ser(*args, executor, device, at_once, scheduler, **kwargs):
        seen.append((executor, device, at_once, scheduler))
        raise UsageError("not today")

    monkeypatch.setattr(repkit.workflows.train_ser.run, "train_ser", train_ser)
    words = ["reproduce", "toy.toml", *given(voices), "--only", "cnn/one", "--scheduler", "tcp://here:1"]
    done = cli(*words, "--executor", "processes")
    assert (done.code, "dask was expected" in done.err, seen) == (2, True, [])
    cli(*words, "--executor", "dask", "--device", "cpu", "--at-once", 5)
    assert seen == [("dask", "cpu", 5, "tcp://here:1")]


def test_a_chosen_cell_with_other_settings_says_so_and_keeps_the_others(place, voices):
    options = ("--seeds", 1, "--set", "training.epochs=1", "--workers", 1)
    ok("reproduce", "toy.toml", *given(voices), "--only", "cnn/one", *options)
    first = cells()
    ours = first["alone", "CNN", "one"]
    differs = ["changed: training.epochs=1", "1 seed, the paper 2"]
    assert (list(ours["ours"]["seeds"]), ours["differs"]) == (["0"], differs)
    assert "--set training.epochs=1 --set 'seeds=[0]'" in ours["run"]["command"]
    assert first["alone", "CNN", "two"]["state"] == "not chosen"
    done = ok("reproduce", "toy.toml", *given(voices, "two"), "--table", "alone", "--seeds", 1, "--workers", 1)
    second = cells()
    assert second["alone", "CNN", "one"]["ours"] == ours["ours"]  # though its corpus is not given now
    assert second["alone", "CNN", "two"]["state"] == "measured"
    assert "changed: training.epochs=1" in done.out
    Path("reproduce/toy/table.md").unlink()
    assert "2 of 9 cells are measured" in ok("reproduce", "toy.toml", "--page-only").out
    assert Path("reproduce/toy/table.md").is_file()
    assert cells() == second


def test_a_dry_run_trains_nothing(place, voices):
    done = ok("reproduce", "toy.toml", *given(voices), "--dry-run", "--workers", 1)
    assert "systems.toml on one, tested on two" in done.out
    assert "4 of 9 cells in 3 runs, 4 missing; expected 0.0" in done.out
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "frames one by log_mel (12 columns) 0.001 to do" in lines
    assert any(line.startswith("1 tiny.toml on one - 4 0.0") and line.endswith(" to do") for line in lines)
    assert any(line.startswith("across Wide two 51.50 run 3 0.0") for line in lines)
    assert "needs --corpus savee=PATH" in done.out
    assert not Path("runs").exists()
    assert not Path("reproduce").exists()
    nothing = ok("reproduce", "toy.toml", "--dry-run")
    assert "0 of 9 cells in 0 runs, 8 missing" in nothing.out


def test_a_cell_that_fails_does_not_lose_the_others(place, voices, tmp_path, monkeypatch):
    real = repkit.workflows.train_ser.run.run_job

    def breaks(context, job, on_epoch):
        if job.condition == "wide":
            raise ValueError("no such thing")
        return real(context, job, on_epoch)

    monkeypatch.setattr(repkit.workflows.train_ser.run, "run_job", breaks)
    broken = write_corpus(tmp_path / "two", speech("two", seed=1, style="b"))
    sound = min(broken.glob("*.wav"))
    sound.write_bytes(b"")
    options = ("--seeds", 1, "--workers", 1)
    done = cli("reproduce", "toy.toml", *given({**voices, "two": broken}), *options)
    assert done.code == 4
    found = cells()
    assert found["alone", "CNN", "one"]["state"] == "measured"
    assert {found[key]["state"] for key in found if key[1] in ("Plain", "Wide") or key == ("alone", "CNN", "two")} == {
        "failed"
    }
    assert sound.name in found["alone", "CNN", "two"]["why"]
    assert "failed: " in done.out
    # left out, it is said, and the run is found again though its folds are no longer those of the whole corpus
    skip = ("--only", "CNN/two", "--on-bad-audio", "skip", *options)
    for _ in range(2):
        ok("reproduce", "toy.toml", *given({"two": broken}), *skip)
        skipped = cells()["alone", "CNN", "two"]
        assert skipped["differs"] == ["15 clips, the paper 17", "1 seed, the paper 2"]
        assert skipped["run"]["command"].endswith("--on-bad-audio skip")
    assert len([run for run in runs() if skipped["run"]["protocol_id"] in Path(run, "protocol.json").read_text()]) == 1
    # with sound files, one condition of a run fails and the other is measured
    done = cli("reproduce", "toy.toml", *given(voices), *options)
    assert done.code == 1
    found = cells()
    assert {key[1]: cell["state"] for key, cell in found.items() if key[0] == "across"} == {
        "Plain": "measured",
        "Wide": "failed",
    }
    assert found["across", "Wide", "two"]["why"] == "ValueError: no such thing"
    assert "Traceback" in Path("reproduce/toy/failed_across_0_Wide_two.txt").read_text()
    assert "## Failed" in Path("reproduce/toy/table.md").read_text()
    monkeypatch.setattr(repkit.workflows.train_ser.run, "run_job", real)
    ok("reproduce", "toy.toml", *given(voices), "--only", "wide", *options)
    measured = cells()["across", "Wide", "two"]
    assert (measured["state"], cells()["across", "Plain", "two"]["state"]) == ("measured", "measured")
    # with other settings it fails again: number and run of before are kept, and why is said
    monkeypatch.setattr(repkit.workflows.train_ser.run, "run_job", breaks)
    for _ in range(2):
        done = cli("reproduce", "toy.toml", *given(voices), "--only", "wide", *options, "--set", "training.epochs=1")
        assert done.code == 1
        assert "the number of an earlier run is kept" in done.out
        kept = cells()["across", "Wide", "two"]
        assert [kept[key] for key in ("state", "ours", "run")] == [measured[k] for k in ("state", "ours", "run")]
        again = "of an earlier run; run again, it failed: ValueError: no such thing"
        assert kept["notes"] == [*measured["notes"], again]
        assert again in Path("reproduce/toy/table.md").read_text()
    with locked(Path("reproduce/toy")):  # as another process at work would
        refused = cli("reproduce", "toy.toml", "--page-only")
    assert refused.code == 2
    assert "another process is at work here" in refused.err


def test_killed_between_cells_it_goes_on(place, voices):
    command = ["reproduce", "toy.toml", *given(voices), "--only", "CNN", "--workers", "1"]
    slow = (
        "import time; from repkit.workflows.train_ser import run as t; real = t.run_job; t.render = lambda run: None\n"
    )
    slow += "def wait(*a):\n    time.sleep(0.3)\n    return real(*a)\n"
    slow += "t.run_job = wait\nimport sys; sys.argv = ['repkit', *sys.argv[1:]]\nfrom repkit.cli import main; main()"
    child = subprocess.Popen([sys.executable, "-c", slow, *command], stderr=subprocess.PIPE, env={**os.environ})
    deadline = time.monotonic() + 100
    path = Path("reproduce/toy/cells.json")
    while time.monotonic() < deadline and child.poll() is None:
        # the first run is in the table, the second has one job of four
        if path.is_file() and cells()["alone", "CNN", "one"]["state"] == "measured" and len(jobs()) == 5:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert child.wait(10) == -signal.SIGKILL, child.stderr.read().decode()
    before = jobs()
    assert 5 <= len(before) < 8
    assert cells()["alone", "CNN", "two"]["state"] == "ready"
    done = ok(*command)
    after = jobs()
    assert len(after) == 8
    assert all(after[job] == when for job, when in before.items())
    assert len(runs()) == 2
    assert "(continued, " in done.err
    assert {cells()["alone", "CNN", name]["state"] for name in ("one", "two")} == {"measured"}


def jobs():
    return {p: p.stat().st_mtime_ns for p in Path("runs").glob("*/*/jobs/*/*/*/done.json") if ".tmp." not in str(p)}


def test_vectors_of_stage_one_are_made_on_the_way(place, voices):
    text = PAPER.replace('id = "Gone"\nrecipe = "gao2022_cros"', 'id = "Gone"\nrecipe = "tiny.toml"\ncondition = "C"')
    text = text.replace(
        'condition = "C"', 'condition = "C"\nstage_one = { recipe = "demo_autoencoder", corpus = "{corpus}" }'
    )
    Path("toy.toml").write_text(text, encoding="utf-8")
    small = [word.replace("--set", "--pretrain-set") for word in PRETRAIN]
    options = ("--only", "Gone/one", "--only", "CNN/one", "--seeds", 1, "--workers", 1, *small)
    ok("reproduce", "toy.toml", *given(voices), *options)
    found = cells()
    cell = found["alone", "Gone", "one"]
    assert (cell["state"], cell["how"]["condition"]) == ("measured", "C")
    assert cell["differs"][0].startswith("changed in stage one: training.hidden_size=8")
    assert cell["run"]["path"] == found["alone", "CNN", "one"]["run"]["path"]
    assert found["alone", "CNN", "one"]["differs"] == ["1 seed, the paper 2"]
    assert "--embeddings C=embeddings/demo_autoencoder-one-" in cell["run"]["command"]
    described = json.loads((Path(cell["run"]["path"]) / "data.json").read_text())["conditions"]
    assert (described["C"]["dim"], described["BL"]["dim"]) == (32, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("keesing2021",), 2, "did you mean 'keesing2020'?"),
        (("toy.toml", "--only", "CNM"), 2, "did you mean 'CNN'?"),
        (("toy.toml", "--page-only"), 4, "reproduce/toy/cells.json: not there"),
        (("toy.toml", "--only", "people"), 2, "nothing of what --only names can be run: listeners; at least one"),
        (("toy.toml", "--only", "cnn/savee"), 2, "can be run: needs --corpus savee=PATH"),
        (("toy.toml", "--table", "across", "--dry-run"), 2, "nothing of what --table names can be run: needs"),
        (("toy.toml", "--corpus", "one=nowhere"), 4, "there is no such folder"),
    ],
)
def test_what_makes_no_sense_is_refused(place, arguments, code, said):
    done = cli("reproduce", *arguments)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not Path("reproduce").exists()


def test_another_papers_folder_is_left_alone(place, voices):
    ok("reproduce", "toy.toml", "--out", "mine")
    before = Path("mine/cells.json").read_text()
    done = cli("reproduce", "gao2022", "--out", "mine")
    assert (done.code, "'gao2022' and 1 were expected" in done.err) == (4, True), done.err
    assert Path("mine/cells.json").read_text() == before
