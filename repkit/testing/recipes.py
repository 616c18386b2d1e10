"""Checks of recipes (group ``repkit.recipes``)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from repkit.api import Batch, LabelledVectors, Outputs, TaskSpec
from repkit.audio.label_maps import label_map
from repkit.config import PretrainRecipe, SerRecipe, find_recipe, load_recipe
from repkit.config.load import read_tables
from repkit.errors import PluginError
from repkit.plugins import build_config, load
from repkit.plugins.discover import KNOWN_ELSEWHERE, find
from repkit.stage_one.settings import PretrainConfig, settings_of
from repkit.testing.kit import Broken, Case, NotApplicable, case, check
from repkit.testing.material import VECTOR_DIM, make_batch, routed
from repkit.testing.objective_case import without_labels
from repkit.testing.protocols import make_utterances
from repkit.workflows.scale.recipe import ScaleRecipe

GROUP = "repkit.recipes"
KINDS: Mapping[str, Any] = {"train-ser": SerRecipe, "pretrain-ae": PretrainRecipe, "scale": ScaleRecipe}
SAMPLE_RATE = 16000
LENGTHS = (40, 24, 33, 12)
"""Frames of the utterances of the batch that is trained on."""


@case(GROUP)
class RecipeCase(Case):
    """A recipe.

    Args:
        component: its name, its path, or a function that returns the path.
        settings: none; a recipe holds them all.
        name: for messages.
    """

    def __init__(self, component: Any, settings: Mapping[str, Any], name: str) -> None:
        path = component() if callable(component) else component
        by_name = isinstance(path, str) and not path.endswith(".toml")
        self.path = find_recipe(path) if by_name else Path(path)
        self.called = str(path).rpartition(":")[2] if by_name else self.path.stem
        super().__init__(self.path, settings, self.called)

    @cached_property
    def tables(self) -> dict[str, Any]:
        """The tables with ``extends`` resolved."""
        return read_tables(str(self.path))

    @cached_property
    def recipe(self) -> Any:
        """The recipe, validated."""
        command = str(self.tables.get("command", "train-ser"))
        if command not in KINDS:
            raise Broken(f"command = {command!r}", f"use one of {', '.join(KINDS)}")
        return load_recipe(KINDS[command], str(self.path))

    @property
    def traits(self) -> frozenset[str]:
        """The command it is for."""
        return frozenset({str(self.tables.get("command", "train-ser"))})

    def variants(self) -> Iterator[tuple[str, SerRecipe]]:
        """Yield the recipe as its baseline and each of its conditions have it, the same one only once."""
        recipe: SerRecipe = self.recipe
        seen: list[SerRecipe] = []
        baseline = [(None, "BL")] if recipe.baseline or not recipe.conditions else []
        for condition, name in [*baseline, *((c, c.name) for c in recipe.conditions)]:
            own = recipe.of_condition(condition)
            if own not in seen:
                seen.append(own)
                yield name, own

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield group and name of every component the recipe uses."""
        for _, own in self.variants():
            yield "repkit.frontends", own.frontend.name
            yield "repkit.protocols", own.protocol.name
            yield "repkit.models", own.model.name
            yield from (("repkit.objectives", table.name) for table in own.objectives)

    def need_all_components(self) -> None:
        """Say that a check does not apply where a component comes with a distribution that is not installed."""
        for group, name in self.named():
            try:
                find(group, name)
            except PluginError:
                package = KNOWN_ELSEWHERE.get(name, "a distribution")
                raise NotApplicable(f"{name} ({group}) comes with {package}, which is not installed") from None


@check(GROUP, first=True)
def it_validates(case: RecipeCase) -> None:
    """The file is TOML, every key is known and every value of its kind.

    Prevents: a recipe that looks right and of which a part has no effect.
    """
    _ = case.recipe


@check(GROUP)
def the_first_line_is_the_command(case: RecipeCase) -> None:
    """The first line is a comment with the command that runs the recipe: `# repkit COMMAND --recipe NAME ...`.

    Prevents: a file of settings of which nobody knows what to do with it.
    """
    line = case.path.read_text(encoding="utf-8").partition("\n")[0]
    try:
        words = shlex.split(line.removeprefix("#")) if line.startswith("#") else []
    except ValueError:
        words = []
    wanted = f"# repkit {case.recipe.command} --recipe {case.called} --corpus NAME=PATH"
    if words[:2] != ["repkit", case.recipe.command]:
        raise Broken(f"{line!r}", f"write {wanted!r} or the like")
    named = [after for word, after in pairwise(words) if word == "--recipe"]
    if named != [case.called]:
        raise Broken(f"it names the recipe {', '.join(named) or 'by no option'}", f"write {wanted!r} or the like")


@check(GROUP)
def it_has_its_name_and_says_what_it_is(case: RecipeCase) -> None:
    """`name` is the name it is chosen by, and there is a description.

    Prevents: runs in a folder of another name, and a list of recipes that says nothing.
    """
    if case.recipe.name != case.called:
        raise Broken(f"name = {case.recipe.name!r}, chosen as {case.called!r}", "use one name for both")
    if not case.recipe.description.strip():
        raise Broken("no description", "say in one line what it does and after which paper")


