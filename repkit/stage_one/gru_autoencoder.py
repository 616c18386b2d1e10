"""The recurrent sequence-to-sequence autoencoder of Neumann and Vu (ICASSP 2019), which is auDeep's time autoencoder.

Encoder, vector and loss are in this file, the decoders in `repkit.stage_one.gru_decoders`, which the objective
``reconstruction`` shares. Axes: B batch, T frames, F bands, H hidden units, L layers, R representation.
Source: Neumann & Vu 2019, section 2.1; positions of dropout, order of states and the loss from auDeep's source
(``models/time_autoencoder.py``, ``models/rnn_base.py``). What differs from auDeep, on purpose:

* PyTorch's GRU applies the reset gate after the recurrent product (TensorFlow 1: before it), so that weights do not
  transfer; and it has two bias vectors per cell where TensorFlow has one (3 x H more parameters per layer).
* Two dropout masks in a row (output of a layer, input of the next) are drawn as one mask of keep probability
  (1 - p)^2, which is the same distribution at half the cost.

The faithful ``bidirectional`` decoder can see its own target: its backward direction has read the target of step t
before step t. It hardly needs the vector. ``no_leak`` and ``blind`` take that away; see `GruAutoencoderConfig.decoder`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from repkit.api import Config
from repkit.errors import UsageError
from repkit.stage_one.folders import WEIGHTS_SUM, find_model, pick_device, weights_sha256
from repkit.stage_one.frontends import cut_before_s, frames_of
from repkit.stage_one.gru_decoders import Decoders
from repkit.stage_one.naming import own_seed, refuse_idle, untrained_mark
from repkit.stage_one.readouts import Layers, pool, sequences, vector_size
from repkit.stage_one.recurrent import RecurrentStack, reverse_valid
from repkit.stage_one.waveforms import EncodesWaveforms, sound_waveforms
from repkit.stage_one.whole_weights import LoadsWhole, refuse_other

EARLIER = ("representation", "states", "pooled", "sequence")
"""Readouts that always read the layers they are about."""
DECODERS = ("bidirectional", "unidirectional", "no_leak", "blind")


class GruAutoencoderConfig(PreTrainedConfig):
    """Settings of the autoencoder; every argument has a default, as transformers asks.

    Args:
        n_bands: F, bands of the spectrogram.
        hidden_size: H, units of each recurrent layer and direction.
        n_layers: L, layers of encoder and decoder.
        cell: ``"gru"`` (paper) or ``"lstm"`` (cell and hidden states joined, sizes double).
        dropout: drop probability at every cell's input and output; recurrent and final states are never dropped.
        decoder: what the decoder is fed, all with the vector as initial states:

            * ``"bidirectional"`` (paper): both directions read the delayed target; sees the answer.
            * ``"unidirectional"``: forward only, reads the delayed target (auDeep's default), two projections.
            * ``"no_leak"`` (own design): bidirectional; the backward direction is fed zeros, the forward one the
              delayed target of which whole frames are dropped with probability `decoder_frame_dropout` in training.
            * ``"blind"`` (own design): bidirectional; both directions are fed zeros: all comes from the vector.
        feed_previous_probability: unidirectional only: chance, per step and item, to feed the decoder's own last
            output, tanh(W h + b), instead of the true frame while training.
        decoder_frame_dropout: see ``"no_leak"``.
        input_noise: chance that a whole time step of the encoder's input is zeroed while training.
        mask_silence: target values of exactly -1 count as reconstructed (they add 0, the mean stays over all values).
        init: ``"paper"`` (TensorFlow 1 defaults: Glorot uniform, gate bias 1) or ``"torch"``.
        frontend: ``{"name": str, "settings": {...}}``, the frontend that makes the frames; stored with the weights.
        provenance: what the weights have heard (corpora, fingerprints, speakers), as JSON values.
    """

    model_type = "repkit_gru_autoencoder"

    def __init__(
        self,
        n_bands: int = 128,
        hidden_size: int = 256,
        n_layers: int = 2,
        cell: str = "gru",
        dropout: float = 0.2,
        decoder: str = "bidirectional",
        feed_previous_probability: float = 0.0,
        decoder_frame_dropout: float = 0.5,
        input_noise: float = 0.0,
        mask_silence: bool = False,
        init: str = "paper",
        frontend: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, known in (
            ("cell", cell, ("gru", "lstm")),
            ("decoder", decoder, DECODERS),
            ("init", init, ("paper", "torch")),
        ):
            if value not in known:
                raise UsageError(f"autoencoder setting {name}: got {value!r}; expected one of {', '.join(known)}")
        if feed_previous_probability and decoder != "unidirectional":
            raise UsageError(
                f"autoencoder setting feed_previous_probability: got {feed_previous_probability} with the "
                f"{decoder} decoder; only decoder = 'unidirectional' can feed its own output; set it to 0"
            )
        self.n_bands = n_bands
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.cell = cell
        self.dropout = dropout
        self.decoder = decoder
        self.feed_previous_probability = feed_previous_probability
        self.decoder_frame_dropout = decoder_frame_dropout
        self.input_noise = input_noise
        self.mask_silence = mask_silence
        self.init = init
        self.frontend = frontend
        self.provenance = provenance
        kwargs.pop(WEIGHTS_SUM, None)  # of the file, not of the model: it must not be saved with other weights
        super().__init__(**kwargs)

    @property
    def state_size(self) -> int:
        """Numbers in one cell's state: H, or 2 H for LSTM (cell state, then hidden state)."""
        return self.hidden_size * (2 if self.cell == "lstm" else 1)

    @property
    def directions(self) -> int:
        """Directions of the decoder."""
        return 1 if self.decoder == "unidirectional" else 2

    @property
    def representation_size(self) -> int:
        """R, the width of the vector: one initial state per layer and direction of the decoder."""
        return self.n_layers * self.directions * self.state_size


@dataclass
class GruAutoencoderOutput(ModelOutput):
    """What `GruAutoencoder` returns.

    Attributes:
        loss: () root mean square error over all valid values of the batch.
        squared_error: () sum of squared errors over the valid values.
        n_values: () number of valid values; with `squared_error` it lets several processes share one root.
        representation: (B, R) the vector.
        reconstruction: (B, T, F) reconstruction of the frames reversed in time, zero where padded.
    """

    loss: Tensor | None = None
    squared_error: Tensor | None = None
    n_values: Tensor | None = None
    representation: Tensor | None = None
    reconstruction: Tensor | None = None


class GruAutoencoder(LoadsWhole, Decoders, EncodesWaveforms, PreTrainedModel):
    """Encoder, vector and decoder.

    Example:
        >>> model = GruAutoencoder.from_pretrained("runs/ae-librispeech/encoder")  # doctest: +SKIP
        >>> vectors = model.encode_waveforms([waveform])  # doctest: +SKIP
    """

    config_class = GruAutoencoderConfig
    base_model_prefix = "autoencoder"
    main_input_name = "frames"
    default_readout = "representation"

    def __init__(self, config: GruAutoencoderConfig) -> None:
        super().__init__(config)
        c = config
        self.encoder = RecurrentStack(c.cell, c.n_bands, c.hidden_size, c.n_layers, c.dropout)
        self.bridge = nn.Linear(c.n_layers * c.state_size, c.representation_size)
        self.add_decoders()
        if c.init == "paper":
            self._init_as_tensorflow()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the weights as `__init__` made them (transformers would draw its own)."""

    @torch.no_grad()
    def _init_as_tensorflow(self) -> None:
        """TensorFlow 1 defaults: Glorot uniform for kernels and the linear layers' biases, gate bias 1."""
        for module in self.modules():
            if isinstance(module, RecurrentStack):
                module.init_as_tensorflow()
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                limit = math.sqrt(3 / module.out_features)  # Glorot of a vector: fan in = fan out = its length
                nn.init.uniform_(module.bias, -limit, limit)

    # ------------------------------------------------------------------ encoder

    def encode(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the encoder.

        Args:
            frames: (B, T, F) float32.
            lengths: (B,) int64 valid frames, or None when all are valid.

        Returns:
            representation (B, R); final states of all layers at the last valid frame (B, L * state size); the
            layers' output sequences, each (B, T, H), meaningless where padded.
        """
        x = frames.transpose(0, 1)
        if self.training and self.config.input_noise:
            keep = torch.rand(*x.shape[:2], 1, device=x.device) >= self.config.input_noise
            x = x * keep
        sequences, finals = self.encoder(x.contiguous(), None, lengths, with_finals=True, drop_output=False)
        states = torch.cat(finals, dim=-1)
        return torch.tanh(self.bridge(states)), states, [s.transpose(0, 1) for s in sequences]

    # ------------------------------------------------------------------ training and use

    def forward(
        self, frames: Tensor, lengths: Tensor | None = None, representation: Tensor | None = None
    ) -> GruAutoencoderOutput:
        """Encode, decode and measure the error.

        Args:
            frames: (B, T, F) float32; zero where padded.
            lengths: (B,) int64 valid frames, or None when all are valid.
            representation: (B, R) to decode from instead of the utterances' own (diagnostic).

        Returns:
            the loss and its parts, the vector and the reconstruction.
        """
        if representation is None:
            representation = self.encode(frames, lengths)[0]
        reconstruction = self.decode(representation, frames, lengths).float()
        n_steps, n_bands = frames.shape[1:]
        target = reverse_valid(frames, lengths)
        error = target - reconstruction
        if self.config.mask_silence:
            error = error * (target != -1)
        if lengths is None:
            n_values = torch.tensor(float(frames.numel()), device=frames.device)
        else:
            valid = torch.arange(n_steps, device=frames.device)[None, :] < lengths[:, None]
            error = error * valid[..., None]
            reconstruction = reconstruction * valid[..., None]
            n_values = lengths.sum().float() * n_bands
        squared_error = error.square().sum()
        return GruAutoencoderOutput(
            loss=torch.sqrt(squared_error / n_values),
            squared_error=squared_error,
            n_values=n_values,
            representation=representation,
            reconstruction=reconstruction,
        )

    def readout(self, frames: Tensor, lengths: Tensor, kind: str, which: Layers | None = None) -> list[Tensor]:
        """Return what one reads off the encoder, one tensor per utterance, from padded frames (B, T, F).

        Args:
            frames: (B, T, F) float32.
            lengths: (B,) int64.
            kind: ``"representation"`` (R,), the paper's; ``"states"`` (L * state size,), the final states before the
                bridge; ``"pooled"``, another name of ``"mean_sd"``; ``"sequence"`` (T_i, W), the outputs of the layers; or
                one of `repkit.stage_one.readouts.Readout`, for ``"last"`` of the outputs (an LSTM's without its cells).
            which: ``"last"`` layer or ``"all"``, of all but the first two; None for the last of a sequence, else all.
        """
        which = which or ("last" if kind == "sequence" else "all")
        representation, states, layers = self.encode(frames, lengths)
        if kind == "representation":
            return list(representation)
        if kind == "states":
            return list(states)
        if kind == "sequence":
            return sequences(layers, lengths, which)
        return list(pool(layers, lengths, "mean_sd" if kind == "pooled" else kind, which))


AutoConfig.register(GruAutoencoderConfig.model_type, GruAutoencoderConfig)
AutoModel.register(GruAutoencoderConfig, GruAutoencoder)


class GruAutoencoderEncoder:
    """The encoder of a stage-one run (group ``repkit.encoders``).

    Attributes:
        name: of the run's folder, with ``untrained-`` before it and the readout behind it where they apply.
        dim: D, width of the vectors or states.
        level: ``"utterance"`` or ``"frame"``.
        frame_shift_s: seconds between two states at frame level, else None.
    """

    class Config(Config):
        """Settings.

        Attributes:
            path: a stage-one run, or the model folder in it.
            readout: see `GruAutoencoder.readout`.
            layers: ``"last"`` layer or ``"all"``; None for all at utterance level, the last one at frame level.
            level: ``"frame"`` is short for the readout ``"sequence"``.
            untrained: take the architecture but random weights drawn from `seed`, as a control.
            init: untrained: ``"paper"`` or ``"torch"``; None for what the run began with.
            seed: see `untrained`; None for the run's own. The weights are other than those that its training began with.
            batch_size: utterances at once.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        """

        path: Path
        readout: Literal[
            "representation", "states", "pooled", "sequence", "last", "mean", "mean_sd", "mean_sd_delta"
        ] = "representation"
        layers: Layers | None = None
        level: Literal["utterance", "frame"] = "utterance"
        untrained: bool = False
        init: Literal["paper", "torch"] | None = None
        seed: int | None = None
        batch_size: int = 64
        device: str = "auto"

    def __init__(self, config: GruAutoencoderEncoder.Config) -> None:
        folder, run_name = find_model(config.path)
        self.config = config
        self.kind = "sequence" if config.level == "frame" else config.readout
        self.level = "frame" if self.kind == "sequence" else "utterance"
        self.layers: Layers = config.layers or ("last" if self.level == "frame" else "all")
        self._weights = weights_sha256(folder)
        refuse_other(folder, GruAutoencoderConfig.model_type, f"encoder {config.path}, read as gru_autoencoder")
        settings = GruAutoencoderConfig.from_pretrained(folder)
        run_seed = own_seed(settings.provenance)
        self.seed = run_seed if config.seed is None else config.seed
        refuse_idle(config)
        if config.layers is not None and self.kind in ("representation", "states"):
            raise UsageError(
                f"encoder {config.path}: layers = {config.layers!r} with the readout {self.kind}, which is of all layers; leave it "
                "out, or choose a readout such as mean_sd"
            )
        if config.untrained:
            with torch.random.fork_rng(devices=[]):
                # not as a training draws them, which would change the controls that have been made before; and not by
                # torch.manual_seed, which would set the generators of GPUs too, for good
                torch.random.default_generator.manual_seed(self.seed)
                settings.init = config.init or settings.init
                model = GruAutoencoder(settings)
        else:
            model = GruAutoencoder.from_pretrained(folder)
        self.model = model.to(pick_device(config.device)).eval()
        self.frame_shift_s = self.model.frontend.frame_shift_s if self.level == "frame" else None
        c = model.config
        sizes = [c.hidden_size] * c.n_layers
        self.dim = {
            "representation": c.representation_size,
            "states": c.n_layers * c.state_size,
        }.get(self.kind) or vector_size(
            sizes, {"pooled": "mean_sd", "sequence": "mean"}.get(self.kind, self.kind), self.layers
        )
        before = untrained_mark(self.seed, run_seed, config.init) if config.untrained else ""
        after = "" if self.kind == "representation" else f"-{self.kind}"
        usual = "last" if self.level == "frame" else "all"
        self.name = before + run_name + after + ("" if self.layers == usual else f"-{self.layers}")

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (D,) vector or (T, D) sequence per waveform, float32, whatever the batch.

        Raises:
            UsageError: waveforms that are not mono.
            BadAudioError: empty or too short waveforms, or samples that are not finite.
        """
        return self.encode_frames(frames_of(sound_waveforms(waveforms), self.model.frontend))

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """Return the (T, F) float32 frames of one waveform (S,), which `encode_frames` takes."""
        return frames_of(sound_waveforms([waveform]), self.model.frontend)[0]

    def start_s(self, waveform: np.ndarray) -> float:
        """Return the seconds of a waveform (S,) that are cut away before the first state."""
        return cut_before_s(sound_waveforms([waveform])[0], self.model.frontend)

    def encode_frames(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what `encode` returns, from frames."""
        return self.model.encode_frames(frames, self.kind, self.config.batch_size, self.layers)

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values: architecture, readout, checksum of the weights, frontend, corpora and speakers heard."""
        heard = self.model.config.provenance or {}
        architecture = {
            k: getattr(self.model.config, k)
            for k in ("n_bands", "hidden_size", "n_layers", "cell", "decoder", "init", "dropout")
        }
        return {
            "encoder": "gru_autoencoder",
            "name": self.name,
            "readout": self.kind,
            # not said of the readouts of before, so that their stores keep their identity
            **({} if self.kind in EARLIER and self.config.layers is None else {"layers": self.layers}),
            "architecture": architecture,
            "frontend": self.model.config.frontend,
            "weights_sha256": None if self.config.untrained else self._weights,
            "untrained_seed": self.seed if self.config.untrained else None,
            "corpora": [] if self.config.untrained else heard.get("corpora", []),
            "speakers": [] if self.config.untrained else heard.get("speakers", []),
            "held_out_speakers": [] if self.config.untrained else heard.get("held_out_speakers", []),
        }
