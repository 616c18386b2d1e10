"""Many trainings of equal shape as one program: what one GPU is filled with.

The models' weights are the rows of a matrix, their forward passes one `torch.func.vmap`, their steps one optimiser's. Every
training keeps its own order of batches, dropout masks, learning rate, selection and early stop (`Course`); one that ends
gives its row to the next. On CPUs this loses against one process per core (docs/decisions/0015); there it is for tests.
Source: own design.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap

from repkit.api import Batch
from repkit.api.dropout import keyed_dropouts, module_key
from repkit.training.course import (
    Course,
    Fitted,
    NotFiniteError,
    State,
    Training,
    trained_parameters,
)
from repkit.training.loop import CPU
from repkit.training.optim import in_float32, in_precision, resolve_precision
from repkit.training.stacked_batches import StackedFolds
from repkit.training.stacked_optim import StackedOptimiser

EVALUATED = 4096
"""Most utterances, over all trainings, that dev is predicted in at once; of each at most two batches of its training, so that
fewer trainings at once take less memory here too."""


def why_alone(training: Training) -> str | None:
    """Return why a training cannot share a program with others, None when it can."""
    if "batched" not in getattr(training.model, "capabilities", frozenset()):
        return f"the model {type(training.model).__name__} has not the capability batched"
    for name, (module, _) in training.objectives.items():
        if "batched" not in getattr(module, "capabilities", frozenset()):
            return f"the objective {name} has not the capability batched"
    if training.phase.route == "view":
        return f"phase {training.phase.name!r} trains the parts of each view in turn"
    if training.data.data.segments is not None:
        return "the items are segments"
    return None


def stack_key(training: Training) -> Hashable:
    """Return what trainings that share a program have in common: shapes, rules and data."""
    parameters = trained_parameters(training)
    trained = {id(p) for p in parameters}
    shapes = tuple(
        (name, tuple(p.shape), id(p) in trained)
        for module in (training.model, *(m for m, _ in training.objectives.values()))
        for name, p in module.named_parameters()
    )
    data, phase = training.data, training.phase
    known = tuple(part is None for part in (data.standardise_frames, data.standardise_vectors, data.standardise_states))
    weights = tuple(weight for _, weight in training.objectives.values())
    return (
        type(training.model), shapes, weights, training.table.model_dump_json(), phase.train, phase.views,
        training.crop, id(data.data.frames.values), id(data.data.vectors), known, data.weights is None,
        len(training.dev) > 0,
    )  # fmt: skip


def fit_stacked(
    todo: Iterator[tuple[Hashable, Training]],
    size: int,
    on_epoch: Callable[[Hashable, int], None],
    on_done: Callable[[Hashable, Fitted | NotFiniteError], None],
    device: torch.device = CPU,
) -> None:
    """Train all, at most `size` at a time.

    Args:
        todo: names and trainings with one `stack_key`, drawn when there is room; their data must lie on the device.
        size: rows.
        on_epoch: told name and number of the epoch.
        on_done: told what each left behind, or that its loss was not finite, which disturbs no other.
        device: of the arithmetic.
    """
    stack: _Stack | None = None
    while True:
        room = size - (0 if stack is None else len(stack.names))
        new = list(islice(todo, room))
        if stack is None:
            if not new:
                return
            stack = _Stack(new[0][1], device)
        stack.take_in(new)
        if not stack.names:
            return
        ended = stack.train_epoch()
        for name, course in zip(stack.names, stack.courses, strict=True):
            on_epoch(name, course.training.first_epoch + course.epoch)
        for name, end in stack.release(ended):
            on_done(name, end)


class _Program(nn.Module):
    """One model and its objectives, as a function of a batch; the weights of the others take its place."""

    def __init__(self, training: Training, device: torch.device) -> None:
        super().__init__()
        self.model = training.model
        self.objectives = nn.ModuleList(module for module, _ in training.objectives.values())
        self.named = [(name, weight) for name, (_, weight) in training.objectives.items()]
        self.bf16 = resolve_precision(training.table.precision, device, training.model) == "bf16"
        self.device = device

    def forward(self, batch: Batch, progress: torch.Tensor, with_losses: bool) -> dict[str, torch.Tensor]:
        """Return the weighted losses, or the probabilities of each view."""
        with in_precision(self.device, self.bf16):
            outputs = in_float32(self.model(batch))
        if not with_losses:
            return {view: torch.softmax(logits, dim=-1) for view, logits in outputs.logits.items()}
        return {
            f"{name}.{term}": weight * value
            for (name, weight), module in zip(self.named, self.objectives)
            for term, value in module(outputs, batch, progress).items()
        }


class _Stack:
    """The trainings that run now, a row each."""

    def __init__(self, first: Training, device: torch.device) -> None:
        self.device, self.table, self.phase, self.crop = device, first.table, first.phase, first.crop
        trained = {id(p) for p in trained_parameters(first)}
        program = _Program(first, device)
        self.shapes = {n: p.shape for n, p in program.named_parameters() if id(p) in trained}
        self.program = copy.deepcopy(program).to(device)
        dropouts = {id(module) for module in keyed_dropouts(self.program)}
        self.key_names = [f"{n}.key" for n, module in self.program.named_modules() if id(module) in dropouts]
        self.names: list[Hashable] = []
        self.courses: list[Course] = []
        self.values = torch.empty(0, sum(shape.numel() for shape in self.shapes.values()), device=device)
        self.best = self.values.clone()
        self.constants: dict[str, torch.Tensor] = {}
        self.optimiser = StackedOptimiser(self.table, self.values)
        self.folds: StackedFolds | None = None

    # ------------------------------------------------------------------ who is in

    def take_in(self, new: Sequence[tuple[Hashable, Training]]) -> None:
        """Give rows to trainings that start."""
        if not new:
            return
        rows, constants = [], []
        for name, training in new:
            self.names.append(name)
            self.courses.append(Course(training))
            state = _named_state(training)
            rows.append(torch.cat([state.pop(n).detach().flatten().float() for n in self.shapes]).to(self.device))
            constants.append(state)
        values = torch.stack(rows)
        self.values, self.best = torch.cat([self.values, values]), torch.cat([self.best, values])
        self.optimiser.keep(torch.arange(len(self.optimiser.counts), device=self.device), len(new))
        for name in constants[0]:
            if name not in self.key_names:
                added = torch.stack([state[name].detach().to(self.device) for state in constants])
                before = self.constants.get(name)
                self.constants[name] = added if before is None else torch.cat([before, added])
        self.folds = StackedFolds([course.training.data for course in self.courses])

    def release(self, failed: Mapping[int, NotFiniteError]) -> list[tuple[Hashable, Fitted | NotFiniteError]]:
        """Take the trainings that are over out of their rows and return what they left behind."""
        over = [row for row, course in enumerate(self.courses) if course.done or row in failed]
        ends: list[tuple[Hashable, Fitted | NotFiniteError]] = []
        for row in over:
            course = self.courses[row]
            end = failed.get(row) or course.fitted(
                self._state_of(row, self.best) if course.selects else None, self._state_of(row, self.values)
            )
            ends.append((self.names[row], end))
        if over:
            left = [row for row in range(len(self.names)) if row not in over]
            rows = torch.tensor(left, dtype=torch.int64, device=self.device)
            self.names, self.courses = [self.names[r] for r in left], [self.courses[r] for r in left]
            self.values, self.best = self.values[rows], self.best[rows]
            self.constants = {name: value[rows] for name, value in self.constants.items()}
            self.optimiser.keep(rows, 0)
            self.folds = StackedFolds([course.training.data for course in self.courses]) if left else None
        return ends

    def _state_of(self, row: int, values: torch.Tensor) -> State:
        """Return the weights of one model by their names in it."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        found = dict(zip(self.shapes, values[row].cpu().split(sizes)))
        found = {name: part.view(self.shapes[name]).clone() for name, part in found.items()}
        found |= {name: value[row].cpu().clone() for name, value in self.constants.items()}
        wanted = self.courses[row].training.model.state_dict()
        return {name: found[f"model.{name}"].to(value.dtype) for name, value in wanted.items()}

    # ------------------------------------------------------------------ arithmetic

    def train_epoch(self) -> dict[int, NotFiniteError]:
        """Train one epoch of every row, score dev, and note both; return the rows whose loss was not finite."""
        started = time.perf_counter()
        for row, course in enumerate(self.courses):
            if course.start_epoch():
                if course.restarts:
                    self.values[row] = self.best[row]
                self.optimiser.reset(row)
        batches = [[items for items, _ in course.batches()] for course in self.courses]
        draws = [course.crop_draw() for course in self.courses]
        losses = self._train(batches, draws)
        counts = [len(some) for some in batches]
        failed, records = {}, []
        for row, course in enumerate(self.courses):
            own = {name: float(values[row]) / counts[row] for name, values in losses.items()}
            total = sum(own.values())
            if not -float("inf") < total < float("inf"):
                failed[row] = _not_finite(course, own)
            rate = course.rate(counts[row] - 1)
            records.append({"learning_rate": rate, "train_loss": total, "losses": own, "figures": {}})
        scores = self._score_dev() if len(self.courses[0].training.dev) else [None] * len(self.courses)
        seconds = round((time.perf_counter() - started) / len(self.courses), 4)
        better = [
            row
            for row, (course, record, dev) in enumerate(zip(self.courses, records, scores, strict=True))
            if course.end_epoch({**record, "seconds": seconds}, dev)
        ]
        self.best[better] = self.values[better]
        return failed

    def _train(
        self, batches: Sequence[Sequence[torch.Tensor]], draws: Sequence[torch.Generator | None]
    ) -> dict[str, torch.Tensor]:
        """Make all steps of an epoch; return the sums of the losses (K,) in this machine's memory."""
        n_steps = max(map(len, batches))
        plan = self.folds.plan(batches, self.crop, draws, self.phase.views)
        rates = torch.tensor(
            [[course.rate(min(s, len(b) - 1)) for course, b in zip(self.courses, batches)] for s in range(n_steps)]
        ).to(self.device)
        progress = torch.tensor([[course.progress(s) for course in self.courses] for s in range(n_steps)])
        progress = progress.to(self.device)
        keys = torch.tensor([course.dropout_key() for course in self.courses], device=self.device)
        self.program.train()
        sums: dict[str, torch.Tensor] = {}
        for step in range(n_steps):
            active = [row for row, some in enumerate(batches) if step < len(some)]
            rows = None if len(active) == len(batches) else torch.tensor(active, device=self.device)
            some = _rows(self.values, rows).detach().requires_grad_()
            losses = self._run(
                some, self.folds.fields(plan, step, rows), rows, _rows(progress[step], rows), keys + step
            )
            total = torch.stack(list(losses.values())).sum(0)
            (gradients,) = torch.autograd.grad(total.sum(), some)
            if self.table.gradient_clip_norm is not None:
                # as torch.nn.utils.clip_grad_norm_ does for one model
                norms = gradients.norm(dim=1, keepdim=True)
                gradients = gradients * (self.table.gradient_clip_norm / (norms + 1e-6)).clamp(max=1.0)
            self.optimiser.step(self.values, gradients, _rows(rates[step], rows), rows)
            for name, value in losses.items():
                whole = sums.setdefault(name, torch.zeros(len(batches), device=self.device))
                whole[slice(None) if rows is None else rows] += value.detach().float()
        return {name: value.cpu() for name, value in sums.items()}

    def _run(
        self,
        values: torch.Tensor,
        fields: dict[str, Any],
        rows: torch.Tensor | None,
        progress: torch.Tensor,
        keys: torch.Tensor,
        with_losses: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Run the program of every row on its own batch."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        state = {
            name: part.view(-1, *shape)
            for (name, shape), part in zip(self.shapes.items(), values.split(sizes, dim=1), strict=True)
        }
        state |= {name: _rows(value, rows) for name, value in self.constants.items()}
        state |= {name: _rows(module_key(keys, place), rows) for place, name in enumerate(self.key_names)}
        ids = [""] * fields["frames"].shape[1]

        def one(state: State, fields: dict[str, Any], progress: torch.Tensor) -> dict[str, torch.Tensor]:
            batch = Batch(ids=ids, dense=True, **fields)
            return functional_call(self.program, state, (batch, progress, with_losses))

        return vmap(one, randomness="error")(state, fields, progress)

    @torch.no_grad()
    def _score_dev(self) -> list[Any]:
        """Return the scores of every row's dev part."""
        self.program.eval()
        lengths = self.folds.data.frames.lengths
        orders = [t.dev[lengths[t.dev].argsort(stable=True)] for t in (course.training for course in self.courses)]
        size = max(1, min(EVALUATED // len(orders), 2 * self.table.batch_size))
        plan = self.folds.plan([list(order.split(size)) for order in orders], self.crop, None)
        progress, keys = torch.ones(len(orders), device=self.device), torch.zeros(
            len(orders), dtype=torch.int64, device=self.device
        )  # fmt: skip
        found: dict[str, list[torch.Tensor]] = {}
        for step in range(len(plan.longest)):
            fields = self.folds.fields(plan, step)
            for view, values in self._run(self.values, fields, None, progress, keys, with_losses=False).items():
                found.setdefault(view, []).append(values)
        whole = {view: torch.cat(parts, dim=1).cpu() for view, parts in found.items()}  # (K, S * B, C)
        present = plan.present.cpu().transpose(0, 1).flatten(1)  # (K, S * B)
        scores = []
        for row, (course, order) in enumerate(zip(self.courses, orders, strict=True)):
            own = {view: values[row][present[row]] for view, values in whole.items()}
            scores.append(course.training.score(own, order))
        return scores


def _rows(values: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    return values if rows is None else values[rows]


def _named_state(training: Training) -> State:
    """Return all parameters and buffers by their names in the program."""
    found = {
        f"model.{name}": value for name, value in (*training.model.named_parameters(), *training.model.named_buffers())
    }
    for place, (module, _) in enumerate(training.objectives.values()):
        own = (*module.named_parameters(), *module.named_buffers())
        found |= {f"objectives.{place}.{name}": value for name, value in own}
    return found


def _not_finite(course: Course, losses: Mapping[str, float]) -> NotFiniteError:
    terms = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    return NotFiniteError(
        f"epoch {course.epoch}: the mean loss is not finite ({terms}); numbers were expected; lower training.learning_rate "
        "or set training.gradient_clip_norm; --executor processes names the batch"
    )
