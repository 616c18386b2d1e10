"""DeepSpectrum: the picture of a spectrogram, seen by a network that was trained on photographs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from pydantic import Field

from repkit import api

SAMPLE_RATE = 16000
FFT = 512
"""The next power of two above 25 ms."""
HOP = FFT // 2
N_BANDS = 128
SIZE = 224
"""Pixels of the picture, each way."""

Architecture = Literal["vgg11", "vgg13", "vgg16", "vgg19"]

_NEEDS = ("timm", "librosa", "matplotlib")
_LINEAR_TO = 1000.0


class DeepSpectrumEncoder:
    """Outputs of layer fc2 of a VGG network for the picture of the mel spectrogram (group ``repkit.encoders``).

    The whole utterance, without digital silence at its ends: Hann windows of 512 samples, every 256, power in 128 Mel
    bands, dB relative to its loudest point, the range from the lowest to the highest value in the colours of magma, drawn
    as DeepSpectrum draws it (`picture`). Layer fc2 is taken after its rectifier, as DeepSpectrum does.

    Different from DeepSpectrum: weights trained by torchvision with the preprocessing that belongs to them, where it has
    Keras' weights and hands over colours from 0 to 255 in reverse order without subtracting means. Numbers of the two
    cannot be compared, classifiers on top of them can.

    Source: Amiriparian et al. 2017 (doi 10.21437/Interspeech.2017-434); settings of Gerczuk et al. 2021 (arXiv 2103.08310)
    and the code of DeepSpectrum, for what the papers leave open.

    Attributes:
        name: ``deepspectrum-`` and the weights.
        dim: 4096.
        level: ``"utterance"``.
    """

    argument = "weights"
    level = "utterance"
    dim = 4096

    class Config(api.Config):
        """Settings.

        Attributes:
            weights: repository of timm on the Hugging Face hub; a ``.safetensors`` file with timm's names of weights; or
                ``random``, to try out the plumbing.
            architecture: of a file or of random weights; on the hub the repository says it.
            revision: of the hub's repository.
            seed: of random weights.
            batch_size: pictures at once; changes no result.
            device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...
        """

        weights: str = Field(description="timm/vgg16.tv_in1k, or a .safetensors file, or random")
        architecture: Architecture = "vgg16"
        revision: str | None = None
        seed: int = Field(default=0, ge=0)
        batch_size: int = Field(default=16, ge=1)
        device: str = "auto"

    def __init__(self, config: DeepSpectrumEncoder.Config) -> None:
        missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
        if missing:
            raise api.PluginError(
                f"encoder deepspectrum: {', '.join(missing)} not installed; in a clone of repkit: "
                "pip install './plugins/repkit-baselines[deepspectrum]'"
            )
        self.config = config
        self._device = _device(config.device)
        self._weights_sha256: str | None = None
        if config.weights == "random":
            self.architecture = config.architecture
            self.name = f"deepspectrum-{config.architecture}-random-seed{config.seed}"
            self.model, found = _build(config.architecture, config.seed)
        else:
            self.architecture, file, described = _locate(config)
            stem = file.stem if Path(config.weights).is_file() else config.weights.rsplit("/", 1)[-1]
            self.name = f"deepspectrum-{stem}"
            self.model, found = _build(self.architecture, 0)
            found = {**found, **described}
            _load(self.model, file)
            self._weights_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        self.model.to(self._device).eval()
        self.mean, self.std = (torch.tensor(found[key]).view(3, 1, 1) for key in ("mean", "std"))

    @torch.no_grad()
    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray | api.BadAudioError]:
        """Return one (4096,) vector per waveform (16 kHz), float32, or why there is none."""
        spectrograms = [mel_spectrogram(sound) for sound in waveforms]
        good = [row for row, values in enumerate(spectrograms) if isinstance(values, np.ndarray)]
        found: list[np.ndarray | api.BadAudioError] = list(spectrograms)
        for start in range(0, len(good), self.config.batch_size):
            chosen = good[start : start + self.config.batch_size]
            pictures = torch.stack([self._input(picture(spectrograms[row])) for row in chosen])
            # convolutions in float32, not TF32, so that a GPU changes nothing that counts
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                vectors = self.model(pictures.to(self._device)).float().cpu().numpy()
            for row, vector in zip(chosen, vectors, strict=True):
                found[row] = vector
        return found

    def _input(self, pixels: np.ndarray) -> torch.Tensor:
        """Return (3, 224, 224) float32, scaled as the weights were trained."""
        return (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - self.mean) / self.std

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values; the weights have heard nothing, they have seen photographs (or nothing)."""
        local = Path(self.config.weights).is_file()
        return {
            "encoder": "deepspectrum",
            "name": self.name,
            "weights": Path(self.config.weights).name if local else self.config.weights,
            "revision": self.config.revision,
            "weights_sha256": self._weights_sha256,
            "seed": self.config.seed if self.config.weights == "random" else None,
            "architecture": self.architecture,
            "layer": "fc2 after ReLU",
            "spectrogram": {"fft": FFT, "hop": HOP, "bands": N_BANDS, "window": "hann", "db": "relative to maximum"},
            "picture": {"size": SIZE, "colours": "magma", "drawn": "librosa.display.specshow, nearest"},
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "corpora": [],
            "speakers": [],
        }


