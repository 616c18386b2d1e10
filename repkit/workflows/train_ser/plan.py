"""What ``repkit train-ser`` is going to do: utterances, labels, folds, conditions, jobs, protocol id."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repkit.api import DOMAINS, Corpus, Fold, Utterance
from repkit.audio.label_maps import LabelMap, label_map
from repkit.audio.table import ROLES
from repkit.config.schema import CONDITION_KEYS, NOT_TRAINING, SerRecipe
from repkit.errors import DataError, RecipeError
from repkit.evaluation.audit import audit_folds, unknown_speaker_flags
from repkit.plugins import build_config, load
from repkit.plugins.blaming import blaming
from repkit.runs.directory import canonical_hash
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
        recipe = self.recipe.model_dump(mode="json", exclude=set(NOT_TRAINING))
        # neither changes what is trained; they stay, at their defaults where they can, so that runs of before are found
        recipe |= {"reference": "BL", "baseline": self.recipe.baseline}
        conditions = {
            c.name: {
                **c.describe(),
                "stores": {n: s.spec.fingerprint for n, s in c.stores.items()},
                "set": c.recipe.model_dump(mode="json", include=set(CONDITION_KEYS)),
            }
            for c in self.conditions
        }
        return canonical_hash({"recipe": recipe, "protocol": self.protocol["id"], "conditions": conditions})


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
    dropped = Counter(
        f"{u.corpus}: {u.emotion or 'no label'} (not in map {labels.name})" for u in everything if u.id in left
    )
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
        folds = list(protocol_class(config).folds(kept))
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


def check_labelled(corpora: Mapping[str, Corpus], everything: Sequence[Utterance], labels: LabelMap, view: str) -> None:
    """Refuse corpora none of whose utterances has a class of a view.

    Args:
        corpora: by name.
        everything: their utterances.
        labels: the label map.
        view: the first one of the recipe.

    Raises:
        DataError: says of each whether it has no labels at all, and how to name their column, or none that the map knows.
    """
    problems = []
    for name in corpora:
        mine = [u for u in everything if u.corpus == name]
        if any(labels.targets(u)[view] is not None for u in mine):
            continue
        found = Counter(u.emotion for u in mine if u.emotion is not None)
        if found:
            listed = ", ".join(f"{emotion} {n}" for emotion, n in sorted(found.items()))
            remedy = (
                "choose another map (--set labels.map=own)"
                if labels.name != "own"
                else f"have {view} told by emotion (--set labels.category_map=circumplex3)"
            )
            problems.append(
                f"corpus {name!r}: none of its utterances has a class of {view} in map {labels.name!r}; its {len(mine)} labels "
                f"are {listed}; one that the map keeps was expected; {remedy}, or leave the corpus out"
            )
        else:
            problems.append(_no_label_column(name, mine, view))
    if problems:
        more = problems if len(problems) > 1 else []
        raise DataError(problems[0] if not more else f"labels: {len(more)} corpora cannot be used", more)


def _no_label_column(name: str, utterances: Sequence[Utterance], view: str) -> str:
    """Return what to do with a corpus without any label: which columns were looked for, and which it has besides."""
    looked_for = " or ".join(ROLES[view])
    unread = list(dict.fromkeys(column for u in utterances for column in u.extra))
    columns = f"its other columns are {', '.join(unread)}" if unread else "it has no other column with values"
    option = f"--corpus-set {shlex.quote(f'{name}.columns.{view}={unread[0]}') if len(unread) == 1 else f'{name}.columns.{view}=COLUMN'}"
    return (
        f"corpus {name!r}: none of its utterances has a class of {view}: no {view} column was found, or it is empty in all "
        f"{len(utterances)} rows; a column named {looked_for} was expected; {columns}; name the right one ({option}), or leave "
        "the corpus out: speech without labels is for `repkit pretrain-ae`"
    )


def _deviations(recipe: SerRecipe, conditions: Sequence[ResolvedCondition]) -> dict[str, Any]:
    """Return what conditions do of their own that bears on comparing scores: how they choose, and what they standardise by."""
    found = {
        "selection_of": {
            c.name: c.recipe.training.select_by
            for c in conditions
            if c.recipe.training.select_by != recipe.training.select_by
        },
        "class_counts_of": {c.name: "all" for c in conditions if c.recipe.training.class_weights == "balanced_all"},
        # by values alone: a system is the same whatever others it is run beside
        "vectors_by": sorted(set(_vectors_by(conditions).values())),
    }
    return {name: values for name, values in found.items() if values}


def _vectors_by(conditions: Sequence[ResolvedCondition]) -> dict[str, str]:
    """Return the conditions whose vectors are standardised by more than train, and by whom."""
    return {
        c.name: c.recipe.vector.by
        for c in conditions
        if c.fusion == "late" and c.recipe.vector.standardise and c.recipe.vector.by != "train"
    }


def check_common_classes(folds: Sequence[Fold], targets: Mapping[str, str | None]) -> None:
    """Refuse folds that cannot be learnt or scored, by the classes of the label map.

    Raises:
        DataError: a single class in train, or a tested corpus without any class of train; names fold, corpus and classes.
    """

    def listed(classes: set[str]) -> str:
        return ", ".join(sorted(classes)) or "none"

    for fold in folds:
        trained = {c for i in fold.train if (c := targets.get(i)) is not None}
        if len(trained) < 2:
            raise DataError(
                f"fold {fold.name!r}: train has the class(es) {listed(trained)} in {len(fold.train)} utterances; at least "
                "2 classes were expected; give more utterances or corpora, or another label map"
            )
        tested: dict[str, set[str]] = {}
        for i in fold.test:
            if (target := targets.get(i)) is not None:
                tested.setdefault(i.split("/", 1)[0], set()).add(target)
        for corpus, classes in tested.items():
            if not trained & classes:
                raise DataError(
                    f"fold {fold.name!r}: train has the classes {listed(trained)}, the test utterances of corpus {corpus!r} "
                    f"have {listed(classes)}; at least one in common was expected, or its score is zero by construction; "
                    "choose a label map that joins them (for example --set labels.map=parry2019)"
                )


def check_corpora_trained(folds: Sequence[Fold], conditions: Sequence[ResolvedCondition]) -> None:
    """Refuse to test a corpus by parts of its own that nothing has trained.

    Raises:
        RecipeError: names the condition, the fold and the corpus.
    """
    own = [c for c in conditions if "per_corpus" in capabilities_of(c.recipe)]
    for fold in folds if own else ():
        trained, tested = ({i.split("/", 1)[0] for i in part} for part in (fold.train, fold.test))
        if tested - trained:
            raise RecipeError(
                f"condition {own[0].name!r}, fold {fold.name!r}: the model {own[0].recipe.model.name!r} keeps parts per "
                f"corpus, and {', '.join(sorted(tested - trained))} is tested without being trained on; every tested "
                "corpus was expected in train; choose a protocol that does so (gerczuk2021_partitions, "
                "leave_one_speaker_group_out), or a model without such parts"
            )


def check_phases(
    recipe: SerRecipe, conditions: Sequence[ResolvedCondition], corpora: Sequence[str], folds: Sequence[Fold]
) -> None:
    """Refuse phases that name corpora which are not there: else they would be found out after the phases before them.

    Raises:
        RecipeError: lists every such key as ``--set`` takes it.
    """
    sets = [condition.set for condition in recipe.conditions]
    set_of = {condition.name: condition.set for condition in recipe.conditions}
    trained = {fold.name: {i.split("/", 1)[0] for i in fold.train} for fold in folds}
    problems: dict[str, None] = {}
    for condition in conditions:
        own = set_of.get(condition.name, {})
        # with embeddings a system stands there several times, first as the recipe has it
        where = f"conditions.{sets.index(own)}.set.phases" if "phases" in own else "phases"
        for place, phase in enumerate(condition.recipe.phases):
            copied = () if phase.copy_from is None else (phase.copy_from,)
            for key, names in (("corpora", phase.corpora), ("copy_from", copied)):
                for name in (name for name in names if name not in corpora):
                    problems[f"{where}.{place}.{key}: {name!r} is not in the run ({', '.join(corpora)})"] = None
            for fold, heard in trained.items() if phase.corpora and set(phase.corpora) <= set(corpora) else ():
                if not heard & set(phase.corpora):
                    problems[f"{where}.{place}.corpora: fold {fold!r} trains on none of {', '.join(phase.corpora)}"] = (
                        None
                    )
    if problems:
        raise RecipeError(
            f"recipe {recipe.name}: phases cannot have the corpora they name; corpora that the run has, and every fold "
            "trains on, were expected; give them by --corpus, or set these keys by --set",
            list(problems),
        )


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
    flags = audit_folds(
        folds,
        kept,
        labels={u.id: labels.targets(u)[recipe.labels.views[0]] for u in kept},
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
    chosen = [c.name for c in conditions if c.recipe.training.select_by == "test"]
    if chosen:
        flags += (
            f"selected on test: the settings of condition(s) {', '.join(chosen)} are those of the best scores on the test "
            "folds; optimistic, not to be compared with scores chosen otherwise",
        )
    counted = [c.name for c in conditions if c.recipe.training.class_weights == "balanced_all"]
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
