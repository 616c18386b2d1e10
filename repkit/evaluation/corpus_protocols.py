"""Rules that test on other corpora than those trained on.

They are here and not in a plugin because the cross-corpus, domain-adversarial and adapter recipes all use them
(docs/decisions/0010). Source: usual in the field; parry2019 and gao2022 sheets, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from repkit.api import DevConfig, Fold, Utterance, check_utterances, split_dev
from repkit.errors import DataError, did_you_mean


class LeaveOneCorpusOut:
    """One fold per corpus: it is tested whole, all others are trained on; dev speakers come from the others."""

    class Config(DevConfig):
        """Settings.

        Attributes:
            hold_out: corpora to test, one fold each, and never to train on in any fold; empty: every corpus has its
                turn.
        """

        hold_out: tuple[str, ...] = ()

    covers = "some"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Return one fold per tested corpus, named ``corpus_<name>``.

        Raises:
            DataError: fewer than two corpora, none left to train on, or a name that is no corpus.
        """
        ordered = check_utterances(utterances)
        corpora = sorted({utterance.corpus for utterance in ordered})
        check_corpora(self.config.hold_out, corpora, "hold_out")
        if len(corpora) < 2:
            raise DataError(
                f"protocol leave_one_corpus_out: one corpus ({corpora[0]}); at least 2 were expected; give another "
                "--corpus, or use leave_one_speaker_out"
            )
        tested = sorted(self.config.hold_out) or corpora
        if len(tested) == len(corpora) and self.config.hold_out:
            raise DataError(
                "protocol leave_one_corpus_out: every corpus is held out; at least one was expected to train on; give "
                "one with --corpus"
            )
        folds = []
        for index, name in enumerate(tested):
            never = {name, *self.config.hold_out}
            rest = [utterance for utterance in ordered if utterance.corpus not in never]
            train, dev = split_dev(rest, self.config, index, f"corpus_{name}")
            test = tuple(utterance.id for utterance in ordered if utterance.corpus == name)
            folds.append(Fold(name=f"corpus_{name}", train=train, dev=dev, test=test))
        return folds


class TrainTestCorpora:
    """One fold: train on some corpora, test on others whole. Source: gao2022 sheet, section 3 (train on IEMOCAP)."""

    class Config(DevConfig):
        """Settings.

        Attributes:
            train: corpora to train on; empty: all that are not held out.
            hold_out: corpora to test; empty: all that are not in `train`.
        """

        train: tuple[str, ...] = ()
        hold_out: tuple[str, ...] = ()

    covers = "some"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Return the one fold, named after what it trains on: ``train_<corpora joined by ->``.

        Raises:
            DataError: a name that is no corpus, one in both parts, or nothing on one side.
        """
        ordered = check_utterances(utterances)
        corpora = sorted({utterance.corpus for utterance in ordered})
        given, tested = set(self.config.train), set(self.config.hold_out)
        check_corpora(self.config.train, corpora, "train")
        check_corpora(self.config.hold_out, corpora, "hold_out")
        if given & tested:
            raise DataError(
                f"protocol train_test_corpora: {', '.join(sorted(given & tested))} both in train and in hold_out; each "
                "corpus on one side was expected; remove it from one"
            )
        given = given or set(corpora) - tested
        tested = tested or set(corpora) - given
        if not given or not tested:
            raise DataError(
                f"protocol train_test_corpora: {'no corpus to train on' if not given else 'no corpus to test'}; at least "
                f"one on each side was expected of {', '.join(corpora)}; give --hold-out "
                "NAME=PATH, or --set 'protocol.train=[\"NAME\"]'"
            )
        name = "train_" + "-".join(sorted(given))
        train, dev = split_dev([u for u in ordered if u.corpus in given], self.config, 0, name)
        return [Fold(name=name, train=train, dev=dev, test=tuple(u.id for u in ordered if u.corpus in tested))]


def check_corpora(names: Sequence[str], corpora: Sequence[str], key: str) -> None:
    """Refuse names that are no corpus of the run.

    Raises:
        DataError: names the first, with the nearest corpus.
    """
    for name in names:
        if name not in corpora:
            raise DataError(
                f"protocol.{key}: {name!r} is no corpus with usable labels{did_you_mean(name, corpora)}; one of "
                f"{', '.join(corpora)} was expected"
            )
