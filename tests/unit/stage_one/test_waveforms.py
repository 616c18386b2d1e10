"""What an encoder of repkit's own takes, and what it refuses: by item, with what to do."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from repkit.errors import BadAudioError, RepkitWarning, UsageError
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig
from repkit.stage_one.open import open_encoder
from repkit.stage_one.waveforms import sound_waveforms

FRONTEND = {"name": "spectrogram", "settings": {"bands": 12, "fixed_length_s": None}}
ENCODERS = ("gru_autoencoder", "gru_encoder", "statistics", "functionals", "transformers")


def sound(n=4000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)


def spoilt(value, places=(5,), n=4000):
    found = sound(n)
    found[list(places)] = value
    return found


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    root = tmp_path_factory.mktemp("encoders")
    columns = tuple(f"mel_{band:03d}" for band in range(12))
    GruAutoencoder(GruAutoencoderConfig(n_bands=12, hidden_size=4, frontend=FRONTEND)).save_pretrained(
        root / "ae/encoder"
    )
    GruEncoder(GruEncoderConfig(columns, hidden_size=4, frontend=FRONTEND)).save_pretrained(root / "apc/encoder")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = HubertConfig(**sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    HubertModel(config).save_pretrained(root / "hub")
    config.feat_extract_norm, config.do_stable_layer_norm = "layer", True
    HubertModel(config).save_pretrained(root / "padded")
    for name in ("hub", "padded"):
        Wav2Vec2FeatureExtractor(return_attention_mask=name == "padded").save_pretrained(root / name)
    words = (root / "ae", root / "apc", f"statistics:{root / 'ae'}", "functionals:prosody", f"hf:{root / 'hub'}")
    found = {name: open_encoder(str(word)) for name, word in zip(ENCODERS, words, strict=True)}
    return {**found, "padded": open_encoder(f"hf:{root / 'padded'}"), "root": root}


BAD = {
    "one NaN": ([sound(), spoilt(np.nan)], BadAudioError, r"waveform 1 of 2.*1 of 4000 samples are NaN or infinite"),
    "all infinite": ([np.full(4000, np.inf, np.float32)], BadAudioError, r"waveform 0 of 1.*4000 of 4000 samples"),
    "too large for float32": ([spoilt(0.0).astype(np.float64) + 1e300], BadAudioError, "NaN or infinite"),
    "empty": ([sound(), sound(), sound(0)], BadAudioError, r"waveform 2 of 3.*is empty"),
    "stereo": ([np.stack([sound(), sound()], 1)], UsageError, r"\(4000, 2\), 2 channel.*waveform\.mean\(axis=1\)"),
    "channels first": ([np.stack([sound(), sound()])], UsageError, r"\(2, 4000\).*waveform\.mean\(axis=0\)"),
    "three axes": ([sound()[None, None]], UsageError, r"\(1, 1, 4000\); expected mono"),
    "whole numbers": ([(sound() * 32768).astype(np.int16)], UsageError, "int16.*full scale 1; divide.*32768"),
    "not in a list": (sound(), UsageError, r"got one ndarray of shape \(4000,\); expected a list.*encode\(\[waveform\]\)"),
    "a path": ("new.wav", UsageError, "got one str"),
    "a table": ({"a": sound()}, UsageError, "got one dict"),
    "a series": (pd.Series(sound(), index=range(9, 4009)), UsageError, r"got one Series of shape \(4000,\)"),
    "a ragged list": ([sound(), [[0.1], [0.1, 0.2]]], UsageError, "waveform 1 of 2.*got list, of which numpy makes no array"),
    "bfloat16": ([torch.from_numpy(sound()).bfloat16()], UsageError, r"waveform 0 of 1.*got Tensor.*float\(\)"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_encoded_is_refused(encoders, encoder, case):
    given, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        encoders[encoder].encode(given)


@pytest.mark.parametrize("encoder", ["gru_autoencoder", "gru_encoder", "statistics", "transformers", "padded"])
@pytest.mark.parametrize("n", [5, 300])
def test_what_gives_no_state_is_refused_by_its_number(encoders, encoder, n):
    for given, which in (([sound(), sound(n)], "1 of 2"), ([sound(n)], "0 of 1")):
        with pytest.raises(BadAudioError, match=f"waveform {which} .counted from 0.*too (short|few) for one"):
            encoders[encoder].encode(given)
    assert len(encoders[encoder].encode([sound(), sound(3000)])) == 2


@pytest.mark.parametrize("encoder", [*ENCODERS, "padded"])
def test_samples_of_another_scale_are_told(encoders, encoder):
    given = [sound(), sound() * 32768]
    with pytest.warns(RepkitWarning, match=r"1 of 2 have, first number 1 .*samples beyond 100; .*32768") as told:
        encoders[encoder].encode(given)
    assert told[0].filename == __file__


@pytest.mark.parametrize("encoder", [*ENCODERS, "padded"])
def test_what_cannot_be_written_to_is_read(encoders, encoder):
    given = sound()
    given.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoders[encoder].encode([given])


@pytest.mark.parametrize("word", ["hf:{}/hub", "untrained:{}/ae", "untrained:{}/apc", "{}/ae"])
def test_opening_draws_no_random_number_of_the_caller(encoders, word):
    root = encoders["root"]
    before, seeds = torch.get_rng_state(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", seeds.append)
        open_encoder(word.format(root))
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeds


@pytest.mark.parametrize("encoder", ["gru_autoencoder", "gru_encoder"])
def test_the_models_themselves_refuse_too(encoders, encoder):
    for given, kind, message in (BAD["one NaN"], BAD["stereo"], BAD["empty"]):
        with pytest.raises(kind, match=message):
            encoders[encoder].model.encode_waveforms(given)


@pytest.mark.parametrize("encoder", ["gru_autoencoder", "gru_encoder", "statistics"])
def test_frames_refuse_too(encoders, encoder):
    for given in (spoilt(np.nan), sound(0)):
        with pytest.raises(BadAudioError):
            encoders[encoder].frames(given)
    with pytest.raises(UsageError, match=r"mean\(axis=1\)"):
        encoders[encoder].frames(np.stack([sound(), sound()], 1))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_sounds_may_be(encoders, encoder):
    """float64, CPU tensors, views that are not contiguous, the rows of an array, silence; and an empty list."""
    found = encoders[encoder]
    (wanted,) = found.encode([sound()])
    for given in (sound().astype(np.float64), torch.from_numpy(sound()), np.repeat(sound(), 2)[::2]):
        np.testing.assert_array_equal(found.encode([given])[0], wanted)
    np.testing.assert_allclose(found.encode(np.stack([sound(), sound(seed=1)]))[0], wanted, atol=1e-6)
    assert np.isfinite(found.encode([np.zeros(4000, np.float32)])[0]).all()
    assert list(found.encode([])) == []


def test_all_problems_are_told_at_once_and_not_without_end():
    with pytest.raises(UsageError, match=r"3 of 4 cannot be encoded") as caught:
        sound_waveforms([sound(0), sound(), np.stack([sound(), sound()], 1), spoilt(np.inf, (0, 1))])
    assert [line.split(":")[0] for line in caught.value.problems] == ["waveform 0", "waveform 2", "waveform 3"]
    with pytest.raises(BadAudioError, match="40 of 40") as caught:
        sound_waveforms([sound(0)] * 40)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 20 more"
