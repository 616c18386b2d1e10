"""Look through a whole corpus: what is in it, how long, and what is wrong with which file."""

from __future__ import annotations

import hashlib
import os
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
from repkit.audio.synthetic import SyntheticCorpus
from repkit.errors import BadAudioError, RepkitError

Progress = Callable[[int, int], None]
"""(done, total) after every few utterances; total is 0 while unknown (streams)."""

_CHUNK = 16


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
    jobs = len(os.sched_getaffinity(0)) if n_jobs is None and hasattr(os, "sched_getaffinity") else n_jobs
    jobs = jobs or os.cpu_count() or 1
    findings: Iterable[tuple[Utterance, int, str, str]]
    if isinstance(corpus, FileCorpus | SyntheticCorpus):
        listed = corpus.utterances()
        total = len(listed)
        findings = (
            _in_processes(corpus, listed, jobs) if jobs > 1 and total > 4 * _CHUNK else _one_by_one(corpus, listed)
        )
    else:
        total = (getattr(corpus, "expected", None) or {}).get("utterances") or 0
        findings = (_look(utterance, sound) for utterance, sound in corpus.stream())
    found: list[tuple[Utterance, int, str, str]] = []
    for finding in findings:
        found.append(finding)
        if progress is not None and (len(found) % _CHUNK == 0 or len(found) == total):
            progress(len(found), total)
    return _report(corpus, found)


def _look(utterance: Utterance, sound: np.ndarray | Exception) -> tuple[Utterance, int, str, str]:
    """Return the utterance, its samples, the hash of its sound, and what is wrong with it."""
    if isinstance(sound, BadAudioError):
        return utterance, 0, "", sound.message
    if isinstance(sound, Exception):
        raise sound
    return utterance, len(sound), hashlib.blake2b(sound.tobytes(), digest_size=16).hexdigest(), ""


def _one_by_one(corpus: Corpus, listed: Sequence[Utterance]) -> Iterator[tuple[Utterance, int, str, str]]:
    for utterance in listed:
        yield _look(utterance, _read(corpus, utterance))


def _read(corpus: Corpus, utterance: Utterance) -> np.ndarray | Exception:
    try:
        return corpus.read(utterance)
    except BadAudioError as error:
        return error


_corpus: Corpus | None = None


def _start(corpus: Corpus) -> None:
    global _corpus
    _corpus = corpus


def _work(utterances: Sequence[Utterance]) -> list[tuple[int, str, str]]:
    if _corpus is None:
        raise RuntimeError("the worker was not given its corpus")
    return [_look(utterance, _read(_corpus, utterance))[1:] for utterance in utterances]


def _in_processes(corpus: Corpus, listed: Sequence[Utterance], jobs: int) -> Iterator[tuple[Utterance, int, str, str]]:
    chunks = [listed[i : i + _CHUNK] for i in range(0, len(listed), _CHUNK)]
    try:
        # spawned, not forked: the parent may hold threads (torch, OpenMP), which a fork would freeze
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=(corpus,)) as pool:
            for chunk, results in zip(chunks, pool.map(_work, chunks), strict=True):
                for utterance, result in zip(chunk, results, strict=True):
                    yield utterance, *result
    except BrokenProcessPool as error:
        raise RepkitError(
            f"corpus {corpus.name}: a process that decodes audio died; possibly memory ran out, or the calling script "
            'lacks `if __name__ == "__main__":`; use n_jobs=1 to decode in this process'
        ) from error


def _report(corpus: Corpus, found: Sequence[tuple[Utterance, int, str, str]]) -> CorpusReport:
    listed = [utterance for utterance, *_ in found]
    lengths = [samples / SAMPLE_RATE for _, samples, _, problem in found if not problem]
    same: dict[str, list[str]] = defaultdict(list)
    for utterance, _, digest, problem in found:
        if not problem:
            same[digest].append(utterance.id)
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
        problems={utterance.id: problem for utterance, _, _, problem in found if problem},
        duplicates=[ids for ids in same.values() if len(ids) > 1],
        warnings=list(dict.fromkeys(notes)),
    )
