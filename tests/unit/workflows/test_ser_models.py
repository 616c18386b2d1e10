"""The first look at a model: what breaks the contract is refused, and padding that changes results is told."""

from importlib.metadata import EntryPoint

import pytest
import torch

from repkit.api import Config, Outputs, TaskSpec
from repkit.config import SerRecipe
from repkit.errors import PluginError
from repkit.plugins import discover
from repkit.plugins.blaming import blaming
from repkit.training.data import FoldData, RaggedTensor, TrainingData
from repkit.workflows.train_ser.conditions import capabilities_of
from repkit.workflows.train_ser.models import (
    PADDING_TOLERANCE,
    _check_methods,
    check_objectives,
    first_outputs,
    padding_notes,
)

TASK = TaskSpec(views={"emotion": ("anger", "sadness")}, n_bands=3)
LENGTHS = (40, 7, 23, 12)


class Mean(torch.nn.Module):
    """The mean of the valid frames."""

    class Config(Config):
        pass

    def __init__(self, config=None, task=TASK):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(task.n_bands, 2)

    def pool(self, batch):
        return (batch.frames * batch.mask[..., None]).sum(1) / batch.lengths[:, None]

    def forward(self, batch):
        shared = self.pool(batch)
        return Outputs({"emotion": self.head(shared)}, shared)

    def parameter_groups(self):
        return {"head": list(self.head.parameters())}


class Leaky(Mean):
    """The mean of all frames, padding too."""

    def pool(self, batch):
        return batch.frames.mean(1)


class Declared(Leaky):
    capabilities = frozenset({"padding_sensitive"})


class Neighbours(Mean):
    """Centred by the batch, whatever its lengths."""

    def pool(self, batch):
        pooled = super().pool(batch)
        return pooled - pooled.mean(0)


class Faint(Mean):
    """Padding moves the outputs by less than is allowed."""

    def pool(self, batch):
        return super().pool(batch) + 0.5 * PADDING_TOLERANCE * (batch.frames.shape[1] > 7)


class Drawing(Mean):
    """Draws in evaluation, which must not move the generator of the training."""

    def pool(self, batch):
        torch.rand(3)
        return super().pool(batch)


@pytest.fixture
def recipe_of(monkeypatch):
    real = discover.entry_points

    def make(kind):
        point = EntryPoint("toy_model", f"{__name__}:{kind.__name__}", "repkit.models")
        monkeypatch.setattr(
            discover, "entry_points", lambda group: [*real(group=group), *([point] if group == point.group else [])]
        )
        return SerRecipe(name="x", model={"name": "toy_model"})

    return make


def fold():
    frames = torch.randn(sum(LENGTHS), 3, generator=torch.Generator().manual_seed(1)) + 2
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    return FoldData(
        TrainingData(
            [f"x/{i}" for i in range(4)], RaggedTensor(frames, offsets), {"emotion": torch.tensor([0, 1, 0, 1])}
        )
    )


def notes_of(kind, recipe):
    model, data, train = kind(), fold(), torch.arange(4)
    batch, outputs = first_outputs(recipe, model, data, train, TASK)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    notes = padding_notes(recipe, model, data, train, batch, outputs)
    assert torch.equal(torch.get_rng_state(), before)
    return notes


@pytest.mark.parametrize("kind", [Leaky, Neighbours])
def test_a_model_that_hears_padding_or_its_neighbours_is_told_with_the_tolerance(kind, recipe_of):
    (note,) = notes_of(kind, recipe_of(kind))
    assert "(repkit.models: toy_model): padding changes results" in note or "component toy_model" in note
    assert "of an utterance of 7 frames" in note
    assert "in a batch of up to 40 frames (0.001 is allowed)" in note
    assert "repkit plugins check toy_model" in note


def test_the_difference_told_is_that_of_the_shortest_utterance(recipe_of):
    (note,) = notes_of(Leaky, recipe_of(Leaky))
    values = fold().data.frames.values[40:47]
    # alone the mean over 7 frames; in the batch the same sum over 40
    alone, together = values.mean(0), values.sum(0) / 40
    size = max(1.0, float(torch.maximum(alone.abs(), together.abs()).max()))
    expected = float((alone - together).abs().max()) / size
    assert f"the shared of an utterance of 7 frames differ by {expected:.2g}" in note


@pytest.mark.parametrize("kind", [Mean, Declared, Faint, Drawing])
def test_models_that_keep_the_rule_or_declare_it_are_not(kind, recipe_of):
    assert notes_of(kind, recipe_of(kind)) == []


