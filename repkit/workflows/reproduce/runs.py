"""The runs behind the cells of a paper's table: their recipe, vectors, what is done already, and what is left to train."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repkit.config import PretrainRecipe, SerRecipe, find_recipe, load_recipe
from repkit.config.schema import NOT_TRAINING, Condition
from repkit.errors import DataError, RecipeError, RepkitError, RepkitWarning, did_you_mean
from repkit.papers import StageOne
from repkit.runs.directory import RunDirectory, canonical_hash, is_finished, is_whole_job, read_json
from repkit.workflows.reproduce.cells import PlannedCell, Request, Unit
from repkit.workflows.train_ser.conditions import ResolvedCondition, StoreFinder, check_components
from repkit.workflows.train_ser.plan import SerPlan, make_plan

if TYPE_CHECKING:
    from repkit.stage_one.settings import PretrainConfig

BASELINE = "BL"


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom to tell what happens.

    Attributes:
        on_refused: a run whose settings are not valid, and what is wrong for each of its conditions; before any work.
        on_unit: number of the run, runs in all, and the run.
        on_found: finished runs that are not repeated, by condition.
        on_frames: corpus, utterances and hours of speech read so far.
        on_vectors: corpus, utterances encoded, utterances in all.
        on_start: plan, run directory, whether it is resumed, jobs done: as of `train_ser`.
        on_event: of jobs, as of `train_ser`.
        on_end: the run, when nothing more happens in it.
        progress: of stage one, as of `pretrain_ae`.
    """

    on_refused: Callable[[Unit, Mapping[str, Exception]], None] = lambda unit, failed: None
    on_unit: Callable[[int, int, Unit], None] = lambda number, total, unit: None
    on_found: Callable[[Mapping[str, Path]], None] = lambda done: None
    on_frames: Callable[[str, int, float], None] = lambda corpus, n, hours: None
    on_vectors: Callable[[str, int, int], None] = lambda corpus, done, total: None
    on_start: Callable[[SerPlan, Any, bool, int], None] = lambda plan, run, resumed, n_done: None
    on_event: Callable[[Any], None] = lambda event: None
    on_end: Callable[[Unit], None] = lambda unit: None
    progress: Literal["auto", "bar", "lines", "none"] = "auto"


def reads_vectors(one: PlannedCell) -> bool:
    """Tell whether the system of a cell reads vectors."""
    return bool(one.cell.system.embed or one.cell.system.stage_one)


def unit_recipe(unit: Unit, cells: Sequence[PlannedCell], request: Request, folders: Mapping[str, str]) -> SerRecipe:
    """Return the recipe of a run with those of its conditions that the cells want.

    Args:
        unit: the run.
        cells: that it gives; those that read vectors only where their condition has a folder.
        request: with seeds and assignments.
        folders: of embeddings, by condition.

    Raises:
        RecipeError: the recipe does not validate, or has no condition of that name.
    """
    overrides: dict[str, Any] = {"protocol": {"hold_out": list(unit.hold_out)}} if unit.hold_out else {}
    if request.seeds is not None:
        overrides["seeds"] = list(range(request.seeds))
    recipe = load_recipe(SerRecipe, unit.recipe, [*unit.set, *request.assignments], overrides)
    own = {condition.name: condition for condition in recipe.conditions}
    known = [*([BASELINE] if recipe.baseline else []), *own]
    names = []
    for one in cells:
        name = one.cell.system.condition
        if name in folders:
            own[name] = Condition(name=name, embeddings=folders[name])
        elif reads_vectors(one):
            continue
        elif name not in known:
            raise RecipeError(
                f"recipe {unit.recipe}: has no condition {name!r}{did_you_mean(name, known)}; expected one of "
                f"{', '.join(known)}; correct the paper's file"
            )
        names.append(name)
    return only_conditions(recipe.model_copy(update={"conditions": tuple(own.values())}), names)


