"""``repkit reproduce``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repkit.cli.options import AT_ONCE, AtOnce, Corpora, CorpusSet, Device, Executor, Runs, Scheduler, Workers
from repkit.cli.shared import check_folder, console, counting, hours_text, interruptible, parse_corpora, print_table
from repkit.errors import PluginError, UsageError, did_you_mean

app = typer.Typer(add_completion=False)


@app.command()
def reproduce(
    paper: Annotated[
        str,
        typer.Argument(
            help="keesing2020, neumann2019, parry2019, gao2022, gerczuk2021, or a TOML file of the same form "
            "(docs/reproduce.md)."
        ),
    ],
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    only: Annotated[
        list[str],
        typer.Option(metavar="SYSTEM[/CORPUS]", help="Run these cells only; * stands for anything. Repeatable."),
    ] = [],  # noqa: B006
    table: Annotated[list[str], typer.Option(metavar="ID", help="Run cells of this table only. Repeatable.")] = [],  # noqa: B006
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of seeds, 0 to N - 1; by default the recipes' own.")
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Train unions of corpora on those given; every such row says so, for it is another number.",
        ),
    ] = False,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of every train-ser recipe; every row says so. Repeatable.",
        ),
    ] = [],  # noqa: B006
    pretrain_set: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="The same for the recipes of stage one. Repeatable."),
    ] = [],  # noqa: B006
    runs: Runs = Path("runs"),
    embeddings: Annotated[Path, typer.Option(help="Folder of all embeddings.")] = Path("embeddings"),
    out: Annotated[
        Path | None, typer.Option(help="Folder of the tables and the figure; by default reproduce/PAPER.")
    ] = None,
    workers: Workers = None,
    executor: Executor = "auto",
    device: Device = "auto",
    at_once: AtOnce = AT_ONCE,
    scheduler: Scheduler = None,
    on_bad_audio: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="stop: a run whose corpora have bad files fails; skip: leave them out and record it."),
    ] = "stop",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be run, with expected hours, and what is missing.")
    ] = False,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Run nothing: measure finished runs again and write the tables anew.")
    ] = False,
) -> None:
    """Run a paper's table for the corpora you have, and print it beside ours.

    Every cell whose corpora are given is run by its recipe; the others stay listed with what they need. Finished runs are
    found and not repeated, so the same command goes on after any interruption.
    """
    from repkit.audio.named_specs import SPECS
    from repkit.audio.presets import PRESETS
    from repkit.papers import load_paper

    described = load_paper(paper)
    folder = out or Path("reproduce") / described.name
    if page_only:
        from repkit.workflows.reproduce.run import rebuild

        found = rebuild(described, folder)
        _show(described, found, folder)
        _leave(found)
        return
    for option, path in (("--out", folder), ("--runs", runs), ("--embeddings", embeddings)):
        check_folder(path, option)
    screen = console()
    settings = [*_paper_settings(described, corpus, corpus_set), *corpus_set]
    corpora = parse_corpora(corpus, settings=settings) if corpus else {}  # then everything is listed as missing
    known = described.corpora_by_name
    for name in corpora:
        if name not in known:
            hint = "" if name in SPECS or name in PRESETS else did_you_mean(name, known)
            screen.print(f"note       corpus {name} is in no table of {described.name}{hint}")
    from repkit.workflows.reproduce.cells import Request
    from repkit.workflows.train_ser.where import Where

    request = Request(
        paper=described,
        corpora=corpora,
        places={text.partition("=")[0]: text for text in corpus},
        corpus_set=tuple(settings),
        only=tuple(only),
        tables=tuple(table),
        seeds=seeds,
        assignments=tuple(set_),
        pretrain_assignments=tuple(pretrain_set),
        partial=partial,
        runs=runs,
        embeddings=embeddings,
        out=folder,
        workers=workers,
        where=Where(executor, device, at_once, scheduler),
        on_bad_audio=on_bad_audio,
    )
    if dry_run:
        request.where.tried()
        _show_plan(request)
        return
    from repkit.workflows.reproduce.cells import nothing_to_run, plan_cells
    from repkit.workflows.reproduce.run import reproduce as work

    with interruptible("finished cells and jobs are kept"), ExitStack() as shown:
        records = work(request, _watch(screen, shown))
    _show(described, records, folder)
    idle = nothing_to_run(plan_cells(request), request)
    if idle:
        typer.echo(f"the numbers are of an earlier time: {idle}")
    _leave(records)


def _leave(records: list[dict[str, Any]]) -> None:
    """End with the code of the first error that a cell now has; one that failed at an earlier time has none."""
    failed = [r for r in records if r["state"] in ("failed", "measured") and "exit_code" in r]
    if failed:
        raise typer.Exit(failed[0]["exit_code"])


def _paper_settings(paper: Any, corpora: list[str], given: list[str]) -> list[str]:
    """Return the paper's choices of corpora (song or speech ...), but for those given, where read as their official download."""
    own = {text.partition("=")[0].strip() for text in given}
    found = []
    for text in corpora:
        name, _, place = text.partition("=")
        options = paper.corpora_by_name[name].options if name in paper.corpora_by_name else {}
        if not place.startswith(("hub:", "plugin:")):
            settings = {f"{name}.{key}": json.dumps(value) for key, value in options.items()}
            found += [f"{key}={value}" for key, value in settings.items() if key not in own]
    return found


