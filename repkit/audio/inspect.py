"""Look through a whole corpus: what is in it, how long, and what is wrong with which file."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np

from repkit.api import Corpus, Utterance
from repkit.audio.base import FileCorpus, count_mismatches
from repkit.audio.decode import SAMPLE_RATE
from repkit.audio.folder import FolderCorpus
from repkit.audio.presets import PRESETS
from repkit.audio.synthetic import SyntheticCorpus
from repkit.audio.table import ROLES
from repkit.errors import DataError, RepkitError
from repkit.runs.executors import usable_cores

Progress = Callable[[int, int], None]
"""(done, total) after every few utterances; total is 0 while unknown (streams)."""

FULL_SCALE = 0.999
"""Samples from here on count as clipped: full scale less what a conversion of the rate may take off it."""
CLIPPED_FROM = 1e-3
"""Share of clipped samples from which an utterance is listed. Emo-DB, whose files are all scaled to full scale, has at most
1.1e-4 of them there; overdriven speech has some hundredths. Source: own design."""

_CHUNK = 16


@dataclass(frozen=True, slots=True)
class _Look:
    """One utterance as it was found: samples, hash of its sound, share of clipped samples, what is wrong with it."""

    samples: int = 0
    digest: str = ""
    clipped: float = 0.0
    problem: str = ""


_Finding = tuple[Utterance, _Look]


@dataclass
class CorpusReport:
    """What `check_corpus` found.

    Attributes:
        name: name of the corpus.
        fingerprint: its fingerprint.
        licence: terms of use, empty if unknown.
        utterances: number of utterances listed.
        usable: number whose sound can be used.
        hours: length of the usable ones.
        shortest_s: shortest usable utterance in seconds, 0 if there is none.
        longest_s: longest usable utterance in seconds.
        speakers: number of speakers.
        genders: gender ("" unknown) to number of speakers.
        languages: language to utterances.
        emotions: emotion ("" unlabelled) to gender ("" unknown) to utterances.
        rated: utterances with ratings of arousal or valence.
        problems: utterance id to what is wrong with its sound.
        duplicates: groups of ids with the same sound, sample by sample.
        clipped: utterance id to the share (0 to 1) of its samples at full scale, where it is `CLIPPED_FROM` or more.
        warnings: mismatches with published counts and other things to know.
    """

    name: str
    fingerprint: str
    licence: str = ""
    utterances: int = 0
    usable: int = 0
    hours: float = 0.0
    shortest_s: float = 0.0
    longest_s: float = 0.0
    speakers: int = 0
    genders: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    emotions: dict[str, dict[str, int]] = field(default_factory=dict)
    rated: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    duplicates: list[list[str]] = field(default_factory=list)
    clipped: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every utterance's sound can be used."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def check_corpus(corpus: Corpus, n_jobs: int | None = None, progress: Progress | None = None) -> CorpusReport:
    """Decode every utterance of a corpus and report.

    Files are decoded in `n_jobs` processes; corpora that hand their sound out in order (hub, parquet) in this one.

    Args:
        corpus: any corpus.
        n_jobs: number of processes, None for all cores this process may use.
        progress: called with (done, total).

    Raises:
        DataError: the corpus cannot be listed at all.
    """
    jobs = n_jobs or usable_cores()
    findings: Iterable[_Finding]
    if isinstance(corpus, FileCorpus | SyntheticCorpus):
        listed = corpus.utterances()
        total = len(listed)
        findings = (
            _in_processes(corpus, listed, jobs) if jobs > 1 and total > 4 * _CHUNK else _one_by_one(corpus, listed)
        )
    else:
        total = (getattr(corpus, "expected", None) or {}).get("utterances") or 0
        findings = ((utterance, _look(sound)) for utterance, sound in corpus.stream())
    found: list[_Finding] = []
    for finding in findings:
        found.append(finding)
        if progress is not None and (len(found) % _CHUNK == 0 or len(found) == total):
            progress(len(found), total)
    return _report(corpus, found)


def _look(sound: np.ndarray | Exception) -> _Look:
    if isinstance(sound, DataError):
        return _Look(problem=sound.message)
    if isinstance(sound, Exception):
        raise sound
    digest = hashlib.blake2b(sound.tobytes(), digest_size=16).hexdigest()
    return _Look(len(sound), digest, float(np.mean(np.abs(sound) >= FULL_SCALE)))


def _one_by_one(corpus: Corpus, listed: Sequence[Utterance]) -> Iterator[_Finding]:
    for utterance in listed:
        yield utterance, _look(_read(corpus, utterance))


def _read(corpus: Corpus, utterance: Utterance) -> np.ndarray | Exception:
    try:
        return corpus.read(utterance)
    except DataError as error:  # what the system did not let us read too: nothing is recorded here
        return error


_corpus: Corpus | None = None


def _start(corpus: Corpus) -> None:
    global _corpus
    _corpus = corpus


def _work(utterances: Sequence[Utterance]) -> list[_Look]:
    if _corpus is None:
        raise RuntimeError("the worker was not given its corpus")
    return [_look(_read(_corpus, utterance)) for utterance in utterances]


def _in_processes(corpus: Corpus, listed: Sequence[Utterance], jobs: int) -> Iterator[_Finding]:
    chunks = [listed[i : i + _CHUNK] for i in range(0, len(listed), _CHUNK)]
    try:
        # spawned, not forked: the parent may hold threads (torch, OpenMP), which a fork would freeze
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=(corpus,)) as pool:
            for chunk, results in zip(chunks, pool.map(_work, chunks), strict=True):
                yield from zip(chunk, results, strict=True)
    except BrokenProcessPool as error:
        raise RepkitError(
            f"corpus {corpus.name}: a process that decodes audio died; possibly memory ran out, or the calling script "
            'lacks `if __name__ == "__main__":`; use n_jobs=1 to decode in this process'
        ) from error


def _report(corpus: Corpus, found: Sequence[_Finding]) -> CorpusReport:
    listed = [utterance for utterance, _ in found]
    usable = [(utterance, look) for utterance, look in found if not look.problem]
    lengths = [look.samples / SAMPLE_RATE for _, look in usable]
    same: dict[str, list[str]] = defaultdict(list)
    for utterance, look in usable:
        same[look.digest].append(utterance.id)
    speakers = {u.speaker: u.gender for u in listed if u.speaker is not None}
    emotions: dict[str, Counter[str]] = defaultdict(Counter)
    for u in listed:
        emotions[u.emotion or ""][u.gender or ""] += 1
    notes = [*getattr(corpus, "notes", []), *count_mismatches(corpus.name, listed, getattr(corpus, "expected", None))]
    labelled = [u for u in listed if u.emotion is not None or u.arousal is not None or u.valence is not None]
    nameless = sum(1 for u in labelled if u.speaker is None)
    if nameless:
        notes.append(
            f"corpus {corpus.name}: {nameless} labelled utterances have no speaker, so no fold can be fair to them"
        )
    if not labelled:
        notes += no_labels(corpus, listed)
    return CorpusReport(
        name=corpus.name,
        fingerprint=corpus.fingerprint(),
        licence=getattr(corpus, "licence", ""),
        utterances=len(listed),
        usable=len(lengths),
        hours=sum(lengths) / 3600,
        shortest_s=min(lengths, default=0.0),
        longest_s=max(lengths, default=0.0),
        speakers=len(speakers),
        genders=dict(sorted(Counter(gender or "" for gender in speakers.values()).items())),
        languages=dict(sorted(Counter(u.language or "" for u in listed).items())),
        emotions={emotion: dict(sorted(counts.items())) for emotion, counts in sorted(emotions.items())},
        rated=sum(1 for u in listed if u.arousal is not None or u.valence is not None),
        problems={utterance.id: look.problem for utterance, look in found if look.problem},
        duplicates=[ids for ids in same.values() if len(ids) > 1],
        clipped={u.id: look.clipped for u, look in usable if look.clipped >= CLIPPED_FROM},
        warnings=list(dict.fromkeys(notes)),
    )


def no_labels(corpus: Corpus, listed: Sequence[Utterance]) -> list[str]:
    """Return a sentence on where labels were looked for in a corpus of one's own that has none; nothing for other corpora.

    Args:
        corpus: whose utterances have neither an emotion nor a rating.
        listed: its utterances.
    """
    config = getattr(corpus, "config", None)
    if corpus.name in PRESETS or not (isinstance(corpus, FolderCorpus) or hasattr(config, "columns")):
        return []
    start = f"corpus {corpus.name}: no utterance has an emotion or a rating; for speech to be pretrained on that is no fault"
    if getattr(config, "pattern", None) is not None:
        return [f"{start}; labels are read from file names by a group (?P<emotion>...) in the pattern"]
    given = getattr(config, "columns", {}).get("emotion")
    if given:
        return [f"{start}; the column {given!r} is empty in every row"]
    asked = getattr(corpus, "unused_columns", None)
    others = asked() if asked else list(dict.fromkeys(name for utterance in listed for name in utterance.extra))
    columns = f"the columns not used are {', '.join(others)}" if others else "the table has no further column"
    return [
        f"{start}; no column called {' or '.join(ROLES['emotion'])} with anything in it was found, {columns}; name the one "
        f"with the labels: --corpus-set {corpus.name}.columns.emotion=COLUMN"
    ]
