"""McNemar's exact test of two conditions on the same test utterances. Source: gerczuk2021 table 4; McNemar 1947.

One prediction per utterance is needed: the class of the largest mean probability over the seeds, and over the folds
where an utterance is tested in several, that both conditions have finished. Utterances count as independent, which those
of one speaker are not, so that the p-values are too small; the differences of UAR with speakers as the unit
(`repkit.evaluation.differences`) are the house's own measure. Both may disagree: McNemar counts right answers, so that
frequent classes weigh more than in UAR.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.job_files import FoldCorpora, finished_jobs
from repkit.evaluation.predictions import CHECKPOINTS
from repkit.evaluation.run_files import RunFiles

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class JobProbabilities:
    """What one job says of its labelled test utterances in one view and at one checkpoint.

    Attributes:
        ids: n utterances.
        labels: n places of the reference classes.
        values: (n, C) float32.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    values: np.ndarray


def mcnemar(first_right: Sequence[bool] | np.ndarray, second_right: Sequence[bool] | np.ndarray) -> dict[str, Any]:
    """Return the exact two-sided test of two lists of right and wrong answers to the same questions.

    Returns:
        ``only_first`` and ``only_second``: questions that just one of them has right; ``p``: the binomial probability,
        at 1/2, of a split of these at least as uneven, 1 where there are none; ``mark``: ``+`` where the first is right
        more often with p < 0.05, ``-`` where less often, else empty.

    Raises:
        DataError: lists of different lengths.
    """
    from scipy.stats import binomtest

    one, other = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if one.shape != other.shape:
        raise DataError(
            f"McNemar: {one.size} and {other.size} answers; expected answers to the same utterances; "
            "compare only what both have predicted"
        )
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    n = only_first + only_second
    p = float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0
    mark = "" if p >= LEVEL else "+" if only_first > only_second else "-"
    return {"only_first": only_first, "only_second": only_second, "p": p, "mark": mark}


def mcnemar_tests(files: RunFiles, folds: Mapping[str, FoldCorpora]) -> list[dict[str, Any]]:
    """Test every condition against the reference, overall and on each corpus, for each view and checkpoint.

    Args:
        files: of the run; the predictions of finished jobs are read with their probabilities.
        folds: the corpora of each fold's parts, to part what a corpus gives when held out and when trained on.

    Returns:
        per condition, view and checkpoint one entry overall (``corpus`` None) and, in a run of several corpora, one per
        corpus: what `mcnemar` returns (``only_condition`` and ``only_reference`` for first and second), ``n``
        utterances, ``n_seeds`` and ``n_folds`` averaged over, and the accuracy of both.

    Raises:
        DataError: predictions that do not fit the classes of the run.
    """
    reference = files.reference
    if reference is None:
        return []
    base = _read_condition(files, reference)
    corpus_of = files.known("corpus")
    found = []
    for condition in files.conditions:
        if condition == reference or not base:
            continue
        jobs = _read_condition(files, condition)
        shared = [job for job in jobs if job in base]
        for view in files.views:
            for checkpoint in CHECKPOINTS:
                key = (view, checkpoint)
                pairs = {
                    job: (jobs[job][key], base[job][key]) for job in shared if key in jobs[job] and key in base[job]
                }
                head = {"condition": condition, "against": reference, "view": view, "checkpoint": checkpoint}
                found += [{**head, **test} for test in _tests(pairs, folds, corpus_of, len(files.corpora) > 1)]
    return found


