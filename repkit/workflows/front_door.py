"""What programs and notebooks use, offered as ``repkit.open_corpus`` and so on; docs/python.md is the page about it.

Each name opens what a command also opens, by the same code, and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repkit.api import Corpus, Encoder, Fold, Utterance
from repkit.errors import UsageError
from repkit.runs.find import find_run

if TYPE_CHECKING:
    import pandas as pd

    from repkit.evaluation.run_files import RunFiles
    from repkit.workflows.predict.sounds import Sounds

_OVER_SEEDS = ("mean", "min", "max", "sd")
_SCORES = {
    "uar": _OVER_SEEDS,
    "uar_pooled": (*_OVER_SEEDS, "low", "high"),
    "wa": (*_OVER_SEEDS, "low", "high"),
    "macro_f1": _OVER_SEEDS,
}


def open_corpus(
    name: str, location: str | os.PathLike[str] | None = None, *, split: str | None = None, **settings: Any
) -> Corpus:
    """Return the corpus that ``--corpus NAME[=PLACE]`` stands for on the command line.

    Example:
        >>> corpus = open_corpus("mine", "my_speech", columns={"emotion": "Code"})  # doctest: +SKIP
        >>> corpus.read(corpus.utterances()[0])  # (S,) float32, mono, 16 kHz  # doctest: +SKIP

    Args:
        name: ``emodb``, ``synthetic_a``, ``librispeech``, or a name of your own for a folder; ``NAME=PLACE`` is understood too.
        location: folder, CSV table, or ``hub:ORG/DATASET``; None for generated speech and corpora of the hub.
        split: part of a hub dataset or OpenSLR corpus.
        **settings: what ``--corpus-set NAME.KEY=VALUE`` sets, nested: ``columns={"emotion": "Code"}``.

    Returns:
        an object with ``utterances()`` and ``read(utterance)`` (`repkit.api.Corpus`).

    Raises:
        UsageError: an unknown name, a missing place, settings that do not validate.
        DataError: nothing usable at the place.
    """
    from repkit.audio.open import open_corpus as opened

    if location is None:
        name, equals, place = name.partition("=")
        location = place if equals else None
    location = None if location is None else os.fspath(location)
    if location and not location.startswith(("hub:", "plugin:")):
        # it is read later, perhaps from another working folder
        location = str(Path(location).expanduser().absolute())
    return opened(name, location, split=split, options=settings, option=None)


def make_folds(
    utterances: Iterable[Utterance], protocol: str = "leave_one_speaker_group_out", **settings: Any
) -> list[Fold]:
    """Return the folds of a protocol: no speaker is in two of train, dev and test.

    They are those of ``repkit train-ser`` where utterances and settings are the same. It first leaves out utterances without a
    label that the recipe uses, and the recipe sets the protocol: ``neumann2019`` has ``gender_balanced = true``, which is not the
    default here. The folds of a run that is there already are `LoadedRun.splits`.

    Args:
        utterances: all of the experiment, in any order; each with a speaker.
        protocol: name of a protocol (``repkit plugins list``), such as ``speaker_k_fold``.
        **settings: of the protocol, such as ``k=5``; ``dev="none"`` leaves no dev part.

    Returns:
        folds with the ids of ``train``, ``dev`` and ``test``; the same for the same utterances and settings on every machine.

    Raises:
        UsageError: what are no utterances.
        PluginError: there is no such protocol.
        RecipeError: settings that it does not have, or wrong values, all at once.
        DataError: too few speakers, an utterance without a speaker, or an empty part.
        SpeakerLeakError: folds of a plugin that mix speakers.
    """
    from repkit.evaluation.audit import audit_folds, listed_folds
    from repkit.plugins import build_config, load
    from repkit.plugins.blaming import blaming

    listed = _utterances(utterances)
    rule = load("repkit.protocols", protocol)
    config = build_config(rule, settings, f"protocol {protocol}")
    with blaming("repkit.protocols", protocol):
        folds = listed_folds(rule(config).folds(listed))
    audit_folds(folds, listed, allow_dev_overlap=getattr(config, "dev", "") == "utterances")
    return folds


def _utterances(given: Any) -> list[Utterance]:
    listed: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    strange = [one for one in listed if not isinstance(one, Utterance)]
    if strange:
        raise UsageError(
            f"make_folds: got {type(strange[0]).__name__}; utterances (repkit.api.Utterance) were expected; give those of a corpus: "
            "corpus.utterances()"
        )
    return listed


def load_run(path: str | os.PathLike[str]) -> LoadedRun:
    """Return a run of ``repkit train-ser``, finished or not, to be read.

    Args:
        path: ``runs/RECIPE/TIME_SIGNATURE``, or a folder with a single run in it or below.

    Raises:
        DataError: no run there, several of them (the message lists them), or a run that has not started.
    """
    folder = find_run(Path(path).expanduser())
    run = LoadedRun(folder.absolute())  # it is read later, perhaps from another working folder
    _ = run.files  # what cannot be read is told now
    return run


@dataclass(frozen=True)
class LoadedRun:
    """A run of ``repkit train-ser``, read when asked for and then kept; nothing is written. Open it by `load_run`.

    Attributes:
        path: the run directory.
    """

    path: Path

    @cached_property
    def files(self) -> RunFiles:
        """Protocol, recipe, conditions, seeds and folds (`repkit.evaluation.run_files.RunFiles`)."""
        from repkit.evaluation.run_files import read_run_files

        return read_run_files(self.path)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """protocol.json: ``id``, ``parts`` it is made of, ``audit`` flags, sizes of the ``folds``."""
        return self.files.protocol

    @property
    def protocol_id(self) -> str:
        """Scores of different ids are of different tasks."""
        return self.files.protocol_id

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe as used, every setting resolved."""
        return self.files.recipe

    @property
    def views(self) -> dict[str, tuple[str, ...]]:
        """Classes of each view in the order of the probabilities."""
        return self.files.views

    @property
    def conditions(self) -> tuple[str, ...]:
        """Planned conditions in the order of the recipe."""
        return self.files.conditions

    @property
    def seeds(self) -> tuple[int, ...]:
        """Planned seeds."""
        return self.files.seeds

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds."""
        return self.files.folds

    @cached_property
    def splits(self) -> list[Fold]:
        """The folds themselves, ids of ``train``, ``dev`` and ``test``, in the order of `folds`.

        Read from the finished jobs: a fold of which no condition is finished is not among them. What single conditions may
        hear without labels (``Fold.unlabelled``) is left out.
        """
        from repkit.evaluation.job_files import finished_jobs, read_split

        found: dict[str, Fold] = {}
        for condition in self.conditions:
            for _, fold, job in finished_jobs(self.files, condition):
                if fold not in found and (job / "split.json").is_file():
                    split = read_split(job)
                    found[fold] = Fold(fold, *(tuple(split[part]) for part in ("train", "dev", "test")))
        return [found[fold] for fold in self.folds if fold in found]

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """One row per utterance, indexed by ``id``: speaker, gender, emotion, seconds (docs/run-format.md)."""
        # a column of the same name would make `id` ambiguous to merge, sort and group by
        return self.files.utterances.drop(columns="id")

    @property
    def complete(self) -> bool:
        """Whether every planned job is done."""
        return bool(self.results["complete"])

    @cached_property
    def results(self) -> dict[str, Any]:
        """results.json; of a run that went on since, or has none yet, the same from its predictions, without probes."""
        from repkit.evaluation.results import compute_results
        from repkit.evaluation.run_files import read_json_file

        if (self.path / "results.json").is_file():
            found = read_json_file(self.path / "results.json")
            done = [p for p in self.path.glob("jobs/*/seed_*/*/done.json") if ".tmp." not in p.parent.name]
            if (found.get("n_jobs") or {}).get("finished") == len(done):
                return found
        return compute_results(self.path, probes=False)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per condition, view and checkpoint: shares from 0 to 1.

        ``uar``, ``uar_pooled``, ``wa``, ``macro_f1`` are means over seeds, ``*_min``, ``*_max``, ``*_sd`` over the same;
        ``*_low`` and ``*_high`` the 95 % interval over speakers where there is one (docs/run-format.md).
        """
        import pandas as pd

        roles = {one["name"]: one["role"] for one in self.results["conditions"]}
        first = ("condition", "view", "checkpoint")
        last = ("n_utterances", "n_speakers", "n_folds", "n_seeds", "complete")
        statistics = [(name, statistic) for name, several in _SCORES.items() for statistic in several]
        columns = [name if statistic == "mean" else f"{name}_{statistic}" for name, statistic in statistics]
        rows = []
        for score in self.results["scores"]:
            values = [(score.get(name) or {}).get(statistic) for name, statistic in statistics]
            row = {key: score[key] for key in (*first, *last)} | {"role": roles.get(score["condition"])}
            # of a single seed there is no deviation
            rows.append(row | {c: float("nan") if value is None else value for c, value in zip(columns, values)})
        # named here, so that a run without a finished job has them too
        return pd.DataFrame(rows, columns=[*first, "role", *columns, *last])

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per utterance, view, part and checkpoint of every finished job, as docs/run-format.md lists the columns.

        ``probabilities`` holds an array per row, in the order of `views`.
        """
        from repkit.evaluation.predictions import read_run

        return read_run(self.path, self.views, probabilities=True)[0]

    def predict(
        self,
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
        """Return what the run's models say of new speech, as `repkit.workflows.predict.predict` of this run; see docs/predict.md.

        Args:
            sounds: audio files, folders of such and waveforms (S,), or one of them.
            sample_rate: of the waveforms in Hz; files know their own.
            condition: whose models; None for the reference.
            seeds: of the models, or one; all if empty.
            folds: of the models, or one; all if empty.
            encoders: what made the condition's vectors, where it reads vectors.
            same_speaker: all sounds are of one speaker, which a normalisation by speaker has to know.
            same_corpus: all sounds are of one corpus, which a normalisation by corpus has to know.
            as_corpus: corpus whose own parts of the models to use, where they have such.
            device: ``"cpu"``, ``"cuda"``, ``"auto"`` or another name of `repkit.runs.device.settle_device`.

        Returns:
            one row per sound and view: the class, the probability of each class, how many models agree.

        Raises:
            DataError: the run did not keep what is needed, or no sound can be used.
            UsageError: an unknown condition, seed or fold, or an encoder that is missing or another.
        """
        from repkit.workflows.predict import predict

        return predict(
            self.path,
            sounds,
            sample_rate=sample_rate,
            condition=condition,
            seeds=seeds,
            folds=folds,
            encoders=encoders,
            same_speaker=same_speaker,
            same_corpus=same_corpus,
            as_corpus=as_corpus,
            device=device,
        )
