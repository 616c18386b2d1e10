"""A paper's tables taken apart: one cell per system and corpus, with what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repkit.config.schema import PaperValue
from repkit.errors import RecipeError, did_you_mean
from repkit.papers.load import load_paper
from repkit.papers.model import Block, Number, PaperFile, System, Table, by_columns

MARK_WORDS = {"+": "better than baseline, p < 0.05", "-": "worse than baseline, p < 0.05"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One published number, or its place where our number alone is printed.

    Attributes:
        table: it stands in.
        block: of the table.
        place: number of the block in its table.
        system: what was trained.
        row: the corpus tested, or the name of an average.
        value: published, percent; None where the paper has none.
        minimum: over the paper's repeats.
        maximum: over the paper's repeats.
        printed: as printed, where `value` is a correction.
        notes: on this cell.
    """

    table: Table
    block: Block
    place: int
    system: System
    row: str
    value: float | None
    minimum: float | None
    maximum: float | None
    printed: float | None
    notes: tuple[str, ...]

    @property
    def id(self) -> str:
        """``table/block/system/corpus``, the same as long as the file is."""
        return f"{self.table.id}/{self.place}/{self.system.id}/{self.row}"

    @property
    def decimals(self) -> int:
        """How many decimals the block is printed with: one or two."""
        printed = [value for row in self.block.values.values() for value in row if not isinstance(value, str)]
        return 2 if any(abs(10 * value - round(10 * value)) > 1e-6 for value in printed) else 1

    @property
    def is_average(self) -> bool:
        """Whether the row is a mean over corpora."""
        return self.row in self.block.averages

    @property
    def tested(self) -> tuple[str, ...]:
        """The corpora whose scores make the number."""
        return self.block.averages.get(self.row, (self.row,))

    @property
    def train(self) -> tuple[str, ...]:
        """The corpora trained on."""
        if self.block.train == "each" or self.system.alone:
            return self.tested
        return self.block.train

    @property
    def recipe(self) -> str | None:
        """The recipe that makes the number, None where there is none."""
        return None if self.system.reason else self.system.recipe or self.block.recipe

    @property
    def heard(self) -> str | None:
        """The unlabelled corpus of the system's stage one, None without one."""
        stage = self.system.stage_one
        return stage.corpus.replace("{corpus}", self.tested[0]) if stage else None

    @property
    def needs(self) -> tuple[str, ...]:
        """All corpora that must be given, each once."""
        heard = (self.heard,) if self.heard else ()
        return tuple(dict.fromkeys((*self.train, *self.tested, *heard)))


def all_cells(paper: PaperFile) -> list[Cell]:
    """Return every cell of every table in the order of the file; systems `like` another follow it."""
    return [cell for table in paper.tables for cell in cells_of(paper, table)]


def cells_of(paper: PaperFile, table: Table) -> list[Cell]:
    """Return the cells of one table, corpus by corpus."""
    systems = paper.systems_by_id
    found = []
    for place, block in enumerate(table.blocks):
        columns_are_systems = by_columns(block, systems, paper.corpora_by_name)
        ids: Sequence[str] = block.columns if columns_are_systems else list(block.values)
        rows: Sequence[str] = list(block.values) if columns_are_systems else block.columns
        for row in rows:
            for published in ids:
                for system in _with_likes(paper, published):
                    at = (row, ids.index(published)) if columns_are_systems else (published, rows.index(row))
                    cell = _cell(table, block, place, system, row, at, published)
                    if cell is not None:
                        found.append(cell)
    return found


def _with_likes(paper: PaperFile, published: str) -> list[System]:
    return [system for system in paper.systems if published in (system.id, system.like)]


def _cell(
    table: Table, block: Block, place: int, system: System, row: str, at: tuple[str, int], published: str
) -> Cell | None:
    value = _number(block.values, at)
    if value is None and not (system.recipe or block.recipe):
        return None
    notes = [n for n in block.notes if published in (n.systems or [published]) and row in (n.corpora or [row])]
    mark = block.marks.get(at[0], [""] * len(block.columns))[at[1]]
    return Cell(
        table=table,
        block=block,
        place=place,
        system=system,
        row=row,
        value=value,
        minimum=_number(block.minimum, at),
        maximum=_number(block.maximum, at),
        printed=next((n.printed for n in notes if n.printed is not None), None),
        notes=(*(n.text for n in notes), *([MARK_WORDS[mark]] if mark else [])),
    )


def _number(numbers: dict[str, tuple[Number, ...]], at: tuple[str, int]) -> float | None:
    value = numbers[at[0]][at[1]] if at[0] in numbers else "-"
    return None if value == "-" else float(value)


def values(tables: str) -> tuple[PaperValue, ...]:
    """Return the published UAR on test of one or several tables, as a run's report prints them beside ours.

    Args:
        tables: ``PAPER/TABLE`` or ``PAPER/TABLE/BLOCK``, several joined by commas; empty for none.

    Raises:
        UsageError: no such paper.
        RecipeError: no such table or block.
    """
    return tuple(
        _paper_value(cell, cell.value)
        for text in filter(None, (part.strip() for part in tables.split(",")))
        for cell in _named(text)
        if (cell.block.metric, cell.block.part, cell.system.checkpoint) == ("uar", "test", "selected")
        if cell.value is not None and cell.system.like is None
    )


def _named(text: str) -> list[Cell]:
    """Return the cells of ``PAPER/TABLE`` or ``PAPER/TABLE/BLOCK``."""
    name, _, rest = text.partition("/")
    table_id, _, block = rest.partition("/")
    paper = load_paper(name)
    known = {table.id: table for table in paper.tables}
    if table_id not in known:
        raise RecipeError(
            f"paper_table {text!r}: paper {name} has no table {table_id!r}{did_you_mean(table_id, known)}; expected one of "
            f"{', '.join(f'{name}/{key}' for key in known)}"
        )
    blocks = [found.name for found in known[table_id].blocks]
    if block and block not in blocks:
        raise RecipeError(
            f"paper_table {text!r}: {name}/{table_id} has no block {block!r}{did_you_mean(block, blocks)}; expected one of "
            f"{', '.join(blocks)}, or none for all"
        )
    return [cell for cell in cells_of(paper, known[table_id]) if not block or cell.block.name == block]


def _paper_value(cell: Cell, value: float) -> PaperValue:
    held_out, trained = cell.block.hold_out, cell.block.train
    corpus = cell.row
    if cell.is_average:
        kind = {held_out: " (held out)", trained: " (trained on)"}.get(cell.tested, "")
        corpus = f"average{kind}"
    printed = [f"printed as {cell.printed}"] if cell.printed is not None else []
    return PaperValue(
        corpus=corpus,
        condition=cell.system.condition if cell.recipe else cell.system.id,
        view=cell.block.view,
        uar=value,
        minimum=cell.minimum,
        maximum=cell.maximum,
        note="; ".join([*printed, *cell.notes]),
    )
