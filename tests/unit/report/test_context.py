"""What the page calls the checkpoint of its headline."""

from types import SimpleNamespace

import pytest

from repkit.report.context import Page


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"selection": "dev.uar"}, "epoch selected on dev"),
        ({"selection": "last"}, "last epoch"),
        ({"selection": "dev.uar", "selection_of": {"b": "dev.wa"}}, "epoch selected on dev"),
        ({"selection": "last", "selection_of": {"b": "dev.uar"}}, "last epoch (a, c); epoch selected on dev (b)"),
        (
            {"selection": "dev.uar", "selection_of": {"a": "nested", "b": "nested", "c": "nested"}},
            "settings chosen by inner folds of the training speakers",
        ),
    ],
)
def test_each_condition_is_said_to_have_chosen_as_it_did(parts, said):
    files = SimpleNamespace(protocol={"parts": parts}, conditions=["a", "b", "c"])
    page = Page(files, {"scores": [], "views": {"emotion": []}}, {})
    assert page.checkpoint_name() == said
    assert page.checkpoint_name("last") == "last epoch"
