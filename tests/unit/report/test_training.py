import json

import numpy as np
import pytest

from repkit.errors import DataError
from repkit.evaluation.run_files import read_run_files
from repkit.report.training import chance_of, figures_table, final_mean, read_curves, read_figures, warning_lines
from repkit.report.training_figures import draw_curves, draw_figures

ONE = ({"name": "plain"},)


def record(epoch, phase, uar, corpus=None, **more):
    found = {"epoch": epoch, "phase": phase, "train_loss": 1.0 / epoch, **more}
    found["dev"] = {"emotion": {"uar": uar, "wa": 0, "corpus_uar": uar + 0.1}}
    return found | ({"corpus": corpus} if corpus else {})


@pytest.fixture
def phased(fabricate_corpora):
    """One job with a shared phase of three epochs and one of adapters for two corpora, of two epochs and one."""
    run = fabricate_corpora(kind="union", conditions=ONE, seeds=(0,))
    lines = [record(e, "shared", 0.1 * e) for e in (1, 2, 3)]
    lines += [record(4, "adapters.emodb", 0.4, "emodb"), record(5, "adapters.emodb", 0.5, "emodb")]
    lines += [record(6, "adapters.savee", 0.6, "savee")]
    job = run / "jobs/plain/seed_0/rotation_0"
    (job / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (job / "done.json").write_text(json.dumps({"selected_epoch": 5}))
    (run / "jobs/plain/seed_0/rotation_1/done.json").unlink()
    return run


def test_phases_are_curves_of_their_own(phased):
    curves = read_curves(read_run_files(phased), "emotion")
    assert list(curves) == ["shared", "adapters"]
    # the recipe selects by dev.corpus_uar
    assert curves["shared"]["plain"]["dev_uar"] == pytest.approx(np.array([[0.2, 0.3, 0.4]]))
    adapters = curves["adapters"]["plain"]
    assert adapters["dev_uar"][0] == pytest.approx([0.5, 0.6])
    assert adapters["dev_uar"][1][0] == pytest.approx(0.7)
    assert np.isnan(adapters["dev_uar"][1][1])
    assert curves["shared"]["plain"]["selected"].tolist() == []
    assert adapters["selected"].tolist() == [2]
    draw_curves(curves, "emotion", phased / "curves.png")
    assert (phased / "curves.png").stat().st_size > 5000


def test_figures_of_the_last_epoch(fabricate_corpora):
    run = fabricate_corpora(kind="union", seeds=(0,), epochs=3, conditions=({"name": "plain"}, {"name": "dann"}))
    figures = read_figures(read_run_files(run))
    assert list(figures["domain_adversarial.spread"]) == ["dann"]
    assert figures["domain_adversarial.spread"]["dann"].shape == (2, 3)
    text = figures_table(figures, {"dann": "dann †"})
    assert text.splitlines()[0] == "| figure | dann † |"
    assert "| domain adversarial: gradient scale | 0.3 |" in text
    expected = 100 * np.mean(figures["domain_adversarial.corpus_accuracy"]["dann"][:, -1])
    assert f"| domain adversarial: corpus accuracy | {expected:.1f} (chance 25.0) |" in text
    assert "corpus chance" not in text
    assert draw_figures(figures, run / "figures.png") is not None
    assert draw_figures({}, run / "none.png") is None


def test_means_and_chance():
    values = np.array([[1.0, 2.0, np.nan], [4.0, np.nan, 6.0], [np.nan] * 3])
    assert final_mean(values) == 4.0
    figures = {name: {} for name in ("o.x_accuracy", "o.x_balanced_accuracy", "o.x_chance", "o.y_uar", "o.spread")}
    assert chance_of("o.x_balanced_accuracy", figures) == "o.x_chance"
    assert chance_of("o.x_accuracy", figures) == "o.x_chance"
    assert chance_of("o.y_uar", figures) is None
    assert chance_of("o.spread", figures) is None


def test_warnings_are_counted_once_and_named(fabricate_corpora):
    told = {("plain", 0, "rotation_0"): ["a: loss 1.5", "b"], ("plain", 1, "rotation_0"): ["a: loss 2.75"]}
    run = fabricate_corpora(
        kind="union", conditions=ONE, done=lambda *job: {"warnings": told.get(job, [])} if job[1] < 2 else {}
    )
    assert warning_lines(read_run_files(run)) == [
        "condition plain, 2 of 4 trainings (seed 0, fold rotation_0; seed 1, fold rotation_0): a: loss 1.5",
        "condition plain, 1 of 4 trainings (seed 0, fold rotation_0): b",
    ]


def test_a_damaged_log_is_named(phased):
    path = phased / "jobs/plain/seed_0/rotation_0/metrics.jsonl"
    path.write_text("{}\n{")
    with pytest.raises(DataError, match="metrics.jsonl"):
        read_figures(read_run_files(phased))
