"""DeepSpectrum: the picture of a spectrogram, and the network that sees it."""

import io
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from repkit.api import BadAudioError, PluginError, UsageError
from repkit.stage_one.open import open_encoder
from repkit.testing import conformance_tests

pytest.importorskip("timm")

from repkit_baselines import deepspectrum
from repkit_baselines.deepspectrum import DeepSpectrumEncoder, mel_spectrogram, picture

RATE = 16000
MAGMA = {0.0: (0, 0, 4), 0.5: (183, 55, 121), 1.0: (252, 253, 191)}
"""Colours of magma at the two ends and in the middle, from its published table."""


@pytest.fixture(autouse=True)
def small_network(request, monkeypatch):
    """A network of a moment in place of VGG, except where VGG itself is looked at."""

    def build(architecture, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = torch.nn.Sequential(
                torch.nn.AvgPool2d(28), torch.nn.Flatten(), torch.nn.Linear(192, 4096), torch.nn.ReLU()
            )
        return layers, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)}

    if "vgg" not in request.fixturenames:
        monkeypatch.setattr(deepspectrum, "_build", build)


test_encoder = conformance_tests(
    "repkit.encoders", DeepSpectrumEncoder, settings={"weights": "random", "device": "cpu", "batch_size": 2}
)


def make(weights="random", **settings):
    return DeepSpectrumEncoder(DeepSpectrumEncoder.Config(weights=weights, device="cpu", **settings))


def noise(seconds=1.0, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


# ---- spectrogram


def test_decibels_of_a_tone():
    """512 samples, every 256, nothing padded; the loudest point is 0 dB, half the amplitude 6.02 dB below it."""
    t = np.arange(RATE) / RATE
    found = mel_spectrogram((np.where(t < 0.5, 0.4, 0.2) * np.sin(2 * np.pi * 1000 * t)).astype(np.float32))
    assert found.shape == (128, 1 + (RATE - 1 - 512) // 256)  # the first sample is 0 and is left off
    assert found.dtype == np.float32
    assert found.max() == 0.0
    loud, soft = found[:, 5], found[:, 55]
    assert loud.argmax() == soft.argmax()
    assert soft.max() - loud.max() == pytest.approx(-20 * np.log10(2), abs=0.05)
    # band 42 of 128 (15 Mel to 1000 Hz, 45.245 to 8000 Hz) has its middle at 1000 Hz: 129 / 45.245 * 15 = 42.8
    assert loud.argmax() in (41, 42)


def test_digital_silence_at_the_ends_is_left_off_and_only_there():
    sound = noise()
    silence = np.zeros(900, np.float32)
    np.testing.assert_array_equal(mel_spectrogram(np.concatenate([silence, sound, silence])), mel_spectrogram(sound))
    assert mel_spectrogram(np.concatenate([sound, silence, sound])).shape[1] == 1 + (2 * RATE + 900 - 512) // 256


def test_what_is_too_short_or_silent_is_told_and_the_others_are_encoded():
    encoder = make()
    found = encoder.encode([noise(), np.zeros(RATE, np.float32), noise(0.03), np.zeros(0, np.float32), noise(0.5)])
    assert [isinstance(one, BadAudioError) for one in found] == [False, True, True, True, False]
    assert "0.030 s of sound between digital silence; at least 0.032 s was expected" in found[2].message
    np.testing.assert_allclose(found[4], encoder.encode([noise(0.5)])[0], atol=1e-6)


# ---- picture


def test_it_is_what_matplotlib_draws():
    import librosa.display
    import matplotlib
    import matplotlib.pyplot as plt
    from PIL import Image

    for seconds in (0.2, 1.3, 6.0):  # fewer and more frames than pixels
        spectrogram = mel_spectrogram(noise(seconds) * np.linspace(0.01, 1, int(seconds * RATE), dtype=np.float32))
        with matplotlib.rc_context({"backend": "Agg"}):
            figure = plt.figure(figsize=(1, 1), frameon=False)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            librosa.display.specshow(
                spectrogram, sr=RATE, hop_length=256, fmax=8000, cmap="magma", x_axis="time", y_axis="mel", ax=axes
            )
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=224)
            plt.close(figure)
        wanted = np.asarray(Image.open(drawn))[..., :3]
        found = picture(spectrogram)
        assert found.shape == wanted.shape == (224, 224, 3)
        assert (found == wanted).all(
            -1
        ).mean() > 0.999  # middles of pixels on the edge of a cell may fall to either side


def test_colours_are_magmas():
    spectrogram = np.full((128, 3), -90.0, np.float32)
    spectrogram[:, 1], spectrogram[:, 2] = -45.0, 0.0
    found = picture(spectrogram)
    assert found.dtype == np.uint8
    for column, level in ((37, 0.0), (112, 0.5), (186, 1.0)):
        assert (found[:, column] == found[0, column]).all()
        np.testing.assert_allclose(found[0, column], MAGMA[level], atol=1)
    # three frames share 224 columns: 74.67 each
    assert (found[0, 74] == found[0, 0]).all()
    assert (found[0, 75] == found[0, 112]).all()
    assert (found[0, 149] == found[0, 186]).all()


def test_frequency_points_upwards_and_is_octaves_above_1000_hz():
    spectrogram = np.zeros((128, 10), np.float32)
    spectrogram[127] = 1.0
    assert (picture(spectrogram)[0] == picture(spectrogram)[0, 0]).all()
    np.testing.assert_allclose(picture(spectrogram)[0, 0], MAGMA[1.0], atol=1)
    np.testing.assert_allclose(picture(spectrogram)[223, 0], MAGMA[0.0], atol=1)
    # bands up to 1000 Hz, a third of all, take two fifths of the height: [0, 1000] Hz is 2 of 5 units
    spectrogram = np.zeros((128, 10), np.float32)
    spectrogram[:43] = 1.0
    lit = (picture(spectrogram)[:, 0] > 200).any(-1)
    assert not lit[:100].any()
    assert lit.sum() / 224 == pytest.approx(0.4, abs=0.01)


def test_a_constant_spectrogram_is_the_darkest_colour():
    assert (picture(np.full((128, 1), -3.0, np.float32)) == picture(np.zeros((128, 9), np.float32))).all()


# ---- network


@pytest.fixture(scope="module")
def vgg():
    return make(architecture="vgg11", seed=3)


def test_it_is_fc2_after_the_rectifier(vgg):
    """Against the layers of the network one by one."""
    found = vgg.encode([noise()])[0]
    assert found.shape == (4096,)
    assert found.dtype == np.float32
    pixels = torch.from_numpy(picture(mel_spectrogram(noise()))).double() / 255
    scaled = (pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])  # of ImageNet
    with torch.no_grad():
        values = vgg.model.features(scaled.float().permute(2, 0, 1)[None])
        layers = vgg.model.pre_logits
        values = torch.relu(values.flatten(1) @ layers.fc1.weight.flatten(1).T + layers.fc1.bias)
        values = torch.relu(values @ layers.fc2.weight.flatten(1).T + layers.fc2.bias)
    np.testing.assert_allclose(found, values[0].numpy(), rtol=1e-3, atol=1e-5)
    assert (found >= 0).all()
    assert (found == 0).mean() > 0.1
    assert vgg.name == "deepspectrum-vgg11-random-seed3"


