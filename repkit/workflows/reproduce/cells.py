"""Which cells of a paper's tables can be run with the corpora at hand, and which runs give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from repkit.config.locate import find_recipe
from repkit.errors import RepkitError, UsageError, did_you_mean
from repkit.papers import Cell, PaperFile, all_cells
from repkit.workflows.asked import Asked
from repkit.workflows.train_ser.where import Where

MOST_REASONS = 8
"""Named of why nothing can be run."""
State = Literal["ready", "not chosen", "missing", "published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Asked):
    """What was asked for, besides what `Asked` says.

    Attributes:
        paper: whose tables.
        only: patterns ``SYSTEM[/CORPUS]``; empty: all.
        tables: ids of tables; empty: all.
        seeds: number of seeds, None for the recipes' own.
        assignments: ``KEY=VALUE`` laid over every recipe of train-ser.
        pretrain_assignments: the same for stage one.
        partial: train unions of corpora on those given, where some are missing.
        runs: folder of all runs.
        embeddings: folder of all embeddings.
        out: folder of the tables.
        where: executor and device of every run.
    """

    paper: PaperFile
    only: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    seeds: int | None = None
    assignments: tuple[str, ...] = ()
    pretrain_assignments: tuple[str, ...] = ()
    partial: bool = False
    runs: Path = Path("runs")
    embeddings: Path = Path("embeddings")
    out: Path = Path("reproduce")
    where: Where = field(default_factory=Where)


@dataclass(frozen=True, slots=True)
class Unit:
    """One run of train-ser: a recipe with settings, on some corpora; it gives one or more cells.

    Attributes:
        recipe: name.
        set: ``KEY=VALUE`` of the paper's file.
        corpora: trained on.
        hold_out: tested whole.
    """

    recipe: str
    set: tuple[str, ...]
    corpora: tuple[str, ...]
    hold_out: tuple[str, ...]

    @property
    def title(self) -> str:
        """What is trained on what, in words."""
        tested = f", tested on {', '.join(self.hold_out)}" if self.hold_out else ""
        return f"{self.recipe} on {', '.join(self.corpora)}{tested}"


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell and what is to be done about it.

    Attributes:
        cell: of the paper.
        state: ready, not chosen (by --only), missing (see why), or published (it cannot be run at all).
        why: what is needed, or why it cannot be run.
        missing: corpora that must be given.
        unit: the run that gives it, None where it cannot be run.
        tested: corpora whose scores make the number.
        differs: what makes our number another than the published one.
    """

    cell: Cell
    state: State
    why: str = ""
    missing: tuple[str, ...] = ()
    unit: Unit | None = None
    tested: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


def plan_cells(request: Request) -> list[PlannedCell]:
    """Return every cell of the paper with its state, in the order of the tables.

    Raises:
        UsageError: an --only or --table that fits nothing.
    """
    cells = all_cells(request.paper)
    chosen = choose(cells, request.only, request.tables)
    recipes: dict[str, str] = {}
    for name in {cell.recipe for cell in cells if cell.recipe}:
        try:
            find_recipe(name)
        except RepkitError as error:
            recipes[name] = error.message.partition("; known:")[0]  # the list of all recipes helps nobody here
    return [_plan(cell, cell.id in chosen, request, recipes) for cell in cells]


def units_of(planned: Sequence[PlannedCell]) -> dict[Unit, list[PlannedCell]]:
    """Return the runs that the ready cells need, each with its cells, in the order of the tables."""
    units: dict[Unit, list[PlannedCell]] = {}
    for one in planned:
        if one.state == "ready" and one.unit is not None:
            units.setdefault(one.unit, []).append(one)
    return units


