"""A recurrent encoder without a decoder: what the objectives of stage one train, one of them or several together.

The whole model is in this file. It is kept as plain as the encoder of Neumann and Vu (2019): GRU layers on frames, one
direction or both, so that objectives and not architectures are compared. What differs from theirs: frames are standardised by
constants of the training speech, dropout stands between layers only, there may be two directions, and what an utterance's
vector is made of is a readout (`repkit.stage_one.readouts`). Source: own design. Axes: B batch, T frames, F columns, H units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from repkit.api import Config
from repkit.errors import UsageError
from repkit.runs.seeding import derive_seed
from repkit.stage_one.folders import WEIGHTS_SUM, find_model, pick_device, weights_sha256
from repkit.stage_one.frontends import cut_before_s, frames_of
from repkit.stage_one.naming import own_seed, refuse_idle, untrained_mark
from repkit.stage_one.readouts import (
    PARTS,
    Attention,
    Layers,
    choose,
    pool,
    sequences,
    vector_size,
)
from repkit.stage_one.recurrent import RecurrentStack, reverse_index, take
from repkit.stage_one.waveforms import EncodesWaveforms, sound_waveforms
from repkit.stage_one.whole_weights import LoadsWhole, refuse_other

FARTHEST = 10.0
"""Deviations from the mean beyond which a frame's value is brought back."""


