"""Scores of a run from its predictions alone: results.json.

All scores are shares from 0 to 1; the report prints percent. Two UAR are given. ``uar`` is the paper's: mean over folds
for each seed, then mean, minimum, maximum and sample standard deviation over seeds (neumann2019 sheet, trap 10).
``uar_pooled`` is computed once over all test utterances of a seed; its interval and all differences are of this one,
because small folds lack classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repkit.errors import DataError
from repkit.evaluation.corpus_scores import adjust_all, carry_over, compare_corpora, corpus_parts, score_corpora
from repkit.evaluation.differences import differences
from repkit.evaluation.intervals import bootstrap, count_by_speaker
from repkit.evaluation.job_files import FoldCorpora, fold_corpora, transductive_conditions
from repkit.evaluation.mcnemar import mcnemar_tests
from repkit.evaluation.metrics import confusion_matrix, macro_f1_of, recalls, uar_of, wa_of
from repkit.evaluation.predictions import CHECKPOINTS, read_run
from repkit.evaluation.probe import probe_run
from repkit.evaluation.run_files import RunFiles, read_run_files

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2
GROUPS = ("gender", "speaker", "corpus", "language")
WORST_NEEDS = 10
"""Utterances a group needs to be named the worst."""


def score_run(run_dir: str | Path, *, n_resamples: int = 2000) -> dict[str, Any]:
    """Score a run, write ``results.json`` into it and return what was written; see `compute_results`."""
    from repkit.runs.atomic import write_json_atomic

    results = compute_results(run_dir, n_resamples=n_resamples)
    write_json_atomic(Path(run_dir) / "results.json", results)
    return results


def compute_results(run_dir: str | Path, *, n_resamples: int = 2000, probes: bool = True) -> dict[str, Any]:
    """Score what a run has predicted so far.

    Args:
        run_dir: the run directory; only protocol.json, resolved.json, utterances.parquet and jobs/ are read.
        n_resamples: of the bootstrap.
        probes: probe the last hidden layer and test by McNemar too, which take most of the time.

    Returns:
        JSON values as docs/run-format.md lists them.

    Raises:
        DataError: a file of the run is missing or breaks its schema.
    """
    files = read_run_files(run_dir)
    table, finished = read_run(files.path, files.views)
    planned = files.planned_jobs()
    missing = [job for job in planned if job not in set(finished)]
    test = table[(table["part"] == "test") & table["label"].notna()]
    test = test.merge(_speaker_columns(files), left_on="id", right_index=True, how="left", validate="many_to_one")
    _check_speakers(test, files)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": files.recipe.get("name"),
        "protocol_id": files.protocol_id,
        "complete": not missing,
        "n_jobs": {"planned": len(planned), "finished": len(planned) - len(missing)},
        "missing_jobs": missing,
        "n": {
            "utterances": int(test["id"].nunique()),
            "speakers": int(test["speaker"].nunique()),
            "folds": int(test["fold"].nunique()),
            "seeds": int(test["seed"].nunique()),
            "conditions": int(test["condition"].nunique()),
        },
        "reference": files.reference,
        "conditions": _describe(files),
        "views": {view: list(classes) for view, classes in files.views.items()},
        "bootstrap": {"unit": "speaker", "n_resamples": n_resamples, "level": 0.95},
        "scores": [],
        "differences": [],
        "groups": [],
        "corpora": [],
        "corpus_means": [],
        "corpus_differences": [],
        "corpus_mean_differences": [],
        "matrix": [],
    }
    folds = fold_corpora(files)
    for view, classes in files.views.items():
        for checkpoint in CHECKPOINTS:
            rows = test[(test["view"] == view) & (test["checkpoint"] == checkpoint)]
            parts = {name: rows[rows["condition"] == name] for name in files.conditions}
            parts = {name: part for name, part in parts.items() if len(part)}
            where = {"protocol_id": files.protocol_id, "view": view, "checkpoint": checkpoint}
            for name, part in parts.items():
                jobs = {f"{name}/seed_{s}/{fold}" for s in files.seeds for fold in files.folds}
                complete = jobs.isdisjoint(missing)
                head = {"condition": name, **where, "complete": complete}
                results["scores"].append({**head, **score_condition(part, classes, n_resamples)})
                results["groups"] += [{**head, **group} for group in score_groups(part, classes, n_resamples)]
            results["differences"] += [
                {**where, **found} for found in differences(parts, files.infos, classes, n_resamples)
            ]
            for key, found in _corpora(files, parts, folds, classes, n_resamples).items():
                results[key] += [{**where, **one} for one in found]
    tests = mcnemar_tests(files, folds) if probes else []
    results["mcnemar"] = [{"protocol_id": files.protocol_id, **test} for test in tests]
    results["probes"], results["probe_notes"] = probe_run(files) if probes else ([], [])
    return results


def _describe(files: RunFiles) -> list[dict[str, Any]]:
    heard = transductive_conditions(files)
    return [
        {
            "name": name,
            "role": info.role,
            "has_vector": info.has_vector,
            "settings": dict(info.settings),
            "twin": info.twin,
            "transductive": name in heard,
        }
        for name, info in files.infos.items()
    ]


def _corpora(
    files: RunFiles,
    parts: Mapping[str, pd.DataFrame],
    folds: Mapping[str, FoldCorpora],
    classes: Sequence[str],
    n_resamples: int,
) -> dict[str, list[dict[str, Any]]]:
    """Return what `repkit.evaluation.corpus_scores` gives for one view and checkpoint, by key of the results."""
    found: dict[str, list[dict[str, Any]]] = {"corpora": [], "corpus_means": [], "matrix": []}
    differ: list[dict[str, Any]] = []
    differ_means: list[dict[str, Any]] = []
    if all("corpus" not in part for part in parts.values()):
        return found
    by_corpus = {name: corpus_parts(part, folds) for name, part in parts.items()}
    for name, of in by_corpus.items():
        scores, means = score_corpora(of, classes, n_resamples)
        found["corpora"] += [{"condition": name, **score} for score in scores]
        found["corpus_means"] += [{"condition": name, **mean} for mean in means]
        if len(files.corpora) < 2:
            continue
        matrix = carry_over(parts[name], folds, classes, files.corpora)
        found["matrix"] += [{"condition": name, **matrix}] if matrix else []
        if name != files.reference and files.reference in by_corpus:
            head = {"condition": name, "against": files.reference}
            rows, over = compare_corpora(of, by_corpus[files.reference], classes, n_resamples)
            differ += [{**head, **row} for row in rows]
            differ_means += [{**head, **mean} for mean in over]
    adjust_all(differ, differ_means)
    return {**found, "corpus_differences": differ, "corpus_mean_differences": differ_means}


def score_condition(rows: pd.DataFrame, classes: Sequence[str], n_resamples: int) -> dict[str, Any]:
    """Return the scores of one condition, view and checkpoint.

    Args:
        rows: columns seed, fold, id, label, prediction, speaker.
        classes: C classes.
        n_resamples: of the bootstrap.
    """
    seeds: dict[str, dict[str, Any]] = {}
    by_fold: dict[str, dict[str, float]] = {}
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for seed, part in rows.groupby("seed", sort=True):
        folds, matrices = _confusions(part, classes)
        pooled = matrices.sum(axis=0)
        total += pooled
        by_fold[str(seed)] = dict(zip(folds, uar_of(matrices).tolist()))
        seeds[str(seed)] = {
            "uar": float(np.mean(uar_of(matrices))),
            "uar_pooled": float(uar_of(pooled)),
            "wa": float(wa_of(pooled)),
            "macro_f1": float(macro_f1_of(pooled)),
            "n_folds": len(folds),
            "n_utterances": len(part),
        }
    counts = count_by_speaker(*(rows[c].tolist() for c in ("seed", "speaker", "label", "prediction")), classes)
    summary = {
        name: _over_seeds(one[name] for one in seeds.values()) for name in ("uar", "uar_pooled", "wa", "macro_f1")
    }
    for name, statistic in (("uar_pooled", "uar"), ("wa", "wa")):
        interval = bootstrap(counts, statistic=statistic, n_resamples=n_resamples)  # type: ignore[arg-type]
        summary[name].update({"low": interval.low, "high": interval.high})
    # absent classes stay None: a recall of zero would be a claim
    mean_recalls = [None if np.isnan(r) else float(r) for r in recalls(total)]
    return {
        "n_utterances": int(rows["id"].nunique()),
        "n_speakers": int(rows["speaker"].nunique()),
        "n_folds": int(rows["fold"].nunique()),
        "n_seeds": len(seeds),
        **summary,
        "interval_note": interval.note,
        "recall": dict(zip(classes, mean_recalls)),
        "confusion": total.tolist(),
        "seeds": seeds,
        "uar_by_fold": by_fold,
    }


def score_groups(rows: pd.DataFrame, classes: Sequence[str], n_resamples: int) -> list[dict[str, Any]]:
    """Return pooled UAR and WA of each speaker, gender, and corpus and language where there are several.

    The worst group of each kind is marked; only groups of at least 10 utterances can be it, if there are such.
    Groups of several speakers get the speaker-bootstrap interval.
    """
    found = []
    for kind in GROUPS:
        if kind not in rows or (kind != "speaker" and rows[kind].nunique() < 2):
            continue
        of_kind = []
        for name, part in rows.groupby(kind, sort=True):
            counts = count_by_speaker(*(part[c].tolist() for c in ("seed", "speaker", "label", "prediction")), classes)
            uar = asdict(bootstrap(counts, n_resamples=n_resamples if kind != "speaker" else 1))
            right = (part["label"] == part["prediction"]).groupby(part["seed"]).mean()
            of_kind.append(
                {
                    "kind": kind,
                    "group": str(name),
                    "n_utterances": int(part["id"].nunique()),
                    "n_speakers": int(part["speaker"].nunique()),
                    "uar": uar["value"],
                    "low": uar["low"],
                    "high": uar["high"],
                    "wa": float(right.mean()),
                    "worst": False,
                }
            )
        enough = [group for group in of_kind if group["n_utterances"] >= WORST_NEEDS] or of_kind
        min(enough, key=lambda group: (group["uar"], group["group"]))["worst"] = len(of_kind) > 1
        found += of_kind
    return found


def _over_seeds(values: Iterable[float]) -> dict[str, float | None]:
    numbers = np.array(list(values))
    return {
        "mean": float(numbers.mean()),
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "sd": float(numbers.std(ddof=1)) if numbers.size > 1 else None,
    }


def _confusions(rows: pd.DataFrame, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the folds and their confusion matrices (folds, C, C)."""
    folds = sorted(rows["fold"].unique().tolist())
    # fold and class in one name: all folds are counted in one pass, and only the blocks on the diagonal are filled
    names = [f"{fold}/{name}" for fold in folds for name in classes]
    matrix = confusion_matrix(
        (rows["fold"] + "/" + rows["label"]).tolist(), (rows["fold"] + "/" + rows["prediction"]).tolist(), names
    )
    blocks = matrix.reshape(len(folds), len(classes), len(folds), len(classes))
    return folds, blocks[np.arange(len(folds)), :, np.arange(len(folds)), :]


def _speaker_columns(files: RunFiles) -> pd.DataFrame:
    return files.utterances[[name for name in GROUPS if name in files.utterances.columns]]


def _check_speakers(test: pd.DataFrame, files: RunFiles) -> None:
    strange = test[~test["id"].isin(files.utterances.index)]
    if len(strange):
        raise DataError(
            f"{files.path}: utterance {strange['id'].iloc[0]!r} is predicted but not in utterances.parquet; expected "
            "all of them there; the files are of different runs: run again"
        )
