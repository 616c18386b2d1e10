"""Many trainings as one program against the same trainings one by one."""

import pytest
import torch

from repkit.api import MISSING, Outputs, TaskSpec
from repkit.config.schema import PhaseTable, TrainingTable
from repkit.stage_two.attentive_cnn import AttentiveCnn
from repkit.stage_two.multi_view import MultiView
from repkit.training.course import NotFiniteError, Training
from repkit.training.data import FoldData, RaggedTensor, Standardisation, TrainingData
from repkit.training.loop import fit
from repkit.training.optim import build_optimiser
from repkit.training.stacked import _rows, _Stack, fit_stacked, stack_key, why_alone
from repkit.training.stacked_optim import StackedOptimiser
from repkit.workflows.train_ser.jobs import scorer

CLASSES = {"emotion": ("a", "b", "c"), "arousal": ("x", "y")}
N = 60
JOBS = [(seed, fold) for seed in range(3) for fold in range(2)]


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data():
    """Sixty utterances of 3 to 89 frames with some labels missing, an utterance vector, and frame-level states."""
    lengths = torch.randint(3, 90, (N,), generator=drawn(3))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    targets = {}
    for view, classes in CLASSES.items():
        target = torch.randint(0, len(classes), (N,), generator=drawn(len(view)))
        target[torch.rand(N, generator=drawn(8)) < 0.2] = MISSING
        targets[view] = target
    values = torch.randn(int(offsets[-1]), 6, generator=drawn(1)).half()
    states = RaggedTensor(torch.randn(4 * N, 5, generator=drawn(2)), torch.arange(N + 1) * 4)
    vectors = torch.randn(N, 7, generator=drawn(4))
    return TrainingData([str(i) for i in range(N)], RaggedTensor(values, offsets), targets, vectors, states)


