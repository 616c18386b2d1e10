"""A protocol that keeps every rule; the faulty ones are derived from it."""

import hashlib

from repkit import api


class SpeakerFolds:
    """Every n-th speaker is tested, the first of the others is dev; corpora held out are tested in every fold."""

    class Config(api.Config):
        n: int = 3
        hold_out: tuple[str, ...] = ()

    def __init__(self, config):
        self.config = config

    def order(self, utterances):
        """Return the speakers that take turns."""
        names = {u.speaker for u in utterances if u.corpus not in self.config.hold_out}
        return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())

    def parts(self, speakers, fold, utterances):
        """Return the speakers of train, dev and test."""
        test = speakers[fold :: self.config.n]
        rest = [name for name in speakers if name not in test]
        held = sorted({u.speaker for u in utterances if u.corpus in self.config.hold_out})
        return {"train": rest[1:], "dev": rest[:1], "test": [*test, *held]}

    def folds(self, utterances):
        speakers = self.order(utterances)
        return [self.fold(f"fold_{n}", self.parts(speakers, n, utterances), utterances) for n in range(self.config.n)]

    def fold(self, name, parts, utterances):
        ids = {part: tuple(sorted(u.id for u in utterances if u.speaker in names)) for part, names in parts.items()}
        return api.Fold(name=name, **ids)
