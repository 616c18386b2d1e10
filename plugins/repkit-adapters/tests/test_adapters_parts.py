"""Parts of corpora and views: who is touched by what, mixed batches, checkpoints, a corpus added later."""

from dataclasses import replace

import pytest
import torch
from repkit_adapters.adapter_resnet import ABSENT, AdapterResNet
from repkit_adapters.parts import join_state, part_key, part_name, split_state
from torch import nn

from repkit import api

VIEWS = {"emotion": ("anger", "fear", "neutral", "sadness"), "arousal": ("low", "high")}
CORPORA = {
    "a": {"emotion": ("anger", "neutral", "sadness"), "arousal": ("low", "high")},
    "b": {"emotion": ("fear", "neutral"), "arousal": ("low", "high")},
    "c": {"emotion": ("anger", "fear", "neutral", "sadness"), "arousal": ("low", "high")},
}


def task(*names, views=("emotion",)):
    return api.TaskSpec(
        views={view: VIEWS[view] for view in views},
        n_bands=8,
        corpora={name: {view: CORPORA[name][view] for view in views} for name in names or CORPORA},
    )


def build(spec=None, seed=0, **settings):
    torch.manual_seed(seed)
    return AdapterResNet(AdapterResNet.Config(**{"width": 2, "attention_units": 5, **settings}), spec or task())


def batch_of(corpora, lengths=None, seed=1, route=None):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths or [9 + 2 * i for i in range(len(corpora))])
    frames = torch.randn(len(corpora), int(lengths.max()), 8, generator=generator)
    return api.Batch(
        ids=[str(i) for i in range(len(corpora))],
        frames=frames,
        lengths=lengths,
        targets={"emotion": torch.full((len(corpora),), 2), "arousal": torch.arange(len(corpora)) % 2},
        corpora=torch.tensor(corpora),
        route=route,
    )


def rows_of(batch, rows):
    index = torch.tensor(rows)
    return replace(
        batch,
        ids=[batch.ids[row] for row in rows],
        frames=batch.frames[index],
        lengths=batch.lengths[index],
        targets={view: target[index] for view, target in batch.targets.items()},
        corpora=batch.corpora[index],
    )


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def train(model, batch, groups=None, steps=3):
    """Train as the engine does: groups that are not named are frozen, norms without trained weights stay in eval."""
    model.train()
    if groups is not None:
        for name, parameters in model.parameter_groups().items():
            for parameter in parameters:
                parameter.requires_grad_(name in groups)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
                module.eval()
    optimiser = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9, weight_decay=1e-3
    )
    view = batch.route or "emotion"
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(batch).logits[view], batch.targets[view]).backward()
        optimiser.step()


def changed(before, model):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_training_parts_of_a_corpus_leaves_the_rest_to_the_bit():
    model = build()
    train(model, batch_of([0, 1, 2, 1, 0, 2]))
    before = copied(model)
    train(model, batch_of([1, 1, 1, 1]), groups={"adapter", "norm", "head"})
    moved = changed(before, model)
    assert moved
    assert all(name.startswith("corpora.b.") for name in moved)
    # and everything of b's moves: weights, norms and their statistics
    still = {name for name in before if name.startswith("corpora.b.")} - moved
    assert still == set()


def test_training_everything_on_one_corpus_still_leaves_other_corpora_alone():
    model = build()
    train(model, batch_of([0, 1, 2, 1, 0, 2]))
    before = copied(model)
    train(model, batch_of([2, 2, 2]))
    moved = {name.rsplit(".", 1)[0].split(".adapters")[0] for name in changed(before, model)}
    assert any(name.startswith("base.") for name in moved)
    assert any(name.startswith("corpora.c") for name in moved)
    assert not any(name.startswith(("corpora.a", "corpora.b")) for name in moved)


def test_head_only_training_of_the_plain_net_moves_no_statistics():
    model = build(mode="plain")
    train(model, batch_of([0, 1, 2, 1, 0, 2]))
    before = copied(model)
    train(model, batch_of([0, 0, 0]), groups={"head"})
    assert {name.split(".heads.")[0] for name in changed(before, model)} == {"corpora.a"}


