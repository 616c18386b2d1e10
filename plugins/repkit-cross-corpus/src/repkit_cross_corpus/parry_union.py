"""The union of corpora of Parry et al. 2019: train on all, test on each, and on corpora never trained on."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from repkit import api
from repkit_cross_corpus.corpus_splits import by_corpus, check_names, corpus_parts


class ParryUnion:
    """One fold per rotation: every corpus is split by speakers 80/10/10, the parts are joined, held-out corpora tested.

    Paper: Parry et al., Interspeech 2019: dev and test speakers are not in train, TESS is out of domain. The
    paper does not say which speakers; `corpus_splits` has the decisions. Differs: rotations, because one split of few
    speakers is noisy.
    """

    class Config(api.Config):
        """Settings.

        Attributes:
            hold_out: corpora that are never trained on and tested whole, as TESS in the paper.
            rotation: first rotation; 0 is the split itself, each further one tests other speakers.
            rotations: number of folds, each the next rotation.
            named_splits: corpora called emovo, savee and iemocap get the split laid down for them.
            seed: of the order of the speakers.
        """

        hold_out: tuple[str, ...] = ()
        rotation: int = Field(default=0, ge=0)
        rotations: int = Field(default=1, ge=1)
        named_splits: bool = True
        seed: int = 0

    covers = "some"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[api.Utterance]) -> list[api.Fold]:
        """Return one fold per rotation, named ``rotation_<number>``.

        Raises:
            DataError: nothing to train on, a corpus of fewer than three speakers that is not held out, a name that is no
                corpus, or more rotations than there are splits.
        """
        config = self.config
        ordered = api.check_utterances(utterances)
        corpora = by_corpus(ordered)
        check_names(config.hold_out, corpora, "hold_out")
        if len(config.hold_out) == len(corpora):
            raise api.DataError(
                f"protocol parry2019_union: every corpus is held out ({', '.join(corpora)}); at least one was expected to "
                "train on; give one with --corpus"
            )
        trained = [name for name in corpora if name not in config.hold_out]
        held_out = [utterance.id for name in config.hold_out for utterance in corpora[name]]
        folds: list[api.Fold] = []
        width = len(str(config.rotation + config.rotations - 1))
        for rotation in range(config.rotation, config.rotation + config.rotations):
            parts = [corpus_parts(corpora[name], rotation, config.seed, config.named_splits) for name in trained]
            train, dev, test = (tuple(sorted(i for part in parts for i in part[place])) for place in range(3))
            name = f"rotation_{rotation:0{width}d}"
            fold = api.Fold(name=name, train=train, dev=dev, test=tuple(sorted([*test, *held_out])))
            folds.append(fold)
            again = [other.name for other in folds[:-1] if (other.dev, other.test) == (fold.dev, fold.test)]
            if again:
                raise api.DataError(
                    f"protocol parry2019_union: {name} is the same split as {again[0]}; at most {len(folds) - 1} rotations "
                    "were expected with these speakers; lower protocol.rotations"
                )
        return folds
