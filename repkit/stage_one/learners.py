"""What the training loop of stage one trains: the paper's autoencoder, or an encoder with objectives.

Both answer the same questions of `repkit.stage_one.train`: make an update, say what an epoch's numbers are, measure held-out
speech, and which model is exported. Source: own design.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from repkit.stage_one.augment import augmentation_for
from repkit.stage_one.data import Pieces
from repkit.stage_one.diagnostics import dev_rmse, vector_use
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.gru_encoder import GruEncoder, GruEncoderConfig
from repkit.stage_one.mix import Mix, build_objectives, check_attention_is_read, task_of
from repkit.stage_one.settings import AUGMENTATION, AUTOENCODER_ONLY, PretrainConfig
from repkit.stage_one.update import update

CALIBRATION_PIECES = 4096
"""Most pieces that constants are measured on, evenly spread over the first window (three hours of crops of 2.6 s)."""

Draw = Callable[[str], torch.Generator]
"""From the name of a purpose to a generator that belongs to the update at hand."""


class Learner(Protocol):
    """What the loop trains.

    Attributes:
        module: all that is trained, and saved in checkpoints.
        exported: the part that becomes the encoder's folder.
        score: name of the number of an epoch's record that tells the best one (smaller is better).
        reported: names of the last epoch's numbers that the results hold.
    """

    module: nn.Module
    exported: Any
    score: str
    reported: tuple[str, ...]

    def calibrate(self, pieces: Pieces, batch_size: int, device: torch.device) -> None:
        """Measure whatever constants are needed, before the first update."""
        ...

    def update(
        self,
        accelerator: Any,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        frames: Tensor,
        lengths: Tensor,
        *,
        precision: str,
        share: float,
        progress: float,
        draw: Draw,
    ) -> tuple[float, dict[str, float]]:
        """Make one update; return the loss and sums of the batch over all processes; not finite: nothing was changed.

        Args:
            accelerator: of accelerate.
            model: `module` as prepared by it.
            optimizer: of its parameters.
            frames: (B, T, F) float32, this process's share of the batch.
            lengths: (B,) int64.
            precision: ``"fp32"`` or ``"bf16"``.
            share: part of the batch's pieces that this process has; 0 when its frames only stand in.
            progress: of the training, 0 to 1.
            draw: where random numbers besides torch's own come from.
        """
        ...

    def figures(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Return an epoch's numbers for the record from the sums of its updates."""
        ...

    def held_out(self, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return the numbers of held-out speech."""
        ...

    def diagnose(self, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return further numbers of held-out speech, by the name of their table; or none."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what the results say of it."""
        ...

    def said(self) -> str:
        """Return what it is, in a few words."""
        ...


class AutoencoderLearner:
    """The paper's autoencoder and its one loss (see `Learner`)."""

    score = "dev_rmse"
    reported = ("train_rmse", "dev_rmse")

    def __init__(self, config: PretrainConfig, frontend: Any, provenance: dict[str, Any]) -> None:
        self.config = config
        table = {**config.frontend_table(), "convention": dict(frontend.convention())}
        shared = ("n_layers", "hidden_size", "dropout", "init")
        self.module = GruAutoencoder(
            GruAutoencoderConfig(
                n_bands=frontend.n_bands,
                frontend=table,
                provenance=provenance,
                **{name: getattr(config, name) for name in (*AUTOENCODER_ONLY, *shared)},
            )
        )
        self.exported = self.module

    def calibrate(self, pieces: Pieces, batch_size: int, device: torch.device) -> None:
        """Do nothing: its frames are scaled one by one."""

    def update(
        self,
        accelerator: Any,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        frames: Tensor,
        lengths: Tensor,
        *,
        precision: str,
        share: float,
        progress: float,
        draw: Draw,
    ) -> tuple[float, dict[str, float]]:
        """Make one update of the root over all values."""
        squared, values = update(
            accelerator, model, optimizer, frames, lengths,
            precision=precision, clip_value=self.config.clip_value, weight=float(share > 0),
        )  # fmt: skip
        return math.sqrt(squared / values), {"squared": squared, "values": values}

    def figures(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Return ``train_rmse``."""
        return {"train_rmse": math.sqrt(sums["squared"] / sums["values"])}

    def held_out(self, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return ``dev_rmse``."""
        return {"dev_rmse": dev_rmse(self.module, pieces, batch_size, device)}

    def diagnose(self, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return ``vector_use``."""
        return {"vector_use": vector_use(self.module, pieces, batch_size, device)}

    def facts(self) -> dict[str, Any]:
        """Return the decoder."""
        return {"decoder": self.config.decoder}

    def said(self) -> str:
        """Return the decoder's name."""
        return f"{self.config.decoder} decoder"


class MixLearner:
    """An encoder and the objectives of a recipe (see `Learner`)."""

    score = "dev_loss"
    reported = ("train_loss", "dev_loss", "train_losses", "dev_losses")

    def __init__(self, config: PretrainConfig, frontend: Any, provenance: dict[str, Any]) -> None:
        self.config = config
        columns = tuple(getattr(frontend, "columns", ()) or (f"mel_{band:03d}" for band in range(frontend.n_bands)))
        self.augment = augmentation_for(frontend, columns, **{name: getattr(config, name) for name in AUGMENTATION})
        names = ("inputs", "hidden_size", "n_layers", "bidirectional", "dropout", "pooling", "pooling_layers", "init")
        encoder = GruEncoder(
            GruEncoderConfig(
                columns=columns,
                frontend={**config.frontend_table(), "convention": dict(frontend.convention())},
                objectives=config.objectives,
                provenance=provenance,
                **{name: getattr(config, name) for name in names},
            )
        )
        # after the encoder, so that its weights do not depend on what it is trained on
        objectives = build_objectives(config.objectives, task_of(encoder.config, frontend.frame_shift_s))
        self.module = Mix(encoder, objectives)
        check_attention_is_read(self.module)
        self.exported = encoder

    def calibrate(self, pieces: Pieces, batch_size: int, device: torch.device) -> None:
        """Measure the constants of frames and of targets on pieces of training speech."""
        first_window = [int(i) for batch in pieces.in_order(batch_size)[0] for i in batch]
        step = max(1, math.ceil(len(first_window) / CALIBRATION_PIECES))
        chosen = first_window[::step]
        batches = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        self.module.calibrate([pieces.batch(batch, device) for batch in batches], self.config.standardise)

    def update(
        self,
        accelerator: Any,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        frames: Tensor,
        lengths: Tensor,
        *,
        precision: str,
        share: float,
        progress: float,
        draw: Draw,
    ) -> tuple[float, dict[str, float]]:
        """Make one update of the weighted sum; the loss of several processes is the mean weighted by their pieces."""
        optimizer.zero_grad(set_to_none=True)
        frames, lengths = self.augment(frames, lengths, draw("augment"))
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=precision == "bf16"):
            losses = model(frames, lengths, progress, draw("corrupt"))
        total = self.module.total(losses)
        values = torch.stack([total, *losses.values()]).detach() * share
        if accelerator.num_processes > 1:
            values = accelerator.reduce(values, reduction="sum")
        loss, *each = values.tolist()
        if all(map(math.isfinite, (loss, *each))):
            (total * (share * accelerator.num_processes)).backward()
            nn.utils.clip_grad_value_(model.parameters(), self.config.clip_value)
            optimizer.step()
        else:
            loss = math.nan
        return loss, {"updates": 1.0, "loss": loss, **dict(zip(losses, each, strict=True))}

    def figures(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Return ``train_loss`` and ``train_losses`` by name, means over the updates."""
        means = {name: value / sums["updates"] for name, value in sums.items() if name != "updates"}
        return {"train_loss": means.pop("loss"), "train_losses": means}

    @torch.no_grad()
    def held_out(self, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return ``dev_loss`` and ``dev_losses`` by name, means over the pieces; spans are hidden at the same places always."""
        self.module.eval()
        sums: dict[str, float] = {}
        count = 0
        for number, indices in enumerate(_batches(pieces, batch_size)):
            draw = torch.Generator().manual_seed(number)
            losses = self.module(*pieces.batch(indices, device), 1.0, draw)
            losses["loss"] = self.module.total(losses)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(indices)
            count += len(indices)
        means = {name: value / count for name, value in sums.items()}
        return {"dev_loss": means.pop("loss"), "dev_losses": means}

    def diagnose(self, pieces: Pieces, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return the objectives."""
        return {"objectives": list(self.config.objectives)}

    def said(self) -> str:
        """Return names and weights of the objectives."""
        return " + ".join(f"{weight:g} {name}" for name, weight in self.module.weights.items())


def _batches(pieces: Pieces, batch_size: int) -> Iterator[Any]:
    for window in pieces.in_order(batch_size):
        yield from window


def make_learner(config: PretrainConfig, frontend: Any, provenance: dict[str, Any]) -> Learner:
    """Return what a recipe wants trained: with objectives an encoder, else the paper's autoencoder."""
    kind = MixLearner if config.objectives else AutoencoderLearner
    return kind(config, frontend, provenance)
