import json
import re

import numpy as np
import pytest
from conftest import CORPORA, EMOTIONS, telling_layer
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score

from repkit.evaluation.job_files import fold_corpora, hidden_ids, read_hidden, transductive_conditions
from repkit.evaluation.mcnemar import mcnemar_tests
from repkit.evaluation.predictions import read_run
from repkit.evaluation.probe import probe_run
from repkit.evaluation.results import compute_results
from repkit.evaluation.run_files import read_run_files
from repkit.report.compare import compare_runs
from repkit.report.context import Page
from repkit.report.page_results import worth_part
from repkit.report.render import render

VIEWS = {"emotion": EMOTIONS}


def pick(found, **wanted):
    (one,) = [row for row in found if all(row[key] == value for key, value in wanted.items())]
    return one


def paper(corpus, condition, uar, **more):
    return {"corpus": corpus, "condition": condition, "uar": uar, "view": None, "note": "", **more}


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_scores_by_corpus_are_what_scikit_learn_gives(fabricate_corpora):
    run = fabricate_corpora()
    results = compute_results(run, n_resamples=100, probes=False)
    rows, _ = read_run(run, VIEWS)
    rows = rows[(rows.part == "test") & (rows.checkpoint == "selected")]
    rows["corpus"] = rows["id"].str.split("/").str[0]
    head = {"view": "emotion", "checkpoint": "selected"}
    for name in ("plain", "dann"):
        by_corpus = []
        for corpus, (_, n_speakers, n_each, classes) in CORPORA.items():
            found = pick(results["corpora"], condition=name, corpus=corpus, **head)
            part = rows[(rows.condition == name) & (rows.corpus == corpus)]
            by_seed = [balanced_accuracy_score(p.label, p.prediction) for _, p in part.groupby("seed")]
            assert list(found["seeds"].values()) == pytest.approx(by_seed)
            assert found["uar"]["mean"] == pytest.approx(np.mean(by_seed))
            assert found["uar"]["sd"] == pytest.approx(np.std(by_seed, ddof=1))
            assert (found["held_out"], found["n_classes"]) == (True, len(classes))
            assert found["chance"] == pytest.approx(1 / len(classes))
            assert found["n_utterances"] == n_speakers * n_each * len(classes)
            by_corpus.append(np.mean(by_seed))
        mean = pick(results["corpus_means"], condition=name, over="held_out", **head)
        assert mean["uar"]["mean"] == pytest.approx(np.mean(by_corpus))
    difference = pick(results["corpus_differences"], condition="dann", corpus="iemocap", **head)
    scores = [pick(results["corpora"], condition=c, corpus="iemocap", **head)["uar"]["mean"] for c in ("dann", "plain")]
    assert difference["difference"] == pytest.approx(scores[0] - scores[1])
    assert difference["against"] == "plain"
    assert difference["p_holm"] >= difference["p_sign_flip"]
    assert not [row for row in results["corpus_differences"] if row["condition"] == "plain"]
    json.dumps(results, allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "n_rows", "held_out"),
    [("leave_one_out", 4, {True}), ("union", 1, {False}), ("train_one", 4, {True, False})],
)
def test_whether_a_corpus_is_held_out_is_read_from_the_splits(fabricate_corpora, kind, n_rows, held_out):
    run = fabricate_corpora(kind=kind, seeds=(0,), conditions=({"name": "plain"},))
    results = compute_results(run, n_resamples=20, probes=False)
    assert {row["held_out"] for row in results["corpora"]} == held_out
    parts = {(row["corpus"], row["held_out"]) for row in results["corpora"]}
    assert len(parts) == 4 * len(held_out)
    overs = {row["over"] for row in results["corpus_means"]}
    once = {"all"} if len(held_out) == 1 else set()  # a corpus that stands twice has no mean over all
    assert overs == once | {"held_out" if value else "trained_on" for value in held_out}
    matrix = pick(results["matrix"], checkpoint="selected")
    assert len(matrix["rows"]) == n_rows
    assert matrix["corpora"] == sorted(CORPORA)
    values = np.array(matrix["uar"], dtype=float)
    if kind == "leave_one_out":
        assert np.array_equal(np.isfinite(values), np.eye(4, dtype=bool))
        assert [row["name"] for row in matrix["rows"]] == [f"all but {name}" for name in sorted(CORPORA)]
    elif kind == "union":
        assert matrix["rows"][0]["folds"] == ["rotation_0", "rotation_1"]
        single = [pick(results["corpora"], corpus=c, checkpoint="selected")["uar"]["mean"] for c in sorted(CORPORA)]
        assert values[0] == pytest.approx(single)
    else:
        assert np.isfinite(values).all()
        assert (np.array(matrix["held_out"]) == ~np.eye(4, dtype=bool)).all()


