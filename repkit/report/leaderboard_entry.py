"""What the conditions of a run bring to a leaderboard: score, description, and what speaks against ranking them.

Every score is computed again from the predictions, and every run is shown to have tested the folds it names. Source: own
design.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repkit.api import Fold, Utterance
from repkit.errors import DataError
from repkit.evaluation.audit import unknown_speaker_flags
from repkit.evaluation.intervals import SpeakerCounts, count_by_speaker
from repkit.evaluation.job_files import (
    condition_recipe,
    condition_sources,
    finished_jobs,
    fit_record,
    read_split,
    uses_of_test_audio,
)
from repkit.evaluation.predictions import read_run
from repkit.evaluation.published_split import PublishedSplit, Split, load_split, split_names, utterance_name
from repkit.evaluation.results import score_condition
from repkit.evaluation.run_files import RunFiles, read_json_file, read_run_files
from repkit.runs.directory import canonical_hash

if TYPE_CHECKING:
    import pandas as pd

PROTOCOL = "published_split"
SELF_SUPERVISED = "transformers"
"""The encoder whose weights come from self-supervised training elsewhere: another competition."""
OWN_ENCODERS = ("gru_autoencoder", "gru_encoder", "statistics", "functionals", "opensmile")
"""Encoders without weights from elsewhere; what one of stage one has heard is listed."""
SELECTION = {
    "dev.uar": "dev UAR",
    "dev.wa": "dev accuracy",
    "dev.corpus_uar": "dev UAR",
    "last": "nothing: last epoch",
    "nested": "inner folds of the train and dev speakers",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is not ranked, and why."""

    run: str
    condition: str
    reason: str


@dataclass(slots=True)
class Entry:
    """One condition of a run.

    Attributes:
        group: what it may be ranked with: split (or protocol), view, classes, hash of the reference labels.
        split: the published split, None for a protocol given by its id.
        row: JSON values, as ``repkit leaderboard --json`` prints them.
        parts: of the protocol id.
        counts: right predictions of each speaker, seeds averaged, (1, S, C).
    """

    group: tuple[str, str, tuple[str, ...], str]
    split: Split | None
    row: dict[str, Any]
    parts: Mapping[str, Any]
    counts: SpeakerCounts


def read_entries(
    path: Path, name: str, protocols: Sequence[str], n_resamples: int
) -> tuple[list[Entry], list[Refusal]]:
    """Return what a run's conditions bring, and those that cannot be ranked.

    Args:
        path: run directory of ``repkit train-ser``.
        name: of the run, as the table shows it.
        protocols: ids of protocols that are ranked beside published splits.
        n_resamples: of the bootstrap.

    Raises:
        DataError: files are missing or damaged, or a job had other parts than its published split says.
    """
    files = read_run_files(path)
    kind = str(files.protocol["parts"].get("protocol", {}).get("name"))
    if kind != PROTOCOL and files.protocol_id not in protocols:
        return [], [Refusal(name, "", f"protocol {kind} ({files.protocol_id}) is no published split")]
    state = str(read_json_file(path / "status.json").get("state"))
    table, finished = read_run(path, files.views)
    planned = files.planned_jobs()
    n_missing = len(set(planned) - set(finished))
    if state != "done" or n_missing:
        return [], [Refusal(name, "", f"not finished: {state}, {len(planned) - n_missing} of {len(planned)} jobs")]
    split = published_split_of(files) if kind == PROTOCOL else None
    view = next(iter(files.views))
    rows = table[(table["part"] == "test") & (table["view"] == view) & (table["checkpoint"] == "selected")]
    speaker_of = files.known("speaker")
    if split is not None:
        speaker_of = {str(i): split.speaker_of[utterance_name(str(i))] for i in files.utterances["id"]}
    rows = rows.assign(speaker=rows["id"].map(speaker_of))
    entries, refused = [], []
    for condition in files.conditions:
        reason = _reason_against(files, condition) or _coverage(rows[rows["condition"] == condition], files, split)
        if reason:
            refused.append(Refusal(name, condition, reason))
        else:
            entry = _entry(files, name, condition, view, rows, split, n_resamples)
            entry.row["test_speakers"] = _uses_of_test(files, condition)
            entries.append(entry)
    return entries, refused


