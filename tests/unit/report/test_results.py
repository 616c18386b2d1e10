import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from repkit.errors import DataError
from repkit.evaluation.differences import compare, verdict
from repkit.evaluation.intervals import Interval
from repkit.evaluation.predictions import read_run
from repkit.evaluation.results import compute_results, score_condition, score_groups, score_run

SMALL = {"emotion": ("anger", "happiness", "neutral", "sadness")}


def pick(found, **wanted):
    (one,) = [row for row in found if all(row[key] == value for key, value in wanted.items())]
    return one


def test_scores_are_what_scikit_learn_gives_row_by_row(fabricate):
    run = fabricate(conditions=("Li",), seeds=(0, 1), n_speakers=8, views=SMALL, extra=False)
    results = score_run(run, n_resamples=200)
    assert json.loads((run / "results.json").read_text()) == results
    rows, _ = read_run(run, SMALL)
    rows = rows[(rows.part == "test") & (rows.checkpoint == "selected") & (rows.condition == "Li")]
    found = pick(results["scores"], condition="Li", checkpoint="selected", view="emotion")
    by_seed = []
    for seed, part in rows.groupby("seed"):
        folds = [balanced_accuracy_score(p.label, p.prediction) for _, p in part.groupby("fold")]
        by_seed.append(np.mean(folds))
        one = found["seeds"][str(seed)]
        assert one["uar"] == pytest.approx(np.mean(folds))
        assert one["uar_pooled"] == pytest.approx(balanced_accuracy_score(part.label, part.prediction))
        assert one["macro_f1"] == pytest.approx(f1_score(part.label, part.prediction, average="macro"))
        assert one["wa"] == pytest.approx((part.label == part.prediction).mean())
    assert found["uar"] == pytest.approx(
        {"mean": np.mean(by_seed), "min": min(by_seed), "max": max(by_seed), "sd": np.std(by_seed, ddof=1)}
    )
    assert found["uar_pooled"]["low"] < found["uar_pooled"]["mean"] < found["uar_pooled"]["high"]
    assert found["recall"]["anger"] == pytest.approx((rows[rows.label == "anger"].prediction == "anger").mean())
    assert np.sum(found["confusion"]) == len(rows)
    assert results["n"] == {"utterances": 96, "speakers": 8, "folds": 8, "seeds": 2, "conditions": 2}
    assert results["complete"]
    assert all(
        row["protocol_id"] == "0123456789ab" for kind in ("scores", "differences", "groups") for row in results[kind]
    )
    assert {(row["condition"], row["checkpoint"]) for row in results["scores"]} == {
        (c, k) for c in ("BL", "Li") for k in ("selected", "last")
    }


def frame(rows):
    return pd.DataFrame(rows, columns=["seed", "fold", "speaker", "id", "label", "prediction"])


def test_by_hand():
    # seed 0: fold f recalls a 1, b 0 -> .5; fold g has only a: 1/2 -> .5. pooled a 2/3, b 0 -> 1/3
    # seed 1: all right
    def rows(seed, answers):
        cells = [("f", "s", "1", "a"), ("f", "s", "2", "b"), ("g", "t", "3", "a"), ("g", "t", "4", "a")]
        return [(seed, *cell, answer) for cell, answer in zip(cells, answers)]

    table = frame(rows(0, "aaab") + rows(1, "abaa"))
    found = score_condition(table, ("a", "b", "c"), 50)
    assert found["seeds"]["0"]["uar"] == pytest.approx(0.5)
    assert found["seeds"]["0"]["uar_pooled"] == pytest.approx(1 / 3)
    assert found["uar"]["mean"] == pytest.approx(0.75)
    assert found["uar"]["sd"] == pytest.approx(np.sqrt(0.125))
    assert found["recall"] == {"a": pytest.approx(5 / 6), "b": 0.5, "c": None}
    assert found["confusion"] == [[5, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found["uar_by_fold"]["0"] == {"f": 0.5, "g": 0.5}
    json.dumps(found, allow_nan=False)


def test_differences_are_paired_and_roles_decide_the_pairs(fabricate):
    run = fabricate(n_speakers=8, seeds=(0, 1), views=SMALL, extra=False, n_each=6)
    results = compute_results(run, n_resamples=300)
    pairs = [(d["condition"], d["against"]) for d in results["differences"] if d["checkpoint"] == "selected"]
    assert pairs == [
        ("C", "BL"), ("C", "untrained"), ("C", "stats"), ("Li", "BL"), ("Li", "untrained"), ("Li", "stats"),
        ("untrained", "BL"), ("stats", "BL"),
    ]  # fmt: skip
    one = pick(results["differences"], condition="Li", against="BL", checkpoint="selected")
    scores = {
        c: pick(results["scores"], condition=c, checkpoint="selected")["uar_pooled"]["mean"] for c in ("Li", "BL")
    }
    assert one["difference"] == pytest.approx(scores["Li"] - scores["BL"])
    assert one["verdict"] == "helps"
    assert one["low"] > 0
    assert one["p_sign_flip"] <= one["p_holm"]
    assert np.mean(list(one["by_fold"].values())) == pytest.approx(one["difference"], abs=0.02)
    assert one["n_folds"] == 8


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "sizes", "said"),
    [
        (0.03, 0.01, 0.05, 0.01, [10], "helps"),
        (0.03, 0.01, 0.05, 0.06, [5], "cannot tell"),
        (-0.03, -0.05, -0.01, 0.01, [10], "hurts"),
        (-0.01, -0.03, 0.005, 0.4, [10], "does not help"),
        (-0.01, -0.03, 0.005, 0.4, [4], "cannot tell"),
        (0.0, 0.0, 0.0, 1.0, [10], "does not help"),
        (0.01, -0.03, 0.05, 0.4, [10], "cannot tell"),
        (0.01, None, None, 1.0, [1], "cannot tell"),
        # widened, 0.018 above the value become 0.018 sqrt(6 / 5) 2.571 / 1.960 = 0.0259, or with 24 speakers 0.0194
        (-0.012, -0.03, 0.006, 0.4, [6], "cannot tell"),
        (-0.012, -0.03, 0.006, 0.4, [24], "does not help"),
        # over two corpora sqrt(6 / 5) 2.228 / 1.960 and 0.0214 above: still below one point, but not with a corpus of five
        (-0.012, -0.03, 0.0052, 0.4, [6, 6], "does not help"),
        (-0.012, -0.03, 0.0052, 0.4, [5, 24], "cannot tell"),
    ],
)
def test_verdicts(value, low, high, p, sizes, said):
    assert verdict(Interval(value, low, high, sum(sizes), 100), p, sizes) == said


