"""``repkit train-ser``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from repkit.cli.options import (
    AT_ONCE,
    Again,
    AtOnce,
    Corpora,
    CorpusSet,
    Device,
    Executor,
    OnBadAudio,
    Runs,
    Scheduler,
    Workers,
)
from repkit.cli.shared import check_folder, console, counting, interruptible, parse_corpora, print_table, time_text
from repkit.config import SerRecipe, find_recipe, load_recipe, refuse_unread
from repkit.config.schema import Condition
from repkit.errors import UsageError
from repkit.plugins.wording import validation_lines

app = typer.Typer(add_completion=False)


@app.command()
def train_ser(
    recipe: Annotated[str, typer.Option(help="Recipe name (`repkit recipes list`) or TOML file.")],
    corpus: Corpora = [],  # noqa: B006
    corpus_set: CorpusSet = [],  # noqa: B006
    hold_out: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PATH", help="Corpus that is tested whole and never trained on; like --corpus. Repeatable."
        ),
    ] = [],  # noqa: B006
    embeddings: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]DIR[+DIR]",
            help="Embedding stores made by `repkit embed`; each is a condition, whose vectors are joined where several "
            "folders are given with a plus. Repeatable.",
        ),
    ] = [],  # noqa: B006
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key (TOML value).")
    ] = [],  # noqa: B006
    runs: Runs = Path("runs"),
    workers: Workers = None,
    executor: Executor = "auto",
    device: Device = "auto",
    at_once: AtOnce = AT_ONCE,
    scheduler: Scheduler = None,
    on_bad_audio: OnBadAudio = "stop",
    again: Again = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with counts and expected hours; train nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", hidden=True)] = None,
) -> None:
    """Train and score emotion models: every condition, fold and seed of a recipe.

    An interrupted run is continued when the same command is given again; finished jobs are kept. A finished run is not
    repeated: its scores are shown.
    """
    if out is not None:
        raise UsageError(
            f"--out {out}: train-ser names its runs itself; a folder for all of them was expected; write --runs {out}"
        )
    check_folder(runs, "--runs")
    given = [*corpus, *hold_out]
    names = [text.partition("=")[0] for text in hold_out]
    resolved = load_recipe(SerRecipe, recipe, set_, {"protocol": {"hold_out": names}} if names else {})
    if names:
        _check_hold_out(resolved)
    if embeddings:
        resolved = resolved.with_embeddings(embedding_conditions(embeddings))
    refuse_unread(resolved, set_)
    named = [
        f"{name}={path}" for name, path in resolved.corpora.items() if name not in {c.partition("=")[0] for c in given}
    ]
    corpora = parse_corpora(corpus, settings=corpus_set, more={"--hold-out": hold_out, "[corpora]": named})
    where = {"executor": executor, "device": device, "at_once": at_once, "scheduler": scheduler}
    if dry_run:
        from repkit.workflows.train_ser.where import Where

        asked = Where(executor, device, at_once, scheduler)
        asked.tried()
        _show_plan(resolved, corpora, runs, workers, asked, skip_bad_audio=on_bad_audio == "skip")
        return
    text = find_recipe(recipe).read_text(encoding="utf-8")
    execute(resolved, corpora, text, runs, workers, on_bad_audio, again=again, **where)


def execute(
    resolved: SerRecipe,
    corpora: dict[str, Any],
    recipe_text: str,
    runs: Path,
    workers: int | None,
    on_bad_audio: str = "stop",
    *,
    again: bool = False,
    **where: Any,
) -> None:
    """Train and score with a table of the jobs on the screen, then show the scores.

    Args:
        resolved: recipe.
        corpora: by name.
        recipe_text: the recipe as given.
        runs: folder of all runs.
        workers: processes.
        on_bad_audio: ``stop`` or ``skip``.
        again: train what a finished run holds already.
        where: executor, device and the like, see `repkit.workflows.train_ser.run.train_ser`.
    """
    from repkit.cli.job_table import finished, showing, table_of
    from repkit.runs.executors import Event
    from repkit.workflows.train_ser.run import train_ser as work

    screen = console()
    with interruptible("frames and finished jobs are kept"), ExitStack() as shown:
        on_frames = shown.enter_context(counting("log-Mel frames of"))
        table: list[Callable[[Event], None]] = []

        def on_start(plan: Any, run: Any, resumed: bool, n_done: int) -> None:
            shown.close()  # a terminal shows one live display at a time
            _announce(screen, plan, run, resumed, n_done)
            table.append(shown.enter_context(showing(table_of(plan, run))))

        run = work(
            resolved,
            corpora,
            recipe_text=recipe_text,
            root=runs,
            workers=workers,
            on_bad_audio=on_bad_audio,
            again=again,
            on_frames=on_frames,
            on_start=on_start,
            on_event=lambda event: table[0](event),
            **where,
        )
    if not table:
        for line in finished(run):
            screen.print(line)
    _show_results(run)


def _check_hold_out(recipe: SerRecipe) -> None:
    """Refuse --hold-out with a protocol that has no such thing."""
    from repkit.plugins import components, load

    def can(name: str) -> bool:
        return "hold_out" in load("repkit.protocols", name).Config.model_fields

    if not can(recipe.protocol.name):
        able = [c.name for c in components("repkit.protocols") if c.distribution == "repkit" and can(c.name)]
        raise UsageError(
            f"--hold-out: protocol {recipe.protocol.name!r} holds no corpus out; choose one that does "
            f"(--set protocol.name={able[0]}; repkit has {', '.join(able)}), or give the corpus with --corpus"
        )


def embedding_conditions(texts: list[str], option: str = "--embeddings ") -> list[Condition]:
    """Return a condition for every ``[NAME=]DIR[+DIR]``, named after its encoder where it is given no name.

    A folder whose own name holds a plus is taken as it is where it exists.

    Raises:
        UsageError: no such folder, one with several encoders and no name which, one given twice to be joined with itself,
            or a name that a condition cannot have.
    """
    conditions: list[Condition] = []
    for text in texts:
        name, equals, given = text.partition("=")
        if not equals:
            name, given = "", text
        folders = [given] if Path(given).is_dir() else given.split("+")
        encoders = [_encoder_of(folder, text, option, named=bool(name)) for folder in folders]
        try:
            conditions.append(Condition(name=name or "_and_".join(encoders), embeddings=tuple(folders)))
        except ValidationError as error:
            raise UsageError(
                f"{option}{text}: cannot be a condition; a name of letters, digits, '_', '-' and '.' and each folder once "
                f"were expected; write NAME={'+'.join(dict.fromkeys(folders))}",
                validation_lines(error, ""),
            ) from error
    return conditions


def _encoder_of(folder: str, text: str, option: str, *, named: bool) -> str:
    """Return the name of the encoder whose embeddings a folder holds."""
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(
            f"{option}{text}: {'' if folder in text.split('=') else f'{folder or repr(folder)}: '}no such folder; make it "
            f"with `repkit embed --encoder RUN --corpus NAME=PATH --out {folder}`"
        )
    encoders = sorted({p.parent.parent.name for p in path.glob("*/*/manifest.json")})
    if len(encoders) > 1 and not named:
        choices = " ".join(f"{option}{path / e}" for e in encoders)
        raise UsageError(f"{option}{text}: holds embeddings of several encoders; name those you want: {choices}")
    return encoders[0] if encoders else path.name


def _announce(screen: Any, plan: Any, run: Any, resumed: bool, n_done: int) -> None:
    from repkit.cli.job_table import started

    screen.print(started(plan, run, resumed, n_done))
    screen.print(f"protocol   {plan.protocol['id']}  {plan.recipe.protocol.name}, {len(plan.folds)} folds")
    _announce_baseline(screen, plan)
    first = plan.recipe.labels.views[0]
    counts = Counter(plan.labels.targets(u)[first] for u in plan.utterances)
    screen.print(f"utterances {len(plan.utterances)}: " + ", ".join(f"{c} {n}" for c, n in sorted(counts.items())))
    for reason, n in sorted(plan.dropped.items()):
        screen.print(f"not used   {n} {reason}")
    for flag in plan.protocol["audit"]:
        screen.print(f"note       {flag}")


def _announce_baseline(screen: Any, plan: Any) -> None:
    from repkit.cli.job_table import baseline_text

    if plan.recipe.baseline:
        screen.print(f"BL         {baseline_text(plan.recipe.model.name)}")


def _show_plan(
    resolved: SerRecipe, corpora: dict[str, Any], runs: Path, workers: int | None, where: Any, *, skip_bad_audio: bool
) -> None:
    from rich.table import Table

    from repkit.runs.directory import RunDirectory
    from repkit.runs.executors import prepare_process
    from repkit.workflows.train_ser.cost import estimate_seconds
    from repkit.workflows.train_ser.cut import cut_notes
    from repkit.workflows.train_ser.plan import make_plan
    from repkit.workflows.train_ser.run import Place

    prepare_process()
    plan = make_plan(resolved, corpora, skip_bad_audio=skip_bad_audio)
    screen = console()
    place = Place.choose(where, workers, plan)
    screen.print(f"protocol   {plan.protocol['id']}  {resolved.protocol.name}")
    for reason, n in sorted(plan.dropped.items()):
        screen.print(f"not used   {n} {reason}")
    if plan.left_out:
        screen.print(f"not used   {len(plan.left_out)} whose audio the embedding stores left out")
    for flag in (*plan.flags, *cut_notes(plan)):
        screen.print(f"note       {flag}")
    table = Table("fold", "train", "dev", "test", box=None)
    for fold in plan.folds:
        table.add_row(fold.name, *(str(len(part)) for part in (fold.train, fold.dev, fold.test)))
    screen.print(table)
    names = ", ".join(f"{c.name} ({c.fusion})" for c in plan.conditions)
    screen.print(f"conditions {names}")
    _announce_baseline(screen, plan)
    screen.print(
        f"jobs       {len(plan.folds)} folds x {len(resolved.seeds)} seeds x {len(plan.conditions)} conditions = {len(plan.jobs)}"
    )
    expected = time_text(estimate_seconds(plan, place.n_workers))
    if done := RunDirectory.finished(runs, resolved.name, plan.signature):
        screen.print(f"finished   {done.path} holds all this already; nothing would be trained without --again")
    if place.executor == "processes" and place.device == "cpu":
        screen.print(f"expected   {expected} on {place.told()} (measured on random frames on this machine)")
    else:  # what was timed is one CPU of this machine
        screen.print(f"runs on    {place.told()}")
        alone = "one process" if place.n_workers == 1 else f"{place.n_workers} processes"
        screen.print(
            f"expected   not known there; {expected} on {alone} of this machine's CPU (measured on random frames)"
        )


def _show_results(run: Path) -> None:
    from repkit.cli.job_table import baseline_text
    from repkit.runs.directory import read_json

    results = read_json(run / "results.json")
    first = next(iter(results["views"]))
    rows = []
    for score in results["scores"]:
        if score["view"] != first or score["checkpoint"] != "selected":
            continue
        uar, pooled = score["uar"], score["uar_pooled"]
        interval = "" if pooled["low"] is None else f"{100 * pooled['low']:.1f} to {100 * pooled['high']:.1f}"
        numbers = [f"{100 * value:.1f}" for value in (uar["mean"], uar["min"], uar["max"], score["wa"]["mean"])]
        rows.append((score["condition"], *numbers, interval))
    print_table(("condition", "UAR mean", "min", "max", "WA", "95 % interval (speakers)"), rows)
    means = [
        (m["condition"], m["over"].replace("_", " "), len(m["corpora"]), *_percents(m["uar"]))
        for m in results.get("corpus_means", ())
        if m["view"] == first and m["checkpoint"] == "selected" and len(m["corpora"]) > 1
    ]
    if means:
        typer.echo("")
        print_table(("condition", "mean over corpora", "corpora", "UAR", "95 % interval (speakers)"), means)
        typer.echo("")
    if any(row[0] == "BL" for row in rows):
        typer.echo(f"BL        {baseline_text(str(read_json(run / 'resolved.json')['model']['name']))}")
    typer.echo(f"protocol  {results['protocol_id']}")
    typer.echo(f"report    {run / 'report.md'}")


def _percents(uar: dict[str, Any]) -> tuple[str, str]:
    interval = "" if uar["low"] is None else f"{100 * uar['low']:.1f} to {100 * uar['high']:.1f}"
    return f"{100 * uar['mean']:.1f}", interval