def only_conditions(recipe: SerRecipe, names: Sequence[str]) -> SerRecipe:
    """Return the recipe with some of its conditions; another takes the place of a reference that is not among them."""
    kept = tuple(condition for condition in recipe.conditions if condition.name in names)
    there = [condition.name for condition in kept]
    baseline = BASELINE in names and BASELINE not in there
    reference = recipe.reference if baseline or recipe.reference in there or not kept else there[0]
    if baseline and recipe.reference not in there:
        reference = BASELINE
    return recipe.model_copy(update={"conditions": kept, "baseline": baseline, "reference": reference})


def check_units(units: Mapping[Unit, Sequence[PlannedCell]], request: Request) -> dict[Unit, dict[str, Exception]]:
    """Try the settings of every run and of the stage one it needs, before anything is made for any of them.

    Args:
        units: with their cells.
        request: with seeds and assignments.

    Returns:
        for each run what is wrong, by condition; empty where nothing is.
    """
    checked: dict[tuple[Any, ...], dict[str, Exception]] = {}
    found = {}
    for unit, cells in units.items():
        systems = {one.cell.system.condition: one.cell.system for one in cells}
        # whatever else sets two runs apart is not in their recipes
        key = (unit.recipe, unit.set, unit.hold_out, *systems, *(system.stage_one for system in systems.values()))
        if key not in checked:
            checked[key] = _check(unit, cells, request)
        found[unit] = checked[key]
    return found


def _check(unit: Unit, cells: Sequence[PlannedCell], request: Request) -> dict[str, Exception]:
    """Return what is wrong with the settings of a run, by condition."""
    folders = {one.cell.system.condition: str(request.embeddings) for one in filter(reads_vectors, cells)}
    try:
        check_components(unit_recipe(unit, cells, request, folders))
    except Exception as error:  # noqa: BLE001 - one run's failure, whatever it is, must not lose the others
        return dict.fromkeys((one.cell.system.condition for one in cells), error)
    failed: dict[str, Exception] = {}
    for system in (one.cell.system for one in cells):
        if system.stage_one is not None and system.condition not in failed:
            try:
                stage_run(system.stage_one, system.stage_one.corpus, request)
            except Exception as error:  # noqa: BLE001 - as above
                failed[system.condition] = error
    return failed


def make_vectors(
    unit: Unit, cells: Sequence[PlannedCell], request: Request, watch: Watch
) -> tuple[dict[str, str], dict[str, Exception]]:
    """Encode the unit's corpora for every condition that reads vectors, training stage one first where it has one.

    Whatever is there is not made again.

    Returns:
        the folder of each such condition, and what went wrong with the others.
    """
    from repkit.workflows.embed import embed

    corpora = [request.corpora[name] for name in (*unit.corpora, *unit.hold_out)]
    folders: dict[str, str] = {}
    failed: dict[str, Exception] = {}
    for one in filter(reads_vectors, cells):
        system = one.cell.system
        if system.condition in folders or system.condition in failed:
            continue
        try:
            encoder = system.embed or ""
            if system.stage_one is not None:
                encoder = str(_pretrain(system.stage_one, str(one.cell.heard), request, watch))
            stores = embed(
                encoder, corpora, request.embeddings, on_bad_audio=request.on_bad_audio, progress=watch.on_vectors
            )
        except Exception as error:  # noqa: BLE001 - one system's failure, whatever it is, must not lose the others
            failed[system.condition] = error
            continue
        folders[system.condition] = str(next(iter(stores.values())).path.parent)
    return folders, failed