@check(GROUP, needs=("train-ser",))
def components_can_be_had(case: RecipeCase) -> None:
    """Every component it names is installed, or comes with a distribution that messages can name.

    Prevents: a recipe that nobody can run.
    """
    for group, name in case.named():
        try:
            load(group, name)
        except PluginError as error:
            if name not in KNOWN_ELSEWHERE:
                raise Broken(error.message, "correct the name, or bring the component with the recipe") from error


@check(GROUP)
def settings_of_components_fit(case: RecipeCase) -> None:
    """The settings of every component validate, and the model can do what the phases and segments ask of it.

    Prevents: a run that is refused, on every machine, before it starts.
    """
    if trainings_of_stage_one(case.recipe):
        return
    from repkit.workflows.train_ser.plan import check_components

    case.need_all_components()
    check_components(case.recipe)


@check(GROUP, needs=("train-ser",))
def labels_are_known(case: RecipeCase) -> None:
    """The label map and the category map exist and have the views.

    Prevents: a recipe that fails on the first corpus it is given.
    """
    classes_of(case.recipe)


@check(GROUP, needs=("train-ser",))
def every_phase_trains_something(case: RecipeCase) -> None:
    """The parameter groups that a phase trains have parameters in the model, one of them at least.

    Prevents: a phase that trains nothing, found out after the phases before it.
    """
    case.need_all_components()
    for name, own in case.variants():
        if _is_estimator(own):
            continue  # the engine refuses phases with one
        task = task_of(own)
        groups = {role for role, found in build_model(own, task).parameter_groups().items() if len(found)}
        for phase in own.phases:
            if phase.train and not groups & set(phase.train):
                raise Broken(
                    f"condition {name}, phase {phase.name!r} trains {', '.join(phase.train)}; the model has "
                    f"{', '.join(sorted(groups))}",
                    "correct phases.train, or choose a model that has such parameters",
                )


@check(GROUP)
def two_steps_can_be_trained(case: RecipeCase) -> None:
    """Model and objectives train two steps on noise: finite losses, and weights that change. An estimator is fitted.

    Prevents: a recipe of components that do not fit together.
    """
    stage_one = trainings_of_stage_one(case.recipe)
    for name, config in stage_one.items():
        _expect_training(name, two_steps_of_stage_one(config))
    if stage_one:
        return
    case.need_all_components()
    done: list[tuple[Any, ...]] = []
    for name, own in case.variants():
        what = (own.model, own.objectives, own.phases, own.target_audio)
        if what in done:
            continue
        done.append(what)
        if _is_estimator(own):
            _expect_fit(name, own)
        else:
            _expect_training(f"condition {name}", two_steps(own))


def _is_estimator(recipe: SerRecipe) -> bool:
    return "estimator" in getattr(load("repkit.models", recipe.model.name), "capabilities", ())


def _expect_fit(name: str, recipe: SerRecipe) -> None:
    """See that every candidate of an estimator can be fitted on noise and gives finite scores."""
    task = replace(task_of(recipe), vector_dim=VECTOR_DIM)
    model = build_model(recipe, task)
    for view, classes in task.views.items():
        target = torch.arange(4 * len(classes)) % len(classes)
        values = torch.randn(len(target), VECTOR_DIM, generator=torch.Generator().manual_seed(0))
        known = LabelledVectors(values, target, len(classes), ("kit/a",) * len(target))
        for candidate in model.candidates():
            model.fit(view, known, candidate, 0)
            if not torch.isfinite(model.scores(view, values)).all():
                raise Broken(f"condition {name}: scores of {candidate} are not finite", "look at the candidates")


def _expect_training(what: str, found: tuple[list[float], bool]) -> None:
    losses, moved = found
    if not torch.isfinite(torch.tensor(losses)).all():
        raise Broken(f"{what}: losses {losses}", "look at the objectives' settings and at the model's initial weights")
    if not moved:
        raise Broken(f"{what}: no weight changed", "see that the objectives' weights are not 0 and reach the model")


def classes_of(recipe: SerRecipe) -> dict[str, tuple[str, ...]]:
    """Return the classes of the recipe's views, the auxiliary ones included, over made-up utterances."""
    views = (*recipe.labels.views, *recipe.labels.auxiliary)
    made = label_map(
        recipe.labels.map, make_utterances(), category_map=recipe.labels.category_map, views=recipe.labels.views
    )
    missing = [view for view in views if view not in made.classes]
    if missing:
        whole = label_map(recipe.labels.map, make_utterances(), category_map=recipe.labels.category_map)
        made = replace(made, classes={**whole.classes, **made.classes})
        missing = [view for view in views if view not in made.classes]
    if missing:
        raise Broken(f"label map {made.name!r} has no view {missing[0]!r}", f"use {', '.join(made.classes)}")
    return {view: made.classes[view] for view in views}


