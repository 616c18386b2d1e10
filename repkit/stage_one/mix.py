"""An encoder and the objectives it is trained on, as one module: frames to named losses.

Source: own design. The encoder runs once for all objectives that read clean frames, and once more for each that corrupts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from repkit.api import EncoderStates, PretrainBatch, PretrainTask
from repkit.errors import PluginError, UsageError
from repkit.plugins import build_config, load
from repkit.plugins.blaming import blaming
from repkit.plugins.discover import blame
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig
from repkit.stage_one.readouts import vector_size

VOICED = "voiced"
"""Column of 0 and 1 by which a frontend says where it heard a pitch."""
PITCH = "log_f0"
TRIED_FRAMES = 48
"""Frames of the longer of two pieces of noise that objectives are tried on."""


@dataclass(frozen=True)
class Chosen:
    """An objective as a recipe names it.

    Attributes:
        name: of the component.
        weight: factor of its losses.
        settings: of its Config.
    """

    name: str
    weight: float
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Chosen:
        """Return what a table ``{"name", "weight", settings...}`` says.

        Raises:
            UsageError: no name, or a weight that is no number.
        """
        name, weight = table.get("name"), table.get("weight", 1.0)
        if not isinstance(name, str) or isinstance(weight, bool) or not isinstance(weight, int | float):
            raise UsageError(f"objective {dict(table)}: a name and a weight that is a number were expected")
        return cls(name, float(weight), {k: v for k, v in table.items() if k not in ("name", "weight")})


def unique_names(chosen: Sequence[Chosen]) -> list[str]:
    """Return a name for each objective, with a number behind the second of a kind."""
    names = [one.name.rpartition(":")[2] for one in chosen]
    return [name if names.index(name) == place else f"{name}_{place}" for place, name in enumerate(names)]


def check_objectives(tables: Sequence[Mapping[str, Any]]) -> None:
    """See that every objective is installed and its settings fit, before any audio is read.

    Raises:
        PluginError: an unknown or broken one.
        RecipeError: unknown keys or wrong values, all of an objective's at once.
    """
    for place, one in enumerate(map(Chosen.of, tables)):
        build_config(load("repkit.pretraining", one.name), one.settings, f"objectives.{place}")


def task_of(config: GruEncoderConfig, frame_shift_s: float) -> PretrainTask:
    """Return what objectives are built for."""
    return PretrainTask(
        columns=tuple(config.columns),
        frame_shift_s=frame_shift_s,
        layer_sizes=config.layer_sizes,
        vector_dim=vector_size(config.layer_sizes, config.pooling, config.pooling_layers),
        bidirectional=config.bidirectional,
    )


class Member(NamedTuple):
    """An objective of a mix: its module, the factor of its losses, and the component it was made from."""

    module: nn.Module
    weight: float
    component: str


def _blaming(component: str) -> AbstractContextManager[None]:
    """Name the distribution whose objective fails."""
    return blaming("repkit.pretraining", component)


def build_objectives(tables: Sequence[Mapping[str, Any]], task: PretrainTask) -> dict[str, Member]:
    """Return the objectives of a recipe by name.

    Raises:
        PluginError, RecipeError: see `check_objectives`.
        UsageError: an objective that does not fit the encoder or the frames.
    """
    chosen = [Chosen.of(table) for table in tables]
    found = {}
    for place, (name, one) in enumerate(zip(unique_names(chosen), chosen, strict=True)):
        kind = load("repkit.pretraining", one.name)
        config = build_config(kind, one.settings, f"objectives.{place}")
        with _blaming(one.name):
            found[name] = Member(kind(config, task), one.weight, one.name)
    return found


class Mix(nn.Module):
    """The encoder and its objectives.

    Args:
        encoder: reads standardised frames.
        objectives: by name.
    """

    def __init__(self, encoder: GruEncoder, objectives: Mapping[str, Member]) -> None:
        super().__init__()
        self.encoder = encoder
        self.objectives = nn.ModuleDict({name: member.module for name, member in objectives.items()})
        self.weights = {name: member.weight for name, member in objectives.items()}
        self._components = {name: member.component for name, member in objectives.items()}
        self._voiced = encoder.config.columns.index(VOICED) if VOICED in encoder.config.columns else None

    def batch(self, frames: Tensor, lengths: Tensor) -> PretrainBatch:
        """Return what objectives see of frames (B, T, F) as the frontend makes them."""
        standardised = self.encoder.standardise(frames, lengths)
        batch = PretrainBatch(standardised, lengths)
        if self._voiced is not None:
            batch.voiced = (frames[..., self._voiced] > 0.5) & batch.mask
        return batch

    def states(self, frames: Tensor, lengths: Tensor) -> EncoderStates:
        """Return states and vector of standardised frames."""
        c = self.encoder.config
        layers = self.encoder.states(frames, lengths)
        return EncoderStates(layers, self.encoder.pooled(layers, lengths, c.pooling, c.pooling_layers), frames)

    def forward(
        self, frames: Tensor, lengths: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return every loss as ``objective.loss``, unweighted.

        Args:
            frames: (B, T, F) float32, as the frontend makes them.
            lengths: (B,) int64.
            progress: 0 to 1.
            generator: on the CPU, for corruptions.
        """
        batch = self.batch(frames, lengths)
        clean: EncoderStates | None = None
        losses: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            component = self._components[name]
            if hasattr(objective, "corrupt"):
                with _blaming(component):
                    corrupted = objective.corrupt(batch.frames, lengths, generator)
                states = self.states(corrupted, lengths)
            else:
                clean = states = clean or self.states(batch.frames, lengths)
            with _blaming(component):
                found = dict(objective(batch, states, progress))
            losses |= {f"{name}.{loss}": value for loss, value in _scalars(component, found).items()}
        return losses

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum that is minimised."""
        return torch.stack([value * self.weights[name.partition(".")[0]] for name, value in losses.items()]).sum()

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Tensor, Tensor]], standardise: bool = True) -> None:
        """Measure the constants of the frames, then those of the objectives, on batches of frames and lengths.

        Args:
            batches: gone through several times.
            standardise: False leaves the frames as they are.
        """
        held = list(batches)
        if standardise:
            measure_constants(self.encoder, held)
        for name, objective in self.objectives.items():
            if hasattr(objective, "calibrate"):
                with _blaming(self._components[name]):
                    objective.calibrate(self._batches(held))

    def _batches(self, held: Iterable[tuple[Tensor, Tensor]]) -> Iterator[PretrainBatch]:
        for frames, lengths in held:
            yield self.batch(frames, lengths)


def check_attention_is_read(mix: Mix) -> None:
    """See that attentive pooling learns something: tried on noise, at the begin, the middle and the end of a training.

    An objective does not say what it reads, so that the gradient is asked for. Random numbers of the caller stay as they are.

    Raises:
        UsageError: no objective reads the vector, so that the weights of the attention would stay as they were drawn.
    """
    if mix.encoder.config.pooling != "attentive":
        return
    parameters = list(mix.encoder.attention.parameters())
    draw = torch.Generator().manual_seed(0)
    frames = torch.randn(2, TRIED_FRAMES, len(mix.encoder.config.columns), generator=draw)
    lengths = torch.tensor([TRIED_FRAMES, TRIED_FRAMES - 8])
    frames *= (torch.arange(TRIED_FRAMES) < lengths[:, None])[..., None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for progress in (0.0, 0.5, 1.0):
            total = mix.total(mix(frames, lengths, progress, draw))
            found = torch.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else ()
            if any(gradient is not None and bool(gradient.any()) for gradient in found):
                return
    raise UsageError(
        f"training.pooling = 'attentive': none of the objectives {', '.join(mix.objectives)} reads the vector, so that the "
        "attention would stay as it was drawn; one that does was expected, such as crop_functionals, blind_decoder or "
        "reconstruction; add one, or choose another pooling"
    )


def _scalars(component: str, losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the losses of an objective as float32, after a look at their names, their axes and what they depend on."""
    for loss, value in losses.items():
        if not isinstance(loss, str) or not loss or "." in loss:
            _refuse(component, f"the name of the loss {loss!r}; a word without a dot")
        if not isinstance(value, Tensor) or value.ndim:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            _refuse(component, f"the loss {loss!r} is {shape}; a tensor without axes")
    values = list(losses.values())
    # zero is what an objective may say of a batch in which it finds nothing to predict
    if torch.is_grad_enabled() and not any(value.requires_grad or not value.any() for value in values):
        _refuse(
            component,
            f"the losses {', '.join(losses) or '(none)'} depend on no parameter; a path from the states to them",
        )
    return {loss: value.float() for loss, value in losses.items()}


