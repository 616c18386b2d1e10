"""The multi-view loss by hand."""

import math

import pytest
import torch

from repkit import api
from repkit.errors import RecipeError
from repkit.plugins import build_config
from repkit.stage_two.multi_view import MultiView

TASK = api.TaskSpec(views={"emotion": ("a", "b"), "arousal": ("l", "m", "h"), "valence": ("l", "m", "h")}, n_bands=1)


def loss_of(targets, logits=None, weights=None, task=TASK, **settings):
    n = len(next(iter(targets.values())))
    logits = logits or {view: torch.zeros(n, len(classes), requires_grad=True) for view, classes in task.views.items()}
    batch = api.Batch(
        ids=["x"] * n,
        frames=torch.zeros(n, 1, 1),
        lengths=torch.ones(n, dtype=torch.int64),
        targets={view: torch.tensor(t) for view, t in targets.items()},
        weights=weights,
    )
    return MultiView(MultiView.Config(**settings), task)(api.Outputs(logits, torch.zeros(n, 1)), batch, 0.0), logits


def test_uniform_logits_by_hand():
    losses, _ = loss_of({"emotion": [0, 1], "arousal": [0, 2], "valence": [1, 1]})
    assert losses["emotion"].item() == pytest.approx(0.6 * math.log(2))
    assert losses["arousal"].item() == pytest.approx(0.2 * math.log(3))
    assert losses["valence"].item() == pytest.approx(0.2 * math.log(3))


def test_missing_labels_are_masked_and_do_not_dilute_the_mean():
    known = {
        "emotion": torch.tensor([[2.0, 0.0], [9.0, 9.0]], requires_grad=True),
        "arousal": torch.zeros(2, 3),
        "valence": torch.zeros(2, 3),
    }
    losses, _ = loss_of({"emotion": [0, api.MISSING], "arousal": [0, 0], "valence": [0, 0]}, known)
    assert losses["emotion"].item() == pytest.approx(0.6 * math.log(1 + math.exp(-2)))
    losses["emotion"].backward()
    assert known["emotion"].grad[1].abs().sum() == 0


def test_a_view_without_any_label_gives_zero_with_a_gradient():
    losses, logits = loss_of({"emotion": [0, 1], "arousal": [api.MISSING] * 2, "valence": [0, 0]})
    assert losses["arousal"].item() == 0
    losses["arousal"].backward()
    assert logits["arousal"].grad.abs().sum() == 0


def test_weights_average_by_weight():
    logits = {"emotion": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}
    task = api.TaskSpec(views={"emotion": ("a", "b")}, n_bands=1)
    losses, _ = loss_of({"emotion": [0, 0]}, logits, torch.tensor([3.0, 1.0]), task)
    expected = (3 * math.log(1 + math.exp(-1)) + math.log(2)) / 4
    assert losses["emotion"].item() == pytest.approx(expected)


def test_weight_of_absent_views_goes_to_the_first():
    task = api.TaskSpec(views={"emotion": ("a", "b"), "valence": ("l", "m", "h")}, n_bands=1)
    assert MultiView(MultiView.Config(), task).weights == pytest.approx({"emotion": 0.8, "valence": 0.2})


def test_too_large_weights_are_refused():
    with pytest.raises(RecipeError, match="must not exceed 1"):
        build_config(MultiView, {"alpha": 0.7, "beta": 0.5}, "objectives.0")
