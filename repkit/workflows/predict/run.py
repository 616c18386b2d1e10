"""``repkit predict``: the models of a finished run on new speech.

Every job predicts; the probabilities are their mean. The models of a run differ in seed and in the speakers that their fold
has left out, so together they are an ensemble over folds and seeds. Source: own design.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from repkit.api import MISSING, Encoder
from repkit.errors import DataError, UsageError, did_you_mean
from repkit.features.normalise import TRANSDUCTIVE
from repkit.plugins.blaming import blaming
from repkit.plugins.discover import name_of_origin
from repkit.runs.device import settle_device
from repkit.training.data import FoldData, RaggedTensor, Segments, TrainingData
from repkit.training.loop import predict as apply_model
from repkit.training.loop import prediction_batch
from repkit.workflows.predict.encoders import open_parts
from repkit.workflows.predict.notes import idle_notes, sound_notes, vectors_by, warn_caller
from repkit.workflows.predict.saved_jobs import Chosen, SavedJob, choose_jobs, version_notes
from repkit.workflows.predict.sounds import Prepared, Sound, Sounds, collect, denormals_as_zero, normalise, prepare
from repkit.workflows.train_ser.saved import MODEL, frontend_table, load_statistics
from repkit.workflows.train_ser.states import BY_TIME

AT_ONCE = 1024
"""Sounds framed and judged together, where none of them bears on another; memory holds no more (own design)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which models predict, and what is known of the sounds; each is an argument of `predict`.

    Attributes:
        condition: whose models; None for the run's reference.
        seeds: of the models; empty for all.
        folds: of the models; empty for all.
        encoders: specifications, or encoders.
        same_speaker: all sounds are of one speaker.
        same_corpus: all sounds are of one corpus.
        as_corpus: corpus of the run whose own parts are used.
        device: see `repkit.runs.device.settle_device`.
    """

    condition: str | None = None
    seeds: tuple[int, ...] = ()
    folds: tuple[str, ...] = ()
    encoders: tuple[str | os.PathLike[str] | Encoder, ...] = ()
    same_speaker: bool = False
    same_corpus: bool = False
    as_corpus: str | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the models of a run say of new speech.

    Attributes:
        table: one row per sound and view, in the order of the sounds; see `predict`.
        condition: whose models.
        n_models: how many.
        notes: what a user must know, a sentence each.
        bad: name and reason of each sound that could not be used.
    """

    table: pd.DataFrame
    condition: str
    n_models: int
    notes: tuple[str, ...]
    bad: Mapping[str, str]