@pytest.mark.parametrize("settings", [{}, {"mode": "plain"}, {"attention_shared": False}, {"mask": False}])
def test_a_mixed_batch_equals_batches_of_one_corpus(settings):
    model = build(**settings)
    train(model, batch_of([0, 1, 2, 1, 0, 2]), steps=2)
    model.eval()
    batch = batch_of([2, 0, 1, 0, 2])
    together = model(batch)
    for corpus in range(3):
        rows = (batch.corpora == corpus).nonzero().flatten().tolist()
        alone = model(rows_of(batch, rows))
        torch.testing.assert_close(alone.shared, together.shared[rows], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.logits["emotion"], together.logits["emotion"][rows], atol=1e-5, rtol=1e-5)


def test_in_training_a_corpus_sees_its_own_items_only():
    model, other = build(head_dropout=0.0).train(), build(head_dropout=0.0).train()
    batch = batch_of([0, 1, 0, 1], lengths=[9, 9, 9, 9])
    together = model(batch).shared
    alone = other(rows_of(batch, [0, 2])).shared
    torch.testing.assert_close(together[[0, 2]], alone)
    for name, value in other.corpora["a"].state_dict().items():
        torch.testing.assert_close(model.corpora["a"].state_dict()[name], value, msg=name)


def test_parts_of_corpora_differ_and_are_used():
    model = build().eval()
    batch = batch_of([0, 0])
    other = replace(batch, corpora=torch.tensor([2, 0]))
    first, second = model(batch).shared, model(other).shared
    assert (first[0] - second[0]).abs().max() > 1e-4
    torch.testing.assert_close(first[1], second[1], atol=1e-5, rtol=1e-5)


