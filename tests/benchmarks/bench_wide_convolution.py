"""A training step of Aldeneh's CNN with our wide convolution against PyTorch's.

A step is forward, backward and Adam on 8 random utterances, on one thread. The losses of both are compared.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import harness
import torch
import torch.nn.functional as F
from repkit_baselines.aldeneh import AldenehCnn
from torch import nn

from repkit.api import Batch, Outputs, TaskSpec

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
SHAPES = ((40, 320), (240, 320))
"""Bands and frames."""


class Plain(nn.Module):
    """The same network as one writes it in PyTorch, with the weights of ours."""

    def __init__(self, ours: AldenehCnn, n_bands: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(n_bands, w.shape[1], w.shape[0]) for w in ours.filters)
        for convolution, weight, bias in zip(self.convolutions, ours.filters, ours.biases, strict=True):
            convolution.weight.data.copy_(weight.permute(1, 2, 0))
            convolution.bias.data.copy_(bias)
        self.hidden, self.heads = copy.deepcopy(ours.hidden), copy.deepcopy(ours.heads)

    def forward(self, batch: Batch) -> Outputs:
        """Return logits and the last hidden layer."""
        frames = batch.frames.transpose(1, 2).contiguous()
        shared = self.hidden(torch.cat([F.relu(c(frames)).amax(2) for c in self.convolutions], dim=1))
        return Outputs({view: head(shared) for view, head in self.heads.items()}, shared)


def stepper(model: nn.Module, batch: Batch, losses: list[float]) -> Callable[[], None]:
    """Return a function that trains one step and notes its loss."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, eps=1e-7)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(batch).logits["emotion"], batch.targets["emotion"])
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    return step


def compare(n_bands: int, n_frames: int, rounds: int, size: int) -> dict[str, list[float]]:
    """Return the seconds of the steps of both; ends the script when their losses differ."""
    torch.manual_seed(1)
    batch = Batch(
        ids=[str(i) for i in range(size)],
        frames=torch.randn(size, n_frames, n_bands),
        lengths=torch.full((size,), n_frames),
        targets={"emotion": torch.arange(size) % len(CLASSES)},
    )
    ours = AldenehCnn(AldenehCnn.Config(), TaskSpec(views={"emotion": CLASSES}, n_bands=n_bands))
    losses: dict[str, list[float]] = {"Conv1d": [], "ours": []}
    models = {"Conv1d": Plain(ours, n_bands), "ours": ours}
    seconds = harness.interleave(
        {name: stepper(model, batch, losses[name]) for name, model in models.items()}, rounds, time.process_time
    )
    for number, (a, b) in enumerate(zip(losses["Conv1d"], losses["ours"], strict=True)):
        if abs(a - b) > 1e-3 * max(1.0, abs(a)):
            raise SystemExit(f"step {number}: losses {a} and {b} differ")
    return seconds


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare every shape."""
    harness.one_thread()
    torch.set_flush_denormal(True)
    shapes, size = (SHAPES[:1], 4) if options.quick else (SHAPES, 8)
    results = {f"{f} x {t}": (compare(f, t, options.rounds, size), "Conv1d", "ours") for f, t in shapes}
    page.text(
        f"Aldeneh's CNN, {size} random utterances, one thread, CPU time; the losses of both agree to 1e-3 at every step."
    )
    page.compare("bands x frames", results)
    page.headline(
        "Conv1d / ours: "
        + ", ".join(f"{name} {harness.ratio(seconds[a], seconds[b])}" for name, (seconds, a, b) in results.items())
    )


if __name__ == "__main__":
    harness.main("wide_convolution", "Wide convolution", run)
