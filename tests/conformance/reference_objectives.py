"""Small objectives that keep every rule; the faulty ones are derived from them."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from repkit import api


class CrossEntropy(nn.Module):
    """Mean cross-entropy of each view over the items that have its label."""

    class Config(api.Config):
        scale: float = 1.0

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task

    def mean(self, logits, target, batch, progress):
        known = target != api.MISSING
        each = cross_entropy(logits[known], target[known], reduction="none")
        weights = torch.ones_like(each) if batch.weights is None else batch.weights[known]
        return self.config.scale * (each * weights).sum() / weights.sum().clamp(min=1e-12)

    def forward(self, outputs, batch, progress):
        return {
            view: self.mean(logits, batch.targets[view], batch, progress) for view, logits in outputs.logits.items()
        }


class Siblings(CrossEntropy):
    """The same for many models at once."""

    capabilities = frozenset({"batched"})

    def mean(self, logits, target, batch, progress):
        each = cross_entropy(logits, target, ignore_index=api.MISSING, reduction="none")
        known = (target != api.MISSING).float()
        weights = known if batch.weights is None else known * batch.weights
        return self.config.scale * (each * weights).sum() / weights.sum().clamp(min=1e-12)


class Measured(CrossEntropy):
    """The same with a figure for the log."""

    def measure(self, outputs, batch, progress):
        return {"size": outputs.shared.norm(dim=1).mean()}


class Diagnosed(Measured):
    """The same, and a remark on the figures."""

    def diagnose(self, figures):
        return "the shared vector is large" if figures.get("size", 0.0) > 1.0 else None


class Domains(nn.Module):
    """A linear head for every domain that the task has."""

    class Config(api.Config):
        pass

    def __init__(self, config, task):
        super().__init__()
        self.task = task
        self.heads = nn.ModuleDict({name: nn.Linear(task.shared_dim, n) for name, n in task.domains.items()})

    @staticmethod
    def domains(config):
        return ("gender", "speaker")

    def forward(self, outputs, batch, progress):
        losses = {}
        for name in self.task.domains:
            known = batch.domains[name] != api.MISSING
            each = cross_entropy(self.heads[name](outputs.shared[known]), batch.domains[name][known], reduction="sum")
            losses[name] = each / known.sum().clamp(min=1)
        return losses


class Centres(nn.Module):
    """Distance to running centres of the classes of every view."""

    class Config(api.Config):
        rate: float = 0.5

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        for view, names in task.views.items():
            self.register_buffer(f"centres_{view}", torch.zeros(len(names), task.shared_dim))

    def forward(self, outputs, batch, progress):
        losses = {}
        for view in self.task.views:
            known = batch.targets[view] != api.MISSING
            centres = self.get_buffer(f"centres_{view}")[batch.targets[view][known]]
            losses[view] = (outputs.shared[known] - centres).square().sum() / known.sum().clamp(min=1)
        return losses

    def update(self, outputs, batch):
        for view, names in self.task.views.items():
            for index in range(len(names)):
                own = outputs.shared[batch.targets[view] == index]
                if len(own):
                    self.get_buffer(f"centres_{view}")[index].lerp_(own.mean(0), self.config.rate)
