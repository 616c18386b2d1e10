"""``repkit compare``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repkit.cli.options import (
    AT_ONCE,
    AtOnce,
    Corpora,
    CorpusSet,
    Device,
    Executor,
    PageOnly,
    ProbeSet,
    Runs,
    Scheduler,
    Workers,
)
from repkit.cli.shared import check_folder, console, counting, hours_text, interruptible, parse_corpora, print_table
from repkit.cli.train_ser import embedding_conditions
from repkit.config.schema import Condition
from repkit.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    stores: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]DIR...", help="Embedding stores made by `repkit embed`.")
    ] = None,
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    trained: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", help="Store that stage one has trained, where its provenance does not say so. Repeatable."
        ),
    ] = [],  # noqa: B006
    control: Annotated[
        list[str],
        typer.Option(
            metavar="STORE",
            help="Untrained control of every trained store (name, or [NAME=]DIR); by default those of the same architecture, "
            "readout and frontend. Repeatable.",
        ),
    ] = [],  # noqa: B006
    functionals: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Store that all others are joined with (name, or [NAME=]DIR); by provenance if not given.",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of stage two to run beside the probe, for example attentive_cnn.")
    ] = None,
    normalisation: Annotated[
        list[str],
        typer.Option(
            help="train, per_speaker or per_corpus. Repeatable; the gate needs the first two.",
            show_default="train and per_speaker",
        ),
    ] = [],  # noqa: B006
    protocol: Annotated[str | None, typer.Option(help="Rule that makes the probe's folds.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of seeds of stage two, 0 to N - 1; by default the recipe's own.")
    ] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe of stage two. Repeatable."),
    ] = [],  # noqa: B006
    probe_set: ProbeSet = [],  # noqa: B006
    runs: Runs = Path("runs"),
    out: Annotated[Path, typer.Option(help="Folder of page, table and figure.")] = Path("compare"),
    workers: Workers = None,
    executor: Executor = "auto",
    device: Device = "auto",
    at_once: AtOnce = AT_ONCE,
    scheduler: Scheduler = None,
    on_bad_audio: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="stop: a run whose corpus has bad files fails; skip: leave them out and record it."),
    ] = "stop",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stores, roles and runs with expected hours; train nothing.")
    ] = False,
    page_only: PageOnly = False,
) -> None:
    """Does stage one help? Every store alone and beside the functionals, by one probe, with the verdict of the gate.

    Finished runs are found and not repeated, so the same command goes on after any interruption, and a further store costs
    only its own runs.
    """
    if page_only:
        from repkit.workflows.compare.run import rebuild

        _show(rebuild(out), out)
        return
    check_folder(out, "--out")
    check_folder(runs, "--runs")
    from repkit.workflows.compare.run import Request
    from repkit.workflows.compare.run import compare as work
    from repkit.workflows.compare.stores import read_entries
    from repkit.workflows.train_ser.where import Where

    conditions = embedding_conditions(stores or [], "")
    controls = [_named(text, "--control", conditions) for text in control]
    base = _named(functionals, "--functionals", conditions) if functionals else None
    if not conditions:
        raise UsageError("compare: no store; at least one [NAME=]DIR was expected; make some with `repkit embed`")
    corpora = parse_corpora(corpus, settings=corpus_set)
    entries = read_entries(conditions, list(corpora), trained=trained, controls=controls, functionals=base)
    request = Request(
        entries=tuple(entries),
        corpora=corpora,
        normalisations=tuple(normalisation) or ("train", "per_speaker"),
        recipe=recipe,
        protocol=protocol,
        seeds=seeds,
        assignments=tuple(set_),
        probe_assignments=tuple(probe_set),
        places={text.partition("=")[0]: text for text in corpus},
        corpus_set=tuple(corpus_set),
        runs=runs,
        out=out,
        workers=workers,
        where=Where(executor, device, at_once, scheduler),
        on_bad_audio=on_bad_audio,
    )
    if dry_run:
        request.where.tried()
        _show_plan(request)
        return
    with interruptible("finished runs and jobs are kept"), ExitStack() as shown:
        state = work(request, _watch(console(), shown))
    _show(state, out)
    if state["failed"]:
        raise typer.Exit(state["failed"][0]["exit_code"])


def _named(text: str, option: str, conditions: list[Condition]) -> str:
    """Return the name of a store given by its name or as a further folder, which is added to the conditions."""
    if text in {one.name for one in conditions}:
        return text
    given = [one for one in conditions if text == one.embeddings]
    if given:
        return given[0].name
    (found,) = embedding_conditions([text], f"{option} ")
    conditions.append(found)
    return found.name


def _watch(screen: Any, shown: ExitStack) -> Any:
    """Return what shows the progress of each run; one live display at a time."""
    from repkit.cli.job_table import showing, started, table_of
    from repkit.workflows.compare.run import Watch

    tell: dict[str, Any] = {}

    def end(*_: Any) -> None:
        shown.pop_all().close()
        tell.clear()

    def on_frames(corpus: str, n: int, hours: float) -> None:
        if "frames" not in tell:
            tell["frames"] = shown.enter_context(counting("frames of"))
        tell["frames"](corpus, n, hours)

    def on_start(plan: Any, run: Any, resumed: bool, n_done: int) -> None:
        end()
        screen.print(started(plan, run, resumed, n_done))
        for flag in plan.protocol["audit"]:
            if "has heard" in flag:
                screen.print(f"note       {flag}")
        tell["jobs"] = shown.enter_context(showing(table_of(plan, run)))

    return Watch(
        on_unit=lambda number, total, unit: screen.print(f"run {number} of {total}: {unit.title}"),
        on_frames=on_frames,
        on_start=on_start,
        on_event=lambda event: tell["jobs"](event),
        on_end=end,
    )


def _show_plan(request: Any) -> None:
    """Print what every store is taken for, and every run with what is left of it and how long that takes."""
    from repkit.runs.executors import prepare_process
    from repkit.workflows.compare.cost import plan_runs

    rows = [(one.name, one.role, one.family, str(one.dim), one.folder) for one in request.entries]
    print_table(("store", "role", "row", "numbers", "folder"), rows)
    typer.echo("")
    prepare_process()
    found = plan_runs(request)
    lines = [(one.unit.title, str(one.n_conditions), str(one.n_done), hours_text(one.hours)) for one in found]
    print_table(("run", "conditions", "done", "hours"), lines)
    left = sum(one.n_conditions - one.n_done for one in found)
    total = hours_text(sum(one.hours for one in found))
    typer.echo(
        f"{len(found)} runs, {left} conditions to train; expected {total} h on this machine, tried on random frames and "
        "vectors; starting processes, frames and reports are not counted"
    )


def _show(state: dict[str, Any], out: Path) -> None:
    """Print scores and differences, the verdict last, and where it all is."""
    from repkit.report.gate_page import (
        DIFFERENCE_HEADER,
        difference_rows,
        score_header,
        score_rows,
        verdict_lines,
        words,
    )

    for head in state["heads"]:
        for mode in state["normalisations"]:
            rows = score_rows(state, head, mode)
            if rows:
                typer.echo(f"{head}, {words(mode)} normalisation: UAR / % [95 % interval over speakers]")
                print_table(score_header(state), rows)
                typer.echo("")
    for gate in state["gates"]:
        rows = difference_rows(state, gate)
        if rows:
            typer.echo(
                f"{gate['head']}: trained {gate['trained']}"
                + (f", untrained {gate['control']}" * bool(gate["control"]))
            )
            print_table(DIFFERENCE_HEADER, rows)
            typer.echo("")
    for one in state["failed"]:
        typer.echo(f"failed: {one['head']}, {one['normalisation']}, {one['corpus']}, {one['condition']}: {one['why']}")
    for line in verdict_lines(state):
        typer.echo(line)
    names = ("compare.md", "table.csv", "figure.png", "compare.json")
    typer.echo(f"written  {', '.join(str(out / name) for name in names if (out / name).exists())}")
