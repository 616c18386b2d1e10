"""What ``repkit train-ser`` is going to do: utterances, labels, folds, conditions, jobs, protocol id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repkit.api import Corpus, Fold, Utterance
from repkit.audio.label_maps import LabelMap, label_map
from repkit.config.schema import Condition, SerRecipe
from repkit.errors import DataError, PluginError, RecipeError, RepkitError, StoreError, UsageError
from repkit.evaluation.audit import audit_folds
from repkit.plugins import build_config, load
from repkit.runs.directory import canonical_hash
from repkit.store import Store, open_store


@dataclass(frozen=True, slots=True, order=True)
class SerJob:
    """One training: a condition, a seed and a fold."""

    condition: str
    seed: int
    fold: str


@dataclass(frozen=True, slots=True)
class ResolvedCondition:
    """A condition with the stores its embeddings come from, one per corpus."""

    name: str
    fusion: str
    stores: Mapping[str, Store]

    @property
    def dim(self) -> int:
        """D of the embedding, 0 for the baseline."""
        return next(iter(self.stores.values())).spec.dim if self.stores else 0

    def describe(self) -> dict[str, Any]:
        """Return JSON values: fusion and, per corpus, the store's fingerprint and source."""
        stores = {name: {"fingerprint": s.spec.fingerprint, "source": s.spec.source} for name, s in self.stores.items()}
        return {"fusion": self.fusion, "dim": self.dim, "stores": stores}


@dataclass(slots=True)
class SerPlan:
    """Everything that is decided before any training starts.

    Attributes:
        recipe: resolved.
        corpora: by name.
        utterances: those with a target in the first view, in the order of the corpora.
        dropped: why and how many utterances are not used.
        left_out: utterances whose audio the embedding stores left out (only when bad audio is skipped), and why.
        labels: the label map.
        folds: train, dev, test.
        conditions: BL first.
        flags: what the audit has to say.
        jobs: conditions x seeds x folds.
        protocol: the parts that make results comparable, and their hash.
    """

    recipe: SerRecipe
    corpora: dict[str, Corpus]
    utterances: list[Utterance]
    dropped: dict[str, int]
    left_out: dict[str, str]
    labels: LabelMap
    folds: list[Fold]
    conditions: list[ResolvedCondition]
    flags: tuple[str, ...]
    jobs: list[SerJob]
    protocol: dict[str, Any]

    @property
    def signature(self) -> str:
        """Hash of all that changes the results: recipe, protocol and stores, but no path."""
        recipe = self.recipe.model_dump(mode="json", exclude={"corpora": True, "conditions": True, "description": True})
        conditions = {
            c.name: {**c.describe(), "stores": {n: s.spec.fingerprint for n, s in c.stores.items()}}
            for c in self.conditions
        }
        return canonical_hash({"recipe": recipe, "protocol": self.protocol["id"], "conditions": conditions})


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
    """Validate the settings of every component that the recipe names, before any work is done.

    Raises:
        RecipeError: every wrong key and value at once.
        PluginError: nothing but components that cannot be had is wrong.
    """
    tables = [
        ("repkit.frontends", "frontend", recipe.frontend),
        ("repkit.protocols", "protocol", recipe.protocol),
        ("repkit.models", "model", recipe.model),
        *(("repkit.objectives", f"objectives.{i}", table) for i, table in enumerate(recipe.objectives)),
    ]
    errors: list[RepkitError] = []
    for group, where, table in tables:
        try:
            build_config(load(group, table.name), table.settings, where)
        except RepkitError as error:
            errors.append(error)
    problems = [line for error in errors for line in error.problems or [error.message]]
    if len(errors) == 1 and isinstance(errors[0], PluginError):
        raise errors[0]
    if errors and all(isinstance(error, PluginError) for error in errors):
        raise PluginError(f"recipe {recipe.name}: {len(errors)} components cannot be used", problems)
    if errors:
        raise RecipeError(f"recipe {recipe.name}: not valid", problems)


def resolve_conditions(recipe: SerRecipe, corpora: Mapping[str, str]) -> list[ResolvedCondition]:
    """Open the stores of every condition.

    Args:
        recipe: resolved.
        corpora: name to fingerprint.

    Raises:
        DataError: a store is missing, damaged, made of another corpus or by another encoder than its siblings.
        UsageError: the fusion does not fit the store, or there is no condition at all.
    """
    resolved = [ResolvedCondition("BL", "none", {})] if recipe.baseline else []
    for condition in recipe.conditions:
        resolved.append(_resolve(condition, corpora))
    if not resolved:
        raise UsageError("recipe: no condition to train; set baseline = true or give --embeddings")
    return resolved


def _resolve(condition: Condition, corpora: Mapping[str, str]) -> ResolvedCondition:
    if condition.embeddings is None:
        return ResolvedCondition(condition.name, "none", {})
    stores = {name: open_store(find_store(Path(condition.embeddings), name)) for name in corpora}
    for name, fingerprint in corpora.items():
        _check_corpus(stores[name], fingerprint)
    kinds = {store.spec.kind for store in stores.values()}
    if len({canonical_hash([s.spec.kind, s.spec.dim, s.spec.source]) for s in stores.values()}) != 1:
        first, *others = stores
        differing = [
            f"{first} and {name} differ in {line.partition(':')[0]}"
            for name in others
            for line in stores[first].spec.differences(stores[name].spec)
            if not line.startswith("corpus")
        ]
        raise StoreError(
            f"{condition.embeddings}: the corpora of condition {condition.name!r} were embedded by different encoders or "
            "with different settings; the same for all was expected; embed them again with one encoder",
            differing,
        )
    natural = "late" if kinds == {"vectors"} else "early"
    fusion = condition.fusion or natural
    if fusion != natural:
        raise UsageError(
            f"condition {condition.name!r}: fusion {fusion!r} does not fit a store of {kinds.pop()}; use {natural!r}, "
            f"or embed with --level {'frame' if fusion == 'early' else 'utterance'}"
        )
    return ResolvedCondition(condition.name, fusion, stores)


