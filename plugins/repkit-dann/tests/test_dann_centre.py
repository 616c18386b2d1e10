"""Centre loss, the step of the centres and the figures, all by hand."""

import math

import pytest
import torch
from pydantic import ValidationError
from repkit_dann.centre import CentreLoss

from repkit import api

VIEWS = {"arousal": ("low", "high"), "valence": ("negative", "positive")}
MISSING = api.MISSING


def make(**settings):
    return CentreLoss(CentreLoss.Config(**settings), api.TaskSpec(views=VIEWS, n_bands=1, shared_dim=2))


def outputs_of(rows):
    logits = {view: torch.tensor([[1.0, 0.0]] * len(rows)) for view in VIEWS}  # always the first class
    return api.Outputs(logits=logits, shared=torch.tensor(rows, dtype=torch.float32))


def batch_of(arousal, valence=None):
    n = len(arousal)
    return api.Batch(
        ids=["a"] * n,
        frames=torch.zeros(n, 1, 1),
        lengths=torch.ones(n, dtype=torch.int64),
        targets={"arousal": torch.tensor(arousal), "valence": torch.tensor(valence or [MISSING] * n)},
    )


ROWS = [[1.0, 0.0], [3.0, 2.0], [0.0, 4.0], [9.0, 9.0]]
LABELS = [0, 0, 1, MISSING]


def test_loss_from_zero_centres_by_hand():
    # squared lengths 1, 13, 16; the last item has no label
    batch = batch_of(LABELS)
    assert make()(outputs_of(ROWS), batch, 0.0)["arousal"].item() == pytest.approx(30 / 3)
    assert make(scale="wen")(outputs_of(ROWS), batch, 0.0)["arousal"].item() == pytest.approx(30 / 2)


def test_gradient_draws_items_to_their_centre_and_the_centres_get_none():
    objective = make()
    objective.centres_arousal = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    outputs = outputs_of(ROWS)
    outputs.shared.requires_grad_()
    objective(outputs, batch_of(LABELS), 0.0)["arousal"].backward()
    # 2 (x - c) / 3
    expected = torch.tensor([[0.0, -2.0], [4.0, 2.0], [0.0, 8.0], [0.0, 0.0]]) / 3
    torch.testing.assert_close(outputs.shared.grad, expected)
    assert list(objective.parameters()) == []


def test_centres_move_by_hand():
    objective = make()
    objective.centres_arousal = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    objective.update(outputs_of(ROWS), batch_of(LABELS))
    # class 0: delta = ((1,1)-(1,0) + (1,1)-(3,2)) / 3 = (-2, 0) / 3; class 1: ((2,0)-(0,4)) / 2 = (1, -2)
    expected = torch.tensor([[1.0 + 1 / 3, 1.0], [2.0 - 0.5, 0.0 + 1.0]])
    torch.testing.assert_close(objective.centres_arousal, expected)
    objective.update(outputs_of(ROWS), batch_of([1, MISSING, MISSING, MISSING]))  # class 0 is not in this batch
    torch.testing.assert_close(objective.centres_arousal[0], expected[0])


def test_centres_come_to_rest_at_the_mean_of_their_class():
    objective = make(alpha=1.0)
    for _ in range(60):
        objective.update(outputs_of(ROWS), batch_of(LABELS))
    torch.testing.assert_close(objective.centres_arousal, torch.tensor([[2.0, 1.0], [0.0, 4.0]]))


def test_alpha():
    slow, fast = make(alpha=0.25), make(alpha=1.0)
    for objective in (slow, fast):
        objective.update(outputs_of(ROWS), batch_of(LABELS))
    torch.testing.assert_close(4 * slow.centres_arousal, fast.centres_arousal)
    torch.testing.assert_close(fast.centres_arousal, torch.tensor([[4 / 3, 2 / 3], [0.0, 2.0]]))


