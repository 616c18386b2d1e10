"""The encoder of objectives against torch's GRU, alone and in batches, saved and loaded, untrained; its names."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from repkit.errors import UsageError
from repkit.runs.seeding import derive_seed
from repkit.stage_one.frontends import states_start_s
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig, GruEncoderEncoder
from repkit.stage_one.naming import own_seed
from repkit.stage_one.open import open_encoder

COLUMNS = [*(f"mel_{band:03d}" for band in range(6)), "log_f0", "energy"]


def make(seed=0, columns=COLUMNS, **settings):
    torch.manual_seed(seed)
    return GruEncoder(GruEncoderConfig(columns=columns, hidden_size=5, **settings)).eval()


def noise(*lengths):
    torch.manual_seed(3)
    frames = torch.randn(len(lengths), max(lengths), len(COLUMNS))
    return frames, torch.tensor(lengths)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("inputs", ["mel", "all"])
def test_states_are_those_of_a_torch_gru(bidirectional, inputs):
    model = make(bidirectional=bidirectional, inputs=inputs)
    n_inputs = 6 if inputs == "mel" else 8
    reference = nn.GRU(n_inputs, 5, 2, batch_first=True, bidirectional=bidirectional)
    state = {}
    for layer in range(2):
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))[: 1 + bidirectional]:
            own = getattr(model, f"{direction}_layers")[layer].layers[0]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                state[f"{name}_l{layer}{suffix}"] = getattr(own, f"{name}_l0").detach()
    reference.load_state_dict(state)
    frames, lengths = noise(12, 7, 1)
    with torch.no_grad():
        layers = model.states(frames, lengths)
        for row, length in enumerate(lengths.tolist()):
            expected, _ = reference(frames[row : row + 1, :length, :n_inputs])
            torch.testing.assert_close(layers[-1][row, :length], expected[0], atol=1e-5, rtol=1e-5)
    assert [layer.shape[-1] for layer in layers] == list(model.config.layer_sizes)


def test_frames_are_standardised_cut_off_and_masked():
    model = make()
    model.mean.fill_(2.0)
    model.deviation.fill_(0.5)
    frames, lengths = torch.full((1, 3, 8), 3.0), torch.tensor([2])
    frames[0, 1, 0] = 1000.0
    found = model.standardise(frames, lengths)
    assert found[0, 0].tolist() == [2.0] * 8
    assert found[0, 1, 0] == 10.0
    assert not found[0, 2].any()


@pytest.mark.parametrize("settings", [{}, {"bidirectional": True, "pooling": "attentive"}])
def test_alone_or_in_a_batch_the_vector_is_the_same(settings):
    model = make(**settings)
    frames, lengths = noise(15, 8, 2)
    with torch.no_grad():
        together = model(frames, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(frames[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_initial_weights():
    a, b, c = make(1), make(1), make(2)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(a.forward_layers[0].layers[0].weight_hh_l0, c.forward_layers[0].layers[0].weight_hh_l0)
    paper = make(init="paper").forward_layers[1].layers[0]
    # the bias of both gates is 1, that of the candidate 0
    assert (paper.bias_ih_l0 + paper.bias_hh_l0).tolist() == [1.0] * 10 + [0.0] * 5
    assert not torch.equal(make().forward_layers[1].layers[0].bias_ih_l0[:10], torch.ones(10))


def test_dropout_stands_between_layers_only():
    model = make(dropout=0.5).train()
    frames, lengths = noise(20)
    first, again = model.states(frames, lengths), model.states(frames, lengths)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], again[1])


def test_settings_are_refused_by_name():
    with pytest.raises(UsageError, match="pooling: got 'max'"):
        GruEncoderConfig(pooling="max")
    with pytest.raises(UsageError, match="trained with pooling = 'mean_sd_delta'"):
        make().readout(*noise(4), "attentive")


@pytest.fixture
def run(tmp_path):
    """A finished run on log-Mel bands, with constants of its own."""
    frontend = {"name": "log_mel", "settings": {"bands": 6}}
    model = make(
        columns=COLUMNS[:6], frontend=frontend, objectives=[{"name": "apc", "weight": 1.0}],
        provenance={"corpora": [{"name": "toy"}], "speakers": ["toy/a"], "held_out_speakers": ["toy/b"]},
    )  # fmt: skip
    model.mean.fill_(-8.0)
    model.deviation.fill_(4.0)
    model.save_pretrained(tmp_path / "cpc" / "encoder")
    (tmp_path / "cpc" / "status.json").write_text(json.dumps({"state": "done", "epoch": 1, "epochs": 1}))
    return tmp_path / "cpc"


def sounds():
    random = np.random.default_rng(0)
    return [(0.1 * random.standard_normal(n)).astype(np.float32) for n in (9000, 3000, 16000)]


def test_a_run_is_opened_by_its_folder_and_says_what_it_is(run):
    encoder = open_encoder(str(run))
    assert isinstance(encoder, GruEncoderEncoder)
    assert (encoder.name, encoder.dim, encoder.level) == ("cpc", 3 * 2 * 5, "utterance")
    vectors = encoder.encode(sounds())
    assert [v.shape for v in vectors] == [(30,)] * 3
    model = GruEncoder.from_pretrained(run / "encoder").eval()
    assert model.mean[0] == -8.0
    for vector, expected in zip(vectors, model.encode_waveforms(sounds(), batch_size=1), strict=True):
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    said = encoder.provenance()
    assert (said["readout"], said["layers"], said["objectives"]) == (
        "mean_sd_delta",
        "all",
        [{"name": "apc", "weight": 1.0}],
    )
    assert said["speakers"] == ["toy/a"]
    assert len(said["weights_sha256"]) == 64
    json.dumps(said)


@pytest.mark.parametrize(
    ("options", "name", "dim"),
    [
        ({"readout": "mean_sd"}, "cpc-mean_sd", 20),
        ({"readout": "mean", "layers": "last"}, "cpc-mean-last", 5),
        ({"layers": "last"}, "cpc-mean_sd_delta-last", 15),
        ({"readout": "last"}, "cpc-last", 10),
        ({"level": "frame"}, "cpc-sequence", 5),
        ({"readout": "sequence", "layers": "all"}, "cpc-sequence-all", 10),
    ],
)
def test_readouts_have_names_and_sizes(run, options, name, dim):
    encoder = open_encoder(str(run), **options)
    assert (encoder.name, encoder.dim) == (name, dim)
    found = encoder.encode(sounds())
    assert all(values.shape[-1] == dim for values in found)
    assert encoder.level == ("frame" if found[0].ndim == 2 else "utterance")
    assert (encoder.frame_shift_s is None) == (encoder.level == "utterance")


def test_states_say_how_much_silence_is_cut_away_before_them(run):
    sound = sounds()[0]
    late = np.concatenate([np.zeros(8000, np.float32), sound, np.zeros(8000, np.float32)])
    encoder = open_encoder(str(run), level="frame")
    assert (encoder.start_s(late), states_start_s(open_encoder(str(run)), late)) == (0.0, None)
    config = run / "encoder" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "frontend": {**settings["frontend"], "trim_db": 40.0}}))
    encoder = open_encoder(str(run), level="frame")
    # windows of 40 ms every 10 ms: the first that is loud begins at most 40 ms before the sound
    assert 0.46 <= states_start_s(encoder, late) <= 0.5
    n = len(encoder.encode([late])[0])
    assert len(sound) / 160 - 3 <= n <= len(sound) / 160 + 8
    assert encoder.start_s(np.zeros(16000, np.float32)) == 0.0


def test_untrained_keeps_architecture_and_constants_and_draws_weights(run):
    encoders = {
        name: open_encoder(f"untrained:{run}", **options)
        for name, options in (("a", {}), ("b", {"seed": 1}), ("c", {"init": "paper"}), ("d", {}))
    }
    assert [e.name for e in encoders.values()] == [
        "untrained-cpc", "untrained-seed1-cpc", "untrained-paper-cpc", "untrained-cpc",
    ]  # fmt: skip
    vectors = {name: np.stack(e.encode(sounds())) for name, e in encoders.items()}
    np.testing.assert_array_equal(vectors["a"], vectors["d"])
    assert not np.allclose(vectors["a"], vectors["b"])
    assert not np.allclose(vectors["a"], vectors["c"])
    assert encoders["a"].model.mean[0] == -8.0
    said = encoders["a"].provenance()
    assert (said["untrained_seed"], said["speakers"], said["corpora"], said["objectives"]) == (0, [], [], [])
    assert said["constants_from"] == ["toy"]
    assert encoders["c"].provenance()["architecture"]["init"] == "paper"
    with pytest.raises(UsageError, match="of a trained encoder"):
        open_encoder(str(run), init="paper")
    with pytest.raises(UsageError, match="seed = 3 of a trained encoder"):
        open_encoder(str(run), seed=3)
    with pytest.raises(UsageError, match="readout = 'mean' beside level = 'frame'"):
        open_encoder(str(run), readout="mean", level="frame")


def test_untrained_has_the_seed_of_its_run_and_is_where_that_began(tmp_path):
    provenance, frontend = {"settings": {"seed": 3}}, {"name": "log_mel", "settings": {"bands": 6}}
    model = make(derive_seed(3, "weights"), columns=COLUMNS[:6], frontend=frontend, provenance=provenance)
    model.save_pretrained(tmp_path / "cpc-s3" / "encoder")
    spec = f"untrained:{tmp_path / 'cpc-s3'}"
    own, same, zero = open_encoder(spec), open_encoder(spec, seed=3), open_encoder(spec, seed=0)
    assert [e.name for e in (own, same, zero)] == ["untrained-cpc-s3", "untrained-cpc-s3", "untrained-seed0-cpc-s3"]
    assert [e.provenance()["untrained_seed"] for e in (own, same, zero)] == [3, 3, 0]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(own.model.state_dict()[name], value, rtol=0, atol=0)
    assert not torch.equal(
        zero.model.forward_layers[0].layers[0].weight_ih_l0, own.model.forward_layers[0].layers[0].weight_ih_l0
    )
    assert own_seed(None) == own_seed({}) == own_seed({"settings": {}}) == 0


def test_statistics_of_the_same_frontend(run):
    encoder = open_encoder(f"statistics:{run}")
    assert (encoder.name, encoder.dim) == ("statistics-cpc", 12)


def test_a_readout_that_was_not_learnt_is_refused_before_any_audio(run):
    with pytest.raises(UsageError, match="attention was never learnt"):
        open_encoder(str(run), readout="attentive")