class GruEncoderConfig(PreTrainedConfig):
    """Settings of the encoder; every argument has a default, as transformers asks.

    Args:
        columns: name of each of the F columns of the frames.
        inputs: ``"all"`` columns, or ``"mel"``: the spectral bands alone, while the others are only targets.
        hidden_size: H, units of each layer and direction.
        n_layers: L.
        bidirectional: whether every layer runs in both directions.
        dropout: drop probability between layers.
        pooling: readout that objectives get as the vector; ``"attentive"`` is trained with them.
        pooling_layers: ``"last"`` or ``"all"``.
        init: ``"paper"`` (TensorFlow 1 defaults: Glorot uniform, gate bias 1) or ``"torch"``.
        frontend: ``{"name": str, "settings": {...}}``, the frontend that makes the frames; stored with the weights.
        objectives: what it was trained on, ``{"name": str, "weight": float, ...settings}`` each.
        provenance: what the weights have heard (corpora, fingerprints, speakers), as JSON values.
    """

    model_type = "repkit_gru_encoder"

    def __init__(
        self,
        columns: Sequence[str] = tuple(f"mel_{band:03d}" for band in range(128)),
        inputs: str = "mel",
        hidden_size: int = 256,
        n_layers: int = 2,
        bidirectional: bool = False,
        dropout: float = 0.0,
        pooling: str = "mean_sd_delta",
        pooling_layers: str = "all",
        init: str = "torch",
        frontend: dict[str, Any] | None = None,
        objectives: Sequence[dict[str, Any]] = (),
        provenance: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, known in (
            ("inputs", inputs, ("mel", "all")),
            ("pooling", pooling, tuple(PARTS)),
            ("pooling_layers", pooling_layers, ("last", "all")),
            ("init", init, ("paper", "torch")),
        ):
            if value not in known:
                raise UsageError(f"encoder setting {name}: got {value!r}; expected one of {', '.join(known)}")
        self.columns = list(columns)
        self.inputs = inputs
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.pooling = pooling
        self.pooling_layers = pooling_layers
        self.init = init
        self.frontend = frontend
        self.objectives = list(objectives)
        self.provenance = provenance
        kwargs.pop(WEIGHTS_SUM, None)  # of the file, not of the model: it must not be saved with other weights
        super().__init__(**kwargs)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Width of each layer's states, both directions together."""
        return (self.hidden_size * (2 if self.bidirectional else 1),) * self.n_layers

    @property
    def input_columns(self) -> list[int]:
        """Places of the columns that the encoder reads; all where none is a spectral band."""
        mel = [place for place, name in enumerate(self.columns) if name.startswith("mel_")]
        return mel if self.inputs == "mel" and mel else list(range(len(self.columns)))


class GruEncoder(LoadsWhole, EncodesWaveforms, PreTrainedModel):
    """Frames to states of every layer, and to a vector.

    Example:
        >>> model = GruEncoder.from_pretrained("runs/cpc/encoder")  # doctest: +SKIP
        >>> vectors = model.encode_waveforms([waveform])  # doctest: +SKIP
    """

    config_class = GruEncoderConfig
    base_model_prefix = "encoder"
    main_input_name = "frames"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: GruEncoderConfig) -> None:
        super().__init__(config)
        c = config
        self.register_buffer("mean", torch.zeros(len(c.columns)))
        self.register_buffer("deviation", torch.ones(len(c.columns)))
        widths = [len(c.input_columns), *c.layer_sizes[:-1]]
        # a stack of one layer each: it drops its own input, which the first must not
        drops = [0.0] + [c.dropout] * (c.n_layers - 1)
        pairs = list(zip(widths, drops, strict=True))
        self.forward_layers = nn.ModuleList(RecurrentStack("gru", n, c.hidden_size, 1, p) for n, p in pairs)
        if c.bidirectional:
            self.backward_layers = nn.ModuleList(RecurrentStack("gru", n, c.hidden_size, 1, p) for n, p in pairs)
        if c.pooling == "attentive":
            self.attention = Attention(vector_size(c.layer_sizes, "mean", c.pooling_layers))
        if c.init == "paper":
            self._init_as_tensorflow()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the weights as `__init__` made them (transformers would draw its own)."""

    @torch.no_grad()
    def _init_as_tensorflow(self) -> None:
        for module in self.modules():
            if isinstance(module, RecurrentStack):
                module.init_as_tensorflow()

    def standardise(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return frames (B, T, F) with mean 0 and deviation 1 over the training speech, zero where padded."""
        mask = torch.arange(frames.shape[1], device=frames.device)[None, :] < lengths[:, None]
        scaled = ((frames - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
        return scaled.masked_fill(~mask[..., None], 0.0)

    def states(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Return the states (B, T, H or 2 H) of each layer, meaningless where padded.

        Args:
            frames: (B, T, F) float32, standardised.
            lengths: (B,) int64 valid frames.
        """
        x = frames[..., self.config.input_columns].transpose(0, 1).contiguous()
        order = reverse_index(lengths, *x.shape[:2], x.device) if self.config.bidirectional else None
        found = []
        for place, layer in enumerate(self.forward_layers):
            ahead = layer(x, None, lengths, drop_output=False)[0][-1]
            if self.config.bidirectional:
                mirrored = take(x, order).contiguous()
                back = self.backward_layers[place](mirrored, None, lengths, drop_output=False)[0][-1]
                ahead = torch.cat([ahead, take(back, order)], dim=-1)
            x = ahead
            found.append(x.transpose(0, 1))
        return tuple(found)

    def pooled(self, layers: Sequence[Tensor], lengths: Tensor, kind: str, which: Layers) -> Tensor:
        """Return the vector (B, D) float32 of a readout of the layers' states.

        Raises:
            UsageError: an attentive readout that was not trained.
        """
        c = self.config
        if kind == "attentive" and (c.pooling, c.pooling_layers) != (kind, which):
            raise UsageError(
                f"readout attentive over layers = {which!r}: the encoder was trained with pooling = {c.pooling!r}, layers = "
                f"{c.pooling_layers!r}, so that its attention was never learnt; a run with pooling = 'attentive' was expected; "
                "train one, or choose another readout"
            )
        attention = self.attention if kind == "attentive" else None
        return pool(layers, lengths, kind, which, c.bidirectional, attention)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the vector (B, D) of the readout that training used, from frames (B, T, F) as the frontend makes them."""
        layers = self.states(self.standardise(frames, lengths), lengths)
        return self.pooled(layers, lengths, self.config.pooling, self.config.pooling_layers)

    def readout(self, frames: Tensor, lengths: Tensor, kind: str, which: Layers | None = None) -> list[Tensor]:
        """Return what one reads off the encoder, one tensor per utterance, from padded frames (B, T, F) of the frontend.

        Args:
            frames: (B, T, F) float32.
            lengths: (B,) int64.
            kind: see `repkit.stage_one.readouts.Readout`, or ``"sequence"`` for the states (T_i, W).
            which: ``"last"`` layer or ``"all"``; None for the last of a sequence, else all.
        """
        which = which or ("last" if kind == "sequence" else "all")
        layers = self.states(self.standardise(frames, lengths), lengths)
        if kind == "sequence":
            return sequences(layers, lengths, which)
        return list(self.pooled(layers, lengths, kind, which))


AutoConfig.register(GruEncoderConfig.model_type, GruEncoderConfig)
AutoModel.register(GruEncoderConfig, GruEncoder)


class GruEncoderEncoder:
    """The encoder of a run of ``repkit pretrain-ae`` with objectives (group ``repkit.encoders``).

    Attributes:
        name: of the run's folder, with ``untrained-`` before it and the readout behind it where they are not the default.
        dim: D, width of the vectors or states.
        level: ``"utterance"`` or ``"frame"``.
        frame_shift_s: seconds between two states at frame level, else None.
    """

    class Config(Config):
        """Settings.

        Attributes:
            path: a stage-one run, or the model folder in it.
            readout: see `repkit.stage_one.readouts.Readout`; ``"sequence"`` for the states over time.
            layers: ``"last"`` layer or ``"all"``; None for all at utterance level, the last one at frame level.
            level: ``"frame"`` is short for the readout ``"sequence"``.
            untrained: take the architecture but random weights drawn from `seed`, as a control; the constants that
                standardise the frames stay.
            init: untrained: ``"paper"`` or ``"torch"``; None for what the run began with.
            seed: see `untrained`; None for the run's own, which gives the weights that its training began with.
            batch_size: utterances at once.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        """

        path: Path
        readout: Literal["last", "mean", "mean_sd", "mean_sd_delta", "attentive", "sequence"] = "mean_sd_delta"
        layers: Layers | None = None
        level: Literal["utterance", "frame"] = "utterance"
        untrained: bool = False
        init: Literal["paper", "torch"] | None = None
        seed: int | None = None
        batch_size: int = 64
        device: str = "auto"

    def __init__(self, config: GruEncoderEncoder.Config) -> None:
        folder, run_name = find_model(config.path)
        self.config = config
        self.kind = "sequence" if config.level == "frame" else config.readout
        self.level = "frame" if self.kind == "sequence" else "utterance"
        self.layers: Layers = config.layers or ("last" if self.level == "frame" else "all")
        self._weights = weights_sha256(folder)
        refuse_other(folder, GruEncoderConfig.model_type, f"encoder {config.path}, read as gru_encoder")
        model = GruEncoder.from_pretrained(folder)
        refuse_idle(config)
        run_seed = own_seed(model.config.provenance)
        self.seed = run_seed if config.seed is None else config.seed
        if config.untrained:
            model = _untrained(model, config.init or model.config.init, self.seed)
        self.model = model.to(pick_device(config.device)).eval()
        self.frame_shift_s = self.model.frontend.frame_shift_s if self.level == "frame" else None
        sizes = model.config.layer_sizes
        self.dim = vector_size(sizes, "mean" if self.level == "frame" else self.kind, self.layers)
        if self.kind == "attentive":  # said now and not after all audio was read
            self.model.pooled(
                choose([torch.zeros(1, 1, n) for n in sizes], "all"), torch.ones(1).long(), self.kind, self.layers
            )
        before = untrained_mark(self.seed, run_seed, config.init) if config.untrained else ""
        self.name = before + run_name + _after(self.kind, self.layers)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """Return the (T, F) float32 frames of one waveform (S,), which `encode_frames` takes."""
        return frames_of(sound_waveforms([waveform]), self.model.frontend)[0]

    def start_s(self, waveform: np.ndarray) -> float:
        """Return the seconds of a waveform (S,) that are cut away before the first state."""
        return cut_before_s(sound_waveforms([waveform])[0], self.model.frontend)

    def encode_frames(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (D,) vector or (T, D) sequence per utterance from its frames, float32, whatever the batch."""
        return self.model.encode_frames(frames, self.kind, self.config.batch_size, self.layers)

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one (D,) vector or (T, D) sequence per waveform, float32, whatever the batch.

        Raises:
            UsageError: waveforms that are not mono.
            BadAudioError: empty or too short waveforms, or samples that are not finite.
        """
        return self.encode_frames(frames_of(sound_waveforms(waveforms), self.model.frontend))

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values: architecture, readout, objectives, checksum of the weights, frontend, what was heard."""
        c, untrained = self.model.config, self.config.untrained
        heard = c.provenance or {}
        architecture = {
            k: getattr(c, k) for k in ("hidden_size", "n_layers", "bidirectional", "inputs", "init", "dropout")
        }
        return {
            "encoder": "gru_encoder",
            "name": self.name,
            "readout": self.kind,
            "layers": self.layers,
            "objectives": [] if untrained else c.objectives,
            "architecture": {"n_columns": len(c.columns), **architecture},
            "frontend": c.frontend,
            # of untrained weights too: the constants that standardise its frames are in there
            "weights_sha256": self._weights,
            "untrained_seed": self.seed if untrained else None,
            "constants_from": [corpus["name"] for corpus in heard.get("corpora", [])],
            "corpora": [] if untrained else heard.get("corpora", []),
            "speakers": [] if untrained else heard.get("speakers", []),
            "held_out_speakers": [] if untrained else heard.get("held_out_speakers", []),
        }


def _untrained(trained: GruEncoder, init: str, seed: int) -> GruEncoder:
    """Return an encoder of the same architecture and constants with random weights."""
    config = GruEncoderConfig(**{**trained.config.to_dict(), "init": init})
    with torch.random.fork_rng(devices=[]):
        # where a training with this seed begins; torch.manual_seed would set the generators of GPUs too, for good
        torch.random.default_generator.manual_seed(derive_seed(seed, "weights"))
        model = GruEncoder(config)
    model.mean.copy_(trained.mean)
    model.deviation.copy_(trained.deviation)
    return model


def _after(kind: str, layers: str) -> str:
    """Return what stands behind the run's name in that of its store: nothing where the readout is the usual one."""
    if (kind, layers) == ("mean_sd_delta", "all"):
        return ""
    return f"-{kind}" + ("" if layers == ("last" if kind == "sequence" else "all") else f"-{layers}")
