"""The number of a cell and its interval, on predictions written by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from repkit.errors import DataError
from repkit.evaluation.intervals import bootstrap, count_by_speaker
from repkit.evaluation.predictions import prediction_table, write_predictions
from repkit.evaluation.results import compute_results
from repkit.workflows.reproduce.run import _where
from repkit.workflows.reproduce.scores import RunScores

CLASSES = ("anger", "sadness", "neutral")


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Return what writes a run: folds of speakers, and told(seed, corpus, speaker, number, label) -> prediction."""
    monkeypatch.setattr("os.fsync", lambda handle: None)

    def make(folds, told, seeds=(0, 1), n_each=6, parts=("test",), corpus_of=lambda speaker: "toy"):
        run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        speakers = sorted({s for some in folds.values() for s in some})
        rows = [
            {
                "id": f"{corpus_of(s)}/{s}_{k}", "corpus": corpus_of(s), "speaker": f"{corpus_of(s)}/{s}",
                "gender": None, "language": None, "target_emotion": CLASSES[k % 3],
            }
            for s in speakers for k in range(n_each)
        ]  # fmt: skip
        run.mkdir()
        pd.DataFrame(rows).to_parquet(run / "utterances.parquet")
        views = {"emotion": CLASSES}
        corpora = {corpus_of(s): "f" for s in speakers}
        protocol = {"id": "0" * 12, "parts": {"views": {"emotion": list(CLASSES)}, "corpora": corpora}, "audit": []}
        protocol["folds"] = [{"name": name, "train": 1, "dev": 0, "test": 1} for name in folds]
        (run / "protocol.json").write_text(json.dumps(protocol))
        (run / "resolved.json").write_text(json.dumps({"name": "toy", "seeds": list(seeds), "conditions": []}))
        for seed in seeds:
            for fold, some in folds.items():
                job = run / "jobs" / "BL" / f"seed_{seed}" / fold
                job.mkdir(parents=True)
                tables = []
                for part in parts:
                    of = [r for r in rows if r["speaker"].split("/")[1] in some]
                    names = [
                        told(
                            seed,
                            r["corpus"],
                            r["speaker"].split("/")[1],
                            int(r["id"].split("_")[1]),
                            r["target_emotion"],
                        )
                        for r in of
                    ]
                    values = np.array([[float(c == name) for c in CLASSES] for name in names])
                    tables.append(
                        prediction_table(
                            condition="BL", seed=seed, fold=fold, part=part, checkpoint="selected", view="emotion",
                            classes=CLASSES, ids=[r["id"] for r in of], labels=[r["target_emotion"] for r in of],
                            probabilities=values,
                        )
                    )  # fmt: skip
                write_predictions(job / "predictions.parquet", pd.concat(tables, ignore_index=True), views)
                (job / "done.json").write_text("{}")
        return run

    return make


def wrong(label):
    return CLASSES[(CLASSES.index(label) + 1) % 3]


def half(seed, corpus, speaker, number, label):
    """Right as often as the speaker's number says, the first utterances first."""
    return label if number < int(speaker[1:]) + seed else wrong(label)


LOSO = {f"speaker_s{n}": [f"s{n}"] for n in range(1, 7)}


def test_the_mean_over_folds_by_hand(make_run):
    # two folds of two and one speakers; 3 utterances each, one per class; right: the first s (+ seed) of a speaker
    run = make_run({"a": ["s1", "s2"], "b": ["s0"]}, half, n_each=3)
    found = RunScores(run).measure("BL", ["toy"])
    # seed 0: fold a has recalls 1, 1/2, 0 = 1/2; fold b 0. seed 1: fold a 1, 1, 1/2 = 5/6; fold b 1, 0, 0 = 1/3
    assert found.seeds == {0: pytest.approx(1 / 4), 1: pytest.approx((5 / 6 + 1 / 3) / 2)}
    assert found.value == pytest.approx((1 / 4 + 7 / 12) / 2)
    assert (found.n_speakers, found.n_utterances, found.n_folds, found.n_used) == (3, 9, 2, 9)
    assert found.chance == pytest.approx(1 / 3)
    # each fold by itself, mean over seeds
    assert found.folds == {"a": pytest.approx((1 / 2 + 5 / 6) / 2), "b": pytest.approx((0 + 1 / 3) / 2)}
    assert np.mean(list(found.folds.values())) == pytest.approx(found.value)
    pooled = RunScores(run).measure("BL", ["toy"], score="pooled")
    assert pooled.folds == found.folds
    assert pooled.seeds == {0: pytest.approx((2 / 3 + 1 / 3 + 0) / 3), 1: pytest.approx((1 + 2 / 3 + 1 / 3) / 3)}
    accuracy = RunScores(run).measure("BL", ["toy"], metric="wa", score="pooled")
    assert accuracy.value == pytest.approx((3 / 9 + 6 / 9) / 2)
    assert accuracy.folds == {"a": pytest.approx((3 / 6 + 5 / 6) / 2), "b": pytest.approx((0 + 1 / 3) / 2)}
    assert "3 speakers are too few" in found.note