def _check_corpus(store: Store, fingerprint: str) -> None:
    """Refuse embeddings of other audio or labels, which the ids alone would not tell."""
    if store.spec.corpus_fingerprint != fingerprint:
        raise StoreError(
            f"{store.path}: embeddings of corpus {store.spec.corpus!r} with fingerprint "
            f"{store.spec.corpus_fingerprint[:12]}; {fingerprint[:12]} was expected, that of the files and labels given "
            f"now; delete {store.path} and run `repkit embed` again, or give the corpus that was embedded"
        )


def make_plan(recipe: SerRecipe, corpora: dict[str, Corpus], *, skip_bad_audio: bool = False) -> SerPlan:
    """Decide everything; reads labels and stores, decodes no audio.

    Args:
        recipe: resolved.
        corpora: by name.
        skip_bad_audio: leave out the utterances whose audio `repkit embed` left out, instead of missing them.

    Raises:
        RecipeError: a component's settings do not validate.
        DataError: nothing to train on, a class without utterances, or stores that do not fit the corpora.
        SpeakerLeakError: a speaker in two parts of a fold.
    """
    check_components(recipe)
    everything = [utterance for corpus in corpora.values() for utterance in corpus.utterances()]
    if not everything:
        raise DataError("corpora: no utterances; give at least one --corpus NAME=PATH")
    fingerprints = {name: corpus.fingerprint() for name, corpus in corpora.items()}
    conditions = resolve_conditions(recipe, fingerprints)
    left_out: dict[str, str] = {}
    if skip_bad_audio:
        listed = {u.id for u in everything}
        stores = [store for condition in conditions for store in condition.stores.values()]
        left_out = {i: why for store in stores for i, why in store.left_out.items() if i in listed}
        everything = [u for u in everything if u.id not in left_out]
    labels = label_map(
        recipe.labels.map, everything, category_map=recipe.labels.category_map, views=recipe.labels.views
    )
    first = recipe.labels.views[0]
    kept = [u for u in everything if labels.targets(u)[first] is not None]
    left = {u.id for u in everything} - {u.id for u in kept}
    dropped = Counter(
        f"{u.corpus}: {u.emotion or 'no label'} (not in map {labels.name})" for u in everything if u.id in left
    )
    present = {labels.targets(u)[first] for u in kept}
    if len(present) < 2:
        raise DataError(
            f"labels: map {labels.name!r} finds {len(present)} class(es) of {first} in {len(everything)} utterances; "
            "at least two are needed; choose another map (--set labels.map=own) or check the corpus' labels"
        )
    protocol_class = load("repkit.protocols", recipe.protocol.name)
    config = build_config(protocol_class, recipe.protocol.settings, "protocol")
    folds = list(protocol_class(config).folds(kept))
    ids = [u.id for u in kept]
    for condition in conditions:
        for name, store in condition.stores.items():
            store.require([i for i in ids if i.startswith(f"{name}/")], f"condition {condition.name}")
    flags = audit_plan(recipe, folds, kept, labels, conditions)
    jobs = [SerJob(c.name, seed, fold.name) for seed in recipe.seeds for fold in folds for c in conditions]
    parts = {
        "corpora": fingerprints,
        "label_map": labels.name,
        "category_map": labels.category_map,
        "derived_views": labels.derived(kept),
        "views": {view: list(labels.classes[view]) for view in recipe.labels.views},
        "protocol": {"name": recipe.protocol.name, **config.model_dump(mode="json")},
        "folds_sha256": canonical_hash([[f.name, f.train, f.dev, f.test, f.unlabelled] for f in folds]),
        "normalisation": recipe.normalisation.model_dump(mode="json"),
        "selection": recipe.training.select_by,
    }
    protocol = {
        "id": canonical_hash(parts)[:12],
        "parts": parts,
        "audit": list(flags),
        "folds": [{"name": f.name, "train": len(f.train), "dev": len(f.dev), "test": len(f.test)} for f in folds],
    }
    return SerPlan(recipe, corpora, kept, dict(dropped), left_out, labels, folds, conditions, flags, jobs, protocol)


def audit_plan(
    recipe: SerRecipe,
    folds: Sequence[Fold],
    kept: Sequence[Utterance],
    labels: LabelMap,
    conditions: Sequence[ResolvedCondition],
    audio_hashes: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Refuse leaking folds and return what else a reader of the scores must know."""
    heard = {
        c.name: sorted({speaker for s in c.stores.values() for speaker in s.spec.source.get("speakers") or ()})
        for c in conditions
    }
    mode = recipe.normalisation.mode
    return audit_folds(
        folds,
        kept,
        labels={u.id: labels.targets(u)[recipe.labels.views[0]] for u in kept},
        encoder_speakers=heard,
        transductive=[f"normalisation {mode}"] if mode in ("per_speaker", "per_corpus") else [],
        allow_dev_overlap=recipe.protocol.settings.get("dev") == "utterances",
        audio_hashes=audio_hashes,
    ).flags
