"""Other recordings of the same speech, made of frames: against numbers by hand, integrals, and frames of made-up sounds."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.integrate
import torch

from repkit.errors import UsageError
from repkit.features.affect import Affect
from repkit.features.log_mel import LogMel, mel_bank
from repkit.features.prosody import deltas
from repkit.stage_one import train as train_module
from repkit.stage_one.augment import augmentation_for
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.settings import PretrainConfig
from repkit.stage_one.train import pretrain
from repkit.stage_one.warps import MelAxis, level_of, power_of, resampled, reverberated, slopes

OFF = {"gain_db": 0.0, "eq_db": 0.0, "noise_share": 0.0, "noise_snr_db": (10.0, 10.0)}
OFF |= {"room_share": 0.0, "room_rt60_s": (0.3, 0.9), "pitch_semitones": 0.0, "tempo": 0.0}
RATE = 16000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augmentation(columns, frontend=None, **settings):
    return augmentation_for(frontend or Affect(Affect.Config(bands=3)), columns, **{**OFF, **settings})


def small_frames(n=200):
    columns = ("mel_000", "mel_001", "mel_002", "energy", "tilt")
    frames = torch.zeros(n, 4, 5)
    frames[..., :4] = torch.tensor([0.1, -0.2, 0.3, 0.0])
    frames[..., 4] = 5.0
    frames[:, 3] = 0.0
    return columns, frames, torch.full((n,), 3)


def frames_of(sound, **settings):
    frontend = Affect(Affect.Config(**settings))
    frames, counts = frontend(torch.from_numpy(np.asarray(sound, np.float32))[None], torch.tensor([len(sound)]))
    return frontend, frames, counts


def voice(hz, seconds=1.2):
    """A voice that glides upwards by a tenth, in three syllables."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * hz * (t + 0.05 * t**2 / seconds)
    wave = sum(np.sin(k * phase) / k for k in range(1, 15))
    noise = np.random.default_rng(0).normal(size=len(t))
    return 0.1 * wave * (0.55 + 0.45 * np.cos(2 * np.pi * 3 * t / seconds)) + 3e-4 * noise


# ---------------------------------------------------------------------- nothing, gain, equaliser, noise


def test_nothing_asked_nothing_changed():
    columns, frames, lengths = small_frames()
    found, counts = augmentation(columns)(frames, lengths, generator())
    assert found is frames
    assert counts is lengths


def test_a_gain_moves_bands_and_energy_together():
    columns, frames, lengths = small_frames()
    found = augmentation(columns, gain_db=6.0)(frames, lengths, generator())[0]
    moved = (found - frames)[:, :3] * 30  # dB; 30 of them are 1
    gain = moved[:, 0, 0]
    torch.testing.assert_close(moved[..., :4], gain[:, None, None].expand(-1, 3, 4), atol=1e-4, rtol=0)
    assert not moved[..., 4].any()
    assert not (found - frames)[:, 3].any()
    assert (gain.abs() <= 6.0).all()
    assert gain.std() == pytest.approx(6 / 3**0.5, rel=0.15)  # uniform


def test_what_came_later_changes_no_draw_of_what_was_there():
    """Gain is the first random number of each piece; room, pitch and tempo, which came later, are drawn after the others."""
    columns, frames, lengths = small_frames(20)
    first = torch.rand(20, generator=generator())
    for more in ({}, {"room_share": 1.0}, {"eq_db": 0.0, "noise_share": 0.0}):
        found = augmentation(columns, gain_db=6.0, **more)(frames, lengths, generator())[0]
        plain = augmentation(columns, **more)(frames, lengths, generator())[0]
        moved = (found - plain)[:, 0, 3] * 30
        torch.testing.assert_close(moved, (2 * first - 1) * 6.0, atol=1e-4, rtol=0)


def test_an_equaliser_has_the_deviation_it_is_given_and_leaves_the_energy():
    columns = (*(f"mel_{band:03d}" for band in range(12)), "energy")
    frames, lengths = torch.zeros(2000, 1, 13), torch.ones(2000, dtype=torch.int64)
    found = augmentation(columns, eq_db=4.0)(frames, lengths, generator())[0][:, 0] * 30
    assert found[:, :12].square().mean().sqrt() == pytest.approx(4.0, rel=0.05)
    torch.testing.assert_close(found[:, :12].mean(1), torch.zeros(2000), atol=1e-4, rtol=0)  # no gain in it
    assert not found[:, 12].any()


