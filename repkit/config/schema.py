"""The shape of a recipe. Components' own tables are validated in a second pass against their ``Config``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return base with the tables of over laid upon it; a component of another name replaces the whole table."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and old.get("name") == value.get("name", old.get("name"))
        ):
            merged[key] = merge_tables(old, value)
        else:
            merged[key] = value
    return merged


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class ComponentTable(BaseModel):
    """A component chosen by name; every other key belongs to that component's Config."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """The keys besides name and weight."""
        return {key: value for key, value in (self.__pydantic_extra__ or {}).items() if key != "weight"}

    @property
    def weight(self) -> float:
        """Factor of an objective, 1 unless given."""
        return float((self.__pydantic_extra__ or {}).get("weight", 1.0))


class LabelsTable(_Table):
    """Which labels are predicted, by which paper's map."""

    map: str = "own"
    views: tuple[Literal["emotion", "arousal", "valence"], ...] = ("emotion",)
    auxiliary: tuple[Literal["emotion", "arousal", "valence"], ...] = Field(
        default=(), description="further views that training may use; they are neither predicted nor scored"
    )
    category_map: str | None = Field(
        default="circumplex3",
        description="named map from category to arousal and valence in corpora without ratings of them; 'none' leaves them missing",
    )

    @field_validator("category_map")
    @classmethod
    def _none_is_a_word(cls, value: str | None) -> str | None:
        return None if value == "none" else value  # TOML has no null

    @model_validator(mode="after")
    def _auxiliary_are_others(self) -> LabelsTable:
        both = set(self.views) & set(self.auxiliary)
        if both or len(set(self.auxiliary)) != len(self.auxiliary):
            raise ValueError(f"auxiliary views must be others than views, each once; got {', '.join(self.auxiliary)}")
        return self

    @field_validator("views")
    @classmethod
    def _emotion_or_dimension(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("needs at least one view, each once")
        return value


class NormalisationTable(_Table):
    """How frames are normalised; per_speaker and per_corpus use unlabelled test audio and are flagged transductive."""

    mode: Literal["none", "per_utterance", "global_train", "per_speaker", "per_corpus"] = "global_train"
    min_clips: int = Field(default=10, ge=1, description="clips a speaker needs for statistics of its own")


class VectorTable(_Table):
    """What happens to the utterance vector before the model reads it."""

    standardise: bool = Field(default=True, description="zero mean, unit variance; the paper feeds it raw")
    by: Literal["train", "per_speaker", "per_corpus"] = Field(
        default="train",
        description="whose utterances give mean and variance; per_speaker and per_corpus use unlabelled test audio and are "
        "flagged transductive",
    )
    min_clips: int = Field(default=10, ge=1, description="clips a speaker needs for statistics of its own")


CONDITION_KEYS = ("model", "objectives", "training", "phases", "vector", "target_audio")
"""What one condition may set differently: nothing that changes labels, frames, normalisation or folds."""


class Condition(_Table):
    """One system of a run: an embedding, or settings of its own; every condition is trained with all folds and seeds."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    embeddings: str | tuple[str, ...] | None = Field(
        default=None,
        description="folder of embedding stores, or several whose vectors are joined, each weighing alike; none for a baseline",
    )
    fusion: Literal["none", "late", "early"] | None = None
    set: dict[str, Any] = Field(
        default_factory=dict, description="tables laid over the recipe for this condition, e.g. {model = {name = ...}}"
    )

    @field_validator("embeddings")
    @classmethod
    def _one_or_several(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if not isinstance(value, tuple):
            return value
        if not value or len(set(value)) != len(value):
            raise ValueError("needs at least one folder, each once")
        return value[0] if len(value) == 1 else value

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the embeddings: none, one, or those that are joined."""
        if self.embeddings is None:
            return ()
        return (self.embeddings,) if isinstance(self.embeddings, str) else self.embeddings

    @field_validator("set")
    @classmethod
    def _only_what_may_differ(cls, value: dict[str, Any]) -> dict[str, Any]:
        wrong = [key for key in value if key not in CONDITION_KEYS]
        if wrong:
            raise ValueError(
                f"a condition may set {', '.join(CONDITION_KEYS)}, not {', '.join(wrong)}: all conditions of a run share "
                "labels, frames and folds"
            )
        return value

    @model_validator(mode="after")
    def _fusion_fits(self) -> Condition:
        if self.embeddings is None and self.fusion not in (None, "none"):
            raise ValueError(f"fusion {self.fusion!r} needs embeddings")
        if self.embeddings is not None and self.fusion == "none":
            raise ValueError("fusion 'none' takes no embeddings")
        return self


class SegmentsTable(_Table):
    """Cut every utterance into items of fixed length; an utterance's probabilities are the mean of its segments'."""

    length_s: float = Field(gt=0, description="length; an utterance shorter than that is padded with zeros")
    step_s: float | None = Field(default=None, gt=0, description="from start to start; by default the length")


class TrainingTable(_Table):
    """How one phase is trained."""

    epochs: int = Field(default=100, ge=1, description="most epochs, at each step of the learning rate")
    steps_per_epoch: int | None = Field(
        default=None,
        ge=1,
        description="batches; by default one pass over train, which samplers that sort by length never exceed",
    )
    batch_size: int = Field(default=64, ge=1)
    sampler: Literal[
        "shuffle", "length_sorted", "length_binned", "class_balanced", "corpus_balanced", "round_robin"
    ] = Field(
        default="shuffle",
        description="length_sorted: batches of neighbours in length whose members never change, in random order; length_binned: "
        "the same with members drawn anew each epoch",
    )
    length_step_frames: int = Field(
        default=1,
        ge=1,
        description="samplers that sort by length round it up to a multiple of this; utterances that are then equally long stay "
        "in the order of the corpus, which may be that of its classes",
    )
    crop_s: float | None = Field(
        default=None,
        gt=0,
        description="train on a random part of this length; predict from the start, or from the middle of what is more than "
        "twice as long",
    )
    optimiser: Literal["adam", "adamw", "sgd", "adadelta"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    learning_rate_steps: tuple[float, ...] = Field(
        default=(1.0,), min_length=1, description="factors; after each but the last the best weights are reloaded"
    )
    schedule: Literal["constant", "dann", "time_decay"] = Field(
        default="constant", description="dann: lr / (1 + 10 p)^0.75; time_decay: lr / (1 + decay * updates)"
    )
    decay: float = Field(default=1e-6, ge=0, description="of schedule time_decay")
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1, description="sgd only")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="of adam and adamw; Keras has 1e-7")
    gradient_clip_norm: float | None = Field(default=None, gt=0)
    class_weights: Literal["none", "balanced", "balanced_per_corpus", "balanced_all"] = Field(
        default="none",
        description="balanced: N / (C N_c) by the counts of train; balanced_per_corpus: within each corpus; balanced_all: by "
        "the counts of all utterances, test included, as some papers do; the classes of the first view weigh the loss of every view",
    )
    unlabelled_share: float = Field(
        default=0.5, gt=0, lt=1, description="share of each batch that is unlabelled, where a fold has such audio"
    )
    select_by: Literal["dev.uar", "dev.wa", "dev.corpus_uar", "last", "nested", "test"] = Field(
        default="dev.uar",
        description="the epoch of best dev UAR, accuracy, or mean over corpora of their UAR, of the first view; "
        "last: the last epoch. Models fitted in one go (svm, ...) choose their settings by dev.uar, nested: by inner folds of "
        "the training speakers; or test: by the test folds, as some papers do: optimistic, flagged",
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after this many epochs without gain; dev scores only"
    )
    min_gain: float = Field(default=0.0, ge=0, lt=1, description="gain that resets patience, as a share")
    precision: Literal["auto", "fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _patience_needs_dev(self) -> TrainingTable:
        if self.patience is not None and self.select_by in ("last", "nested", "test"):
            raise ValueError(f"patience watches dev scores; choose a select_by other than {self.select_by!r}")
        return self


class PhaseTable(_Table):
    """One training of a sequence: what is trained, from which weights, on which corpora."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    corpora: tuple[str, ...] = Field(default=(), description="train on these only; empty: all of the fold's train part")
    each: Literal["once", "corpus"] = Field(
        default="once", description="corpus: one training after the other per corpus"
    )
    train: tuple[Literal["shared", "adapter", "norm", "head"], ...] = Field(
        default=(), description="parameter groups to train, the others stay to the bit; empty: all"
    )
    initial: str = Field(
        default="previous", description="previous, fresh, or the path of a weights file of an earlier run"
    )
    copy_from: str | None = Field(
        default=None, description="corpus whose own parts the trained corpora start from (models with parts per corpus)"
    )
    views: tuple[Literal["emotion", "arousal", "valence"], ...] = Field(default=(), description="empty: all")
    route: Literal["corpus", "view"] = Field(
        default="corpus", description="view: train the parts of each of `views`, common to all corpora"
    )
    subsample: Literal["none", "rarest_class"] = Field(
        default="none", description="rarest_class: per corpus and view every class drawn down to its rarest"
    )
    training: dict[str, Any] = Field(default_factory=dict, description="laid over [training] for this phase")

    @model_validator(mode="after")
    def _route_needs_views(self) -> PhaseTable:
        if self.route == "view" and not self.views:
            raise ValueError("route 'view' needs views")
        if self.route == "view" and self.each == "corpus":
            raise ValueError("route 'view' trains parts common to all corpora; each = 'once' is expected")
        return self


class PaperValue(_Table):
    """A published number to print beside ours."""

    corpus: str
    condition: str
    uar: float = Field(description="percent")
    view: str | None = Field(default=None, description="by default the first view of the recipe")
    minimum: float | None = None
    maximum: float | None = None
    note: str = ""


ADDED_LATER: dict[str, Any] = {"length_step_frames": 1}
"""Keys of `TrainingTable` that came when there were runs; at these defaults no part of a run's signature, so that those are found."""

NOT_TRAINING = ("corpora", "conditions", "description", "reference", "baseline", "paper", "paper_table")
"""Keys of `SerRecipe` that change no prediction of a single condition: what is trained, beside what it is shown, and where."""


class SerRecipe(_Table):
    """A recipe of ``repkit train-ser``."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    command: Literal["train-ser"] = "train-ser"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    description: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    max_duration_s: float | None = Field(default=7.5, ge=0.1, description="utterances are cut at their end")
    corpora: dict[str, str] = Field(default_factory=dict, description="name to folder; usually from --corpus")
    labels: LabelsTable = LabelsTable()
    frontend: ComponentTable = ComponentTable(name="log_mel")
    normalisation: NormalisationTable = NormalisationTable()
    vector: VectorTable = VectorTable()
    segments: SegmentsTable | None = None
    baseline: bool = Field(default=True, description="also train the condition BL, without any vector")
    conditions: tuple[Condition, ...] = ()
    reference: str = Field(default="BL", description="condition that the others are compared with")
    target_audio: Literal["none", "test"] = Field(
        default="none",
        description="test: the audio of the test part is heard in training without its labels, for objectives that tell "
        "domains apart; transductive",
    )
    protocol: ComponentTable = ComponentTable(name="leave_one_speaker_group_out")
    model: ComponentTable = ComponentTable(name="attentive_cnn")
    objectives: tuple[ComponentTable, ...] = (ComponentTable(name="multi_view"),)
    training: TrainingTable = TrainingTable()
    phases: tuple[PhaseTable, ...] = Field(default=(), description="empty: one phase that trains everything")
    paper: tuple[PaperValue, ...] = ()
    paper_table: str | None = Field(
        default=None, description="published table to print beside ours, e.g. parry2019/table_3; see `repkit reproduce`"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _components_too(cls, value: Any, handler: ModelWrapValidatorHandler[SerRecipe]) -> SerRecipe:
        try:
            return handler(value)
        except ValidationError as error:
            from repkit.config.components import with_components  # asks components, which takes the time to import them

            raise with_components(error, value) from error

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("needs at least one seed, each once")
        return value

    @model_validator(mode="after")
    def _conditions_distinct(self) -> SerRecipe:
        names = [condition.name for condition in self.conditions]
        if len(set(names)) != len(names) or (self.baseline and "BL" in names):
            raise ValueError(f"condition names must differ (BL is the baseline's), got {names}")
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> SerRecipe:
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"phase names must differ, got {names}")
        known = {*self.labels.views, *self.labels.auxiliary}
        for phase in self.phases:
            if not set(phase.views) <= known:
                raise ValueError(f"phase {phase.name!r}: views {list(phase.views)}; the labels have {sorted(known)}")
            TrainingTable.model_validate({**self.training.model_dump(), **phase.training})
        return self

    def resolved_phases(self) -> list[tuple[PhaseTable, TrainingTable]]:
        """Return every phase with its training table; one that trains everything when the recipe names none."""
        phases = self.phases or (PhaseTable(name="train"),)
        base = self.training.model_dump()
        return [(phase, TrainingTable.model_validate({**base, **phase.training})) for phase in phases]

    def with_embeddings(self, embeddings: Sequence[Condition]) -> SerRecipe:
        """Return the recipe with conditions for embeddings.

        They replace the recipe's own that have embeddings; those without are kept, and each is also trained with each
        embedding, as ``<condition>.<embedding>``. Names that are given twice are refused by `make_plan`.
        """
        systems = [c for c in self.conditions if c.embeddings is None]
        if not systems:
            return self.model_copy(update={"conditions": tuple(embeddings)})
        both = [e.model_copy(update={"name": f"{c.name}.{e.name}", "set": c.set}) for c in systems for e in embeddings]
        return self.model_copy(update={"conditions": (*systems, *both)})

    def of_condition(self, condition: Condition | None) -> SerRecipe:
        """Return the recipe with a condition's own settings laid over it (None: the baseline's)."""
        if condition is None or not condition.set:
            return self
        return SerRecipe.model_validate(merge_tables(self.model_dump(by_alias=True), condition.set))


class PretrainRecipe(_Table):
    """A recipe of ``repkit pretrain-ae``; `training` is validated against the trainer's own config.

    With objectives an encoder is trained on their weighted sum; without, the paper's autoencoder on its own loss.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    command: Literal["pretrain-ae"] = "pretrain-ae"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    description: str = ""
    training: dict[str, Any] = Field(default_factory=dict)
    objectives: tuple[ComponentTable, ...] = ()

    def objective_tables(self) -> list[dict[str, Any]]:
        """Return name, weight and settings of each objective as one flat table."""
        return [{"name": one.name, "weight": one.weight, **one.settings} for one in self.objectives]
