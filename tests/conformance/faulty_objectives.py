"""Objectives that break one rule each."""

import numpy as np
import torch
from faults import fault
from reference_objectives import Centres, CrossEntropy, Diagnosed, Domains, Measured, Siblings
from torch import nn
from torch.nn.functional import cross_entropy

from repkit import api

GROUP = "repkit.objectives"


@fault(GROUP, "losses_are_named_finite_scalars")
class Double(CrossEntropy):
    def mean(self, *given):
        return super().mean(*given).double()


@fault(GROUP, "losses_are_named_finite_scalars")
class BrokenWeights(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        loss = super().mean(logits, target, batch, progress)
        return loss if batch.weights is None else loss / (batch.weights.sum() * 0)


@fault(GROUP, "settings_are_a_config")
class OwnWeight(CrossEntropy):
    class Config(CrossEntropy.Config):
        weight: float = 0.5  # in a recipe the weight of the whole objective


@fault(GROUP, "missing_labels_count_nothing")
class OverTheBatch(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        return cross_entropy(logits, target, ignore_index=api.MISSING, reduction="sum") / len(target)


@fault(
    GROUP,
    "missing_labels_count_nothing",
    also=("a_batch_without_labels_is_harmless",),
)
class FirstClass(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        return cross_entropy(logits, target.clamp(min=0))


@fault(GROUP, "a_batch_without_labels_is_harmless")
class PlainMean(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        return cross_entropy(logits, target, ignore_index=api.MISSING)


@fault(GROUP, "a_batch_without_labels_is_harmless")
class Constant(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        if (target == api.MISSING).all():
            return torch.tensor(0.0)
        return super().mean(logits, target, batch, progress)


@fault(GROUP, "absent_classes_are_harmless")
class Smoothed(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        known = target != api.MISSING
        each = cross_entropy(logits[known], target[known], label_smoothing=0.1, reduction="sum")
        return each / known.sum().clamp(min=1)


@fault(GROUP, "gradients_reach_the_model")
class Weightless(CrossEntropy):
    def mean(self, *given):
        return super().mean(*given) * 0.0


@fault(GROUP, "own_parameters_are_trained")
class Spare(CrossEntropy):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.spare = nn.Linear(2, 2)


@fault(GROUP, "the_same_seed_gives_the_same_losses")
class Noisy(CrossEntropy):
    def mean(self, *given):
        return super().mean(*given) * (1 + 5e-6 * np.random.rand())


@fault(GROUP, "the_same_seed_gives_the_same_losses")
class AlwaysTraining(CrossEntropy):
    def mean(self, *given):
        return super().mean(*given) * (1 + 5e-6 * torch.rand(()))


@fault(GROUP, "progress_runs_from_start_to_end")
class Ramp(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        return super().mean(logits, target, batch, progress) * torch.log(torch.tensor(progress)).abs()


@fault(GROUP, "a_task_of_one_view_is_enough")
class EmotionOnly(CrossEntropy):
    def forward(self, outputs, batch, progress):
        outputs.logits["emotion"]
        return super().forward(outputs, batch, progress)


@fault(GROUP, "outputs_and_batch_are_left_alone")
class Scribbling(CrossEntropy):
    def mean(self, logits, target, batch, progress):
        batch.frames.mul_(0.5)
        return super().mean(logits, target, batch, progress)


@fault(GROUP, "domains_are_known")
class Misnamed(Domains):
    @staticmethod
    def domains(config):
        return ("gender", "speakers")


@fault(GROUP, "absent_domains_are_left_out")
class Insisting(Domains):
    def forward(self, outputs, batch, progress):
        batch.domains["gender"]
        return super().forward(outputs, batch, progress)


@fault(GROUP, "measures_are_finite_numbers")
class Vectors(Measured):
    def measure(self, outputs, batch, progress):
        return {"size": outputs.shared.norm(dim=1)}


@fault(GROUP, "measures_are_finite_numbers")
class NotANumber(Measured):
    def measure(self, outputs, batch, progress):
        return {"size": float("nan")}


@fault(GROUP, "updates_leave_parameters_alone")
class Pushing(Centres):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs, batch, progress):
        return {view: self.scale * loss for view, loss in super().forward(outputs, batch, progress).items()}

    def update(self, outputs, batch):
        super().update(outputs, batch)
        self.scale.mul_(0.9)


@fault(GROUP, "updates_leave_parameters_alone")
class LearningFromAll(Centres):
    def update(self, outputs, batch):
        super().update(outputs, batch)
        for view in self.task.views:
            self.get_buffer(f"centres_{view}")[-1].lerp_(outputs.shared.mean(0), 0.5)


@fault(GROUP, "diagnoses_are_sentences")
class Verdict(Diagnosed):
    def diagnose(self, figures):
        return figures.get("size", 0.0) > 1.0


@fault(GROUP, "diagnoses_are_sentences")
class Presuming(Diagnosed):
    def diagnose(self, figures):
        return "the shared vector is large" if figures["size"] > 1.0 else None


@fault(GROUP, "capabilities_of_objectives_are_known")
class Misspelt(CrossEntropy):
    capabilities = frozenset({"bached"})


@fault(GROUP, "capabilities_of_objectives_are_known")
class BatchedAndMeasured(Siblings):
    def measure(self, outputs, batch, progress):
        return {"size": outputs.shared.norm(dim=1).mean()}


@fault(GROUP, "objectives_do_not_disturb_each_other")
class AsksHowFar(Siblings):
    def mean(self, logits, target, batch, progress):
        return super().mean(logits, target, batch, progress) * (1.0 + 0.0 * float(progress))
