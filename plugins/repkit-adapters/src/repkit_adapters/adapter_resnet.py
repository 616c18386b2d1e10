"""The ResNet with parallel residual adapters of EmoNet, whole: one base for all corpora, small parts for each.

Paper: M. Gerczuk, S. Amiriparian, S. Ottl, B. Schuller, "EmoNet: a transfer learning framework for multi-corpus speech
emotion recognition", arXiv 2103.08310, 2021. Sizes: a 3x3 stem of 32 filters, three stacks of two blocks (64, 128, 256
filters, the first of each with stride 2); beside every 3x3 convolution a 1x1 convolution of the corpus, after it the
corpus' batch norm; 2-D attention over frequency and time; a head of 128 units per corpus.
Differs: padding is masked out of convolutions, batch norm and attention (``mask = false`` restores the published
behaviour); a head of two classes has two logits and a softmax instead of one sigmoid (the same model, other gradients);
He normal is not truncated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from repkit import api
from repkit_adapters.padding import MaskedBatchNorm, pooled_shortcut, same_padding
from repkit_adapters.parts import part_key

ABSENT = -1e30
"""Logit of a class that a corpus does not have: finite, so that nothing becomes NaN; its probability is zero."""


class Attention2d(nn.Module):
    """e_i = u . tanh(W x_i + b), a = softmax(lambda e), c = sum a_i x_i over all places of frequency and time.

    Lambda smooths the softmax's input. Source: the paper, weights and bias drawn from N(0, 0.05).
    """

    def __init__(self, dim: int, units: int, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.weight = nn.Parameter(torch.empty(units, dim).normal_(std=0.05))
        self.bias = nn.Parameter(torch.empty(units).normal_(std=0.05))
        self.context = nn.Parameter(torch.empty(units).normal_(std=0.05))

    def forward(self, places: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return (B, D) from places (B, P, D) and mask (B, P) bool, True where real (None: all are)."""
        energies = torch.tanh(F.linear(places, self.weight, self.bias)) @ self.context  # (B, P)
        energies = self.smoothing * energies.float()
        if mask is not None:
            energies = energies.masked_fill(~mask, float("-inf"))
        return torch.einsum("bp,bpd->bd", torch.softmax(energies, dim=1).to(places.dtype), places)


