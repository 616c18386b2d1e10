"""Small models that keep every rule; the faulty ones are derived from them."""

import torch
from torch import nn

from repkit import api


class Pooled(nn.Module):
    """One hidden layer on the mean frame and whatever embedding there is."""

    capabilities = frozenset({"vectors", "states"})

    class Config(api.Config):
        hidden: int = 8
        dropout: float = 0.2

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.hidden = nn.Linear(self.width(), config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleDict({view: nn.Linear(config.hidden, len(c)) for view, c in task.views.items()})

    def width(self):
        return self.task.n_bands + self.task.vector_dim + self.task.state_dim

    def pooled(self, batch):
        return (batch.frames * batch.mask[..., None]).sum(1) / batch.lengths[:, None]

    def inputs(self, batch):
        parts = [self.pooled(batch)]
        if batch.vectors is not None:
            parts.append(batch.vectors)
        if batch.states is not None:
            parts.append(batch.states.sum(1) / batch.state_lengths[:, None])
        return torch.cat(parts, dim=1)

    def shared(self, batch):
        return torch.tanh(self.hidden(self.inputs(batch)))

    def forward(self, batch):
        shared = self.shared(batch)
        dropped = self.dropout(shared)
        return api.Outputs({view: head(dropped) for view, head in self.heads.items()}, shared)

    def parameter_groups(self):
        heads = list(self.heads.parameters())
        known = {id(p) for p in heads}
        return {"shared": [p for p in self.parameters() if id(p) not in known], "head": heads}


class Siblings(Pooled):
    """The same, made to be one of many in a program."""

    capabilities = frozenset({"vectors", "states", "batched"})

    def __init__(self, config, task):
        super().__init__(config, task)
        self.dropout = api.Dropout(config.dropout)


class Segmented(Pooled):
    """All frames of a segment side by side."""

    capabilities = frozenset({"segments"})

    def width(self):
        return self.task.n_bands * self.task.n_frames

    def inputs(self, batch):
        return (batch.frames * batch.mask[..., None]).flatten(1)


class Part(nn.Module):
    """What a corpus has of its own: an adapter, batch normalisation, heads over its classes."""

    def __init__(self, width, classes):
        super().__init__()
        self.adapter = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.heads = nn.ModuleDict({view: nn.Linear(width, n) for view, n in classes.items()})

    def forward(self, hidden):
        adapted = hidden + self.adapter(hidden)
        if self.norm.training and len(adapted) == 1:
            n = self.norm
            return nn.functional.batch_norm(adapted, n.running_mean, n.running_var, n.weight, n.bias, False, 0.0)
        return self.norm(adapted)


class PerCorpus(nn.Module):
    """A shared layer, a part for every corpus, and one for the view of `routed`."""

    capabilities = frozenset({"per_corpus", "routes"})

    class Config(api.Config):
        hidden: int = 8
        routed: str = "arousal"

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.base = nn.Linear(task.n_bands, config.hidden)
        self.names = list(task.corpora)
        own = [view for view in task.views if view != config.routed or len(task.views) == 1]
        self.columns = {
            name: {view: [task.views[view].index(c) for c in has[view]] for view in own}
            for name, has in task.corpora.items()
        }
        self.own = own
        self.parts = nn.ModuleDict(
            {
                name: Part(config.hidden, {v: len(c) for v, c in columns.items()})
                for name, columns in self.columns.items()
            }
        )
        routed = {config.routed: len(task.views[config.routed])} if config.routed in task.views else {}
        self.views = nn.ModuleDict({view: Part(config.hidden, {view: n}) for view, n in routed.items()})

    def hidden(self, batch):
        return torch.tanh(self.base((batch.frames * batch.mask[..., None]).sum(1) / batch.lengths[:, None]))

    def part_of(self, number):
        return self.parts[self.names[number]]

    def forward(self, batch):
        hidden = self.hidden(batch)
        if batch.route is not None:
            return self.by_route(hidden, batch)
        shared = torch.zeros_like(hidden)
        logits = {view: hidden.new_full((len(hidden), len(self.task.views[view])), self.absent()) for view in self.own}
        for number in batch.corpora.unique().tolist():
            rows = (batch.corpora == number).nonzero()[:, 0]
            part = self.part_of(number)
            shared = shared.index_put((rows,), self.represent(hidden[rows], number))
            for view, head in part.heads.items():
                columns = torch.tensor(self.columns[self.names[number]][view])
                logits[view] = logits[view].index_put((rows[:, None], columns[None]), head(shared[rows]))
        return api.Outputs(logits, shared)

    def represent(self, hidden, number):
        return self.part_of(number)(hidden)

    def absent(self):
        return -1e30

    def by_route(self, hidden, batch):
        if batch.route not in self.views:
            raise api.UsageError(f"route {batch.route!r}: expected {list(self.views)}; choose one")
        part = self.views[batch.route]
        shared = part(hidden)
        return api.Outputs({batch.route: part.heads[batch.route](shared)}, shared)

    def parameter_groups(self):
        parts = [*self.parts.values(), *self.views.values()]
        return {
            "shared": list(self.base.parameters()),
            "adapter": [p for part in parts for p in part.adapter.parameters()],
            "norm": [p for part in parts for p in part.norm.parameters()],
            "head": [p for part in parts for p in part.heads.parameters()],
        }

    def copy_parts(self, source, target):
        kept = {k: v for k, v in self.parts[source].state_dict().items() if not k.startswith("heads.")}
        self.parts[target].load_state_dict(kept, strict=False)


class Centroids(nn.Module):
    """An estimator: the nearest class mean of the utterance vectors, drawn towards zero by a candidate."""

    capabilities = frozenset({"vectors", "estimator"})

    class Config(api.Config):
        shrink: tuple[float, ...] = (1.0, 0.9)

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        for view, classes in task.views.items():
            self.register_buffer(f"means_{view}", torch.zeros(len(classes), task.vector_dim))

    def candidates(self):
        return [{"shrink": s} for s in self.config.shrink]

    def fit(self, view, known, candidate, seed):
        means = [known.values[known.target == c].mean(0) for c in range(known.n_classes)]
        setattr(self, f"means_{view}", candidate["shrink"] * torch.stack(means))

    def scores(self, view, values):
        return -(values[:, None] - getattr(self, f"means_{view}")[None]).square().sum(2)

    def forward(self, batch):
        return api.Outputs({view: self.scores(view, batch.vectors) for view in self.task.views}, batch.vectors * 2)

    def parameter_groups(self):
        return {"shared": []}
