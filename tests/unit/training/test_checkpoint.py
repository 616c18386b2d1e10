"""Checkpoints: what comes back, what is kept, and the walk back over damaged ones."""

import json

import pytest
import torch

from repkit.errors import RepkitWarning
from repkit.training.checkpoint import (
    load_newest_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)


def _save(folder, step, keep=2):
    save_checkpoint(folder, step, {"w": torch.full((3,), float(step))}, {"epoch": step, "loss": 0.1}, keep=keep)


def test_newest_comes_back_bit_by_bit(tmp_path):
    tensors = {"a": torch.randn(4, 5), "b": torch.arange(3, dtype=torch.int64), "c": torch.tensor(2.5)}
    save_checkpoint(tmp_path / "new", 7, tensors, {"best": {"dev_rmse": 0.25}, "seconds": 1.5})
    found = load_newest_checkpoint(tmp_path / "new")
    assert found.step == 7
    assert found.meta == {"best": {"dev_rmse": 0.25}, "seconds": 1.5}
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor)


def test_nothing_there(tmp_path):
    assert load_newest_checkpoint(tmp_path / "absent") is None
    assert load_newest_checkpoint(tmp_path) is None


def test_keeps_the_newest_two_and_sweeps_strays(tmp_path):
    (tmp_path / "step-000000001.tmp.99-0.safetensors").write_bytes(b"half")
    (tmp_path / "step-000000002.safetensors").write_bytes(b"killed before its description")
    for step in (5, 6, 10):
        _save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"step-00000000{step}.{suffix}" if step < 10 else f"step-0000000{step}.{suffix}"
        for step in (6, 10)
        for suffix in ("json", "safetensors")
    ]


def test_a_training_that_was_gone_back_behind_is_forgotten(tmp_path):
    _save(tmp_path, 120, keep=1)
    _save(tmp_path, 110, keep=1)
    assert load_newest_checkpoint(tmp_path).tensors["w"].tolist() == [110.0] * 3
    assert len(list(tmp_path.iterdir())) == 2
    for step in (115, 118, 130):
        _save(tmp_path, step)
    _save(tmp_path, 119)
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["step-000000118.json", "step-000000119.json"]


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "json", "missing"])
def test_walks_back_over_a_damaged_one(tmp_path, harm):
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    weights, described = tmp_path / "step-000000002.safetensors", tmp_path / "step-000000002.json"
    content = bytearray(weights.read_bytes())
    if harm == "truncate":
        weights.write_bytes(content[:-4])
    elif harm == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif harm == "empty":
        weights.write_bytes(b"")
    elif harm == "json":
        described.write_text(described.read_text()[:20])
    else:
        weights.unlink()
    with pytest.warns(RepkitWarning, match="step-000000002.*going back"):
        found = load_newest_checkpoint(tmp_path)
    assert found.step == 1
    assert found.tensors["w"].tolist() == [1.0, 1.0, 1.0]


def test_tensors_without_description_are_no_checkpoint(tmp_path):
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    (tmp_path / "step-000000002.json").unlink()  # killed between the two files: no warning, it was never complete
    assert load_newest_checkpoint(tmp_path).step == 1


def test_all_damaged(tmp_path):
    _save(tmp_path, 1)
    (tmp_path / "step-000000001.json").write_text(json.dumps({"step": 1}))
    with pytest.warns(RepkitWarning):
        assert load_newest_checkpoint(tmp_path) is None


def test_optimizer_and_random_numbers_continue_exactly(tmp_path):
    def steps(model, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            torch.nn.functional.dropout(model(torch.ones(2, 3)), 0.5).sum().backward()
            optimizer.step()

    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    steps(model, optimizer, 3)
    state = {f"model.{k}": v for k, v in model.state_dict().items()} | pack_optimizer(optimizer)
    state["rng"] = torch.get_rng_state()
    save_checkpoint(tmp_path, 3, state, {})
    steps(model, optimizer, 3)

    torch.manual_seed(99)
    other = torch.nn.Linear(3, 2)
    other_optimizer = torch.optim.Adam(other.parameters(), lr=0.1)
    found = load_newest_checkpoint(tmp_path)
    other.load_state_dict({k[6:]: v for k, v in found.tensors.items() if k.startswith("model.")})
    unpack_optimizer(other_optimizer, found.tensors)
    torch.set_rng_state(found.tensors["rng"])
    steps(other, other_optimizer, 3)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)