def task_of(recipe: SerRecipe) -> TaskSpec:
    """Return a task as the recipe's runs have it, over two corpora."""
    frontend_class = load("repkit.frontends", recipe.frontend.name)
    frontend = frontend_class(build_config(frontend_class, recipe.frontend.settings, "frontend"))
    classes = classes_of(recipe)
    wanted: dict[str, int] = {}
    for number, table in enumerate(recipe.objectives):
        kind = load("repkit.objectives", table.name)
        if hasattr(kind, "domains"):
            config = build_config(kind, table.settings, f"objectives.{number}")
            wanted |= {name: 3 if name == "speaker" else 2 for name in kind.domains(config)}
    n_frames = 0
    if recipe.segments is not None:
        n_frames = frontend.n_frames(round(recipe.segments.length_s * SAMPLE_RATE))
    return TaskSpec(
        views=classes,
        n_bands=frontend.n_bands,
        domains=wanted,
        corpora={"kit_a": classes, "kit_b": classes},
        n_frames=n_frames,
    )


def build_model(recipe: SerRecipe, task: TaskSpec) -> nn.Module:
    """Return the recipe's model, without an embedding."""
    kind = load("repkit.models", recipe.model.name)
    fusion = {"fusion": "none"} if "fusion" in kind.Config.model_fields else {}
    model: nn.Module = kind(build_config(kind, {**recipe.model.settings, **fusion}, "model"), task)
    return model


def build_objectives(recipe: SerRecipe, task: TaskSpec) -> list[tuple[float, Any]]:
    """Return weight and objective for each of the recipe's objectives."""
    found = []
    for number, table in enumerate(recipe.objectives):
        kind = load("repkit.objectives", table.name)
        found.append((table.weight, kind(build_config(kind, table.settings, f"objectives.{number}"), task)))
    return found


def two_steps(recipe: SerRecipe) -> tuple[list[float], bool]:
    """Train model and objectives of a recipe for two steps on noise; return the losses and whether weights changed.

    Every route of the phases is taken; where the recipe hears test audio, some of the items have no labels.
    """
    task = task_of(recipe)
    model = build_model(recipe, task)
    batch = make_batch(task, lengths=LENGTHS)
    if recipe.target_audio == "test":
        batch = replace(without_labels(batch, [1, 2]), domains=batch.domains)
    routes = {view for phase in recipe.phases if phase.route == "view" for view in phase.views}
    plain = [batch] if not recipe.phases or any(phase.route != "view" for phase in recipe.phases) else []
    batches = [*plain, *(routed(batch, view) for view in sorted(routes))]
    model.eval()
    with torch.no_grad():
        width = model(batches[0]).shared.shape[1]
    model.train()
    objectives = build_objectives(recipe, replace(task, shared_dim=width))
    parameters = [*model.parameters(), *(p for _, objective in objectives for p in objective.parameters())]
    optimiser = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=1e-3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses = []
    for progress in (0.25, 0.75):
        for items in batches:
            optimiser.zero_grad(set_to_none=True)
            loss = _loss(objectives, model(items), items, progress)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    moved = any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    return losses, moved


def _loss(objectives: list[tuple[float, Any]], outputs: Outputs, batch: Batch, progress: float) -> torch.Tensor:
    each = [
        weight * value for weight, objective in objectives for value in objective(outputs, batch, progress).values()
    ]
    return torch.stack(each).sum()


def trainings_of_stage_one(recipe: Any) -> dict[str, PretrainConfig]:
    """Return the settings of every kind of training that a recipe of stage one asks for, none of one of stage two."""
    if isinstance(recipe, PretrainRecipe):
        return {"stage one": settings_of(recipe)}
    if isinstance(recipe, ScaleRecipe):
        return {f"curve {c.name}": recipe.config_of(c, recipe.hours[0], recipe.seeds[0]) for c in recipe.curves}
    return {}


def two_steps_of_stage_one(config: PretrainConfig) -> tuple[list[float], bool]:
    """Train the autoencoder or the objectives for two steps on noise; return losses, whether weights changed."""
    from repkit.stage_one.frontends import build_frontend
    from repkit.stage_one.learners import make_learner

    frontend = build_frontend(**config.frontend_table())
    learner = make_learner(config, frontend, {})
    frames, lengths = torch.rand(2, 12, frontend.n_bands) * 2 - 1, torch.tensor([12, 8])
    frames[1, 8:] = 0.0
    if config.objectives:
        learner.module.calibrate([(frames, lengths)])
    before = [parameter.detach().clone() for parameter in learner.module.parameters()]
    optimiser = torch.optim.Adam(learner.module.parameters(), lr=config.learning_rate)
    losses = []
    for number in range(2):
        loss, _ = learner.update(
            SimpleNamespace(num_processes=1), learner.module, optimiser, frames, lengths,
            precision="fp32", share=1.0, progress=number / 2, draw=lambda purpose: torch.Generator().manual_seed(0),
        )  # fmt: skip
        losses.append(loss)
    return losses, any(not torch.equal(old, new) for old, new in zip(before, learner.module.parameters(), strict=True))
