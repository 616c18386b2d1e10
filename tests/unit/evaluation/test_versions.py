"""Which versions the jobs of a run were trained with, as its report and whoever continues it are told."""

import json

import pytest

from repkit.evaluation.versions import continued_notes, job_versions, mixed_lines

NET, LOSS, MEL = "repkit.models: net", "repkit.objectives: loss", "repkit.frontends: log_mel"


@pytest.fixture
def run(tmp_path):
    def job(fold, trained_with=None, done=True, **more):
        folder = tmp_path / "jobs" / "BL" / "seed_0" / fold
        folder.mkdir(parents=True)
        if done:
            (folder / "done.json").write_text("{}")
        kept = {} if trained_with is None else {"trained_with": trained_with}
        (folder / "model.json").write_text(json.dumps({**kept, **more}))

    return tmp_path, job


def test_jobs_are_listed_by_component_and_version(run):
    path, job = run
    job("a", {NET: "mine 1", LOSS: "mine 1", MEL: "repkit 0.1.0"})
    job("b", {NET: "mine 2", LOSS: "mine 2", MEL: "repkit 0.1.0"})
    # a job of before all of them were kept
    job("c", model={"name": "net", "component": "mine 1"}, frontend={"name": "log_mel", "component": "repkit 0.1.0"})
    job("d", {NET: "mine 3"}, done=False)
    job("e.tmp.1", {NET: "mine 3"})
    assert job_versions(path) == {
        MEL: {"repkit 0.1.0": ["BL/seed_0/a", "BL/seed_0/b", "BL/seed_0/c"]},
        NET: {"mine 1": ["BL/seed_0/a", "BL/seed_0/c"], "mine 2": ["BL/seed_0/b"]},
        LOSS: {"mine 1": ["BL/seed_0/a"], "mine 2": ["BL/seed_0/b"]},
    }
    assert mixed_lines(path) == [
        f"{NET}: mine 1, 2 jobs (BL/seed_0/a, BL/seed_0/c); mine 2, 1 job (BL/seed_0/b)",
        f"{LOSS}: mine 1, 1 job (BL/seed_0/a); mine 2, 1 job (BL/seed_0/b)",
    ]


def test_components_that_changed_together_are_told_together(run):
    path, job = run
    for fold in "abcdefg":
        job(fold, {NET: "mine 1", LOSS: "mine 1", MEL: "repkit 0.1.0"})
    assert mixed_lines(path) == []
    now = {NET: "mine 2", LOSS: "mine 2", MEL: "repkit 0.1.0"}
    (note,) = continued_notes(path, now)
    listed = ", ".join(f"BL/seed_0/{fold}" for fold in "abcde")
    assert note.startswith(
        f"versions: 7 jobs of this run ({listed} and 2 more) trained with mine 1, the others with mine 2"
    )
    assert f"({NET}, {LOSS})" in note
    assert continued_notes(path, {**now, NET: "mine 1", LOSS: "mine 1"}) == []
    assert continued_notes(path, {NET: None}) == []  # not installed: the run ends for that
