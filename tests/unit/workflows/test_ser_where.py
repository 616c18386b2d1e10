"""Where jobs are done: what is settled here and what by the workers, and what lies on a device."""

from types import SimpleNamespace

import pytest
import torch

from repkit.config import SerRecipe, load_recipe
from repkit.errors import UsageError
from repkit.training.data import RaggedTensor, TrainingData
from repkit.workflows.train_ser import where as where_module
from repkit.workflows.train_ser.context import SerContext
from repkit.workflows.train_ser.jobs import _on_device
from repkit.workflows.train_ser.run import Place
from repkit.workflows.train_ser.where import Where

SVM, CNN = (load_recipe(SerRecipe, name) for name in ("probe", "demo"))


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """One GPU, on which nothing is computed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)


@pytest.mark.parametrize(
    ("recipes", "asked", "found"),
    [
        ([CNN], {}, ("batched", "cuda")),
        ([CNN], {"device": "cpu"}, ("processes", "cpu")),
        ([SVM, SVM], {}, ("processes", "cpu")),
        ([SVM], {"device": "cuda", "executor": "batched"}, ("batched", "cpu")),
        ([SVM, CNN], {}, ("batched", "cuda")),
        ([CNN], {"executor": "processes"}, ("processes", "cuda")),
        ([], {}, ("batched", "cuda")),
    ],
)
def test_estimators_keep_the_cores_of_a_machine_with_a_gpu(recipes, asked, found):
    settled = Where(**asked).settled(recipes)
    assert (settled.executor, settled.device) == found


def test_networks_that_cannot_share_a_program_leave_the_number_of_processes_to_the_user(monkeypatch):
    monkeypatch.setattr(where_module, "capabilities_of", lambda recipe: frozenset({"vectors"}))
    settled = Where().settled([CNN])
    assert (settled.executor, settled.device) == ("processes", "cuda")


def test_the_workers_of_a_scheduler_settle_the_device_themselves(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # of the machine where the command is typed
    for device in ("auto", "cuda", "cuda:1"):
        assert Where("dask", device, scheduler="tcp://node1:8786").settled([CNN]).device == device
    with pytest.raises(UsageError, match="one of auto, cpu, cuda"):
        Where("dask", "gpu", scheduler="tcp://node1:8786").settled([CNN])
    with pytest.raises(UsageError, match="torch finds no GPU"):
        Where("dask", "cuda").settled([CNN])  # a cluster of this machine


def test_frames_lie_on_a_device_once_for_all_conditions():
    frames = RaggedTensor(torch.zeros(6, 2), torch.tensor([0, 2, 6]))
    whole = TrainingData(["a", "b"], frames, {})
    context = SerContext(None, {}, whole, {}, {}, {}, {}, {})
    device = torch.device("meta")
    one, other = (
        _on_device(context, name, TrainingData(["a", "b"], frames, {}, torch.zeros(2, dim)), device)
        for name, dim in (("one", 3), ("other", 4))
    )
    assert one.frames.values is other.frames.values
    assert [data.vectors.shape[1] for data in (one, other)] == [3, 4]
    assert {data.vectors.device.type for data in (one, other)} == {one.frames.values.device.type} == {"meta"}
    assert _on_device(context, "one", whole, device) is one
    context.drop(("data", "one"))
    assert _on_device(context, "one", whole, device).frames.values is one.frames.values


@pytest.mark.parametrize(
    ("recipe", "executor", "workers", "said"),
    [
        (CNN, "auto", None, "one process on cuda, up to 64 trainings in one program"),
        (CNN, "processes", None, "1 processes on cuda"),
        (CNN, "processes", 2, "2 processes on cuda"),
        (SVM, "auto", 3, "3 processes"),
    ],
)
def test_a_plan_says_what_will_do_the_jobs(recipe, executor, workers, said):
    plan = SimpleNamespace(conditions=[SimpleNamespace(recipe=recipe)], jobs=range(8))
    assert Place.choose(Where(executor), workers, plan).told() == said
