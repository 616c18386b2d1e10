"""The network itself: sizes of the paper, an independent computation in numpy, padding."""

import numpy as np
import pytest
import torch
from repkit_adapters.adapter_resnet import AdapterResNet, Attention2d
from repkit_adapters.padding import MaskedBatchNorm, pooled_shortcut, same_padding
from torch import nn

from repkit import api

EMOTIONS = ("anger", "happiness", "neutral", "sadness")


def task(corpora=None, n_bands=8, views=None):
    corpora = corpora or {"one": EMOTIONS}
    return api.TaskSpec(
        views=views or {"emotion": EMOTIONS},
        n_bands=n_bands,
        corpora={name: {"emotion": tuple(classes)} for name, classes in corpora.items()},
    )


def build(spec=None, seed=0, **settings):
    torch.manual_seed(seed)
    return AdapterResNet(AdapterResNet.Config(**{"width": 2, "attention_units": 5, **settings}), spec or task())


def batch_of(lengths, n_bands=8, corpora=None, n_frames=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)
    frames = torch.randn(len(lengths), n_frames or int(lengths.max()), n_bands, generator=generator)
    frames[torch.arange(frames.shape[1])[None] >= lengths[:, None]] = 0
    return api.Batch(
        ids=[str(i) for i in range(len(lengths))],
        frames=frames,
        lengths=lengths,
        targets={"emotion": torch.arange(len(lengths)) % 3},
        corpora=torch.zeros_like(lengths) if corpora is None else torch.tensor(corpora),
    )


def count(parameters):
    return sum(p.numel() for p in parameters)