def choose(cells: Sequence[Cell], only: Sequence[str], tables: Sequence[str]) -> set[str]:
    """Return the ids of the cells that --only and --table name; patterns are matched without case.

    Raises:
        UsageError: a pattern or table that fits no cell.
    """
    known = list(dict.fromkeys(cell.table.id for cell in cells))
    for name in tables:
        if name not in known:
            raise UsageError(f"--table {name}: no such table{did_you_mean(name, known)}; one of {', '.join(known)}")
    among = [cell for cell in cells if not tables or cell.table.id in tables]
    if not only:
        return {cell.id for cell in among}
    found: set[str] = set()
    for pattern in only:
        system, _, corpus = pattern.partition("/")
        fits = {cell.id for cell in among if _fits(cell.system.id, system) and _fits(cell.row, corpus or "*")}
        if not fits:
            systems, rows = (list(dict.fromkeys(names)) for names in zip(*((c.system.id, c.row) for c in among)))
            # hints only for the part that fits nothing by itself
            parts = zip(pattern.split("/", 1), (systems, rows))
            wrong = [(part, names) for part, names in parts if not any(_fits(name, part) for name in names)]
            hint = "".join(did_you_mean(part, names) for part, names in wrong)
            raise UsageError(
                f"--only {pattern}: fits no cell{hint}; expected SYSTEM or SYSTEM/CORPUS, * for any; the systems are "
                f"{', '.join(systems)}, the corpora {', '.join(rows)}"
            )
        found |= fits
    return found


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name.casefold(), pattern.casefold())


def nothing_to_run(planned: Sequence[PlannedCell], request: Request) -> str:
    """Return why none of the cells that --only and --table name can be run; empty where one can, or none is named."""
    chosen = choose([one.cell for one in planned], request.only, request.tables)
    if not (request.only or request.tables) or any(one.state == "ready" for one in planned):
        return ""
    options = " and ".join(name for name, given in (("--only", request.only), ("--table", request.tables)) if given)
    reasons = list(dict.fromkeys(one.why for one in planned if one.cell.id in chosen))
    listed = "; ".join(reasons[:MOST_REASONS]) + (
        f"; and {len(reasons) - MOST_REASONS} more" * (len(reasons) > MOST_REASONS)
    )
    return (
        f"nothing of what {options} names can be run: {listed}; at least one cell was expected that can be; give what is "
        "needed, or name others"
    )


def _plan(cell: Cell, chosen: bool, request: Request, recipes: Mapping[str, str]) -> PlannedCell:
    if cell.recipe is None:
        return PlannedCell(cell, "published", cell.system.reason or "no recipe")
    if cell.recipe in recipes:
        return PlannedCell(cell, "missing", recipes[cell.recipe])
    given = set(request.corpora)
    trained, tested = cell.train, cell.tested
    differs = [text for text in (cell.block.differs, cell.system.differs) if text]
    if request.partial and len(trained) > 1:
        some = tuple(name for name in trained if name in given)
        if len(some) > 1 and some != trained:
            differs.append(f"trained on {len(some)} of {len(trained)} corpora: {', '.join(some)}")
            trained = some
            tested = tuple(name for name in tested if name in given) or tested
            if tested != cell.tested:
                differs.append(f"mean of {len(tested)} of {len(cell.tested)} corpora")
    heard = (cell.heard,) if cell.heard else ()
    missing = tuple(name for name in dict.fromkeys((*trained, *tested, *heard)) if name not in given)
    if missing:
        why = f"needs {' '.join(f'--corpus {name}=PATH' for name in missing)}"
        return PlannedCell(cell, "missing", why, missing)
    alone = cell.system.alone or cell.block.train == "each"
    own = request.paper.corpora_by_name[trained[0]].set if alone else ()
    hold_out = () if alone else tuple(name for name in cell.block.hold_out if name in given)
    unit = Unit(cell.recipe, (*cell.system.set, *cell.block.set, *own), trained, hold_out)
    differs += [f"changed: {text}" for text in request.assignments]
    if cell.system.stage_one:
        differs += [f"changed in stage one: {text}" for text in request.pretrain_assignments]
    return PlannedCell(cell, "ready" if chosen else "not chosen", "", (), unit, tested, tuple(differs))
