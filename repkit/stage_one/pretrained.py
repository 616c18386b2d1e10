"""Speech encoders of the transformers library: wav2vec 2.0, HuBERT, WavLM and what behaves like them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError

from repkit import api
from repkit.errors import BadAudioError, UsageError
from repkit.stage_one.folders import pick_device, quiet_transformers
from repkit.stage_one.waveforms import refuse_waveforms, sound_waveforms
from repkit.stage_one.whole_weights import refuse_gaps

SAMPLE_RATE = 16000
MAX_SAMPLES = 30 * SAMPLE_RATE
"""Samples per utterance of a full batch, padding included; longer ones make smaller batches."""
TRAINING_ONLY = frozenset({"masked_spec_embed"})
"""Weights that some published models were saved without: what replaces masked frames in training, and only there."""


class PretrainedEncoder:
    """Hidden states of one layer, or their mean over the valid frames (group ``repkit.encoders``).

    The same vector whatever the batch: models whose feature extractor normalises per frame (``feat_extract_norm =
    "layer"``) get padded batches with an attention mask. Those that normalise over the whole, padded time
    (``"group"``, such as wav2vec2-base and hubert-base) and models we know nothing about get batches of utterances
    of exactly equal length only, because no mask makes padding harmless there. Source: own design.

    Attributes:
        name: last part of the id with the layer, for example ``hubert-base-ls960-layer9``.
        dim: D, width of the hidden states.
        level: ``"utterance"`` or ``"frame"``.
        frame_shift_s: seconds between two states at frame level, else None.
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            path: id on the hub, or a local folder saved by transformers with its feature extractor.
            revision: of the hub's repository.
            layer: 0 is the input of the first transformer layer, n the output of the n-th, -1 the last.
            level: ``"utterance"`` for the mean over time, ``"frame"`` for all states.
            batch_size: utterances at once, where padding is harmless or lengths are equal.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        """

        path: str
        revision: str | None = None
        layer: int = -1
        level: Literal["utterance", "frame"] = "utterance"
        batch_size: int = 8
        device: str = "auto"

    def __init__(self, config: PretrainedEncoder.Config) -> None:
        self.config = config
        self.level = config.level
        self._device = pick_device(config.device)
        self.model, self.extractor, self._random = _load(config.path, config.revision)
        self.model.to(self._device).eval()
        found = self.model.config
        if getattr(found, "is_encoder_decoder", False):
            raise UsageError(
                f"encoder {config.path}: got a {found.model_type} model, which decodes text too; a speech encoder such "
                "as wav2vec 2.0, HuBERT or WavLM was expected"
            )
        if self.extractor.sampling_rate != SAMPLE_RATE:
            raise UsageError(
                f"encoder {config.path}: expects {self.extractor.sampling_rate} Hz; repkit hands out {SAMPLE_RATE} Hz; "
                "choose a model for 16 kHz"
            )
        n_layers = found.num_hidden_layers
        self.layer = config.layer if config.layer >= 0 else n_layers + 1 + config.layer
        if not 0 <= self.layer <= n_layers:
            raise UsageError(
                f"encoder {config.path}: got layer {config.layer}; expected 0 to {n_layers}, or -1 for the last"
            )
        self.dim = found.hidden_size
        self.name = f"{Path(config.path).name}-layer{self.layer}" + ("-frames" if self.level == "frame" else "")
        # only for these is it known that padding with an attention mask is harmless
        self.padding_is_harmless = getattr(found, "feat_extract_norm", None) == "layer"
        stride = getattr(found, "conv_stride", None)
        self.frame_shift_s = float(np.prod(stride)) / SAMPLE_RATE if stride and self.level == "frame" else None

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (D,) vector or (T, D) sequence per waveform (16 kHz), float32, whatever the batch.

        Raises:
            UsageError: waveforms that are not mono.
            BadAudioError: empty waveforms, those too short for one state, or samples that are not finite.
        """
        checked = sound_waveforms(waveforms)
        self._refuse_short([len(waveform) for waveform in checked])
        return self._encode(checked)

    def _refuse_short(self, lengths: Sequence[int]) -> None:
        """Refuse what gives no state: alone it ends in an error of torch, in a batch in states of the padding."""
        n_states = getattr(self.model, "_get_feat_extract_output_lengths", None)
        hears_samples = "input_values" in getattr(self.extractor, "model_input_names", ())
        if n_states is None or not hears_samples or not lengths:  # not known of this model
            return
        counts = n_states(torch.tensor(lengths)).tolist()
        short = [
            (place, f"{n} samples are too few for one state of {self.name}; leave it out or record more")
            for place, (n, count) in enumerate(zip(lengths, counts, strict=True))
            if count < 1
        ]
        if short:
            refuse_waveforms(BadAudioError, short, len(lengths))

    @torch.no_grad()
    def _encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = [np.empty(0)] * len(waveforms)
        for chosen in self._batches([len(w) for w in waveforms]):
            # each utterance is normalised by itself, never with the padding of its neighbours
            inputs = [self.extractor(waveforms[i], sampling_rate=SAMPLE_RATE, return_tensors="pt") for i in chosen]
            for i, states in zip(chosen, self._states(inputs), strict=True):
                values = states if self.level == "frame" else states.mean(0)
                found[i] = values.float().cpu().numpy()
        return found

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        batches: list[list[int]] = []
        for i in order:
            fits = batches and len(batches[-1]) < self.config.batch_size
            # one very long recording must not make the others as long
            fits = fits and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= self.config.batch_size * MAX_SAMPLES
            if fits and (self.padding_is_harmless or lengths[batches[-1][0]] == lengths[i]):
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def _states(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
        """Return (T_i, D) states of each utterance of a batch."""
        lengths = [one["input_values"].shape[1] if "input_values" in one else -1 for one in inputs]
        if len(set(lengths)) == 1:
            names = [n for n in inputs[0] if n != "attention_mask" or "input_values" not in inputs[0]]
            batch = {name: torch.cat([one[name] for one in inputs]).to(self._device) for name in names}
            return list(self._hidden(batch))
        padded = torch.zeros(len(inputs), max(lengths))
        mask = torch.zeros(len(inputs), max(lengths), dtype=torch.long)
        for row, (one, n) in enumerate(zip(inputs, lengths, strict=True)):
            padded[row, :n] = one["input_values"][0]
            mask[row, :n] = 1
        states = self._hidden({"input_values": padded.to(self._device), "attention_mask": mask.to(self._device)})
        counts = self.model._get_feat_extract_output_lengths(torch.tensor(lengths)).tolist()
        return [states[row, :n] for row, n in enumerate(counts)]

    def _hidden(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.model(**batch, output_hidden_states=True).hidden_states[self.layer]

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values: id, layer, level and checksum of the weights; what it has heard is not known to us."""
        return {
            "encoder": "transformers",
            "name": self.name,
            "model": Path(self.config.path).name if Path(self.config.path).is_dir() else self.config.path,
            "revision": self.config.revision,
            "model_type": self.model.config.model_type,
            "layer": self.layer,
            "level": self.level,
            "weights_sha256": self._checksum(),
            "corpora": None,
            "speakers": None,
        }

    def _checksum(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            if name in self._random:  # drawn anew at every start: stores would have another identity each time
                continue
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _load(path: str, revision: str | None) -> tuple[Any, Any, frozenset[str]]:
    """Return model, feature extractor and the names of weights that were not saved and change no hidden state."""
    from transformers import AutoFeatureExtractor, AutoModel

    where = f"encoder hf:{path}"
    try:
        extractor = AutoFeatureExtractor.from_pretrained(path, revision=revision)
        # transformers draws the weights first that the file then fills
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model, info = AutoModel.from_pretrained(path, revision=revision, output_loading_info=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(
            f"{where}: cannot be loaded ({str(error).splitlines()[0]}); expected an id on the Hugging Face hub or a "
            "folder with config.json, weights and preprocessor_config.json; check the name and the connection"
        ) from error
    # what heads of other tasks have left in the file is of no concern; what the encoder lacks would be random
    refuse_gaps({**info, "unexpected_keys": ()}, where, TRAINING_ONLY)
    return model, extractor, frozenset(info["missing_keys"])
