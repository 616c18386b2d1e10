"""Encoder and objectives together: names, weights, constants, corruption; trimming."""

import numpy as np
import pytest
import torch

from repkit.errors import PluginError, RecipeError, UsageError
from repkit.stage_one.frontends import build_frontend, rebuild_frontend
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig
from repkit.stage_one.mix import Mix, build_objectives, check_attention_is_read, check_objectives, task_of
from repkit.stage_one.trim import Trimmed, loud_part

COLUMNS = [*(f"mel_{band:03d}" for band in range(6)), "log_f0", "voicing", "energy", "tilt", "voiced"]
TABLES = [
    {"name": "apc", "weight": 2.0, "shift": 2},
    {"name": "masked_spans"},
    {"name": "crop_functionals", "weight": 0.5},
]


def mix(tables=TABLES, **settings):
    torch.manual_seed(0)
    encoder = GruEncoder(GruEncoderConfig(columns=COLUMNS, hidden_size=5, **settings))
    return Mix(encoder, build_objectives(tables, task_of(encoder.config, 0.04)))


def material(n=6, seed=0):
    random = np.random.default_rng(seed)
    lengths = torch.tensor([12, 9, 7, 5, 4, 1][:n])
    frames = torch.tensor(random.normal(3, 2, (n, 12, len(COLUMNS))), dtype=torch.float32)
    frames[..., -1] = torch.tensor(random.random((n, 12)) < 0.5)
    return frames * (torch.arange(12) < lengths[:, None])[..., None], lengths


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_losses_have_names_and_weights():
    model = mix()
    losses = model(*material(), 0.0, generator())
    assert list(losses) == ["apc.l1", "masked_spans.l1", "crop_functionals.mel", "crop_functionals.prosody"]
    expected = sum(w * losses[name].item() for w, name in zip((2.0, 1.0, 0.5, 0.5), losses, strict=True))
    assert model.total(losses).item() == pytest.approx(expected, rel=1e-6)


def test_the_encoder_is_the_same_whatever_it_is_trained_on():
    a, b = mix().encoder.state_dict(), mix([{"name": "cpc"}]).encoder.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_only_the_corrupting_objective_sees_corrupted_frames():
    model = mix().eval()
    first, other = (model(*material(), 0.0, generator(seed)) for seed in (0, 1))
    assert first["apc.l1"] == other["apc.l1"]
    assert first["masked_spans.l1"] != other["masked_spans.l1"]
    assert model(*material(), 0.0, generator(0))["masked_spans.l1"] == first["masked_spans.l1"]


