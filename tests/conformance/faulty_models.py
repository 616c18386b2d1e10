"""Models that break one rule each."""

import random
from itertools import count

import numpy as np
import torch
from faults import fault
from pydantic import ConfigDict
from reference_models import Centroids, PerCorpus, Pooled, Segmented, Siblings
from torch import nn

from repkit import api

GROUP = "repkit.models"


@fault(GROUP, "builds")
class NeedsMore(Pooled):
    def __init__(self, config, task, device):
        super().__init__(config, task)


@fault(GROUP, "settings_are_a_config")
class Thawed(Pooled):
    class Config(Pooled.Config):
        model_config = ConfigDict(frozen=False)


@fault(GROUP, "settings_are_a_config")
class Tolerant(Pooled):
    class Config(Pooled.Config):
        model_config = ConfigDict(extra="ignore")


@fault(GROUP, "every_setting_has_a_default", hidden=8)
class Demanding(Pooled):
    class Config(Pooled.Config):
        hidden: int


@fault(GROUP, "api_version_fits")
class FromTheFuture(Pooled):
    api_version = (api.API_VERSION[0] + 1, 0)


@fault(GROUP, "capabilities_are_known")
class Misspelt(Pooled):
    capabilities = frozenset({"vectors", "states", "padding_sensitiv"})


@fault(GROUP, "capabilities_are_known")
class Changeable(Pooled):
    capabilities = set(Pooled.capabilities)


