"""The shape of a recipe. Components' own tables are validated in a second pass against their ``Config``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


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
    category_map: str | None = Field(
        default="circumplex3",
        description="named map from category to arousal and valence where ratings are missing; 'none' leaves them missing",
    )

    @field_validator("category_map")
    @classmethod
    def _none_is_a_word(cls, value: str | None) -> str | None:
        return None if value == "none" else value  # TOML has no null

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

    standardise: bool = Field(default=True, description="zero mean, unit variance on train; the paper feeds it raw")


class Condition(_Table):
    """One way of giving stage one to stage two; every condition is trained with all folds and seeds."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    embeddings: str | None = Field(default=None, description="folder of embedding stores; none for a baseline")
    fusion: Literal["none", "late", "early"] | None = None

    @model_validator(mode="after")
    def _fusion_fits(self) -> Condition:
        if self.embeddings is None and self.fusion not in (None, "none"):
            raise ValueError(f"fusion {self.fusion!r} needs embeddings")
        if self.embeddings is not None and self.fusion == "none":
            raise ValueError("fusion 'none' takes no embeddings")
        return self


class TrainingTable(_Table):
    """How one job is trained."""

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=64, ge=1)
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1, description="sgd only")
    gradient_clip_norm: float | None = Field(default=None, gt=0)
    class_weights: Literal["none", "balanced"] = "none"
    select_by: Literal["dev.uar", "last"] = Field(
        default="dev.uar", description="dev.uar: the epoch of best dev UAR of the first view; last: the last epoch"
    )
    precision: Literal["auto", "fp32", "bf16"] = "fp32"


class PaperValue(_Table):
    """A published number to print beside ours."""

    corpus: str
    condition: str
    uar: float = Field(description="percent")
    minimum: float | None = None
    maximum: float | None = None
    note: str = ""


class SerRecipe(_Table):
    """A recipe of ``repkit train-ser``."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    command: Literal["train-ser"] = "train-ser"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    description: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    max_duration_s: float | None = Field(default=7.5, gt=0, description="utterances are cut at their end")
    corpora: dict[str, str] = Field(default_factory=dict, description="name to folder; usually from --corpus")
    labels: LabelsTable = LabelsTable()
    frontend: ComponentTable = ComponentTable(name="log_mel")
    normalisation: NormalisationTable = NormalisationTable()
    vector: VectorTable = VectorTable()
    baseline: bool = Field(default=True, description="also train the condition BL, without any vector")
    conditions: tuple[Condition, ...] = ()
    protocol: ComponentTable = ComponentTable(name="leave_one_speaker_group_out")
    model: ComponentTable = ComponentTable(name="attentive_cnn")
    objectives: tuple[ComponentTable, ...] = (ComponentTable(name="multi_view"),)
    training: TrainingTable = TrainingTable()
    paper: tuple[PaperValue, ...] = ()

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


class PretrainRecipe(_Table):
    """A recipe of ``repkit pretrain-ae``; `training` is validated against the trainer's own config."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    command: Literal["pretrain-ae"] = "pretrain-ae"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    description: str = ""
    training: dict[str, Any] = Field(default_factory=dict)
