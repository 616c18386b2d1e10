"""What ``repkit train-ser`` is going to do: utterances, labels, folds, conditions, jobs, protocol id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repkit.api import DOMAINS, Corpus, Fold, Utterance, View
from repkit.audio.label_maps import LabelMap, label_map
from repkit.config.schema import ADDED_LATER, CONDITION_KEYS, NOT_TRAINING, SerRecipe
from repkit.errors import DataError
from repkit.evaluation.audit import audit_folds, listed_folds, single_class_flags, unknown_speaker_flags
from repkit.plugins import build_config, load
from repkit.plugins.blaming import blaming
from repkit.runs.directory import canonical_hash
from repkit.workflows.train_ser.checks import (
    check_common_classes,
    check_corpora_trained,
    check_labelled,
    check_phases,
)
from repkit.workflows.train_ser.conditions import (
    ResolvedCondition,
    StoreFinder,
    capabilities_of,
    check_components,
    resolve_conditions,
)
from repkit.workflows.train_ser.domains import domain_codes, heard_fold, wanted_domains


@dataclass(frozen=True, slots=True, order=True)
class SerJob:
    """One training: a condition, a seed and a fold."""

    condition: str
    seed: int
    fold: str


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
        recipe = _dumped(self.recipe, exclude=set(NOT_TRAINING))
        # neither changes what is trained; they stay, at their defaults where they can, so that runs of before are found
        recipe |= {"reference": "BL", "baseline": self.recipe.baseline}
        conditions = {
            c.name: {
                **c.describe(),
                "stores": {n: s.spec.fingerprint for n, s in c.stores.items()},
                "set": _dumped(c.recipe, include=set(CONDITION_KEYS)),
            }
            for c in self.conditions
        }
        return canonical_hash({"recipe": recipe, "protocol": self.protocol["id"], "conditions": conditions})


def _dumped(recipe: SerRecipe, **chosen: set[str]) -> dict[str, Any]:
    """Return a recipe as its runs are told by, without keys at their defaults that earlier runs did not have."""
    dumped = recipe.model_dump(mode="json", **chosen)
    later = {key for key, value in ADDED_LATER.items() if dumped["training"].get(key) == value}
    return {**dumped, "training": {key: value for key, value in dumped["training"].items() if key not in later}}


def make_plan(
    recipe: SerRecipe, corpora: dict[str, Corpus], *, skip_bad_audio: bool = False, find: StoreFinder | None = None
) -> SerPlan:
    """Decide everything; reads labels and stores, decodes no audio.

    Args:
        recipe: resolved.
        corpora: by name.
        skip_bad_audio: leave out the utterances whose audio `repkit embed` left out, instead of missing them.
        find: see `repkit.workflows.train_ser.conditions.resolve_conditions`.

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
    conditions = resolve_conditions(recipe, fingerprints, find)
    left_out: dict[str, str] = {}
    if skip_bad_audio:
        listed = {u.id for u in everything}
        stores = [store for condition in conditions for store in condition.stores.values()]
        left_out = {i: why for store in stores for i, why in store.left_out.items() if i in listed}
        everything = [u for u in everything if u.id not in left_out]
    labels = label_map(
        recipe.labels.map,
        everything,
        category_map=recipe.labels.category_map,
        views=(*recipe.labels.views, *recipe.labels.auxiliary),
    )
    first = recipe.labels.views[0]
    kept = [u for u in everything if labels.targets(u)[first] is not None]
    left = {u.id for u in everything} - {u.id for u in kept}
    dropped = Counter(f"{u.corpus}: {_why_dropped(u, labels, first)}" for u in everything if u.id in left)
    present = {labels.targets(u)[first] for u in kept}
    check_labelled(corpora, everything, labels, first)
    if len(present) < 2:
        found = Counter(u.emotion for u in everything if u.emotion is not None)
        listed = ", ".join(f"{emotion} {n}" for emotion, n in sorted(found.items()))
        remedy = "give more corpora" if labels.name == "own" else "choose another map (--set labels.map=own)"
        raise DataError(
            f"labels: map {labels.name!r} finds {len(present)} class(es) of {first} ({', '.join(sorted(present)) or 'none'}) "
            f"in {len(everything)} utterances, whose labels are {listed or 'ratings alone'}; at least two classes were "
            f"expected; {remedy}, or correct the labels"
        )
    protocol_class = load("repkit.protocols", recipe.protocol.name)
    config = build_config(protocol_class, recipe.protocol.settings, "protocol")
    with blaming("repkit.protocols", recipe.protocol.name):
        folds = listed_folds(protocol_class(config).folds(kept))
    targets = {u.id: labels.targets(u)[first] for u in kept}
    check_common_classes(folds, targets)
    check_corpora_trained(folds, conditions)
    check_phases(recipe, conditions, list(corpora), folds)
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
        **({"segments": recipe.segments.model_dump(mode="json")} if recipe.segments else {}),
        **_deviations(recipe, conditions),
    }
    protocol = {
        "id": canonical_hash(parts)[:12],
        "parts": parts,
        "audit": list(flags),
        "folds": [{"name": f.name, "train": len(f.train), "dev": len(f.dev), "test": len(f.test)} for f in folds],
    }
    return SerPlan(recipe, corpora, kept, dict(dropped), left_out, labels, folds, conditions, flags, jobs, protocol)


