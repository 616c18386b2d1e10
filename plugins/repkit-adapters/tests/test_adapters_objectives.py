"""Focal and soft ordinal losses against numbers worked out by hand."""

import math

import pytest
import torch
from repkit_adapters.objectives import Focal, SoftOrdinal

from repkit import api

TASK = api.TaskSpec(views={"emotion": ("a", "b"), "arousal": ("low", "medium", "high")}, n_bands=8)


def batch_of(targets, weights=None):
    n = len(next(iter(targets.values())))
    return api.Batch(
        ids=["x"] * n,
        frames=torch.zeros(n, 1, 8),
        lengths=torch.ones(n, dtype=torch.int64),
        targets={view: torch.tensor(t) for view, t in targets.items()},
        weights=None if weights is None else torch.tensor(weights),
    )


def outputs_of(**logits):
    tensors = {view: torch.tensor(values, requires_grad=True) for view, values in logits.items()}
    return api.Outputs(logits=tensors, shared=torch.zeros(len(next(iter(tensors.values()))), 2))


def loss(objective, outputs, batch):
    return objective(outputs, batch, 0.0)


def test_focal_by_hand():
    # p of the true class: 0.5 and 0.8
    outputs = outputs_of(emotion=[[0.0, 0.0], [math.log(0.8), math.log(0.2)]])
    got = loss(Focal(Focal.Config(), TASK), outputs, batch_of({"emotion": [0, 0]}))["emotion"]
    want = 0.25 * (0.5**2 * math.log(2) + 0.2**2 * -math.log(0.8)) / 2
    assert got.item() == pytest.approx(want, rel=1e-5)


def test_focal_without_gamma_is_cross_entropy():
    outputs = outputs_of(emotion=[[0.3, -1.0], [2.0, 0.1]])
    batch = batch_of({"emotion": [1, 0]})
    got = loss(Focal(Focal.Config(gamma=0, alpha=1), TASK), outputs, batch)["emotion"]
    want = torch.nn.functional.cross_entropy(outputs.logits["emotion"], batch.targets["emotion"])
    torch.testing.assert_close(got, want)


def test_focal_of_a_certain_item_has_a_finite_gradient():
    outputs = outputs_of(emotion=[[500.0, -500.0], [-500.0, 500.0]])
    loss(Focal(Focal.Config(gamma=0.5), TASK), outputs, batch_of({"emotion": [0, 0]}))["emotion"].backward()
    assert torch.isfinite(outputs.logits["emotion"].grad).all()


def test_weights_and_missing_labels():
    outputs = outputs_of(emotion=[[0.0, 0.0], [math.log(0.8), math.log(0.2)], [9.0, -9.0]])
    batch = batch_of({"emotion": [0, 0, api.MISSING]}, weights=[1.0, 3.0, 7.0])
    got = loss(Focal(Focal.Config(), TASK), outputs, batch)["emotion"]
    want = 0.25 * (0.5**2 * math.log(2) + 3 * 0.2**2 * -math.log(0.8)) / 4
    assert got.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("kind", [Focal, SoftOrdinal])
def test_nothing_labelled_is_zero_with_a_gradient(kind):
    outputs = outputs_of(arousal=[[0.0, 1.0, -1e30]])
    got = loss(kind(kind.Config(), TASK), outputs, batch_of({"arousal": [api.MISSING]}))["arousal"]
    got.backward()
    assert got.item() == 0
    assert outputs.logits["arousal"].grad.abs().sum() == 0


def test_soft_ordinal_by_hand():
    e = math.e
    outputs = outputs_of(arousal=[[0.0, math.log(2), 0.0]])  # probabilities 1/4, 1/2, 1/4
    got = loss(SoftOrdinal(SoftOrdinal.Config(), TASK), outputs, batch_of({"arousal": [0]}))["arousal"]
    total = 1 + 1 / e + 1 / e**2
    want = (math.log(4) + math.log(2) / e + math.log(4) / e**2) / total
    assert got.item() == pytest.approx(want, rel=1e-5)


def test_soft_ordinal_prefers_the_nearer_mistake():
    objective = SoftOrdinal(SoftOrdinal.Config(), TASK)
    near, far = ([[-4.0, 4.0, -4.0]], [[-4.0, -4.0, 4.0]])
    losses = [loss(objective, outputs_of(arousal=o), batch_of({"arousal": [0]}))["arousal"].item() for o in (near, far)]
    assert losses[0] < losses[1]


def test_soft_ordinal_spreads_over_the_classes_of_the_corpus_only():
    outputs = outputs_of(arousal=[[0.0, 0.0, -1e30]])
    got = loss(SoftOrdinal(SoftOrdinal.Config(), TASK), outputs, batch_of({"arousal": [1]}))["arousal"]
    got.backward()
    assert got.item() == pytest.approx(math.log(2), rel=1e-5)
    assert torch.isfinite(outputs.logits["arousal"].grad).all()


def test_soft_ordinal_when_sharp_and_for_emotion_is_cross_entropy():
    outputs = outputs_of(arousal=[[0.2, -0.7, 1.0]], emotion=[[0.5, -0.5]])
    batch = batch_of({"arousal": [2], "emotion": [1]})
    got = loss(SoftOrdinal(SoftOrdinal.Config(sharpness=50), TASK), outputs, batch)
    for view in ("arousal", "emotion"):
        want = torch.nn.functional.cross_entropy(outputs.logits[view], batch.targets[view])
        torch.testing.assert_close(got[view], want)


def test_views_without_logits_are_left_out():
    outputs = outputs_of(arousal=[[0.0, 0.0, 0.0]])
    batch = batch_of({"arousal": [1], "emotion": [0]})
    assert set(loss(Focal(Focal.Config(), TASK), outputs, batch)) == {"arousal"}
