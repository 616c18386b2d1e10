"""All pairs of corpora: train on each one alone, test on all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field

from repkit import api
from repkit_cross_corpus.corpus_splits import by_corpus, check_names, corpus_parts


class CorpusPairs:
    """One fold per training corpus: tested are its own test speakers and every other corpus whole.

    The diagonal of the matrix is within the corpus and speaker-disjoint, all else is out of domain. Source: own design
    after table 2 of Parry et al., Interspeech 2019, which has one row of it (IEMOCAP).
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            corpora: corpora to train on, one fold each; empty: all that are not held out.
            hold_out: corpora that are only tested.
            rotation: 0 is the split itself, more moves dev and test on to other speakers.
            named_splits: corpora called emovo, savee and iemocap get the split laid down for them.
            seed: of the order of the speakers.
        """

        corpora: tuple[str, ...] = ()
        hold_out: tuple[str, ...] = ()
        rotation: int = Field(default=0, ge=0)
        named_splits: bool = True
        seed: int = 0

    covers = "some"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[api.Utterance]) -> list[api.Fold]:
        """Return one fold per training corpus, named ``train_<corpus>``.

        Raises:
            DataError: fewer than two corpora, none to train on, a training corpus of fewer than three speakers, a name
                that is no corpus, or two whose folds would have one name.
        """
        config = self.config
        ordered = api.check_utterances(utterances)
        corpora = by_corpus(ordered)
        check_names(config.corpora, corpora, "corpora")
        check_names(config.hold_out, corpora, "hold_out")
        if len(corpora) < 2:
            raise api.DataError(
                f"protocol corpus_pairs: one corpus ({', '.join(corpora)}); at least 2 were expected; give another "
                "--corpus, or use leave_one_speaker_out"
            )
        both = sorted(set(config.corpora) & set(config.hold_out))
        if both:
            raise api.DataError(
                f"protocol corpus_pairs: {', '.join(both)} both in corpora and in hold_out; a corpus is trained on or only "
                "tested; remove it from one"
            )
        trained = sorted(config.corpora) or [name for name in corpora if name not in config.hold_out]
        if not trained:
            raise api.DataError(
                f"protocol corpus_pairs: every corpus is held out ({', '.join(corpora)}); at least one was expected to "
                "train on; give one with --corpus"
            )
        folds = []
        for name in trained:
            train, dev, own = corpus_parts(corpora[name], config.rotation, config.seed, config.named_splits)
            others = [utterance.id for utterance in ordered if utterance.corpus != name]
            fold = api.Fold(name=f"train_{_safe(name)}", train=train, dev=dev, test=tuple(sorted([*own, *others])))
            alike = [other for other, before in zip(trained, folds) if before.name == fold.name]
            if alike:
                raise api.DataError(
                    f"protocol corpus_pairs: corpora {alike[0]!r} and {name!r} both give the fold {fold.name}, which is a "
                    "folder; names that differ in more than such characters were expected; call one otherwise in --corpus"
                )
            folds.append(fold)
        return folds


def _safe(name: str) -> str:
    """Return a name fit for a folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)
