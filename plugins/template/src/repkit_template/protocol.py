"""A protocol: utterances to folds. Does a model that learnt from women know the emotions of men, and the reverse?"""

from collections.abc import Sequence

from repkit import api


class LeaveOneGenderOut:
    """One fold per gender: all its speakers are tested, the others are split by speaker into train and dev."""

    class Config(api.DevConfig):
        """Settings: those of dev (`dev`, `n_dev_speakers`, `dev_fraction`, `seed`)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def folds(self, utterances: Sequence[api.Utterance]) -> list[api.Fold]:
        """Return the folds; the same whatever the order of the utterances.

        Raises:
            DataError: fewer than two genders are known.
        """
        ordered = api.check_utterances(utterances)  # sorted by id, each with a speaker
        gender_of = api.speaker_genders(ordered)  # one per speaker, so that no speaker is in two parts
        known = sorted({gender for gender in gender_of.values() if gender})
        if len(known) < 2:
            raise api.DataError(f"template_protocol: genders {known}; expected at least 2; fill the column gender")
        folds = []
        for index, gender in enumerate(known):
            test = tuple(u.id for u in ordered if gender_of[u.speaker] == gender)
            rest = [u for u in ordered if gender_of[u.speaker] not in (gender, None)]
            train, dev = api.split_dev(rest, self.config, index, gender)
            folds.append(api.Fold(gender, train, dev, test))
        return folds