@fault(GROUP, "capabilities_are_known")
class OfTwoMinds(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.capabilities = frozenset({"vectors", "states", "padding_sensitive"})


@fault(GROUP, "logits_of_every_view")
class Doubled(Pooled):
    def forward(self, batch):
        outputs = super().forward(batch)
        return api.Outputs({view: logits.double() for view, logits in outputs.logits.items()}, outputs.shared)


@fault(GROUP, "logits_of_every_view")
class OneView(Pooled):
    def forward(self, batch):
        outputs = super().forward(batch)
        emotion = outputs.logits["emotion"] + outputs.logits["arousal"].sum(1, keepdim=True)
        emotion = emotion * torch.arange(1, 5)  # so that the sum counts in a softmax
        return api.Outputs({"emotion": emotion}, outputs.shared)


@fault(GROUP, "shared_is_a_vector_per_item")
class Deep(Pooled):
    def forward(self, batch):
        outputs = super().forward(batch)
        return api.Outputs(outputs.logits, outputs.shared[..., None])


@fault(GROUP, "padding_changes_nothing")
class Unmasked(Pooled):
    def pooled(self, batch):
        return batch.frames.mean(1)


@fault(GROUP, "batch_order_changes_nothing")
class Ranked(Pooled):
    capabilities = frozenset({"vectors", "states", "padding_sensitive"})

    def shared(self, batch):
        return super().shared(batch) + torch.arange(len(batch.ids))[:, None] / 10


@fault(GROUP, "a_single_frame_is_enough")
class Unbiased(Pooled):
    def pooled(self, batch):
        return (batch.frames * batch.mask[..., None]).sum(1) / (batch.lengths[:, None] - 1)


@fault(GROUP, "evaluation_is_deterministic", also=("weights_survive_saving",))
class Drifting(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.calls = count()

    def shared(self, batch):
        return super().shared(batch) + 1e-6 * next(self.calls)


@fault(GROUP, "evaluation_leaves_the_generators_alone")
class Rolling(Pooled):
    def shared(self, batch):
        np.random.rand()
        return super().shared(batch)


@fault(GROUP, "evaluation_leaves_the_state_alone")
class Counting(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.register_buffer("seen", torch.zeros(()))

    def shared(self, batch):
        self.seen += len(batch.ids)
        return super().shared(batch)


@fault(GROUP, "weights_survive_saving")
class Unregistered(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.scale = 0.5 + torch.rand(())

    def shared(self, batch):
        return self.scale * super().shared(batch)


@fault(GROUP, "every_parameter_gets_a_gradient")
class Idle(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.spare = nn.Linear(3, 3)


@fault(GROUP, "parameter_groups_cover_everything_once")
class Headless(Pooled):
    def parameter_groups(self):
        return {"shared": super().parameter_groups()["shared"]}


@fault(GROUP, "parameter_groups_cover_everything_once")
class Twice(Pooled):
    def parameter_groups(self):
        groups = super().parameter_groups()
        return {**groups, "norm": groups["head"]}


@fault(GROUP, "parameter_groups_cover_everything_once")
class Renamed(Pooled):
    def parameter_groups(self):
        return {"heads": list(self.parameters())}


@fault(GROUP, "the_same_seed_gives_the_same_training")
class Dice(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        nn.init.constant_(self.hidden.bias, random.random())


@fault(GROUP, "training_steps_work")
class Numb(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        for parameter in self.parameters():
            parameter.register_hook(lambda gradient: gradient * 1e-20)


@fault(GROUP, "a_batch_of_one_can_be_trained_on")
class Normed(Pooled):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.norm = nn.BatchNorm1d(config.hidden)

    def shared(self, batch):
        return self.norm(super().shared(batch))


@fault(GROUP, "declared_vectors_are_read")
class DeafToVectors(Pooled):
    def inputs(self, batch):
        if batch.vectors is not None:
            batch.vectors = torch.ones_like(batch.vectors)
        return super().inputs(batch)


@fault(GROUP, "declared_states_are_read")
class DeafToStates(Pooled):
    def inputs(self, batch):
        if batch.states is not None:
            batch.states = torch.ones_like(batch.states)
            batch.state_lengths = torch.full_like(batch.lengths, batch.states.shape[1])
        return super().inputs(batch)


@fault(GROUP, "undeclared_inputs_are_not_read")
class Secretive(Pooled):
    capabilities = frozenset()


@fault(GROUP, "segments_of_any_length_work")
class OneLength(Segmented):
    def width(self):
        return self.task.n_bands * 32


@fault(GROUP, "segments_of_any_length_work")
class OnlyWholeOnes(Segmented):
    def inputs(self, batch):
        if (batch.lengths < 24).any():
            raise ValueError("a segment is too short")
        return super().inputs(batch)


@fault(GROUP, "corpora_are_read")
class OneForAll(PerCorpus):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.parts = nn.ModuleDict({"all": self.parts[self.names[0]]})

    def part_of(self, number):
        return self.parts["all"]

    def forward(self, batch):
        outputs = super().forward(api.Batch(**{**_fields(batch), "corpora": torch.zeros_like(batch.corpora)}))
        if batch.route is not None:
            return outputs
        # the same logits, with the classes ruled out that each corpus lacks
        for row, number in enumerate(batch.corpora.tolist()):
            for view in self.own:
                lacks = [
                    i for i in range(len(self.task.views[view])) if i not in self.columns[self.names[number]][view]
                ]
                outputs.logits[view] = outputs.logits[view].index_put(
                    (torch.tensor([row]), torch.tensor(lacks, dtype=torch.int64)), torch.tensor(-1e30)
                )
        return outputs

    def copy_parts(self, source, target):
        """There is but one part."""


def _fields(batch):
    return {name: getattr(batch, name) for name in batch.__dataclass_fields__}


@fault(GROUP, "absent_classes_are_ruled_out")
class AllOpen(PerCorpus):
    def absent(self):
        return 0.0


class Stacked(PerCorpus):
    """A vector per corpus, all of them rows of one parameter."""

    def __init__(self, config, task):
        super().__init__(config, task)
        self.rows = nn.Parameter(0.1 * torch.randn(len(self.names), config.hidden))

    def represent(self, hidden, number):
        return super().represent(hidden, number) + self.rows[number]

    def parameter_groups(self):
        groups = super().parameter_groups()
        return {**groups, "adapter": [*groups["adapter"], self.rows]}

    def copy_parts(self, source, target):
        super().copy_parts(source, target)
        with torch.no_grad():
            self.rows[self.names.index(target)] = self.rows[self.names.index(source)]


fault(GROUP, "other_corpora_stay_as_they_are")(Stacked)


@fault(GROUP, "other_corpora_stay_as_they_are")
class OneMean(PerCorpus):
    """Running statistics that all corpora share."""

    def __init__(self, config, task):
        super().__init__(config, task)
        self.register_buffer("mean", torch.zeros(config.hidden))

    def represent(self, hidden, number):
        if self.training:
            self.mean.lerp_(hidden.detach().mean(0), 0.1)
        return super().represent(hidden - self.mean, number)


@fault(GROUP, "parts_can_be_copied")
class Backwards(PerCorpus):
    def copy_parts(self, source, target):
        super().copy_parts(target, source)


@fault(GROUP, "parts_can_be_copied")
class WithoutStatistics(PerCorpus):
    def copy_parts(self, source, target):
        with torch.no_grad():
            for name, value in self.parts[source].named_parameters():
                if not name.startswith("heads."):
                    self.parts[target].get_parameter(name).copy_(value)


@fault(GROUP, "a_route_is_common_to_all_corpora")
class Mixed(PerCorpus):
    def by_route(self, hidden, batch):
        outputs = super().by_route(hidden, batch)
        extra = torch.stack([self.part_of(number).norm.running_mean for number in batch.corpora.tolist()])
        return api.Outputs(outputs.logits, outputs.shared + extra)


@fault(GROUP, "candidates_are_settings_to_choose_from")
class Undecided(Centroids):
    def candidates(self):
        return [{"shrink": 1.0}, {"shrink": 1.0}]


@fault(GROUP, "fitting_again_forgets")
class Remembering(Centroids):
    def fit(self, view, known, candidate, seed):
        old = getattr(self, f"means_{view}")
        super().fit(view, known, candidate, seed)
        new = getattr(self, f"means_{view}")
        setattr(self, f"means_{view}", 0.9 * new + 0.1 * old)


@fault(GROUP, "fitting_again_forgets")
class InPlace(Centroids):
    def fit(self, view, known, candidate, seed):
        super().fit(view, known, candidate, seed)
        known.values.mul_(0.5)


@fault(GROUP, "dense_batches_give_the_same")
class OtherwiseDense(Siblings):
    def pooled(self, batch):
        mean = super().pooled(batch)
        return mean * 1.01 if batch.dense else mean


@fault(GROUP, "siblings_do_not_disturb_each_other")
class DrawsByTorch(Siblings):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.dropout = nn.Dropout(config.dropout)


@fault(GROUP, "siblings_do_not_disturb_each_other")
class AsksForANumber(Siblings):
    def pooled(self, batch):
        return super().pooled(batch) * (1.0 if int(batch.lengths.max()) > 0 else 2.0)


@fault(GROUP, "siblings_do_not_disturb_each_other")
class Counts(Siblings):
    """Its buffer moves with every training batch."""

    def __init__(self, config, task):
        super().__init__(config, task)
        self.register_buffer("seen", torch.zeros(()))

    def shared(self, batch):
        if self.training:
            self.seen += 1
        return super().shared(batch)
