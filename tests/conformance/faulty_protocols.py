"""Protocols that break one rule each."""

import hashlib
import random
from dataclasses import replace

from faults import fault
from reference_protocols import SpeakerFolds

from repkit import api

GROUP = "repkit.protocols"


@fault(GROUP, "every_fold_can_be_trained_and_tested")
class NothingToLearn(SpeakerFolds):
    def parts(self, *given):
        parts = super().parts(*given)
        return {**parts, "train": [], "dev": [*parts["train"], *parts["dev"]]}


@fault(GROUP, "every_fold_can_be_trained_and_tested")
class Namesakes(SpeakerFolds):
    def fold(self, name, parts, utterances):
        return super().fold("fold", parts, utterances)

    covers = "some"
    stratified = True  # folds of one name cannot be compared


@fault(GROUP, "every_fold_can_be_trained_and_tested")
class Nested(SpeakerFolds):
    def fold(self, name, parts, utterances):
        return super().fold(f"part/{name}", parts, utterances)


@fault(GROUP, "every_fold_can_be_trained_and_tested")
class Listed(SpeakerFolds):
    def fold(self, *given):
        fold = super().fold(*given)
        return replace(fold, dev=list(fold.dev))


@fault(GROUP, "ids_are_known_and_stand_once")
class Repeating(SpeakerFolds):
    def fold(self, *given):
        fold = super().fold(*given)
        return replace(fold, test=(*fold.test, fold.test[0]))


@fault(GROUP, "ids_are_known_and_stand_once")
class Overlapping(SpeakerFolds):
    def fold(self, *given):
        fold = super().fold(*given)
        return replace(fold, train=(*fold.train, fold.test[0]))

    class Config(api.Config):
        n: int = 3

        @property
        def hold_out(self):
            return ()


@fault(GROUP, "speakers_are_kept_apart")
class Leaky(SpeakerFolds):
    def fold(self, *given):
        fold = super().fold(*given)
        rest = sorted([*fold.train, *fold.dev])
        return replace(fold, train=tuple(rest[1::2]), dev=tuple(rest[0::2]))


@fault(GROUP, "the_order_of_utterances_does_not_matter")
class FirstCome(SpeakerFolds):
    def order(self, utterances):
        return list(dict.fromkeys(u.speaker for u in utterances if u.corpus not in self.config.hold_out))


@fault(GROUP, "every_process_makes_the_same_folds")
class Unsorted(SpeakerFolds):
    def order(self, utterances):
        return list(set(super().order(utterances)))


@fault(GROUP, "every_process_makes_the_same_folds", also=("labels_of_test_are_not_used", "the_order_of_utterances_does_not_matter"))  # fmt: skip
class Shuffling(SpeakerFolds):
    def order(self, utterances):
        speakers = super().order(utterances)
        random.shuffle(speakers)
        return speakers


@fault(GROUP, "every_utterance_is_tested")
class OneFold(SpeakerFolds):
    def folds(self, utterances):
        return super().folds(utterances)[:1]


@fault(GROUP, "held_out_corpora_are_never_trained_on")
class Forgetful(SpeakerFolds):
    def __init__(self, config):
        super().__init__(config.model_copy(update={"hold_out": ()}))


@fault(GROUP, "labels_of_test_are_not_used")
class Peeking(SpeakerFolds):
    def parts(self, speakers, fold, utterances):
        parts = super().parts(speakers, fold, utterances)
        rest = sorted([*parts["train"], *parts["dev"]])
        labels = " ".join(f"{u.emotion}" for u in sorted(utterances, key=lambda u: u.id) if u.speaker in parts["test"])
        dev = rest[int(hashlib.sha256(labels.encode()).hexdigest(), 16) % len(rest)]
        return {"train": [name for name in rest if name != dev], "dev": [dev], "test": parts["test"]}
