"""The conditions of a run: their recipes, the stores of their embeddings, and whether the components can do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from repkit.config.components import capabilities_of
from repkit.config.schema import Condition, SerRecipe
from repkit.errors import DataError, PluginError, RecipeError, RepkitError, StoreError, UsageError, did_you_mean
from repkit.plugins import build_config, load
from repkit.plugins.load import validation_lines
from repkit.runs.directory import canonical_hash
from repkit.store import Store, open_store
from repkit.workflows.train_ser.joined import JoinedStore
from repkit.workflows.train_ser.states import BY_TIME, check_states

StoreFinder = Callable[[str, str, Mapping[str, str]], Mapping[str, Any]]
"""From a folder of embeddings, the name of a condition and the fingerprint of every corpus to the store of each corpus."""


@dataclass(frozen=True, slots=True)
class ResolvedCondition:
    """A condition with its recipe and the stores its embeddings come from, one per corpus (or several read as one)."""

    name: str
    fusion: str
    stores: Mapping[str, Store | JoinedStore]
    recipe: SerRecipe

    @property
    def dim(self) -> int:
        """D of the embedding, 0 for the baseline."""
        return next(iter(self.stores.values())).spec.dim if self.stores else 0

    @property
    def blocks(self) -> tuple[int, ...]:
        """D of each embedding that is joined; one number where nothing is."""
        store = next(iter(self.stores.values()), None)
        return store.blocks if isinstance(store, JoinedStore) else (self.dim,)

    def describe(self) -> dict[str, Any]:
        """Return JSON values: fusion, how states are joined, and per corpus the store's fingerprint, type on disk and source."""
        stores = {
            name: {"fingerprint": s.spec.fingerprint, "dtype": s.spec.dtype, "source": s.spec.source}
            for name, s in self.stores.items()
        }
        joined = {"states": BY_TIME} if self.fusion == "early" else {}
        return {"fusion": self.fusion, "dim": self.dim, **joined, "stores": stores}


def find_store(folder: Path, corpus: str) -> Path:
    """Return the store of a corpus below an embeddings folder, ``FOLDER/CORPUS`` or ``FOLDER/ENCODER/CORPUS``.

    Raises:
        DataError: none, or those of several encoders.
    """
    if (folder / corpus).is_dir():
        return folder / corpus
    found = sorted(path for path in folder.glob(f"*/{corpus}") if path.is_dir())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path.parent) for path in found)
        raise DataError(f"{folder}: embeddings of several encoders for corpus {corpus!r}; give one of {names}")
    raise DataError(
        f"{folder}: no embeddings of corpus {corpus!r}; expected {folder / '*' / corpus}; "
        f"make them with `repkit embed --encoder RUN --corpus {corpus}=PATH --out {folder}`"
    )


def check_components(recipe: SerRecipe) -> None:
    """Validate the settings of every component that the recipe and its conditions name, before any work is done.

    Raises:
        RecipeError: every wrong key and value at once.
        PluginError: nothing but components that cannot be had is wrong.
        UsageError: two conditions of one name.
    """
    check_names([*(["BL"] if recipe.baseline else []), *(c.name for c in recipe.conditions)], f"recipe {recipe.name}")
    tables = [
        ("repkit.frontends", "frontend", recipe.frontend),
        ("repkit.protocols", "protocol", recipe.protocol),
    ]
    kinds: list[tuple[str, SerRecipe]] = [("", recipe)] if recipe.baseline or not recipe.conditions else []
    kinds += [(f"conditions.{c.name}.set." if c.set else "", _recipe_of(recipe, c)) for c in recipe.conditions]
    for prefix, own in kinds:
        tables.append(("repkit.models", f"{prefix}model", own.model))
        tables += [("repkit.objectives", f"{prefix}objectives.{i}", table) for i, table in enumerate(own.objectives)]
    errors: dict[str, RepkitError] = {}
    for group, where, table in tables:
        try:
            build_config(load(group, table.name), table.settings, where)
        except RepkitError as error:
            errors.setdefault(error.message, error)
    problems = [line for error in errors.values() for line in error.problems or [error.message]]
    found = list(errors.values())
    if len(found) == 1 and isinstance(found[0], PluginError):
        raise found[0]
    if found and all(isinstance(error, PluginError) for error in found):
        raise PluginError(f"recipe {recipe.name}: {len(found)} components cannot be used", problems)
    if found:
        raise RecipeError(f"recipe {recipe.name}: not valid", list(dict.fromkeys(problems)))
    for prefix, own in kinds:
        _check_capabilities(own, prefix)


