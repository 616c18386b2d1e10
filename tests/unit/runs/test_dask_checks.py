"""What the dask executor says of workers it cannot use, against a scheduler made of paper."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from repkit.errors import RepkitError, RepkitWarning, UsageError
from repkit.runs import dask_executor
from repkit.runs.dask_executor import _Run, on_dask
from repkit.runs.dask_worker import describe

OURS = {"python": "3.11", "repkit": "0.1.0", "torch": "2.11.0"}


class Paper:
    """A client whose workers say what they are told to."""

    def __init__(self, **workers):
        self.says, self.threads = workers, 1
        self.scheduler = SimpleNamespace(address="tcp://paper:1")

    def scheduler_info(self, n_workers):
        return {"workers": {name: {"nthreads": self.threads, "status": "running"} for name in self.says}}

    def run(self, function, sign, workers, on_error):
        return {name: self.says[name] for name in workers}


@pytest.fixture
def run(monkeypatch):
    """A run that has looked at its workers once."""
    monkeypatch.setattr(dask_executor, "describe", lambda sign: OURS | ({"folder": "seen"} if sign else {}))
    monkeypatch.setattr(dask_executor, "_LOOK_S", 0.0)

    def look(client, **settings):
        made = _Run(client, None, None, ["a"], lambda event: None)
        for name, value in settings.items():
            setattr(made, name, value)
        made._look()
        return made

    return look


def test_workers_with_other_versions_are_named_with_what_differs(run):
    paper = Paper(w1={**OURS, "torch": "2.12.0", "extra": "1"}, w2={"python": "3.11", "torch": "2.11.0"})
    with pytest.raises(RepkitError, match="none can be used") as raised:
        run(paper)
    assert raised.value.problems == (
        "worker w1: torch 2.12.0, here 2.11.0",
        "worker w2: repkit missing, here 0.1.0",
    )


def test_a_worker_without_repkit_or_without_the_folder_is_named(run):
    paper = Paper(w1=ModuleNotFoundError("No module named 'repkit'"), w2={**OURS, "folder": "missing"})
    with pytest.raises(RepkitError) as raised:
        run(paper, sign=Path("x"))
    assert "repkit cannot be used there (ModuleNotFoundError: No module named 'repkit')" in raised.value.problems[0]
    assert raised.value.problems[1] == "worker w2: run folder missing, here seen"


def test_one_that_comes_late_and_cannot_be_used_stops_nothing(run):
    paper = Paper(w1=OURS)
    found = run(paper)
    paper.says["w2"] = {**OURS, "torch": "2.14.0"}
    with pytest.warns(RepkitWarning, match="worker w2 is not used: torch 2.14.0, here 2.11.0"):
        found._look()
    paper.says["w3"] = OURS
    found._look()
    assert found.present == {"w1", "w3"}
    assert found.workers == {"w1": 0, "w3": 1}


def test_threads_that_would_lie_idle_are_told(run):
    paper = Paper(w1=OURS)
    paper.threads = 8
    with pytest.warns(RepkitWarning, match="up to 8 threads.*--nthreads 1"):
        run(paper)


def test_patience_ends(run, monkeypatch):
    monkeypatch.setattr(dask_executor, "_patience", lambda: -1.0)
    with pytest.raises(RepkitError, match="tcp://paper:1: no workers for(?s:.*)dask worker ADDRESS"):
        run(Paper())


def test_a_scheduler_that_goes_away_is_told(run):
    paper = Paper()
    paper.scheduler_info = lambda n_workers: (_ for _ in ()).throw(OSError("Timed out"))
    with pytest.raises(RepkitError, match="scheduler: lost .OSError: Timed out.(?s:.*)finished jobs are kept"):
        run(paper)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r'in a clone of repkit: pip install "\.\[distributed\]"'):
        on_dask(None, 2)


def test_this_process_describes_itself(tmp_path):
    facts = describe(str(tmp_path))
    assert facts["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert facts["torch"].startswith("2.")
    assert "+" not in facts["torch"]
    assert {"repkit", "numpy"} < facts.keys()
    assert facts["folder"] == "seen"
    assert describe(str(tmp_path / "no"))["folder"] == "missing"
    assert "folder" not in describe(None)