def test_mcnemar_of_a_run_row_by_row(fabricate_corpora):
    run = fabricate_corpora(seeds=(0, 1, 2))
    files = read_run_files(run)
    found = mcnemar_tests(files, fold_corpora(files))
    assert len(found) == 2 * 2 * 5  # conditions, checkpoints, overall and four corpora
    rows, _ = read_run(run, VIEWS, probabilities=True)
    rows = rows[(rows.part == "test") & (rows.checkpoint == "selected")]
    told = {}
    for name, part in rows.groupby("condition"):
        means = part.groupby("id")["probabilities"].apply(lambda values: np.mean(np.stack(list(values)), axis=0))
        labels = part.drop_duplicates("id").set_index("id")["label"]
        told[name] = {i: EMOTIONS[int(value.argmax())] == labels[i] for i, value in means.items()}
    for corpus in (None, *CORPORA):
        ids = [i for i in told["plain"] if corpus is None or i.startswith(f"{corpus}/")]
        only = sum(told["dann"][i] and not told["plain"][i] for i in ids)
        other = sum(told["plain"][i] and not told["dann"][i] for i in ids)
        test = pick(found, condition="dann", corpus=corpus, checkpoint="selected")
        assert (test["only_condition"], test["only_reference"], test["n"]) == (only, other, len(ids))
        assert test["p"] == pytest.approx(binomtest(only, only + other).pvalue)
        assert test["accuracy"] == pytest.approx(np.mean([told["dann"][i] for i in ids]))
        assert test["n_seeds"] == 3
    overall = pick(found, condition="dann", corpus=None, checkpoint="selected")
    assert overall["mark"] == "+"


def test_only_jobs_that_both_have_finished_are_averaged(fabricate_corpora):
    run = fabricate_corpora(seeds=(0, 1))
    for fold in ("corpus_emodb", "corpus_tess"):
        (run / "jobs/dann/seed_1" / fold / "done.json").unlink()
    files = read_run_files(run)
    found = mcnemar_tests(files, fold_corpora(files))
    assert pick(found, condition="dann", corpus="emodb", checkpoint="selected")["n_seeds"] == 1
    assert pick(found, condition="dann", corpus="savee", checkpoint="selected")["n_seeds"] == 2
    lone = pick(found, condition="dann", corpus="emodb", checkpoint="selected")
    rows, _ = read_run(run, VIEWS)
    rows = rows[
        (rows.part == "test") & (rows.checkpoint == "selected") & (rows.seed == 0) & (rows.condition == "plain")
    ]
    rows = rows[rows.fold == "corpus_emodb"]
    assert lone["accuracy_reference"] == pytest.approx((rows.label == rows.prediction).mean())


def test_what_a_layer_tells(fabricate_corpora, monkeypatch):
    monkeypatch.setattr("repkit.evaluation.probe.MOST_MODELS", 2)
    corpora = {name: (language, 6, n, classes) for name, (language, _, n, classes) in CORPORA.items()}
    run = fabricate_corpora(
        kind="union",
        corpora=corpora,
        seeds=(0, 1),
        hidden=telling_layer,
        conditions=({"name": "plain"}, {"name": "dann"}),
    )
    files = read_run_files(run)
    found, notes = probe_run(files)
    # each rotation tests speakers of one gender, as in this run their numbers tell it
    assert [note.split(":")[0] for note in notes] == ["gender is not probed in plain, dann"]
    assert {probe["attribute"] for probe in found} == {"corpus", "emotion", "language"}
    corpus = pick(found, condition="plain", attribute="corpus")
    assert corpus["uar"] > 0.75
    assert corpus["chance"] == 0.25
    assert corpus["shuffled"] < 0.5
    assert len(corpus["models"]) == 2
    assert corpus["uar"] == pytest.approx(np.mean([model["uar"] for model in corpus["models"]]))
    assert corpus["sd"] == pytest.approx(np.std([model["uar"] for model in corpus["models"]], ddof=1))
    assert sum(len(model["shuffled"]) for model in corpus["models"]) == 4
    assert pick(found, condition="dann", attribute="corpus")["uar"] < corpus["uar"] - 0.2
    assert pick(found, condition="dann", attribute="emotion")["uar"] > 0.6


def test_the_gap_to_a_held_out_corpus(fabricate_corpora):
    def layer(condition, rows, rng):
        own = np.where(rows["corpus"] == "emodb", 3.0, -3.0)
        return np.column_stack([own, np.zeros((len(rows), 5))]) + rng.normal(size=(len(rows), 6))

    run = fabricate_corpora(seeds=(0,), hidden=layer, conditions=({"name": "plain"},))
    found, notes = probe_run(read_run_files(run))
    gap = pick(found, attribute="held_out")
    assert gap["n_classes"] == 2
    by_fold = {model["fold"]: model["uar"] for model in gap["models"]}
    assert by_fold["corpus_emodb"] > 0.95
    assert by_fold["corpus_savee"] < 0.8
    # of each training corpus dev has one speaker, so that no speaker-disjoint probe can tell them apart
    assert [note for note in notes if note.startswith("corpus is not probed in plain")]


