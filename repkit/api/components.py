"""What a component of each entry-point group must be able to do.

Components are chosen by name in a recipe, built as ``Class(Class.Config(**table))`` (models get the task too) and never
guessed from a class name. See docs/extension-points.md for a complete example of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from repkit.api.config import Config as _Config
from repkit.api.data import Audio, Batch, EncoderStates, Fold, Outputs, PretrainBatch, Utterance

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Corpus(Protocol):
    """Utterances and their sound (group ``repkit.corpora``).

    Optional attribute: ``one_pass``, True where `stream` can only be read from its begin, so that parts of it cannot be read
    by several processes.
    """

    name: str

    def utterances(self) -> Sequence[Utterance]:
        """Return all utterances in a fixed order; decodes no audio."""
        ...

    def read(self, utterance: Utterance, max_duration_s: float | None = None) -> np.ndarray:
        """Return the sound as mono float32 (S,) at 16 kHz, full scale 1.

        Raises:
            BadAudioError: unreadable, empty, silent, not finite or too short.
        """
        ...

    def stream(
        self, skip: int = 0, max_duration_s: float | None = None
    ) -> Iterator[tuple[Utterance, np.ndarray | Exception]]:
        """Yield utterances in order with their sound, or with the `BadAudioError` met, after skipping some."""
        ...

    def fingerprint(self) -> str:
        """Return a hash (hex) of what the corpus holds: ids, speakers, labels, audio locations' sizes or revision."""
        ...


@runtime_checkable
class Frontend(Protocol):
    """Waveforms to frames (group ``repkit.frontends``).

    Optional attribute: ``columns``, the F names of what a frame holds (``mel_000`` ... for spectral bands, ``log_f0``,
    ``voiced`` ...), by which objectives of stage one find what they predict; without it all columns count as bands.
    """

    Config: ClassVar[type[_Config]]
    config: _Config
    n_bands: int
    sample_rate: int
    frame_shift_s: float

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a waveform of n_samples samples."""
        ...

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) float32 and their counts (B,) from waveforms (B, S) and sample counts (B,).

        Padding never changes a valid frame: a waveform alone or in any batch gives the same frames.
        """
        ...

    def convention(self) -> Mapping[str, object]:
        """Return every setting that changes the numbers, as JSON values; stored with the data."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Frames or waveforms to embeddings (group ``repkit.encoders``).

    Optional class attribute: ``argument``, the name of the setting that ``repkit embed --encoder NAME:VALUE`` sets. Optional
    methods ``frames(waveform)`` and ``encode_frames(frames)``, the two halves of ``encode``: frames are then made in a thread
    of their own; and at frame level ``start_s(waveform)``, the seconds that are cut away before the first state. That level needs
    an attribute ``frame_shift_s``, the seconds from one state to the next.
    """

    name: str
    dim: int
    level: str
    """``"utterance"`` for one vector each, ``"frame"`` for a sequence of states."""

    def encode(self, waveforms: Sequence[np.ndarray]) -> Sequence[np.ndarray | Any]:
        """Return one (D,) vector or one (T, D) sequence per waveform (16 kHz), float32, whatever the batch.

        In place of an array an encoder may return a `repkit.api.BadAudioError` that says why this waveform has none:
        ``repkit embed`` lists it, or leaves it out, like audio that cannot be read. It stands as ``Any`` in the type, so that
        type checkers let those who know their encoder stack what it returns.
        """
        ...

    def provenance(self) -> Mapping[str, object]:
        """Return JSON values: config, checksum of the weights, corpora and speakers heard in training."""
        ...


class PretrainingObjective(Protocol):
    """A stage-one loss on unlabelled speech (group ``repkit.pretraining``), a `torch.nn.Module` built as ``Class(config, task)``.

    Its parameters (heads, decoders) are trained with the encoder's and thrown away with them; its buffers are kept in
    checkpoints. Optional methods:

    - ``corrupt(frames, lengths, generator)``: return other frames (B, T, F), zero where padded, for the encoder to read: it
      then runs once more for this objective alone. Draws from the generator (on the CPU) and from nothing else;
    - ``calibrate(batches)``: look at an iterable of `repkit.api.PretrainBatch` of training speech once, before any training,
      and keep what is found (constants to standardise targets by) in buffers.
    """

    Config: ClassVar[type[_Config]]

    def __call__(self, batch: PretrainBatch, states: EncoderStates, progress: float) -> Mapping[str, torch.Tensor]:
        """Return named scalar losses whose sum is minimised; padded frames count nothing. Progress runs from 0 to 1."""
        ...