def test_only_what_both_predicted_is_compared():
    one = frame([(0, "f", "s", "1", "a", "a"), (0, "f", "s", "2", "b", "b"), (1, "f", "s", "1", "a", "a")])
    other = frame([(0, "f", "s", "2", "b", "a"), (0, "f", "s", "1", "a", "a")])
    found = compare(one, other, ("a", "b"), 20)
    assert (found["n_utterances"], found["n_seeds"], found["difference"]) == (2, 1, 0.5)
    assert found["low"] is None
    nothing = compare(one, other[:0], ("a", "b"), 20)
    assert (nothing["difference"], nothing["verdict"]) == (None, "cannot tell")


def test_an_incomplete_run_is_scored_and_marked(fabricate):
    gone = ["Li/seed_1/speaker_03", "Li/seed_0/speaker_00"]
    run = fabricate(conditions=("Li",), seeds=(0, 1), views=SMALL, extra=False, skip=gone)
    results = compute_results(run, n_resamples=50)
    assert not results["complete"]
    assert sorted(results["missing_jobs"]) == sorted(gone)
    assert results["n_jobs"] == {"planned": 32, "finished": 30}
    assert pick(results["scores"], condition="BL", checkpoint="last")["complete"]
    assert not pick(results["scores"], condition="Li", checkpoint="last")["complete"]
    assert pick(results["differences"], condition="Li", checkpoint="last")["n_utterances"] == 96


def test_nothing_predicted_yet_is_no_error(fabricate):
    everything = [f"BL/seed_0/speaker_{s:02d}" for s in range(4)]
    run = fabricate(conditions=(), seeds=(0,), n_speakers=4, views=SMALL, extra=False, skip=everything)
    results = compute_results(run)
    assert results["scores"] == []
    assert results["missing_jobs"] == everything


def test_groups_and_the_worst():
    rows = []
    for s in range(4):
        for k in range(12):
            right = k % 12 < (3, 9, 12, 12)[s]
            rows.append((0, "f", f"c/{s}", f"{s}{k}", "a", "a" if right else "b"))
    rows.append((0, "f", "c/tiny", "t", "a", "b"))  # one clip, all wrong: too few to be the worst
    table = frame(rows)
    table["gender"] = ["female" if r[2] in ("c/0", "c/1") else "male" for r in rows]
    table["corpus"] = "c"
    found = score_groups(table, ("a", "b"), 100)
    speakers = {g["group"]: g for g in found if g["kind"] == "speaker"}
    assert [speakers[f"c/{s}"]["uar"] for s in range(4)] == [0.25, 0.75, 1.0, 1.0]
    assert [name for name, g in speakers.items() if g["worst"]] == ["c/0"]
    genders = {g["group"]: g for g in found if g["kind"] == "gender"}
    assert genders["female"]["uar"] == 0.5
    assert (genders["female"]["low"], genders["female"]["high"]) == (0.25, 0.75)
    assert genders["female"]["worst"]
    assert not [g for g in found if g["kind"] == "corpus"]


def test_damaged_run_directories_are_named(fabricate, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        compute_results(tmp_path / "nowhere")
    run = fabricate(conditions=(), seeds=(0,), n_speakers=3, views=SMALL, extra=False)
    protocol = (run / "protocol.json").read_text()
    (run / "protocol.json").write_text("{")
    with pytest.raises(DataError, match=r"protocol.json: .*JSON object"):
        compute_results(run)
    (run / "protocol.json").write_text(protocol)
    table = pd.read_parquet(run / "utterances.parquet")
    table[table["speaker"] != "toy/01"].to_parquet(run / "utterances.parquet")
    with pytest.raises(DataError, match=r"'toy/01_000' is predicted but not in utterances.parquet"):
        compute_results(run)
    (run / "utterances.parquet").unlink()
    with pytest.raises(DataError, match="expected the table of utterances"):
        compute_results(run)
