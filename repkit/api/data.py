"""The values that pass between the rooms. Axes: B batch, S samples, T frames, F bands, D embedding, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

View = Literal["emotion", "arousal", "valence"]
"""One supervised output."""

MISSING = -100
"""Target index of a missing label; every objective masks it (the ignore index of torch's cross-entropy)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """Where an utterance's sound is. Nothing is decoded by making one.

    Attributes:
        path: audio file, or None when the corpus hands the bytes out itself (hub rows, generated speech).
        start_s: first second to read.
        end_s: end in seconds, or None for the end of the file.
        channel: channel to take, or None for the mean of all.
    """

    path: Path | None = None
    start_s: float = 0.0
    end_s: float | None = None
    channel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One unit of speech with what is known about it.

    Attributes:
        id: unique over all corpora, ``"<corpus>/<name>"``; the key of stores, folds and predictions.
        corpus: name of the corpus, as given by the user.
        speaker: unique over all corpora, ``"<corpus>/<speaker>"``, or None if unknown.
        session: recording session, ``"<corpus>/<session>"``, or None.
        gender: ``"female"``, ``"male"`` or None.
        language: ISO 639-1 code or None.
        emotion: a name of the closed vocabulary (`repkit.audio.emotions`) or None when unlabelled.
        arousal: mean rating on 1 (calm) to 5 (excited), or None.
        valence: mean rating on 1 (negative) to 5 (positive), or None.
        text: what is said, or None.
        audio: where the sound is.
        extra: any further columns of the corpus, as text.
    """

    id: str
    corpus: str
    speaker: str | None = None
    session: str | None = None
    gender: str | None = None
    language: str | None = None
    emotion: str | None = None
    arousal: float | None = None
    valence: float | None = None
    text: str | None = None
    audio: Audio = field(default_factory=Audio)
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fold:
    """One train, dev, test triple of utterance ids.

    Attributes:
        name: unique in its protocol, for example ``"speaker_03"``.
        train: ids to learn from.
        dev: ids to select the epoch on.
        test: ids to predict, never used for any choice.
        unlabelled: ids whose audio may be heard in training; the loader strips their labels.
    """

    name: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a stage-two model has to predict and from what; a model builds its layers from it.

    Attributes:
        views: classes of each view, in the order of the logits.
        n_bands: F of the log-Mel frames.
        vector_dim: D of the utterance vector, 0 when there is none.
        state_dim: D of frame-level states, 0 when there are none.
        domains: number of classes of each domain (speaker, corpus, language, gender) that the objectives ask for and
            that has at least two in this fold's training audio.
        corpora: per corpus, in the order of `Batch.corpora`, the classes of each view that it has.
        n_frames: T of every item when utterances are cut into segments of fixed length, else 0.
        shared_dim: H of the model's `Outputs.shared`; objectives are built knowing it, for models it is 0.
    """

    views: Mapping[str, tuple[str, ...]]
    n_bands: int
    vector_dim: int = 0
    state_dim: int = 0
    domains: Mapping[str, int] = field(default_factory=dict)
    corpora: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    n_frames: int = 0
    shared_dim: int = 0


@dataclass(slots=True)
class Batch:
    """A padded batch for stage two. Its items are utterances, or segments of them.

    Attributes:
        ids: B utterance ids; the same id several times where the items are segments.
        frames: (B, T, F) float32, zero where padded.
        lengths: (B,) int64, valid frames.
        targets: per view (B,) int64 class index, `MISSING` where unlabelled.
        vectors: (B, D) float32 utterance vectors or None.
        states: (B, T2, D) float32 frame-level states or None, zero where padded; they cover the same time as the frames.
        state_lengths: (B,) int64 or None.
        domains: per domain (B,) int64 class index, `MISSING` where unknown.
        weights: (B,) float32 utterance weights or None.
        corpora: (B,) int64 index into `TaskSpec.corpora`, or None.
        route: None (each item goes through the parts of its own corpus) or a view whose parts, common to all corpora,
            a model that can do so takes instead.
        dense: whether the shapes of all that a model computes must follow from the shapes of the batch, as on a GPU and
            among siblings (capability ``batched``): no boolean index, no ``.item()``. Padding may then be multiplied too.
    """

    ids: list[str]
    frames: torch.Tensor
    lengths: torch.Tensor
    targets: dict[str, torch.Tensor]
    vectors: torch.Tensor | None = None
    states: torch.Tensor | None = None
    state_lengths: torch.Tensor | None = None
    domains: dict[str, torch.Tensor] = field(default_factory=dict)
    weights: torch.Tensor | None = None
    corpora: torch.Tensor | None = None
    route: str | None = None
    dense: bool = False

    @property
    def mask(self) -> torch.Tensor:
        """(B, T) bool, True where a frame is real."""
        import torch

        steps = torch.arange(self.frames.shape[1], device=self.frames.device)
        return steps[None, :] < self.lengths[:, None]


@dataclass(slots=True)
class Outputs:
    """What a stage-two model returns.

    Attributes:
        logits: per view (B, C) float32, unnormalised.
        shared: (B, H) float32, the vector all heads read; for t-SNE, domain heads and probes.
    """

    logits: dict[str, torch.Tensor]
    shared: torch.Tensor


@dataclass(frozen=True, slots=True)
class PretrainTask:
    """What an objective of stage one is built for; it makes its heads from it.

    Attributes:
        columns: name of each of the F columns of the frames: ``mel_000``, ``mel_001`` ... for spectral bands, which every
            frontend has; others (``log_f0``, ``voicing`` ...) where the frontend makes them.
        frame_shift_s: seconds from one frame to the next.
        layer_sizes: H of the states of each layer of the encoder, both directions together.
        vector_dim: D of the pooled vector.
        bidirectional: whether a state knows the frames after it, so that predicting them would be idle.
    """

    columns: tuple[str, ...]
    frame_shift_s: float
    layer_sizes: tuple[int, ...]
    vector_dim: int
    bidirectional: bool = False

    @property
    def n_bands(self) -> int:
        """F, the number of columns."""
        return len(self.columns)


@dataclass(slots=True)
class PretrainBatch:
    """A padded batch of unlabelled speech: pieces of utterances.

    Attributes:
        frames: (B, T, F) float32, each column with mean 0 and deviation 1 over the training speech; zero where padded.
        lengths: (B,) int64, valid frames, at least 1.
        voiced: (B, T) bool, True where the frontend heard a voice's pitch, False where padded; None where it does not say.
    """

    frames: torch.Tensor
    lengths: torch.Tensor
    voiced: torch.Tensor | None = None

    @property
    def mask(self) -> torch.Tensor:
        """(B, T) bool, True where a frame is real."""
        import torch

        steps = torch.arange(self.frames.shape[1], device=self.frames.device)
        return steps[None, :] < self.lengths[:, None]


@dataclass(slots=True)
class EncoderStates:
    """What an encoder makes of a batch.

    Attributes:
        layers: per layer (B, T, H) states, the last one on top; float32 or bfloat16, meaningless where padded.
        vector: (B, D) float32, the states pooled over the valid frames.
        frames: (B, T, F) float32, what the encoder was given: the batch's frames, or what the objective's own `corrupt`
            made of them.
    """

    layers: tuple[torch.Tensor, ...]
    vector: torch.Tensor
    frames: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LabelledVectors:
    """What an estimator (a model fitted in one go) learns one view from; a model may keep what it computes of it.

    Attributes:
        values: (n, D) float32 utterance vectors.
        target: (n,) int64 class index, none missing.
        n_classes: classes of the view; some may be absent from target.
        speakers: speaker of each, for whoever must keep them apart.
    """

    values: torch.Tensor
    target: torch.Tensor
    n_classes: int
    speakers: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one utterance.

    Attributes:
        values: (T, F) float32.
        frame_shift_s: seconds between two frames.
    """

    values: np.ndarray
    frame_shift_s: float
