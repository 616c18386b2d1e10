"""An objective of stage one: frames and an encoder's states to losses. The vector must tell how the level moves."""

from collections.abc import Iterable

import torch
from repkit import api


class LevelMovement(torch.nn.Module):
    """Regress the deviation over time of the mean of all bands from the pooled vector; squared error."""

    class Config(api.Config):
        """Settings: share of the training after which the loss counts fully; it grows until then."""

        warm_up: float = 0.1

    def __init__(self, config: Config, task: api.PretrainTask) -> None:
        super().__init__()
        self.warm_up, self.head = config.warm_up, torch.nn.Linear(task.vector_dim, 1)
        self.register_buffer("mean", torch.zeros(()))  # buffers are kept in checkpoints
        self.register_buffer("deviation", torch.ones(()))

    def calibrate(self, batches: Iterable[api.PretrainBatch]) -> None:
        """Measure mean and deviation of the target over the training speech, once, before training begins."""
        found = torch.cat([self._target(batch) for batch in batches])
        self.mean.copy_(found.mean())
        self.deviation.copy_(found.std(correction=0).clamp(min=1e-3))

    def forward(self, batch: api.PretrainBatch, states: api.EncoderStates, progress: float) -> dict[str, torch.Tensor]:
        """Return one scalar by name; with `weight` of the recipe it is added to those of the other objectives."""
        target = (self._target(batch) - self.mean) / self.deviation
        error = (self.head(states.vector)[:, 0].float() - target).square().mean()
        return {"squared": error * min(1.0, 0.1 + progress / max(self.warm_up, 1e-6))}

    def _target(self, batch: api.PretrainBatch) -> torch.Tensor:
        real, n = batch.mask, batch.lengths  # padded frames must count nothing
        level = batch.frames.mean(-1)  # (B, T)
        mean = (level * real).sum(1) / n
        return (((level - mean[:, None]).square() * real).sum(1) / n).sqrt()
