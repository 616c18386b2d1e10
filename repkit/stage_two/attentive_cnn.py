"""The attentive CNN of Neumann & Vu, whole, with three ways to join a stage-one embedding.

Paper: M. Neumann, N. T. Vu, "Improving speech emotion recognition with unsupervised representation learning on
unlabeled speech", ICASSP 2019. Sizes: 200 filters over all bands x 10 frames, stride 3; max-pool 30; attention;
heads of 4, 3 and 3 classes. Differs by default: padding is masked out of pooling and attention
(``padding = "paper"`` restores the published behaviour: zero-padded to a fixed length, attention over all of it).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from repkit import api
from repkit.api.dropout import Dropout
from repkit.stage_two.attentive_pooling import AttentivePooling
from repkit.stage_two.corpus_parts import CorpusAdapters, CorpusHeads
from repkit.stage_two.window_maximum import window_maximum


class AttentiveCnn(nn.Module):
    """Convolution over time, max-pool, attention, heads.

    Parameters (26 bands, 4 + 3 + 3 classes): convolution 52 200, attention 200, heads 2 010 without a vector and
    12 250 with one of 1024.
    """

    capabilities = frozenset({"vectors", "states", "batched"})

    class Config(api.Config):
        """Settings; the defaults are the paper's."""

        n_filters: int = Field(default=200, ge=1)
        kernel_frames: int = Field(default=10, ge=1)
        stride_frames: int = Field(default=3, ge=1)
        pool_size: int = Field(default=30, ge=1)
        dropout: float = Field(default=0.8, ge=0, lt=1, description="drop probability on the joined vector")
        fusion: Literal["late", "early", "none"] = Field(
            default="late",
            description="late: utterance vector joined before the heads (paper); early: frame-level states joined to the "
            "log-Mels in time; none: baseline",
        )
        state_projection: int = Field(
            default=64, ge=1, description="early fusion: channels the states are projected to"
        )
        padding: Literal["masked", "paper"] = "masked"
        paper_frames: int = Field(default=748, ge=1, description="fixed length of padding = paper: 7.5 s at 10 ms")
        adapters: bool = Field(
            default=False, description="adapters beside the convolution and heads for every corpus (Gerczuk 2021)"
        )

    @classmethod
    def capabilities_for(cls, config: Config) -> frozenset[str]:
        """Return the capabilities under these settings."""
        # every utterance goes through the adapter of its corpus, which is an index that siblings cannot share
        own = cls.capabilities - {"batched"} | {"per_corpus"} if config.adapters else cls.capabilities
        return own | ({"padding_sensitive"} if config.padding == "paper" else set())

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.capabilities = self.capabilities_for(config)
        fusion = config.fusion
        if fusion == "late" and not task.vector_dim:
            raise ValueError("fusion 'late' needs utterance vectors; the task has none")
        if fusion == "early" and not task.state_dim:
            raise ValueError("fusion 'early' needs frame-level states; the task has none")
        channels = task.n_bands + (config.state_projection if fusion == "early" else 0)
        self.states = nn.Linear(task.state_dim, config.state_projection) if fusion == "early" else None
        self.conv = nn.Conv1d(channels, config.n_filters, config.kernel_frames, stride=config.stride_frames)
        self.attention = AttentivePooling(config.n_filters)
        self.dropout = Dropout(config.dropout)
        joined = config.n_filters + (task.vector_dim if fusion == "late" else 0)
        self.adapters = CorpusAdapters(tuple(task.corpora), channels, config.n_filters) if config.adapters else None
        self.heads: nn.Module
        if config.adapters:
            self.heads = CorpusHeads(task.corpora, task.views, joined)
        else:
            self.heads = nn.ModuleDict({view: nn.Linear(joined, len(classes)) for view, classes in task.views.items()})
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv1d | nn.Linear) and not name.startswith("adapters"):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return parameters by role: everything before the heads is ``shared``, but for the corpora's adapters."""
        heads = list(self.heads.parameters())
        adapters = list(self.adapters.parameters()) if self.adapters is not None else []
        known = {id(p) for p in (*heads, *adapters)}
        groups = {"shared": [p for p in self.parameters() if id(p) not in known], "head": heads}
        return {**groups, "adapter": adapters} if adapters else groups

    def copy_parts(self, source: str, target: str) -> None:
        """Give corpus target the adapter of corpus source; heads stay, their classes differ."""
        if self.adapters is not None:
            self.adapters.copy(source, target)

    def n_positions(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return the number of pooled positions that hold at least one real frame, (B,) int64, at least 1."""
        return -(-self._n_windows(lengths) // self.config.pool_size)

    def _n_windows(self, lengths: torch.Tensor) -> torch.Tensor:
        windows = torch.div(lengths - self.config.kernel_frames, self.config.stride_frames, rounding_mode="floor") + 1
        return windows.clamp(min=1)

    def forward(self, batch: api.Batch) -> api.Outputs:
        """Return logits of every view and the joined vector before dropout, (B, 200) or (B, 200 + D)."""
        frames = batch.frames  # (B, T, F)
        if self.states is not None:
            frames = torch.cat([frames, self._states_in_time(batch)], dim=2)
        corpora = batch.corpora if self.adapters is not None else None
        convolve = self._convolve_all if batch.dense else self._convolve_and_pool
        pooled, mask = convolve(frames, batch.lengths, corpora)  # (B, P, filters), (B, P)
        shared = self.attention(pooled, mask)  # (B, filters)
        if self.config.fusion == "late":
            shared = torch.cat([shared, batch.vectors.to(shared.dtype)], dim=1)  # (B, filters + D)
        hidden = self.dropout(shared)
        if corpora is not None:
            logits = self.heads(hidden, corpora)
        else:
            logits = {view: head(hidden) for view, head in self.heads.items()}
        return api.Outputs(logits={view: value.float() for view, value in logits.items()}, shared=shared.float())

    def _convolve_and_pool(
        self, frames: torch.Tensor, lengths: torch.Tensor, corpora: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return max-pooled ReLU responses (B, P, filters) and which of the P positions hold speech (None: all count).

        Windows are laid out position by position and only positions that hold speech are multiplied: a batch then costs
        what its speech costs, not what its longest utterance costs.
        """
        config = self.config
        paper = config.padding == "paper"
        n_windows = self._n_windows(lengths)
        if paper:  # fixed length, the remainder that fills no pool is dropped
            n_positions = max(1, self._n_windows(lengths.new_tensor([config.paper_frames])).item() // config.pool_size)
            wanted = torch.ones(len(frames), n_positions, dtype=torch.bool, device=frames.device)
        else:
            counts = self.n_positions(lengths)
            n_positions = int(counts.max())
            wanted = torch.arange(n_positions, device=frames.device)[None, :] < counts[:, None]
        n_frames = (n_positions * config.pool_size - 1) * config.stride_frames + config.kernel_frames
        frames = F.pad(frames, (0, 0, 0, max(0, n_frames - frames.shape[1])))[:, :n_frames]
        # (B, P * pool, kernel, F), a view; the frames of a window lie side by side, so that it is copied in one go
        windows = frames.unfold(1, config.kernel_frames, config.stride_frames).transpose(2, 3)
        windows = windows.unflatten(1, (n_positions, config.pool_size))[wanted].flatten(2)  # (V, pool, kernel * F)
        # a window that reaches into the padding must not win the maximum
        steps = torch.arange(n_positions * config.pool_size, device=frames.device).view(n_positions, config.pool_size)
        invalid = (steps[None] >= n_windows[:, None, None])[wanted] & (not paper)  # (V, pool)
        weight, bias = self.conv.weight.transpose(1, 2).flatten(1), self.conv.bias
        if corpora is None and not windows.requires_grad:
            maxima = window_maximum(windows, weight, bias, invalid.flatten().nonzero()[:, 0])  # (V, filters)
        else:
            responses = F.linear(windows, weight, bias)  # (V, pool, filters)
            if corpora is not None:
                # the frame in the middle of each window: a convolution of width 1 beside the shared one
                middles = windows.unflatten(2, (config.kernel_frames, -1))[:, :, config.kernel_frames // 2]
                responses = responses + self.adapters(middles, corpora[wanted.nonzero()[:, 0]])
            maxima = responses.masked_fill(invalid[..., None], -torch.inf).max(dim=1).values
        maxima = F.relu(maxima)  # ReLU and maximum commute
        pooled = maxima.new_zeros(*wanted.shape, config.n_filters)
        pooled[wanted] = maxima
        return pooled, None if paper else wanted

    def _convolve_all(
        self, frames: torch.Tensor, lengths: torch.Tensor, corpora: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what `_convolve_and_pool` returns, by shapes alone: padding is multiplied and thrown away."""
        config = self.config
        paper = config.padding == "paper"
        longest = config.paper_frames if paper else frames.shape[1]
        windows = max(1, (longest - config.kernel_frames) // config.stride_frames + 1)
        n_positions = max(1, windows // config.pool_size if paper else -(-windows // config.pool_size))
        n_frames = (n_positions * config.pool_size - 1) * config.stride_frames + config.kernel_frames
        frames = F.pad(frames, (0, 0, 0, max(0, n_frames - frames.shape[1])))[:, :n_frames]
        cut = frames.unfold(1, config.kernel_frames, config.stride_frames).transpose(2, 3)  # (B, P * pool, kernel, F)
        weight = self.conv.weight.transpose(1, 2).flatten(1)
        responses = F.linear(cut.flatten(2), weight, self.conv.bias)  # (B, P * pool, filters)
        if corpora is not None:
            responses = responses + self.adapters(cut[:, :, config.kernel_frames // 2], corpora)
        wanted = None
        if not paper:
            steps = torch.arange(n_positions * config.pool_size, device=frames.device)
            responses = responses * (steps < self._n_windows(lengths)[:, None])[..., None]
            wanted = torch.arange(n_positions, device=frames.device) < self.n_positions(lengths)[:, None]
        pooled = F.relu(responses.unflatten(1, (n_positions, config.pool_size)).amax(dim=2))
        return pooled if wanted is None else pooled * wanted[..., None], wanted

    def _states_in_time(self, batch: api.Batch) -> torch.Tensor:
        """Project states (B, T2, D) and repeat them to the frame rate, (B, T, P); both cover the same time, by `api.Batch`."""
        n_frames = batch.frames.shape[1]
        steps = torch.arange(n_frames, device=batch.frames.device)
        ratio = batch.state_lengths[:, None] / batch.lengths[:, None]
        nearest = ((steps[None, :] + 0.5) * ratio).long().clamp(max=batch.states.shape[1] - 1)  # (B, T)
        projected = self.states(batch.states)
        taken = projected.gather(1, nearest[..., None].expand(-1, -1, projected.shape[2]))
        return taken * batch.mask[..., None]
