"""``repkit compare``: every store alone and beside the functionals, by one probe and one recipe, and what the gate says."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import repkit
from repkit.config import SerRecipe, load_recipe, refuse_unread
from repkit.config.schema import Condition
from repkit.errors import RepkitError, UsageError
from repkit.report.gate_page import write_page
from repkit.runs.atomic import write_json_atomic
from repkit.runs.directory import locked, make_folder, read_json
from repkit.runs.environment import command_line
from repkit.workflows.asked import Asked
from repkit.workflows.compare.scores import Predictions, measure
from repkit.workflows.compare.stores import Entry
from repkit.workflows.reproduce.runs import plan_unit, train_unit
from repkit.workflows.state_file import read_state, rebuild_page
from repkit.workflows.train_ser.conditions import check_names
from repkit.workflows.train_ser.plan import SerPlan
from repkit.workflows.train_ser.where import Where

SCHEMA = 1
PROBE = "probe"
NORMALISATIONS = ("train", "per_speaker", "per_corpus")
STATE = "compare.json"
DECIDED = ("vector.by", "vector.standardise", "normalisation.mode")
"""Settings that compare gives its runs itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Asked):
    """What was asked for, besides what `Asked` says.

    Attributes:
        entries: the stores.
        normalisations: of `NORMALISATIONS`.
        recipe: of stage two, beside the probe; None for the probe alone.
        protocol: of the probe, None for the recipe's own.
        seeds: number of seeds of stage two, None for the recipe's own; the probe draws nothing.
        assignments: ``KEY=VALUE`` laid over the recipe of stage two.
        probe_assignments: the same for the probe.
        runs: folder of all runs.
        out: folder of the page.
        where: executor and device of every run.
    """

    entries: tuple[Entry, ...]
    normalisations: tuple[str, ...] = ("train", "per_speaker")
    recipe: str | None = None
    protocol: str | None = None
    seeds: int | None = None
    assignments: tuple[str, ...] = ()
    probe_assignments: tuple[str, ...] = ()
    runs: Path = Path("runs")
    out: Path = Path("compare")
    where: Where = field(default_factory=Where)

    @property
    def heads(self) -> tuple[str, ...]:
        """What reads the vectors: the probe, and the recipe of stage two where one is given."""
        return (PROBE, self.recipe) if self.recipe else (PROBE,)

    @property
    def functionals(self) -> Entry | None:
        """The store that all others are joined with."""
        return next((one for one in self.entries if one.role == "functionals"), None)


@dataclass(frozen=True, slots=True)
class CompareUnit:
    """One run of train-ser: all stores on one corpus, by one head, under one normalisation.

    Attributes:
        recipe: name or file of the head's recipe.
        normalisation: of the vectors; of stage two's frames as well.
        corpora: the one corpus.
        resolved: the recipe with a condition for every store.
        hold_out: none.
    """

    recipe: str
    normalisation: str
    corpora: tuple[str, ...]
    resolved: SerRecipe
    hold_out: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is read how on what, in words."""
        return f"{self.recipe} on {self.corpora[0]}, {self.normalisation.replace('_', '-')} normalisation"


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom to tell what happens; as `repkit.workflows.reproduce.runs.Watch`.

    Attributes:
        on_unit: number of the run, runs in all, and the run.
        on_frames: corpus, utterances and hours of speech read so far.
        on_start: plan, run directory, whether it is resumed, jobs done.
        on_event: of jobs.
        on_end: the run, when nothing more happens in it.
    """

    on_unit: Callable[[int, int, CompareUnit], None] = lambda number, total, unit: None
    on_frames: Callable[[str, int, float], None] = lambda corpus, n, hours: None
    on_start: Callable[[SerPlan, Any, bool, int], None] = lambda plan, run, resumed, n_done: None
    on_event: Callable[[Any], None] = lambda event: None
    on_end: Callable[[CompareUnit], None] = lambda unit: None


