"""Encoders besides the trained autoencoder, and opening them by one word."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from repkit.api import Encoder
from repkit.errors import PluginError, RecipeError, UsageError
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.open import open_encoder

FRONTEND = {"name": "spectrogram", "settings": {"bands": 12, "fixed_length_s": None}}


def sounds(n=5, seed=0, low=2000, high=20000):
    random = np.random.default_rng(seed)
    return [random.normal(0, 0.1, size).astype(np.float32) for size in random.integers(low, high, n)]


@pytest.fixture
def run(tmp_path):
    """A finished stage-one run, as far as an encoder can see."""
    torch.manual_seed(7)
    heard = {"corpora": [{"name": "toy", "fingerprint": "f"}], "speakers": ["toy/s1"], "held_out_speakers": ["toy/s2"]}
    config = GruAutoencoderConfig(n_bands=12, hidden_size=8, frontend=FRONTEND, provenance=heard)
    folder = tmp_path / "ae-toy"
    GruAutoencoder(config).save_pretrained(folder / "encoder")
    GruAutoencoder(config).save_pretrained(folder / "encoder-best")
    (folder / "status.json").write_text(json.dumps({"state": "done", "epoch": 2, "epochs": 2}))
    return folder


def test_the_run_the_folder_in_it_and_the_best_one(run):
    waveforms = sounds()
    encoder = open_encoder(str(run))
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim, encoder.level) == ("ae-toy", 32, "utterance")
    wanted = GruAutoencoder.from_pretrained(run / "encoder").encode_waveforms(waveforms)
    np.testing.assert_array_equal(encoder.encode(waveforms), wanted)
    np.testing.assert_array_equal(open_encoder(str(run / "encoder")).encode(waveforms), wanted)
    assert open_encoder(str(run / "encoder")).name == "ae-toy"
    best = open_encoder(str(run / "encoder-best"))
    assert best.name == "ae-toy-best"
    assert not np.array_equal(best.encode(waveforms), wanted)


def test_provenance_tells_what_was_heard(run):
    found = open_encoder(str(run)).provenance()
    assert found["speakers"] == ["toy/s1"]
    assert found["corpora"] == [{"name": "toy", "fingerprint": "f"}]
    assert len(found["weights_sha256"]) == 64
    assert found["frontend"] == FRONTEND
    assert json.loads(json.dumps(found)) == found
    assert str(run) not in json.dumps(found)  # no path of this machine


@pytest.mark.parametrize(
    ("options", "name", "dim"),
    [
        ({"readout": "pooled"}, "ae-toy-pooled", 32),
        ({"readout": "states"}, "ae-toy-states", 16),
        ({"level": "frame"}, "ae-toy-sequence", 8),
        ({"level": "frame", "layers": "all"}, "ae-toy-sequence-all", 16),
        ({"readout": "mean_sd_delta"}, "ae-toy-mean_sd_delta", 48),
        ({"readout": "mean_sd_delta", "layers": "last"}, "ae-toy-mean_sd_delta-last", 24),
        ({"readout": "last"}, "ae-toy-last", 16),
        ({"readout": "mean", "layers": "all"}, "ae-toy-mean", 16),
    ],
)
def test_readouts_have_names_of_their_own(run, options, name, dim):
    encoder = open_encoder(str(run), **options)
    assert (encoder.name, encoder.dim) == (name, dim)
    assert encoder.encode(sounds(1))[0].shape[-1] == dim
    if options.get("level") == "frame":
        assert encoder.frame_shift_s == pytest.approx(0.04)
        assert encoder.encode([np.ones(8000, np.float32)])[0].shape == (11, dim)  # (8000 - 1280) // 640 + 1


def test_readouts_of_the_autoencoder_are_those_of_all_encoders(run):
    waveforms = sounds()

    def vectors(**options):
        return np.stack(open_encoder(str(run), **options).encode(waveforms))

    np.testing.assert_allclose(vectors(readout="mean_sd"), vectors(readout="pooled"), atol=1e-6)
    # a GRU's last output is its final state
    np.testing.assert_allclose(vectors(readout="last"), vectors(readout="states"), atol=1e-6)
    whole = open_encoder(str(run), readout="sequence", layers="all").encode(waveforms)
    expected = [np.concatenate([s.mean(0), s.std(0), (s[2:] - s[:-2]).std(0)]) for s in whole]
    np.testing.assert_allclose(vectors(readout="mean_sd_delta"), np.stack(expected), atol=1e-5)
    assert "layers" not in open_encoder(str(run)).provenance(), "stores of before keep their identity"
    assert open_encoder(str(run), readout="mean").provenance()["layers"] == "all"
    with pytest.raises(UsageError, match="readout representation, which is of all layers"):
        open_encoder(str(run), layers="last")


def test_untrained_begins_as_it_is_told(run):
    torch_ = open_encoder(f"untrained:{run}", init="torch")
    assert torch_.name == "untrained-torch-ae-toy"
    assert torch_.provenance()["architecture"]["init"] == "torch"
    # gate biases are 1 as the paper draws them, and torch's lie within 1 / sqrt(8)
    assert torch_.model.encoder.layers[0].bias_ih_l0.abs().max() < 0.36
    assert open_encoder(f"untrained:{run}").model.encoder.layers[0].bias_ih_l0[0] == 1.0
    with pytest.raises(UsageError, match="of a trained encoder"):
        open_encoder(str(run), init="torch")
    with pytest.raises(UsageError, match="seed = 7 of a trained encoder"):
        open_encoder(str(run), seed=7)
    with pytest.raises(UsageError, match="readout = 'mean' beside level = 'frame'"):
        open_encoder(str(run), readout="mean", level="frame")


def test_a_folder_does_not_hide_the_encoder_of_its_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("functionals").mkdir()  # as `repkit embed --out .` leaves it
    assert open_encoder("functionals").name == "functionals"
    with pytest.raises(UsageError, match="folder without encoder/config.json"):
        open_encoder("./functionals")
    # a model of that name is meant
    Path("statistics").symlink_to(run, target_is_directory=True)
    assert (
        open_encoder("statistics").provenance()["weights_sha256"]
        == open_encoder(str(run)).provenance()["weights_sha256"]
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("functional", "did you mean 'functionals'"),
        ("zzz", "no such encoder \\(installed: .*functionals.*statistics"),
        ("untrained:functionals", "functionals is an installed encoder and no run"),
        ("runs/zzz", "there is no such folder; expected a run"),
    ],
)
def test_a_misspelt_encoder_is_told_what_there_is(spec, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        open_encoder(spec)


def test_untrained_has_other_weights_by_seed_and_has_heard_nobody(run):
    waveforms = sounds()
    trained = open_encoder(str(run)).encode(waveforms)
    zero, again, one = (open_encoder(f"untrained:{run}", seed=s) for s in (0, 0, 1))
    assert (zero.name, one.name) == ("untrained-ae-toy", "untrained-seed1-ae-toy")
    np.testing.assert_array_equal(zero.encode(waveforms), again.encode(waveforms))
    assert np.abs(np.stack(zero.encode(waveforms)) - np.stack(one.encode(waveforms))).max() > 0.01
    assert np.abs(np.stack(zero.encode(waveforms)) - np.stack(trained)).max() > 0.01
    found = zero.provenance()
    assert found["speakers"] == found["corpora"] == []
    assert found["weights_sha256"] is None
    assert zero.model.bridge.bias.abs().max() > 0  # the paper's initialisation, not the default


def test_the_untrained_has_the_seed_of_its_run(run, tmp_path):
    config = GruAutoencoderConfig(n_bands=12, hidden_size=8, frontend=FRONTEND, provenance={"settings": {"seed": 1}})
    GruAutoencoder(config).save_pretrained(tmp_path / "ae-s1" / "encoder")
    own, zero = (open_encoder(f"untrained:{tmp_path / 'ae-s1'}", seed=seed) for seed in (None, 0))
    assert [(e.name, e.provenance()["untrained_seed"]) for e in (own, zero)] == [
        ("untrained-ae-s1", 1), ("untrained-seed0-ae-s1", 0),
    ]  # fmt: skip
    # of a run without a seed in its provenance the same as ever
    other = open_encoder(f"untrained:{run}", seed=1)
    assert other.name == "untrained-seed1-ae-toy"
    np.testing.assert_array_equal(own.encode(sounds()), other.encode(sounds()))
    np.testing.assert_array_equal(zero.encode(sounds()), open_encoder(f"untrained:{run}").encode(sounds()))


def test_opening_untrained_leaves_the_random_numbers_alone(run):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    open_encoder(f"untrained:{run}")
    assert torch.equal(torch.rand(3), wanted)


def test_statistics_are_mean_and_deviation_of_the_same_frames(run):
    waveforms = sounds()
    encoder = open_encoder(f"statistics:{run}")
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim) == ("statistics-ae-toy", 24)
    frontend = build_frontend(**FRONTEND)
    for vector, waveform in zip(encoder.encode(waveforms), waveforms):
        frames, counts = frontend(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
        frames = frames[0, : counts[0]].numpy()
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector[:12], frames.mean(0), atol=1e-5)
        np.testing.assert_allclose(vector[12:], np.sqrt(((frames - frames.mean(0)) ** 2).mean(0)), atol=1e-5)
    assert encoder.provenance()["speakers"] == []


def test_a_frontend_that_computes_something_else_now_is_refused(run):
    path = run / "encoder" / "config.json"
    written = json.loads(path.read_text())
    convention = dict(build_frontend(**FRONTEND).convention())
    written["frontend"]["convention"] = convention
    path.write_text(json.dumps(written))
    assert open_encoder(str(run)).dim == 32
    written["frontend"]["convention"] = {**convention, "version": "0", "gone": 1}
    path.write_text(json.dumps(written))
    for spec in (str(run), f"statistics:{run}"):
        with pytest.raises(UsageError, match="computes other numbers") as caught:
            open_encoder(spec).encode(sounds(1))
        assert caught.value.problems == (f"version: '0' when the model was trained, {convention['version']!r} now",)


def test_a_very_long_recording_does_not_lengthen_the_others(run, monkeypatch):
    from repkit.stage_one import readouts

    encoder = open_encoder(str(run))
    seen = []
    real = encoder.model.encode
    monkeypatch.setattr(encoder.model, "encode", lambda f, n: seen.append(tuple(f.shape[:2])) or real(f, n))
    monkeypatch.setattr(readouts, "MAX_FRAMES", 300)
    encoder.encode([np.ones(n, np.float32) for n in (8000, 16000 * 20, 9000, 16000)])
    assert seen == [(1, 499), (3, 24)]


def test_what_cannot_be_opened(run, tmp_path):
    with pytest.raises(UsageError, match=r"no such folder.*check the path"):
        open_encoder(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"prefix 'runs' is not known.*untrained:"):
        open_encoder("runs:ae")
    with pytest.raises(RecipeError, match="layer: unknown key"):
        open_encoder(str(run), layer=3)
    with pytest.raises(PluginError, match="no component named 'nonsense'"):
        open_encoder("plugin:nonsense")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="without encoder/config.json"):
        open_encoder(str(tmp_path / "empty"))
    unfinished = tmp_path / "ae-half"
    unfinished.mkdir()
    (unfinished / "status.json").write_text(json.dumps({"state": "interrupted", "epoch": 3, "epochs": 64}))
    with pytest.raises(UsageError, match=r"interrupted after 3 of 64 epochs.*start the same"):
        open_encoder(f"statistics:{unfinished}")


# ---------------------------------------------------------------------- transformers models, tiny and random


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Folders of tiny models as `save_pretrained` writes them: family and normalisation of the first layers."""
    from transformers import (
        HubertConfig,
        HubertModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
        WavLMConfig,
        WavLMModel,
    )

    def make(family, norm):
        config_class, model_class = {
            "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
            "hubert": (HubertConfig, HubertModel),
            "wavlm": (WavLMConfig, WavLMModel),
        }[family]
        folder = tmp_path_factory.mktemp("hub") / f"tiny-{family}-{norm}"
        torch.manual_seed(0)
        model_class(
            config_class(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                conv_dim=(16,) * 7,
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=2,
                feat_extract_norm=norm,
                do_stable_layer_norm=norm == "layer",
            )
        ).save_pretrained(folder)
        Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer", do_normalize=True).save_pretrained(folder)
        return folder

    made = {}
    return lambda family, norm: made.setdefault((family, norm), make(family, norm))


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_pretrained_alone_equals_a_batch_of_32(pretrained, family, norm):
    waveforms = [*sounds(28, low=1600, high=9000), *sounds(4, seed=1, low=5000, high=5001)]
    encoder = open_encoder(f"hf:{pretrained(family, norm)}", batch_size=32)
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim) == (f"tiny-{family}-{norm}-layer2", 32)
    together = encoder.encode(waveforms)
    for waveform, vector in zip(waveforms[::3], together[::3]):
        assert vector.shape == (32,)
        np.testing.assert_allclose(encoder.encode([waveform])[0], vector, atol=2e-5)
    lengths = [len(w) for w in waveforms]
    batches = encoder._batches(lengths)
    assert sorted(i for b in batches for i in b) == list(range(32))
    if norm == "layer":  # padding is known to be harmless
        assert len(batches) == 1
    else:  # only equal lengths share a batch
        assert all(len({lengths[i] for i in b}) == 1 for b in batches)
        assert max(map(len, batches)) == 4


