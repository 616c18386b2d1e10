import numpy as np
import pandas as pd
import pytest

from repkit.errors import DataError
from repkit.evaluation import predictions

VIEWS = {"emotion": ("anger", "neutral"), "arousal": ("low", "medium", "high")}


def table(view="emotion", fold="f1", seed=0, condition="BL", ids=("c/1", "c/2"), **more):
    values = np.array([[0.6, 0.4], [0.2, 0.8]], dtype=np.float32)
    if view == "arousal":
        values = np.array([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], dtype=np.float32)
    settings = dict(part="test", checkpoint="selected", labels=["anger" if view == "emotion" else "low", None])
    return predictions.prediction_table(
        condition=condition, seed=seed, fold=fold, view=view, classes=VIEWS[view], ids=ids, probabilities=values,
        **(settings | more),
    )  # fmt: skip


def test_written_is_what_is_read(tmp_path):
    both = pd.concat([table(), table("arousal")], ignore_index=True)
    predictions.write_predictions(tmp_path / "p.parquet", both, VIEWS)
    read = pd.read_parquet(tmp_path / "p.parquet")
    predictions.validate(read, VIEWS, "p.parquet")
    assert list(read.columns) == list(predictions.COLUMNS)
    assert read["prediction"].tolist() == ["anger", "neutral", "high", "low"]
    assert read["label"].tolist()[:1] == ["anger"]
    assert read["label"].isna().tolist() == [False, True, False, True]
    assert read["probabilities"][2].dtype == np.float32
    assert read["probabilities"][2].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert list(tmp_path.iterdir()) == [tmp_path / "p.parquet"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(logit=1.0), "column 'logit' is unknown"),
        (lambda t: t.drop(columns="label"), "column 'label' is missing"),
        (lambda t: t.assign(prediction="angr"), "did you mean 'anger'"),
        (lambda t: t.assign(label="joy"), "column label: 'joy'"),
        (lambda t: t.assign(part="train"), "column part: 'train'"),
        (lambda t: t.assign(checkpoint="best"), "column checkpoint: 'best'"),
        (lambda t: t.assign(view="emotoin"), "did you mean 'emotion'"),
        (lambda t: pd.concat([t, t], ignore_index=True), "is predicted twice"),
        (lambda t: t.assign(probabilities=[np.ones(3, np.float32)] * 2), r"lists of \[3\] probabilities"),
    ],
)
def test_what_breaks_the_schema_is_refused(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        predictions.write_predictions(tmp_path / "p.parquet", change(table()), VIEWS)
    assert list(tmp_path.iterdir()) == []


def test_probabilities_must_fit_and_be_finite():
    with pytest.raises(DataError, match=r"expected \(3, 2\)"):
        table(ids=("1", "2", "3"))
    with pytest.raises(DataError, match="not finite, first for 'c/2'"):
        predictions.prediction_table(
            condition="BL", seed=0, fold="f", part="test", checkpoint="last", view="emotion", classes=VIEWS["emotion"],
            ids=["c/1", "c/2"], labels=[None, None], probabilities=np.array([[0.5, 0.5], [np.nan, 1]]),
        )  # fmt: skip


def write_job(run, rows, done=True, folder=None):
    first = rows.iloc[0]
    job = run / (folder or f"jobs/{first.condition}/seed_{first.seed}/{first.fold}")
    job.mkdir(parents=True)
    predictions.write_predictions(job / "predictions.parquet", rows, VIEWS)
    if done:
        (job / "done.json").write_text("{}")


def test_a_run_is_read_job_by_job(tmp_path):
    write_job(tmp_path, table(fold="f2", seed=1))
    write_job(tmp_path, table(fold="f1", seed=1))
    write_job(tmp_path, table(fold="f1", seed=2, condition="C"), done=False)
    write_job(tmp_path, table(fold="f3", seed=1), folder="jobs/BL/seed_1/f3.tmp.4711")
    rows, jobs = predictions.read_run(tmp_path, VIEWS)
    assert jobs == ["BL/seed_1/f1", "BL/seed_1/f2"]
    assert rows["fold"].tolist() == ["f1", "f1", "f2", "f2"]
    empty, none = predictions.read_run(tmp_path / "nowhere", VIEWS)
    assert (len(empty), none) == (0, [])


def test_a_moved_or_damaged_job_is_refused(tmp_path):
    write_job(tmp_path, table(fold="f2", seed=1), folder="jobs/BL/seed_0/f2")
    with pytest.raises(DataError, match="rows of seed 1; expected only job BL/seed_0/f2"):
        predictions.read_run(tmp_path, VIEWS)
    path = tmp_path / "jobs/BL/seed_0/f2/predictions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="readable parquet"):
        predictions.read_run(tmp_path, VIEWS)
