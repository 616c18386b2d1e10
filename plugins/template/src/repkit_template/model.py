"""A model: a batch to the logits of every view. A small network on the mean and deviation of the frames."""

import torch
from repkit import api
from torch import nn


class StatisticsPooling(nn.Module):
    """One hidden layer on what remains of an utterance when time is taken out; one linear head per view."""

    class Config(api.Config):
        """Settings: width of the hidden layer, and the share of it that training drops."""

        hidden: int = 32
        dropout: float = 0.2

    # it joins the vector of an encoder when there is one, and many of its trainings can share a GPU
    capabilities = frozenset({"vectors", "batched"})

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * task.n_bands + task.vector_dim, config.hidden)
        self.dropout = api.Dropout(config.dropout)
        self.heads = nn.ModuleDict({view: nn.Linear(config.hidden, len(c)) for view, c in task.views.items()})

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits (B, C) of every view and the layer (B, H) they read, in float32 also where bf16 is trained."""
        real, n = batch.mask[..., None], batch.lengths[:, None]  # padded frames must count nothing
        mean = (batch.frames * real).sum(1) / n  # (B, F)
        variance = ((batch.frames - mean[:, None]).square() * real).sum(1) / n
        parts = [mean, (variance + 1e-5).sqrt()] + ([] if batch.vectors is None else [batch.vectors])
        shared = torch.relu(self.hidden(torch.cat(parts, dim=1)))
        dropped = self.dropout(shared)
        return api.Outputs({view: head(dropped).float() for view, head in self.heads.items()}, shared.float())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return every parameter once, by what it is for."""
        return {"shared": list(self.hidden.parameters()), "head": list(self.heads.parameters())}