def test_naive_padding_would_not_have_been_harmless(pretrained):
    """The reason for the rule above, so that it is dropped if transformers ever mends it."""
    encoder = open_encoder(f"hf:{pretrained('wav2vec2', 'group')}", batch_size=2)
    encoder.padding_is_harmless = True
    short, long = sounds(1, low=3000, high=3001)[0], sounds(1, low=9000, high=9001)[0]
    assert np.abs(encoder.encode([short, long])[0] - encoder.encode([short])[0]).max() > 1e-3


def test_pretrained_layers_and_levels(pretrained):
    folder = pretrained("hubert", "layer")
    waveform = sounds(1)[0]
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(folder)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        hidden = model(inputs["input_values"], output_hidden_states=True).hidden_states
    for layer, wanted in ((0, hidden[0]), (1, hidden[1]), (-1, hidden[2]), (2, hidden[2])):
        frames = open_encoder(f"hf:{folder}", layer=layer, level="frame")
        assert frames.level == "frame"
        assert frames.frame_shift_s == pytest.approx(0.02)
        np.testing.assert_allclose(frames.encode([waveform])[0], wanted[0].numpy(), atol=1e-5)
        mean = open_encoder(str(folder), layer=layer).encode([waveform])[0]  # found to be transformers' by its config
        np.testing.assert_allclose(mean, wanted[0].mean(0).numpy(), atol=1e-5)
    assert frames.name == "tiny-hubert-layer-layer2-frames"