def test_the_value_is_that_of_the_results(make_run):
    run = make_run({"a": ["s1", "s2", "s3"], "b": ["s4", "s5"]}, half, seeds=(0, 1, 2))
    score = next(s for s in compute_results(run, probes=False)["scores"] if s["checkpoint"] == "selected")
    found = RunScores(run).measure("BL", ["toy"])
    assert found.value == pytest.approx(score["uar"]["mean"])
    assert RunScores(run).measure("BL", ["toy"], score="pooled").value == pytest.approx(score["uar_pooled"]["mean"])


def test_one_speaker_a_fold_draws_folds(make_run):
    run = make_run(LOSO, half, seeds=(0,))
    found = RunScores(run).measure("BL", ["toy"])
    # of a speaker's six utterances, dealt to three classes in turn, the first n are right
    by_fold = np.array([np.mean([np.mean([k < n for k in range(c, 6, 3)]) for c in range(3)]) for n in range(1, 7)])
    assert found.value == pytest.approx(by_fold.mean())
    drawn = np.random.default_rng(5).choice(by_fold, size=(20000, 6)).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert "one seed" in found.note


def test_one_fold_is_the_bootstrap_of_the_pooled_uar(make_run):
    run = make_run({"all": [f"s{n}" for n in range(1, 7)]}, half, seeds=(0,))
    scores = RunScores(run)
    found = scores.measure("BL", ["toy"])
    columns = (scores.table[c].tolist() for c in ("seed", "speaker", "label", "prediction"))
    other = bootstrap(count_by_speaker(*columns, CLASSES))
    assert found.value == pytest.approx(other.value)
    assert (found.low, found.high) == (pytest.approx(other.low, abs=0.02), pytest.approx(other.high, abs=0.02))


def test_seeds_are_drawn_too(make_run):
    run = make_run(LOSO, lambda seed, *of: of[-1] if seed == 0 else wrong(of[-1]))
    found = RunScores(run).measure("BL", ["toy"])
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)  # all speakers alike: only the seeds differ


def test_a_mean_over_corpora_draws_speakers_within_each(make_run):
    folds = {"x": ["s1", "s2", "s3", "t4", "t5", "t6"]}
    corpus_of = {"s": "one", "t": "two"}
    run = make_run(folds, half, corpus_of=lambda s: corpus_of[s[0]])
    scores = RunScores(run)
    one, two, both = (scores.measure("BL", names) for names in (["one"], ["two"], ["one", "two"]))
    assert both.value == pytest.approx((one.value + two.value) / 2)
    assert both.seeds == {s: pytest.approx((one.seeds[s] + two.seeds[s]) / 2) for s in (0, 1)}
    assert both.folds == {"one/x": one.folds["x"], "two/x": two.folds["x"]}
    assert both.high - both.low < max(one.high - one.low, two.high - two.low)
    assert (one.n_utterances, both.n_utterances, both.n_speakers, both.n_used) == (18, 36, 6, 36)


def test_a_corpus_of_one_speaker_does_not_deny_the_interval_of_a_mean(make_run):
    run = make_run(
        {"x": ["s1", *(f"t{n}" for n in range(2, 8))]}, half, corpus_of=lambda s: {"s": "one", "t": "two"}[s[0]]
    )
    found = RunScores(run).measure("BL", ["one", "two"])
    assert found.low < found.value < found.high
    assert found.note == (
        "optimistic: 2 of 2 corpora have fewer than 8 speakers, 1 of them one, whose spread is not in the interval"
    )


@pytest.mark.parametrize(
    ("published", "decimals", "said"),
    [(50.0, 1, "inside"), (49.96, 1, "inside"), (49.9, 1, "outside"), (49.96, 2, "outside"), (55.05, 1, "inside"), (55.1, 1, "outside")],
)  # fmt: skip
def test_a_printed_number_stands_for_all_that_rounds_to_it(published, decimals, said):
    assert _where(published, decimals, 50.0, 55.0) == said


def test_one_speaker_gives_no_interval(make_run):
    found = RunScores(make_run({"x": ["s1"]}, half)).measure("BL", ["toy"])
    assert (found.low, found.high) == (None, None)
    assert found.note.startswith("no interval")