def test_classes_a_corpus_lacks_have_no_probability():
    logits = build().eval()(batch_of([0, 1, 2])).logits["emotion"]
    probabilities = torch.softmax(logits, dim=1)
    has = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()
    assert (logits[~has] == ABSENT).all()
    assert (probabilities[~has] == 0).all()
    assert (probabilities[has] > 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


def test_a_view_that_a_corpus_lacks_gives_finite_numbers():
    spec = api.TaskSpec(
        views=VIEWS, n_bands=8, corpora={"a": CORPORA["a"], "b": {"emotion": CORPORA["b"]["emotion"], "arousal": ()}}
    )
    model = build(spec).train()
    outputs = model(batch_of([0, 1, 0]))
    target = torch.tensor([0, api.MISSING, 1])
    loss = nn.functional.cross_entropy(outputs.logits["arousal"], target, ignore_index=api.MISSING)
    loss.backward()
    assert torch.isfinite(loss)
    assert "arousal" not in model.corpora["b"].heads
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_training_batch_may_hold_one_item_of_a_corpus():
    model = build()
    train(model, batch_of([0, 1, 1]))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    # the head's norm has nothing to learn its statistics from, the others have
    assert model.corpora["a"].heads["emotion"].norm.num_batches_tracked == 0
    assert model.corpora["a"].norms["stem"].num_batches_tracked == 3


def test_without_corpora_there_is_one_part_for_all():
    model = build(api.TaskSpec(views={"emotion": VIEWS["emotion"]}, n_bands=8)).eval()
    batch = replace(batch_of([0, 0]), corpora=None)
    assert model(batch).logits["emotion"].shape == (2, 4)
    with pytest.raises(ValueError, match="a batch without corpora"):
        build()(batch)


# --- views with parts of their own -----------------------------------------------------------------------------------


def routed(**settings):
    return build(task(views=("emotion", "arousal")), view_tasks=("arousal",), **settings)


def test_a_route_takes_the_views_own_parts_for_all_corpora():
    model = routed().eval()
    batch = batch_of([0, 1, 2], route="arousal")
    outputs = model(batch)
    assert set(outputs.logits) == {"arousal"}
    assert outputs.logits["arousal"].shape == (3, 2)
    same = model(replace(batch, corpora=torch.tensor([2, 2, 0])))
    assert torch.equal(outputs.logits["arousal"], same.logits["arousal"])
    own = model(replace(batch, route=None))
    assert set(own.logits) == {"emotion"}
    assert (own.shared - outputs.shared).abs().max() > 1e-4
    assert set(model.corpora["a"].heads) == {"emotion"}


def test_training_a_view_moves_the_base_and_the_view_only():
    model = routed()
    train(model, batch_of([0, 1, 2, 0]))
    before = copied(model)
    train(model, batch_of([0, 1, 2, 0], route="arousal"))
    roots = {".".join(name.split(".")[:2]) for name in changed(before, model)}
    assert roots == {"base.convolutions", "base.attention", "views.arousal"}


def test_views_without_parts_of_their_own_have_a_head_per_corpus():
    model = build(task(views=("emotion", "arousal"))).eval()
    assert set(model(batch_of([0, 1])).logits) == {"emotion", "arousal"}


def test_an_unknown_route_is_refused():
    with pytest.raises(api.UsageError, match=r"route 'valence'; expected a view of model.view_tasks \(arousal\)"):
        routed()(batch_of([0], route="valence"))


# --- copying, checkpoints, growth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"attention_shared": False}, {}, {"mode": "plain", "separate_norm": True}])
def test_copy_parts_gives_all_but_the_head(settings):
    model = build(**settings)
    train(model, batch_of([0, 0, 0, 1]))
    before = copied(model)
    model.copy_parts("a", "b")
    source, target = model.corpora["a"].state_dict(), model.corpora["b"].state_dict()
    own = [name for name in target if not name.startswith("heads.")]
    assert any("running_mean" in name for name in own)
    assert all(torch.equal(source[name], target[name]) for name in own)
    assert all(name.startswith("corpora.b.") and ".heads." not in name for name in changed(before, model))
    if not settings.get("attention_shared", True):
        assert "attention.context" in own
    # copies, not the same tensors
    train(model, batch_of([1, 1, 1]))
    assert not torch.equal(source["norms.stem.running_mean"], model.corpora["b"].norms["stem"].running_mean)


def test_copy_parts_may_start_from_a_view_and_refuses_strangers():
    model = routed()
    model.copy_parts("arousal", "a")
    assert torch.equal(model.views["arousal"].adapters["stem"], model.corpora["a"].adapters["stem"])
    with pytest.raises(api.UsageError, match="'d' has no parts of its own; expected one of a, b, c, arousal"):
        model.copy_parts("d", "a")


def test_a_checkpoint_is_one_base_and_a_small_part_per_corpus():
    model = routed()
    parts = split_state(model.state_dict())
    assert list(parts) == ["base", "corpora.a", "corpora.b", "corpora.c", "views.arousal"]
    joined = join_state(*parts.values())
    assert joined.keys() == model.state_dict().keys()
    fresh = routed(seed=5)
    fresh.load_state_dict(joined)
    assert changed(copied(model), fresh) == set()
    with pytest.raises(api.UsageError, match="stands in two parts"):
        join_state(parts["base"], parts["corpora.a"], parts["base"])


@pytest.mark.parametrize("name", ["emodb", "my.corpus", "50%.own", "keys", "train", "type", "ABC-1_2", "training"])
def test_any_name_of_a_corpus_can_be_a_part(name):
    spec = api.TaskSpec(
        views={"emotion": VIEWS["emotion"]}, n_bands=8, corpora={name: CORPORA["c"], "other": CORPORA["a"]}
    )
    model = build(spec).eval()
    assert part_name(part_key(name)) == name
    assert "." not in part_key(name)
    assert list(split_state(model.state_dict())) == ["base", f"corpora.{name}", "corpora.other"]
    assert model(batch_of([0, 1])).logits["emotion"].shape == (2, 4)
    model.copy_parts("other", name)
    if name == "emodb":
        assert "corpora.emodb.adapters.stem" in model.state_dict()


@pytest.mark.parametrize("settings", [{}, {"attention_shared": False}])
def test_a_corpus_can_be_added_later(settings):
    old = build(task("a", "b"), **settings)
    train(old, batch_of([0, 1, 0, 1]))
    new = build(task("a", "b", "c"), seed=9, **settings)
    found = new.load_state_dict(old.state_dict(), strict=False)
    assert found.unexpected_keys == []
    assert {name.split(".")[1] for name in found.missing_keys} == {"c"}
    before = copied(new)
    train(new, batch_of([2, 2, 2]), groups={"adapter", "norm", "head"})
    state = new.state_dict()
    assert all(torch.equal(state[name], value) for name, value in old.state_dict().items())
    assert any(name.startswith("corpora.c.") for name in changed(before, new))
    old.eval()
    new.eval()
    batch = batch_of([0, 1, 1, 0])
    assert torch.equal(old(batch).logits["emotion"], new(batch).logits["emotion"])


def test_a_further_corpus_costs_a_tenth_of_a_model():
    spec = api.TaskSpec(views={"emotion": VIEWS["emotion"]}, n_bands=64, corpora={"a": CORPORA["c"]})
    model = AdapterResNet(AdapterResNet.Config(), spec)
    own = sum(p.numel() for p in model.corpora["a"].parameters())
    assert own == 301_088 + 4_160 + 33_152 + 129 * 4
    assert own / sum(p.numel() for p in model.parameters()) == pytest.approx(0.11, abs=0.01)