def test_hidden_vectors_of_dev_and_of_older_runs(fabricate_corpora):
    run = fabricate_corpora(seeds=(0,), hidden=telling_layer, conditions=({"name": "plain"},))
    files = read_run_files(run)
    job = run / "jobs/plain/seed_0/corpus_savee"
    split = json.loads((job / "split.json").read_text())
    values, ids = read_hidden(files, job)
    assert ids == split["test"] + split["dev"] == hidden_ids(files, job)
    assert len(values) == len(ids)
    # dev utterances of speakers that were trained on are left out
    moved = split["dev"][:1]
    mate = files.utterances.loc[moved[0], "speaker"]
    (job / "split.json").write_text(json.dumps({**split, "train": split["train"] + moved}))
    values, ids = read_hidden(files, job)
    assert len(values) == len(ids)
    assert not [i for i in ids if files.utterances.loc[i, "speaker"] == mate]
    from safetensors.numpy import load_file, save_file

    save_file({"values": load_file(job / "hidden.safetensors")["values"]}, job / "hidden.safetensors")
    assert read_hidden(files, job)[1] == split["test"]


def test_who_has_heard_the_test_speakers(fabricate_corpora):
    run = fabricate_corpora(seeds=(0,))
    recipe = json.loads((run / "resolved.json").read_text())

    def found(sources=(), **more):
        (run / "resolved.json").write_text(json.dumps({**recipe, **more}))
        described = {name: {"stores": {"emodb": {"source": source}}} for name, source in dict(sources).items()}
        (run / "data.json").write_text(json.dumps({"conditions": described}))
        return transductive_conditions(read_run_files(run))

    assert found() == {"heard"}
    assert found(normalisation={"mode": "per_speaker"}) == {"plain", "dann", "heard"}
    # an encoder's own training, alone or as a part of joined vectors; one that heard others only is none
    tested = read_run_files(run).utterances["speaker"].iloc[0]
    toy = {"encoder": "toy", "speakers": [tested, "other/1"]}
    assert found({"dann": toy, "plain": {"encoder": "toy", "speakers": ["other/1"]}}) == {"dann", "heard"}
    assert found({"plain": {"encoder": "joined", "parts": [{"source": toy}]}}) == {"plain", "heard"}
    # unlabelled audio of other speakers is not the test speakers' own
    for path in run.glob("jobs/heard/seed_0/*/split.json"):
        split = json.loads(path.read_text())
        path.write_text(json.dumps({**split, "unlabelled": split["dev"]}))
    assert found() == set()
    import shutil

    shutil.rmtree(run / "jobs")
    assert found() == {"heard"}  # before any job the recipe tells


PAPER = [
    paper("Emo-DB", "plain", 40.0, minimum=39.0, maximum=41.0),
    paper("average", "plain", 50.0),
    paper("average_held_out", "dann", 51.0),
    paper("SUSAS", "plain", 33.3),
    paper("savee", "unknown", 22.2),
    paper("savee", "plain", 11.1, view="arousal"),
]


def said(name, seed, fold):
    if name != "dann":
        return {}
    return {
        "warnings": [f"phase train: domain_adversarial: collapse after {seed + 3} epochs"]
        if fold != "corpus_tess"
        else [],
        "left_out_domains": {"language": "only en in the training audio"} if fold == "corpus_emodb" else {},
        "parameters": 2_345_678,
    }


