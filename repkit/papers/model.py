"""The form of a paper's file: corpora, systems, and tables made of blocks of published numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from repkit.errors import did_you_mean

Number = float | Literal["-"]
"""A published number; ``"-"`` where the paper prints none."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PaperCorpus(_Part):
    """A corpus as the paper used it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="name in repkit, as given to --corpus")
    title: str = Field(description="name in the paper")
    clips: int | None = Field(default=None, description="utterances the paper used, where it says so")
    options: dict[str, Any] = Field(default_factory=dict, description="settings as of --corpus-set, unless given there")
    set: tuple[str, ...] = Field(default=(), description="KEY=VALUE laid over the recipe of a run on this corpus alone")
    note: str = ""


class StageOne(_Part):
    """The autoencoder whose vectors a system reads."""

    recipe: str = Field(description="of repkit pretrain-ae")
    corpus: str = Field(description="name of the unlabelled corpus; {corpus}: the one that is tested")
    set: tuple[str, ...] = ()


class System(_Part):
    """A row or column of the paper's tables: something that was trained, or a number to print beside it."""

    id: str = Field(pattern=r"^[^/\s][^/]*$", description="name in the table and for --only")
    description: str = ""
    recipe: str | None = Field(default=None, description="of repkit train-ser; none: the block's, if it has one")
    condition: str = Field(default="BL", description="condition of the recipe, or the name given to the vector")
    set: tuple[str, ...] = Field(default=(), description="KEY=VALUE laid over the recipe")
    embed: str | None = Field(default=None, description="encoder of repkit embed whose vectors are read")
    stage_one: StageOne | None = None
    checkpoint: Literal["selected", "last"] = "selected"
    alone: bool = Field(default=False, description="trained on each corpus by itself, whatever the block trains on")
    seeds: int | None = Field(default=None, description="repeats behind the published number, where the paper says so")
    like: str | None = Field(default=None, description="system whose numbers this one is printed beside")
    differs: str = Field(default="", description="what makes our number another than the published one")
    reason: str = Field(default="", description="why the system cannot be run here")

    @model_validator(mode="after")
    def _one_vector(self) -> System:
        if self.embed and self.stage_one:
            raise ValueError("embed and stage_one: one of them at most")
        return self


class CellNote(_Part):
    """A remark on some cells; empty lists stand for all."""

    text: str
    systems: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    printed: float | None = Field(
        default=None, description="the number as printed, where `values` holds a corrected one"
    )


class Block(_Part):
    """Numbers of one kind: one view, one metric, one way of training."""

    columns: tuple[str, ...] = Field(
        min_length=1, description="systems, the rows being corpora; or the other way round"
    )
    values: dict[str, tuple[Number, ...]] = Field(description="row to numbers in percent")
    minimum: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    maximum: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    marks: dict[str, tuple[Literal["", "+", "-"], ...]] = Field(
        default_factory=dict, description="+, -: significantly above, below the baseline in the paper"
    )
    name: str = Field(default="", description="what sets it apart from the table's other blocks")
    metric: Literal["uar", "wa"] = "uar"
    view: Literal["emotion", "arousal", "valence"] = "emotion"
    part: Literal["test", "dev"] = "test"
    score: Literal["fold_mean", "pooled"] = Field(
        default="fold_mean", description="mean over folds of their UAR, or one UAR over the utterances of all folds"
    )
    train: Literal["each"] | tuple[str, ...] = Field(
        default="each", description="each corpus by itself, or these corpora together"
    )
    hold_out: tuple[str, ...] = Field(default=(), description="corpora tested whole")
    averages: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="row that is a mean, over what")
    recipe: str | None = Field(default=None, description="for systems without one of their own")
    set: tuple[str, ...] = ()
    chance: dict[str, float] = Field(default_factory=dict, description="as printed, percent")
    clips: int | Literal["-"] | None = Field(
        default=None,
        description="utterances behind the block, where not those of its corpora; '-': the paper does not say",
    )
    differs: str = Field(
        default="", description="what makes all our numbers of the block other than the published ones"
    )
    notes: tuple[CellNote, ...] = ()

    @model_validator(mode="after")
    def _rows_are_full(self) -> Block:
        for name in ("values", "minimum", "maximum", "marks"):
            for row, numbers in getattr(self, name).items():
                if len(numbers) != len(self.columns):
                    raise ValueError(f"{name}.{row}: {len(numbers)} numbers for {len(self.columns)} columns")
                if row not in self.values:
                    raise ValueError(f"{name}.{row}: no such row in values")
        return self


