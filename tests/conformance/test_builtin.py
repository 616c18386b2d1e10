"""repkit's own components pass the kit that strangers' must pass: every entry point of its metadata, and every recipe."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from repkit.config import list_recipes
from repkit.evaluation.published_split import load_split
from repkit.plugins import GROUPS, components
from repkit.testing import check_component

OWN = [c for group in GROUPS for c in components(group) if c.distribution == "repkit" and group != "repkit.recipes"]
RECIPES = [name for name, origin in list_recipes().items() if origin == "repkit"]


def tone(number):
    return (0.3 * np.sin(2 * np.pi * (200 + 30 * number) * np.arange(8000) / 16000)).astype("float32")


def folder_of_tones(tmp_path):
    rows = ["file_name,speaker_id,gender,emotion"]
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", tone(number), 16000)
        rows.append(f"{number}.wav,s{number // 2},{('f', 'm')[number // 2]},{('anger', 'neutral')[number % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    return {"path": tmp_path}


def named_folder(tmp_path):
    for name in ("03a01Fa", "03a01Wa", "08a01Na", "08a02Tb"):
        soundfile.write(tmp_path / f"{name}.wav", tone(len(name)), 16000)
    return {"name": "emodb", "path": tmp_path}


def parquet_of_tones(tmp_path):
    def flac(number):
        file = io.BytesIO()
        soundfile.write(file, tone(number), 16000, format="FLAC")
        return {"bytes": file.getvalue(), "path": f"{number}.flac"}

    table = {"id": [f"u{i}" for i in range(4)], "speaker_id": [i // 2 for i in range(4)], "text": ["a"] * 4}
    pq.write_table(pa.table({**table, "audio": [flac(i) for i in range(4)]}), tmp_path / "0.parquet", row_group_size=2)
    return {"path": tmp_path}


def autoencoder(tmp_path):
    from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig

    torch.manual_seed(0)
    frontend = {"name": "spectrogram", "settings": {"bands": 12, "fixed_length_s": None}}
    heard = {"corpora": [], "speakers": ["toy/s1"]}
    config = GruAutoencoderConfig(n_bands=12, hidden_size=8, frontend=frontend, provenance=heard)
    GruAutoencoder(config).save_pretrained(tmp_path / "ae" / "encoder")
    (tmp_path / "ae" / "status.json").write_text(json.dumps({"state": "done", "epoch": 1, "epochs": 1}))
    return {"path": tmp_path / "ae"}


def objectives_run(tmp_path):
    from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig

    torch.manual_seed(0)
    frontend = {"name": "log_mel", "settings": {"bands": 12}}
    columns = [f"mel_{band:03d}" for band in range(12)]
    config = GruEncoderConfig(
        columns=columns, hidden_size=8, bidirectional=True, frontend=frontend, pooling="attentive"
    )
    model = GruEncoder(config)
    model.mean.fill_(-10.0)
    model.deviation.fill_(5.0)
    model.save_pretrained(tmp_path / "cpc" / "encoder")
    (tmp_path / "cpc" / "status.json").write_text(json.dumps({"state": "done", "epoch": 1, "epochs": 1}))
    return {"path": tmp_path / "cpc"}


def transformer(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    Wav2Vec2Model(config).save_pretrained(tmp_path / "tiny")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path / "tiny")
    return {"path": str(tmp_path / "tiny")}


SETTINGS = {
    "folder": [folder_of_tones],
    "hub": [parquet_of_tones],
    "named": [named_folder],
    "synthetic": [{"n_speakers": 2, "n_sentences": 1, "ratings": True, "duration_s": 0.5}],
    "gru_autoencoder": [autoencoder, lambda at: {**autoencoder(at), "level": "frame"}],
    "gru_encoder": [
        objectives_run,
        lambda at: {**objectives_run(at), "level": "frame"},
        lambda at: {**objectives_run(at), "readout": "attentive"},
        lambda at: {**objectives_run(at), "readout": "last", "layers": "last", "untrained": True, "init": "paper"},
    ],
    "statistics": [autoencoder],
    "transformers": [transformer, lambda at: {**transformer(at), "level": "frame"}],
    "spectrogram": [{}, {"fixed_length_s": None}],
    "kaldi_fbank": [{}, {"snip_edges": False}],
    "attentive_cnn": [{}, {"padding": "paper"}, {"adapters": True}],
    "reconstruction": [{}, {"decoder": "unidirectional"}, {"decoder": "no_leak"}, {"decoder": "blind"}],
    "fixed": [{"column": "part"}, {"test": ("kit_a/00", "kit_b/01")}],
    "leave_one_session_out": [{}, {"dev": "utterances"}],
    "leave_one_corpus_out": [{}, {"hold_out": ("kit_b",)}],
    "train_test_corpora": [{"hold_out": ("kit_c",)}],
}
"""What a component needs to be tried: settings, or a function of an empty folder that makes them. Others have defaults."""

CIRCUMSTANCES = {"published_split": lambda: {"utterances": load_split("emovo-v1").utterances()}}
"""What the kit is to try a component in, where its own material cannot fit."""

CASES = [(component, given) for component in OWN for given in SETTINGS.get(component.name, [{}])]


@pytest.mark.parametrize(("component", "given"), CASES, ids=lambda value: getattr(value, "name", None))
@pytest.mark.filterwarnings("ignore::repkit.errors.RepkitWarning")
def test_a_component_of_repkit_conforms(component, given, tmp_path):
    settings = given(tmp_path) if callable(given) else given
    circumstances = CIRCUMSTANCES.get(component.name, dict)()
    report = check_component(component.group, component.name, settings=settings, **circumstances)
    assert report.ok, str(report)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_repkit_conforms(name):
    report = check_component("repkit.recipes", name)
    assert report.ok, str(report)


def test_the_kit_has_been_over_all_of_them():
    assert {component.group for component in OWN} == set(GROUPS) - {"repkit.recipes"}
    assert set(SETTINGS) <= {component.name for component in OWN}
    assert len(RECIPES) >= 8


def test_checks_of_what_is_declared_were_tried_on_something():
    """A trait that no component of repkit has would leave its checks untried here."""
    tried = {"vectors", "states", "per_corpus"}
    report = check_component("repkit.models", "attentive_cnn", settings={"adapters": True})
    needed = {trait for result in report.results if result.status == "passed" for trait in result.check.needs}
    assert needed >= tried