def test_pretrained_provenance(pretrained):
    one, other = (open_encoder(f"hf:{pretrained(f, 'layer')}").provenance() for f in ("hubert", "wavlm"))
    assert one["model"] == "tiny-hubert-layer"
    assert one["weights_sha256"] != other["weights_sha256"]
    assert json.loads(json.dumps(one)) == one


def test_pretrained_that_does_not_fit(pretrained, tmp_path):
    with pytest.raises(UsageError, match="got layer 7; expected 0 to 2"):
        open_encoder(f"hf:{pretrained('hubert', 'layer')}", layer=7)
    with pytest.raises(UsageError, match=r"cannot be loaded.*check the name and the connection"):
        open_encoder("hf:nobody/no-such-model")
    from transformers import Wav2Vec2FeatureExtractor, WhisperConfig, WhisperModel

    WhisperModel(
        WhisperConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1, max_source_positions=50, max_target_positions=20,
        )
    ).save_pretrained(tmp_path / "whisper")  # fmt: skip
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "whisper")
    with pytest.raises(UsageError, match="which decodes text too"):
        open_encoder(f"hf:{tmp_path / 'whisper'}")


def test_pretrained_of_another_sampling_rate(pretrained, tmp_path):
    import shutil

    from transformers import Wav2Vec2FeatureExtractor

    folder = tmp_path / "slow"
    shutil.copytree(pretrained("hubert", "layer"), folder)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    with pytest.raises(UsageError, match=r"expects 8000 Hz.*16000 Hz"):
        open_encoder(f"hf:{folder}")
