"""``repkit compare``."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repkit.cli.options import AT_ONCE, AtOnce, Device, Executor, Scheduler, Workers
from repkit.cli.shared import CORPUS_HELP, CORPUS_SET_HELP, console, counting, interruptible, parse_corpora, print_table
from repkit.cli.train_ser import embedding_conditions
from repkit.config.schema import Condition
from repkit.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    stores: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]DIR...", help="Embedding stores made by `repkit embed`.")
    ] = None,
    corpus: Annotated[list[str], typer.Option(help=CORPUS_HELP)] = [],  # noqa: B006
    corpus_set: Annotated[list[str], typer.Option(metavar="NAME.KEY=VALUE", help=CORPUS_SET_HELP)] = [],  # noqa: B006
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
    probe_set: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Override a key of the recipe `probe`. Repeatable.")
    ] = [],  # noqa: B006
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print stores, roles and runs; train nothing.")] = False,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Train nothing: write the page of --out anew.")
    ] = False,
) -> None:
    """Does stage one help? Every store alone and beside the functionals, by one probe, with the verdict of the gate.

    Finished runs are found and not repeated, so the same command goes on after any interruption, and a further store costs
    only its own runs.
    """
    if page_only:
        from repkit.workflows.compare import rebuild

        _show(rebuild(out), out)
        return
    from repkit.workflows.compare import Request
    from repkit.workflows.compare import compare as work
    from repkit.workflows.compare_stores import read_entries
    from repkit.workflows.ser_where import Where

    conditions = [Condition(**c) for c in embedding_conditions(stores or [], "")]
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
    conditions.append(Condition(**found))
    return str(found["name"])


def _watch(screen: Any, shown: ExitStack) -> Any:
    """Return what shows the progress of each run; one live display at a time."""
    from repkit.cli.job_table import JobTable, showing
    from repkit.training.phases import total_epochs
    from repkit.workflows.compare import Watch

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
        told = f"  (continued, {n_done} of {len(plan.jobs)} jobs done)" if resumed else ""
        screen.print(f"run        {run.path}{told}")
        for flag in plan.protocol["audit"]:
            if "has heard" in flag:
                screen.print(f"note       {flag}")
        totals = Counter(job.condition for job in plan.jobs)
        done = Counter(j.condition for j in plan.jobs if run.job_path(j.condition, j.seed, j.fold).exists())
        epochs = {c.name: total_epochs(c.recipe, tuple(plan.corpora)) for c in plan.conditions}
        tell["jobs"] = shown.enter_context(showing(JobTable(dict(totals), dict(done), epochs)))

    return Watch(
        on_unit=lambda number, total, unit: screen.print(f"run {number} of {total}: {unit.title}"),
        on_frames=on_frames,
        on_start=on_start,
        on_event=lambda event: tell["jobs"](event),
        on_end=end,
    )


def _show_plan(request: Any) -> None:
    from repkit.workflows.compare import finished

    rows = [(one.name, one.role, one.family, str(one.dim), one.folder) for one in request.entries]
    print_table(("store", "role", "row", "numbers", "folder"), rows)
    typer.echo("")
    found = finished(request)
    print_table(("run", "conditions", "done"), [(unit.title, str(n), str(done)) for unit, done, n in found])


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
