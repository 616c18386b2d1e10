"""Domain-adversarial training: heads that tell domains apart, behind a layer that reverses their gradient.

Paper: Y. Gao, S. Okada, L. Wang, J. Liu, J. Dang, "Domain-invariant feature learning for cross corpus speech emotion
recognition", ICASSP 2022: L = L_E + gamma L_D with gamma = -0.3, L_D the plain sum over the domains. The layer and the
schedule: Y. Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016. The heads' sizes (one hidden
layer of 64 ReLU) are reconstructed.

The paper's formula must not be taken literally: with -0.3 in front of L_D the heads themselves would be trained to fail.
Here they minimise their own cross-entropy at full strength and only what flows on to the extractor is times -0.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from repkit import api
from repkit_dann.figures import ChanceWatch, collapsed, recall_figures, spread_of, view_figures

Domain = Literal["speaker", "corpus", "language", "gender"]

PRESETS: dict[str, tuple[Domain, ...]] = {
    "dann_1": ("speaker", "corpus"),
    "dann_2": ("gender", "language", "corpus"),
}
"""The paper's two sets of domains."""


class GradientReversal(torch.autograd.Function):
    """Identity forwards; the gradient times minus a scale backwards (Ganin et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, scale: float) -> torch.Tensor:
        """Return the values unchanged."""
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the reversed gradient."""
        return -ctx.scale * gradient, None


def domain_head(width: int, hidden_units: int, n_classes: int) -> nn.Sequential:
    """Return a linear map from vectors (B, width) to hidden ReLU units, and one to the logits of a domain."""
    head = nn.Sequential(nn.Linear(width, hidden_units), nn.ReLU(), nn.Linear(hidden_units, n_classes))
    for layer in (head[0], head[2]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return head


class DomainAdversarial(nn.Module):
    """One cross-entropy per domain on the shared vector, reversed on its way to the extractor.

    Every domain's loss is the mean over the items whose domain is known; class weights are those of emotions and do not
    count here. Domains that the task lacks, because all of a fold's training audio has one class of them, are left out.
    When none is left the loss is zero and `diagnose` says so. A recipe's ``weight`` of this objective scales the heads'
    learning too; ``scale`` is the paper's gamma. ``scale = 0`` makes the heads mere observers.
    """

    class Config(api.Config):
        """Settings; the defaults are the paper's DANN_2."""

        preset: Literal["dann_1", "dann_2"] | None = Field(
            default=None,
            description="dann_1: speaker, corpus; dann_2: gender, language, corpus; dann_2 when domains is empty",
        )
        domains: tuple[Domain, ...] = Field(default=(), description="domains to tell apart, instead of a preset's")
        scale: float = Field(default=0.3, ge=0, description="strength of the reversed gradient; the paper's -gamma")
        schedule: Literal["constant", "dann"] = Field(
            default="constant", description="dann: scale (2 / (1 + exp(-10 p)) - 1), p the progress of training"
        )
        head_weights: dict[Domain, float] = Field(default_factory=dict, description="factor of a domain's loss, else 1")
        hidden_units: int = Field(default=64, ge=1)

        @model_validator(mode="after")
        def _fits(self) -> DomainAdversarial.Config:
            if self.preset and self.domains:
                raise ValueError(f"preset {self.preset!r} and domains {list(self.domains)}: one of them is expected")
            if len(set(self.domains)) != len(self.domains):
                raise ValueError(f"domains {list(self.domains)}: each is expected once")
            wrong = [name for name in self.head_weights if name not in self.chosen]
            if wrong or any(weight < 0 for weight in self.head_weights.values()):
                raise ValueError(
                    f"head_weights {self.head_weights}: weights of at least 0 for some of {list(self.chosen)} are expected"
                )
            return self

        @property
        def chosen(self) -> tuple[Domain, ...]:
            """The domains in force."""
            return self.domains or PRESETS[self.preset or "dann_2"]

    @staticmethod
    def domains(config: Config) -> tuple[str, ...]:
        """Return the domains whose classes must stand in the batches."""
        return config.chosen

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config = config
        self.view = next(iter(task.views))
        self.heads = nn.ModuleDict(
            {
                name: domain_head(task.shared_dim, config.hidden_units, task.domains[name])
                for name in config.chosen
                if task.domains.get(name, 0) > 1
            }
        )
        self._watch = ChanceWatch(self.view)

    def strength(self, progress: float) -> float:
        """Return the factor of the reversed gradient at a progress from 0 to 1 (Ganin et al. 2016, section 5.2.2)."""
        if self.config.schedule == "constant":
            return self.config.scale
        return self.config.scale * (2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0)

    def forward(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, torch.Tensor]:
        """Return one scalar per domain; ``none``, which is zero, where the task has no domain."""
        if not self.heads:
            return {"none": outputs.shared.sum() * 0.0}
        reversed_ = GradientReversal.apply(outputs.shared, self.strength(progress))
        losses = {}
        for name, head in self.heads.items():
            target = batch.domains[name]
            each = F.cross_entropy(head(reversed_), target, ignore_index=api.MISSING, reduction="none")  # 0 if missing
            mean = each.sum() / (target != api.MISSING).sum().clamp(min=1)
            losses[name] = self.config.head_weights.get(name, 1.0) * mean
        return losses

    def measure(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, float | torch.Tensor]:
        """Return what the heads and the first view get right in a batch, and the spread of the shared vector.

        A domain's ``chance`` is 1 over its classes; the view's is 1 over the classes with an item in the batch, which a
        model that always says the same reaches. What a batch has no labels for is left out.
        """
        figures: dict[str, float | torch.Tensor] = {"gradient_scale": self.strength(progress)}
        figures |= spread_of(outputs.shared)
        figures |= view_figures(self.view, outputs.logits[self.view], batch.targets[self.view])
        for name, head in self.heads.items():
            logits = head(outputs.shared)
            seen = recall_figures(logits, batch.domains[name])
            if seen is not None:
                figures[f"{name}_accuracy"], figures[f"{name}_balanced_accuracy"] = seen[:2]
                figures[f"{name}_chance"] = 1.0 / logits.shape[1]
        return figures

    def diagnose(self, figures: Mapping[str, float]) -> str | None:
        """Return a warning of a training without any domain, of a collapsed vector, or of a first view not learnt."""
        at_chance = self._watch.warns(figures)
        if not self.heads:
            return (
                f"no domain of {', '.join(self.config.chosen)} has two classes in this fold's training audio, so nothing "
                'is adversarial; add corpora, set target_audio = "test", or choose other domains'
            )
        said = ["all items have nearly the same shared vector"] if collapsed(figures) else []
        said += [str(self._watch)] if at_chance else []
        if not said:
            return None
        return (
            f'collapse: {" and ".join(said)}; lower the objective\'s scale, set schedule = "dann", or lower the weight of '
            "a centre loss beside it"
        )
