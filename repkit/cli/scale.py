"""``repkit scale``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repkit.cli.options import Corpora, CorpusSet, OnBadAudio, PageOnly, ProbeSet, Scheduler
from repkit.cli.shared import check_folder, console, counting, interruptible, parse_corpora, print_table
from repkit.config import load_recipe
from repkit.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def scale(
    recipe: Annotated[str, typer.Option(help="Recipe name (`repkit recipes list`) or TOML file.")] = "scale_plan",
    pretrain_corpus: Annotated[
        list[str], typer.Option(metavar="NAME[=PATH]", help="Speech that stage one hears; as --corpus. Repeatable.")
    ] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of the corpora that stage one hears.")] = None,
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    only: Annotated[
        list[str],
        typer.Option(metavar="CURVE[/HOURS[/SEED]]", help="Train these cells only; * stands for anything. Repeatable."),
    ] = [],  # noqa: B006
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, for example hours=[0.5, 1, 2]."),
    ] = [],  # noqa: B006
    probe_set: ProbeSet = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Folder of everything: page, trainings, embeddings, runs.")] = Path("scale"),
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes, each with a training; default one per core, and one training at a time on a GPU."
        ),
    ] = None,
    executor: Annotated[
        Literal["processes", "dask"],
        typer.Option(help="Where to train, encode and make frames: this machine, or a dask cluster."),
    ] = "processes",
    scheduler: Scheduler = None,
    on_bad_audio: OnBadAudio = "stop",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every cell, its expected hours and what is missing; train nothing.")
    ] = False,
    page_only: PageOnly = False,
) -> None:
    """Does more speech help stage one? Trainings on 3, 10, 30, 100 hours, and the gate's difference against the hours.

    Every cell (a recipe, hours, a seed) is trained for as many updates. Finished cells are found and not repeated, so the
    same command goes on after any interruption.
    """
    if page_only:
        from repkit.workflows.scale.run import rebuild

        _show(rebuild(out), out)
        return
    check_folder(out, "--out")
    from repkit.workflows.scale.recipe import ScaleRecipe

    plan = load_recipe(ScaleRecipe, recipe, set_)
    if not pretrain_corpus:
        raise UsageError(
            "--pretrain-corpus: none given; expected at least one NAME[=PATH], for example --pretrain-corpus librispeech=PATH"
        )
    names = [[text.partition("=")[0] for text in texts] for texts in (pretrain_corpus, corpus)]
    for text in corpus_set:
        if text.split(".")[0] not in (*names[0], *names[1]):
            raise UsageError(
                f"--corpus-set {text}: expected NAME.KEY=VALUE with NAME one of {', '.join((*names[0], *names[1]))}; "
                "give the corpus too"
            )
    settings = [[text for text in corpus_set if text.split(".")[0] in some] for some in names]
    heard = parse_corpora(pretrain_corpus, split, settings[0], option="--pretrain-corpus")
    labelled = parse_corpora(corpus, None, settings[1])
    place = None
    if executor == "dask" or scheduler is not None:  # in a dry run too, which is to tell what would be refused
        from repkit.runs.executors import default_workers, open_executor

        place = open_executor(executor, workers or default_workers(1 << 20), scheduler)
    from repkit.workflows.scale.cells import Request

    request = Request(
        plan=plan,
        heard=heard,
        corpora=labelled,
        only=tuple(only),
        probe_assignments=tuple(probe_set),
        places={text.partition("=")[0]: text for text in corpus},
        corpus_set=tuple(corpus_set),
        out=out,
        workers=workers,
        executor=place,
        on_bad_audio=on_bad_audio,
    )
    if dry_run:
        _show_plan(request)
        return
    from repkit.workflows.scale.run import scale as work

    screen = console()
    with interruptible("checkpoints and finished cells are kept"), ExitStack() as shown:
        state = work(request, _watch(screen, shown))
    _show(state, out)
    failed = [cell for cell in state["cells"] if cell["state"] == "failed"] or state["failed"]
    if failed:
        raise typer.Exit(failed[0]["exit_code"])


def _watch(screen: Any, shown: ExitStack) -> Any:
    """Return what shows the progress; one live display at a time."""
    from repkit.workflows.scale.run import Watch

    tell: dict[str, Any] = {}

    def end() -> None:
        shown.pop_all().close()
        tell.clear()

    def say(text: str) -> None:
        end()
        screen.print(text, markup=False)

    def on_event(event: Any) -> None:
        if event.kind == "started":
            say(f"training   {event.job.name}")
        elif event.kind == "done":
            why = event.value.get("why")
            say(f"failed     {event.job.name}: {why}" if why else f"finished   {event.job.name}")

    def on_vectors(corpus: str, done: int, total: int) -> None:
        if "vectors" not in tell:
            tell["vectors"] = shown.enter_context(counting("vectors of"))
        tell["vectors"](corpus, done, 0.0)

    return Watch(say=say, on_event=on_event, on_vectors=on_vectors)


def _show(state: dict[str, Any], out: Path) -> None:
    """Print the curves as a table, what is missing, and where it all is."""
    from repkit.report.scale_page import HEADER, point_rows, reasons, summary

    rows = point_rows(state)
    if rows:
        typer.echo("[functionals + trained] - [functionals + untrained] by hours of speech")
        print_table(HEADER, rows)
        typer.echo("")
    for kind in ("missing", "failed"):
        for line in reasons(state, kind):
            typer.echo(f"{kind}: {line}")
    typer.echo(summary(state)[0])
    names = ("scale.md", "table.csv", "figure.png", "scale.json", "compare/compare.md")
    typer.echo(f"written  {', '.join(str(out / name) for name in names if (out / name).exists())}")


def _show_plan(request: Any) -> None:
    """Print every cell with its expected hours, and what cannot be run for want of speech."""
    from repkit.workflows.scale.cost import plan_cells

    found, notes = plan_cells(request)
    rows = []
    for one in found:
        hours = "-" if one.hours is None else f"{one.hours:.2f}"
        rows.append((one.cell.curve, f"{one.cell.hours:g}", str(one.cell.seed), one.state, hours, one.measured or "-"))
    print_table(("curve", "hours of speech", "seed", "state", "expected h", "measured on"), rows)
    typer.echo("")
    by_reason: dict[str, list[str]] = {}
    for one in found:
        if one.why:
            by_reason.setdefault(one.why, []).append(one.cell.id)
    for why, cells in by_reason.items():
        typer.echo(f"missing: {', '.join(cells)}: {why}")
    for note in notes:
        typer.echo(f"note     {note}")
    todo = [one for one in found if one.state == "to train"]
    n_encode = sum(one.state == "to encode" for one in found)
    total = sum(one.hours or 0.0 for one in todo)
    typer.echo(
        f"{len(found)} cells, {len(todo)} to train{f', {n_encode} to encode' if n_encode else ''}; expected {total:.2f} h of training on this machine, one after the other; "
        "frames, embeddings and probes are not counted"
    )