def _watch(screen: Any, shown: ExitStack) -> Any:
    """Return what shows the progress of each run; one live display at a time."""
    from repkit.cli.job_table import showing, started, table_of
    from repkit.workflows.reproduce.runs import Watch

    tell: dict[str, Any] = {}

    def display(kind: str, description: str) -> Any:
        if kind not in tell:
            end()
            tell[kind] = shown.enter_context(counting(description))
        return tell[kind]

    def end(*_: Any) -> None:
        shown.pop_all().close()
        tell.clear()

    def on_refused(unit: Any, failed: Any) -> None:
        for error in dict.fromkeys(map(str, failed.values())):
            screen.print(f"refused    {unit.title}: {error}")

    def on_unit(number: int, total: int, unit: Any) -> None:
        screen.print(f"run {number} of {total}: {unit.title}")

    def on_found(done: Any) -> None:
        end()
        for folder in dict.fromkeys(done.values()):
            names = ", ".join(name for name, where in done.items() if where == folder)
            screen.print(f"found      {folder}  ({names}: finished already, not repeated)")

    def on_start(plan: Any, run: Any, resumed: bool, n_done: int) -> None:
        end()
        screen.print(started(plan, run, resumed, n_done))
        tell["jobs"] = shown.enter_context(showing(table_of(plan, run)))

    return Watch(
        on_refused=on_refused,
        on_unit=on_unit,
        on_found=on_found,
        on_frames=lambda corpus, n, hours: display("frames", "frames of")(corpus, n, hours),
        on_vectors=lambda corpus, done, total: display("vectors", "vectors of")(corpus, done, 0.0),
        on_start=on_start,
        on_event=lambda event: tell["jobs"](event),
        on_end=end,
    )


def _show(paper: Any, records: list[dict[str, Any]], folder: Path) -> None:
    """Print the measured cells, what is known of the others, and where it all is."""
    from repkit.report.reproduction import HEADER, RUNS_HEADER, measured_row, run_rows, summary

    tables = dict.fromkeys(record["table"] for record in records)
    for name in tables:
        rows = [measured_row(r) for r in records if r["table"] == name and r["state"] == "measured"]
        if rows:
            typer.echo(name)
            print_table(HEADER, rows)
            typer.echo("")
    if any(record["run"] for record in records):
        print_table(RUNS_HEADER, run_rows(records))
        typer.echo("")
    _show_rest(paper, records, ("failed", "missing"))
    for record in records:
        if record["state"] == "measured" and "exit_code" in record:
            cell = f"{record['system']} on {record['corpus']}"
            typer.echo(f"failed: {record['why']}\n  {cell}: the number of an earlier run is kept")
    for line in summary(records):
        typer.echo(line)
    names = ("table.md", "table.csv", "figure.png", "cells.json")
    typer.echo(f"written  {', '.join(str(folder / name) for name in names if (folder / name).exists())}")


