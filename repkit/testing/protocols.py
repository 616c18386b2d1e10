"""Checks of protocols (group ``repkit.protocols``)."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from repkit.api import Fold, Utterance
from repkit.evaluation.audit import fits_a_folder
from repkit.testing import common  # noqa: F401 - registers the checks of every class
from repkit.testing.kit import Broken, Case, NotApplicable, case, check, settings_class

GROUP = "repkit.protocols"
PARTS = ("train", "dev", "test")
CORPORA = ("kit_a", "kit_b", "kit_c")
EMOTIONS = ("anger", "happiness", "neutral", "sadness")


def make_utterances(corpora: Sequence[str] = CORPORA, n_speakers: int = 8) -> tuple[Utterance, ...]:
    """Return labelled utterances without sound: women and men in turn, two speakers to a session, four emotions each.

    The extra column ``part`` says train, dev or test, the same for all of a speaker's.
    """
    found = []
    for place, corpus in enumerate(corpora):
        for number in range(n_speakers):
            part = "test" if number < 2 else "dev" if number < 4 else "train"
            for take in range(2 + (number + place) % 2):
                for level, emotion in enumerate(EMOTIONS):
                    found.append(
                        Utterance(
                            id=f"{corpus}/{number:02d}_{emotion}_{take}",
                            corpus=corpus,
                            speaker=f"{corpus}/{number:02d}",
                            session=f"{corpus}/{number // 2 + 1:02d}",
                            gender="female" if number % 2 == 0 else "male",
                            language=("en", "de", "it")[place % 3],
                            emotion=emotion,
                            arousal=1.0 + level,
                            valence=5.0 - level,
                            extra={"part": part},
                        )
                    )
    return tuple(found)


@case(GROUP)
class ProtocolCase(Case):
    """A protocol with utterances to divide.

    Args:
        component: the class.
        settings: of its Config.
        name: for messages.
        utterances: to divide; by default three corpora (kit_a, kit_b, kit_c) of eight speakers in four sessions.
        corpora: other names for these corpora, for protocols that know corpora by name.
        covers: ``"some"`` for a protocol that need not test everything; by default what its attribute ``covers`` says,
            else ``"all"``.
    """

    def __init__(
        self,
        component: Any,
        settings: Mapping[str, Any],
        name: str,
        utterances: Sequence[Utterance] | None = None,
        corpora: Sequence[str] = CORPORA,
        covers: str | None = None,
    ) -> None:
        super().__init__(component, settings, name)
        self.utterances = tuple(utterances) if utterances is not None else make_utterances(corpora)
        self.known = {utterance.id: utterance for utterance in self.utterances}
        self._covers = covers

    @property
    def traits(self) -> frozenset[str]:
        """``hold_out`` and ``dev`` where Config has such a field; ``covers_some``, ``stratified`` as the class says."""
        kind = settings_class(self.component)
        fields = set(kind.model_fields) & {"hold_out"} if kind is not None else set()
        covers = self._covers or getattr(self.component, "covers", "all")
        stated = {"covers_some"} if covers == "some" else set()
        return frozenset(fields | stated | ({"stratified"} if getattr(self.component, "stratified", False) else set()))

    def folds(self, utterances: Sequence[Utterance] | None = None, **settings: Any) -> list[Fold]:
        """Return the folds that a fresh protocol makes."""
        config = self.config
        if settings:
            config = type(config)(**{**self.settings, **settings})
        return list(self.component(config).folds(list(self.utterances if utterances is None else utterances)))

    @cached_property
    def usual(self) -> list[Fold]:
        """The folds of the utterances in their order."""
        return self.folds()


@check(GROUP)
def every_fold_can_be_trained_and_tested(case: ProtocolCase) -> None:
    """There is at least one fold; each is a repkit.api.Fold of tuples, of a name of its own that a folder can have, with utterances in train and in test.

    Prevents: a job that has nothing to learn from or nothing to predict, and jobs that overwrite each other.
    """
    if not case.usual:
        raise Broken("no fold", "return at least one, or raise a DataError that says what is missing")
    for fold in case.usual:
        if not isinstance(fold, Fold):
            raise Broken(f"a {type(fold).__name__}", "return repkit.api.Fold")
        empty = [part for part in ("train", "test") if not getattr(fold, part)]
        if empty:
            raise Broken(f"fold {fold.name!r}: {empty[0]} is empty", "leave the fold out, or raise a DataError")
        if not isinstance(fold.name, str) or not fits_a_folder(fold.name):
            raise Broken(f"a fold named {fold.name!r}", "name it by what a folder can be called: no slash, not . or ..")
        lists = [part for part in (*PARTS, "unlabelled") if not isinstance(getattr(fold, part), tuple)]
        if lists:
            kind = type(getattr(fold, lists[0])).__name__
            raise Broken(f"fold {fold.name!r}: {lists[0]} is a {kind}", "make every part a tuple of ids")
    twice = [name for name, n in Counter(fold.name for fold in case.usual).items() if n > 1]
    if twice:
        raise Broken(f"{Counter(f.name for f in case.usual)[twice[0]]} folds named {twice[0]!r}", "number them")


@check(GROUP)
def ids_are_known_and_stand_once(case: ProtocolCase) -> None:
    """Parts hold ids of the utterances given, each once in a part and in one of train, dev and test.

    Prevents: utterances that are tested after they were trained on, or count twice in a score.
    """
    for fold in case.usual:
        for part in (*PARTS, "unlabelled"):
            ids = getattr(fold, part)
            foreign = [i for i in ids if i not in case.known]
            if foreign:
                raise Broken(f"fold {fold.name!r}, {part}: {foreign[0]!r} is no utterance", "use the ids as given")
            twice = [i for i, n in Counter(ids).items() if n > 1]
            if twice:
                raise Broken(f"fold {fold.name!r}, {part}: {twice[0]!r} stands twice", "make every part a set of ids")
        for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
            both = sorted(set(getattr(fold, one)) & set(getattr(fold, other)))
            if both:
                raise Broken(f"fold {fold.name!r}: {both[0]!r} in {one} and in {other}", "give each id one part")


@check(GROUP)
def speakers_are_kept_apart(case: ProtocolCase) -> None:
    """No speaker stands in two of train, dev and test (train and dev may share them where the setting dev says so).

    Prevents: scores for recognising voices instead of emotions.
    """
    shared_dev = getattr(case.config, "dev", None) == "utterances"
    for fold in case.usual:
        speakers = {part: {case.known[i].speaker for i in getattr(fold, part) if i in case.known} for part in PARTS}
        for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
            both = sorted(map(str, speakers[one] & speakers[other]))
            if (one, other) == ("train", "dev") and shared_dev:
                continue
            # an id in both parts is another rule's business
            if both and not set(getattr(fold, one)) & set(getattr(fold, other)):
                raise Broken(
                    f"fold {fold.name!r}: speakers in {one} and in {other}: {', '.join(both[:4])}",
                    "divide speakers, not utterances (repkit.api.split_dev does it for dev)",
                )


@check(GROUP)
def the_order_of_utterances_does_not_matter(case: ProtocolCase) -> None:
    """The same utterances in another order give the same folds.

    Prevents: scores that change when a file is added to a corpus or the corpora are given in another order.
    """
    for seed in (1, 2):
        turned = list(case.utterances)
        random.Random(seed).shuffle(turned)
        _compare(case.usual, case.folds(turned), "in another order", "sort what you are given (check_utterances does)")


@check(GROUP)
def every_process_makes_the_same_folds(case: ProtocolCase) -> None:
    """The folds are the same each time, whatever the random generators and Python's hashes of text are.

    Prevents: jobs of one run that train and test on different folds.
    """
    random.seed(4321)
    _compare(case.usual, case.folds(), "the second time", "draw by hashes of names (seed, id), not from a generator")
    if "<locals>" in case.component.__qualname__ or case.component.__module__ == "__main__":
        raise NotApplicable("the class cannot be imported by another process")
    answer = _in_another_process(case)
    if answer:
        _compare(case.usual, answer, "in another process", "sort sets before going through them")


def _in_another_process(case: ProtocolCase) -> list[Fold]:
    """Return the folds as a process with other hashes of text makes them."""
    code = (
        "import importlib, operator, pickle, sys\n"
        "path, module, name, settings, utterances = pickle.load(sys.stdin.buffer)\n"
        "sys.path[:] = path\n"
        "kind = operator.attrgetter(name)(importlib.import_module(module))\n"
        "config = kind.Config(**settings)\n"
        "sys.stdout.buffer.write(pickle.dumps(list(kind(config).folds(pickle.loads(utterances)))))\n"
    )
    given = (sys.path, case.component.__module__, case.component.__qualname__, case.settings)
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((*given, pickle.dumps(case.utterances))),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Broken(f"another process cannot make them ({''.join(last)})", "put the class into an importable module")
    found: list[Fold] = pickle.loads(done.stdout)
    return found


def _compare(one: Sequence[Fold], other: Sequence[Fold], when: str, do: str) -> None:
    if [fold.name for fold in one] != [fold.name for fold in other]:
        raise Broken(f"folds {[f.name for f in one][:4]} first, {[f.name for f in other][:4]} {when}", do)
    for first, second in zip(one, other, strict=True):
        for part in (*PARTS, "unlabelled"):
            a, b = getattr(first, part), getattr(second, part)
            if a != b:
                what = "other ids" if set(a) != set(b) else "the ids in another order"
                raise Broken(f"fold {first.name!r}, {part}: {what} {when}", do)


@check(GROUP, unless=("covers_some",))
def every_utterance_is_tested(case: ProtocolCase) -> None:
    """Every utterance stands in the test part of some fold, unless `covers = "some"` or a hold-out says otherwise.

    Prevents: a mean over folds that is taken for the score of a corpus and leaves part of it out.
    """
    if getattr(case.config, "hold_out", ()):
        raise NotApplicable("corpora are held out")
    tested = {i for fold in case.usual for i in fold.test}
    left = sorted(set(case.known) - tested)
    if left:
        raise Broken(
            f"{len(left)} of {len(case.known)} are never tested, first {left[0]!r}",
            'test the rest in further folds, or state covers = "some" as a class attribute',
        )


@check(GROUP, needs=("hold_out",))
def held_out_corpora_are_never_trained_on(case: ProtocolCase) -> None:
    """Corpora named in `hold_out` are tested and stand in no train or dev part.

    Prevents: a corpus called unseen that was seen.
    """
    held = sorted({utterance.corpus for utterance in case.utterances})[-1]
    folds = case.folds(hold_out=(held,))
    for fold in folds:
        for part in ("train", "dev"):
            seen = [i for i in getattr(fold, part) if case.known[i].corpus == held]
            if seen:
                raise Broken(f"fold {fold.name!r}, {part}: {seen[0]!r} of the corpus held out", "leave the corpus out")
    if not any(case.known[i].corpus == held for fold in folds for i in fold.test):
        raise Broken(f"no fold tests {held!r}, which is held out", "put held-out corpora into test")


@check(GROUP, unless=("stratified",))
def labels_of_test_are_not_used(case: ProtocolCase) -> None:
    """A fold stays the same when the labels inside its test part change places.

    Prevents: folds that were chosen by the labels they are scored with (a rule that stratifies by label states
    `stratified = True` as a class attribute).
    """
    for fold in case.usual[:3]:
        ids = sorted(i for i in fold.test if i in case.known)
        donor = dict(zip(ids, random.Random(0).sample(ids, len(ids))))
        swapped = [
            replace(u, **{key: getattr(case.known[donor[u.id]], key) for key in ("emotion", "arousal", "valence")})
            if u.id in donor
            else u
            for u in case.utterances
        ]
        same = [other for other in case.folds(swapped) if other.name == fold.name]
        _compare([fold], same, "with the labels of test exchanged", "look at labels outside the test part only")
