"""pretrain-ae, embed, train-ser and report one after the other, as a user types them, and what they leave on disk."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_helpers import PRETRAIN, RECIPE, cli, files_of, ok
from safetensors.numpy import load_file

import repkit.workflows.train_ser.run
from repkit.audio.base import FileCorpus
from repkit.runs.directory import read_json
from repkit.store import open_store

CONDITIONS = ("BL", "ae", "untrained-ae", "statistics-ae")
JOB = [
    "done.json",
    "hidden.safetensors",
    "last.safetensors",
    "metrics.jsonl",
    "model.json",
    "normalisation.safetensors",
]
JOB += ["predictions.parquet", "selected.safetensors", "split.json"]


def train(stage_one, *more):
    options = [o for c in CONDITIONS[1:] for o in ("--embeddings", stage_one / "emb" / c)]
    corpus = f"toy={stage_one / 'toy'}"
    return ok("train-ser", "--recipe", "tiny.toml", "--corpus", corpus, "--workers", 1, *options, *more)


@pytest.fixture(scope="module")
def trained(stage_one, tmp_path_factory):
    """The finished run directory, and what the command printed."""
    folder = tmp_path_factory.mktemp("main-path")
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPKIT_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        done = train(stage_one)
        (run,) = Path("runs/tiny").iterdir()
        return run.resolve(), done


def no_report(monkeypatch):
    """Leave the report out: it takes most of the time of a small run."""
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)


def predictions_of(run):
    tables = [pd.read_parquet(path) for path in sorted(run.glob("jobs/*/*/*/predictions.parquet"))]
    return pd.concat(tables, ignore_index=True)


def test_a_run_directory_holds_what_the_run_format_says(trained):
    run, _ = trained
    jobs = [f"jobs/{c}/seed_{s}/group_{g}/{f}" for c in CONDITIONS for s in (0, 1) for g in (1, 2) for f in JOB]
    vectors = [f"vectors/{c}.{suffix}" for c in CONDITIONS[1:] for suffix in ("json", "safetensors")]
    top = ["command.txt", "data.json", "environment.json", "lock", "log.jsonl", "protocol.json", "recipe.toml"]
    top += ["report.md", "resolved.json", "results.json", "status.json", "utterances.parquet"]
    found = files_of(run)
    assert [f for f in found if not f.startswith("figures/")] == sorted([*jobs, *vectors, *top])
    assert {"figures/scores.png", "figures/confusion_emotion.png", "figures/embedding_ae.png"} <= set(found)
    assert (run / "recipe.toml").read_text() == RECIPE
    assert (run / "command.txt").read_text().startswith("repkit train-ser --recipe tiny.toml --corpus toy=")
    status = read_json(run / "status.json")
    assert (status["state"], status["jobs"], status["done"]) == ("done", 16, 16)
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert events == ["started", *["done"] * 16, "finished"]


def test_what_is_recorded_of_the_data(trained, stage_one):
    run, _ = trained
    data = read_json(run / "data.json")
    assert data["frontend"]["bands"] == 12
    assert data["dropped"] == data["left_out"] == {}
    store = open_store(stage_one / "emb" / "ae" / "toy")
    condition = data["conditions"]["ae"]
    assert (condition["fusion"], condition["dim"]) == ("late", 32)
    assert condition["stores"]["toy"]["fingerprint"] == store.spec.fingerprint
    assert condition["stores"]["toy"]["source"]["weights_sha256"] == store.spec.source["weights_sha256"]
    assert data["conditions"]["BL"] == {"fusion": "none", "dim": 0, "stores": {}}
    protocol = read_json(run / "protocol.json")
    assert protocol["parts"]["corpora"] == {"toy": store.spec.corpus_fingerprint}
    assert protocol["parts"]["views"] == {"emotion": ["anger", "sadness"]}
    heard = ", ".join(store.spec.source["speakers"])
    assert any(
        "condition ae: the encoder has heard 3 of 4 test speakers" in f and heard in f for f in protocol["audit"]
    )
    assert not any("untrained" in flag for flag in protocol["audit"])
    utterances = pd.read_parquet(run / "utterances.parquet")
    assert len(utterances) == 16
    assert set(utterances["target_emotion"]) == {"anger", "sadness"}
    assert utterances["duration_s"].between(0.3, 2.0).all()
    ids = read_json(run / "vectors" / "ae.json")
    kept = load_file(run / "vectors" / "ae.safetensors")["values"]
    np.testing.assert_allclose(kept, store.load(ids).values, atol=1e-3)


def test_every_utterance_is_tested_once_and_its_speaker_never_trained_on(trained):
    run, _ = trained
    speaker = pd.read_parquet(run / "utterances.parquet").set_index("id")["speaker"]
    tested = []
    for path in sorted(run.glob("jobs/BL/seed_0/*/split.json")):
        split = read_json(path)
        speakers = [set(speaker[split[part]]) for part in ("train", "dev", "test")]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 4
        tested += split["test"]
        hidden = load_file(path.parent / "hidden.safetensors")["values"]
        assert hidden.shape == (len(split["test"]), 6)  # six filters, no vector
    assert sorted(tested) == sorted(speaker.index)
    hidden = load_file(run / "jobs/ae/seed_0/group_1/hidden.safetensors")["values"]
    assert hidden.shape == (8, 6 + 32)


def test_results_are_what_the_predictions_give(trained):
    run, _ = trained
    results = read_json(run / "results.json")
    assert results["protocol_id"] == read_json(run / "protocol.json")["id"]
    assert results["complete"]
    assert results["n_jobs"] == {"planned": 16, "finished": 16}
    assert results["n"] == {"utterances": 16, "speakers": 4, "folds": 2, "seeds": 2, "conditions": 4}
    roles = {c["name"]: c["role"] for c in results["conditions"]}
    assert roles == {"BL": "baseline", "ae": "vector", "untrained-ae": "control", "statistics-ae": "control"}
    table = predictions_of(run)
    np.testing.assert_allclose([sum(p) for p in table["probabilities"]], 1, atol=1e-5)
    assert len(results["scores"]) == 8  # conditions x checkpoints
    for score in results["scores"]:
        rows = table[(table.part == "test") & (table.checkpoint == score["checkpoint"])]
        rows = rows[rows.condition == score["condition"]]
        for seed in ("0", "1"):
            recalls = []
            for _, fold in rows[rows.seed == int(seed)].groupby("fold"):
                right = fold.label == fold.prediction
                recalls.append(np.mean([right[fold.label == c].mean() for c in ("anger", "sadness")]))
            assert score["seeds"][seed]["uar"] == pytest.approx(np.mean(recalls))
        of_seeds = [score["seeds"][seed]["uar"] for seed in ("0", "1")]
        assert (score["uar"]["min"], score["uar"]["max"]) == (min(of_seeds), max(of_seeds))
        assert score["uar"]["mean"] == pytest.approx(np.mean(of_seeds))
        assert score["uar_pooled"]["low"] <= score["uar_pooled"]["mean"] <= score["uar_pooled"]["high"]
    compared = {(d["condition"], d["against"], d["role"]) for d in results["differences"]}
    assert {("ae", "BL", "baseline"), ("ae", "untrained-ae", "control"), ("ae", "statistics-ae", "control")} <= compared


def test_the_command_prints_scores_and_where_the_report_is(trained):
    run, done = trained
    results = read_json(run / "results.json")
    table = [line.split() for line in done.out.splitlines()]
    assert [row[0] for row in table[1:5]] == list(CONDITIONS)
    of_ae = next(s for s in results["scores"] if s["condition"] == "ae" and s["checkpoint"] == "selected")
    assert table[2][1] == f"{100 * of_ae['uar']['mean']:.1f}"
    assert done.out.splitlines()[-2:] == [
        f"protocol  {results['protocol_id']}",
        f"report    {Path('runs/tiny') / run.name / 'report.md'}",
    ]
    assert "utterances 16: anger 8, sadness 8" in done.err
    assert "BL        the baseline: the recipe's model (attentive_cnn) without any vector" in done.out
    assert "16 of 16 jobs done" in done.err


def test_the_report_is_rebuilt_from_the_run_directory_alone(trained, tmp_path, monkeypatch):
    run, _ = trained
    copy = tmp_path / "elsewhere" / run.name
    shutil.copytree(run, copy)
    made = ["report.md", "results.json", *(f"figures/{p.name}" for p in (run / "figures").iterdir())]
    for name in made:
        (copy / name).unlink()
    for name in ("lock", "log.jsonl", "recipe.toml"):  # of no use to a report
        (copy / name).unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FileCorpus, "read", lambda *a, **k: pytest.fail("audio was read"))
    assert ok("report", copy).out.strip() == str(copy / "report.md")
    for name in made:
        assert (copy / name).read_bytes() == (run / name).read_bytes(), name
    page = (copy / "report.md").read_text()
    assert re.search(r"Time: [\d.]+ (seconds|minutes) for 16 jobs\.", page)
    assert str(tmp_path) not in page.replace((run / "command.txt").read_text(), "")
    for image in (line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")):
        assert (copy / image).is_file()


def test_several_runs_are_compared(trained, tmp_path, here):
    run, _ = trained
    shutil.copytree(run, tmp_path / "again")
    both = ok("report", run, tmp_path / "again").out
    assert both.count("| ae |") == 2
    assert "All rows were measured under one protocol." in both
    assert ok("report", run, tmp_path / "again", "--out", "table.md").out.strip() == "table.md"
    assert Path("table.md").read_text() == both.rstrip("\n") + "\n"
    assert ok("report", tmp_path / "again", run, run).out == ok("report", tmp_path / "again", run).out  # each once
    wrong = cli("report", run, tmp_path / "again", "--out", "table.txt")
    assert (wrong.code, ".md, .csv, .json, .tex were expected" in wrong.err) == (2, True)
    assert not Path("table.txt").exists()


def test_a_report_looks_for_runs_below_a_folder(trained, tmp_path, here):
    run, _ = trained
    no_run = cli("report", tmp_path)
    assert no_run.code == 2
    assert f"{tmp_path}: no run directory" in no_run.err
    shutil.copytree(run, tmp_path / "runs/tiny" / run.name)
    (page,) = ok("report", tmp_path / "runs").out.split()
    assert page == str(tmp_path / "runs/tiny" / run.name / "report.md")
    shutil.copytree(run, tmp_path / "runs/other/20260101T000000Z_0123abcd")
    begun = tmp_path / "runs/tiny/20270101T000000Z_01234567"
    begun.mkdir()
    shutil.copy(run / "protocol.json", begun)
    done = ok("report", tmp_path / "runs", "--out", "cmp.csv")
    assert f"left out   {begun}: stopped before its first training" in done.err
    table = pd.read_csv("cmp.csv")
    assert sorted(table["run"].unique()) == sorted([run.name, "20260101T000000Z_0123abcd"])
    assert set(table["signature"]) == {"0123abcd", run.name.split("_")[1]}
    assert list(table["condition"]) == list(CONDITIONS) * 2


def test_the_same_command_again_trains_nothing_and_shows_the_scores(trained, stage_one, monkeypatch):
    run, first = trained
    monkeypatch.setenv("REPKIT_CACHE", str(run.parents[2] / "no-cache"))  # not even frames are needed
    monkeypatch.chdir(run.parents[2])
    monkeypatch.setattr(FileCorpus, "read", lambda *a, **k: pytest.fail("audio was read again"))
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != "log.jsonl"}
    log = (run / "log.jsonl").read_text()
    done = train(stage_one, "--set", "description=another")  # a key that changes no result
    assert done.out == first.out
    assert (
        f"run        runs/tiny/{run.name}  (finished already: same recipe, corpora and stores; nothing was trained"
        in done.err
    )
    assert "--again trains anew" in done.err
    assert f"finished   runs/tiny/{run.name} holds all this already" in train(stage_one, "--dry-run").err
    assert [p.name for p in Path("runs/tiny").iterdir()] == [run.name]
    assert before == {p: p.stat().st_mtime_ns for p in before}
    last = json.loads((run / "log.jsonl").read_text().removeprefix(log))
    (run / "log.jsonl").write_text(log)  # as other tests know it
    assert (last["event"], "description=another" in last["command"]) == ("asked again", True)


def test_again_is_a_new_run_on_the_same_frames_and_vectors(trained, stage_one, monkeypatch):
    run, _ = trained
    cache = run.parents[2] / "cache"
    before = {p: p.stat().st_mtime_ns for p in [*cache.rglob("*"), *(stage_one / "emb").rglob("*")] if p.is_file()}
    monkeypatch.setenv("REPKIT_CACHE", str(cache))
    monkeypatch.chdir(run.parents[2])
    monkeypatch.setattr(FileCorpus, "read", lambda *a, **k: pytest.fail("audio was read again"))
    no_report(monkeypatch)
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    done = train(stage_one, "--again")
    (other,) = (p.resolve() for p in Path("runs/tiny").iterdir() if p.name != run.name)
    assert "continued" not in done.err
    assert other.name.split("_")[1] == run.name.split("_")[1]  # the same signature
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert {p for p in [*cache.rglob("*"), *(stage_one / "emb").rglob("*")] if p.is_file()} == set(before)
    pd.testing.assert_frame_equal(predictions_of(run), predictions_of(other))
    shutil.rmtree(other)


def test_embed_and_pretrain_again_do_nothing(stage_one, monkeypatch):
    monkeypatch.setattr(FileCorpus, "read", lambda *a, **k: pytest.fail("audio was read again"))
    before = {p: p.stat().st_mtime_ns for p in stage_one.rglob("*") if p.is_file()}
    corpus = f"toy={stage_one / 'toy'}"
    again = ok("embed", "--encoder", stage_one / "ae", "--corpus", corpus, "--out", stage_one / "emb")
    assert again.out.split("  ")[:3] == [
        "toy",
        "16 utterances, 32 dimensions, 0 left out",
        str(stage_one / "emb/ae/toy\n"),
    ]
    ok("pretrain-ae", "--corpus", corpus, "--out", stage_one / "ae", *PRETRAIN)
    assert before == {p: p.stat().st_mtime_ns for p in stage_one.rglob("*") if p.is_file()}


def test_frame_level_states_are_joined_early(stage_one, here, monkeypatch):
    corpus = f"toy={stage_one / 'toy'}"
    done = ok("embed", "--encoder", stage_one / "ae", "--corpus", corpus, "--out", "states", "--level", "frame")
    assert done.out.split("  ")[2].strip().startswith("states/ae")
    store = open_store(Path(done.out.split("  ")[2].strip()))
    assert store.spec.kind == "frames"
    assert store.lengths.max() > 5
    no_report(monkeypatch)
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    options = (
        "--recipe",
        "tiny.toml",
        "--corpus",
        corpus,
        "--workers",
        1,
        "--set",
        "seeds=[0]",
        "--set",
        "baseline=false",
    )
    ok("train-ser", *options, "--embeddings", "states")
    (run,) = Path("runs/tiny").iterdir()
    condition = read_json(run / "data.json")["conditions"]
    assert {name: c["fusion"] for name, c in condition.items()} == {store.path.parent.name: "early"}
    weights = load_file(next(run.glob("jobs/*/seed_0/group_1/last.safetensors")))
    assert weights["states.weight"].shape == (64, store.spec.dim)
    assert weights["conv.weight"].shape[1] == 12 + 64
    wrong = cli(
        "train-ser", *options, "--set", 'conditions=[{name="x", embeddings="states", fusion="late"}]'
    )  # fmt: skip
    assert wrong.code == 2
    assert "condition 'x': fusion 'late' does not fit a store of frames" in wrong.err
    assert "embed with --level utterance" in wrong.err


def test_a_dry_run_tells_all_and_writes_nothing(stage_one, here):
    before = files_of(here.parent)
    options = ("--embeddings", stage_one / "emb" / "ae", "--dry-run", "--workers", 2)
    done = ok("train-ser", "--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}", *options)
    assert files_of(here.parent) == before
    assert sorted(os.listdir(here)) == ["tiny.toml"]
    lines = [line.split() for line in done.err.splitlines()]
    assert ["group_1", "4", "4", "8"] in lines
    assert ["group_2", "4", "4", "8"] in lines
    assert "jobs       2 folds x 2 seeds x 2 conditions = 8" in done.err
    assert "conditions BL (none), ae (late)" in done.err
    assert re.search(r"^expected   \d+ s on 2 processes", done.err, flags=re.MULTILINE)
    assert "BL         the baseline: the recipe's model (attentive_cnn) without any vector" in done.err
    out = ok("pretrain-ae", "--corpus", f"toy={stage_one / 'toy'}", "--out", "ae", "--dry-run", *PRETRAIN)
    assert "toy: 16 utterances, 4 speakers" in out.err
    assert files_of(here.parent) == before


def test_the_expected_hours_grow_with_the_work(stage_one, here, monkeypatch):
    monkeypatch.setattr("repkit.workflows.train_ser.cost.time_step", lambda plan, condition: (0.01, 1))

    def hours(*more):
        options = ("--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}", "--dry-run", "--workers", 1)
        text = ok("train-ser", *options, *more).err
        return float(next(line for line in text.splitlines() if line.startswith("expected")).split()[1])

    few, many = hours("--set", "training.epochs=2000000"), hours("--set", "training.epochs=20000000")
    assert few > 1
    assert many == pytest.approx(10 * few, abs=0.1)  # printed to a hundredth of an hour


def test_two_corpora_in_one_run(stage_one, here, monkeypatch):
    no_report(monkeypatch)
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    options = ("--set", "seeds=[0]", "--set", "protocol.max_speakers=1", "--workers", 1)
    ok(
        "train-ser", "--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}",
        "--corpus", f"copy={stage_one / 'toy'}", *options,
    )  # fmt: skip
    (run,) = Path("runs/tiny").iterdir()
    protocol = read_json(run / "protocol.json")
    assert list(protocol["parts"]["corpora"]) == ["toy", "copy"]
    # the same sounds under two names: a reader must be told
    assert any("16 sounds stand under several ids" in flag for flag in protocol["audit"])
