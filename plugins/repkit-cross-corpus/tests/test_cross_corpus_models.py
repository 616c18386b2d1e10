"""The three models against the sheet's counts, hand-computed lengths and a plain implementation of their forward pass."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from repkit_cross_corpus.layers import ConvolutionStack, masked_mean
from repkit_cross_corpus.parry_cnn import ParryCnn
from repkit_cross_corpus.parry_cnn_lstm import ParryCnnLstm
from repkit_cross_corpus.parry_lstm import ParryLstm

from repkit import api

SMALL = {
    ParryLstm: {"hidden_size": 6, "fc_size": 5},
    ParryCnn: {"channels": (4, 5, 6, 7), "fc_size": 5},
    ParryCnnLstm: {"channels": (4, 5, 6), "hidden_size": 6, "fc_size": 5},
}
MODELS = list(SMALL)


def task(n_bands=8, vector_dim=0, **views):
    return api.TaskSpec(
        views=views or {"emotion": ("negative", "neutral", "positive")}, n_bands=n_bands, vector_dim=vector_dim
    )


def make(kind, vector_dim=0, **settings):
    torch.manual_seed(0)
    return kind(kind.Config(**{**SMALL[kind], **settings}), task(vector_dim=vector_dim)).eval()


def batch_of(lengths, n_bands=8, pad_to=None, vector_dim=0, rubbish=0.0):
    rng = torch.Generator().manual_seed(1)
    frames = torch.full((len(lengths), pad_to or max(lengths), n_bands), rubbish)
    for row, length in enumerate(lengths):
        frames[row, :length] = torch.randn(length, n_bands, generator=rng)
    return api.Batch(
        ids=[str(row) for row in range(len(lengths))],
        frames=frames,
        lengths=torch.tensor(lengths),
        targets={"emotion": torch.arange(len(lengths)) % 3},
        vectors=torch.randn(len(lengths), vector_dim, generator=rng) if vector_dim else None,
    )


@pytest.mark.parametrize(
    ("kind", "expected"), [(ParryLstm, 1_986_051), (ParryCnn, 1_995_523), (ParryCnnLstm, 1_989_763)]
)
def test_parameter_counts_are_those_of_the_sheet(kind, expected):
    model = kind(kind.Config(), task(n_bands=40))
    assert sum(p.numel() for p in model.parameters()) == expected


def test_steps_by_hand():
    # 100 - 4 = 96, (96 - 3) // 2 + 1 = 47, 43 -> 21, 17 -> 8, 4 -> 1
    cnn = ConvolutionStack(2, (3, 3, 3, 3), (5, 5, 5, 5), 3, 2)
    assert [cnn.n_steps(n) for n in (90, 91, 100, 106, 107, 122, 123)] == [0, 1, 1, 1, 2, 2, 3]
    # 96 -> 47, 43 -> 21, 19 -> 9
    cnn_lstm = ConvolutionStack(2, (3, 3, 3), (5, 5, 3), 3, 2)
    assert [cnn_lstm.n_steps(n) for n in (98, 99, 100, 106)] == [8, 9, 9, 9]
    assert cnn_lstm.n_steps(107) == 10  # 103 -> 51, 47 -> 23, 21 -> 10
    for stack in (cnn, cnn_lstm):
        for n in (100, 131, 250):
            assert stack(torch.zeros(1, n, 2)).shape == (1, stack.n_steps(n), 3)
            assert stack.n_steps(torch.tensor([n])).tolist() == [stack.n_steps(n)]


def test_masked_mean_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]], [[4.0, 0.0], [5.0, 3.0], [6.0, 0.0]]])
    found = masked_mean(states, torch.tensor([2, 3]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 4.0], [5.0, 1.0]]))


def test_lstm_equals_gates_written_out():
    """Two layers of i, f, g, o gates, the plain mean and the FC module, on one utterance."""
    model, batch = make(ParryLstm), batch_of([103])
    weights, sequence = dict(model.lstm.named_parameters()), batch.frames[0]
    for layer in range(2):
        w_in, w_rec = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
        bias = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
        hidden, cell, states = torch.zeros(6), torch.zeros(6), []
        for frame in sequence:
            i, f, g, o = (w_in @ frame + w_rec @ hidden + bias).chunk(4)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            states.append(hidden)
        sequence = torch.stack(states)
    shared = torch.relu(model.fc.hidden.weight @ sequence.mean(0) + model.fc.hidden.bias)
    head = model.fc.heads["emotion"]
    outputs = model(batch)
    torch.testing.assert_close(outputs.shared[0], shared, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(outputs.logits["emotion"][0], head.weight @ shared + head.bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [130, 61])
def test_cnn_equals_windows_written_out(length):
    """Convolution, ReLU and pool by loops over windows, as the paper orders them; 61 frames are filled up to 100."""
    model, batch = make(ParryCnn), batch_of([length])
    hidden = F.pad(batch.frames[0], (0, 0, 0, max(0, 100 - length)))  # (T, F)
    for convolution in model.stack.convolutions:
        windows = [hidden[start : start + 5].T.flatten() for start in range(len(hidden) - 4)]
        rows = torch.relu(torch.stack(windows) @ convolution.weight.flatten(1).T + convolution.bias)
        hidden = torch.stack([rows[start : start + 3].amax(0) for start in range(0, len(rows) - 2, 2)])
    assert len(hidden) == {130: 3, 61: 1}[length]
    shared = torch.relu(model.fc.hidden(hidden.mean(0)))
    torch.testing.assert_close(model(batch).shared[0], shared, rtol=1e-4, atol=1e-6)


def test_cnn_lstm_equals_stock_layers():
    model, batch = make(ParryCnnLstm), batch_of([117])
    hidden = batch.frames.transpose(1, 2)
    for convolution in model.stack.convolutions:
        hidden = F.max_pool1d(F.relu(F.conv1d(hidden, convolution.weight, convolution.bias)), 3, 2)
    assert hidden.shape[2] == 11  # 113 -> 56, 52 -> 25, 23 -> 11
    states, _ = model.lstm(hidden.transpose(1, 2))
    torch.testing.assert_close(model(batch).shared, F.relu(model.fc.hidden(states.mean(1))), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pooled_norm", ["none", "batch"])
@pytest.mark.parametrize("kind", MODELS)
def test_alone_equals_in_any_batch(kind, pooled_norm):
    """Lengths around the minimum and around steps of the pools; padding may hold rubbish, even NaN."""
    model = make(kind, vector_dim=3, pooled_norm=pooled_norm)
    lengths = [1, 40, 99, 100, 101, 107, 108, 123, 124, 260]
    batch = batch_of(lengths, pad_to=300, vector_dim=3, rubbish=float("nan"))
    together = model(batch)
    for row, length in enumerate(lengths):
        alone = model(
            api.Batch(
                ids=["0"],
                frames=batch.frames[row : row + 1, :length],
                lengths=batch.lengths[row : row + 1],
                targets={},
                vectors=batch.vectors[row : row + 1],
            )
        )
        torch.testing.assert_close(alone.shared[0], together.shared[row], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.logits["emotion"][0], together.logits["emotion"][row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_zeros_up_to_the_minimum_are_part_of_an_utterance(kind):
    """60 frames give what 100 frames ending in 40 zeros give, and not what they give with a lower minimum."""
    model, batch = make(kind), batch_of([60])
    filled = F.pad(batch.frames, (0, 0, 0, 40))
    longer = api.Batch(ids=["0"], frames=filled, lengths=torch.tensor([100]), targets={})
    torch.testing.assert_close(model(batch).shared, model(longer).shared)
    if kind is ParryLstm:
        lower = make(kind, min_frames=60)
        assert not torch.allclose(lower(batch).shared, model(batch).shared, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_join_the_mean(kind):
    """The FC module reads the vector: as many weights more, and another vector gives other outputs."""
    without, model = make(kind), make(kind, vector_dim=4)
    n_more = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in without.parameters())
    assert n_more == 4 * 5
    batch = batch_of([120, 130], vector_dim=4)
    before = model(batch).shared
    batch.vectors = batch.vectors.flip(0)
    assert not torch.allclose(before, model(batch).shared)
    assert "vectors" in kind.capabilities


@pytest.mark.parametrize("kind", MODELS)
def test_one_head_per_view_and_roles(kind):
    model = kind(
        kind.Config(**SMALL[kind], pooled_norm="batch"),
        task(emotion=("a", "b", "c", "d"), arousal=("low", "high")),
    )
    outputs = model(batch_of([110, 120]))
    assert {view: tuple(logits.shape) for view, logits in outputs.logits.items()} == {
        "emotion": (2, 4),
        "arousal": (2, 2),
    }
    groups = model.parameter_groups()
    assert [p.numel() for p in groups["head"]] == [20, 4, 10, 2]
    assert [p.numel() for p in groups["norm"]] == [model.fc.norm.num_features] * 2
    listed = [id(p) for group in groups.values() for p in group]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    assert "norm" not in make(kind).parameter_groups()


def test_batch_of_one_trains_on_running_statistics():
    model = make(ParryCnn, pooled_norm="batch").train()
    before = model.fc.norm.running_mean.clone()
    model(batch_of([110])).logits["emotion"].sum().backward()
    assert torch.equal(model.fc.norm.running_mean, before)
    model(batch_of([110, 130]))
    assert not torch.equal(model.fc.norm.running_mean, before)


def test_scaled_weights_are_what_they_say():
    torch.manual_seed(0)
    model = ParryCnnLstm(ParryCnnLstm.Config(init="scaled", channels=(40, 40, 40), hidden_size=40), task(n_bands=40))
    for gate in model.lstm.weight_hh_l1.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(40), atol=1e-5, rtol=0)
    total = model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0
    assert total.tolist() == [0.0] * 40 + [1.0] * 40 + [0.0] * 80
    convolution = model.stack.convolutions[1]  # fan-in 40 x 5: variance 2 / 200
    assert convolution.weight.var().item() == pytest.approx(0.01, rel=0.05)
    assert not convolution.bias.any()


def test_the_plateau_and_the_way_off_it():
    """Utterances normalised one by one hardly differ in the CNN-LSTM's mean; batch normalisation brings that back."""
    torch.manual_seed(0)
    frames = torch.randn(32, 150, 40) * torch.rand(32, 1, 40)  # then zero mean, unit variance each
    frames = (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True)
    batch = api.Batch(ids=[""] * 32, frames=frames, lengths=torch.full((32,), 150), targets={})

    def spread(**settings):
        torch.manual_seed(1)
        sizes = {"channels": (24, 48, 48), "hidden_size": 64, "fc_size": 48}
        model = ParryCnnLstm(ParryCnnLstm.Config(**sizes, **settings), task(n_bands=40)).train()
        seen = []
        model.fc.hidden.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
        model(batch)
        return float(seen[0].std(0).square().sum().sqrt() / seen[0].square().mean(0).sum().sqrt())

    assert spread() < 0.05
    assert spread(init="scaled") > 2 * spread()
    assert spread(pooled_norm="batch") > 0.5


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (ParryCnn, {"min_frames": 90}, "at least 91 were expected"),
        (ParryCnn, {"channels": (4, 4)}, "kernel_frames has 4 and channels 2"),
        (ParryCnnLstm, {"kernel_frames": (5, 0, 3)}, "numbers of 1 or more"),
        (ParryCnnLstm, {"channels": (), "kernel_frames": ()}, "at least one layer"),
        (ParryLstm, {"hidden_size": 0}, "greater than or equal to 1"),
        (ParryLstm, {"channels": (4,)}, "Extra inputs"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind, settings, message):
    with pytest.raises(ValidationError, match=message):
        kind.Config(**settings)


def test_the_least_minimum_gives_one_step():
    model = make(ParryCnn, min_frames=91)
    assert model.stack.n_steps(91) == 1
    assert torch.isfinite(model(batch_of([2])).shared).all()
