"""Parts that every corpus has of its own: parallel adapters and heads.

Source: gerczuk2021 sheet, section 1 (1x1 convolutions beside the shared ones, a head per corpus), applied to models of
one dimension in time; own design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

ABSENT = -1e30
"""Logit of a class that a corpus lacks: its probability is exactly zero, and no gradient flows."""


def key_of(corpus: str) -> str:
    """Return a corpus' name as a module may be called (no dots)."""
    return corpus.replace(".", "_")


class CorpusAdapters(nn.Module):
    """One linear map beside a shared layer for each corpus, zero at the start, so that training begins at the shared one.

    Args:
        corpora: names, in the order of `Batch.corpora`.
        n_inputs: width of the input.
        n_outputs: width of the shared layer's output.
    """

    def __init__(self, corpora: Sequence[str], n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.maps = nn.ModuleDict({key_of(name): nn.Linear(n_inputs, n_outputs, bias=False) for name in corpora})
        for module in self.maps.values():
            nn.init.zeros_(module.weight)

    def forward(self, values: torch.Tensor, corpus: torch.Tensor) -> torch.Tensor:
        """Return (V, ..., n_outputs) from values (V, ..., n_inputs) and the corpus (V,) of each row."""
        if len(corpus) and bool((corpus == corpus[0]).all()):  # the usual case of training one corpus
            return list(self.maps.values())[int(corpus[0])](values)
        added = values.new_zeros(*values.shape[:-1], self.n_outputs)
        for number, module in enumerate(self.maps.values()):
            rows = corpus == number
            if rows.any():
                added[rows] = module(values[rows]).to(added.dtype)
        return added

    def copy(self, source: str, target: str) -> None:
        """Give one corpus' map the values of another's."""
        self.maps[key_of(target)].load_state_dict(self.maps[key_of(source)].state_dict())


class CorpusHeads(nn.Module):
    """Per corpus one linear head for each view, over the classes that the corpus has.

    Args:
        corpora: `TaskSpec.corpora`.
        views: `TaskSpec.views`.
        n_inputs: width of the shared vector.
    """

    def __init__(
        self, corpora: Mapping[str, Mapping[str, tuple[str, ...]]], views: Mapping[str, tuple[str, ...]], n_inputs: int
    ) -> None:
        super().__init__()
        self.views = {view: len(classes) for view, classes in views.items()}
        self.places = [
            {view: [classes.index(c) for c in corpora[name].get(view, ())] for view, classes in views.items()}
            for name in corpora
        ]
        self.heads = nn.ModuleDict(
            {
                key_of(name): nn.ModuleDict(
                    {view: nn.Linear(n_inputs, len(own)) for view, own in places.items() if own}
                )
                for name, places in zip(corpora, self.places)
            }
        )

    def forward(self, hidden: torch.Tensor, corpus: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits (B, C) over the classes of all corpora from hidden (B, H); `ABSENT` where a corpus has none."""
        logits = {view: hidden.new_full((len(hidden), n), ABSENT) for view, n in self.views.items()}
        for number, own in enumerate(self.heads.values()):
            rows = (corpus == number).nonzero()[:, 0]
            if not len(rows):
                continue
            for view, head in own.items():
                places = torch.tensor(self.places[number][view], device=hidden.device)
                logits[view] = logits[view].index_put(
                    (rows[:, None], places[None, :]), head(hidden[rows]).to(hidden.dtype)
                )
        return logits