def test_noise_at_ten_db_adds_a_tenth_of_the_power():
    columns, frames, lengths = small_frames(4)
    found = (augmentation(columns, noise_share=1.0)(frames, lengths, generator())[0] - frames) * 30
    # the frames are all alike, so that noise of the same spectrum at 10 dB adds 10 log10 1.1
    torch.testing.assert_close(found[:, :3, :4], torch.full((4, 3, 4), 10 * np.log10(1.1)).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("setting", [{"gain_db": 6.0}, {"room_share": 0.5}, {"pitch_semitones": 1.0}, {"tempo": 0.1}])
def test_frames_without_a_level_are_refused(setting):
    for frontend in (LogMel(), Affect(Affect.Config(scaling="utterance"))):
        with pytest.raises(UsageError, match=rf"{type(frontend).__name__} does not keep.*affect"):
            augmentation_for(frontend, ("mel_000",), **{**OFF, **setting})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"room_rt60_s": (0.8, 0.2)}, "the smaller number comes first"),
        ({"room_rt60_s": (0.0, 0.2)}, "seconds above 0"),
        ({"noise_snr_db": (30.0, 10.0)}, "the smaller number comes first"),
        ({"tempo": -0.1}, "greater than or equal to 0"),
        ({"pitch_semitones": 13.0}, "less than or equal to 12"),
    ],
)
def test_limits_that_are_none_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        PretrainConfig(objectives=({"name": "apc"},), **wrong)


def test_without_objectives_there_is_no_augmentation():
    with pytest.raises(ValueError, match="room_share, tempo: only for objectives"):
        PretrainConfig(room_share=0.5, tempo=0.1)


# ---------------------------------------------------------------------- room


def test_a_room_answers_one_frame_as_the_integral_says():
    """Energy of a decay of 60 dB in 0.4 s, weighted by a triangle of two frame shifts around each lag; all together 1."""
    power = torch.zeros(1, 60, 2)
    power[0, 0, 0], power[0, 3, 1] = 1.0, 2.0
    found = reverberated(power, torch.tensor([0.4]), 0.04)[0].double().numpy()
    a = 6 * np.log(10) * 0.1

    def weight(lag):
        edges = [max(0.0, lag - 1), lag, lag + 1]
        return sum(
            scipy.integrate.quad(lambda u: a * np.exp(-a * u) * (1 - abs(u - lag)), low, high)[0]
            for low, high in pairwise(edges)
            if high > low
        )

    expected = np.array([weight(lag) for lag in range(60)])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found[3:, 1], 2 * expected[:57], rtol=1e-5, atol=1e-12)
    assert not found[:3, 1].any()
    assert found[:, 0].sum() == pytest.approx(1.0, abs=1e-6)


def test_a_steady_sound_keeps_its_level_and_silence_stays_silence():
    steady = level_of(reverberated(power_of(torch.full((1, 40, 1), -30.0)), torch.tensor([0.5]), 0.04))
    assert steady[0, -1, 0] == pytest.approx(-30.0, abs=0.01)
    assert steady[0, 0, 0] < -33.0  # the room has not answered yet
    silent = level_of(reverberated(power_of(torch.full((1, 9, 1), -100.0)), torch.tensor([0.5]), 0.04))
    torch.testing.assert_close(silent, torch.full((1, 9, 1), -100.0), atol=1e-3, rtol=0)


def test_only_a_share_of_the_pieces_has_a_room_and_each_has_its_own():
    columns, frames, lengths = small_frames()
    frames[:, :3, :4] -= torch.tensor([0.0, 1.0, 2.0])[:, None]  # falls by 30 dB a frame
    found = augmentation(columns, room_share=0.3)(frames, lengths, generator())[0]
    second = (found - frames)[:, 1, 3] * 30
    assert 0.2 < (second != 0).float().mean() < 0.4
    assert len(second.unique()) == int((second != 0).sum()) + 1
    assert not (found - frames)[:, 3].any()


# ---------------------------------------------------------------------- tempo


def test_a_straight_line_stays_one_at_another_tempo():
    line = torch.arange(20.0)[None, :, None].expand(2, -1, 1)
    found, counts = resampled(line, torch.tensor([20, 10]), torch.tensor([1.25, 0.8]), 2.0)
    # 20 frames with windows of two are 21 shifts of sound: 16.8 are left, in which 15 frames fit; 11 become 13.75: 12
    assert counts.tolist() == [15, 12]
    assert found.shape == (2, 15, 1)
    # the middle of frame t is t + 1; at 1.25 that is 1.25 (t + 1) of before, frame 1.25 t + 0.25
    np.testing.assert_allclose(found[0, :, 0], 1.25 * np.arange(15) + 0.25, rtol=1e-6)
    np.testing.assert_allclose(found[1, :12, 0], np.clip(0.8 * np.arange(12) - 0.2, 0, 9), atol=1e-6)
    assert not found[1, 12:].any()


