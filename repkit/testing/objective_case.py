"""An objective of stage two under test, and what it is shown for the checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from repkit.api import DOMAINS, MISSING, OBJECTIVE_CAPABILITIES, Batch, Outputs, TaskSpec
from repkit.testing.kit import Broken, Case, case
from repkit.testing.material import make_batch, make_task

GROUP = "repkit.objectives"
WIDTH = 8
OPTIONAL = ("domains", "measure", "update", "diagnose")
PROGRESS = 0.5


@case(GROUP)
class ObjectiveCase(Case):
    """An objective with a task of the domains it asks for.

    Args:
        component: the class.
        settings: of its Config.
        name: for messages.
        width: H of the shared vectors that it is shown.
    """

    def __init__(self, component: Any, settings: Mapping[str, Any], name: str, width: int = WIDTH) -> None:
        super().__init__(component, settings, name)
        self.width = width

    @property
    def traits(self) -> frozenset[str]:
        """The optional methods that the class has, and its capabilities."""
        stated = getattr(self.component, "capabilities", frozenset())
        known = frozenset(stated) & set(OBJECTIVE_CAPABILITIES) if isinstance(stated, frozenset | set) else frozenset()
        return known | {name for name in OPTIONAL if callable(getattr(self.component, name, None))}

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The domains it asks for."""
        return tuple(self.component.domains(self.config)) if "domains" in self.traits else ()

    def task(self, domains: bool = True, **changes: Any) -> TaskSpec:
        """Return a task; three speakers, two classes of every other domain that is asked for and known."""
        known = [name for name in self.wanted if name in DOMAINS] if domains else []
        sizes = {name: 3 if name == "speaker" else 2 for name in known}
        return make_task(**{"domains": sizes, "shared_dim": self.width, **changes})

    def make(self) -> nn.Module:
        """Return a fresh objective in training mode."""
        task = self.task()
        found = self.build(task)
        if not isinstance(found, nn.Module):
            raise Broken(f"{self.name}(config, task) is a {type(found).__name__}", "derive it from torch.nn.Module")
        return found

    def build(self, task: TaskSpec, seed: int = 0) -> Any:
        """Return a fresh objective after one pass without gradient, as the engine makes before any training."""
        torch.manual_seed(seed)
        objective = self.component(self.config, task)
        if isinstance(objective, nn.Module):
            batch = make_batch(task)
            with torch.no_grad():
                objective(self.outputs(task, batch), batch, 0.0)
            objective.train()
        return objective

    def outputs(self, task: TaskSpec, batch: Batch, seed: int = 0) -> Outputs:
        """Return made-up outputs of a model for a batch; leaves that collect gradients."""
        generator = torch.Generator().manual_seed(seed)
        size = len(batch.ids)
        logits = {view: torch.randn(size, len(names), generator=generator) for view, names in task.views.items()}
        shared = torch.randn(size, self.width, generator=generator)
        return Outputs({view: values.requires_grad_() for view, values in logits.items()}, shared.requires_grad_())

    def scene(self) -> tuple[TaskSpec, nn.Module, Batch, Outputs]:
        """Return a task, a fresh objective, a batch, and outputs for it."""
        task = self.task()
        batch = make_batch(task)
        return task, self.build(task), batch, self.outputs(task, batch)


def losses_of(objective: nn.Module, outputs: Outputs, batch: Batch, progress: float = PROGRESS) -> dict[str, Any]:
    """Return the losses, always drawn with the same seed."""
    torch.manual_seed(7)
    return dict(objective(outputs, batch, progress))


def without_labels(batch: Batch, rows: list[int] | None = None) -> Batch:
    """Return the batch with every target and domain of some items (all by default) missing."""
    place = torch.zeros(len(batch.ids), dtype=torch.bool)
    place[rows if rows is not None else slice(None)] = True
    return replace(
        batch,
        targets={view: target.masked_fill(place, MISSING) for view, target in batch.targets.items()},
        domains={name: domain.masked_fill(place, MISSING) for name, domain in batch.domains.items()},
    )
