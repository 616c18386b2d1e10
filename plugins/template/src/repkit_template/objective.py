"""An objective: outputs and a batch to named losses. Cross-entropy that does not ask for certainty."""

import torch
from repkit import api


class SmoothedCrossEntropy(torch.nn.Module):
    """Cross-entropy on every view, with part of the target spread over all classes (label smoothing)."""

    class Config(api.Config):
        """Settings: the part that is spread."""

        smoothing: float = 0.1

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.smoothing = config.smoothing

    def forward(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, torch.Tensor]:
        """Return one scalar per view that has labels in this batch; an unlabelled utterance counts nothing."""
        losses = {}
        for view, target in batch.targets.items():
            known = target != api.MISSING
            logits = outputs.logits[view][known]
            log_p = logits.log_softmax(1)
            possible = logits > -1e29  # a model with heads per corpus gives -1e30 to classes a corpus lacks
            spread = log_p.where(possible, 0.0).sum(1) / possible.sum(1)
            right = log_p.gather(1, target[known][:, None])[:, 0]
            each = -(1 - self.smoothing) * right - self.smoothing * spread
            weights = torch.ones_like(each) if batch.weights is None else batch.weights[known]
            losses[view] = (each * weights).sum() / weights.sum().clamp(min=1e-12)
        return losses

    def measure(self, outputs: api.Outputs, batch: api.Batch, progress: float) -> dict[str, torch.Tensor]:
        """Return figures for the log, here how sure the model is of its choice."""
        return {view: logits.softmax(1).amax(1).mean() for view, logits in outputs.logits.items()}