def test_the_page_of_a_run_of_several_corpora(fabricate_corpora, monkeypatch):
    monkeypatch.setattr("repkit.evaluation.probe.MOST_MODELS", 1)
    monkeypatch.setattr("repkit.evaluation.probe.N_SHUFFLES", 1)
    run = fabricate_corpora(paper=PAPER, done=said, hidden=telling_layer)
    text = render(run, maps=False).read_text()
    results = json.loads((run / "results.json").read_text())
    uar = pick(results["corpora"], condition="plain", corpus="emodb", checkpoint="selected")["uar"]
    cell = f"{100 * uar['mean']:.1f} ± {100 * uar['sd']:.1f} [{100 * uar['low']:.1f}, {100 * uar['high']:.1f}]"
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("| emodb |")).startswith(
        f"| emodb | yes | 48 | 4 | 4 | 25.0 | {cell}"
    )
    assert f"| emodb | plain | 40.0 (39.0 to 41.0) | {cell} | {100 * uar['mean'] - 40:+.1f} |" in text
    assert "| mean over this run's corpora | plain | 50.0 |" in text
    assert "| mean over this run's corpora held out | dann | 51.0 |" in text
    assert "Published, not run here: SUSAS (plain 33.3); savee (unknown 22.2)." in text
    assert "| savee | plain | 11.1 |" not in text  # another view
    assert "| corpus | held out | utterances | speakers | classes | chance | plain | dann | heard † |" in text
    assert (
        "† transductive: normalisation, training or the encoder's own training has heard audio of the test speakers, without "
        "labels (heard)" in text
    )
    assert "## What is better than plain?" in text
    assert re.search(r"\*\*dann is (not )?(better|worse)\*\* than plain|Whether \*\*dann\*\* is better", text)
    assert "**dann** against plain: mean over corpora (4)" in text
    assert (
        "- condition dann, 6 of 8 trainings (seed 0, fold corpus_emodb; seed 0, fold corpus_iemocap; seed 0, fold corpus_savee and 3 more): phase train: domain_adversarial: collapse after 3 epochs"
        in text
    )
    assert (
        "- condition dann: the domain language is left out in 2 of 8 trainings: only en in the training audio" in text
    )
    assert "| dann | system | no | 2 345 678 | `objectives =" in text
    assert "| plain | reference | no | - | as the recipe says |" in text
    assert re.search(r"\| domain_?.?adversarial: corpus accuracy \| \d+\.\d \(chance 25\.0\) \|", text)
    assert "| plain | held out | **" in text
    assert "Does the vector help" not in text
    assert "nan" not in text.lower()
    shown = set(re.findall(r"\(figures/([^)]+)\)", text))
    assert {"corpora.png", "matrix.png", "figures.png", "curves.png", "scores.png"} <= shown
    assert shown == {path.name for path in (run / "figures").iterdir()}
    for name in ("corpora.png", "matrix.png", "figures.png"):
        with Image.open(run / "figures" / name) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_corpus_and_emotion_stand_side_by_side(fabricate_corpora, monkeypatch):
    from repkit.report import maps

    drawn = {}
    monkeypatch.setattr(maps, "project", lambda values: values[:, :2])
    monkeypatch.setattr(maps, "MOST_POINTS", 80)

    def catch(points, attributes, title, path):
        drawn[title] = (len(points), list(attributes), attributes["corpus"])
        return path

    monkeypatch.setattr(maps, "draw_map", catch)
    run = fabricate_corpora(seeds=(0,), hidden=telling_layer, conditions=({"name": "plain"},))
    probe = {"condition": "plain", "attribute": "held_out", "uar": 0.8, "chance": 0.5, "shuffled": 0.45}
    ((_, caption),) = maps.draw_maps(read_run_files(run), run, [probe])
    ((title, (n, names, corpora)),) = drawn.items()
    assert title == "Last hidden layer, plain, seed 0, fold corpus_iemocap"
    assert names[:2] == ["corpus", "emotion"]
    # iemocap fills its quarter of the points, the dev speakers' corpora give all they have up to theirs
    assert (n, corpora.count("iemocap")) == (20 + 12 + 9 + 4, 20)
    assert "dev and test utterances, all of speakers outside train" in caption
    assert "held out 80.0 (chance 50.0, shuffled labels 45.0)" in caption


def test_a_vector_is_compared_with_its_own_settings(fabricate_corpora):
    conditions = (
        {"name": "plain"},
        {"name": "wide", "set": {"model": {"width": 2}}},
        {"name": "wide.Li", "embeddings": "out/li", "set": {"model": {"width": 2}}},
    )
    run = fabricate_corpora(conditions=conditions, seeds=(0,))
    results = compute_results(run, n_resamples=50, probes=False)
    pairs = [(d["condition"], d["against"], d["role"]) for d in results["differences"] if d["checkpoint"] == "last"]
    assert pairs == [
        ("wide.Li", "plain", "baseline"), ("wide.Li", "wide", "own_baseline"), ("wide", "plain", "baseline"),
    ]  # fmt: skip
    text = "\n".join(worth_part(Page(read_run_files(run), results, {})))
    assert "over wide (same settings, no vector)" in text
    assert "wide.Li - wide (same settings, no vector)" in text


def test_several_runs_beside_each_other(fabricate_corpora):
    run = fabricate_corpora(seeds=(0,))
    text = compare_runs([run])
    assert "| mean over corpora | against plain |" in text
    mean = pick(
        compute_results(run, n_resamples=2000, probes=False)["corpus_means"],
        condition="dann",
        over="all",
        checkpoint="selected",
    )["uar"]
    row = next(line for line in text.splitlines() if "| dann |" in line)
    assert f"| {100 * mean['mean']:.1f} [{100 * mean['low']:.1f}, {100 * mean['high']:.1f}] |" in row
