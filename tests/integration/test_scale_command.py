"""repkit scale as a user types it, on synthetic voices: killed in the middle and resumed, extended, listed."""

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_helpers import cli, ok, speech, write_corpus
from safetensors.numpy import load_file

import repkit.workflows.train_ser.run
from repkit.runs.directory import read_json

PLAN = """\
schema = 1
command = "scale"
name = "tiny"
hours = [0.001, 0.003, 5]
seeds = [0, 1]
updates = 3
readout = "mean_sd"

[training]
dev_speakers = 0.0
hidden_size = 8
batch_size = 8
checkpoint_every_steps = 1
device = "cpu"
precision = "fp32"

[[curves]]
name = "apc"
recipe = "apc"
training = {chunk_s = 0.5}
"""
QUICK = ["--workers", "1", "--probe-set", "model.c=[0.05]"]
QUICK += ["--probe-set", "protocol.n_groups=2", "--probe-set", "protocol.max_speakers=2"]


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """Folder with toy/ (8 speakers), heard/, plan.toml, whole/ and killed/, the words of the command, and what happened."""
    folder = tmp_path_factory.mktemp("scale")
    write_corpus(folder / "toy", speech("toy", n_speakers=8))
    write_corpus(folder / "heard", speech("heard", n_speakers=6, seed=3))
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    words = ["--recipe", str(folder / "plan.toml"), "--pretrain-corpus", f"heard={folder / 'heard'}"]
    words += ["--corpus", f"toy={folder / 'toy'}", *QUICK]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("scale_driver.py")), str(folder), json.dumps(words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return folder, words, json.loads((folder / "log.json").read_text())


@pytest.fixture
def here(driven, tmp_path, monkeypatch):
    monkeypatch.setenv("REPKIT_CACHE", str(driven[0] / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)
    return driven


def uar(run, condition):
    """UAR of a condition over all its test utterances, from its predictions by pandas alone."""
    rows = pd.concat(pd.read_parquet(p) for p in (run / "jobs" / condition).glob("*/*/predictions.parquet"))
    rows = rows[(rows.part == "test") & (rows.checkpoint == "selected")]
    return (rows.label == rows.prediction).groupby(rows.label).mean().mean()


def test_it_trains_compares_and_draws(driven):
    folder, _, (whole, *_) = driven
    assert whole["end"] == 0, whole["text"]
    out = folder / "whole"
    names = ["apc-0.001h-s0", "apc-0.001h-s1", "apc-0.003h-s0", "apc-0.003h-s1"]
    assert whole["at"]["done"] == names
    state = read_json(out / "scale.json")
    assert [cell["state"] for cell in state["cells"]] == ["done"] * 4 + ["missing"] * 2
    assert "missing: apc/5/0, apc/5/1: needs 5 h of speech to train on and the corpora hold 0.00" in whole["text"]
    assert not state["complete"]
    # equal updates; the speech of fewer hours within that of more
    heard = {}
    for cell in state["cells"][:4]:
        results = read_json(out / "encoders" / cell["name"] / "results.json")
        assert results["updates"] == cell["updates"] == 3
        assert cell["heard_hours"] == pytest.approx(cell["hours"], abs=0.4 / 3600)
        heard[cell["name"]] = results["provenance"]
    assert heard[names[0]]["corpora"] == heard[names[1]]["corpora"]
    assert set(heard[names[0]]["speakers"]) <= set(heard[names[2]]["speakers"])
    # one control per seed for both hours, functionals once
    assert {one["name"] for one in state["controls"]} == {"untrained-apc-s0", "untrained-apc-s1"}
    stores = {path.name for path in (out / "embeddings").iterdir()}
    assert stores == {f"{name}-mean_sd" for name in names} | {
        "functionals", "untrained-apc-0.001h-s0-mean_sd", "untrained-seed1-apc-0.001h-s0-mean_sd",
    }  # fmt: skip
    # the points again, from the predictions
    runs = {run["normalisation"]: Path(run["path"]) for run in read_json(out / "compare/compare.json")["runs"]}
    assert [(one["hours"], one["normalisation"]) for one in state["points"]] == [
        (hours, mode) for hours in (0.001, 0.003) for mode in ("train", "per_speaker")
    ]
    for one in state["points"]:
        path = {run["normalisation"]: [] for run in read_json(out / "compare/compare.json")["runs"]}
        for run in read_json(out / "compare/compare.json")["runs"]:
            path[run["normalisation"]].append(run)
        where = {c: Path(run["path"]) for run in path[one["normalisation"]] for c in run["conditions"]}
        untrained = np.mean([uar(where[n], n) for n in (f"functionals_and_untrained-apc-s{s}" for s in (0, 1))])
        for seed, value in one["seeds"].items():
            name = f"functionals_and_apc-{one['hours']:g}h-s{seed}"
            assert value == pytest.approx(uar(where[name], name) - untrained)
        assert np.mean(list(one["seeds"].values())) == pytest.approx(one["difference"])
        assert one["low"] <= one["difference"] <= one["high"]
        assert one["verdict"] in ("passed", "not passed")
    assert runs.keys() == {"train", "per_speaker"}
    page = (out / "scale.md").read_text()
    assert page.startswith("# Does more speech help stage one?\n\n6 trainings: 4 done, 2 lack speech.")
    assert "| apc | 0.003 | per-speaker |" in page
    assert "nan" not in page
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert sum(row["kind"] == "mean" for row in rows) == 4
    assert sum(row["kind"] == "seed" for row in rows) == 8
    assert (out / "figure.png").stat().st_size > 5000


def test_killed_in_the_middle_it_goes_on_to_the_same_end(driven):
    folder, _, (whole, first, second, third, fourth) = driven
    assert [first["end"], second["end"], third["end"], fourth["end"]] == [-9, -9, 0, 0], third["text"]
    assert first["at"]["done"] == ["apc-0.001h-s0"]  # killed in the second training
    assert "apc-0.001h-s0" not in second["text"].replace("untrained-apc-0.001h-s0", "")
    assert "finished   apc-0.001h-s1" in second["text"]
    assert second["at"]["done"] == ["apc-0.001h-s0", "apc-0.001h-s1"]  # killed by the gate of the first hours
    assert 0 < second["at"]["jobs"] < whole["at"]["jobs"]
    assert "training   apc-0.003h-s0" in third["text"]
    assert "training   apc-0.001h" not in third["text"]
    assert "training" not in fourth["text"].split("written")[0].replace("2 lack speech", "").replace("trainings", "")
    for name in whole["at"]["done"]:
        a, b = (
            load_file(folder / o / "encoders" / name / "encoder" / "model.safetensors") for o in ("whole", "killed")
        )
        assert all(np.array_equal(a[key], b[key]) for key in a)
    points = [read_json(folder / o / "scale.json")["points"] for o in ("whole", "killed")]
    for a, b in zip(*points, strict=True):
        assert a["difference"] == pytest.approx(b["difference"])
        assert a["seeds"] == pytest.approx(b["seeds"])


def test_what_would_be_done_is_listed(here):
    folder, words, _ = here
    plan = ok("scale", *words, "--out", folder / "whole", "--dry-run", "--set", "hours=[0.001, 0.002, 5]").out
    lines = [line.split() for line in plan.splitlines()]
    assert [line[3] for line in lines[1:3]] == ["done", "done"]
    assert lines[3][:5] == ["apc", "0.002", "0", "to", "train"]
    assert "finished trainings of this folder" in plan.splitlines()[3]
    assert "missing: apc/5/0, apc/5/1: needs 5 h" in plan
    assert "6 cells, 2 to train; expected 0.0" in plan
    only = ok("scale", *words, "--out", "fresh", "--dry-run", "--only", "apc/*/1").out
    assert "random frames" in only
    assert "6 cells, 2 to train" in only
    assert not Path("fresh").exists()
    other = ok("scale", *words, "--out", folder / "whole", "--dry-run", "--set", "readout=last").out
    assert [line.split()[3:5] for line in other.splitlines()[1:5]] == [["to", "encode"]] * 4
    assert "6 cells, 0 to train, 4 to encode; expected 0.00 h" in other


def test_the_page_again_and_wrong_words(here):
    folder, words, _ = here
    page = folder / "killed/scale.md"
    before = page.read_text()
    page.unlink()
    done = ok("scale", "--page-only", "--out", folder / "killed")
    assert page.read_text() == before
    assert "6 trainings: 4 done, 2 lack speech." in done.out
    for more, code, text in (
        (["--set", "updates=4", "--out", folder / "whole"], 2, "settings.updates: 3 in the folder, 4 asked for"),
        (["--only", "acp"], 2, "did you mean 'apc'"),
        (["--set", "hours=[1, 1]"], 2, "each once"),
        (["--set", "training.updates=7"], 2, "follow from hours, data_seed, updates and seeds"),
        (["--corpus-set", "nobody.columns.speaker=x"], 2, "NAME one of heard, toy"),
    ):
        done = cli("scale", *words, *more)
        assert done.code == code, done.err
        assert text in " ".join(done.err.split())
    assert cli("scale", "--corpus", f"toy={folder / 'toy'}").code == 2
    assert cli("scale", "--page-only", "--out", "nothing").code == 4
    assert not Path("scale").exists()


def test_cells_go_to_an_executor_and_one_that_fails_does_not_lose_the_others(here):
    from repkit.audio.open import open_corpus
    from repkit.config import load_recipe
    from repkit.runs.executors import Event
    from repkit.workflows.scale.cells import Request, configs_of
    from repkit.workflows.scale.recipe import ScaleRecipe
    from repkit.workflows.scale.run import Watch, _Book, _train

    folder, _, _ = here
    corpora = {name: open_corpus(name, str(folder / name)) for name in ("toy", "heard")}
    plan = load_recipe(ScaleRecipe, str(folder / "plan.toml"), ["hours=[0.001]"])
    sent = []

    def elsewhere(function, context, jobs, on_event):
        """As another machine would: everything goes there pickled."""
        for job in jobs:
            work, arguments = pickle.loads(pickle.dumps((function, (context, job))))
            sent.append(arguments[0])
            on_event(Event("started", job, 0))
            on_event(Event("done", job, 0, work(*arguments, lambda epoch: None)))

    heard, labelled = ({name: corpora[name]} for name in ("heard", "toy"))
    request = Request(plan=plan, heard=heard, corpora=labelled, out=Path("elsewhere"), executor=elsewhere)
    configs = configs_of(plan)
    request.encoders.mkdir(parents=True)
    (request.encoders / "apc-0.001h-s0").write_text("a file where a folder is to be")
    book = _Book(request, configs, set(configs))
    happened = []
    _train(book, book.todo, Watch(on_event=happened.append))
    assert [event.kind for event in happened] == ["started", "done"] * 2
    assert [record["state"] for record in book.records.values()] == ["failed", "done"]
    assert "apc-0.001h-s0" in book.state["cells"][0]["why"]
    assert sent[0].run.is_absolute()  # dask looks whether every worker sees it
    a, b = (load_file(o / "encoders/apc-0.001h-s1/encoder/model.safetensors") for o in (folder / "whole", request.out))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    again = _Book(request, configs, set(configs))
    assert [cell.name for cell in again.todo] == ["apc-0.001h-s0"]
    assert read_json(request.out / "scale.json")["cells"][1]["state"] == "done"
