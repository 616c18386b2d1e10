"""Gradient reversal by hand, the schedule's numbers, masks, figures, and what the heads do on a toy problem."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from repkit_dann.domain_adversarial import DomainAdversarial, GradientReversal
from torch import nn

from repkit import api

VIEWS = {"arousal": ("low", "high")}


def make(classes=None, width=2, **settings):
    torch.manual_seed(0)
    domains = {"corpus": 2, "gender": 2} if classes is None else classes
    task = api.TaskSpec(views=VIEWS, n_bands=1, domains=domains, shared_dim=width)
    return DomainAdversarial(DomainAdversarial.Config(**settings), task)


def outputs_of(shared, logits=None):
    logits = torch.zeros(len(shared), 2) if logits is None else logits
    return api.Outputs(logits={"arousal": logits}, shared=shared)


def batch_of(n, targets=None, **domains):
    return api.Batch(
        ids=["a"] * n,
        frames=torch.zeros(n, 1, 1),
        lengths=torch.ones(n, dtype=torch.int64),
        targets={"arousal": torch.tensor(targets if targets is not None else [api.MISSING] * n)},
        domains={name: torch.tensor(value) for name, value in domains.items()},
    )


def test_reversal_by_hand():
    # y = 3 x^2 has the gradient 6 x; behind the reversal of 0.3 that is -1.8 x, and y is the same
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = 3 * GradientReversal.apply(x, 0.3) ** 2
    assert y.tolist() == [3.0, 12.0]
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-1.8, 3.6]))


def set_by_hand(objective, name):
    """Two hidden units, h = ReLU(x), logits = (h1, h2)."""
    head = objective.heads[name]
    head[0].weight.data = torch.eye(2)
    head[2].weight.data, head[2].bias.data = torch.eye(2), torch.zeros(2)
    return head


def test_heads_learn_at_full_strength_and_the_extractor_in_reverse():
    objective = make({"corpus": 2}, preset="dann_1", scale=0.3, hidden_units=2)
    head = set_by_hand(objective, "corpus")
    shared = torch.tensor([[math.log(3.0), 0.0]], requires_grad=True)
    losses = objective(outputs_of(shared), batch_of(1, corpus=[1]), 0.0)
    assert list(losses) == ["corpus"]
    # softmax (3/4, 1/4); the truth is class 1: loss = ln 4, gradient of the logits (3/4, -3/4)
    assert losses["corpus"].item() == pytest.approx(math.log(4.0))
    losses["corpus"].backward()
    torch.testing.assert_close(head[2].bias.grad, torch.tensor([0.75, -0.75]))
    # the second hidden unit stands at 0, where ReLU passes nothing; the first is ln 3: 3/4, times -0.3
    torch.testing.assert_close(shared.grad, torch.tensor([[-0.225, 0.0]]))


def test_loss_is_the_mean_over_the_items_whose_domain_is_known():
    objective = make(
        {"corpus": 2, "gender": 2}, domains=("corpus", "gender"), hidden_units=2, head_weights={"gender": 3.0}
    )
    set_by_hand(objective, "corpus"), set_by_hand(objective, "gender")
    shared = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [5.0, 0.0]])
    missing = api.MISSING
    losses = objective(outputs_of(shared), batch_of(3, corpus=[0, 1, missing], gender=[missing, missing, missing]), 0.0)
    assert losses["corpus"].item() == pytest.approx((math.log(4 / 3) + math.log(2.0)) / 2)
    assert losses["gender"].item() == 0.0
    weighted = objective(outputs_of(shared), batch_of(3, corpus=[0] * 3, gender=[1, missing, missing]), 0.0)
    assert weighted["gender"].item() == pytest.approx(3 * math.log(4.0))


def test_nothing_known_gives_a_zero_with_gradient():
    objective = make(width=4)
    shared = torch.randn(3, 4, requires_grad=True)
    missing = [api.MISSING] * 3
    losses = objective(outputs_of(shared), batch_of(3, corpus=missing, gender=missing), 0.5)
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    assert torch.equal(shared.grad, torch.zeros(3, 4))


def test_schedules():
    constant, rising = make(width=4), make(width=4, schedule="dann")
    assert [constant.strength(p) for p in (0.0, 0.5, 1.0)] == [0.3, 0.3, 0.3]
    # 2 / (1 + e^-1) - 1 = 0.4621172; 2 / (1 + e^-10) - 1 = 0.9999092
    assert rising.strength(0.0) == 0.0
    assert rising.strength(0.1) == pytest.approx(0.3 * 0.4621172, abs=1e-7)
    assert rising.strength(1.0) == pytest.approx(0.3 * 0.9999092, abs=1e-7)
    shared = torch.randn(2, 4, requires_grad=True)
    (first,) = torch.autograd.grad(
        sum(rising(outputs_of(shared), batch_of(2, corpus=[0, 1], gender=[0, 1]), 0.0).values()), shared
    )
    assert torch.equal(first, torch.zeros_like(shared))


def test_presets_and_settings():
    config = DomainAdversarial.Config
    assert DomainAdversarial.domains(config()) == ("gender", "language", "corpus")
    assert DomainAdversarial.domains(config(preset="dann_1")) == ("speaker", "corpus")
    assert DomainAdversarial.domains(config(domains=["language"])) == ("language",)
    for wrong in (
        {"preset": "dann_1", "domains": ["gender"]},
        {"domains": ["gender", "gender"]},
        {"domains": ["age"]},
        {"domains": ["gender"], "head_weights": {"corpus": 1.0}},
        {"head_weights": {"corpus": -1.0}},
        {"scale": -0.3},
    ):
        with pytest.raises(ValidationError):
            config(**wrong)


def test_domains_that_the_task_lacks_are_left_out():
    objective = make({"gender": 2, "corpus": 1}, 3)
    losses = objective(outputs_of(torch.randn(2, 3)), batch_of(2, gender=[0, 1]), 0.0)
    assert list(losses) == ["gender"]
    assert objective.diagnose({}) is None


def test_without_any_domain_training_goes_on_and_says_so():
    objective = make({})
    shared = torch.randn(2, 3, requires_grad=True)
    losses = objective(outputs_of(shared), batch_of(2), 0.0)
    assert list(losses) == ["none"]
    losses["none"].backward()
    assert torch.equal(shared.grad, torch.zeros(2, 3))
    assert list(objective.parameters()) == []
    assert "no domain of gender, language, corpus has two classes" in objective.diagnose({})


def test_figures_by_hand():
    objective = make({"corpus": 3}, preset="dann_1", hidden_units=2)
    head = set_by_hand(objective, "corpus")
    head[2].weight.data, head[2].bias.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), torch.zeros(3)
    shared = torch.tensor([[2.0, 0.0], [2.0, 0.0], [4.0, 0.0], [0.0, 2.0]])  # the head says 0, 0, 0, 1
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])  # the view says low, always
    batch = batch_of(4, [0, 0, 1, api.MISSING], corpus=[0, 2, 0, api.MISSING])
    figures = {k: float(v) for k, v in objective.measure(outputs_of(shared, logits), batch, 0.0).items()}
    spread = (math.sqrt(2.0) + math.sqrt(0.75)) / 2  # (2, 2, 4, 0): variance 2; (0, 0, 0, 2): variance 3/4
    assert figures == pytest.approx(
        {
            "gradient_scale": 0.3,
            "spread": spread,
            "size": math.sqrt((4 + 4 + 16 + 4) / 8),
            "corpus_accuracy": 2 / 3,
            "corpus_balanced_accuracy": (1.0 + 0.0) / 2,
            "corpus_chance": 1 / 3,
            "arousal_accuracy": 2 / 3,
            "arousal_uar": 0.5,
            "arousal_chance": 0.5,
        }
    )


def test_figures_of_a_batch_without_labels_are_left_out():
    objective = make()
    missing = [api.MISSING] * 2
    figures = objective.measure(outputs_of(torch.randn(2, 2)), batch_of(2, corpus=missing, gender=missing), 0.0)
    assert set(figures) == {"gradient_scale", "spread", "size"}
    one_class = objective.measure(
        outputs_of(torch.randn(2, 2)), batch_of(2, [1, 1], corpus=missing, gender=missing), 0.0
    )
    assert "arousal_accuracy" in one_class
    assert "arousal_uar" not in one_class
    alone = objective.measure(outputs_of(torch.randn(1, 2)), batch_of(1, corpus=[0], gender=[1]), 0.0)
    assert "spread" not in alone


FINE = {"spread": 0.2, "size": 0.5, "arousal_uar": 0.7, "arousal_chance": 0.5}


def test_diagnosis_of_a_collapsed_vector():
    objective = make()
    assert objective.diagnose(FINE) is None
    assert "nearly the same shared vector" in objective.diagnose(FINE | {"spread": 0.0005})
    assert "nearly the same shared vector" in objective.diagnose(FINE | {"spread": 0.5, "size": 100.0})
    assert objective.diagnose({}) is None


def test_diagnosis_of_a_view_at_chance_waits_for_three_epochs():
    objective = make()
    told = [objective.diagnose(FINE | {"arousal_uar": uar}) for uar in (0.5, 0.5, 0.515, 0.6, 0.5, 0.515, 0.51, 0.53)]
    assert [said is not None for said in told] == [False] * 6 + [True, False]
    assert "for 3 epochs the training batches' UAR of arousal was at chance" in told[6]
    slow = make()  # a slow start is none: the first epoch does not count
    assert [slow.diagnose(FINE | {"arousal_uar": uar}) for uar in (0.5, 0.5, 0.5, 0.6)] == [None] * 4


def toy(n=256):
    """Emotion in the first of six values, corpus in the second, the rest noise."""
    draw = torch.Generator().manual_seed(5)
    emotion, corpus = (torch.randint(0, 2, (n,), generator=draw) for _ in range(2))
    x = torch.randn(n, 6, generator=draw) * 0.5
    x[:, 0] += 3.0 * emotion - 1.5
    x[:, 1] += 3.0 * corpus - 1.5
    return x, emotion, corpus


def train_toy(scale, steps=400):
    x, emotion, corpus = toy()
    objective = make({"corpus": 2}, 4, domains=("corpus",), scale=scale)
    torch.manual_seed(1)
    extractor, classifier = nn.Linear(6, 4), nn.Linear(4, 2)
    optimiser = torch.optim.Adam([*extractor.parameters(), *classifier.parameters(), *objective.parameters()], lr=0.01)
    batch = batch_of(len(x), emotion.tolist(), corpus=corpus.tolist())
    for _ in range(steps):
        z = extractor(x)
        logits = classifier(z)
        losses = objective(outputs_of(z, logits), batch, 0.0)
        loss = nn.functional.cross_entropy(logits, emotion) + losses["corpus"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        z = extractor(x)
        figures = objective.measure(outputs_of(z, classifier(z)), batch, 1.0)
    # what a linear probe trained afterwards still finds of the corpus in z
    design = np.column_stack([z.numpy(), np.ones(len(z))])
    weights, *_ = np.linalg.lstsq(design, 2.0 * corpus.numpy() - 1.0, rcond=None)
    probe = float(((design @ weights > 0) == (corpus.numpy() == 1)).mean())
    return {key: float(value) for key, value in figures.items()}, probe


def test_heads_learn_without_reversal_and_the_extractor_forgets_with_it():
    watched, seen = train_toy(scale=0.0)
    assert watched["corpus_balanced_accuracy"] > 0.95
    assert seen > 0.95
    reversed_, left = train_toy(scale=0.3)
    assert left < 0.75
    assert reversed_["arousal_uar"] > 0.9
