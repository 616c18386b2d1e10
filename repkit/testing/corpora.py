"""Checks of corpora (group ``repkit.corpora``)."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import islice
from typing import Any
from unittest import mock

import numpy as np

from repkit.api import Corpus, Utterance
from repkit.audio.guarded import wrong_ids, wrong_kind, wrong_labels, wrong_speakers
from repkit.testing import common  # noqa: F401 - registers the checks of every class
from repkit.testing.kit import Broken, Case, case, check, settings_class

GROUP = "repkit.corpora"
SAMPLE_RATE = 16000
N_READ = 3
"""Utterances whose sound is looked at."""
DECODERS = ("soundfile.read", "soundfile.SoundFile.read", "soundfile.blocks", "wave.Wave_read.readframes")


@case(GROUP)
class CorpusCase(Case):
    """A corpus at a place that the settings name.

    Args:
        component: the class.
        settings: of its Config, with the place of the sounds where it needs one.
        name: for messages.
    """

    def __init__(self, component: Any, settings: Mapping[str, Any], name: str) -> None:
        kind = settings_class(component)
        field = kind.model_fields.get("name") if kind is not None else None
        named = {"name": "kit"} if field is not None and field.is_required() and "name" not in settings else {}
        super().__init__(component, {**named, **settings}, name)

    @cached_property
    def corpus(self) -> Any:
        """The corpus, listed once for all checks."""
        return self.make()

    @cached_property
    def listed(self) -> Sequence[Utterance]:
        """Its utterances."""
        return list(self.corpus.utterances())


@check(GROUP)
def the_name_is_the_users(case: CorpusCase) -> None:
    """Config has a field `name`, and the corpus is called by it.

    Prevents: a corpus that `--corpus NAME=plugin:COMPONENT` cannot open, or that appears in reports under another name.
    """
    kind = settings_class(case.component)
    if kind is None or "name" not in kind.model_fields:
        raise Broken("Config has no such field", 'add name: str = "..." to Config')
    name = case.config.name
    if not isinstance(case.corpus, Corpus):
        missing = [m for m in ("name", "utterances", "read", "stream", "fingerprint") if not hasattr(case.corpus, m)]
        raise Broken(f"no {', '.join(missing)}", "write all that repkit.api.Corpus asks for")
    if case.corpus.name != name:
        raise Broken(f"the name {case.corpus.name!r} where {name!r} was given", "set self.name = config.name")


@check(GROUP)
def ids_are_unique_and_begin_with_the_name(case: CorpusCase) -> None:
    """There is an utterance at least; ids are NAME/..., each once, and `corpus` is NAME.

    Prevents: embeddings and predictions that are given to another utterance of the same id.
    """
    if not case.listed:
        raise Broken("no utterance", "list some, or give the kit settings under which there are any")
    _break_at_first(wrong_ids(case.corpus.name, case.listed))


def _break_at_first(faults: Iterator[tuple[str, str]]) -> None:
    for got, do in faults:
        raise Broken(got, do)


@check(GROUP)
def speakers_and_sessions_begin_with_the_name(case: CorpusCase) -> None:
    """Speakers and sessions are NAME/..., or None when unknown.

    Prevents: speaker 01 of one corpus that is taken for speaker 01 of another, and kept out of its folds.
    """
    _break_at_first(wrong_speakers(case.corpus.name, case.listed))


@check(GROUP)
def labels_are_of_the_vocabulary(case: CorpusCase) -> None:
    """Emotions are words of repkit's vocabulary, genders female or male, languages codes, ratings 1 to 5; or None.

    Prevents: a misspelt emotion that becomes a class of its own, and ratings of another scale in the wrong bin.
    """
    _break_at_first(wrong_labels(case.listed))


@check(GROUP)
def listing_decodes_nothing(case: CorpusCase) -> None:
    """`utterances()` gives the same list every time and decodes no sound.

    Prevents: plans, checks and lists that take as long as reading the corpus.
    """
    fresh = case.make()

    def refuse(*_: Any, **__: Any) -> None:
        raise _DecodedError

    try:
        with _no_decoding(type(fresh), refuse):
            again = list(fresh.utterances())
    except _DecodedError:
        raise Broken("it decodes sound", "list from names, tables or headers; decode in read") from None
    if again != case.listed or list(fresh.utterances()) != again:
        raise Broken("another list the second time", "sort what the file system gives, and draw nothing at random")


class _DecodedError(Exception):
    """Raised where sound is decoded while listing."""


@contextmanager
def _no_decoding(kind: type, refuse: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for place in DECODERS:
            stack.enter_context(mock.patch(place, refuse))
        for method in ("read", "stream"):
            stack.enter_context(mock.patch.object(kind, method, refuse))
        yield


@check(GROUP)
def sound_is_mono_at_16_khz(case: CorpusCase) -> None:
    """`read` gives float32 (S,) with S > 0, finite, within [-1.5, 1.5], not silent, the same every time.

    Prevents: features of integers, of two channels or of another scale, which no error would tell.
    """
    for utterance in case.listed[:N_READ]:
        sound = case.corpus.read(utterance)
        wrong = wrong_kind(sound) or (None if len(sound) else "no sample")
        if wrong is not None:
            raise Broken(
                f"{utterance.id}: {wrong}", "return float32 (S,): average channels, divide integers by full scale"
            )
        if not np.isfinite(sound).all():
            raise Broken(f"{utterance.id}: values that are not finite", "raise a BadAudioError for such sound")
        loudest = float(np.abs(sound).max())
        if loudest > 1.5 or loudest == 0.0:
            raise Broken(f"{utterance.id}: the largest sample is {loudest:g}", "scale so that full scale is 1")
        if not np.array_equal(sound, case.corpus.read(utterance)):
            raise Broken(f"{utterance.id}: another sound the second time", "draw nothing at random, or by the id")


@check(GROUP)
def reading_can_be_cut_short(case: CorpusCase) -> None:
    """`read(utterance, max_duration_s)` gives at most so many seconds, and longer sounds are cut at their end.

    Prevents: utterances of minutes in memory where a recipe asks for their first 7.5 s.
    """
    for utterance in case.listed[:N_READ]:
        whole = case.corpus.read(utterance)
        seconds = len(whole) / SAMPLE_RATE / 2
        cut = case.corpus.read(utterance, seconds)
        wanted = seconds * SAMPLE_RATE
        if not abs(len(cut) - wanted) <= max(2.0, 0.01 * wanted):
            raise Broken(f"{utterance.id}: {len(cut)} samples for {seconds:.3f} s", f"return about {wanted:.0f}")
        same = whole[: len(cut)]
        # a decoder that resamples may differ in its last samples
        if not np.allclose(cut[: len(cut) * 9 // 10], same[: len(cut) * 9 // 10], atol=1e-2):
            raise Broken(f"{utterance.id}: other sound than the beginning", "cut the end, keep the start")


@check(GROUP)
def streaming_follows_the_list(case: CorpusCase) -> None:
    """`stream(skip)` gives utterances in the order of `utterances()` after the first `skip`, with the sound of `read`.

    Prevents: an interrupted extraction that goes on with other utterances than it left off at.
    """
    n = len(case.listed)
    for skip in sorted({0, 1, n - 1, n}):
        found = list(islice(case.corpus.stream(skip), N_READ))
        wanted = case.listed[skip : skip + N_READ]
        if [utterance for utterance, _ in found] != wanted:
            got = [getattr(utterance, "id", utterance) for utterance, _ in found]
            raise Broken(
                f"{got} after skipping {skip}; the list goes on with {[u.id for u in wanted]}", "keep the order"
            )
        for utterance, sound in found:
            if isinstance(sound, np.ndarray) and not np.array_equal(sound, case.corpus.read(utterance)):
                raise Broken(f"{utterance.id}: other sound than read gives", "let stream call read")


@check(GROUP)
def the_fingerprint_is_stable(case: CorpusCase) -> None:
    """`fingerprint()` is a hash in hex, the same for the same content in every corpus object.

    Prevents: features that are made anew in every run, or kept when the corpus has changed.
    """
    found = [case.corpus.fingerprint(), case.make().fingerprint()]
    text = found[0]
    if not isinstance(text, str) or len(text) < 16 or not set(text) <= set("0123456789abcdef"):
        raise Broken(f"{text!r}", "return hashlib.sha256(...).hexdigest()")
    if found[0] != found[1]:
        raise Broken(
            f"{found[0][:12]} and {found[1][:12]}", "hash ids, labels and sizes, no times, addresses or order of sets"
        )


@check(GROUP)
def workers_can_be_given_it(case: CorpusCase) -> None:
    """A corpus can be pickled, and lists the same afterwards.

    Prevents: `repkit corpora check --workers`, and whatever else reads in several processes, that fails at its start.
    """
    try:
        again = pickle.loads(pickle.dumps(case.corpus))
    except Exception as error:
        raise Broken(
            f"{type(error).__name__}: {error}", "keep open files and functions out of the object, or write __getstate__"
        ) from error
    if list(again.utterances()) != case.listed or again.fingerprint() != case.corpus.fingerprint():
        raise Broken("another list or fingerprint", "let __getstate__ keep the settings")
