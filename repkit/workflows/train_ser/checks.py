"""What ``repkit train-ser`` refuses before anything is trained: labels, folds and phases that do not fit one another."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from repkit.api import Corpus, Fold, Utterance
from repkit.audio.label_maps import LabelMap
from repkit.audio.table import ROLES
from repkit.config.schema import SerRecipe
from repkit.errors import DataError, RecipeError
from repkit.workflows.train_ser.conditions import ResolvedCondition, capabilities_of


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
