"""The recurrent sequence-to-sequence autoencoder of Neumann and Vu (ICASSP 2019), which is auDeep's time autoencoder.

The whole model is in this file. Axes: B batch, T frames, F bands, H hidden units, L layers, R representation.
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
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from repkit.api import Config
from repkit.errors import UsageError
from repkit.stage_one.folders import find_model, pick_device, quiet_transformers, weights_sha256
from repkit.stage_one.frontends import frames_of, rebuild_frontend
from repkit.stage_one.recurrent import RecurrentStack, advance, delay, pad, reverse_index, reverse_valid, take

READOUTS = ("representation", "states", "pooled", "sequence")
MAX_FRAMES = 128_000
"""Most frames, padding included, that are encoded at once (5 minutes of a 64-utterance batch)."""
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


class GruAutoencoder(PreTrainedModel):
    """Encoder, vector and decoder.

    Example:
        >>> model = GruAutoencoder.from_pretrained("runs/ae-librispeech/encoder")  # doctest: +SKIP
        >>> vectors = model.encode_waveforms([waveform])  # doctest: +SKIP
    """

    config_class = GruAutoencoderConfig
    base_model_prefix = "autoencoder"
    main_input_name = "frames"

    def __init__(self, config: GruAutoencoderConfig) -> None:
        super().__init__(config)
        c = config
        self.encoder = RecurrentStack(c.cell, c.n_bands, c.hidden_size, c.n_layers, c.dropout)
        self.bridge = nn.Linear(c.n_layers * c.state_size, c.representation_size)
        self.forward_decoder = RecurrentStack(c.cell, c.n_bands, c.hidden_size, c.n_layers, c.dropout)
        if c.directions == 2:
            self.backward_decoder = RecurrentStack(c.cell, c.n_bands, c.hidden_size, c.n_layers, c.dropout)
            self.output = nn.Linear(2 * c.hidden_size, c.n_bands)
        else:
            self.feedback = nn.Linear(c.hidden_size, c.n_bands)
            self.output = nn.Linear(c.n_bands, c.n_bands)
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

    # ------------------------------------------------------------------ decoder

    def decode(self, representation: Tensor, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Reconstruct the frames in reversed order of time.

        Args:
            representation: (B, R), split layer by layer, in each layer forward before backward.
            frames: (B, T, F), the utterance in natural order; zero where padded.
            lengths: (B,) int64 or None.

        Returns:
            (B, T, F), step t approximates frame ``length - 1 - t``; meaningless where padded.
        """
        c = self.config
        x = frames.transpose(0, 1)
        n_steps, batch = x.shape[:2]
        order = reverse_index(lengths, n_steps, batch, x.device)
        states = representation.float().view(batch, c.n_layers, c.directions, c.state_size)
        forward_states = [states[:, layer, 0] for layer in range(c.n_layers)]
        if c.directions == 1:
            delayed = delay(take(x, order))
            if self.training and c.feed_previous_probability:
                hidden, fed = self._feed_previous(delayed, forward_states)
            else:
                hidden = self.forward_decoder(delayed, forward_states)[0][-1]
                fed = torch.tanh(self.feedback(hidden))
            return torch.tanh(self.output(fed)).transpose(0, 1)

        backward_states = [states[:, layer, 1] for layer in range(c.n_layers)]
        if c.decoder == "blind":
            forward_input = backward_input = torch.zeros_like(x)
        else:
            forward_input = delay(take(x, order))
            if c.decoder == "no_leak":
                if self.training and c.decoder_frame_dropout:
                    keep = torch.rand(n_steps, batch, 1, device=x.device) >= c.decoder_frame_dropout
                    forward_input = forward_input * keep
                backward_input = torch.zeros_like(x)
            else:
                # reversing the delayed reversed target in time is the utterance itself, one frame early
                backward_input = advance(x, lengths)
        # both directions share one projection of the joined outputs; reversing its narrower half is cheaper
        weight, h = self.output.weight, c.hidden_size
        forwards = functional.linear(self.forward_decoder(forward_input, forward_states)[0][-1], weight[:, :h])
        backwards = functional.linear(self.backward_decoder(backward_input, backward_states)[0][-1], weight[:, h:])
        return torch.tanh(forwards + take(backwards, order) + self.output.bias).transpose(0, 1)

    def _feed_previous(self, delayed: Tensor, states: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Step through time, now and then feeding the decoder's own output; returns hidden and fed-back outputs."""
        hidden, fed = [], []
        for step, true_frame in enumerate(delayed):
            frame = true_frame
            if step:
                own = torch.rand(len(frame), 1, device=frame.device) < self.config.feed_previous_probability
                frame = torch.where(own, fed[-1].to(frame.dtype), frame)
            sequences, states = self.forward_decoder(frame[None], states, None, with_finals=True)
            hidden.append(sequences[-1][0])
            fed.append(torch.tanh(self.feedback(hidden[-1])))
        return torch.stack(hidden), torch.stack(fed)

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

    def readout(self, frames: Tensor, lengths: Tensor, kind: str) -> list[Tensor]:
        """Return what one reads off the encoder, one tensor per utterance, from padded frames (B, T, F).

        Args:
            frames: (B, T, F) float32.
            lengths: (B,) int64.
            kind: one of `READOUTS`: ``"representation"`` (R,), the paper's; ``"states"`` (L * state size,), the final
                states before the bridge; ``"pooled"`` (2 L H,), mean and standard deviation over time of every
                layer's outputs; ``"sequence"`` (T_i, H), the outputs of the last layer.
        """
        representation, states, sequences = self.encode(frames, lengths)
        if kind == "representation":
            return list(representation)
        if kind == "states":
            return list(states)
        valid = [torch.cat([s[i, :n] for s in sequences], dim=-1).float() for i, n in enumerate(lengths.tolist())]
        if kind == "pooled":
            return [torch.cat([v.mean(0), v.std(0, correction=0)]) for v in valid]
        return [v[:, -self.config.hidden_size :] for v in valid]

    @torch.no_grad()
    def encode_waveforms(
        self, waveforms: Sequence[np.ndarray], kind: str = "representation", batch_size: int = 64
    ) -> list[np.ndarray]:
        """Return one float32 readout per mono waveform (S,) at 16 kHz, by default the (R,) vector, whatever the batch.

        Raises:
            UsageError: the model was saved without its frontend.
        """
        return self.encode_frames(frames_of(waveforms, self.frontend), kind, batch_size)

    @torch.no_grad()
    def encode_frames(
        self, frames: Sequence[np.ndarray], kind: str = "representation", batch_size: int = 64
    ) -> list[np.ndarray]:
        """Return the same from the frames (T, F) that this model's frontend has made of each."""
        order = np.argsort([-len(f) for f in frames], kind="stable").tolist()
        found: list[np.ndarray] = [np.empty(0)] * len(frames)
        was_training = self.training
        self.eval()
        start = 0
        while start < len(order):
            # one very long recording must not make 63 others as long
            chosen = order[start : start + max(1, min(batch_size, MAX_FRAMES // len(frames[order[start]])))]
            start += len(chosen)
            padded, lengths = pad([frames[i] for i in chosen], self.device)
            for i, values in zip(chosen, self.readout(padded, lengths, kind), strict=True):
                found[i] = values.float().cpu().numpy()
        self.train(was_training)
        return found

    @property
    def frontend(self) -> Any:
        """The frontend that makes this model's frames, built from the config on first use."""
        if "_frontend" not in self.__dict__:
            if not self.config.frontend:
                raise UsageError(
                    "autoencoder: its config.json names no frontend; expected {'name', 'settings'}; "
                    "pass frames to encode() or save the model through pretrain-ae"
                )
            self.__dict__["_frontend"] = rebuild_frontend(self.config.frontend)
        return self.__dict__["_frontend"]


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
            level: ``"frame"`` is short for the readout ``"sequence"``.
            untrained: take the architecture but random weights drawn from `seed`, as a control.
            seed: see `untrained`.
            batch_size: utterances at once.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        """

        path: Path
        readout: Literal["representation", "states", "pooled", "sequence"] = "representation"
        level: Literal["utterance", "frame"] = "utterance"
        untrained: bool = False
        seed: int = 0
        batch_size: int = 64
        device: str = "auto"

    def __init__(self, config: GruAutoencoderEncoder.Config) -> None:
        folder, run_name = find_model(config.path)
        self.config = config
        self.kind = "sequence" if config.level == "frame" else config.readout
        self.level = "frame" if self.kind == "sequence" else "utterance"
        self._weights = weights_sha256(folder)
        if config.untrained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                model = GruAutoencoder(GruAutoencoderConfig.from_pretrained(folder))
        else:
            with quiet_transformers():
                model = GruAutoencoder.from_pretrained(folder)
        self.model = model.to(pick_device(config.device)).eval()
        self.frame_shift_s = self.model.frontend.frame_shift_s if self.level == "frame" else None
        c = model.config
        self.dim = {
            "representation": c.representation_size,
            "states": c.n_layers * c.state_size,
            "pooled": 2 * c.n_layers * c.hidden_size,
            "sequence": c.hidden_size,
        }[self.kind]
        before = ("untrained-" + (f"seed{config.seed}-" if config.seed else "")) if config.untrained else ""
        self.name = before + run_name + ("" if self.kind == "representation" else f"-{self.kind}")

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (D,) vector or (T, D) sequence per waveform, float32, whatever the batch."""
        return self.model.encode_waveforms(waveforms, self.kind, self.config.batch_size)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """Return the (T, F) float32 frames of one waveform (S,), which `encode_frames` takes."""
        return frames_of([waveform], self.model.frontend)[0]

    def encode_frames(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what `encode` returns, from frames."""
        return self.model.encode_frames(frames, self.kind, self.config.batch_size)

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
            "architecture": architecture,
            "frontend": self.model.config.frontend,
            "weights_sha256": None if self.config.untrained else self._weights,
            "untrained_seed": self.config.seed if self.config.untrained else None,
            "corpora": [] if self.config.untrained else heard.get("corpora", []),
            "speakers": [] if self.config.untrained else heard.get("speakers", []),
            "held_out_speakers": [] if self.config.untrained else heard.get("held_out_speakers", []),
        }
