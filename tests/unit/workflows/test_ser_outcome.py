"""What a trained model gives before its job is published: numbers, and those that its saved weights give again."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import repkit.workflows.train_ser.outcome as module
from repkit.api import Config, Outputs, TaskSpec
from repkit.config import SerRecipe
from repkit.errors import DataError, PluginError
from repkit.training.data import FoldData, RaggedTensor, TrainingData
from repkit.training.loop import BrokenContract
from repkit.workflows.train_ser.jobs import PreparedJob, naming_components
from repkit.workflows.train_ser.outcome import check_finite, check_saved
from repkit.workflows.train_ser.plan import SerJob

TASK = TaskSpec(views={"emotion": ("anger", "sadness")}, n_bands=1)
JOB = SerJob("BL", 0, "one")


class Sum(torch.nn.Module):
    """Logits w * x and 0 for the one frame x; `scale` is kept, `loose` is not."""

    class Config(Config):
        pass

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("scale", torch.ones(1))
        self.loose = 1.0

    def forward(self, batch):
        x = batch.frames[:, 0] * self.w * self.scale * self.loose
        return Outputs({"emotion": torch.cat([x, 0 * x], 1)}, x)


def checked(tmp_path, monkeypatch, trained, **changed):
    """Save a model's weights and look at it; settle with which seeds others were built."""
    built = []

    def build_model(context, job, task):
        built.append(job.fold)
        return Sum()

    monkeypatch.setattr(module, "build_model", build_model)
    frames = RaggedTensor(torch.tensor([[0.5], [3.0], [-4.0], [9.0]]), torch.arange(5))
    data = FoldData(TrainingData([f"x/{i}" for i in range(4)], frames, {"emotion": torch.zeros(4, dtype=torch.int64)}))
    parts = {"test": torch.tensor([1, 2, 3])}
    context = SimpleNamespace(recipes={"BL": SerRecipe(name="x", model={"name": "attentive_cnn"})})
    weights = {name: value.detach().clone() for name, value in trained.state_dict().items()} | changed
    save_file(weights, tmp_path / "w.safetensors")
    state = torch.get_rng_state()
    check_saved(
        context, PreparedJob(JOB, TASK, trained, data, parts, {}, None), tmp_path / "w.safetensors", weights, None
    )
    assert torch.equal(torch.get_rng_state(), state)
    return built


def test_a_model_whose_weights_are_all_that_it_is_passes(tmp_path, monkeypatch):
    model = Sum()
    with torch.no_grad():
        model.w += 1
        model.scale += 2
    (fold,) = checked(tmp_path, monkeypatch, model)
    assert fold != JOB.fold  # from the job's seed a model that draws what it does not keep would be the same


def test_the_selected_weights_are_tried_and_not_those_that_the_model_has(tmp_path, monkeypatch):
    model = Sum()
    checked(tmp_path, monkeypatch, model, w=torch.tensor([7.0]))
    assert model.w.item() == 7


def test_a_model_with_a_part_outside_of_its_weights_is_refused_with_the_difference(tmp_path, monkeypatch):
    model = Sum()
    model.loose = 1.5
    # of the first two test utterances 3 * 1.5 = 4.5 against 3 and -6 against -4: at most 2, relative to the largest size 6
    with pytest.raises(
        PluginError, match=r"logits of emotion .* differ by 0\.33 between the trained model and a new one"
    ):
        checked(tmp_path, monkeypatch, model)


def test_a_model_that_gives_no_number_once_it_is_loaded_is_refused(tmp_path, monkeypatch):
    model, fresh = Sum(), Sum()
    fresh.loose = float("nan")
    monkeypatch.setattr(f"{__name__}.Sum", lambda: fresh)
    with pytest.raises(PluginError, match="differ by inf"):
        checked(tmp_path, monkeypatch, model)


def test_rounding_is_allowed(tmp_path, monkeypatch):
    model = Sum()
    model.loose = 1 + module.ROUNDING / 2
    checked(tmp_path, monkeypatch, model)


FOUND = {"probabilities of emotion": torch.ones(3, 2), "hidden vectors": torch.tensor([[1.0], [1.0], [torch.nan]])}


def finite(component, weights, found=FOUND):
    check_finite(component, weights, found, ["x/0", "x/1", "x/2"], "predictions of BL")


def test_numbers_pass():
    finite("attentive_cnn", {"w": torch.tensor([torch.inf])}, {"hidden vectors": torch.ones(3, 1)})


@pytest.mark.parametrize("weights", [{"w": torch.tensor([torch.nan])}, {"a": {"w": torch.tensor([torch.inf])}}])
def test_weights_that_are_not_finite_are_a_training_that_diverged(weights):
    with pytest.raises(
        DataError, match=r"BL: hidden vectors of 1 of 3 utterances .* first of 'x/2'.*has diverged.*rate"
    ):
        finite("stranger", weights)


def test_with_finite_weights_the_model_is_at_fault_and_no_learning_rate_is_proposed():
    weights = {"n": torch.tensor([5]), "w": torch.tensor([-0.25])}
    with pytest.raises(PluginError, match=r"^component stranger .*largest size 0\.25\), so that the model") as caught:
        finite("stranger", weights)
    assert "learning rate" not in caught.value.message
    # what repkit brings is taken to overflow rather than to be broken
    with pytest.raises(DataError, match=r"largest size 0\.25\): where these are large, lower the learning rate"):
        finite("attentive_cnn", {"a": weights})


def test_what_breaks_the_contract_in_a_training_is_blamed_on_its_component():
    recipe = SerRecipe(
        name="x",
        model={"name": "their_model"},
        objectives=[{"name": "multi_view"}, {"name": "their_loss"}, {"name": "their_loss"}],
    )

    def said(error):
        with pytest.raises(PluginError) as caught, naming_components(recipe):
            raise error
        return caught.value.message

    assert said(BrokenContract("their_loss_2", "gives a list")).startswith("component their_loss (repkit.objectives)")
    assert "gives a list; a component" in said(BrokenContract("multi_view", "gives a list"))
    assert said(BrokenContract(None, "no rows")).startswith("component their_model (repkit.models)")
    # raised in repkit's own code by what a stranger has returned
    both = said(IndexError("too long"))
    assert both.startswith(
        "component their_model (repkit.models) or component their_loss (repkit.objectives): IndexError"
    )
    own = SerRecipe(name="x", model={"name": "attentive_cnn"})
    with pytest.raises(IndexError), naming_components(own):
        raise IndexError("a bug of ours")
    for nobodys in (OSError("disk"), torch.OutOfMemoryError("full")):
        with pytest.raises(type(nobodys)), naming_components(recipe):
            raise nobodys