class Table(_Part):
    """One table of the paper."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    caption: str
    protocol: str = Field(description="how the paper measured, in words")
    blocks: tuple[Block, ...] = Field(min_length=1)


class PaperFile(_Part):
    """A paper: what it reports and what is known to be wrong with it."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    authors: str
    venue: str
    year: int
    doi: str = ""
    notes: tuple[str, ...] = Field(default=(), description="misprints, reconstructed parts, what our runs do otherwise")
    corpora: tuple[PaperCorpus, ...]
    systems: tuple[System, ...]
    tables: tuple[Table, ...]

    @field_validator("corpora", "systems", "tables")
    @classmethod
    def _each_once(cls, found: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [getattr(one, "name", None) or one.id for one in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: each once")
        return found

    @model_validator(mode="after")
    def _names_are_known(self) -> PaperFile:
        systems, corpora = self.systems_by_id, self.corpora_by_name
        for system in self.systems:
            if system.like is not None and system.like not in systems:
                hint = did_you_mean(system.like, systems)
                raise ValueError(f"system {system.id}: like {system.like!r} is no system{hint}")
        for table in self.tables:
            for place, block in enumerate(table.blocks):
                where = f"table {table.id}, block {place}"
                turned = not by_columns(block, systems, corpora)
                rows, columns = (block.columns, block.values) if turned else (block.values, block.columns)
                listed = [name for name in rows if name not in block.averages]
                trained = () if block.train == "each" else block.train
                members = [name for some in block.averages.values() for name in some]
                for name in (*listed, *trained, *block.hold_out, *members):
                    if name not in corpora:
                        hint = did_you_mean(name, corpora)
                        raise ValueError(f"{where}: corpus {name!r} is not described under [[corpora]]{hint}")
                for name in columns:
                    if name not in systems:
                        hint = did_you_mean(name, systems)
                        raise ValueError(f"{where}: system {name!r} is not described under [[systems]]{hint}")
                for note in block.notes:
                    for name in (*note.systems, *note.corpora):
                        if name not in (*rows, *columns):
                            hint = did_you_mean(name, (*rows, *columns))
                            raise ValueError(f"{where}: a note names {name!r}, which is neither row nor column{hint}")
        return self

    @property
    def systems_by_id(self) -> dict[str, System]:
        """Systems by id."""
        return {system.id: system for system in self.systems}

    @property
    def corpora_by_name(self) -> dict[str, PaperCorpus]:
        """Corpora by name."""
        return {corpus.name: corpus for corpus in self.corpora}


def by_columns(block: Block, systems: Collection[str], corpora: Collection[str] = ()) -> bool:
    """Tell whether the columns of a block are systems, and its rows corpora.

    A name may be misspelt: what most names are decides, each side counting alike.

    Args:
        block: of a table.
        systems: that the paper's file describes.
        corpora: that it describes; the block's averages are added.
    """
    kinds = (systems, {*corpora, *block.averages})

    def share(names: Collection[str], known: Collection[str]) -> float:
        return sum(name in known for name in names) / max(1, len(names))

    upright = share(block.columns, kinds[0]) + share(block.values, kinds[1])
    turned = share(block.values, kinds[0]) + share(block.columns, kinds[1])
    return upright >= turned
