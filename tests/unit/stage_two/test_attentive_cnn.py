"""The attentive CNN against the sheet's counts, hand-computed values and a plain torch implementation."""

import pytest
import torch
import torch.nn.functional as F

from repkit import api
from repkit.stage_two.attentive_cnn import AttentiveCnn
from repkit.stage_two.attentive_pooling import attentive_pool

VIEWS = {"emotion": ("a", "b", "c", "d"), "arousal": ("l", "m", "h"), "valence": ("l", "m", "h")}


def make(fusion="none", vector_dim=0, state_dim=0, **settings):
    torch.manual_seed(0)
    task = api.TaskSpec(views=VIEWS, n_bands=26, vector_dim=vector_dim, state_dim=state_dim)
    return AttentiveCnn(AttentiveCnn.Config(fusion=fusion, **settings), task).eval()


def batch_of(lengths, pad_to=None, vector_dim=0, state_lengths=None, state_dim=0, seed=1):
    rng = torch.Generator().manual_seed(seed)
    longest = pad_to or max(lengths)
    frames = torch.zeros(len(lengths), longest, 26)
    for i, n in enumerate(lengths):
        frames[i, :n] = torch.randn(n, 26, generator=rng)
    states = None
    if state_lengths:
        states = torch.zeros(len(lengths), max(state_lengths), state_dim)
        for i, n in enumerate(state_lengths):
            states[i, :n] = torch.randn(n, state_dim, generator=rng)
    return api.Batch(
        ids=[str(i) for i in range(len(lengths))],
        frames=frames,
        lengths=torch.tensor(lengths),
        targets={view: torch.zeros(len(lengths), dtype=torch.int64) for view in VIEWS},
        vectors=torch.randn(len(lengths), vector_dim, generator=rng) if vector_dim else None,
        states=states,
        state_lengths=torch.tensor(state_lengths) if state_lengths else None,
    )


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_those_of_the_sheet():
    baseline, late = make(), make("late", vector_dim=1024)
    assert (count(baseline.conv), count(baseline.attention), count(baseline.heads)) == (52_200, 200, 2_010)
    assert count(late.heads) == 12_250


def test_attention_by_hand():
    # scores 0 and ln 3 give weights 1/4 and 3/4; a masked third position takes nothing
    frames = torch.tensor([[[4.0], [8.0], [1000.0]]])
    scores = torch.tensor([[0.0, torch.log(torch.tensor(3.0)), 50.0]])
    pooled, weights = attentive_pool(frames, scores, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75, 0.0]]))
    torch.testing.assert_close(pooled, torch.tensor([[7.0]]))


def test_paper_padding_equals_stock_layers():
    """Fixed 748 frames, convolution, ReLU, max-pool 30, softmax over all positions: written with torch's own layers."""
    model, batch = make(padding="paper"), batch_of([300, 748, 120])
    images = F.pad(batch.frames, (0, 0, 0, 748 - batch.frames.shape[1]))
    pooled = F.max_pool1d(F.relu(model.conv(images.transpose(1, 2))), 30).transpose(1, 2)
    assert pooled.shape == (3, 8, 200)  # 748 -> 247 -> 8, as in the sheet
    weights = torch.softmax(pooled @ model.attention.score.weight[0], dim=1)
    expected = (weights[..., None] * pooled).sum(1)
    torch.testing.assert_close(model(batch).shared, expected, rtol=1e-4, atol=1e-5)


def test_masked_padding_equals_stock_layers_on_the_utterance_alone():
    model = make()
    for n in (10, 97, 99, 100, 300, 749):
        batch = batch_of([n])
        windows = F.relu(model.conv(batch.frames.transpose(1, 2)))
        pooled = F.max_pool1d(windows, 30, ceil_mode=True).transpose(1, 2)
        weights = torch.softmax(pooled @ model.attention.score.weight[0], dim=1)
        torch.testing.assert_close(model(batch).shared, (weights[..., None] * pooled).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("fusion", "dims"), [("none", {}), ("late", {"vector_dim": 6}), ("early", {"state_dim": 5})])
@pytest.mark.parametrize("padding", ["masked", "paper"])
def test_alone_equals_in_a_padded_batch(fusion, dims, padding):
    model = make(fusion, padding=padding, **dims)
    lengths = [40, 333, 7, 748]
    states = {"state_lengths": [10, 83, 2, 187]} if fusion == "early" else {}
    batch = batch_of(lengths, **states, **dims)
    together = model(batch)
    for i, n in enumerate(lengths):
        alone = api.Batch(
            ids=[str(i)],
            frames=batch.frames[i : i + 1, :n],
            lengths=batch.lengths[i : i + 1],
            targets={},
            vectors=None if batch.vectors is None else batch.vectors[i : i + 1],
            states=None if batch.states is None else batch.states[i : i + 1, : batch.state_lengths[i]],
            state_lengths=None if batch.states is None else batch.state_lengths[i : i + 1],
        )
        torch.testing.assert_close(model(alone).shared[0], together.shared[i], rtol=1e-4, atol=1e-5)


def test_early_fusion_takes_the_state_that_covers_the_frame():
    model = make("early", state_dim=2, state_projection=2)
    with torch.no_grad():
        model.states.weight.copy_(torch.eye(2))
        model.states.bias.zero_()
    batch = batch_of([8, 4], state_lengths=[2, 2], state_dim=2)
    batch.states[:] = torch.tensor([[[1.0, 0], [0, 1]], [[5, 0], [0, 5]]])
    taken = model._states_in_time(batch)
    # 8 frames over 2 states: 4 frames each; 4 frames over 2 states: 2 each, then padding stays zero
    assert taken[0, :, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert taken[1, :, 0].tolist() == [5, 5, 0, 0, 0, 0, 0, 0]
    assert taken[1, :, 1].tolist() == [0, 0, 5, 5, 0, 0, 0, 0]


def test_dropout_acts_on_the_joined_vector_only():
    model = make("late", vector_dim=4).train()
    batch = batch_of([100, 100], vector_dim=4)
    first, second = model(batch), model(batch)
    torch.testing.assert_close(first.shared, second.shared)  # before dropout
    assert not torch.equal(first.logits["emotion"], second.logits["emotion"])


def test_parameter_groups_hold_each_parameter_once():
    model = make("late", vector_dim=4)
    groups = model.parameter_groups()
    listed = [id(p) for group in groups.values() for p in group]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    assert len(groups["head"]) == 6


def test_fusion_without_its_input_is_refused():
    with pytest.raises(ValueError, match="needs utterance vectors"):
        make("late")