def _tests(
    pairs: Mapping[tuple[int, str], tuple[JobProbabilities, JobProbabilities]],
    folds: Mapping[str, FoldCorpora],
    corpus_of: Mapping[str, str],
    by_corpus: bool,
) -> list[dict[str, Any]]:
    """Return the overall test and those of each corpus of the jobs of two conditions."""
    if not pairs:
        return []
    parts: dict[tuple[str | None, bool | None], dict[tuple[int, str], np.ndarray]] = {(None, None): {}}
    for (seed, fold), (one, _) in pairs.items():
        parts[None, None][seed, fold] = np.arange(len(one.ids))
        if not by_corpus:
            continue
        names = np.array([corpus_of.get(i, i.split("/", 1)[0]) for i in one.ids], dtype=object)
        for corpus in sorted(set(names)):
            held_out = folds[fold].holds_out(corpus) if fold in folds else None
            parts.setdefault((corpus, held_out), {})[seed, fold] = np.flatnonzero(names == corpus)
    found = []
    for part in sorted(parts, key=lambda part: (part[0] is not None, part[0] or "", part[1] is True)):
        jobs = parts[part]
        one = _answers((pairs[job][0], places) for job, places in jobs.items())
        other = _answers((pairs[job][1], places) for job, places in jobs.items())
        ids = [i for i in one if i in other]
        if not ids:
            continue
        first, second = np.array([one[i] for i in ids]), np.array([other[i] for i in ids])
        test = mcnemar(first, second)
        found.append(
            {
                "corpus": part[0],
                "held_out": part[1],
                "n": len(ids),
                "n_seeds": len({seed for seed, _ in jobs}),
                "n_folds": len({fold for _, fold in jobs}),
                "accuracy": float(first.mean()),
                "accuracy_reference": float(second.mean()),
                "only_condition": test["only_first"],
                "only_reference": test["only_second"],
                "p": test["p"],
                "mark": test["mark"],
            }
        )
    return found


def _answers(jobs: Iterable[tuple[JobProbabilities, np.ndarray]]) -> dict[str, bool]:
    """Return for each utterance whether the class of the largest mean probability over the jobs is the right one."""
    sums: dict[str, np.ndarray] = {}
    labels: dict[str, int] = {}
    for job, places in jobs:
        for place in places.tolist():
            name = job.ids[place]
            sums[name] = sums[name] + job.values[place] if name in sums else job.values[place].astype(np.float64)
            labels[name] = int(job.labels[place])
    return {name: int(total.argmax()) == labels[name] for name, total in sums.items()}


def _read_condition(files: RunFiles, condition: str) -> dict[tuple[int, str], dict[tuple[str, str], JobProbabilities]]:
    """Return per job and per (view, checkpoint) the probabilities of a condition's labelled test utterances."""
    found = {}
    for seed, fold, job in finished_jobs(files, condition):
        if (job / "predictions.parquet").exists():
            found[seed, fold] = _read_job(job / "predictions.parquet", files.views)
    return found


def _read_job(path: Path, views: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], JobProbabilities]:
    """Read one table; lists become one array at once, which is much faster than row by row."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=["part", "checkpoint", "view", "id", "label", "probabilities"])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise DataError(
            f"{path}: {error}; expected a readable parquet file; delete the folder of this job and run again"
        ) from error
    table = table.filter(pc.and_(pc.equal(table["part"], "test"), pc.is_valid(table["label"])))
    found = {}
    for view, classes in views.items():
        for checkpoint in CHECKPOINTS:
            rows = table.filter(pc.and_(pc.equal(table["view"], view), pc.equal(table["checkpoint"], checkpoint)))
            if not len(rows):
                continue
            values = np.concatenate([chunk.flatten().to_numpy() for chunk in rows["probabilities"].chunks])
            if values.size != len(rows) * len(classes):
                raise DataError(
                    f"{path}, view {view}: {values.size} probabilities of {len(rows)} utterances; expected "
                    f"{len(classes)} each, one per class; write them in the class order of protocol.json"
                )
            places = {name: place for place, name in enumerate(classes)}
            labels = np.array([places[name] for name in rows["label"].to_pylist()])
            shape = (len(rows), len(classes))
            found[view, checkpoint] = JobProbabilities(tuple(rows["id"].to_pylist()), labels, values.reshape(shape))
    return found