def published_split_of(files: RunFiles) -> Split:
    """Return the published split of a run after comparing the parts of every finished job with it.

    Raises:
        DataError: no split, or a job that trained or tested other utterances than the split says.
    """
    given = files.protocol["parts"]["protocol"]
    utterances = [
        Utterance(id=str(i), corpus=str(corpus), speaker=str(speaker))
        for i, corpus, speaker in files.utterances[["id", "corpus", "speaker"]].itertuples(index=False)
    ]
    wanted = given.get("split") or ""
    if wanted and wanted not in split_names():
        raise DataError(f"{files.path}: split {wanted!r} is not in this repkit; install the version that made the run")
    known = {utterance_name(u.id) for u in utterances}
    splits = [load_split(name) for name in split_names() if wanted in ("", name)]
    problems = []
    for split in splits:
        if known.isdisjoint(split.speaker_of):
            continue
        config = PublishedSplit.Config(split=split.name, dev=given.get("dev", "published"))
        wrong = _other_parts(files, PublishedSplit(config).folds(utterances))
        if wrong is None:
            return split
        problems.append(f"job {wrong} has other parts than split {split.name}")
    raise DataError(f"{files.path}: {'; '.join(problems) or 'no published split knows its utterances'}; run again")


def _other_parts(files: RunFiles, folds: Sequence[Fold]) -> str | None:
    """Return the first job whose train, dev or test are not those of the folds."""
    by_name = {fold.name: fold for fold in folds}
    for condition in files.conditions:
        for seed, name, job in finished_jobs(files, condition):
            split, fold = read_split(job), by_name.get(name)
            if fold is None or any(set(split[p]) != set(getattr(fold, p)) for p in ("train", "dev", "test")):
                return f"{condition}/seed_{seed}/{name}"
    return None


def _tables_of(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the training table of each phase of a recipe, or the one."""
    base = recipe.get("training") or {}
    return [{**base, **(phase.get("training") or {})} for phase in recipe.get("phases") or ({},)]


def _optional(path: Path) -> dict[str, Any]:
    return read_json_file(path) if path.exists() else {}


def _reason_against(files: RunFiles, condition: str) -> str | None:
    """Return why a condition is not ranked, None where it is."""
    recipe = condition_recipe(files, condition)
    phases = recipe.get("phases") or ()
    parts = files.protocol["parts"]
    own = (parts.get("selection_of") or {}).get(condition, parts.get("selection"))
    chosen = str(own).split(", ")  # several where phases choose differently
    if "test" in [*chosen, *(table.get("select_by") for table in _tables_of(recipe))]:
        return "its settings were selected on the test folds"
    if any(phase.get("initial", "previous") not in ("previous", "fresh") for phase in phases):
        return "it starts from the weights of another run, whose speakers are not known here"
    sources = condition_sources(files, condition)
    pretrained = [source for source in sources if source.get("encoder") == SELF_SUPERVISED]
    if pretrained:
        names = {str(source.get("model") or source.get("name")) for source in pretrained}
        return f"its vectors come from pretrained self-supervised weights ({', '.join(sorted(names))})"
    if files.infos[condition].has_vector and not sources:
        return "data.json does not say what made its vectors"
    unknown = [flag.removeprefix(f"condition {condition}: ") for flag in unknown_speaker_flags(condition, sources)]
    return "; ".join(unknown) or None


def _coverage(rows: pd.DataFrame, files: RunFiles, split: Split | None) -> str | None:
    """Return what is wrong with the predictions of a condition on a published split: each utterance once per seed."""
    everything = sorted(files.utterances["id"])
    for seed, part in rows.groupby("seed"):
        if split is not None and sorted(part["id"]) != everything:
            return f"seed {seed} does not predict every utterance of {split.name} once"
    if len(rows[["id", "label"]].drop_duplicates()) != rows["id"].nunique():
        return "an utterance has two reference labels"
    return None if len(rows) else "no prediction of the first view"


def _entry(
    files: RunFiles, run: str, condition: str, view: str, table: pd.DataFrame, split: Split | None, n_resamples: int
) -> Entry:
    rows = table[(table["condition"] == condition) & table["label"].notna()]
    classes = files.views[view]
    score = score_condition(rows, classes, n_resamples)
    counts = count_by_speaker(*(rows[c].tolist() for c in ("seed", "speaker", "label", "prediction")), classes)
    # seeds of one system averaged, so that systems of different seeds can be paired: totals are the same for each
    counts = SpeakerCounts(counts.speakers, counts.hits.mean(0, keepdims=True), counts.totals.mean(0, keepdims=True))
    references = {utterance_name(i) if split else i: label for i, label in zip(rows["id"], rows["label"])}
    recipe = condition_recipe(files, condition)
    environment = _optional(files.path / "environment.json")
    jobs = [read_json_file(job / "done.json") for _, _, job in finished_jobs(files, condition)]
    sizes = {int(job["parameters"]) for job in jobs if job.get("parameters")}
    epochs = {int(job["epochs"]) for job in jobs if job.get("epochs")} if not _fitted(files, condition) else set()
    chosen = dict.fromkeys(str(table.get("select_by", "dev.uar")) for table in _tables_of(recipe))
    command = files.path / "command.txt"
    row = {
        "run": run,
        "condition": condition,
        "system": f"{recipe.get('name', files.path.parent.name)}: {condition}",
        "model": _model_words(files, condition, recipe),
        **{key: score[key] for key in ("uar", "uar_pooled", "wa", "n_utterances", "n_speakers", "n_folds", "n_seeds")},
        "interval_note": score["interval_note"],
        "epochs": [min(epochs), max(epochs)] if epochs else None,
        "parameters": [min(sizes), max(sizes)] if sizes else None,
        "heard": _heard(files, condition),
        "pretrained": _pretrained(condition_sources(files, condition)),
        "selection": ", then ".join(SELECTION.get(how, how) for how in chosen),
        "protocol_id": files.protocol_id,
        "date": _date(str(read_json_file(files.path / "status.json").get("time", ""))),
        "repkit": environment.get("repkit"),
        "command": shown_command(command.read_text(encoding="utf-8")) if command.exists() else None,
    }
    name = split.name if split else f"protocol {files.protocol_id}"
    group = (name, view, tuple(classes), canonical_hash(references)[:12])
    return Entry(group, split, row, files.protocol["parts"], counts)


def _model_words(files: RunFiles, condition: str, recipe: Mapping[str, Any]) -> str:
    """Return model and input, for example ``svm (rbf) on opensmile-IS09``."""
    model = recipe.get("model") or {"name": "attentive_cnn"}
    kernel = f" ({model['kernel']})" if "kernel" in model else ""
    vectors = sorted({str(source.get("name", "vectors")) for source in condition_sources(files, condition)})
    # what is fitted in one go reads vectors alone
    frames = [] if _fitted(files, condition) else [str((recipe.get("frontend") or {"name": "log_mel"})["name"])]
    return f"{model['name']}{kernel} on {' + '.join([*frames, *vectors])}"


def _date(stamp: str) -> str | None:
    """Return the day of a time like 20260131T235959Z."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)T", stamp)
    return "-".join(found.groups()) if found else None