def predict(
    run: str | os.PathLike[str],
    sounds: Sounds,
    *,
    sample_rate: int = 16000,
    condition: str | None = None,
    seeds: int | Sequence[int] = (),
    folds: str | Sequence[str] = (),
    encoders: str | os.PathLike[str] | Encoder | Sequence[str | os.PathLike[str] | Encoder] = (),
    same_speaker: bool = False,
    same_corpus: bool = False,
    as_corpus: str | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Predict the classes of new speech with all models of a run of ``repkit train-ser``.

    Sounds are decoded, framed, encoded and standardised as the corpora were that the models were trained on; of those, nothing
    is needed. Probabilities are the mean over the models: an ensemble over folds and seeds (own design).

    Example:
        >>> table = predict("runs/attentive_cnn/TIME_SIGNATURE", ["new.wav"])  # doctest: +SKIP

    Args:
        run: run directory of train-ser; one that is not finished gives the models that it has.
        sounds: audio files of any rate and number of channels, folders of such, or mono waveforms (S,) of floating-point
            numbers at `sample_rate`, full scale 1; one of them alone, or the rows of an array (n, S).
        sample_rate: of the waveforms, per second.
        condition: whose models; None for the run's reference.
        seeds: of the models to use, or one; empty for all.
        folds: of the models to use, or one; empty for all.
        encoders: for conditions with embeddings: what made them, as given to ``repkit embed --encoder``, or encoders; or one.
        same_speaker: all sounds are of one speaker; needed where the run standardises by speaker.
        same_corpus: all sounds are of one corpus (one room, one microphone); needed where the run standardises by corpus.
        as_corpus: corpus of the run whose own parts or weights to use, where models have such.
        device: ``"cpu"``, ``"cuda"``, ``"auto"`` or another name of `repkit.runs.device.settle_device`.

    Returns:
        one row per sound and view: ``file`` (the path as given, ``sound_0`` ... of arrays), ``view``, ``prediction`` (class of
        the largest probability), ``p_<class>`` of each class (NaN where the view has no such class), ``agreement`` (share of the
        models whose own prediction is this), ``n_models``, ``error``. A sound that cannot be used has NaN, and why in ``error``.

    Raises:
        DataError: no run, no model in it, a run of a version that did not keep what is needed, or no usable sound.
        UsageError: an unknown condition, seed, fold or corpus; an encoder that is missing or another; sounds of several
            speakers or corpora where the run needs one.

    Warns:
        RepkitWarning: what `Predictions.notes` says, and sounds that could not be used.
    """
    some = (_several(seeds), _several(folds), _several(encoders))
    choice = Choice(condition, *some, same_speaker, same_corpus, as_corpus, device)
    found = apply_run(run, sounds, choice, sample_rate)
    bad = (f"{len(found.bad)} sounds cannot be used, first: {next(iter(found.bad.values()))}",) if found.bad else ()
    for note in (*found.notes, *bad):
        warn_caller(note)
    return found.table


def _several(given: Any) -> tuple[Any, ...]:
    """Return what was given, one alone or several, as a tuple; a text would else be taken for its letters."""
    if given is None:
        return ()
    alone = isinstance(given, str | os.PathLike) or not hasattr(given, "__iter__") or hasattr(given, "encode")
    return (given,) if alone else tuple(given)


def apply_run(
    run: str | os.PathLike[str],
    sounds: Sounds,
    choice: Choice,
    sample_rate: int = 16000,
    progress: Callable[[int, float], None] = lambda n, hours: None,
) -> Predictions:
    """Return what `predict` returns, with all that must be known of it.

    Args:
        run: see `predict`.
        sounds: see `predict`.
        choice: which models, and what is known of the sounds.
        sample_rate: of waveforms, per second.
        progress: called with the number of sounds decoded and encoded, and the hours heard.

    Raises:
        DataError: see `predict`.
        UsageError: see `predict`.
    """
    chosen = choose_jobs(Path(run).expanduser(), choice.condition, choice.seeds, choice.folds)
    first = chosen.jobs[0].description
    _check_groups(first, choice.same_speaker, choice.same_corpus)
    _check_states(chosen.jobs[0])
    corpus, jobs, corpus_notes = _of_corpus(chosen, choice.as_corpus)
    where = settle_device(choice.device)
    frontend = _frontend(chosen.jobs[0])
    given = [os.fspath(one) if isinstance(one, str | os.PathLike) else one for one in choice.encoders]
    parts = open_parts(first["embeddings"], given, chosen.condition, str(where))
    listed = collect(sounds, sample_rate)
    table = first["frontend"]
    done = [0, 0.0]

    def told(n: int, hours: float) -> None:
        done[:] = done[0] + n, done[1] + hours
        progress(int(done[0]), done[1])

    rows: list[dict[str, Any]] = []
    bad: dict[str, str] = {}
    cut: dict[str, float] = {}
    n_used = 0
    for some in _blocks(listed, first):
        each = []
        with denormals_as_zero():
            made = prepare(some, frontend, table["dtype"], first["max_duration_s"], parts, told)
            if made.names:
                data = _data(first, made, corpus).to(where)
                each = [_apply(job, data, corpus, where) for job in jobs]
        rows += _rows([sound.name for sound in some], made, first["views"], each)
        bad, cut, n_used = bad | made.bad, cut | made.cut, n_used + len(made.names)
    if not n_used:
        raise DataError(
            f"predict: none of {len(listed)} sounds can be used; speech of at least one frame was expected",
            list(bad.values())[:20],
        )
    notes = [
        *chosen.notes,
        *corpus_notes,
        *dict.fromkeys(
            note for job in jobs for note in version_notes(job)
        ),  # a run may have been continued with others
        *idle_notes(first, same_speaker=choice.same_speaker, same_corpus=choice.same_corpus),
        *sound_notes(first, cut, n_used, len(listed)),
    ]
    return Predictions(pd.DataFrame(rows), chosen.condition, len(jobs), tuple(notes), bad)


def _blocks(sounds: Sequence[Sound], description: Mapping[str, Any]) -> list[Sequence[Sound]]:
    """Return the sounds in parts; in one where statistics are those of all of them."""
    together = description["normalisation"]["mode"] in TRANSDUCTIVE or vectors_by(description) is not None
    step = len(sounds) if together else AT_ONCE
    return [sounds[start : start + step] for start in range(0, len(sounds), step)]


def _check_groups(description: Mapping[str, Any], same_speaker: bool, same_corpus: bool) -> None:
    """Refuse to take the statistics of a speaker or corpus of sounds that may be of several."""
    mode, by = description["normalisation"]["mode"], vectors_by(description)
    told = {"per_speaker": same_speaker, "per_corpus": same_corpus}
    for what, key, other in (("frames", mode, "normalisation.mode=global_train"), ("vectors", by, "vector.by=train")):
        if key in TRANSDUCTIVE and not told[key]:
            one = "speaker" if key == "per_speaker" else "corpus"
            more = (
                "" if one == "speaker" else " (one room, one microphone, a mix of speakers and emotions as in a corpus)"
            )
            raise UsageError(
                f"normalisation {key}: the {what} of this run are standardised by mean and deviation of all utterances of a "
                f"{one}, which one recording does not tell; several sounds of one {one}{more} were expected; give them "
                f"together with --same-{one}, or train a run with --set {other}"
            )


def _check_states(job: SavedJob) -> None:
    """Refuse models that have learned from states laid beside other frames than they are now."""
    embeddings = job.description["embeddings"]
    if embeddings is not None and embeddings["level"] == "frame" and embeddings.get("states") != BY_TIME:
        raise DataError(
            f"{job.folder / MODEL}: trained by an earlier repkit, which laid all states of an utterance beside all its frames "
            "also where they were not of the same time; states joined by time were expected; train again"
        )


def _of_corpus(chosen: Chosen, as_corpus: str | None) -> tuple[str | None, Sequence[SavedJob], list[str]]:
    """Return the corpus whose parts are used, the jobs that have trained them, and what to say of it."""
    description = chosen.jobs[0].description
    corpora = list(description["task"]["corpora"])
    if not description["per_corpus"]:
        if as_corpus is not None:
            raise UsageError(
                f"--as-corpus {as_corpus}: the models of condition {chosen.condition!r} have no parts of single corpora; none "
                "was expected; leave it out"
            )
        return None, chosen.jobs, []
    if as_corpus is None and len(corpora) > 1:
        raise UsageError(
            f"condition {chosen.condition!r}: its models have parts or weights for each corpus; one of {', '.join(corpora)} was "
            "expected; give the one most like the new speech with --as-corpus"
        )
    corpus = corpora[0] if as_corpus is None else as_corpus
    if corpus not in corpora:
        raise UsageError(
            f"--as-corpus {corpus}: no corpus of this run{did_you_mean(corpus, corpora)}; one of {', '.join(corpora)} was expected"
        )
    jobs = [job for job in chosen.jobs if job.heard(corpus)]
    if not jobs:
        raise UsageError(
            f"--as-corpus {corpus}: none of the {len(chosen.jobs)} models was trained on it; a corpus of the train part of a "
            f"fold was expected; choose another of {', '.join(corpora)}"
        )
    left = len(chosen.jobs) - len(jobs)
    return corpus, jobs, [f"{left} models are left out, which were not trained on {corpus}"] if left else []


def _frontend(job: SavedJob) -> Any:
    table = job.description["frontend"]
    # what was trained with tells which one it is, whoever else claims the name by now
    name = name_of_origin("repkit.frontends", table["name"], table["component"])
    frontend, now = frontend_table(name, table["settings"])
    if now["convention_sha256"] != table["convention_sha256"]:
        raise DataError(
            f"{job.folder}: frontend {table['name']} of {table['component']} made other frames than that of {now['component']}, "
            "which is installed; the same was expected; install that version, or train again"
        )
    return frontend


def _data(description: Mapping[str, Any], made: Prepared, corpus: str | None) -> TrainingData:
    n, by = len(made.names), vectors_by(description)
    if by is not None and n < 2:
        raise UsageError(
            f"vector.by {by}: {n} usable sound; at least two were expected, for a single vector minus its mean is nothing; give more"
        )
    frames = normalise(made, description["normalisation"]["mode"], by)
    states = None
    if made.states:
        offsets = np.cumsum([0, *(len(one) for one in made.states)])
        states = RaggedTensor(torch.from_numpy(np.concatenate(made.states)), torch.from_numpy(offsets))
    task, segments = description["task"], description["segments"]
    return TrainingData(
        ids=made.names,
        frames=frames,
        targets={view: torch.full((n,), MISSING) for view in (*description["views"], *description["auxiliary"])},
        vectors=None if made.vectors is None else torch.from_numpy(made.vectors),
        states=states,
        corpora=torch.full((n,), list(task["corpora"]).index(corpus) if corpus is not None else 0),
        segments=None if segments is None else Segments.cut(frames.lengths, segments["n_frames"], segments["step"]),
    )


def _apply(job: SavedJob, data: TrainingData, corpus: str | None, device: torch.device) -> dict[str, np.ndarray]:
    """Return the probabilities (n, C) float32 of each view by one model."""
    n = len(data.ids)
    statistics = load_statistics(job.statistics, n)
    parts = (statistics.frames, statistics.vectors, statistics.states)
    frames, vectors, states = (None if part is None else part.to(device) for part in parts)
    fold = FoldData(data, standardise_frames=frames, standardise_vectors=vectors, standardise_states=states)
    model = job.model(corpus).to(device)
    with blaming("repkit.models", job.component):
        # one that hears padding judges each sound alone, so that what it says does not depend on the others
        found, _ = apply_model(
            model, fold, torch.arange(n), prediction_batch(model, 1), crop=job.description["crop_frames"]
        )
    values = {view: found[view].numpy() for view in job.description["views"]}
    for view, probabilities in values.items():
        wrong = np.flatnonzero(~np.isfinite(probabilities).all(1))
        if len(wrong):
            raise DataError(
                f"{job.folder}: probabilities of {view} that are not finite, first for {data.ids[wrong[0]]}; numbers were "
                "expected; leave this model out with --seed and --fold, or the sound"
            )
    return values


def _rows(
    names: Sequence[str], made: Prepared, views: Mapping[str, Sequence[str]], each: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """Return the rows of `predict` from the probabilities (n, C) by view of each model; no model where no sound can be used."""
    columns = list(dict.fromkeys(c for classes in views.values() for c in classes))
    place = {name: row for row, name in enumerate(made.names)}
    # of each view: mean over the models, winner, share of the models that have the same winner
    found = {}
    for view in views if each else ():
        stacked = np.stack([probabilities[view] for probabilities in each]).astype(np.float64)
        mean = stacked.mean(axis=0)
        winner = mean.argmax(axis=1)
        found[view] = (mean, winner, (stacked.argmax(axis=2) == winner).mean(axis=0))
    rows = []
    for name in names:
        for view, classes in views.items():
            row: dict[str, Any] = {"file": name, "view": view, "prediction": None}
            row |= {f"p_{c}": np.nan for c in columns} | {
                "agreement": np.nan,
                "n_models": 0,
                "error": made.bad.get(name),
            }
            if name in place:
                mean, winner, agreement = (part[place[name]] for part in found[view])
                row |= {"prediction": classes[int(winner)], "agreement": float(agreement), "n_models": len(each)}
                row |= {f"p_{c}": float(p) for c, p in zip(classes, mean, strict=True)}
            rows.append(row)
    return rows


__all__ = ["Choice", "Predictions", "apply_run", "predict"]