def test_what_is_not_there_is_named(make_run):
    scores = RunScores(make_run(LOSO, half))
    for more, said in (
        ({"part": "dev"}, "no dev predictions of corpus 'toy'"),
        ({"view": "arousal"}, "no view 'arousal'"),
        ({"checkpoint": "last"}, "no test predictions"),
    ):
        with pytest.raises(DataError, match=said):
            scores.measure("BL", ["toy"], **more)
    with pytest.raises(DataError, match="of corpus 'savee'"):
        scores.measure("BL", ["savee"])
    with pytest.raises(DataError, match="condition 'Li'"):
        scores.measure("Li", ["toy"])


def test_dev_is_scored_where_there_is_one(make_run):
    scores = RunScores(make_run(LOSO, half, parts=("dev", "test")))
    assert scores.measure("BL", ["toy"], part="dev").value == scores.measure("BL", ["toy"]).value


@pytest.mark.parametrize("lost", ["predictions.parquet", "done.json"])
def test_a_run_that_has_lost_jobs_is_not_measured_over_those_that_are_left(make_run, lost):
    run = make_run(LOSO, half)
    for fold in ("speaker_s2", "speaker_s5"):
        for seed in (0, 1):
            (run / "jobs" / "BL" / f"seed_{seed}" / fold / lost).unlink()
    with pytest.raises(DataError, match="4 of 12 jobs of condition 'BL' have no predictions") as error:
        RunScores(run).measure("BL", ["toy"])
    assert error.value.problems == tuple(f"BL/seed_{seed}/speaker_s{n}" for seed in (0, 1) for n in (2, 5))
    with pytest.raises(DataError, match="of condition 'BL'"):
        RunScores(run).measure("BL", ["toy"], part="dev")


def test_of_many_lost_jobs_the_first_are_named(make_run):
    run = make_run(LOSO, half, seeds=range(4))
    for path in run.glob("jobs/*/*/*/predictions.parquet"):
        path.unlink()
    with pytest.raises(DataError, match="24 of 24 jobs") as error:
        RunScores(run).measure("BL", ["toy"])
    assert (len(error.value.problems), error.value.problems[-1]) == (21, "and 4 more")


@pytest.fixture
def fitted(make_run):
    """A run of a model fitted in one go: all it predicts on dev is right, as after a fit on dev; before it reached 1/2 and so on."""
    run = make_run({"a": ["s1", "s2"], "b": ["s3"]}, lambda *of: of[-1], parts=("dev", "test"))
    reached = {(0, "a"): 0.5, (0, "b"): 0.25, (1, "a"): 0.75, (1, "b"): 0.5}
    for (seed, fold), uar in reached.items():
        job = run / "jobs" / "BL" / f"seed_{seed}" / fold
        record = {"epoch": 1, "phase": "fit", "figures": {}, "dev": {"emotion": {"uar": uar}}, "seconds": 0.1}
        (job / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        names = {"a": ["s1", "s2"], "b": ["s3"]}[fold]
        split = {"train": [], "dev": [f"toy/{s}_{k}" for s in names for k in range(6)], "test": [], "unlabelled": []}
        (job / "split.json").write_text(json.dumps(split))
    return run


def test_dev_of_a_model_fitted_in_one_go_is_that_of_the_fit_on_train_alone(fitted):
    found = RunScores(fitted).measure("BL", ["toy"], part="dev")
    # not 1, which its predictions of dev have: the model that made them was fitted on dev as well
    assert RunScores(fitted).measure("BL", ["toy"]).value == 1.0
    assert found.seeds == {0: pytest.approx(0.375), 1: pytest.approx(0.625)}
    assert (found.value, found.low, found.high) == (pytest.approx(0.5), None, None)
    assert found.folds == {"a": pytest.approx(0.625), "b": pytest.approx(0.375)}
    assert (found.n_speakers, found.n_utterances, found.n_folds, found.n_used) == (3, 18, 2, 18)
    assert found.chance == pytest.approx(1 / 3)
    assert found.note.startswith("UAR on dev of the fit on train alone")
    assert "no interval" in found.note


def test_what_fits_did_not_score_on_dev_is_refused(fitted):
    job = fitted / "jobs" / "BL" / "seed_1" / "b"
    for more, corpora in (
        ({"metric": "wa"}, ["toy"]),
        ({"score": "pooled"}, ["toy"]),
        ({}, ["toy", "other"]),
        ({}, ["other"]),
    ):
        with pytest.raises(DataError, match="one UAR on dev for each fold, over toy"):
            RunScores(fitted).measure("BL", corpora, part="dev", **more)
    (job / "metrics.jsonl").write_text('{"epoch": 1, "phase": "fit", "figures": {}}\n')  # chosen by inner folds
    with pytest.raises(DataError, match="no UAR on dev of the fit on train alone"):
        RunScores(fitted).measure("BL", ["toy"], part="dev")
    (job / "metrics.jsonl").write_text('{"epoch": 1,\n')
    with pytest.raises(DataError, match=r"metrics.jsonl: damaged"):
        RunScores(fitted).measure("BL", ["toy"], part="dev")