def test_normalised_vectors():
    objective = make(normalise=True)
    outputs = outputs_of([[3.0, 4.0], [0.0, 5.0]])
    assert objective(outputs, batch_of([0, 0]), 0.0)["arousal"].item() == pytest.approx(1.0)
    objective.update(outputs, batch_of([0, 0]))
    # zero plus 0.5 ((0.6, 0.8) + (0, 1)) / 3
    torch.testing.assert_close(objective.centres_arousal[0], torch.tensor([0.1, 0.3]))


def test_views():
    assert list(make()(outputs_of(ROWS), batch_of(LABELS), 0.0)) == ["arousal"]
    both = make(views=["arousal", "valence"])(outputs_of(ROWS), batch_of(LABELS, [MISSING, 1, MISSING, MISSING]), 0.0)
    assert {view: loss.item() for view, loss in both.items()} == pytest.approx({"arousal": 10.0, "valence": 13.0})
    with pytest.raises(ValueError, match="views emotion; the task has arousal, valence"):
        make(views=["emotion"])
    with pytest.raises(ValidationError):
        CentreLoss.Config(alpha=0.0)


def test_a_batch_without_labels_gives_a_zero_with_gradient_and_moves_nothing():
    objective = make()
    outputs = outputs_of(ROWS)
    outputs.shared.requires_grad_()
    batch = batch_of([MISSING] * 4)
    loss = objective(outputs, batch, 0.0)["arousal"]
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(outputs.shared.grad, torch.zeros(4, 2))
    objective.update(outputs, batch)
    assert torch.equal(objective.centres_arousal, torch.zeros(2, 2))
    assert set(objective.measure(outputs_of(ROWS), batch, 0.0)) == {"spread", "size"}


def test_figures_by_hand():
    objective = make()
    figures = objective.measure(outputs_of(ROWS[:3]), batch_of(LABELS[:3]), 0.0)
    # class means (2, 1) and (0, 4), their mean (1, 2.5): between^2 = 1 + 2.25; within^2 = (2 + 2 + 0) / 3
    wanted = {
        "arousal_to_centres": 30 / 3 / 2,
        "arousal_within": math.sqrt(4 / 3),
        "arousal_between": math.sqrt(3.25),
        "size": math.sqrt(30 / 6),
        "arousal_accuracy": 2 / 3,
        "arousal_uar": 0.5,
        "arousal_chance": 0.5,
        "spread": (math.sqrt(14 / 9) + math.sqrt(8 / 3)) / 2,  # of (1, 3, 0) and of (0, 2, 4)
    }
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(wanted)


def test_diagnosis():
    objective = make()
    flat = {"arousal_to_centres": 1e-6, "spread": 1e-5, "size": 1e-4}
    assert "nearly the same shared vector" in objective.diagnose(flat)
    assert objective.diagnose(flat | {"spread": 0.2}) is None
    assert objective.diagnose(flat | {"arousal_to_centres": 0.3}) is None
    assert objective.diagnose({}) is None


def test_diagnosis_of_a_view_at_chance_near_its_centres():
    figures = {"arousal_to_centres": 0.001, "spread": 0.1, "size": 0.2, "arousal_uar": 0.5, "arousal_chance": 0.5}
    objective, far = make(), make()
    told = [objective.diagnose(figures) for _ in range(4)]
    assert told[:3] == [None] * 3
    assert "for 3 epochs the training batches' UAR of arousal was at chance" in told[3]
    assert [far.diagnose(figures | {"arousal_to_centres": 0.1}) for _ in range(4)] == [None] * 4


@pytest.mark.parametrize("initial", ["zero", "normal"])
def test_centres_are_state(initial):
    torch.manual_seed(7)
    objective = make(initial=initial)
    assert (objective.centres_arousal == 0).all() == (initial == "zero")
    assert list(objective.parameters()) == []
    objective.update(outputs_of(ROWS), batch_of(LABELS))
    other = make(initial=initial)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.centres_arousal, objective.centres_arousal)