def test_the_seed_decides_about_random_weights():
    one, other, again = (make(seed=seed).encode([noise()])[0] for seed in (0, 1, 0))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, again)


def test_weights_of_a_file(tmp_path):
    source = make(seed=5)
    file = tmp_path / "photographs.safetensors"
    save_file({**source.model.state_dict(), "head.fc.weight": torch.zeros(10, 4096)}, file)
    encoder = open_encoder(f"deepspectrum:{file}", device="cpu")
    np.testing.assert_array_equal(encoder.encode([noise()])[0], source.encode([noise()])[0])
    assert encoder.name == "deepspectrum-photographs"
    found = encoder.provenance()
    assert found["weights"] == "photographs.safetensors"
    assert len(found["weights_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(found)
    save_file(make(seed=6).model.state_dict(), file)
    assert make(str(file)).provenance()["weights_sha256"] != found["weights_sha256"]


def test_files_that_do_not_fit_are_refused(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(2)}, file)
    with pytest.raises(UsageError, match=r"other.safetensors does not fit.*expected timm's weights"):
        make(str(file))
    file.write_bytes(b"not at all")
    with pytest.raises(UsageError, match="does not fit"):
        make(str(file))
    with pytest.raises(UsageError, match="no such .safetensors file"):
        make(str(tmp_path / "missing.safetensors"))
    (tmp_path / "pickled.pth").write_bytes(b"x")
    with pytest.raises(UsageError, match="formats that run code when they are read are not taken"):
        make(str(tmp_path / "pickled.pth"))


def test_weights_of_the_hub(tmp_path, monkeypatch):
    source = make(seed=7)
    save_file(source.model.state_dict(), tmp_path / "model.safetensors")
    described = {"architecture": "vgg19", "pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}}
    (tmp_path / "config.json").write_text(json.dumps(described))
    asked = []

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    encoder = make("timm/vgg19.tv_in1k", revision="abc")
    assert asked == [("timm/vgg19.tv_in1k", "config.json", "abc"), ("timm/vgg19.tv_in1k", "model.safetensors", "abc")]
    assert (encoder.name, encoder.architecture) == ("deepspectrum-vgg19.tv_in1k", "vgg19")
    np.testing.assert_array_equal(encoder.encode([noise()])[0], source.encode([noise()])[0])
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50"}))
    with pytest.raises(UsageError, match="got architecture 'resnet50'; expected one of vgg11"):
        make("timm/resnet50.a1_in1k")


def test_without_a_connection_it_is_said_what_to_do(monkeypatch):
    def download(*given, **more):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(UsageError) as caught:
        make("vgg16.tv_in1k")
    said = str(caught.value)
    assert "model.safetensors of timm/vgg16.tv_in1k on the Hugging Face hub could not be had (no route to host)" in said
    assert "give its path: deepspectrum:FOLDER/model.safetensors" in said


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        PluginError, match=r"not installed; in a clone of repkit: pip install '\./plugins/repkit-baselines\[d"
    ):
        make()


@pytest.mark.parametrize("device", ["gpu", '"cuda"', "cuda:63"])
def test_a_device_that_is_not_there_is_a_usage_error(device):
    with pytest.raises(UsageError, match=f"encoder deepspectrum: device {device!r}: .*CUDA_VISIBLE_DEVICES"):
        DeepSpectrumEncoder(DeepSpectrumEncoder.Config(weights="random", device=device))