class Head(nn.Module):
    """Dense, batch norm, ReLU, dropout, logits; weights after Keras: Glorot uniform, biases zero."""

    def __init__(self, dim: int, classes: int, config: AdapterResNet.Config) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim // 2)
        self.norm = nn.BatchNorm1d(dim // 2, config.norm_epsilon, config.norm_momentum)
        self.dropout = nn.Dropout(config.head_dropout)
        self.logits = nn.Linear(dim // 2, classes)
        for layer in (self.dense, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) from vectors (B, D)."""
        hidden, norm = self.dense(vectors), self.norm
        if norm.training and len(hidden) == 1:  # one item has no variance; the running statistics stand in
            hidden = F.batch_norm(
                hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        else:
            hidden = norm(hidden)
        return self.logits(self.dropout(F.relu(hidden)))


class Part(nn.Module):
    """What a corpus, or a view common to all corpora, has of its own. What is None is shared."""

    def __init__(self, config: AdapterResNet.Config, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.adapters = self.norms = self.attention = None
        if config.mode == "adapters":
            self.adapters = nn.ParameterDict(
                {name: he_normal(torch.empty(*shape, 1, 1)) for name, shape in config.convolutions().items()}
            )
        if config.own_norms:
            self.norms = make_norms(config)
        if not config.attention_shared:
            self.attention = Attention2d(config.dim, config.attention_units, config.attention_lambda)
        self.heads = nn.ModuleDict({view: Head(config.dim, n, config) for view, n in classes.items()})


class Base(nn.Module):
    """What all corpora share: the 3x3 convolutions, the attention unless each has one, the norms unless each has them."""

    def __init__(self, config: AdapterResNet.Config) -> None:
        super().__init__()
        self.convolutions = nn.ParameterDict(
            {name: he_normal(torch.empty(*shape, 3, 3)) for name, shape in config.convolutions().items()}
        )
        self.norms = None if config.own_norms else make_norms(config)
        self.attention = (
            Attention2d(config.dim, config.attention_units, config.attention_lambda)
            if config.attention_shared
            else None
        )


def he_normal(weight: torch.Tensor) -> nn.Parameter:
    """Return the weight filled by He's rule (fan in, ReLU)."""
    return nn.Parameter(nn.init.kaiming_normal_(weight, nonlinearity="relu"))


def make_norms(config: AdapterResNet.Config) -> nn.ModuleDict:
    """Return the batch norm after every convolution, and the final one."""
    sizes = {name: n_out for name, (n_out, _) in config.convolutions().items()} | {"final": config.dim}
    return nn.ModuleDict(
        {name: MaskedBatchNorm(n, config.norm_epsilon, config.norm_momentum) for name, n in sizes.items()}
    )


class AdapterResNet(nn.Module):
    """One base, and for every corpus its adapters, norms and head.

    Every corpus of a batch goes through its own parts as a batch of its own (batch norm in training sees one corpus),
    so that other corpora's parts and statistics never move. A corpus' logits stand at its own classes of the union; the
    others are `ABSENT`. Under ``Batch.route`` all items go through the parts of that view instead, and only its logits
    are returned; the views of `view_tasks` have no logits otherwise, since each would need a pass through the whole net.

    Parameters at width 32: base 2 709 792 and 66 048 in the attention; per corpus 301 088 in adapters, 4 160 in norms,
    33 152 + 129 C in the head. State: ``base.*``, ``corpora.NAME.*``, ``views.VIEW.*``.
    """

    class Config(api.Config):
        """Settings; sizes are the paper's.

        Attributes:
            width: filters of the stem; the stacks have 2, 4 and 8 times as many, times `widen`.
            blocks: blocks per stack.
            widen: factor of the stacks' filters.
            mode: ``"adapters"``, or ``"plain"``: no adapters, one batch norm per convolution for all corpora.
            separate_norm: a batch norm per corpus in mode plain too; adapters always have their own.
            attention_shared: one attention for all (the paper's multi-corpus runs), or one per corpus (its
                single-source transfer).
            attention_units: length of u.
            attention_lambda: factor of the softmax's input.
            head_dropout: drop probability before the logits.
            block_dropout: of the inputs of a block's two convolutions: of their adapters in mode adapters, else of the
                convolutions themselves. The paper mentions none, its code's default is (0, 0.5).
            mask: leave padding out of everything. False is the published behaviour: padding is silence that every
                layer sees, so results depend on the batch.
            silence: what padded frames hold when `mask` is false; by default ln 1e-6, as if the waveform were padded.
                Right for frames that are not normalised.
            norm_momentum: of the running statistics, torch's sense: the weight of the new batch. Keras' default, which
                the paper's code uses, is 0.01: it needs hundreds of updates, which small corpora do not have.
            norm_epsilon: added to variances.
            view_tasks: views that have parts of their own, common to all corpora, reached by ``Batch.route``.
        """

        width: int = Field(default=32, ge=2)
        blocks: int = Field(default=2, ge=1)
        widen: int = Field(default=1, ge=1)
        mode: Literal["adapters", "plain"] = "adapters"
        separate_norm: bool = False
        attention_shared: bool = True
        attention_units: int = Field(default=256, ge=1)
        attention_lambda: float = Field(default=0.3, gt=0)
        head_dropout: float = Field(default=0.2, ge=0, lt=1)
        block_dropout: tuple[float, float] = (0.0, 0.0)
        mask: bool = True
        silence: float = math.log(1e-6)
        norm_momentum: float = Field(default=0.1, gt=0, le=1)
        norm_epsilon: float = Field(default=1e-3, gt=0)
        view_tasks: tuple[str, ...] = ()

        @model_validator(mode="after")
        def _dropout_is_a_share(self) -> AdapterResNet.Config:
            if not all(0 <= p < 1 for p in self.block_dropout):
                raise ValueError(f"block_dropout must lie in [0, 1), got {list(self.block_dropout)}")
            return self

        @property
        def own_norms(self) -> bool:
            """Whether every corpus has its batch norms."""
            return self.mode == "adapters" or self.separate_norm

        @property
        def dim(self) -> int:
            """Channels of the last stack."""
            return 8 * self.width * self.widen

        def convolutions(self) -> dict[str, tuple[int, int]]:
            """Return the channels (out, in) of every 3x3 convolution, in the order of the signal."""
            shapes, last = {"stem": (self.width, 1)}, self.width
            for stack in (1, 2, 3):
                n = self.width * 2**stack * self.widen
                for block in range(1, self.blocks + 1):
                    shapes[f"stack{stack}_block{block}_conv1"] = (n, last)
                    shapes[f"stack{stack}_block{block}_conv2"] = (n, n)
                    last = n
            return shapes

    capabilities = frozenset({"per_corpus", "routes"})

    @classmethod
    def capabilities_for(cls, config: Config) -> frozenset[str]:
        """Return what the model declares under these settings: without the mask also ``padding_sensitive``."""
        return cls.capabilities if config.mask else cls.capabilities | {"padding_sensitive"}

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        """Build the base and the parts of every corpus of the task; without corpora there is one part for all.

        Raises:
            UsageError: a view of `view_tasks` that the task lacks, or no view left for the corpora.
        """
        super().__init__()
        self.config, self.task = config, task
        self.capabilities = self.capabilities_for(config)
        routed = set(config.view_tasks)
        if not routed <= set(task.views) or routed == set(task.views):
            raise api.UsageError(
                f"model.view_tasks: {', '.join(config.view_tasks)}; expected some of the task's views "
                f"({', '.join(task.views)}) but not all, the others are the corpora's own; correct view_tasks or "
                "labels.auxiliary"
            )
        own_views = [view for view in task.views if view not in routed]
        corpora = dict(task.corpora) or {"all": task.views}
        self._names = list(corpora)
        self._columns = {
            name: {view: [task.views[view].index(c) for c in has.get(view, ())] for view in own_views if has.get(view)}
            for name, has in corpora.items()
        }
        self.base = Base(config)
        self.corpora = nn.ModuleDict(
            {part_key(name): Part(config, {v: len(c) for v, c in self._columns[name].items()}) for name in corpora}
        )
        self.views = nn.ModuleDict(
            {part_key(view): Part(config, {view: len(task.views[view])}) for view in config.view_tasks}
        )
        self._own_views = own_views

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return parameters by role: ``shared``, ``adapter``, ``norm`` (not the heads' norms), ``head``.

        An attention of a corpus belongs to ``head``, the common one to ``shared``. Roles without parameters are left out.
        """
        parts = [*self.corpora.values(), *self.views.values()]
        modules = {
            "shared": [self.base.convolutions, self.base.attention],
            "adapter": [part.adapters for part in parts],
            "norm": [self.base.norms, *(part.norms for part in parts)],
            "head": [module for part in parts for module in (part.heads, part.attention)],
        }
        groups = {role: [p for m in some if m is not None for p in m.parameters()] for role, some in modules.items()}
        return {role: parameters for role, parameters in groups.items() if parameters}

    def copy_parts(self, source: str, target: str) -> None:
        """Give target's adapters, norms (with their statistics) and attention the values of source; heads stay.

        Args:
            source: a corpus, or a view of `view_tasks`.
            target: a corpus.

        Raises:
            UsageError: no such corpus.
        """
        one, other = self._part(source), self._part(target)
        state = {name: value for name, value in one.state_dict().items() if not name.startswith("heads.")}
        other.load_state_dict(state, strict=False)

    def _part(self, name: str) -> Part:
        key = part_key(name)
        if key in self.corpora:
            return self.corpora[key]
        if key in self.views:
            return self.views[key]
        raise api.UsageError(
            f"adapter_resnet: {name!r} has no parts of its own; expected one of "
            f"{', '.join([*self._names, *self.config.view_tasks])}; correct the name"
        )

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits of every view but `view_tasks` (of the route's view alone under a route) and vectors (B, D)."""
        if batch.route is not None:
            if batch.route not in self.config.view_tasks:
                raise api.UsageError(
                    f"adapter_resnet: route {batch.route!r}; expected a view of model.view_tasks "
                    f"({', '.join(self.config.view_tasks) or 'none'}); add it there or drop the phase's route"
                )
            part = self.views[part_key(batch.route)]
            vectors = self._vectors(batch.frames, batch.lengths, part)
            logits = part.heads[batch.route](vectors)
            return api.Outputs(logits={batch.route: logits.float()}, shared=vectors.float())
        rows_of = self._rows(batch)
        config = self.config
        if len(rows_of) == 1 or not (config.own_norms or not config.attention_shared):
            first = self.corpora[part_key(next(iter(rows_of)))]
            vectors = self._vectors(batch.frames, batch.lengths, first)
        else:
            some = [
                self._vectors(batch.frames[rows], batch.lengths[rows], self.corpora[part_key(name)])
                for name, rows in rows_of.items()
            ]
            vectors = torch.cat(some)[torch.cat(list(rows_of.values())).argsort()]
        vectors = vectors.float()
        logits = {
            view: vectors.new_full((len(vectors), len(self.task.views[view])), ABSENT) for view in self._own_views
        }
        for name, rows in rows_of.items():
            for view, head in self.corpora[part_key(name)].heads.items():
                columns = torch.tensor(self._columns[name][view], device=rows.device)
                logits[view][rows[:, None], columns] = head(vectors[rows]).float()
        return api.Outputs(logits=logits, shared=vectors)

    def _rows(self, batch: api.Batch) -> dict[str, torch.Tensor]:
        """Return the rows (n,) int64 of each corpus in the batch."""
        if batch.corpora is None:
            if len(self._names) > 1:
                raise ValueError(f"adapter_resnet: a batch without corpora; expected indices into {self._names}")
            return {self._names[0]: torch.arange(len(batch.frames), device=batch.frames.device)}
        return {self._names[i]: (batch.corpora == i).nonzero().squeeze(1) for i in batch.corpora.unique().tolist()}

    def _vectors(self, frames: torch.Tensor, lengths: torch.Tensor, part: Part) -> torch.Tensor:
        """Return (B, D): the trunk with a part's adapters and norms, attended; frames (B, T, F), lengths (B,)."""
        lengths = lengths.clamp(min=1)
        padded = torch.arange(frames.shape[1], device=frames.device)[None, :] >= lengths[:, None]  # (B, T)
        if self.config.mask:
            longest = int(lengths.max())  # other corpora's longer items cost nothing here
            frames, padded = frames[:, :longest], padded[:, :longest]
        fill = 0.0 if self.config.mask else self.config.silence
        x = frames.masked_fill(padded[..., None], fill).transpose(1, 2)[:, None]  # (B, 1, F, T)
        mask = (~padded).to(x.dtype)[:, None, None] if self.config.mask and bool(padded.any()) else None
        x, mask = self._trunk(x, mask, part)
        places = x.flatten(2).transpose(1, 2)  # (B, F' T', D)
        real = None if mask is None else (mask > 0).expand(-1, 1, x.shape[2], -1).flatten(1)
        attention = self.base.attention if part.attention is None else part.attention
        return attention(places, real)

    def _trunk(
        self, x: torch.Tensor, mask: torch.Tensor | None, part: Part
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (B, D, F / 8, T / 8), rounded up, after the final norm and ReLU, and its mask (B, 1, 1, T / 8)."""
        norms = self.base.norms if part.norms is None else part.norms
        x = norms["stem"](self._convolve(x, "stem", part, 1, 0.0), mask)
        for stack in (1, 2, 3):
            for block in range(1, self.config.blocks + 1):
                name, stride = f"stack{stack}_block{block}", 2 if block == 1 else 1
                shortcut = (
                    x if stride == 1 else pooled_shortcut(x, mask, self.config.width * 2**stack * self.config.widen)
                )
                inner = self._convolve(x, f"{name}_conv1", part, stride, self.config.block_dropout[0])
                mask = mask if mask is None else mask[..., ::stride]
                inner = F.relu(norms[f"{name}_conv1"](inner, mask))
                inner = self._convolve(inner, f"{name}_conv2", part, 1, self.config.block_dropout[1])
                x = F.relu_(norms[f"{name}_conv2"](inner, mask) + shortcut)
        return F.relu(norms["final"](x, mask)), mask

    def _convolve(self, x: torch.Tensor, name: str, part: Part, stride: int, dropout: float) -> torch.Tensor:
        """Return the 3x3 convolution of x (B, C, F, T) plus the part's 1x1 convolution with the same stride."""
        low, high = same_padding(x.shape[2], stride)
        # in time the windows must not shift with the padded length, which decides the published alignment
        early, late = same_padding(x.shape[3], stride, aligned=self.config.mask)
        weight = self.base.convolutions[name]
        adapter = None if part.adapters is None else part.adapters[name]
        beside = None
        if dropout and self.training:
            dropped = F.dropout(x, dropout)
            if adapter is None:
                x = dropped
            else:
                beside = F.conv2d(dropped[..., ::stride, ::stride], adapter)
        elif adapter is not None:
            # the sum of both convolutions is one, with the 1x1 weight added at the place it looks at
            weight = weight + F.pad(adapter, (early, 2 - early, low, 2 - low))
        if low == high and early == late:
            y = F.conv2d(x, weight, stride=stride, padding=(low, early))
        else:
            y = F.conv2d(F.pad(x, (early, late, low, high)), weight, stride=stride)
        return y if beside is None else y + beside