def _refuse(component: str, got: str) -> NoReturn:
    raise PluginError(
        f"{blame('repkit.pretraining', component)}: {got} was expected; mend it (`repkit plugins check {component}` says more)"
    )


def measure_constants(encoder: GruEncoder, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set mean and deviation of every column over the valid frames, of the pitch over those where one was heard."""
    columns = encoder.config.columns
    n = torch.zeros(len(columns), dtype=torch.float64)
    total, squares = torch.zeros_like(n), torch.zeros_like(n)
    for frames, lengths in batches:
        mask = torch.arange(frames.shape[1], device=frames.device)[None, :] < lengths[:, None]
        x = frames[mask].cpu().double()  # in this order: not every device has float64
        counted = torch.ones_like(x, dtype=torch.bool)
        if VOICED in columns and PITCH in columns:
            counted[:, columns.index(PITCH)] = x[:, columns.index(VOICED)] > 0.5
        n += counted.sum(0)
        total += torch.where(counted, x, 0.0).sum(0)
        squares += torch.where(counted, x, 0.0).square().sum(0)
    mean = total / n.clamp(min=1)
    variance = (squares / n.clamp(min=1) - mean.square()).clamp(min=0)
    encoder.mean.copy_(mean.to(encoder.mean))
    encoder.deviation.copy_(torch.where(variance > 1e-8, variance.sqrt(), 1.0).to(encoder.deviation))