def training(data, seed=0, fold=0, fusion="late", crop=None, phase=None, objective=None, **settings):
    """The folds differ in size, statistics and weights."""
    order = torch.randperm(N, generator=drawn(fold))
    rows = torch.randn(1, 6, generator=drawn(fold))
    frames = Standardisation(rows, 1 + rows.abs(), torch.zeros(N, dtype=torch.int64))
    folded = FoldData(data, standardise_frames=frames, weights=torch.rand(N, generator=drawn(fold)))
    task = TaskSpec(views=CLASSES, n_bands=6, vector_dim=7, state_dim=5)
    torch.manual_seed(seed)
    model = AttentiveCnn(
        AttentiveCnn.Config(n_filters=8, kernel_frames=4, pool_size=3, dropout=0.5, fusion=fusion), task
    )
    # a large epsilon: with the usual one Adam blows gradients that are rounding alone up to whole steps
    settings = {"adam_epsilon": 1e-3, **settings}
    table = TrainingTable(**{"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "patience": 2, **settings})
    return Training(
        model,
        {"multi_view": (objective or MultiView(MultiView.Config(), task), 1.0)},
        folded,
        order[: 37 + 4 * fold],
        order[45:],
        table,
        seed,
        scorer(data, CLASSES),
        phase=phase or PhaseTable(name="train"),
        crop=crop,
    )


def stacked(data, jobs, size=4, **settings):
    ends, epochs = {}, []
    fit_stacked(
        ((job, training(data, *job, **settings)) for job in jobs),
        size,
        lambda name, epoch: epochs.append((name, epoch)),
        ends.__setitem__,
    )
    return ends, epochs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fusion": "none", "optimiser": "adamw", "weight_decay": 0.1},
        {"fusion": "early", "optimiser": "sgd", "momentum": 0.9, "gradient_clip_norm": 0.1},
        {"optimiser": "adadelta", "learning_rate": 1.0, "select_by": "last", "patience": None},
        {"crop": 20, "fusion": "early", "learning_rate_steps": (1.0, 0.1), "schedule": "time_decay", "decay": 0.01},
        {"optimiser": "sgd", "weight_decay": 0.01, "sampler": "class_balanced", "steps_per_epoch": 3},
        {"phase": PhaseTable(name="heads", train=("head",), views=("arousal",))},
    ],
    ids=["adam", "adamw", "clipped", "adadelta", "cropped", "balanced", "heads"],
)
def test_a_training_is_the_same_alone_and_beside_others(data, settings):
    """Weights within 1e-5 after up to eight epochs: a product of a batch of matrices is summed in another order."""
    ends, epochs = stacked(data, JOBS, **settings)
    assert set(ends) == set(JOBS)
    for job in JOBS:
        alone, own = fit(training(data, *job, **settings)), ends[job]
        assert own.selected_epoch == alone.selected_epoch
        assert [e for name, e in epochs if name == job] == list(range(1, len(alone.history) + 1))
        for name in alone.last:
            torch.testing.assert_close(own.last[name], alone.last[name], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(own.selected[name], alone.selected[name], atol=1e-5, rtol=1e-4)
        for mine, theirs in zip(own.history, alone.history, strict=True):
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
            assert mine["learning_rate"] == pytest.approx(theirs["learning_rate"])
            assert mine.get("dev") == theirs.get("dev")


def test_frozen_parameters_stay_to_the_bit(data):
    ends, _ = stacked(data, JOBS[:2], phase=PhaseTable(name="heads", train=("head",)))
    for job in JOBS[:2]:
        before = training(data, *job).model.state_dict()
        moved = {name for name, value in ends[job].last.items() if not torch.equal(value, before[name])}
        assert moved
        assert all(name.startswith("heads") for name in moved)


class Spoilt(torch.nn.Module):
    """A loss that is no number for one of the trainings."""

    capabilities = frozenset({"batched"})

    def __init__(self, bad):
        super().__init__()
        self.register_buffer("factor", torch.tensor(float("nan") if bad else 1.0))

    def forward(self, outputs, batch, progress):
        known = (batch.targets["emotion"] != MISSING).float()
        each = outputs.logits["emotion"].square().mean(dim=1)
        return {"square": (each * known).sum() / known.sum().clamp(min=1) * self.factor}


def test_a_loss_that_is_not_finite_ends_its_own_training_alone(data):
    ends = {}
    jobs = [(0, 0), (1, 0), (2, 0)]
    fit_stacked(
        ((job, training(data, *job, objective=Spoilt(job[0] == 1))) for job in jobs), 3, lambda n, e: None,
        ends.__setitem__,
    )  # fmt: skip
    assert isinstance(ends[1, 0], NotFiniteError)
    assert "multi_view.square nan" in str(ends[1, 0])
    for job in (jobs[0], jobs[2]):
        alone = fit(training(data, *job, objective=Spoilt(False)))
        torch.testing.assert_close(ends[job].last["conv.weight"], alone.last["conv.weight"], atol=1e-5, rtol=1e-4)


def test_what_cannot_share_a_program_is_told(data):
    assert why_alone(training(data)) is None

    class Undeclared(torch.nn.Module):
        def forward(self, batch):
            return Outputs({}, batch.frames)

    other = training(data)
    other.model = Undeclared()
    assert "Undeclared has not the capability batched" in why_alone(other)
    other = training(data, objective=torch.nn.Module())
    assert "objective multi_view" in why_alone(other)


def test_only_trainings_of_equal_shape_and_rules_share_a_program(data):
    key = stack_key(training(data))
    assert stack_key(training(data, seed=1, fold=1)) == key
    for settings in (
        {"fusion": "none"},
        {"learning_rate": 0.02},
        {"crop": 9},
        {"phase": PhaseTable(name="h", train=("head",))},
    ):
        assert stack_key(training(data, **settings)) != key


def test_no_tensor_of_the_program_lies_on_another_device(data):
    """The device without numbers stands for a GPU: every operation that mixes devices is refused there as on one."""
    device = torch.device("meta")
    first, second = training(data), training(data, 1, 1)
    first.data = first.data.to(device)
    second.data = second.data.to(device, first.data.data)
    stack = _Stack(first, device)
    stack.take_in([("first", first), ("second", second)])
    for course in stack.courses:
        course.start_epoch()
    plan = stack.folds.plan([[items for items, _ in course.batches()] for course in stack.courses])
    for step in range(len(plan.longest)):
        rows = torch.tensor([1], device=device) if step else None
        values = _rows(stack.values, rows).detach().requires_grad_()
        progress, keys = (torch.zeros(2, device=device, dtype=kind) for kind in (torch.float32, torch.int64))
        losses = stack._run(values, stack.folds.fields(plan, step, rows), rows, _rows(progress, rows), keys)
        (gradients,) = torch.autograd.grad(sum(loss.sum() for loss in losses.values()), values)
        stack.optimiser.step(stack.values, gradients, _rows(progress, rows), rows)
        assert {loss.device.type for loss in losses.values()} == {"meta"}


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "adam", "weight_decay": 0.1, "adam_epsilon": 1e-7},
        {"optimiser": "adamw", "weight_decay": 0.1},
        {"optimiser": "adadelta", "learning_rate": 1.0},
        {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    ],
)
def test_every_row_is_stepped_as_by_torch(settings):
    """Rows at other counts and rates than their neighbours; torch.optim is the reference."""
    table = TrainingTable(**{"learning_rate": 0.1, **settings})
    start = torch.randn(3, 5, generator=drawn(0))
    values = start.clone()
    ours = StackedOptimiser(table, values)
    theirs = [torch.nn.Parameter(row.clone()) for row in start]
    optimisers = [build_optimiser([row], table) for row in theirs]
    for step in range(6):
        rows = [0, 1, 2] if step % 2 else [0, 2]
        gradients = torch.randn(3, 5, generator=drawn(step))
        rates = torch.tensor([0.1, 0.05, 0.01 * (step + 1)])
        given = torch.tensor(rows)
        ours.step(values, gradients[given], rates[given], None if len(rows) == 3 else given)
        for row in rows:
            theirs[row].grad = gradients[row].clone()
            optimisers[row].param_groups[0]["lr"] = float(rates[row])
            optimisers[row].step()
    torch.testing.assert_close(values, torch.stack([row.detach() for row in theirs]), atol=5e-6, rtol=1e-5)


def test_dev_is_predicted_in_no_more_than_two_batches_of_each_training(data, monkeypatch):
    """Else a smaller --at-once would not make the prediction of dev fit a memory that it has exhausted."""
    some = [(seed, training(data, seed, batch_size=4)) for seed in range(2)]
    stack = _Stack(some[0][1], torch.device("cpu"))
    stack.take_in(some)
    shapes = []

    def run(values, fields, *rest, **named):
        shapes.append(tuple(fields["lengths"].shape))
        return {view: torch.rand(*shapes[-1], len(classes)) for view, classes in CLASSES.items()}

    monkeypatch.setattr(stack, "_run", run)
    stack._score_dev()
    assert shapes == [(2, 8), (2, 8)]  # dev has 15 utterances
