"""Encoder and objectives together: names, weights, constants, corruption; other recordings of the same speech; trimming."""

import numpy as np
import pytest
import torch

from repkit.errors import PluginError, RecipeError, UsageError
from repkit.features.affect import Affect
from repkit.features.log_mel import LogMel
from repkit.stage_one.augment import augmentation_for
from repkit.stage_one.frontends import build_frontend, rebuild_frontend
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig
from repkit.stage_one.mix import Mix, build_objectives, check_objectives, task_of
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
        "objectives.1.temperature: got -1; input should be greater than 0",
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


# ---------------------------------------------------------------------- augmentation


def affect_frames(n=200):
    columns = ("mel_000", "mel_001", "mel_002", "energy", "tilt")
    frames = torch.zeros(n, 4, 5)
    frames[..., :4] = torch.tensor([0.1, -0.2, 0.3, 0.0])
    frames[..., 4] = 5.0
    frames[:, 3] = 0.0
    return columns, frames, torch.full((n,), 3)


def augmentation(columns, **settings):
    off = {"gain_db": 0.0, "eq_db": 0.0, "noise_share": 0.0, "noise_snr_db": (10.0, 10.0)}
    return augmentation_for(Affect(Affect.Config(bands=3)), columns, **{**off, **settings})


def test_nothing_asked_nothing_changed():
    columns, frames, lengths = affect_frames()
    assert augmentation(columns)(frames, lengths, generator()) is frames


def test_a_gain_moves_bands_and_energy_together():
    columns, frames, lengths = affect_frames()
    found = augmentation(columns, gain_db=6.0)(frames, lengths, generator())
    moved = (found - frames)[:, :3] * 30  # dB; 30 of them are 1
    gain = moved[:, 0, 0]
    torch.testing.assert_close(moved[..., :4], gain[:, None, None].expand(-1, 3, 4), atol=1e-4, rtol=0)
    assert not moved[..., 4].any()
    assert not (found - frames)[:, 3].any()
    assert (gain.abs() <= 6.0).all()
    assert gain.std() == pytest.approx(6 / 3**0.5, rel=0.15)  # uniform


def test_an_equaliser_has_the_deviation_it_is_given_and_leaves_the_energy():
    columns = (*(f"mel_{band:03d}" for band in range(12)), "energy")
    frames, lengths = torch.zeros(2000, 1, 13), torch.ones(2000, dtype=torch.int64)
    found = augmentation(columns, eq_db=4.0)(frames, lengths, generator())[:, 0] * 30
    assert found[:, :12].square().mean().sqrt() == pytest.approx(4.0, rel=0.05)
    torch.testing.assert_close(found[:, :12].mean(1), torch.zeros(2000), atol=1e-4, rtol=0)  # no gain in it
    assert not found[:, 12].any()


def test_noise_at_ten_db_adds_a_tenth_of_the_power():
    columns, frames, lengths = affect_frames(4)
    found = (augmentation(columns, noise_share=1.0)(frames, lengths, generator()) - frames) * 30
    # the frames are all alike, so that noise of the same spectrum at 10 dB adds 10 log10 1.1
    torch.testing.assert_close(found[:, :3, :4], torch.full((4, 3, 4), 10 * np.log10(1.1)).float(), atol=1e-4, rtol=0)


def test_frames_without_a_level_are_refused():
    with pytest.raises(UsageError, match=r"LogMel does not keep.*affect"):
        augmentation_for(LogMel(), ("mel_000",), gain_db=6.0, eq_db=0.0, noise_share=0.0, noise_snr_db=(10.0, 30.0))


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
