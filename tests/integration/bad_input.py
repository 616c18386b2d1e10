"""What the tests of bad input share: a training of two folds, without its report."""

import repkit.workflows.train_ser.run

TRAIN = ("train-ser", "--recipe", "tiny.toml", "--workers", 1, "--set", "seeds=[0]")


def no_report(monkeypatch):
    """Leave the report out: it takes most of the time of a small run."""
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