def _show_rest(paper: Any, records: list[dict[str, Any]], states: tuple[str, ...]) -> None:
    """Print the cells without a number of ours by what they lack, and where missing corpora are obtained."""
    from repkit.report.reproduction import missing_lines, where_to_get

    for state in states:
        for reason, cells in missing_lines(records, state):
            typer.echo(f"{'cannot be run' if state == 'published' else state}: {reason}\n  {cells}")
    for line in where_to_get(paper, records):
        typer.echo(f"where to get {line}")


def _show_plan(request: Any) -> None:
    """Print what comes first, every run with its jobs, every cell it gives, all with hours, and what is missing."""
    from tempfile import TemporaryDirectory

    import torch

    from repkit.runs.executors import prepare_process
    from repkit.workflows.reproduce.cells import nothing_to_run, plan_cells, units_of
    from repkit.workflows.reproduce.cost import Costing
    from repkit.workflows.reproduce.run import blank_record, known_runs

    threads = torch.get_num_threads()
    prepare_process()
    planned = plan_cells(request)
    units = units_of(planned)
    with TemporaryDirectory() as folder:
        costing = Costing(request, known_runs(request), Path(folder), threads)
        costs = [costing.unit(unit, some) for unit, some in units.items()]
    first, runs = list(costing.steps.values()), [found.run for found in costs]
    if first:
        print_table(("first", "what", "hours", "state"), [(s.kind, s.what, *_hours_and_state(s)) for s in first])
        typer.echo("")
    rows: list[tuple[str, ...]] = []
    if runs:
        for place, (unit, step) in enumerate(zip(units, runs, strict=True), 1):
            jobs = "-" if step.n_jobs is None else str(step.n_jobs)
            rows.append((str(place), unit.title, "; ".join(unit.set) or "-", jobs, *_hours_and_state(step)))
        print_table(("run", "what", "settings of the paper's file", "jobs", "hours", "state"), rows)
        typer.echo("")
        rows = []
        for place, (some, found) in enumerate(zip(units.values(), costs, strict=True), 1):
            for one in some:
                cell, hours = one.cell, hours_text(found.of_cell(one))
                published = "-" if cell.value is None else f"{cell.value:.{cell.decimals}f}"
                differs = "; ".join(one.differs) or "-"
                rows.append((cell.table.id, cell.system.id, cell.row, published, f"run {place}", hours, differs))
        print_table(("table", "system", "corpus", "paper", "from", "hours", "differs"), rows)
        typer.echo("what several cells need counts in the hours of each of them")
        typer.echo("")
    _show_rest(request.paper, [blank_record(one) for one in planned], ("missing", "published"))
    unknown: dict[tuple[str, str], list[str]] = {}
    for step in (*first, *runs):
        if step.why:
            unknown.setdefault((step.kind, step.why), []).append(step.what)
    for (kind, why), what in unknown.items():
        typer.echo(f"not known: {kind}, {'; '.join(what)}: {why}")
    n_missing = sum(one.state == "missing" for one in planned)
    kinds = ("frames", "stage one", "vectors", "training")
    parts = [sum(s.hours or 0.0 for s in (*first, *runs) if s.kind == kind) for kind in kinds]
    listed = ", ".join(f"{kind} {hours_text(part)}" for kind, part in zip(kinds, parts, strict=True))
    n_cells = sum(map(len, units.values()))
    typer.echo(
        f"{n_cells} of {len(planned)} cells in {len(units)} runs, {n_missing} missing; expected {hours_text(sum(parts))} h on "
        f"this machine ({listed}), tried on random frames and vectors and on generated speech; starting processes and writing "
        "reports are not counted" + (", nor what is not known" if any(s.why for s in (*first, *runs)) else "")
    )
    idle = nothing_to_run(planned, request)
    if idle:
        raise UsageError(idle)
    # what only has to be installed is missing, not broken
    errors = [found.error for found in costs if found.error is not None and not isinstance(found.error, PluginError)]
    if errors:
        raise typer.Exit(getattr(errors[0], "exit_code", 1))


def _hours_and_state(step: Any) -> tuple[str, str]:
    from repkit.workflows.reproduce.cost import CANNOT_BE_PLANNED

    told = CANNOT_BE_PLANNED if step.why.startswith(CANNOT_BE_PLANNED) else "to do"
    return hours_text(step.hours), "done" if step.done else told