def mel_spectrogram(sound: np.ndarray) -> np.ndarray | api.BadAudioError:
    """Return (128, T) float32 dB relative to the maximum, lowest band first; no padding at the ends.

    Args:
        sound: (S,) at 16 kHz. Samples of exactly 0 at its ends are left off (DeepSpectrum's code).
    """
    import librosa

    sound = np.trim_zeros(np.asarray(sound, np.float32))
    if len(sound) < FFT:
        return api.BadAudioError(
            f"deepspectrum: {len(sound) / SAMPLE_RATE:.3f} s of sound between digital silence; at least "
            f"{FFT / SAMPLE_RATE} s was expected; leave the utterance out"
        )
    power = np.abs(librosa.stft(sound, n_fft=FFT, hop_length=HOP, center=False)) ** 2
    with warnings.catch_warnings():
        # 128 bands of 512 samples: at low frequencies some bands lie between two bins; they stay empty in DeepSpectrum too
        warnings.filterwarnings("ignore", message="Empty filters")
        mel = librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE, n_mels=N_BANDS)
    return np.asarray(librosa.power_to_db(mel, ref=np.max, top_db=None), np.float32)


def picture(spectrogram: np.ndarray) -> np.ndarray:
    """Return (224, 224, 3) uint8: the spectrogram as ``librosa.display.specshow`` draws it on the whole of a figure.

    Time runs to the right, frequency upwards on the plot's axis, which is linear up to 1000 Hz and in octaves above: two
    fifths of the height lie below 1000 Hz, though a third of the bands do. A pixel has the colour of the cell that its
    middle falls into; nothing is averaged. No figure is drawn: that would take far longer.

    Args:
        spectrogram: (128, T) of numbers.
    """
    import librosa
    import matplotlib

    low, high = float(spectrogram.min()), float(spectrogram.max())
    level = (spectrogram - low) / (high - low) if high > low else np.zeros_like(spectrogram)
    middle = (np.arange(SIZE) + 0.5) / SIZE
    # cells end halfway between the bands' frequencies, the outer ones as far outside as inside
    bands = librosa.mel_frequencies(len(spectrogram), fmin=0.0, fmax=SAMPLE_RATE / 2)
    inner = (bands[1:] + bands[:-1]) / 2
    edges = _height(np.concatenate([[2 * bands[0] - inner[0]], inner, [2 * bands[-1] - inner[-1]]]))
    rows = np.searchsorted(edges, edges[0] + middle[::-1] * (edges[-1] - edges[0])) - 1
    columns = (middle * spectrogram.shape[1]).astype(int)
    colours = matplotlib.colormaps["magma"](level[rows][:, columns])[..., :3]
    return np.rint(colours * 255).astype(np.uint8)


def _device(name: str) -> torch.device:
    """Return the device of a name, seen to be there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter by a torch without CUDA
        told = str(error).partition("\n")[0]
        raise api.UsageError(
            f"encoder deepspectrum: device {name!r}: {told}; auto, cpu, or a device that torch finds here, such as cuda, was "
            "expected; use device=auto, or look at the environment variable CUDA_VISIBLE_DEVICES"
        ) from error


def _height(hertz: np.ndarray) -> np.ndarray:
    """Return where frequencies lie on the plot's axis ("symlog"): 1 per octave above 1000 Hz, 2 from 0 to 1000 Hz."""
    octaves = 2 + np.log2(np.maximum(hertz, _LINEAR_TO) / _LINEAR_TO)
    return np.where(hertz < _LINEAR_TO, 2 * hertz / _LINEAR_TO, octaves)


def _build(architecture: str, seed: int) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return a network without its last layer, and how pictures are scaled for it."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
    return model, {"mean": model.pretrained_cfg["mean"], "std": model.pretrained_cfg["std"]}


def _locate(config: DeepSpectrumEncoder.Config) -> tuple[str, Path, dict[str, Any]]:
    """Return architecture, file of weights and what the hub's repository says about the scaling."""
    where = f"encoder deepspectrum:{config.weights}"
    if Path(config.weights).is_file() or config.weights.endswith(".safetensors"):
        if not Path(config.weights).is_file() or Path(config.weights).suffix != ".safetensors":
            raise api.UsageError(
                f"{where}: no such .safetensors file; expected one with timm's weights of {config.architecture} (formats "
                "that run code when they are read are not taken)"
            )
        return config.architecture, Path(config.weights), {}
    from huggingface_hub import hf_hub_download

    repository = config.weights.removeprefix("hf-hub:")
    repository = repository if "/" in repository else f"timm/{repository}"
    try:
        described = json.loads(Path(hf_hub_download(repository, "config.json", revision=config.revision)).read_text())
        file = Path(hf_hub_download(repository, "model.safetensors", revision=config.revision))
    except (OSError, ValueError) as error:  # no connection, no such repository, file or name
        raise api.UsageError(
            f"{where}: model.safetensors of {repository} on the Hugging Face hub could not be had "
            f"({(str(error).splitlines() or [type(error).__name__])[0]}); expected its name, such as timm/vgg16.tv_in1k, and "
            "a connection; or fetch the file elsewhere and give its path: deepspectrum:FOLDER/model.safetensors"
        ) from error
    architecture = described.get("architecture")
    if architecture not in get_args(Architecture):
        raise api.UsageError(
            f"{where}: got architecture {architecture!r}; expected one of {', '.join(get_args(Architecture))}; choose another"
        )
    scaling = described.get("pretrained_cfg", {})
    return architecture, file, {key: scaling[key] for key in ("mean", "std") if key in scaling}


def _load(model: torch.nn.Module, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(file)
        model.load_state_dict({key: value for key, value in weights.items() if not key.startswith("head.fc.")})
    except (SafetensorError, RuntimeError) as error:
        raise api.UsageError(
            f"encoder deepspectrum: {file.name} does not fit ({str(error).splitlines()[0]}); expected timm's weights of the "
            "architecture, whole; see the setting architecture"
        ) from error
