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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from repkit.errors import UsageError
from repkit.stage_one.frontends import build_frontend, frames_of
from repkit.stage_one.recurrent import RecurrentStack, reverse_index

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
            delayed = _delay(_take(x, order))
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
            forward_input = _delay(_take(x, order))
            if c.decoder == "no_leak":
                if self.training and c.decoder_frame_dropout:
                    keep = torch.rand(n_steps, batch, 1, device=x.device) >= c.decoder_frame_dropout
                    forward_input = forward_input * keep
                backward_input = torch.zeros_like(x)
            else:
                # reversing the delayed reversed target in time is the utterance itself, one frame early
                backward_input = _advance(x, lengths)
        # both directions share one projection of the joined outputs; reversing its narrower half is cheaper
        weight, h = self.output.weight, c.hidden_size
        forwards = functional.linear(self.forward_decoder(forward_input, forward_states)[0][-1], weight[:, :h])
        backwards = functional.linear(self.backward_decoder(backward_input, backward_states)[0][-1], weight[:, h:])
        return torch.tanh(forwards + _take(backwards, order) + self.output.bias).transpose(0, 1)

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

    @torch.no_grad()
    def encode_waveforms(self, waveforms: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
        """Return the vectors (n, R) float32 of mono waveforms (S,) at 16 kHz, whatever the batch.

        Raises:
            UsageError: the model was saved without its frontend.
        """
        frames = frames_of(waveforms, self.frontend)
        order = np.argsort([-len(f) for f in frames], kind="stable")
        vectors = np.zeros((len(frames), self.config.representation_size), np.float32)
        was_training = self.training
        self.eval()
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            padded, lengths = pad([frames[i] for i in chosen], self.device)
            vectors[chosen] = self.encode(padded, lengths)[0].float().cpu().numpy()
        self.train(was_training)
        return vectors

    @property
    def frontend(self) -> Any:
        """The frontend that makes this model's frames, built from the config on first use."""
        if "_frontend" not in self.__dict__:
            if not self.config.frontend:
                raise UsageError(
                    "autoencoder: its config.json names no frontend; expected {'name', 'settings'}; "
                    "pass frames to encode() or save the model through pretrain-ae"
                )
            self.__dict__["_frontend"] = build_frontend(self.config.frontend["name"], self.config.frontend["settings"])
        return self.__dict__["_frontend"]


def pad(frames: Sequence[np.ndarray], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Stack (T_i, F) arrays into zero-padded (B, T, F) float32 and their lengths (B,) int64."""
    lengths = torch.tensor([len(f) for f in frames], dtype=torch.int64)
    padded = torch.zeros(len(frames), int(lengths.max()), frames[0].shape[1])
    for row, values in zip(padded, frames, strict=True):
        row[: len(values)] = torch.from_numpy(np.asarray(values, np.float32))
    return padded.to(device), lengths.to(device)


def reverse_valid(frames: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse (B, T, F) in time, each sequence within its own valid part; padded steps stay."""
    x = frames.transpose(0, 1)
    return _take(x, reverse_index(lengths, x.shape[0], x.shape[1], x.device)).transpose(0, 1)


def _take(x: Tensor, order: Tensor | None) -> Tensor:
    """Reverse (T, B, F) in time by the row order of `reverse_index`."""
    if order is None:
        return x.flip(0)
    return x.reshape(-1, x.shape[-1]).index_select(0, order).view(x.shape)


def _delay(x: Tensor) -> Tensor:
    """Shift (T, B, F) one step later; the first frame is zero."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def _advance(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Shift (T, B, F) one step earlier; the last valid frame is zero."""
    y = torch.cat([x[1:], torch.zeros_like(x[:1])])
    if lengths is None:
        return y
    steps = torch.arange(len(x), device=x.device)
    return y * (steps[:, None] < lengths[None, :] - 1)[..., None]


AutoConfig.register(GruAutoencoderConfig.model_type, GruAutoencoderConfig)
AutoModel.register(GruAutoencoderConfig, GruAutoencoder)
