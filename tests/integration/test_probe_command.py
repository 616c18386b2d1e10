"""repkit probe as a user types it, and estimators in recipes."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from cli_helpers import cli, ok
from safetensors.torch import load_file
from sklearn.svm import SVC

import repkit.workflows.train_ser.run
from repkit.runs.directory import read_json
from repkit.store import open_store


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    if "report" not in request.keywords:
        monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)


def probe(stage_one, *more):
    """Probe the statistics of the toy corpus and return the run directory."""
    vectors, corpus = stage_one / "emb" / "statistics-ae", f"toy={stage_one / 'toy'}"
    # without a report there are no scores to print: the run is what counts
    done = cli("probe", vectors, "--corpus", corpus, "--workers", 1, *more)
    return done


def test_probe_end_to_end_with_a_report(stage_one, here, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(here)
    vectors, corpus = stage_one / "emb" / "statistics-ae", f"toy={stage_one / 'toy'}"
    done = ok("probe", vectors, "--corpus", corpus, "--workers", 1, "--head", "linear_svm", "--head", "rbf_svm",
              "--protocol", "leave_one_speaker_out")  # fmt: skip
    assert "linear_svm" in done.out
    assert "rbf_svm" in done.out
    (run,) = (here / "runs/probe").iterdir()
    page = (run / "report.md").read_text()
    assert "settings chosen by inner folds of the training speakers" in page
    assert "## Chosen settings" in page
    # both heads read one store: no vector can help, nor be what they differ in
    assert "## Which head is better than linear_svm?" in page
    assert "| rbf_svm | other settings, same vector | yes |" in page
    assert "the vector" not in page.partition("## Which head")[2].partition("In detail")[0]
    assert "chosen: emotion c" in page
    assert "epoch" not in page.partition("## How this was made")[0], "nothing here has epochs"
    protocol = read_json(run / "protocol.json")
    assert protocol["parts"]["selection"] == "nested"
    assert protocol["parts"]["protocol"]["dev"] == "none"
    jobs = sorted((run / "jobs/linear_svm").glob("*/*"))
    assert len(jobs) == 4
    chosen = read_json(run / "resolved.json")["model"]["c"]
    predictions = pd.concat([pd.read_parquet(p) for p in (run / "jobs/linear_svm").glob("*/*/predictions.parquet")])
    predictions = predictions[predictions.checkpoint == "selected"].set_index("id")
    # one fold again, by scikit-learn alone
    split = read_json(jobs[0] / "split.json")
    figures = [line for line in (jobs[0] / "metrics.jsonl").read_text().splitlines()]
    c = json.loads(figures[0])["figures"]["chosen.emotion_c"]
    assert c in chosen
    store = open_store(vectors / "toy")
    values = {part: np.asarray(store.load(split[part]).values, float) for part in ("train", "test")}
    mean, sd = values["train"].mean(0), values["train"].std(0)
    emotion = pd.read_parquet(run / "utterances.parquet").set_index("id")["emotion"]
    machine = SVC(C=c, kernel="linear", class_weight="balanced")
    machine.fit((values["train"] - mean) / sd, emotion[split["train"]])
    expected = machine.predict((values["test"] - mean) / sd)
    assert (predictions.loc[split["test"]].prediction == expected).all()
    assert load_file(jobs[0] / "selected.safetensors")["emotion_normals"].shape[1] == store.spec.dim


def test_vectors_standardised_by_speaker_are_flagged_and_change_the_protocol(stage_one, here):
    for by in ("train", "per_speaker"):
        probe(stage_one, "--by", by)
    runs = {read_json(run / "resolved.json")["vector"]["by"]: run for run in (here / "runs/probe").iterdir()}
    protocols = {by: read_json(run / "protocol.json") for by, run in runs.items()}
    assert protocols["train"]["id"] != protocols["per_speaker"]["id"]
    assert any(
        flag.startswith("transductive: condition(s) linear_svm hear") for flag in protocols["per_speaker"]["audit"]
    )
    assert not any("transductive" in flag for flag in protocols["train"]["audit"])
    probe(stage_one, "--by", "per_speaker", "--head", "linear_svm", "--head", "logistic_regression")
    ids = {read_json(p)["id"] for p in (here / "runs/probe").glob("*/protocol.json")}
    assert ids == {p["id"] for p in protocols.values()}, "what else is run beside a system does not change its protocol"


def test_choosing_on_test_is_flagged_kept_and_part_of_the_protocol(stage_one, here):
    probe(stage_one, "--set", "training.select_by=test")
    (run,) = (here / "runs/probe").iterdir()
    protocol = read_json(run / "protocol.json")
    assert protocol["parts"]["selection"] == "test"
    assert any(flag.startswith("selected on test") for flag in protocol["audit"])
    chosen = read_json(run / "chosen_on_test.json")["linear_svm"]["emotion"]
    for job in run.glob("jobs/*/*/*"):
        weights = load_file(job / "selected.safetensors")
        assert torch.isfinite(weights["emotion_normals"]).all()
    assert chosen["c"] in read_json(run / "resolved.json")["model"]["c"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--head", "svn"], "linear_svm, rbf_svm"),
        (["--head", "mlp", "--head", "mlp"], "each once"),
        (["--set", "training.select_by=last"], "one of dev.uar, nested, test was expected"),
        (["--set", "training.select_by=dev.uar", "--set", "protocol.dev=none"], "no dev part"),
    ],
)
def test_wrong_probes_are_refused(stage_one, here, more, said):
    done = probe(stage_one, *more)
    assert done.code in (2, 4)
    assert said in " ".join(done.err.split())


def test_an_estimator_without_vectors_and_a_network_that_chooses_like_one_are_refused(stage_one, here):
    corpus = f"toy={stage_one / 'toy'}"
    done = cli("train-ser", "--recipe", "tiny.toml", "--corpus", corpus, "--set", "model.name=svm", "--set", "training.select_by=nested")  # fmt: skip
    assert done.code == 2
    assert "reads utterance vectors alone" in " ".join(done.err.split())
    done = cli("train-ser", "--recipe", "tiny.toml", "--corpus", corpus, "--set", "training.select_by=nested")
    assert done.code == 2
    assert "'nested' with model 'attentive_cnn'" in " ".join(done.err.split())


def test_dry_run_tells_the_hours_of_an_estimator(stage_one, here):
    vectors, corpus = stage_one / "emb" / "statistics-ae", f"toy={stage_one / 'toy'}"
    done = ok("train-ser", "--recipe", "probe", "--corpus", corpus, "--embeddings", vectors, "--dry-run")
    assert re.search(r"expected   \d+ s on", done.err)


def test_what_an_estimator_was_fitted_on_is_not_predicted(stage_one, here):
    probe(stage_one, "--set", "training.select_by=dev.uar", "--set", "protocol.dev=speakers")
    jobs = list(here.glob("runs/probe/*/jobs/*/*/*"))
    assert len(jobs) == 4
    for job in jobs:
        assert read_json(job / "split.json")["dev"]
        assert set(pd.read_parquet(job / "predictions.parquet").part) == {"test"}
