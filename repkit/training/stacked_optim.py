"""The optimisers of K trainings whose parameters lie in the rows of one matrix; each row has a rate and a count of its own.

The arithmetic is that of torch.optim, which knows no rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from repkit.config.schema import TrainingTable

_STATES = {"adam": 2, "adamw": 2, "adadelta": 2, "sgd": 1}


class StackedOptimiser:
    """One optimiser of the kind a training table asks for, for every row.

    Args:
        table: of the training.
        values: (K, P) parameters, changed in place.
    """

    def __init__(self, table: TrainingTable, values: torch.Tensor) -> None:
        self._table = table
        self.states = [torch.zeros_like(values) for _ in range(_STATES[table.optimiser])]
        self.counts = torch.zeros(len(values), 1, device=values.device)

    def reset(self, row: int) -> None:
        """Let a row start anew."""
        for state in (*self.states, self.counts):
            state[row] = 0

    def keep(self, rows: torch.Tensor, n_new: int) -> None:
        """Keep some rows (k,) in their order and add fresh ones after them."""
        for place, state in enumerate(self.states):
            self.states[place] = torch.cat([state[rows], state.new_zeros(n_new, state.shape[1])])
        self.counts = torch.cat([self.counts[rows], self.counts.new_zeros(n_new, 1)])

    def step(
        self, values: torch.Tensor, gradients: torch.Tensor, rates: torch.Tensor, rows: torch.Tensor | None
    ) -> None:
        """Change values (K, P) by gradients (k, P) at learning rates (k,); k rows, or all K."""
        states = self.states if rows is None else [state[rows] for state in self.states]
        counts = (self.counts if rows is None else self.counts[rows]) + 1
        some = values if rows is None else values[rows]
        some = self._update(some, gradients, rates[:, None], states, counts)
        if rows is None:
            values.copy_(some)
            self.counts = counts
            return
        values[rows] = some
        self.counts[rows] = counts
        for whole, part in zip(self.states, states, strict=True):
            whole[rows] = part

    def _update(
        self,
        values: torch.Tensor,
        gradients: torch.Tensor,
        rates: torch.Tensor,
        states: list[torch.Tensor],
        counts: torch.Tensor,
    ) -> torch.Tensor:
        """Return the new values; the states change in place."""
        table = self._table
        decay = table.weight_decay
        if table.optimiser == "adamw":
            values = values * (1 - rates * decay)
        elif decay:
            gradients = gradients + decay * values
        if table.optimiser in ("adam", "adamw"):
            mean, square = states
            mean.lerp_(gradients, 0.1)
            square.mul_(0.999).addcmul_(gradients, gradients, value=0.001)
            root = (square / (1 - 0.999**counts)).sqrt_().add_(table.adam_epsilon)
            return values - rates / (1 - 0.9**counts) * (mean / root)
        if table.optimiser == "adadelta":
            square, moved = states
            square.mul_(0.95).addcmul_(gradients, gradients, value=0.05)
            change = ((moved + 1e-6) / (square + 1e-6)).sqrt_() * gradients
            moved.mul_(0.95).addcmul_(change, change, value=0.05)
            return values - rates * change
        momentum = states[0]
        momentum.mul_(table.momentum).add_(gradients)
        return values - rates * momentum
