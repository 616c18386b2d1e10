"""A training step of the attentive CNN with its fused convolution and maximum against the same in single steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from unittest import mock

import harness
import torch

import repkit.stage_two.attentive_cnn as model_file
from repkit.api import Batch, TaskSpec
from repkit.runs.executors import prepare_process
from repkit.training.optim import in_precision

CLASSES = {"emotion": tuple("ahns"), "arousal": tuple("lmh"), "valence": tuple("lmh")}
CPU = torch.device("cpu")


def in_steps(windows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, invalid: torch.Tensor) -> torch.Tensor:
    """Return what `window_maximum` does, by PyTorch's own operations."""
    responses = torch.nn.functional.linear(windows, weight, bias)
    keep = torch.ones(responses.shape[:2].numel(), 1, dtype=torch.bool)
    keep[invalid] = False
    return responses.masked_fill(~keep.view(*responses.shape[:2], 1), -torch.inf).max(dim=1).values


def compare(n: int, bf16: bool, options: harness.Options) -> dict[str, list[float]]:
    """Return the CPU seconds of a step of both; their weights move alike."""
    torch.manual_seed(0)
    lengths = (torch.randn(n) * 150 + 450).clamp(60, 748).long()
    frames = torch.randn(n, int(lengths.max()), 26)
    batch = Batch(["x"] * n, frames * (torch.arange(frames.shape[1]) < lengths[:, None])[..., None], lengths, {})
    settings = model_file.AttentiveCnn.Config(fusion="none", dropout=0.0)
    model = model_file.AttentiveCnn(settings, TaskSpec(views=CLASSES, n_bands=26))
    losses: dict[str, float] = {}
    n_steps = 2 if options.quick else 8

    def step(net: torch.nn.Module) -> torch.Tensor:
        with in_precision(CPU, bf16):
            logits = net(batch).logits
        loss = sum(torch.nn.functional.cross_entropy(v, torch.arange(n) % v.shape[1]) for v in logits.values())
        net.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.001 * parameter.grad
        return loss.detach()

    def timed(name: str, net: torch.nn.Module, function: Callable) -> Callable[[], float]:
        def measure() -> float:
            with mock.patch.object(model_file, "window_maximum", function):
                begun = time.process_time()
                found = [step(net) for _ in range(n_steps)]
            losses[name] = float(found[-1])
            return (time.process_time() - begun) / n_steps

        return measure

    variants = {"in steps": in_steps, "fused": model_file.window_maximum}
    times = harness.alternate({k: timed(k, copy.deepcopy(model), f) for k, f in variants.items()}, options.rounds)
    if abs(losses["fused"] / losses["in steps"] - 1) > (0.02 if bf16 else 1e-4):
        raise SystemExit(f"the losses differ: {losses}")
    return times


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare at two sizes and two precisions."""
    prepare_process()
    results = {
        f"{n} utterances, {'bf16' if bf16 else 'fp32'}": (compare(n, bf16, options), "in steps", "fused")
        for n in ([32] if options.quick else [32, 64])
        for bf16 in (False, True)
    }
    page.text(
        "CPU time of a step (forward, loss, backward, plain descent), 26 bands, the paper's sizes, 4.5 s on average."
    )
    page.compare("batch", results)
    first, *_ = (times for times, _, _ in results.values())
    found = harness.ratio(first["in steps"], first["fused"])
    page.headline(f"a step of the attentive CNN {found.median:.2f} times as fast as in single operations")


if __name__ == "__main__":
    harness.main("window_maximum", "Convolution and maximum as one function", run)