def stage_run(stage: StageOne, heard: str, request: Request) -> tuple[Path, PretrainConfig]:
    """Return where the autoencoder of a system is trained, and its settings.

    Args:
        stage: recipe and settings.
        heard: name of the unlabelled corpus.
        request: with the folder of all runs.

    Raises:
        RecipeError: the recipe does not validate.
    """
    from repkit.stage_one.settings import settings_of

    settings = [*stage.set, *request.pretrain_assignments]
    recipe = load_recipe(PretrainRecipe, stage.recipe, settings)
    # other settings need another folder: a run of pretrain-ae refuses to go on under new ones
    mark = f"-{canonical_hash(settings)[:8]}" if settings else ""
    out = request.runs / f"{recipe.name}-{heard}{mark}"
    return out, settings_of(recipe)


def _pretrain(stage: StageOne, heard: str, request: Request, watch: Watch) -> Path:
    """Train the autoencoder of a system and return its run."""
    from repkit.workflows.pretrain_ae import pretrain_ae

    out, config = stage_run(stage, heard, request)
    pretrain_ae([request.corpora[heard]], out, config, on_bad_audio=request.on_bad_audio, progress=watch.progress)
    return out


def plan_unit(recipe: SerRecipe, unit: Unit, request: Request, find: StoreFinder | None = None) -> SerPlan:
    """Return the plan of a run; `find` finds its stores, None where they are."""
    corpora = {name: request.corpora[name] for name in (*unit.corpora, *unit.hold_out)}
    return make_plan(recipe, corpora, skip_bad_audio=request.on_bad_audio == "skip", find=find)


def find_done(plan: SerPlan, runs: Path, known: Mapping[str, str]) -> dict[str, Path]:
    """Return the finished runs that have trained conditions of a plan just so, by condition; the newest ones.

    Any run of train-ser counts, with whatever other conditions: same protocol id, settings, seeds and stores. A condition that
    has lost predictions since does not count. A run that cannot be read is passed over, which is said once.

    Args:
        plan: what is wanted.
        runs: folder of all runs.
        known: signature of a plan to the run that came of it, from earlier reproductions: where bad audio was left out, the
            run's own protocol id is no longer that of the plan.
    """
    earlier = known.get(plan.signature)
    if earlier is not None and _is_finished(Path(earlier)):
        return {condition.name: Path(earlier) for condition in plan.conditions}
    found: dict[str, Path] = {}
    for folder in sorted((runs / plan.recipe.name).glob("*_*"), reverse=True):
        if len(found) == len(plan.conditions):
            break
        if folder.name.endswith(f"_{plan.signature[:8]}") and not _is_finished(folder):
            continue  # train-ser goes on with it, given all its conditions
        made = _made(folder, plan)
        if made is None:
            continue
        for wanted in plan.conditions:
            if wanted.name not in found and _is_same(wanted, *made) and _has_all_jobs(folder, plan, wanted.name):
                found[wanted.name] = folder
    return found


def _is_same(wanted: ResolvedCondition, recipe: SerRecipe, described: Mapping[str, Any]) -> bool:
    """Tell whether a run of a recipe has trained a condition with the same settings, seeds and stores."""
    own = {condition.name: condition for condition in recipe.conditions}
    if wanted.name not in described:
        return False
    try:
        theirs = recipe.of_condition(own.get(wanted.name))
    except (ValueError, RepkitError):
        return False  # as of another version
    same = theirs.model_dump(exclude=set(NOT_TRAINING)) == wanted.recipe.model_dump(exclude=set(NOT_TRAINING))
    return same and canonical_hash(described[wanted.name]) == canonical_hash(wanted.describe())


def _made(folder: Path, plan: SerPlan) -> tuple[SerRecipe, Mapping[str, Any]] | None:
    """Return recipe and described conditions of a run that is done by the protocol of a plan, None for any other."""
    try:
        if not (folder / "status.json").exists() or read_json(folder / "status.json")["state"] != "done":
            return None
        if read_json(folder / "protocol.json")["id"] != plan.protocol["id"]:
            return None
        resolved, described = read_json(folder / "resolved.json"), read_json(folder / "data.json")
    except (DataError, OSError, KeyError, TypeError) as error:
        _pass_over(folder, error)
        return None
    try:
        return SerRecipe.model_validate(resolved), dict(described["conditions"])
    except (ValueError, KeyError, TypeError, RepkitError):
        return None  # written by a version with other keys: not one to build on


