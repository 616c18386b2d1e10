"""The multi-corpus split of Gao et al.: every corpus gives speakers to train, dev and test.

Paper: Y. Gao, S. Okada, L. Wang, J. Liu, J. Dang, "Domain-invariant feature learning for cross corpus speech emotion
recognition", ICASSP 2022, section 3: of each corpus 80 % for training and 20 % for testing without a common speaker;
trained on the union, tested on each. Which speakers are tested is not stated; ours are named below (reconstructed).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import Field, model_validator

from repkit import api

SPEAKERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "savee": (("KL",), ("DC",), ("JE",), ("JK",)),
    "emodb": (("15", "16"), ("03", "08"), ("10", "09"), ("11", "13"), ("12", "14")),
}
"""Speakers tested together, rotation after rotation; in Emo-DB one man and one woman."""
SESSIONS: Mapping[str, tuple[int, ...]] = {"iemocap": (5, 1, 2, 3, 4), "msp_improv": (6, 1, 2, 3, 4, 5)}
"""Sessions tested, rotation after rotation; each is one man and one woman."""


class GaoMulti:
    """One fold over all corpora, or several rotations of it.

    Under the names iemocap, msp_improv, savee and emodb the first fold tests session 5, session 6, speaker KL, and
    speakers 15 and 16. Any other corpus is split by `repkit.api.speaker_parts`, genders as even as it can be. A corpus
    with fewer groups than rotations starts again, so that its speakers are tested more than once.
    """

    class Config(api.DevConfig):
        """Settings besides those of dev, which is taken from each corpus by itself.

        Attributes:
            dev_fraction: share of each corpus' training speakers in dev, at least one speaker, unless n_dev_speakers is
                given; with ``dev = "utterances"`` share of each training session.
            test_share: aimed share of the speakers of a corpus in test, where the corpus is not split by name.
            named: split the paper's corpora by their names as written above; false splits them like any other.
            rotations: number of folds.
            hold_out: corpora that are tested whole and never trained on.
        """

        test_share: float = Field(default=0.2, gt=0, lt=1)
        named: bool = True
        rotations: int = Field(default=1, ge=1)
        hold_out: tuple[str, ...] = ()

        @model_validator(mode="after")
        def _each_once(self) -> GaoMulti.Config:
            if len(set(self.hold_out)) != len(self.hold_out):
                raise ValueError(f"hold_out {list(self.hold_out)}: each corpus is expected once")
            return self

    covers = "some"
    """Most speakers are never tested (see the conformance kit)."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else self.Config()

    def folds(self, utterances: Sequence[api.Utterance]) -> list[api.Fold]:
        """Return ``multi``, or ``rotation_1``, ``rotation_2`` and so on.

        Raises:
            DataError: no utterance, an id twice, a speaker missing, a corpus to hold out that is not there, nothing left
                to train on, a corpus of too few speakers, or one of the paper's corpora without its test speakers.
        """
        by_corpus: dict[str, list[api.Utterance]] = defaultdict(list)
        for utterance in api.check_utterances(utterances):
            by_corpus[utterance.corpus].append(utterance)
        absent = [name for name in self.config.hold_out if name not in by_corpus]
        if absent:
            raise api.DataError(
                f"protocol gao2022_multi: hold_out names {', '.join(absent)}; the corpora are {', '.join(by_corpus)}; "
                "correct the name or add the corpus"
            )
        trained = {name: own for name, own in by_corpus.items() if name not in self.config.hold_out}
        if not trained:
            raise api.DataError(
                f"protocol gao2022_multi: hold_out names all corpora ({', '.join(by_corpus)}); at least one was expected "
                "to train on; hold fewer out"
            )
        held = [u.id for name in self.config.hold_out for u in by_corpus[name]]
        n = self.config.rotations
        return [
            self._fold(trained, held, r, "multi" if n == 1 else f"rotation_{r + 1:0{len(str(n))}d}") for r in range(n)
        ]

    def _fold(
        self, corpora: Mapping[str, Sequence[api.Utterance]], held: Sequence[str], rotation: int, name: str
    ) -> api.Fold:
        train: list[str] = []
        dev: list[str] = []
        test = list(held)
        for corpus, own in corpora.items():
            tested = self._tested(corpus, own, rotation)
            rest = [u for u in own if u.id not in tested]
            n_speakers = len({u.speaker for u in rest})
            n_dev = self.config.n_dev_speakers or max(1, round(self.config.dev_fraction * n_speakers))
            config = self.config.model_copy(update={"n_dev_speakers": n_dev})
            own_train, own_dev = api.split_dev(rest, config, rotation, f"{name}, corpus {corpus}")
            train += own_train
            dev += own_dev
            test += tested
        return api.Fold(name=name, train=tuple(sorted(train)), dev=tuple(sorted(dev)), test=tuple(sorted(test)))

    def _tested(self, corpus: str, own: Sequence[api.Utterance], rotation: int) -> frozenset[str]:
        """Return the ids of a corpus' test part."""
        if self.config.named and corpus in SPEAKERS:
            groups = SPEAKERS[corpus]
            wanted = groups[rotation % len(groups)]
            speaker_of = {u.id: str(u.speaker).split("/", 1)[-1] for u in own}
            return _complete(corpus, "speaker", wanted, {i: _plain(s) for i, s in speaker_of.items()})
        if self.config.named and corpus in SESSIONS:
            sessions = SESSIONS[corpus]
            wanted = (str(sessions[rotation % len(sessions)]),)
            return _complete(corpus, "session", wanted, {u.id: _session_number(u) for u in own})
        _, _, tested = api.speaker_parts(
            own, (self.config.dev_fraction, self.config.test_share), rotation, self.config.seed
        )
        return frozenset(tested)


def _complete(corpus: str, kind: str, wanted: Sequence[str], name_of: Mapping[str, str]) -> frozenset[str]:
    """Return the ids whose speaker or session is wanted; every one wanted must be there, and another besides."""
    found = set(name_of.values())
    if not {_plain(name) for name in wanted} < found:
        raise api.DataError(
            f"corpus {corpus!r}: its {kind}s are {', '.join(sorted(found)[:20])}; {kind} {' and '.join(wanted)} to test "
            f"and others to train on were expected from a corpus of that name; name the {kind}s so, or set "
            "protocol.named = false to split it like any other"
        )
    return frozenset(i for i, name in name_of.items() if name in {_plain(name) for name in wanted})


def _plain(name: str) -> str:
    """Return a speaker's name without case and leading zeros, which tables tend to lose."""
    return name.casefold().lstrip("0")


def _session_number(utterance: api.Utterance) -> str:
    """Return the number of the session, from the session or else from a speaker named after it (05F, Ses05F, F06)."""
    if utterance.session:
        name = utterance.session.split("/", 1)[-1]
        found = re.search(r"\d+", name)
    else:
        name = str(utterance.speaker).split("/", 1)[-1]
        found = re.fullmatch(r"(?:ses(?:sion)?)?(\d+)_?[fm]|[fm](\d+)", name, re.IGNORECASE)
    if not found:
        return name
    return str(int(next((part for part in found.groups() if part), found[0])))