def _why_dropped(utterance: Utterance, labels: LabelMap, first: View) -> str:
    """Return why an utterance has no target in the first view."""
    emotion = utterance.emotion
    none = f"no {first}, the first view of labels.views, by which the epoch is chosen"
    if first == "emotion":
        return none if emotion is None else f"{emotion} (not in map {labels.name})"
    if not labels.use_ratings:
        return f"{emotion or 'no emotion'} (not in map {labels.name})"
    derived = labels.dimensions.get(first, {})
    unmapped = "emotion" in labels.classes and labels.targets(utterance)["emotion"] is None
    if emotion is None or (not unmapped and (emotion in derived or not derived)):
        return none
    known = getattr(utterance, first) is not None or unmapped
    return f"{emotion} (not in map {labels.name if known else labels.category_map})"


def _deviations(recipe: SerRecipe, conditions: Sequence[ResolvedCondition]) -> dict[str, Any]:
    """Return what conditions do of their own that bears on comparing scores: how they choose, and what they standardise by."""
    chosen = {c.name: ", ".join(_of_phases(c, "select_by")) for c in conditions}
    found = {
        "selection_of": {name: how for name, how in chosen.items() if how != recipe.training.select_by},
        "class_counts_of": {c.name: "all" for c in conditions if "balanced_all" in _of_phases(c, "class_weights")},
        # by values alone: a system is the same whatever others it is run beside
        "vectors_by": sorted(set(_vectors_by(conditions).values())),
    }
    return {name: values for name, values in found.items() if values}


def _of_phases(condition: ResolvedCondition, key: str) -> list[str]:
    """Return the values that a key of the training table has in the phases of a condition, each once."""
    return list(dict.fromkeys(getattr(table, key) for _, table in condition.recipe.resolved_phases()))


def _vectors_by(conditions: Sequence[ResolvedCondition]) -> dict[str, str]:
    """Return the conditions whose vectors are standardised by more than train, and by whom."""
    return {
        c.name: c.recipe.vector.by
        for c in conditions
        if c.fusion == "late" and c.recipe.vector.standardise and c.recipe.vector.by != "train"
    }


def domain_flags(
    folds: Sequence[Fold], kept: Sequence[Utterance], conditions: Sequence[ResolvedCondition]
) -> tuple[str, ...]:
    """Say which domains are left out where, because the training audio holds a single class of them."""
    place = {u.id: i for i, u in enumerate(kept)}
    attributes = {name: [getattr(u, name) for u in kept] for name in DOMAINS}
    flags: dict[str, None] = {}
    for condition in conditions:
        wanted = wanted_domains(condition.recipe)
        for fold in folds if wanted else ():
            heard = heard_fold(fold, condition.recipe)
            places = [place[i] for part in (heard.train, heard.unlabelled) for i in part]
            for name, why in domain_codes(wanted, attributes, places)[2].items():
                flags[f"condition {condition.name}, fold {fold.name}: no domain head for {name} ({why})"] = None
    return tuple(flags)


FEW_UTTERANCES = 30
"""Below this a corpus' UAR moves by several points with one utterance; said in the audit. Source: own design."""


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
    targets = {u.id: labels.targets(u)[recipe.labels.views[0]] for u in kept}
    flags = audit_folds(
        folds,
        kept,
        labels=targets,
        encoder_speakers=heard,
        transductive=[f"normalisation {mode}"] if mode in ("per_speaker", "per_corpus") else [],
        allow_dev_overlap=recipe.protocol.settings.get("dev") == "utterances",
        audio_hashes=audio_hashes,
    ).flags
    sources = {c.name: [store.spec.source for store in c.stores.values()] for c in conditions}
    flags += tuple(flag for name, own in sources.items() for flag in unknown_speaker_flags(name, own))
    hearing = [c.name for c in conditions if c.recipe.target_audio == "test"]
    if hearing:
        flags += (
            f"transductive: condition(s) {', '.join(hearing)} hear the audio of the test part in training, without labels",
        )
    vectors_by = _vectors_by(conditions)
    if vectors_by:
        kinds = ", ".join(sorted(set(vectors_by.values())))
        flags += (
            f"transductive: condition(s) {', '.join(vectors_by)} hear unlabelled audio of the test speakers in the mean and "
            f"variance of their vectors ({kinds})",
        )
    if "per_speaker" in (mode, *vectors_by.values()):
        flags += tuple(single_class_flags(kept, targets))
    chosen = [c.name for c in conditions if "test" in _of_phases(c, "select_by")]
    if chosen:
        flags += (
            f"selected on test: the settings of condition(s) {', '.join(chosen)} are those of the best scores on the test "
            "folds; optimistic, not to be compared with scores chosen otherwise",
        )
    counted = [c.name for c in conditions if "balanced_all" in _of_phases(c, "class_weights")]
    if counted:
        flags += (
            f"condition(s) {', '.join(counted)}: class weights from the label counts of all utterances, test included",
        )
    few = {c: n for c, n in Counter(u.corpus for u in kept).items() if n < FEW_UTTERANCES}
    flags += tuple(f"corpus {c} has only {n} usable utterances: its scores say little" for c, n in sorted(few.items()))
    sensitive = [c.name for c in conditions if "padding_sensitive" in capabilities_of(c.recipe)]
    if sensitive:
        flags += (
            f"condition(s) {', '.join(sensitive)}: the model sees the padding, so a batch's longest utterance matters",
        )
    return flags + domain_flags(folds, kept, conditions)
