"""A model folder is loaded as it was saved or refused: no weight is ever drawn anew, and nothing is printed."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

import repkit
from repkit.errors import RepkitError, UsageError
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig
from repkit.stage_one.open import open_encoder

FRONTEND = {"name": "spectrogram", "settings": {"bands": 12, "fixed_length_s": None}}
COLUMNS = tuple(f"mel_{band:03d}" for band in range(12))
CLASSES = {"ae": GruAutoencoder, "cpc": GruEncoder}


def waveform(n=8000):
    return np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32)


@pytest.fixture
def runs(tmp_path):
    """A stage-one run of either kind, as far as an encoder can see."""
    torch.manual_seed(7)
    GruAutoencoder(GruAutoencoderConfig(n_bands=12, hidden_size=8, frontend=FRONTEND)).save_pretrained(
        tmp_path / "ae" / "encoder"
    )
    GruEncoder(GruEncoderConfig(COLUMNS, hidden_size=8, frontend=FRONTEND)).save_pretrained(
        tmp_path / "cpc" / "encoder"
    )
    return tmp_path


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("reader", "other"), [("ae", "cpc"), ("cpc", "ae")])
def test_a_folder_of_the_other_kind_is_refused_and_the_calls_named_are_right(runs, reader, other):
    folder = runs / other / "encoder"
    with pytest.raises(UsageError, match=f"got a model of type.*write {CLASSES[other].__name__}") as caught:
        CLASSES[reader].from_pretrained(folder)
    calls = re.findall(r"(?:Gru\w+|repkit)\.\w+\(\"[^\"]+\"\)", caught.value.message)
    opened = [
        eval(call, {"GruAutoencoder": GruAutoencoder, "GruEncoder": GruEncoder, "repkit": repkit}) for call in calls
    ]
    assert isinstance(opened[0], CLASSES[other])
    np.testing.assert_array_equal(opened[0].encode_waveforms([waveform()]), opened[1].encode([waveform()]))


@pytest.mark.parametrize("kind", CLASSES)
def test_the_folder_of_the_run_is_refused_and_the_calls_named_are_right(runs, kind):
    with pytest.raises(UsageError, match="got the folder of a run") as caught:
        CLASSES[kind].from_pretrained(str(runs / kind))
    assert f'{CLASSES[kind].__name__}.from_pretrained("{runs / kind / "encoder"}")' in caught.value.message
    assert f'repkit.load_encoder("{runs / kind}")' in caught.value.message


def test_the_component_of_the_other_kind_is_refused_trained_or_not(runs):
    for options in ({}, {"untrained": True}):
        with pytest.raises(UsageError, match="read as gru_autoencoder: got a model of type 'repkit_gru_encoder'"):
            open_encoder("plugin:gru_autoencoder", path=str(runs / "cpc"), **options)
    with pytest.raises(UsageError, match="read as gru_encoder: got a model of type 'repkit_gru_autoencoder'"):
        open_encoder("plugin:gru_encoder", path=str(runs / "ae"))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("load", ["own", "auto"])
def test_weights_that_are_missing_too_many_or_of_another_shape_are_refused_by_name(runs, kind, load):
    folder = runs / kind / "encoder"
    load = CLASSES[kind].from_pretrained if load == "own" else AutoModel.from_pretrained
    names = sorted(load_file(folder / "model.safetensors"))
    gone, cut = names[0], names[-1]

    def spoil(weights):
        del weights[gone]
        weights["head.weight"] = torch.zeros(2)
        weights[cut] = weights[cut][1:].clone()

    full = tuple(load_file(folder / "model.safetensors")[cut].shape)
    change_weights(folder, spoil)
    with pytest.raises(UsageError, match="3 weight.s. do not fit.*would be random") as caught:
        load(folder)
    short = (full[0] - 1, *full[1:])
    assert caught.value.problems == (
        f"{gone}: missing",
        "head.weight: not of this model",
        f"{cut}: {short} in the file, {full} by config.json",
    )


def test_a_folder_without_weights_without_config_or_damaged(runs):
    folder = runs / "ae" / "encoder"
    (folder / "model.safetensors").rename(folder / "gone")
    with pytest.raises(UsageError, match=r"cannot be loaded.*expected a folder with config.json and model.safetensors"):
        GruAutoencoder.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json: damaged"):
        GruAutoencoder.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"without config.json.*check the path"):
        GruAutoencoder.from_pretrained(folder)
    with pytest.raises(UsageError, match="cannot be loaded"):
        GruAutoencoder.from_pretrained(runs / "absent")


@pytest.mark.parametrize("kind", CLASSES)
def test_nothing_is_printed_where_all_is_well(runs, kind, capfd):
    folder = runs / kind / "encoder"
    logging.enable_progress_bar()
    PreTrainedModel.from_pretrained.__func__(CLASSES[kind], folder)
    assert "Loading weights" in capfd.readouterr().err, "transformers prints nothing any more: this test holds nothing"
    model = CLASSES[kind].from_pretrained(folder)
    open_encoder(str(runs / kind)).encode([waveform()])
    assert capfd.readouterr() == ("", "")
    assert not model.training
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == logging.WARNING


def test_what_transformers_returns_on_request_is_returned(runs):
    model, info = GruAutoencoder.from_pretrained(runs / "ae" / "encoder", output_loading_info=True)
    assert isinstance(model, GruAutoencoder)
    assert not info["missing_keys"]


def test_a_run_of_emotion_models_is_no_encoder(tmp_path):
    (tmp_path / "protocol.json").write_text("{}")
    (tmp_path / "status.json").write_text(json.dumps({"state": "done"}))
    for spec in (str(tmp_path), f"untrained:{tmp_path}"):
        with pytest.raises(UsageError, match=r"run of repkit train-ser.*repkit.load_run"):
            open_encoder(spec)


# ---------------------------------------------------------------------- transformers models


@pytest.fixture
def hubert(tmp_path):
    """The folder of a tiny model as the hub has them: with what a head for another task has left."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    folder = tmp_path / "tiny"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = HubertConfig(
        **sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2
    )  # fmt: skip
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    change_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.zeros(3, 16)}))
    return folder


def test_a_published_model_without_its_mask_vector_is_itself_at_every_start(hubert, capfd):
    whole = open_encoder(f"hf:{hubert}")
    change_weights(hubert, lambda weights: weights.pop("masked_spec_embed"))
    capfd.readouterr()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = open_encoder(f"hf:{hubert}")
        torch.manual_seed(1)
        other = open_encoder(f"hf:{hubert}")
    assert capfd.readouterr().err == ""
    assert not torch.equal(one.model.masked_spec_embed, other.model.masked_spec_embed), "drawn at random"
    assert one.provenance() == other.provenance()
    assert one.provenance()["weights_sha256"] != whole.provenance()["weights_sha256"]
    np.testing.assert_array_equal(one.encode([waveform()]), whole.encode([waveform()]))


def test_a_published_model_that_lacks_a_weight_is_refused(hubert):
    change_weights(hubert, lambda weights: weights.pop("feature_projection.projection.weight"))
    with pytest.raises(RepkitError, match=r"1 weight.s. do not fit") as caught:
        open_encoder(f"hf:{hubert}")
    assert caught.value.problems == ("feature_projection.projection.weight: missing",)
