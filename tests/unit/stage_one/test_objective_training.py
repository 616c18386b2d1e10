"""Objectives in the training loop: what is logged and saved, exact resume, pieces at random places, weights of corpora."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from repkit.config import PretrainRecipe, load_recipe
from repkit.errors import DataError, RecipeError, UsageError
from repkit.stage_one import train as train_module
from repkit.stage_one.data import Pieces, cut
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.gru_encoder import GruEncoder
from repkit.stage_one.learners import MixLearner
from repkit.stage_one.open import open_encoder
from repkit.stage_one.settings import AUTOENCODER_ONLY, OBJECTIVES_ONLY, PretrainConfig, settings_of
from repkit.stage_one.train import pretrain
from repkit.training.checkpoint import load_newest_checkpoint

MIX = (
    {"name": "cpc", "steps": [3], "size": 4, "others": 3},
    {"name": "masked_spans", "weight": 0.5, "span": 2},
    {"name": "crop_functionals", "percentiles": [50.0]},
)


@pytest.fixture
def mixed(small):
    """Settings of a run of a second on three objectives, with everything that draws random numbers."""

    def settings(**more):
        return small(**{"objectives": MIX, "dropout": 0.1, "chunks": "random", "corpus_weights": {"toy": 1.5}} | more)

    return settings


def run(toy, out, config):
    return pretrain([toy[0]], toy[1], out, config, "none")


def weights(out):
    return load_file(out / "encoder" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_and_says_what_it_did(toy, tmp_path, mixed):
    out = tmp_path / "run"
    results = run(toy, out, mixed(epochs=12, learning_rate=0.01))
    found = metrics(out)
    names = {"cpc.infonce", "masked_spans.l1", "crop_functionals.mel"}
    assert all(set(m["train_losses"]) == set(m["dev_losses"]) == names for m in found)
    last = found[-1]
    parts = last["dev_losses"]
    total = parts["cpc.infonce"] + 0.5 * parts["masked_spans.l1"] + parts["crop_functionals.mel"]
    assert last["dev_loss"] == pytest.approx(total, rel=1e-5)
    for name in names:
        assert last["train_losses"][name] < found[0]["train_losses"][name]
    assert results["objectives"] == list(mixed().objectives)
    assert results["train_losses"] == last["train_losses"]
    assert results["dev_loss"] == last["dev_loss"]
    best = min(found, key=lambda m: m["dev_loss"])
    assert results["best"] == {"epoch": best["epoch"], "dev_loss": best["dev_loss"]}
    assert not {"vector_use", "decoder", "train_rmse"} & results.keys()
    log = (out / "log.txt").read_text()
    assert "1 cpc + 0.5 masked_spans + 1 crop_functionals; fp32" in log
    assert "epoch 12/12: train loss " in log
    assert f"(cpc.infonce {last['train_losses']['cpc.infonce']:.4f}, masked_spans.l1" in log
    board = EventAccumulator(str(out / "tensorboard"))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"train/batch_loss", "train/epoch_loss", "dev/loss", "train/cpc.infonce", "dev/cpc.infonce"} <= tags
    assert "batch/crop_functionals.mel" in tags
    assert board.Scalars("dev/loss")[-1].value == pytest.approx(last["dev_loss"], rel=1e-6)


def test_what_is_exported_is_the_encoder_alone_with_its_constants(toy, tmp_path, mixed):
    results = run(toy, tmp_path / "run", mixed())
    model = GruEncoder.from_pretrained(tmp_path / "run" / "encoder")
    assert {name.split(".")[0] for name in weights(tmp_path / "run")} == {"mean", "deviation", "forward_layers"}
    assert model.config.objectives == list(mixed().objectives)
    assert model.config.provenance == results["provenance"]
    assert len(model.config.provenance["speakers"]) == 4
    # the toy frames lie between -1 and 1 and vary
    assert 0.1 < model.deviation.min() < model.deviation.max() < 1
    encoder = open_encoder(str(tmp_path / "run"))
    (vector,) = encoder.encode([np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)])
    assert vector.shape == (3 * 2 * 8,)
    assert np.isfinite(vector).all()


def test_untrained_is_where_the_training_began(toy, tmp_path, mixed):
    config = mixed(epochs=1, seed=3)
    run(toy, tmp_path / "run", config)
    torch.manual_seed(0)
    from repkit.runs.seeding import derive_seed

    torch.manual_seed(derive_seed(3, "weights"))
    began = MixLearner(config, build_frontend(**config.frontend_table()), {}).exported
    untrained = open_encoder(f"untrained:{tmp_path / 'run'}", seed=3).model
    for name, parameter in began.named_parameters():
        assert torch.equal(parameter, untrained.get_parameter(name))
    assert not torch.equal(untrained.mean, torch.zeros_like(untrained.mean))


def test_stopped_anywhere_it_ends_with_the_same_weights(toy, tmp_path, mixed, monkeypatch):
    config = mixed(epochs=3)
    run(toy, tmp_path / "whole", config)
    per_epoch = load_newest_checkpoint(tmp_path / "whole" / "checkpoints").step // 3
    assert per_epoch > 2
    real = train_module._Run._update
    for stops in ((1,), (per_epoch,), (3, per_epoch + 1)):
        out = tmp_path / f"stopped-{'-'.join(map(str, stops))}"
        for n in stops:
            left = [n]

            def update(self, indices, left=left):
                if not left[0]:
                    raise RuntimeError("power cut")
                left[0] -= 1
                return real(self, indices)

            monkeypatch.setattr(train_module._Run, "_update", update)
            with pytest.raises(RuntimeError, match="power cut"):
                run(toy, out, config.model_copy(update={"checkpoint_every_steps": 2}))
        monkeypatch.setattr(train_module._Run, "_update", real)
        torch.rand(7)  # what else drew random numbers must not matter
        run(toy, out, config)
        assert same(weights(out), weights(tmp_path / "whole"))
        kept = ("epoch", "train_loss", "train_losses", "dev_loss", "dev_losses")
        ours, theirs = ([{k: m[k] for k in kept} for m in metrics(o)] for o in (out, tmp_path / "whole"))
        assert ours == theirs


def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights(toy, tmp_path, mixed, monkeypatch):
    real = Pieces.batch

    def batch(self, indices, device):
        frames, lengths = real(self, indices, device)
        if any(self[int(i)].id == "toy/007" for i in indices) and self.lengths.max() > 3:
            frames[0, 0, 0] = float("nan")
        return frames, lengths

    config = mixed(dev_speakers=0, checkpoint_every_steps=1, standardise=False, objectives=({"name": "apc"},))
    monkeypatch.setattr(Pieces, "batch", batch)
    with pytest.raises(DataError, match=r"not a number in epoch 1, update") as caught:
        run(toy, tmp_path / "run", config)
    assert "the loss (apc.l1) is not a number" in caught.value.message
    assert "toy/007" in caught.value.problems
    found = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is None or all(torch.isfinite(t).all() for t in found.tensors.values())


def test_bf16_trains_too(toy, tmp_path, mixed):
    results = run(toy, tmp_path / "run", mixed(precision="bf16", bidirectional=True, objectives=MIX[1:]))
    assert results["precision"] == "bf16"
    assert np.isfinite(results["dev_loss"])


# ---------------------------------------------------------------------- settings


def test_settings_of_the_other_kind_are_refused():
    with pytest.raises(ValueError, match="decoder: only for the autoencoder, and objectives are given"):
        PretrainConfig(objectives=MIX, decoder="blind")
    with pytest.raises(ValueError, match="bidirectional, gain_db: only for objectives, and no objective is given"):
        PretrainConfig(bidirectional=True, gain_db=3.0)
    assert {*AUTOENCODER_ONLY, *OBJECTIVES_ONLY} <= set(PretrainConfig.model_fields)


def test_a_recipe_of_objectives(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'command = "pretrain-ae"\nname = "mine"\n[training]\nepochs = 3\n'
    path.write_text(text + '[[objectives]]\nname = "apc"\nshift = 2\n[[objectives]]\nname = "cpc"\nweight = 0.5\n')
    config = settings_of(load_recipe(PretrainRecipe, str(path), ["objectives.0.shift=4"]))
    assert config.objectives == (
        {"name": "apc", "weight": 1.0, "shift": 4},
        {"name": "cpc", "weight": 0.5},
    )
    path.write_text(text + '[[objectives]]\nname = "apc"\nshft = 2\n')
    with pytest.raises(RecipeError) as caught:
        settings_of(load_recipe(PretrainRecipe, str(path)))
    assert caught.value.problems == ("objectives.0.shft: unknown key; did you mean 'shift'?",)


def test_objectives_inside_the_training_table_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('command = "pretrain-ae"\nname = "mine"\n[[training.objectives]]\nname = "apc"\n')
    with pytest.raises(RecipeError, match=r"tables \[\[objectives\]\] beside it were expected"):
        settings_of(load_recipe(PretrainRecipe, str(path)))


def test_corpora_that_are_not_there_have_no_weight(toy, tmp_path, mixed):
    with pytest.raises(UsageError, match=r"'toi' is none of the corpora toy; did you mean 'toy'"):
        run(toy, tmp_path / "run", mixed(corpus_weights={"toi": 2.0}))


# ---------------------------------------------------------------------- pieces


def test_random_pieces_are_as_many_as_would_fill_the_utterance():
    assert cut(10, 10, "random") == [(0, 10)]
    assert cut(25, 10, "random") == [(0, 10), (8, 18), (15, 25)]
    assert cut(11, 10, "random") == [(0, 10), (1, 11)]


def places(pieces, seed, epoch):
    heard = np.concatenate(pieces.batches(4, seed, epoch))
    return sorted((pieces[int(i)].id, pieces[int(i)].start, pieces[int(i)].stop) for i in heard)


def test_random_places_depend_on_seed_and_epoch_alone(tmp_path, make_store):
    store = make_store(tmp_path / "frames", n=30, longest=60)
    wanted = [set(store.ids)]
    pieces = Pieces([store], wanted, 10, "random", None, 1e9)
    lengths = dict(zip(store.ids, store.lengths))
    first = places(pieces, 0, 0)
    assert all(0 <= start < stop <= lengths[id] and stop - start == min(10, lengths[id]) for id, start, stop in first)
    assert len(first) == sum(-(-n // 10) for n in lengths.values())
    assert places(pieces, 0, 1) != first
    assert places(pieces, 1, 0) != first
    assert places(pieces, 0, 0) == first
    assert places(Pieces([store], wanted, 10, "random", None, 0), 0, 0) == first
    frames, _ = pieces.batch([0], "cpu")
    piece = pieces[0]
    values = np.asarray(store.load([piece.id], dtype=None)[0], np.float32)
    np.testing.assert_array_equal(frames[0], values[piece.start : piece.stop])


def test_corpora_are_heard_by_their_weights(tmp_path, make_store):
    stores = [make_store(tmp_path / name, n=40, corpus=name, seed=i) for i, name in enumerate(("a", "b", "c"))]
    wanted = [set(store.ids) for store in stores]
    pieces = Pieces(stores, wanted, 100, "split", None, 1e9, weights=[1.0, 2.5, 0.25])
    counts = np.zeros((20, 3))
    for epoch in range(20):
        ids = [id for id, _, _ in places(pieces, 0, epoch)]
        counts[epoch] = [sum(id.startswith(name) for id in ids) for name in "abc"]
        if not epoch:
            assert max(ids.count(id) for id in ids) == 3
    assert (counts[:, 0] == 40).all()
    assert counts[:, 1].min() >= 80
    assert counts[:, 1].mean() == pytest.approx(100, rel=0.05)
    assert counts[:, 2].mean() == pytest.approx(10, rel=0.2)
    plain = Pieces(stores, wanted, 100, "split", None, 1e9)
    assert len(np.concatenate(plain.batches(4, 0, 0))) == 120