def test_constants_are_those_of_the_valid_frames():
    model = mix()
    frames, lengths = material()
    half = [(frames[:3], lengths[:3]), (frames[3:], lengths[3:])]
    model.calibrate(half)
    values = np.concatenate([row[:n].numpy() for row, n in zip(frames, lengths.tolist())]).astype(np.float64)
    voiced = values[:, -1] > 0.5
    mean, deviation = values.mean(0), values.std(0)
    mean[6], deviation[6] = values[voiced, 6].mean(), values[voiced, 6].std()  # pitch where there is one
    np.testing.assert_allclose(model.encoder.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(model.encoder.deviation, deviation, rtol=1e-5)
    assert model.objectives["crop_functionals"].constants.deviation.min() > 0
    assert not torch.equal(model.objectives["crop_functionals"].constants.mean, torch.zeros(10 * 8))


def test_voices_are_told_by_the_raw_column():
    model = mix()
    frames, lengths = material()
    model.calibrate([(frames, lengths)])
    batch = model.batch(frames, lengths)
    assert torch.equal(batch.voiced, (frames[..., -1] > 0.5) & (torch.arange(12) < lengths[:, None]))


def test_two_of_a_kind_have_names_of_their_own():
    model = mix([{"name": "apc", "shift": 2}, {"name": "repkit:apc", "shift": 4, "weight": 3.0}])
    assert model.weights == {"apc": 1.0, "apc_1": 3.0}
    assert list(model(*material(), 0.0, generator())) == ["apc.l1", "apc_1.l1"]


def test_what_a_recipe_says_wrong_is_told_before_anything_runs():
    with pytest.raises(RecipeError) as caught:
        check_objectives([{"name": "apc"}, {"name": "cpc", "stps": [3], "temperature": -1}])
    assert sorted(caught.value.problems) == [
        "objectives.1.stps: unknown key; did you mean 'steps'?",
        "objectives.1.temperature: got -1; a number above 0 was expected",
    ]
    with pytest.raises(PluginError, match="did you mean 'masked_spans'"):
        check_objectives([{"name": "masked_span"}])
    with pytest.raises(UsageError, match="a weight that is a number"):
        check_objectives([{"name": "apc", "weight": "much"}])


def test_an_objective_that_breaks_its_contract_is_blamed(monkeypatch):
    model = mix([{"name": "apc", "shift": 2}, {"name": "apc", "shift": 3}])

    def forward(batch, states, progress):
        raise KeyError("heads")

    monkeypatch.setattr(model.objectives["apc_1"], "forward", forward)
    with pytest.raises(PluginError, match=r"plugin repkit .* \(repkit.pretraining: apc\): KeyError.*plugins check apc"):
        model(*material(), 0.0, generator())
    monkeypatch.setattr(model.objectives["apc_1"], "forward", lambda *given: {"l1": torch.ones(2)})
    with pytest.raises(PluginError, match=r"repkit.pretraining: apc\): the loss 'l1' is \(2,\)"):
        model(*material(), 0.0, generator())
    monkeypatch.setattr(model.objectives["apc_1"], "forward", lambda *given: {"l.1": torch.ones(())})
    with pytest.raises(PluginError, match=r"the name of the loss 'l.1'; a word without a dot was expected"):
        model(*material(), 0.0, generator())
    monkeypatch.setattr(model.objectives["apc_1"], "forward", lambda *given: {"l1": torch.ones(())})
    with pytest.raises(PluginError, match=r"apc\): the losses l1 depend on no parameter"):
        model(*material(), 0.0, generator())
    with torch.no_grad():  # as a score on held-out speech
        assert float(model(*material(), 0.0, generator())["apc_1.l1"]) == 1.0
    monkeypatch.setattr(model.objectives["apc_1"], "forward", lambda *given: {"l1": torch.zeros(())})
    assert float(model(*material(), 0.0, generator())["apc_1.l1"]) == 0.0  # nothing to predict in this batch


@pytest.mark.parametrize(
    ("tables", "read"),
    [
        (["apc"], False),
        (["cpc"], False),
        (["masked_spans", "prosody_contours"], False),
        (["apc", "crop_functionals"], True),
        (["blind_decoder"], True),
        (["reconstruction"], True),
        ([{"name": "reconstruction", "decoder": "blind", "hidden_size": 4}], True),
        (["apc", {"name": "crop_functionals", "weight": 0.0}], False),
    ],
)
def test_attention_that_nothing_would_train_is_refused(tables, read):
    tables = [{"name": one} if isinstance(one, str) else one for one in tables]
    model = mix(tables, pooling="attentive")
    before = torch.get_rng_state()
    if read:
        check_attention_is_read(model)
    else:
        with pytest.raises(UsageError, match=rf"none of the objectives {tables[0]['name']}.* reads the vector"):
            check_attention_is_read(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())
    check_attention_is_read(mix(tables, pooling="mean_sd"))


# ---------------------------------------------------------------------- trimming


def test_silent_ends_are_cut_at_so_many_db():
    sound = torch.full((16000,), 1e-4)
    sound[4800:8000] = 0.1  # 60 dB louder
    first, last = loud_part(sound, 40.0)
    assert 4800 - 640 < first <= 4800
    assert 8000 <= last < 8000 + 640
    assert loud_part(sound, 70.0) == (0, 16000)
    assert loud_part(torch.zeros(16000), 40.0) == (0, 16000)
    assert loud_part(torch.ones(100), 40.0) == (0, 100)


def test_a_trimmed_frontend_hears_the_loud_part_alone():
    plain = build_frontend("log_mel", {"bands": 6})
    trimmed = build_frontend("log_mel", {"bands": 6}, 40.0)
    assert isinstance(trimmed, Trimmed)
    torch.manual_seed(0)
    sounds = torch.zeros(2, 16000)
    sounds[0, 4800:8000] = 0.1 * torch.randn(3200)
    sounds[1, :500] = 0.1 * torch.randn(500)
    frames, counts = trimmed(sounds, torch.tensor([16000, 500]))
    a, b = loud_part(sounds[0], 40.0)
    expected, n = plain(sounds[:1, a:b], torch.tensor([b - a]))
    assert counts.tolist() == [int(n), plain.n_frames(500)]
    torch.testing.assert_close(frames[:1, : int(n)], expected)
    assert trimmed.convention()["trim_db"] == 40.0
    assert trimmed.n_bands == 6
    again = rebuild_frontend({"name": "log_mel", "settings": {"bands": 6}, "trim_db": 40.0})
    torch.testing.assert_close(again(sounds[:1], torch.tensor([16000]))[0], frames[:1, : int(n)])