@pytest.mark.parametrize("settings", [{}, {"window_s": 0.06, "shift_s": 0.015}])
@pytest.mark.parametrize("speed", [0.8, 1.0, 1.13, 1.25])
def test_there_are_as_many_frames_as_the_frontend_makes(speed, settings):
    frontend = Affect(Affect.Config(**settings))
    shift, window = frontend.convention()["shift_samples"], frontend.convention()["window_samples"]
    lengths = torch.arange(1, 200)
    samples = ((lengths - 1) * shift + window).double() / speed
    expected = [max(1, frontend.n_frames(int(n + 1e-6))) for n in samples]
    counts = resampled(torch.zeros(199, 199, 1), lengths, torch.full((199,), speed), window / shift)[1]
    assert (counts - torch.tensor(expected)).abs().max() <= int(speed != 1.0)  # one where a sample decides
    assert (counts == torch.tensor(expected)).float().mean() > 0.97


def test_a_tempo_lies_within_its_limits_and_keeps_decisions():
    columns = ("mel_000", "mel_001", "voiced", "energy", "energy_delta")
    frames = torch.zeros(300, 40, 5)
    frames[:, ::3, 2] = 1.0
    frames[..., 4] = 2.0
    lengths = torch.full((300,), 40)
    found, counts = augmentation(columns, tempo=0.25)(frames, lengths, generator())
    assert (counts.min(), counts.max()) == (31, 50)  # 41 / 1.25 - 2 + 1, 41 x 1.25 - 2 + 1
    assert (counts > 40).float().mean() == pytest.approx(0.5, abs=0.1)  # evenly on a logarithmic scale
    assert set(found[..., 2].unique().tolist()) == {0.0, 1.0}
    speed = found[:, 0, 4] / 2  # slopes are per second
    assert (speed.min() >= 0.8 - 1e-6) & (speed.max() <= 1.25 + 1e-6)
    np.testing.assert_array_equal(counts, np.floor(41 / speed.double().numpy() - 2 + 1e-5) + 1)
    assert not found[torch.arange(found.shape[1]) >= counts[:, None]].any()


# ---------------------------------------------------------------------- pitch


def test_a_flat_spectrum_stays_flat_and_keeps_its_density():
    axis = MelAxis(40, 1280)
    bins = mel_bank(40, 1280, 0.0, 8000.0, "htk", None).sum(0)  # that each band takes in
    flat = torch.from_numpy(10 * np.log10(bins) - 60.0).float()
    found = level_of(axis.shifted(power_of(flat[None, None]), torch.tensor([1.2])))[0, 0]
    # the same power over a spectrum 1.2 times as wide
    torch.testing.assert_close(found, flat - 10 * np.log10(1.2), atol=2e-3, rtol=0)
    assert float(axis.tilt(power_of(flat[None, None]))) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("semitones", [-4.0, 3.0])
def test_a_voice_becomes_another_one(semitones):
    """A gliding voice moved by semitones, against the same voice made at that pitch; its spectrum falls off alike."""
    frontend, frames, counts = frames_of(voice(160.0))
    _, true, _ = frames_of(voice(160.0 * 2 ** (semitones / 12)))
    augment = augmentation_for(frontend, frontend.columns, **{**OFF, "pitch_semitones": abs(semitones)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, float(semitones > 0)))
        found, lengths = augment(frames, counts, None)
    assert torch.equal(lengths, counts)
    place = {name: at for at, name in enumerate(frontend.columns)}
    moved = (found - frames)[0, :, place["log_f0"]] * 0.4
    np.testing.assert_allclose(moved, semitones / 12 * np.log(2), atol=1e-5)
    np.testing.assert_allclose(found[0, :, place["log_f0"]], true[0, :, place["log_f0"]], atol=0.03)
    low = slice(0, 60)  # up to 2.2 kHz, where the harmonics are
    ours, before = ((x - true)[0, :, low].abs().mean() * 30 for x in (found, frames))
    assert ours < 0.3 * before
    assert ours < 5.0  # dB
    for name in ("voicing", "voiced", "energy"):
        torch.testing.assert_close(found[..., place[name]], frames[..., place[name]], atol=1e-6, rtol=0)


def test_one_band_has_nowhere_to_go():
    with pytest.raises(UsageError, match="pitch_semitones with 1 band; two or more were expected"):
        augmentation(("mel_000", "energy"), pitch_semitones=1.0)


def test_what_has_no_voice_has_no_pitch_to_move():
    frontend, frames, counts = frames_of(0.05 * np.random.default_rng(0).normal(size=9000))
    place = frontend.columns.index("log_f0")
    assert not frames[..., place].any()
    augment = augmentation_for(frontend, frontend.columns, **{**OFF, "pitch_semitones": 3.0})
    found, _ = augment(frames, counts, generator())
    assert not found[..., place].any()
    assert not torch.equal(found, frames)