def _has_all_jobs(folder: Path, plan: SerPlan, condition: str) -> bool:
    run = RunDirectory(folder)
    return all(
        is_whole_job(run.job_path(job.condition, job.seed, job.fold)) for job in plan.jobs if job.condition == condition
    )


def _is_finished(folder: Path) -> bool:
    try:
        return is_finished(folder)
    except (DataError, OSError) as error:
        _pass_over(folder, error)
        return False


def _pass_over(folder: Path, error: Exception) -> None:
    """Say that a run is not looked at."""
    why = error.message.partition(";")[0] if isinstance(error, RepkitError) else f"{type(error).__name__}: {error}"
    _say_once(f"{folder}: this run cannot be read and is passed over ({why}); mend the folder or delete it")


@cache
def _say_once(text: str) -> None:
    warnings.warn(text, RepkitWarning, stacklevel=3)


def train_unit(
    recipe: SerRecipe,
    unit: Unit,
    request: Request,
    watch: Watch,
    known: dict[str, str],
    on_found: Callable[[Mapping[str, Path]], None] = lambda done: None,
) -> tuple[dict[str, Path], dict[str, Exception]]:
    """Train the conditions of a run that are not done yet; where that fails, each of them alone.

    Args:
        recipe: with all conditions wanted.
        unit: the run.
        request: with corpora and folders.
        watch: told what happens.
        known: see `find_done`; runs made here are added.
        on_found: told the runs that are finished already, by condition, where there are any.

    Returns:
        the run directory of each finished condition, and what went wrong with the others.
    """
    from repkit.workflows.train_ser.run import train_ser

    plan = plan_unit(recipe, unit, request)
    done = find_done(plan, request.runs, known)
    if done:
        on_found(dict(done))
    todo = [condition.name for condition in plan.conditions if condition.name not in done]
    failed: dict[str, Exception] = {}
    groups = [todo] if todo else []
    while groups:
        names = groups.pop(0)
        some = only_conditions(recipe, names)
        started: list[bool] = []

        def on_start(plan: SerPlan, run: Any, resumed: bool, n_done: int, started: list[bool] = started) -> None:
            started.append(True)
            watch.on_start(plan, run, resumed, n_done)

        try:
            whole = len(names) == len(plan.conditions)
            signature = plan.signature if whole else plan_unit(some, unit, request).signature
            run = train_ser(
                some,
                dict(plan.corpora),
                recipe_text=find_recipe(unit.recipe).read_text(encoding="utf-8"),
                root=request.runs,
                workers=request.workers,
                on_bad_audio=request.on_bad_audio,
                on_frames=watch.on_frames,
                on_start=on_start,
                on_event=watch.on_event,
                **asdict(request.where),
            )
        except Exception as error:  # noqa: BLE001 - one cell's failure, whatever it is, must not lose the others
            if len(names) > 1 and started:
                groups += [[name] for name in names]
            else:
                failed |= dict.fromkeys(names, error)
            continue
        known[signature] = str(run)
        done |= dict.fromkeys(names, run)
    return done, failed


def command_of(unit: Unit, recipe: SerRecipe, request: Request) -> str:
    """Return a train-ser command that gives the run's numbers, with the recipe's other conditions if it has any."""
    words = ["repkit", "train-ser", "--recipe", unit.recipe]
    words += request.corpus_words(unit.corpora, unit.hold_out)
    for condition in recipe.conditions:
        words += ["--embeddings", f"{condition.name}={'+'.join(condition.folders)}"] if condition.folders else []
    seeds = [f"seeds={list(recipe.seeds)}"] if request.seeds is not None else []
    words += [word for text in (*unit.set, *request.assignments, *seeds) for word in ("--set", text)]
    return shlex.join([*words, *request.audio_words()])