def compare(request: Request, watch: Watch | None = None) -> dict[str, Any]:
    """Train what is not trained yet, run by run, and write page, table and figure.

    All stores are opened and all runs planned before the first training. Killed at any moment and started again, it goes on:
    finished conditions are found in whatever run has them, unfinished runs continued. A run that fails is listed, and the
    others go on.

    Args:
        request: what is asked for.
        watch: told what happens.

    Returns:
        what stands in ``compare.json`` of the folder.

    Raises:
        UsageError: no store, a normalisation or a device that there is not, a folder that cannot be made, or another process at work in it.
        RecipeError: a recipe does not validate.
        DataError: a store is missing or damaged, or does not fit its corpus.
    """
    watch = watch or Watch()
    request.where.settled()  # refused now, not by every run
    units = plan_units(request)
    for unit in units:
        plan_unit(unit.resolved, unit, request)  # type: ignore[arg-type]
    make_folder(request.out, "--out")
    with locked(request.out):
        known = known_runs(request.out)
        predictions: Predictions = {}
        runs: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        state: dict[str, Any] = {}
        for number, unit in enumerate(units, 1):
            watch.on_unit(number, len(units), unit)
            n_known = len(known)
            done, trouble = train_unit(unit.resolved, unit, request, watch, known)  # type: ignore[arg-type]
            watch.on_end(unit)
            where = {"head": unit.recipe, "normalisation": unit.normalisation, "corpus": unit.corpora[0]}
            predictions[unit.recipe, unit.normalisation, unit.corpora[0]] = done
            for name, error in trouble.items():
                told = str(error) if isinstance(error, RepkitError) else f"{type(error).__name__}: {error}"
                failed.append({**where, "condition": name, "why": told, "exit_code": getattr(error, "exit_code", 1)})
            runs += _runs(unit, done, where, request)
            last = number == len(units)
            if len(known) == n_known and not last:
                continue  # nothing was trained: the page of the next one that was, or of the last, has it all
            state = {
                **_head(request),
                "complete": last and not failed,
                "known": known,
                "runs": runs,
                "failed": failed,
                **measure(request.entries, predictions, request.heads, request.normalisations, tuple(request.corpora)),
            }
            write_json_atomic(request.out / STATE, state)
            write_page(request.out, state, figure=last)
    return state


def plan_units(request: Request) -> list[CompareUnit]:
    """Return the runs in their order: corpora fastest, then normalisations, the probe before stage two.

    Raises:
        UsageError: nothing to compare, a normalisation that there is not, or settings of stage two without its recipe.
        RecipeError: a recipe does not validate.
    """
    if not request.entries:
        raise UsageError("compare: no store; at least one was expected; make some with `repkit embed`")
    wrong = [name for name in request.normalisations if name not in NORMALISATIONS]
    if wrong or not request.normalisations or len(set(request.normalisations)) != len(request.normalisations):
        raise UsageError(
            f"--normalisation: got {', '.join(request.normalisations) or 'none'}; {', '.join(NORMALISATIONS)} were expected, "
            "each at most once; the gate needs train and per_speaker"
        )
    if request.recipe is None and request.assignments:
        raise UsageError(
            f"--set {request.assignments[0]}: is for the recipe of stage two, and no --recipe is given; one was expected; "
            "for the probe use --probe-set"
        )
    if request.recipe is None and request.seeds is not None:
        raise UsageError(
            f"--seeds {request.seeds}: is for the recipe of stage two, and no --recipe is given; one was expected; the probe "
            "draws nothing: leave --seeds out"
        )
    for option, given in (("--probe-set", request.probe_assignments), ("--set", request.assignments)):
        for one in given:
            if one.partition("=")[0].strip() in DECIDED:
                raise UsageError(
                    f"{option} {one}: compare sets it itself for every normalisation; another setting was expected; choose "
                    "normalisations with --normalisation"
                )
    if request.recipe == PROBE:
        raise UsageError("--recipe probe: the probe is run anyway; a recipe of stage two was expected; leave it out")
    return [
        CompareUnit(head, mode, (corpus,), recipe)
        for head in request.heads
        for mode in request.normalisations
        for recipe in [head_recipe(request, head, mode)]
        for corpus in request.corpora
    ]


def head_recipe(request: Request, head: str, normalisation: str) -> SerRecipe:
    """Return the recipe of a head under a normalisation, with a condition for every store alone and every joined one.

    A recipe's own conditions are not trained; its baseline is. The frames of stage two are normalised as the vectors are.

    Raises:
        RecipeError: the recipe does not validate, or a setting given for it would change nothing.
    """
    overrides: dict[str, Any] = {"vector": {"standardise": True, "by": normalisation}}
    if head == PROBE:
        assignments = probe_settings(request)
    else:
        assignments = request.assignments
        overrides["normalisation"] = {"mode": "global_train" if normalisation == "train" else normalisation}
        if request.seeds is not None:
            overrides["seeds"] = list(range(request.seeds))
    recipe = load_recipe(SerRecipe, head, assignments, overrides)
    conditions = tuple(
        Condition(name=name, embeddings=folders if len(folders) > 1 else folders[0])
        for name, folders in condition_folders(request.entries).items()
    )
    functionals = request.functionals
    reference = functionals.name if functionals else "BL" if recipe.baseline else conditions[0].name
    recipe = recipe.model_copy(update={"conditions": conditions, "reference": reference})
    refuse_unread(recipe, assignments)
    return recipe