class SerModel(Protocol):
    """A stage-two model (group ``repkit.models``), a `torch.nn.Module` built as ``Class(config, task)``.

    Optional attributes and methods:

    - ``capabilities``: a frozenset of what the model can do beyond log-Mel frames of any length; `MODEL_CAPABILITIES`
      lists them. A condition with embeddings is refused by a model that does not read them;
    - ``capabilities_for(config)``, a class method: the same where settings decide; instances then hold the result in
      ``capabilities``;
    - ``copy_parts(source, target)``: give the parts of corpus target the values of corpus source (``per_corpus`` only);
    - ``candidates()``, ``fit(view, known, candidate, seed)`` and ``scores(view, values)`` (``estimator`` only): the settings
      to choose from, in the order in which the first of equally good ones is taken (at least one, JSON values); a fit of
      one view on `LabelledVectors` with one of them; what the classes are ranked by, (B, C) for vectors (B, D). What is
      learnt lies in buffers, whose shapes may change with every fit.
    """

    Config: ClassVar[type[_Config]]

    def __call__(self, batch: Batch) -> Outputs:
        """Return the views' logits and the shared vector."""
        ...

    def parameter_groups(self) -> Mapping[str, Sequence[torch.nn.Parameter]]:
        """Return the parameters by role: ``shared``, ``adapter``, ``norm``, ``head``; every parameter exactly once."""
        ...


MODEL_CAPABILITIES: Mapping[str, str] = {
    "vectors": "joins utterance vectors (Batch.vectors) when the task has them",
    "states": "joins frame-level states (Batch.states) when the task has them",
    "segments": "needs items of fixed length (TaskSpec.n_frames); the recipe must have a [segments] table",
    "per_corpus": "keeps parts of its own for every corpus of TaskSpec.corpora and reads Batch.corpora",
    "routes": "can take the parts of a view instead of those of the corpus (Batch.route)",
    "batched": "where Batch.dense is set, shapes follow from shapes alone; random numbers come from repkit.api.Dropout; no buffer "
    "is changed: many models of one shape can then be trained as one program",
    "estimator": "is fitted in one go on utterance vectors, without gradients, epochs or objectives; reads no frames",
    "padding_sensitive": "published behaviour under which padding changes the result: tested in batches as trained; the report says so",
}
"""What a model may declare in ``capabilities``, and what each means to the engine and the conformance kit."""

OBJECTIVE_CAPABILITIES: Mapping[str, str] = {
    "batched": "tensor operations alone, none of update, measure and domains; progress may be a tensor; an item without any "
    "label changes nothing: many models of one shape can then be trained as one program",
}
"""What an objective may declare in ``capabilities``."""

DOMAINS = ("speaker", "corpus", "language", "gender")
"""What an objective may ask to be told apart."""


class Objective(Protocol):
    """A stage-two loss (group ``repkit.objectives``), a `torch.nn.Module` built as ``Class(config, task)``.

    Its parameters are trained with the model's. Optional attributes and methods:

    - ``capabilities``: a frozenset of `OBJECTIVE_CAPABILITIES`;
    - ``domains(config)``, a static or class method: the `DOMAINS` whose classes must stand in ``batch.domains``;
    - ``measure(outputs, batch, progress)``: named figures (numbers or 0-d tensors) for the log, averaged over an epoch,
      never minimised; called without gradient;
    - ``update(outputs, batch)``: change buffers after the optimiser's step (running centres and the like), without
      gradient;
    - ``diagnose(figures)``: given an epoch's mean losses and figures of this objective, return a sentence that warns
      of a training gone wrong, or None.
    """

    Config: ClassVar[type[_Config]]

    def __call__(self, outputs: Outputs, batch: Batch, progress: float) -> Mapping[str, torch.Tensor]:
        """Return named scalar losses whose sum is minimised; missing labels count nothing. Progress runs from 0 to 1."""
        ...


@runtime_checkable
class EvaluationProtocol(Protocol):
    """The rule that makes folds (group ``repkit.protocols``).

    A Config with a field ``hold_out`` (names of corpora never trained on) can be used with ``--hold-out``. Optional class
    attributes tell the conformance kit what to expect: ``covers = "some"`` of a rule that does not test every utterance,
    ``stratified = True`` of one that looks at labels to balance its parts.
    """

    Config: ClassVar[type[_Config]]

    def folds(self, utterances: Sequence[Utterance]) -> Sequence[Fold]:
        """Return folds with speaker-disjoint train, dev and test, independent of the order of utterances."""
        ...


__all__ = [
    "DOMAINS",
    "MODEL_CAPABILITIES",
    "OBJECTIVE_CAPABILITIES",
    "Audio",
    "Corpus",
    "Encoder",
    "EvaluationProtocol",
    "Frontend",
    "Objective",
    "PretrainingObjective",
    "SerModel",
]