def shake(model, seed=3):
    """Give norms and biases values that a mistake in their use would show."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and ("norm" in name or name.endswith("bias")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 4, 7])
def test_parameters_are_the_papers(n_classes):
    classes = (*EMOTIONS, "boredom", "disgust", "fear")
    spec = task({"a": classes[:n_classes], "b": classes[:3]}, 64, {"emotion": classes})
    model = AdapterResNet(AdapterResNet.Config(), spec)
    part = model.corpora["a"]
    assert count(model.base.convolutions.parameters()) == 2_709_792
    assert count(part.adapters.parameters()) == 301_088
    assert count(part.norms.parameters()) == 4_160
    assert count(model.base.attention.parameters()) == 66_048
    assert count(part.heads.parameters()) == 33_152 + 129 * n_classes
    groups = model.parameter_groups()
    assert count(groups["shared"]) == 2_709_792 + 66_048
    assert count(groups["adapter"]) == 2 * 301_088
    assert count(groups["norm"]) == 2 * 4_160
    assert count(groups["head"]) == 2 * 33_152 + 129 * (n_classes + 3)


def test_there_are_thirteen_convolutions_and_as_many_adapters():
    model = build()
    assert len(model.base.convolutions) == len(model.corpora["one"].adapters) == 13
    assert set(model.corpora["one"].norms) == {*model.base.convolutions, "final"}


def test_a_task_of_26_corpora_is_about_three_and_a_half_models():
    own = 301_088 + 4_160 + 33_152 + 129 * 5  # an average of five classes
    single = 2_709_792 + 66_048 + own
    assert (2_709_792 + 66_048 + 26 * own) / single == pytest.approx(3.75, abs=0.1)


def test_width_blocks_and_widening():
    model = build(width=4, blocks=1, widen=2)
    shapes = {name: tuple(w.shape[:2]) for name, w in model.base.convolutions.items()}
    assert shapes == {
        "stem": (4, 1), "stack1_block1_conv1": (16, 4), "stack1_block1_conv2": (16, 16),
        "stack2_block1_conv1": (32, 16), "stack2_block1_conv2": (32, 32),
        "stack3_block1_conv1": (64, 32), "stack3_block1_conv2": (64, 64),
    }  # fmt: skip
    outputs = model.eval()(batch_of([9, 16]))
    assert outputs.shared.shape == (2, 64)
    assert outputs.logits["emotion"].shape == (2, 4)


def test_plain_mode_has_one_norm_for_all_unless_asked():
    spec = task({"a": EMOTIONS, "b": EMOTIONS})
    one = build(spec, mode="plain")
    assert "adapter" not in one.parameter_groups()
    assert one.corpora["a"].norms is None
    assert count(one.parameter_groups()["norm"]) == 4_160 // 16  # width 2 of 32
    each = build(spec, mode="plain", separate_norm=True)
    assert each.base.norms is None
    assert count(each.parameter_groups()["norm"]) == 2 * 4_160 // 16


@pytest.mark.parametrize("settings", [{}, {"mode": "plain"}, {"attention_shared": False, "view_tasks": ("arousal",)}])
def test_every_parameter_has_exactly_one_role(settings):
    spec = task({"a": EMOTIONS, "b": EMOTIONS[:2]}, views={"emotion": EMOTIONS, "arousal": ("low", "high")})
    model = build(spec, **settings)
    listed = [id(p) for some in model.parameter_groups().values() for p in some]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())


def test_initial_weights_follow_he_and_the_papers_attention():
    model = AdapterResNet(AdapterResNet.Config(), task(n_bands=64))
    name = "stack3_block2_conv1"
    assert model.base.convolutions[name].std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert model.corpora["one"].adapters[name].std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert model.base.attention.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert model.base.attention.bias.std().item() == pytest.approx(0.05, rel=0.2)


# --- an independent computation --------------------------------------------------------------------------------------


def conv(x, weight, stride):
    """3x3 convolution "same", written as the definition says; x (C, F, T)."""
    pads = []
    for size in x.shape[1:]:
        out = -(-size // stride)
        total = max((out - 1) * stride + 3 - size, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, ((0, 0), *pads))
    shape = [-(-size // stride) for size in x.shape[1:]]
    out = np.zeros((len(weight), *shape))
    for i in range(shape[0]):
        for j in range(shape[1]):
            window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, i, j] = (weight * window).sum((1, 2, 3))
    return out


def reference(model, frames):
    """Logits and vector of one utterance (T, F) by numpy, in the published unmasked form."""
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def norm(x, name):
        p = f"corpora.one.{name}."
        scale = state[p + "weight"] / np.sqrt(state[p + "running_var"] + 1e-3)
        shape = (-1, *[1] * (x.ndim - 1))
        return (x - state[p + "running_mean"].reshape(shape)) * scale.reshape(shape) + state[p + "bias"].reshape(shape)

    def both(x, name, stride):
        beside = np.einsum("oc,cft->oft", state[f"corpora.one.adapters.{name}"][:, :, 0, 0], x[:, ::stride, ::stride])
        return conv(x, state[f"base.convolutions.{name}"], stride) + beside

    def shortcut(x):
        c, f, t = x.shape
        out = np.zeros((2 * c, -(-f // 2), -(-t // 2)))
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                out[:c, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2))
        return out

    x = norm(both(frames.T[None], "stem", 1), "norms.stem")
    for stack in (1, 2, 3):
        for block in range(1, model.config.blocks + 1):
            name = f"stack{stack}_block{block}"
            beside = shortcut(x) if block == 1 else x
            y = np.maximum(norm(both(x, f"{name}_conv1", 2 if block == 1 else 1), f"norms.{name}_conv1"), 0)
            x = np.maximum(norm(both(y, f"{name}_conv2", 1), f"norms.{name}_conv2") + beside, 0)
    x = np.maximum(norm(x, "norms.final"), 0)
    places = x.reshape(len(x), -1).T
    w, b, u = (state[f"base.attention.{n}"] for n in ("weight", "bias", "context"))
    energies = 0.3 * (np.tanh(places @ w.T + b) @ u)
    weights = np.exp(energies) / np.exp(energies).sum()
    vector = weights @ places
    head = "corpora.one.heads.emotion."
    hidden = state[head + "dense.weight"] @ vector + state[head + "dense.bias"]
    hidden = np.maximum(norm(hidden, "heads.emotion.norm"), 0)
    return state[head + "logits.weight"] @ hidden + state[head + "logits.bias"], vector


@pytest.mark.parametrize(("n_bands", "n_frames", "blocks"), [(8, 9, 2), (6, 12, 1), (5, 7, 1)])
def test_the_whole_net_equals_its_definition(n_bands, n_frames, blocks):
    """Even and odd sizes: 9 frames become 5, 3, 2; 6 bands become 3, 2, 1."""
    model = build(task(n_bands=n_bands), mask=False, blocks=blocks).eval()
    shake(model)
    items = batch_of([n_frames], n_bands)
    outputs = model(items)
    logits, vector = reference(model, items.frames[0].double().numpy())
    assert np.abs(vector).max() > 0.1
    np.testing.assert_allclose(outputs.shared[0].detach().numpy(), vector, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs.logits["emotion"][0].detach().numpy(), logits, rtol=1e-4, atol=1e-4)


def test_unmasked_padding_is_silence_that_every_layer_sees():
    model = build(mask=False).eval()
    shake(model)
    items = batch_of([7, 12])
    filled = items.frames[0].clone()
    filled[7:] = np.log(1e-6)
    _, vector = reference(model, filled.double().numpy())
    np.testing.assert_allclose(model(items).shared[0].detach().numpy(), vector, rtol=1e-4, atol=1e-4)


def test_attention_by_hand():
    attention = Attention2d(2, 1, 0.3)
    with torch.no_grad():
        attention.weight.copy_(torch.tensor([[1.0, 0.0]]))
        attention.bias.zero_()
        attention.context.copy_(torch.tensor([10.0]))
    places = torch.tensor([[[0.0, 1.0], [20.0, 3.0], [5.0, 99.0]]])
    # energies 0 and 10 tanh(20) = 10, times 0.3; the third place is padding
    share = 1 / (1 + np.exp(-3.0))
    got = attention(places, torch.tensor([[True, True, False]]))
    assert got[0].tolist() == pytest.approx([20 * share, (1 - share) + 3 * share], rel=1e-5)


def test_same_padding_is_that_of_keras():
    assert same_padding(8, 1) == same_padding(9, 1) == (1, 1)
    assert same_padding(8, 2) == (0, 1)
    assert same_padding(9, 2) == (1, 1)
    assert same_padding(1, 2) == (1, 1)
    assert same_padding(9, 2, aligned=True) == (0, 2)
    assert same_padding(8, 2, aligned=True) == (0, 1)


def test_the_shortcut_averages_real_places_and_adds_channels_of_zeros():
    x = torch.tensor([[[[1.0, 2.0, 3.0, 0.0], [5.0, 6.0, 7.0, 0.0]]]])
    mask = torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])
    got = pooled_shortcut(x, mask, 3)
    assert got[0, 0].tolist() == [[3.5, 5.0]]
    assert got[0, 1:].abs().sum() == 0
    assert pooled_shortcut(x, None, 3)[0, 0].tolist() == [[3.5, 2.5]]
    assert pooled_shortcut(x[..., :3], None, 2)[0, 0].tolist() == [[3.5, 5.0]]


@pytest.mark.parametrize("stride_part", ["stem", "stack2_block1_conv1"])
def test_block_dropout_takes_the_adapters_input_only(stride_part):
    model = build(block_dropout=(0.5, 0.5)).train()
    plain = build(block_dropout=(0.0, 0.0)).train()
    plain.load_state_dict(model.state_dict())
    name, stride = stride_part, 1 if stride_part == "stem" else 2
    x = torch.randn(2, model.base.convolutions[name].shape[1], 8, 9)
    part = model.corpora["one"]
    with torch.no_grad():
        summed = plain._convolve(x, name, plain.corpora["one"], stride, 0.0)
        torch.testing.assert_close(model._convolve(x, name, part, stride, 1e-9), summed, atol=1e-5, rtol=1e-5)
        part.adapters[name].zero_()
        torch.manual_seed(0)
        without = model._convolve(x, name, part, stride, 0.5)
        plain.corpora["one"].adapters[name].zero_()
        torch.testing.assert_close(without, plain._convolve(x, name, plain.corpora["one"], stride, 0.0))


def test_block_dropout_without_adapters_takes_the_convolutions_input():
    model = build(mode="plain", block_dropout=(0.5, 0.5)).train()
    x = torch.ones(1, 4, 8, 8)
    first = model._convolve(x, "stack1_block1_conv2", model.corpora["one"], 1, 0.5)
    assert not torch.equal(first, model._convolve(x, "stack1_block1_conv2", model.corpora["one"], 1, 0.5))
    model.eval()
    still = model._convolve(x, "stack1_block1_conv2", model.corpora["one"], 1, 0.5)
    assert torch.equal(still, model._convolve(x, "stack1_block1_conv2", model.corpora["one"], 1, 0.0))


# --- padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"mode": "plain"}, {"attention_shared": False, "blocks": 1}])
def test_masked_padding_changes_nothing(settings):
    model = build(**settings).eval()
    shake(model)
    lengths = [1, 2, 3, 7, 8, 13, 21]
    items = batch_of(lengths, n_frames=30)
    together = model(items)
    for row, length in enumerate(lengths):
        alone = model(api.Batch(ids=["x"], frames=items.frames[row : row + 1, :length],
            lengths=items.lengths[row : row + 1], targets={}, corpora=items.corpora[:1]))  # fmt: skip
        torch.testing.assert_close(alone.shared[0], together.shared[row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.logits["emotion"][0], together.logits["emotion"][row], atol=1e-5, rtol=1e-5)


def test_what_stands_in_padded_frames_is_not_seen():
    model = build().train()
    items = batch_of([5, 11], n_frames=16)
    before = model(items).shared
    items.frames[0, 5:] = 1e6
    items.frames[1, 11:] = -1e6
    model2 = build().train()
    assert torch.equal(before, model2(items).shared)


def test_masked_training_does_not_depend_on_the_amount_of_padding():
    items = batch_of([5, 9, 6])
    wide = batch_of([5, 9, 6])
    wide.frames = torch.cat([wide.frames, torch.zeros(3, 20, 8)], dim=1)
    states = []
    for some in (items, wide):
        model = build(head_dropout=0.0).train()
        torch.nn.functional.cross_entropy(model(some).logits["emotion"], some.targets["emotion"]).backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        states.append({**model.state_dict(), **{f"grad {n}": g for n, g in gradients.items()}})
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], msg=name)


def test_without_the_mask_padding_matters_and_it_says_so():
    model = build(mask=False).eval()
    assert model.capabilities == {"per_corpus", "routes", "padding_sensitive"}
    assert build().capabilities == AdapterResNet.capabilities == {"per_corpus", "routes"}
    short, long = batch_of([6]), batch_of([6], n_frames=14)
    assert (model(short).shared - model(long).shared).abs().max() > 1e-3


def test_masked_batch_norm_is_batch_norm_of_the_real_places():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 7) * 3 + 2
    lengths = torch.tensor([7, 2, 4])
    mask = (torch.arange(7)[None] < lengths[:, None]).float()[:, None, None]
    real = mask.expand(3, 1, 5, 7)[:, 0].bool()
    norm, plain = MaskedBatchNorm(4, eps=1e-3, momentum=0.3), nn.BatchNorm1d(4, eps=1e-3, momentum=0.3)
    for module in (norm, plain):
        nn.init.constant_(module.weight, 1.7)
        nn.init.constant_(module.bias, 0.4)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    got = norm(inputs[0], mask).permute(0, 2, 3, 1)
    want = plain(inputs[1].permute(0, 2, 3, 1)[real])
    torch.testing.assert_close(got[real], want)
    assert got[~real].abs().max() == 0
    pull = torch.randn_like(want)
    (got[real] * pull).sum().backward()
    (want * pull).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad, atol=1e-4, rtol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(norm, name), getattr(plain, name))
    norm.eval()
    plain.eval()
    torch.testing.assert_close(norm(x, mask).permute(0, 2, 3, 1)[real], plain(x.permute(0, 2, 3, 1)[real]))


def test_it_learns():
    model = build(width=4).train()
    items = batch_of([12, 9, 15, 10, 12, 8, 14, 9, 11])
    for row, target in enumerate(items.targets["emotion"].tolist()):
        items.frames[row, : items.lengths[row], target * 2] += 3
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(items).logits["emotion"], items.targets["emotion"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="block_dropout must lie in"):
        AdapterResNet.Config(block_dropout=(0.0, 1.0))
    with pytest.raises(api.UsageError, match=r"expected some of the task's views \(emotion\)"):
        build(view_tasks=("arousal",))
    with pytest.raises(api.UsageError, match="but not all"):
        build(view_tasks=("emotion",))
