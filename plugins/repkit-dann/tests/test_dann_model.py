"""The CNN-BLSTM against the sheet's counts and an implementation in NumPy."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from repkit_dann.cnn_blstm import CnnBlstm
from scipy.signal import correlate2d
from scipy.special import expit

from repkit import api

VIEWS = {"arousal": ("low", "high"), "valence": ("negative", "positive")}
SMALL = {"filters": (3, 4), "kernels": ((5, 5), (4, 3)), "pools": ((2, 2), (1, 2)), "units": 5}


def make(n_bands=129, n_frames=32, vector_dim=0, views=VIEWS, **settings):
    torch.manual_seed(0)
    task = api.TaskSpec(views=views, n_bands=n_bands, n_frames=n_frames, vector_dim=vector_dim)
    return CnnBlstm(CnnBlstm.Config(**settings), task)


def small(**more):
    return make(n_bands=13, n_frames=8, **(SMALL | more))


def batch_of(lengths, n_bands=13, n_frames=8, vector_dim=0, seed=1):
    draw = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(lengths), n_frames, n_bands, generator=draw)
    lengths = torch.tensor(lengths)
    frames *= (torch.arange(n_frames) < lengths[:, None])[..., None]
    vectors = torch.randn(len(lengths), vector_dim, generator=draw) if vector_dim else None
    return api.Batch(ids=["a"] * len(lengths), frames=frames, lengths=lengths, targets={}, vectors=vectors)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_those_of_the_sheet():
    model = make(views={"arousal": ("low", "high")})
    assert (count(model.convs), count(model.lstm)) == (52_096, 2_230_272)
    assert (count(model.norms), count(model.heads)) == (2 * (32 + 64), 256 * 2 + 2)


def test_satt_preset():
    model = make(preset="satt2017")
    # by hand: 16 (12 16) + 16, 24 16 (8 12) + 24, 32 24 (5 7) + 32; 129 bins / 2 / 2 = 32, times 32 channels
    assert count(model.convs) == 16 * 192 + 16 + 24 * 16 * 96 + 24 + 32 * 24 * 35 + 32
    assert count(model.lstm) == 2 * 4 * 128 * (32 * 32 + 128 + 2)
    outputs = model.eval()(batch_of([32, 20], n_bands=129, n_frames=32))
    assert outputs.shared.shape == (2, 256)


def test_shapes_of_the_sheet():
    model = make().eval()
    seen = {}
    model.lstm.register_forward_pre_hook(lambda module, inputs: seen.update(steps=inputs[0].shape))
    outputs = model(batch_of([32, 32, 32], n_bands=129, n_frames=32))
    assert seen["steps"] == (3, 8, 2048)
    assert outputs.shared.shape == (3, 256)
    assert {view: tuple(logits.shape) for view, logits in outputs.logits.items()} == dict.fromkeys(VIEWS, (3, 2))


def numpy_last_states(model, frames):
    """One item (T, F) through convolutions, batch norm in evaluation, maximum, ReLU and both directions of the LSTM."""
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    maps = frames.double().numpy()[None]
    for i, (pool_t, pool_f) in enumerate(SMALL["pools"]):
        weight, bias = state[f"convs.{i}.weight"], state[f"convs.{i}.bias"]
        kernel_t, kernel_f = weight.shape[2:]
        before_t, before_f = (kernel_t - 1) // 2, (kernel_f - 1) // 2
        padded = np.pad(maps, ((0, 0), (before_t, kernel_t - 1 - before_t), (before_f, kernel_f - 1 - before_f)))
        made = []
        for o in range(len(weight)):
            response = bias[o] + sum(
                correlate2d(channel, kernel, mode="valid") for channel, kernel in zip(padded, weight[o], strict=True)
            )
            mean, var = state[f"norms.{i}.running_mean"][o], state[f"norms.{i}.running_var"][o]
            scaled = (response - mean) / np.sqrt(var + 1e-5) * state[f"norms.{i}.weight"][o] + state[f"norms.{i}.bias"][
                o
            ]
            rectified = np.maximum(scaled, 0.0)
            n_t, n_f = rectified.shape[0] // pool_t, rectified.shape[1] // pool_f
            cut = rectified[: n_t * pool_t, : n_f * pool_f]
            made.append(cut.reshape(n_t, pool_t, n_f, pool_f).max(axis=(1, 3)))
        maps = np.stack(made)
    steps = maps.transpose(1, 2, 0).reshape(maps.shape[1], -1)
    last = []
    for suffix, order in (("", steps), ("_reverse", steps[::-1])):
        w_in, w_rec = state[f"lstm.weight_ih_l0{suffix}"], state[f"lstm.weight_hh_l0{suffix}"]
        bias = state[f"lstm.bias_ih_l0{suffix}"] + state[f"lstm.bias_hh_l0{suffix}"]
        hidden = cell = np.zeros(SMALL["units"])
        for step in order:
            into, keep, new, out = np.split(w_in @ step + w_rec @ hidden + bias, 4)
            cell = expit(keep) * cell + expit(into) * np.tanh(new)
            hidden = expit(out) * np.tanh(cell)
        last.append(hidden)
    return np.concatenate(last)


def test_forward_equals_numpy():
    model = small()
    for norm in model.norms:  # statistics and scales that are not the initial ones, of both signs
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.uniform_(norm.weight, -1, 1)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    outputs = model.eval()(batch_of([8, 8]))
    expected = numpy_last_states(model, batch_of([8, 8]).frames[1])
    np.testing.assert_allclose(outputs.shared[1].detach().numpy(), expected, atol=1e-5)
    head = model.heads["valence"]
    logits = head.weight.detach().numpy() @ expected + head.bias.detach().numpy()
    np.testing.assert_allclose(outputs.logits["valence"][1].detach().numpy(), logits, atol=1e-5)


def test_an_item_alone_equals_in_a_batch_whatever_lies_in_its_padding():
    model = small().eval()
    batch = batch_of([8, 3, 6])
    together = model(batch).shared
    dirty = batch_of([8, 3, 6])
    dirty.frames[1, 3:] = 99.0
    torch.testing.assert_close(model(dirty).shared, together)
    alone = api.Batch(ids=["a"], frames=batch.frames[1:2, :3], lengths=batch.lengths[1:2], targets={})
    torch.testing.assert_close(model(alone).shared[0], together[1], rtol=1e-4, atol=1e-6)


def test_dropout_acts_behind_the_shared_vector():
    model = small()
    first, second = model(batch_of([8] * 4)), model(batch_of([8] * 4))
    torch.testing.assert_close(first.shared, second.shared)
    assert not torch.equal(first.logits["arousal"], second.logits["arousal"])


def test_vectors_are_mapped_into_the_shared_vector():
    model = small(vector_dim=6).eval()
    batch = batch_of([8, 8], vector_dim=6)
    outputs = model(batch)
    assert outputs.shared.shape == (2, 10)
    without = numpy_last_states(model, batch.frames[0])
    joined = np.concatenate([without, batch.vectors[0].numpy()])
    expected = model.join.weight.detach().numpy() @ joined + model.join.bias.detach().numpy()
    np.testing.assert_allclose(outputs.shared[0].detach().numpy(), expected, atol=1e-5)
    batch.vectors = None
    with pytest.raises(ValueError, match="no vectors"):
        model(batch)


def test_parameter_groups_hold_each_parameter_once():
    model = small(vector_dim=6)
    groups = model.parameter_groups()
    listed = [id(p) for group in groups.values() for p in group]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    assert [id(p) for p in groups["norm"]] == [id(p) for p in model.norms.parameters()]
    assert [id(p) for p in groups["head"]] == [id(p) for p in model.heads.parameters()]


def test_items_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"\[segments\]"):
        make(n_frames=0)
    with pytest.raises(ValueError, match="9 frames; 8 were expected"):
        small()(batch_of([9], n_frames=9))
    with pytest.raises(ValueError, match="longer segments"):
        make(n_frames=3)


def test_config_counts_layers():
    with pytest.raises(ValidationError, match="3 filters, 2 kernels, 2 pools"):
        CnnBlstm.Config(filters=(1, 2, 3))
    with pytest.raises(ValidationError):
        CnnBlstm.Config(filters=(0, 2))
    assert CnnBlstm.Config(filters=[8, 16]).of_layers("kernels") == ((5, 5), (5, 5))
