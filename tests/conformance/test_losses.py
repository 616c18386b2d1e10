"""How the kit compares losses."""

import math

import pytest
import torch

from repkit.api import Outputs
from repkit.testing.losses import loss_gap, number, total
from repkit.testing.material import difference


def test_the_largest_gap_is_found_and_is_relative_above_one():
    one = {"a": torch.tensor(0.5), "b": torch.tensor(8.0), "c": 3}
    assert loss_gap(one, dict(one)) == (0.0, "")
    assert loss_gap(one, {"a": 0.25, "b": torch.tensor(9.0), "c": 3}) == (0.25, "a")
    assert loss_gap(one, {"a": 0.5, "b": torch.tensor(4.0), "c": 2.5}) == (0.5, "b")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["a", "b"])
def test_what_is_not_a_number_is_never_hidden_by_what_follows(bad, place):
    wrong = {"a": 1.0, "b": 1.0, place: bad}
    for one, other in ((wrong, {"a": 1.0, "b": 1.0}), ({"a": 1.0, "b": 1.0}, wrong), (wrong, dict(wrong))):
        assert loss_gap(one, other) == (math.inf, place)


def test_other_names_are_a_gap():
    gap, where = loss_gap({"a": 1.0}, {"b": 1.0})
    assert gap == math.inf
    assert where == "the losses ['a'] against ['b']"


def test_number_and_total():
    losses = {"a": torch.tensor(1.5, requires_grad=True), "b": torch.tensor(2.0)}
    assert (number(losses["a"]), number(2)) == (1.5, 2.0)
    assert total(losses).item() == 3.5
    assert total(losses).requires_grad


@pytest.mark.parametrize("place", ["emotion", "vector"])
def test_outputs_that_are_no_numbers_differ_whatever_else_agrees(place):
    def outputs(bad):
        logits, vector = torch.ones(2, 4), torch.ones(2, 3)
        (logits if place == "emotion" else vector)[0, 0] = math.nan if bad else 1.0
        return Outputs({"arousal": torch.ones(2, 3), "emotion": logits, "valence": torch.ones(2, 3)}, vector)

    assert difference(outputs(bad=False), outputs(bad=False)) == (0.0, "outputs")
    gap, _ = difference(outputs(bad=True), outputs(bad=False))
    assert gap == math.inf
