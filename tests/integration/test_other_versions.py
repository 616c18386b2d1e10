"""A run that meets other versions of its components: continued, reported, and applied where a stranger claims their names."""

import json
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from cli_helpers import RECIPE, cli, ok, write_corpus

from repkit.plugins import discover
from repkit.plugins.discover import components
from repkit.runs.directory import read_json

TRAIN = ("train-ser", "--recipe", "tiny.toml", "--corpus", "toy=toy", "--workers", "1", "--set", "seeds=[0]")


class Stranger:
    version = "9.9"
    name = "stranger"


@pytest.fixture
def claimed(monkeypatch):
    """A stranger claims the model and the frontend of the recipe, once it is called."""
    real = discover.entry_points

    def claim():
        points = []
        for group, name in (("repkit.models", "attentive_cnn"), ("repkit.frontends", "log_mel")):
            points.append(EntryPoint(name, "collections:OrderedDict", group))
            vars(points[-1]).update(dist=Stranger())
        monkeypatch.setattr(
            discover, "entry_points", lambda group: [*real(group=group), *(p for p in points if p.group == group)]
        )

    return claim


def test_a_run_says_and_reports_what_it_was_trained_with(tmp_path, monkeypatch, claimed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPKIT_CACHE", str(tmp_path / "cache"))
    Path("tiny.toml").write_text(RECIPE, encoding="utf-8")
    write_corpus(tmp_path / "toy")
    first = ok(*TRAIN)
    assert "versions:" not in first.err
    (run,) = Path("runs/tiny").iterdir()
    jobs = sorted(run.glob("jobs/BL/seed_0/*"))
    assert len(jobs) == 2
    (kept,) = (c.origin for c in components("repkit.models") if c.name == "attentive_cnn")
    described = read_json(jobs[0] / "model.json")
    assert described["trained_with"] == {
        "repkit.frontends: log_mel": kept,
        "repkit.models: attentive_cnn": kept,
        "repkit.objectives: multi_view": kept,
    }

    # as if the first job had been trained by another version, and the run had been stopped before the second
    described["trained_with"]["repkit.objectives: multi_view"] = "repkit 0.0.1"
    (jobs[0] / "model.json").write_text(json.dumps(described))
    shutil.rmtree(jobs[1])
    (run / "results.json").unlink()
    again = " ".join(ok(*TRAIN).err.split())
    name = f"BL/seed_0/{jobs[0].name}"
    said = f"versions: 1 job of this run ({name}) trained with repkit 0.0.1, the others with {kept}"
    assert said in again
    page = (run / "report.md").read_text(encoding="utf-8")
    assert said in page
    other = f"BL/seed_0/{jobs[1].name}"
    assert f"repkit.objectives: multi_view: repkit 0.0.1, 1 job ({name}); {kept}, 1 job ({other})." in page

    sound = next((tmp_path / "toy").rglob("*.wav"))
    before = ok("predict", run, sound, "--out", "before.csv")
    claimed()
    after = ok("predict", run, sound, "--out", "after.csv")
    assert Path("after.csv").read_text() == Path("before.csv").read_text()
    assert before.err == after.err
    done = cli(*TRAIN, "--dry-run")
    assert done.code in (2, 3)
    assert "write 'repkit:attentive_cnn' or 'stranger:attentive_cnn' to choose one" in done.err
