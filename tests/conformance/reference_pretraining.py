"""Small stage-one objectives that keep every rule; the faulty ones are derived from them."""

import torch
from torch import nn

from repkit import api


class NextFrame(nn.Module):
    """The frame after next from the state, squared error."""

    class Config(api.Config):
        shift: int = 2

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.head = nn.Linear(task.layer_sizes[-1], task.n_bands)

    def error(self, batch, states):
        shift = self.config.shift
        return (self.head(states.layers[-1])[:, :-shift] - batch.frames[:, shift:]).square().mean(-1)

    def mask(self, batch):
        return batch.mask[:, self.config.shift :]

    def mean(self, error, mask):
        return error.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)

    def forward(self, batch, states, progress):
        return {"squared": self.mean(self.error(batch, states), self.mask(batch))}


class Level(nn.Module):
    """The mean of all columns from the vector, standardised by what was measured."""

    class Config(api.Config):
        pass

    def __init__(self, config, task):
        super().__init__()
        self.head = nn.Linear(task.vector_dim, 1)
        self.register_buffer("constants", torch.tensor([0.0, 1.0]))

    def level(self, batch):
        return batch.frames.mean(-1).sum(1) / batch.lengths

    def calibrate(self, batches):
        levels = torch.cat([self.level(batch) for batch in batches])
        self.constants.copy_(torch.stack([levels.mean(), levels.std(correction=0).clamp(min=1e-3)]))

    def forward(self, batch, states, progress):
        target = (self.level(batch) - self.constants[0]) / self.constants[1]
        return {"level": (self.head(states.vector)[:, 0] - target).square().mean()}


class Gaps(nn.Module):
    """Frames that were hidden, from the states."""

    class Config(api.Config):
        share: float = 0.3

    def __init__(self, config, task):
        super().__init__()
        self.config = config
        self.head = nn.Linear(task.layer_sizes[-1], task.n_bands)

    def draw(self, n, generator):
        return torch.rand(n, generator=generator)

    def corrupt(self, frames, lengths, generator):
        hidden = torch.zeros(frames.shape[:2], dtype=torch.bool)
        for row, n in zip(hidden, lengths.tolist()):
            row[:n] = self.draw(n, generator) < self.config.share
        return frames.masked_fill(hidden[..., None], 0.0)

    def forward(self, batch, states, progress):
        hidden = (states.frames != batch.frames).any(-1) & batch.mask
        error = (self.head(states.layers[-1]) - batch.frames).abs().mean(-1)
        return {"absolute": error.masked_fill(~hidden, 0.0).sum() / hidden.sum().clamp(min=1)}