def _fitted(files: RunFiles, condition: str) -> bool:
    """Return whether a condition was fitted in one go, without epochs."""
    return any(fit_record(job) is not None for _, _, job in finished_jobs(files, condition))


def _heard(files: RunFiles, condition: str) -> list[str]:
    """Return the unlabelled speech that the condition's encoder has heard."""
    found: dict[str, None] = {}
    for source in condition_sources(files, condition):
        for corpus in source.get("corpora") or ():
            hours = f" ({corpus['hours']:.2f} h)" if "hours" in corpus else ""
            found[f"{corpus.get('name', '?')}{hours}"] = None
    return list(found)


def _pretrained(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return whose weights came from elsewhere, ``"none"`` where none did."""
    found = set()
    for source in sources:
        weights = source.get("weights")
        if source.get("encoder") not in OWN_ENCODERS and weights != "random":
            found.add(str(source.get("encoder", "unknown encoder")) + (f" ({weights})" if weights else ""))
    return ", ".join(sorted(found)) or "none"


def _uses_of_test(files: RunFiles, condition: str) -> list[str]:
    """Return what of the test speakers a condition uses before it predicts; empty for an inductive one."""
    uses = uses_of_test_audio(files, condition)
    if any(table.get("class_weights") == "balanced_all" for table in _tables_of(condition_recipe(files, condition))):
        uses.append("their label counts in the class weights")
    return uses


_ABSOLUTE = r"(?:/(?!/)|~|[A-Za-z]:[\\/])"
"""How an absolute path begins, on any system."""


def shown_command(text: str) -> str:
    """Return a command line without the folders of the machine it was typed on: ``NAME=DATA/emodb``, ``PATH/file``."""
    words = shlex.split(text)
    shown = []
    for before, word in zip(["", *words], words):
        place = (
            "DATA" if before in ("--corpus", "--hold-out") or word.startswith(("--corpus=", "--hold-out=")) else "PATH"
        )
        found = re.fullmatch(rf"(.*?[=:])?({_ABSOLUTE}.*)", word, flags=re.DOTALL)
        if found:
            several = re.split(rf"\+(?={_ABSOLUTE})", found[2])  # stores that are joined
            last = [re.split(r"[\\/]", path.rstrip("\\/"))[-1] for path in several]
            word = f"{found[1] or ''}{'+'.join(f'{place}/{name}' for name in last)}"
        shown.append(word)
    return shlex.join(shown)