def _recipe_of(recipe: SerRecipe, condition: Condition) -> SerRecipe:
    try:
        return recipe.of_condition(condition)
    except ValidationError as error:
        where = f"conditions.{condition.name}.set"
        raise RecipeError(f"recipe {recipe.name}: not valid", validation_lines(error, where)) from error


def _check_capabilities(recipe: SerRecipe, where: str) -> None:
    """Refuse a model that cannot be used as the recipe does."""
    _check_selection(recipe, where)
    if "segments" in capabilities_of(recipe) and recipe.segments is None:
        raise RecipeError(
            f"{where}model: {recipe.model.name!r} reads items of fixed length; a table [segments] with length_s was "
            "expected; add it (--set segments.length_s=0.265) or choose another model"
        )
    if "per_corpus" not in capabilities_of(recipe):
        for phase in recipe.phases:
            if phase.copy_from is not None or phase.route == "view":
                raise RecipeError(
                    f"{where}phases.{phase.name}: {'copy_from' if phase.copy_from else 'route view'} needs a model with "
                    f"parts per corpus; {recipe.model.name!r} has none; choose another model or remove the key"
                )


def _check_selection(recipe: SerRecipe, where: str) -> None:
    """Refuse a way to choose epochs for a model that has none, and the other way round."""
    chosen = recipe.training.select_by
    if "estimator" in capabilities_of(recipe):
        able: tuple[str, ...] = ("dev.uar", "nested", "test")
        if recipe.phases:
            raise RecipeError(
                f"{where}phases: {recipe.model.name!r} is fitted in one go; no phases were expected; remove them"
            )
    else:
        able = ("dev.uar", "dev.wa", "dev.corpus_uar", "last")
    if chosen not in able:
        raise RecipeError(
            f"{where}training.select_by: {chosen!r} with model {recipe.model.name!r}; one of {', '.join(able)} was expected; "
            f"set it (--set training.select_by={able[0]})"
        )


def resolve_conditions(
    recipe: SerRecipe, corpora: Mapping[str, str], find: StoreFinder | None = None
) -> list[ResolvedCondition]:
    """Open the stores of every condition.

    Args:
        recipe: resolved.
        corpora: name to fingerprint.
        find: finds the stores; None for `open_stores`.

    Raises:
        DataError: a store is missing, damaged, made of another corpus or by another encoder than its siblings.
        UsageError: the fusion does not fit the store, or there is no condition at all.
    """
    if recipe.baseline:
        _check_has_vectors("BL", recipe)
    resolved = [ResolvedCondition("BL", "none", {}, recipe)] if recipe.baseline else []
    for condition in recipe.conditions:
        resolved.append(_resolve(condition, corpora, recipe, find or open_stores))
    if not resolved:
        raise UsageError("recipe: no condition to train; set baseline = true or give --embeddings")
    names = [condition.name for condition in resolved]
    if recipe.reference not in names and recipe.reference != "BL":
        raise RecipeError(
            f"recipe {recipe.name}: reference {recipe.reference!r} is no condition{did_you_mean(recipe.reference, names)}; "
            f"one of {', '.join(names)} was expected"
        )
    return resolved