def probe_settings(request: Request) -> tuple[str, ...]:
    """Return what is laid over the recipe of the probe, ``--protocol`` first so that its settings can be given."""
    protocol = () if request.protocol is None else (f"protocol.name={request.protocol}", "protocol.dev=none")
    return (*protocol, *request.probe_assignments)


def condition_folders(entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    """Return the folders of every condition by name: each store, and each joined with the functionals.

    Raises:
        UsageError: a store is called like one that is joined here.
    """
    functionals = next((one for one in entries if one.role == "functionals"), None)
    found = {one.name: (one.folder,) for one in entries}
    if functionals is not None:
        others = [one for one in entries if one is not functionals]
        joined = {joined_name(functionals, one): (functionals.folder, one.folder) for one in others}
        check_names([*found, *joined], "compare", "stores")
        found |= joined
    return found


def joined_name(functionals: Entry, other: Entry) -> str:
    """Return the name of the condition that joins a store with the functionals."""
    return f"{functionals.name}_and_{other.name}"


def rebuild(out: Path) -> dict[str, Any]:
    """Write page, table and figure of a folder anew from its compare.json, and return what that holds.

    Raises:
        DataError: nothing has been compared there.
    """
    return rebuild_page(out / STATE, SCHEMA, "compare", write_page)


def known_runs(out: Path) -> dict[str, str]:
    """Return which run came of which plan in earlier comparisons of the folder, as `find_done` takes it."""
    return dict(read_state(out / STATE, SCHEMA).get("known", {}))


def _head(request: Request) -> dict[str, Any]:
    functionals = request.functionals
    return {
        "schema": SCHEMA,
        "repkit": repkit.__version__,
        "command": command_line(),
        "normalisations": list(request.normalisations),
        "heads": list(request.heads),
        "corpora": list(request.corpora),
        "functionals": functionals.name if functionals else None,
        "stores": [
            {
                "name": one.name,
                "role": one.role,
                "family": one.family,
                "dim": one.dim,
                "folder": one.folder,
                "encoder": one.source.get("encoder"),
                "readout": one.source.get("readout"),
                "heard": _names(one.source.get("corpora")),
            }
            for one in request.entries
        ],
    }


def _names(heard: Any) -> list[str] | None:
    """Return the names of the corpora of a provenance, None where it does not say."""
    if not isinstance(heard, list):
        return None
    return [str(one.get("name", one) if isinstance(one, Mapping) else one) for one in heard]


def _runs(
    unit: CompareUnit, done: Mapping[str, Path], where: Mapping[str, str], request: Request
) -> list[dict[str, Any]]:
    """Return what stands behind a unit: run directories with protocol, seeds, flags and a command."""
    found = []
    for path in dict.fromkeys(done.values()):
        protocol = read_json(path / "protocol.json")
        found.append(
            {
                **where,
                "path": str(path),
                "conditions": [name for name, run in done.items() if run == path],
                "protocol": unit.resolved.protocol.name,
                "protocol_id": protocol["id"],
                "seeds": list(unit.resolved.seeds),
                "flags": protocol["audit"],
                "command": command_of(unit, request),
            }
        )
    return found


def command_of(unit: CompareUnit, request: Request) -> str:
    """Return a train-ser command that gives the numbers of a run."""
    recipe = unit.resolved
    words = ["repkit", "train-ser", "--recipe", unit.recipe]
    words += request.corpus_words(unit.corpora)
    words += [w for c in recipe.conditions for w in ("--embeddings", f"{c.name}={'+'.join(c.folders)}")]
    settings = list(probe_settings(request) if unit.recipe == PROBE else request.assignments)
    settings += ["vector.standardise=true", f"vector.by={unit.normalisation}"]
    if unit.recipe != PROBE:
        settings.append(f"normalisation.mode={recipe.normalisation.mode}")
        settings += [f"seeds={list(recipe.seeds)}"] if request.seeds is not None else []
    words += [w for text in settings for w in ("--set", text)]
    return shlex.join([*words, *request.audio_words()])


__all__ = ["CompareUnit", "Request", "Watch", "compare", "head_recipe", "known_runs", "plan_units", "rebuild"]