# ---------------------------------------------------------------------- tilt and slopes


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_the_tilt_read_off_bands_is_that_of_the_sound(decay):
    """Noise of 0, -6 and -12 dB per octave, filtered by powers of one over the frequency."""
    spectrum = np.fft.rfft(np.random.default_rng(3).normal(size=4 * RATE))
    hz = np.maximum(np.fft.rfftfreq(4 * RATE, 1 / RATE), 30.0)
    sound = np.fft.irfft(spectrum * (200.0 / hz) ** decay)
    frontend, frames, _ = frames_of(0.1 * sound / sound.std())
    tilt = frames[0, :, frontend.columns.index("tilt")] * 4 - 6
    ours = MelAxis(128, 1280).tilt(power_of(frames[..., :128] * 30 - 60))[0]
    assert float(tilt.mean()) == pytest.approx(-6.02 * decay, abs=0.3)
    assert float((ours - tilt).abs().mean()) < 0.25


def test_slopes_are_those_of_the_frontend_whatever_the_padding():
    values = torch.tensor(np.random.default_rng(0).normal(size=(3, 12, 2)))
    found = slopes(values, torch.tensor([12, 5, 1]), 0.04)
    for row, n in enumerate((12, 5, 1)):
        torch.testing.assert_close(found[row, :n], deltas(values[row, :n], 0.04), atol=1e-9, rtol=1e-9)


def test_slopes_follow_what_a_room_does_to_the_energy():
    frontend, frames, counts = frames_of(voice(140.0), deltas=True)
    settings = {**OFF, "room_share": 1.0, "pitch_semitones": 2.0}
    found, _ = augmentation_for(frontend, frontend.columns, **settings)(frames, counts, generator())
    for name in ("energy", "tilt", "log_f0"):
        value, slope = frontend.columns.index(name), frontend.columns.index(f"{name}_delta")
        expected = deltas(found[0, :, [value]], frontend.frame_shift_s)[:, 0]
        torch.testing.assert_close(found[0, :, slope], expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(found[..., -2], frames[..., -2])


# ---------------------------------------------------------------------- all together

ALL = {"gain_db": 6.0, "eq_db": 3.0, "noise_share": 0.5, "room_share": 0.5, "pitch_semitones": 2.0, "tempo": 0.15}


def batch(n_frames=30):
    frontend = build_frontend("affect", {"bands": 24, "deltas": True})
    lengths = torch.tensor([30, 22, 9, 2, 1])
    frames = torch.randn(5, n_frames, frontend.n_bands, generator=generator(1)) * 0.3
    frames[..., frontend.columns.index("voiced")] = (frames[..., 0] > 0).float()
    return frontend, frames * (torch.arange(n_frames) < lengths[:, None])[..., None], lengths


def test_padding_and_neighbours_change_nothing_and_stay_zero():
    frontend, frames, lengths = batch()
    augment = augmentation_for(frontend, frontend.columns, **{**OFF, **ALL})
    found, counts = augment(frames, lengths, generator())
    _, longer, _ = batch()
    longer = torch.nn.functional.pad(longer, (0, 0, 0, 11))
    again, same = augment(longer, lengths, generator())
    assert torch.equal(counts, same)
    torch.testing.assert_close(again[:, : found.shape[1]], found, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(found).all()
    assert counts.min() >= 1
    assert not found[torch.arange(found.shape[1]) >= counts[:, None]].any()
    assert found.shape[1] == counts.max()


def test_its_generator_alone_decides():
    frontend, frames, lengths = batch()
    augment = augmentation_for(frontend, frontend.columns, **{**OFF, **ALL})
    before = frames.clone()
    first, other = augment(frames, lengths, generator(4))[0], augment(frames, lengths, generator(5))[0]
    torch.manual_seed(99)
    again = augment(frames, lengths, generator(4))[0]
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert torch.equal(frames, before)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path, make_store, make_utterances, small, monkeypatch
):
    """Every update draws anew, from what the run's seed and the place of the update give."""
    store = make_store(tmp_path / "frames", bands=13)
    config = small(
        frontend="affect",
        frontend_settings={"bands": 8},
        objectives=({"name": "apc", "shift": 1},),
        inputs="all",
        **ALL,
    )
    plain = config.model_copy(update=dict.fromkeys(ALL, 0.0))
    real = train_module._Run._update

    def run(name, config, stop_after=None):
        made = []

        def update(self, indices):
            if len(made) == stop_after:
                raise RuntimeError("power cut")
            made.append(real(self, indices))
            return made[-1]

        monkeypatch.setattr(train_module._Run, "_update", update)
        return pretrain([store], make_utterances(), tmp_path / name, config, "none")

    whole = run("whole", config)
    with pytest.raises(RuntimeError, match="power cut"):
        run("stopped", config.model_copy(update={"checkpoint_every_steps": 1}), stop_after=3)
    resumed = run("stopped", config)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert run("plain", plain)["weights_sha256"] != whole["weights_sha256"]