def check_names(names: Sequence[str], where: str, what: str = "conditions") -> None:
    """Refuse two of one name, of which the one would be taken for the other.

    Raises:
        UsageError: names the first of them.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        baseline = " (BL is the baseline's)" * (twice == "BL")
        raise UsageError(
            f"{where}: two {what} are called {twice}{baseline}; each needs a name of its own; write NAME=DIR"
        )


def _resolve(
    condition: Condition, corpora: Mapping[str, str], whole: SerRecipe, find: StoreFinder
) -> ResolvedCondition:
    recipe = _recipe_of(whole, condition)
    if condition.embeddings is None:
        _check_has_vectors(condition.name, recipe)
        return ResolvedCondition(condition.name, "none", {}, recipe)
    parts = [find(folder, condition.name, corpora) for folder in condition.folders]
    stores: Mapping[str, Store | JoinedStore] = parts[0]
    if len(parts) > 1:
        _check_joined(condition, parts, recipe)
        stores = {name: JoinedStore([part[name] for part in parts]) for name in corpora}
    kinds = {store.spec.kind for store in stores.values()}
    natural = "late" if kinds == {"vectors"} else "early"
    fusion = condition.fusion or natural
    if fusion != natural:
        raise UsageError(
            f"condition {condition.name!r}: fusion {fusion!r} does not fit a store of {kinds.pop()}; use {natural!r}, "
            f"or embed with --level {'frame' if fusion == 'early' else 'utterance'}"
        )
    needed = "vectors" if fusion == "late" else "states"
    if needed not in capabilities_of(recipe):
        raise UsageError(
            f"condition {condition.name!r}: model {recipe.model.name!r} does not read embeddings ({needed}); choose a "
            "model that does, for example --set model.name=attentive_cnn, or leave --embeddings out"
        )
    if fusion == "early" and recipe.vector.by != "train":
        raise UsageError(
            f"condition {condition.name!r}: vector.by {recipe.vector.by!r} is for utterance vectors, the store holds "
            "frame-level states; embed with --level utterance, or leave it at train"
        )
    if fusion == "early" and recipe.segments is not None:
        raise UsageError(
            f"condition {condition.name!r}: frame-level states cannot be cut into segments; embed with --level utterance"
        )
    if fusion == "early":
        check_states(parts[0], condition.name)
    return ResolvedCondition(condition.name, fusion, stores, recipe)


def open_stores(folder: str, condition: str, corpora: Mapping[str, str]) -> dict[str, Store]:
    """Return the store of every corpus below a folder of embeddings, all made by one encoder.

    Raises:
        DataError: a store is missing, damaged, made of another corpus or by another encoder than its siblings.
    """
    stores = {name: open_store(find_store(Path(folder), name)) for name in corpora}
    for name, fingerprint in corpora.items():
        _check_corpus(stores[name], fingerprint)
    if len({canonical_hash([s.spec.kind, s.spec.dim, s.spec.source]) for s in stores.values()}) != 1:
        first, *others = stores
        differing = [
            f"{first} and {name} differ in {line.partition(':')[0]}"
            for name in others
            for line in stores[first].spec.differences(stores[name].spec)
            if not line.startswith("corpus")
        ]
        raise StoreError(
            f"{folder}: the corpora of condition {condition!r} were embedded by different encoders or "
            "with different settings; the same for all was expected; embed them again with one encoder",
            differing,
        )
    return stores


def _check_joined(condition: Condition, parts: Sequence[Mapping[str, Store]], recipe: SerRecipe) -> None:
    """Refuse to join what cannot be made to weigh alike."""
    for folder, part in zip(condition.folders, parts, strict=True):
        if any(store.spec.kind != "vectors" for store in part.values()):
            raise UsageError(
                f"condition {condition.name!r}: {folder} holds frame-level states; utterance vectors were expected of "
                "embeddings that are joined; embed with --level utterance"
            )
    if not recipe.vector.standardise:
        raise UsageError(
            f"condition {condition.name!r}: vector.standardise = false with {len(parts)} embeddings that are joined; "
            "true was expected, because only standardised ones weigh alike; set it, or give one embedding"
        )


def _check_has_vectors(name: str, recipe: SerRecipe) -> None:
    if "estimator" in capabilities_of(recipe):
        raise UsageError(
            f"condition {name!r}: model {recipe.model.name!r} reads utterance vectors alone; embeddings were expected; give "
            "--embeddings [NAME=]DIR (made by `repkit embed`), and set baseline = false"
        )


def _check_corpus(store: Store, fingerprint: str) -> None:
    """Refuse embeddings of other audio or labels, which the ids alone would not tell."""
    if store.spec.corpus_fingerprint != fingerprint:
        raise StoreError(
            f"{store.path}: embeddings of corpus {store.spec.corpus!r} with fingerprint "
            f"{store.spec.corpus_fingerprint[:12]}; {fingerprint[:12]} was expected, that of the files and labels given "
            f"now; delete {store.path} and run `repkit embed` again, or give the corpus that was embedded"
        )
