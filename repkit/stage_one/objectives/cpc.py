"""Contrastive predictive coding: tell the frame some steps ahead from the others of the utterance.

Source: van den Oord, Li and Vinyals, "Representation learning with contrastive predictive coding", 2018, sections 2.2 and
2.3: one linear prediction per step from the context, scored against the true latent and negatives, InfoNCE. What differs: the
latent is a network of two layers on one frame of the frontend, not a convolution over samples, so that it shares no sample with
other frames than the windows do; scores are cosines over a temperature (after wav2vec 2.0, Baevski et al. 2020); the negatives
are all other frames of the utterance instead of a sample, and, by option, frames of others. Steps at which the windows of state
and target overlap are refused: such a step leaks its answer (prototype: solved in a minute, of no use).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from repkit import api
from repkit.stage_one.objectives.parts import chosen_columns, masked_mean, need_causal_states

NEVER = -1e4
"""Score of what is no candidate; its exponential is 0."""


class Cpc(nn.Module):
    """InfoNCE over steps ahead, negatives within the utterance (group ``repkit.pretraining``)."""

    class Config(api.Config):
        """Settings.

        Attributes:
            steps: frames ahead that are predicted, each by a linear map of its own; the loss is their mean.
            size: width of the latents.
            temperature: cosines are divided by it.
            others: further negatives, drawn from the other utterances of the batch for all predictions together.
            least_s: smallest distance in seconds that may be predicted: window plus shift, so that nothing overlaps.
        """

        steps: tuple[Annotated[int, Field(ge=1)], ...] = Field((3, 6), min_length=1)
        size: int = Field(128, ge=1)
        temperature: float = Field(0.1, gt=0)
        others: int = Field(0, ge=0)
        least_s: float = Field(0.12, ge=0)

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        need_causal_states(task, "cpc")
        if min(config.steps) * task.frame_shift_s < config.least_s - 1e-9:
            raise api.UsageError(
                f"objective cpc: step {min(config.steps)} is {min(config.steps) * task.frame_shift_s:.3f} s ahead, where windows "
                f"may overlap; at least least_s = {config.least_s} s was expected; use larger steps, or another least_s for "
                "shorter windows"
            )
        self.config = config
        self.columns = chosen_columns(task, "mel")
        self.local = nn.Sequential(
            nn.Linear(len(self.columns), 2 * config.size), nn.ReLU(), nn.Linear(2 * config.size, config.size)
        )
        self.predictions = nn.ModuleList(nn.Linear(task.layer_sizes[-1], config.size, bias=False) for _ in config.steps)

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, Tensor]:
        """Return ``infonce``: minus the log probability of the true frame among the candidates, in nats."""
        mask, n_frames = batch.mask, batch.frames.shape[1]
        latents = functional.normalize(self.local(batch.frames[..., self.columns]).float(), dim=-1)  # (B, T, d)
        foreign, whose = self._foreign(latents, mask)
        losses = []
        for step, predict in zip(self.config.steps, self.predictions, strict=True):
            predicted = functional.normalize(predict(states.layers[-1][:, :-step]).float(), dim=-1)  # (B, T - step, d)
            scores = predicted @ latents.transpose(1, 2) / self.config.temperature
            scores = scores.masked_fill(~mask[:, None, :], NEVER)
            if foreign is not None:
                further = predicted @ foreign.t() / self.config.temperature
                own = whose[None, :] == torch.arange(len(mask), device=mask.device)[:, None]
                scores = torch.cat([scores, further.masked_fill(own[:, None, :], NEVER)], dim=-1)
            target = torch.arange(step, max(n_frames, step), device=mask.device).expand(len(mask), -1)
            each = functional.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none")
            losses.append(masked_mean(each.view_as(target), mask[:, step:]))
        return {"infonce": torch.stack(losses).mean()}

    def _foreign(self, latents: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return latents (M, d) of frames of the batch and the utterance (M,) each is of; evenly spread in evaluation."""
        rows, steps = mask.nonzero(as_tuple=True)
        if not self.config.others:
            return None, rows
        if self.training:
            drawn = torch.randint(len(rows), (self.config.others,), device=rows.device)
        else:
            drawn = torch.arange(self.config.others, device=rows.device) * len(rows) // self.config.others
        return latents[rows[drawn], steps[drawn]], rows[drawn]
