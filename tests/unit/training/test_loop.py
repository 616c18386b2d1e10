"""The stage-two loop on a problem whose course can be computed by hand."""

import pytest
import torch

from repkit import api
from repkit.config.schema import TrainingTable
from repkit.errors import DataError, RepkitWarning
from repkit.training.course import Training
from repkit.training.data import FoldData, RaggedTensor, TrainingData
from repkit.training.loop import AT_ONCE, CPU, BrokenContract, fit, predict, prediction_batch
from repkit.training.optim import resolve_precision
from repkit.training.stacked import _Program


class Bias(torch.nn.Module):
    """Logits are a single parameter vector: plain gradient descent can be followed on paper."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        n = len(batch.ids)
        return api.Outputs({"emotion": self.bias.expand(n, 2)}, self.bias.expand(n, 2))


class CrossEntropy(torch.nn.Module):
    def forward(self, outputs, batch, progress):
        self.seen = [*getattr(self, "seen", []), progress]
        return {"emotion": torch.nn.functional.cross_entropy(outputs.logits["emotion"], batch.targets["emotion"])}


def data(targets=(0, 0, 0, 1)):
    n = len(targets)
    frames = RaggedTensor(torch.zeros(n, 1), torch.arange(n + 1))
    return FoldData(TrainingData([f"c/{i}" for i in range(n)], frames, {"emotion": torch.tensor(targets)}))


def run(epochs=2, batch_size=4, uars=None, dev=True, objective=None, select_by="dev.uar", **settings):
    model = Bias()
    objective = objective or CrossEntropy()
    values = iter(uars or [0.5] * epochs)
    settings = {"optimiser": "sgd", "learning_rate": 1.0, **settings}
    fitted = fit(
        Training(
            model,
            {"ce": (objective, 1.0)},
            data(),
            torch.arange(4),
            torch.arange(4) if dev else torch.arange(0),
            TrainingTable(epochs=epochs, batch_size=batch_size, select_by=select_by, **settings),
            seed=0,
            score=lambda probabilities, indices: {"emotion": {"uar": next(values), "wa": 0.0}},
        )
    )
    return fitted, objective


def test_gradient_descent_by_hand():
    # first step: p = (1/2, 1/2), gradient = p - mean one-hot (3/4, 1/4) = (-1/4, 1/4)
    fitted, _ = run(epochs=1)
    assert fitted.last["bias"].tolist() == pytest.approx([0.25, -0.25])
    # the loss of epoch one is ln 2
    assert fitted.history[0]["train_loss"] == pytest.approx(0.693147, abs=1e-5)


def test_the_best_dev_epoch_is_selected_and_the_last_is_kept_too():
    fitted, _ = run(epochs=4, uars=[0.3, 0.9, 0.9, 0.4])
    assert fitted.selected_epoch == 3  # of two equal ones the later
    third, _ = run(epochs=3)
    torch.testing.assert_close(fitted.selected["bias"], third.last["bias"])
    assert not torch.equal(fitted.selected["bias"], fitted.last["bias"])


@pytest.mark.parametrize("settings", [{"dev": False}, {"select_by": "last"}])
def test_without_choice_the_last_epoch_is_selected(settings):
    fitted, _ = run(epochs=3, uars=[0.9, 0.1, 0.1], **settings)
    assert fitted.selected_epoch == 3
    torch.testing.assert_close(fitted.selected["bias"], fitted.last["bias"])


def test_progress_runs_from_zero_towards_one():
    _, objective = run(epochs=2, batch_size=2)
    assert objective.seen == [0.0, 0.25, 0.5, 0.75]


def test_a_loss_that_is_not_finite_stops_with_its_terms_and_utterances():
    class Broken(torch.nn.Module):
        def forward(self, outputs, batch, progress):
            return {"x": outputs.logits["emotion"].sum() * float("nan")}

    with pytest.raises(DataError, match=r"epoch 1, batch 0: the loss is not finite \(ce.x nan\).*c/") as caught:
        run(objective=Broken())
    assert "nothing was learnt before" in caught.value.message
    assert "learning_rate" not in caught.value.message

    class Later(Broken):
        def forward(self, outputs, batch, progress):
            return super().forward(outputs, batch, progress) if progress else {"x": outputs.logits["emotion"].sum()}

    with pytest.raises(DataError, match=r"batch 1: .*lower training.learning_rate"):
        run(objective=Later(), epochs=1, batch_size=2)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([1.0], "gives a list; losses by name were expected"),
        ({"x": 1.0}, "loss 'x' is a float; a tensor of one number was expected"),
        ({"x": torch.zeros(1)}, r"loss 'x' is a tensor of shape \(1,\)"),
        ({"x": torch.ones(())}, r"nothing to learn from in a batch \(ce.x\); a loss with a gradient"),
        ({}, r"nothing to learn from in a batch \(no loss at all\)"),
    ],
)
def test_what_is_no_loss_names_its_objective(found, said):
    class Odd(torch.nn.Module):
        def forward(self, outputs, batch, progress):
            # sound at first: a look before the training does not find it
            return found if progress else {"x": outputs.logits["emotion"].sum()}

    with pytest.raises(BrokenContract, match=said) as caught:
        run(objective=Odd())
    assert caught.value.objective == "ce"


@pytest.mark.parametrize(
    ("figures", "said"),
    [(None, "gives a NoneType; figures"), ({"a": torch.zeros(2)}, r"figure 'a' is a tensor of shape")],
)
def test_what_is_no_figure_names_its_objective(figures, said):
    objective = CrossEntropy()
    objective.measure = lambda outputs, batch, progress: figures
    with pytest.raises(BrokenContract, match=said) as caught:
        run(objective=objective)
    assert caught.value.objective == "ce"


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (lambda rows: (rows[:-1], rows), r"outputs of \[3, 4\] items for a batch of 4; one row each"),
        (lambda rows: (rows.detach(), rows.detach()), "the outputs depend on no trained parameter"),
    ],
)
def test_outputs_that_do_not_fit_the_batch_or_cannot_be_trained_are_the_models_fault(monkeypatch, outputs, said):
    def forward(self, batch):
        logits, shared = outputs(self.bias.expand(len(batch.ids), 2))
        return api.Outputs({"emotion": logits}, shared)

    class Zero(torch.nn.Module):
        def forward(self, outputs, batch, progress):
            return {"x": outputs.logits["emotion"].sum()}

    monkeypatch.setattr(Bias, "forward", forward)
    with pytest.raises(BrokenContract, match=said) as caught:
        run(objective=Zero())
    assert caught.value.objective is None


def test_gradient_clipping_bounds_the_step():
    fitted, _ = run(epochs=1, gradient_clip_norm=0.1)
    assert fitted.last["bias"].norm().item() == pytest.approx(0.1, rel=1e-4)


class Listener(Bias):
    """Notes how many utterances it is tested with at a time."""

    def __init__(self, *capabilities):
        super().__init__()
        self.capabilities, self.tested = frozenset(capabilities), []

    def forward(self, batch):
        if not self.training:
            self.tested.append(len(batch.ids))
        return super().forward(batch)


@pytest.mark.parametrize(("capabilities", "tested"), [(("padding_sensitive",), [3, 1]), ((), [4])])
def test_a_model_that_hears_padding_is_tested_in_batches_as_in_training(capabilities, tested):
    model = Listener(*capabilities)
    training = Training(
        model, {"ce": (CrossEntropy(), 1.0)}, data(), torch.arange(4), torch.arange(4), TrainingTable(epochs=1, batch_size=3),
        seed=0, score=lambda probabilities, indices: {"emotion": {"uar": 0.5, "wa": 0.0}},
    )  # fmt: skip
    fit(training)
    assert model.tested == tested
    assert prediction_batch(model, 3) == (3 if capabilities else AT_ONCE)


def test_predictions_come_back_in_the_order_asked_for():
    class Echo(torch.nn.Module):
        def forward(self, batch):
            value = batch.frames[:, 0, :1]
            return api.Outputs({"emotion": torch.cat([value, -value], 1)}, value)

    lengths = torch.tensor([3, 1, 2])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    frames = RaggedTensor(torch.tensor([[1.0]] * 3 + [[2.0]] + [[3.0]] * 2), offsets)
    fold = FoldData(TrainingData(["a", "b", "c"], frames, {"emotion": torch.zeros(3, dtype=torch.int64)}))
    probabilities, shared = predict(Echo(), fold, torch.tensor([2, 0, 1]), batch_size=2)
    assert shared[:, 0].tolist() == [3, 1, 2]
    torch.testing.assert_close(probabilities["emotion"][:, 0], torch.sigmoid(2 * torch.tensor([3.0, 1, 2])))


class LowPrecision(Bias):
    """As a linear layer under bf16 gives it."""

    def forward(self, batch):
        outputs = super().forward(batch)
        return api.Outputs({"emotion": outputs.logits["emotion"].bfloat16()}, outputs.shared.bfloat16())


class Types(CrossEntropy):
    def forward(self, outputs, batch, progress):
        self.types = {outputs.logits["emotion"].dtype, outputs.shared.dtype}
        return super().forward(outputs, batch, progress)


@pytest.mark.parametrize("together", [False, True])
def test_losses_are_computed_in_float32_whatever_the_model_gives(together):
    model, objective = LowPrecision(), Types()
    training = Training(
        model, {"ce": (objective, 1.0)}, data(), torch.arange(4), torch.arange(0),
        TrainingTable(epochs=1, batch_size=4, select_by="last"), seed=0, score=None,
    )  # fmt: skip
    if together:
        _Program(training, CPU)(training.data.batch(torch.arange(4)), torch.zeros(()), True)
    else:
        fit(training)
    assert objective.types == {torch.float32}


@pytest.mark.parametrize(
    ("model", "has_bf16", "found"),
    [(Bias(), True, "bf16"), (Bias(), False, "fp32"), (torch.nn.Sequential(torch.nn.GRU(1, 1)), True, "fp32")],
)
def test_auto_takes_bf16_on_gpus_that_have_it_for_models_without_recurrent_layers(monkeypatch, model, has_bf16, found):
    asked = []

    class Selected:
        def __init__(self, device):
            asked.append(device)

        __enter__ = __exit__ = lambda self, *error: None

    def supported(including_emulation=True):  # what torch says of a T4: emulated, it is there
        return has_bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "device", Selected)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    device = torch.device("cuda:1")
    assert resolve_precision("auto", device, model) == found
    assert asked == [device]


def test_bf16_for_recurrent_layers_on_a_gpu_is_warned_of():
    with pytest.warns(RepkitWarning, match="recurrent layers of GRU are computed in float16"):
        assert resolve_precision("bf16", torch.device("cuda"), torch.nn.GRU(1, 1)) == "bf16"