def test_the_built_in_model_keeps_it():
    from repkit.plugins import build_config, load

    recipe = SerRecipe(name="x")
    kind = load("repkit.models", "attentive_cnn")
    assert (
        notes_of(
            lambda: kind(build_config(kind, {"fusion": "none", "n_filters": 4, "pool_size": 3}, "model"), TASK), recipe
        )
        == []
    )


class Silent(Mean):
    parameter_groups = None


class Partly(Mean):
    def parameter_groups(self):
        return {"head": [self.head.weight]}


class Twice(Mean):
    def parameter_groups(self):
        return {"head": list(self.head.parameters()), "shared": [self.head.bias]}


class Misnamed(Mean):
    def parameter_groups(self):
        return {"heads": list(self.head.parameters())}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Silent, "Silent has no method parameter_groups"),
        (Partly, "names 1 parameters not exactly once, first head.bias"),
        (Twice, "names 1 parameters not exactly once, first head.bias"),
        (Misnamed, "has a group 'heads'; some of shared, adapter, norm, head were expected"),
    ],
)
def test_a_model_without_what_the_contract_requires_is_refused_by_name(kind, said, recipe_of):
    recipe = recipe_of(kind)
    with pytest.raises(PluginError) as caught, blaming("repkit.models", recipe.model.name):
        _check_methods(kind(), capabilities_of(recipe))
    assert said in caught.value.message
    assert "run `repkit plugins check toy_model`" in caught.value.message


def test_a_loss_that_is_not_finite_before_any_training_is_the_objectives_fault(recipe_of):
    class Broken(torch.nn.Module):
        def forward(self, outputs, batch, progress):
            return {"x": outputs.shared.sum() / 0}

    recipe = recipe_of(Mean)
    batch, outputs = first_outputs(recipe, Mean(), fold(), torch.arange(4), TASK)
    with pytest.raises(PluginError, match=r"repkit.objectives: multi_view\).*loss 'x' is -?inf of finite outputs"):
        check_objectives(recipe, {"multi_view": (Broken(), 1.0)}, batch, outputs)


@pytest.mark.parametrize(
    ("losses", "listed"), [({}, r"\(none\)"), ({"x": torch.ones(()), "y": torch.zeros(()) + 2}, "x, y")]
)
def test_losses_that_no_training_could_change_are_the_objectives_fault(recipe_of, losses, listed):
    class Still(torch.nn.Module):
        def forward(self, outputs, batch, progress):
            return losses

    recipe = recipe_of(Mean)
    batch, outputs = first_outputs(recipe, Mean(), fold(), torch.arange(4), TASK)
    with pytest.raises(PluginError, match=rf"multi_view\).*the losses {listed} depend on no parameter"):
        check_objectives(recipe, {"multi_view": (Still(), 1.0)}, batch, outputs)
    # zero is what an objective may say of a batch without its labels
    losses |= {"z": torch.zeros(())}
    check_objectives(recipe, {"multi_view": (Still(), 1.0)}, batch, outputs)


class Detached(Mean):
    def pool(self, batch):
        return super().pool(batch) + self.head.bias.sum()

    def forward(self, batch):
        outputs = super().forward(batch)
        return Outputs({view: logits.detach() for view, logits in outputs.logits.items()}, outputs.shared)


class Infinite(Mean):
    def forward(self, batch):
        outputs = super().forward(batch)
        return Outputs(outputs.logits, outputs.shared / 0)


@pytest.mark.parametrize(
    ("kind", "said"), [(Detached, "the logits depend on no parameter"), (Infinite, "shared is not finite at the start")]
)
def test_outputs_that_no_training_could_mend_are_the_models_fault(kind, said, recipe_of):
    with pytest.raises(PluginError, match=rf"toy_model.*{said}"):
        first_outputs(recipe_of(kind), kind(), fold(), torch.arange(4), TASK)


def test_a_model_that_does_not_keep_its_parameters_is_refused():
    class Forgetful(Mean):
        def state_dict(self, *given, **named):
            return {}

    with pytest.raises(
        ValueError, match=r"state_dict\(\) leaves out 2 parameters, first head.weight; all were expected"
    ):
        _check_methods(Forgetful(), frozenset())


def test_an_estimator_needs_its_three_methods():
    with pytest.raises(TypeError, match="Mean has no method candidates, fit, scores"):
        _check_methods(Mean(), frozenset({"estimator"}))
    _check_methods(Mean(), frozenset())
