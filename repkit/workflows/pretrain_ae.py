"""``repkit pretrain-ae``: unlabelled speech to a trained encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch

from repkit.api import Corpus
from repkit.errors import UsageError
from repkit.features.extract import cached_frames, frames_spec, look_through
from repkit.runs.directory import locked, make_folder
from repkit.runs.executors import Executor
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.identity import finished_results, run_identity
from repkit.stage_one.learners import make_learner
from repkit.stage_one.reporter import Progress
from repkit.stage_one.train import PretrainConfig, pretrain


def pretrain_ae(
    corpora: Sequence[Corpus],
    out: Path,
    config: PretrainConfig | None = None,
    *,
    cache: Path | None = None,
    on_bad_audio: Literal["stop", "skip"] = "stop",
    progress: Progress = "auto",
    workers: int | None = 1,
    executor: Executor | None = None,
    notice: Callable[[str], None] | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Turn corpora into frames (kept in the cache, no audio is), train on them and save the encoder.

    Started again with the same arguments it goes on where it was, whatever stopped it, and does nothing when done.
    Runs in several processes under ``torchrun`` or ``accelerate launch``.

    Args:
        corpora: speech to hear; labels are not used.
        out: run folder, for example ``runs/ae-librispeech``; ``out/encoder`` is what `embed` needs.
        config: settings; None for the defaults.
        cache: folder for frames; None for `repkit.runs.directory.cache_root`.
        on_bad_audio: ``"stop"`` before training, or ``"skip"`` and record what is left out.
        progress: ``"auto"``, ``"bar"``, ``"lines"`` or ``"none"``.
        workers: processes that make the frames; None for one per core where that is sooner done. Training is not theirs:
            for it there are ``torchrun`` and ``accelerate launch``.
        executor: where to make the frames instead; see `repkit.store.fill.fill`.
        notice: told in a sentence when several processes make the frames.
        on_epoch: see `repkit.stage_one.train.pretrain`.

    Returns:
        what ``out/results.json`` holds: errors, use of the vector, checksum of the weights, what was heard.

    Raises:
        UsageError: no corpus, one twice, objectives that do not fit the encoder or the frames, or a folder that cannot be
            written to, has another process at work or holds a run of other settings.
        DataError: bad audio, that of all corpora at once, fewer hours of speech than asked for, or a loss that is not a number.
    """
    from accelerate import PartialState

    config = config or PretrainConfig()
    names = [corpus.name for corpus in corpora]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"pretrain-ae: corpora {names}; expected one or more, each once; name them with --corpus")
    out = Path(out)
    if (done := already_done(corpora, out, config)) is not None:
        return done
    frontend = build_frontend(**config.frontend_table())
    cut = _cut(config)
    # in vain would be hours of work for a folder that cannot be written to, or where another process is at work
    make_folder(out, "--out")
    if PartialState(cpu=config.on_cpu(), timeout=timedelta(days=7)).is_main_process:
        with locked(out):
            pass
    # one process makes the frames, however long it takes; the others then find them
    with PartialState(cpu=config.on_cpu(), timeout=timedelta(days=7)).main_process_first():
        making = {"workers": workers, "executor": executor, "notice": notice}
        stores = look_through(
            lambda corpus: cached_frames(corpus, frontend, cache=cache, on_bad_audio=on_bad_audio, **cut, **making),
            corpora,
        )
    utterances = [u for corpus in corpora for u in corpus.utterances()]
    return pretrain(stores, utterances, out, config, progress, on_epoch)


def already_done(corpora: Sequence[Corpus], out: Path, config: PretrainConfig) -> dict[str, Any] | None:
    """Return the results of a finished run in a folder, and refuse what the training would refuse, before any audio is read.

    Returns:
        what ``out/results.json`` holds, None where there is something to train.

    Raises:
        UsageError: objectives that do not fit the encoder or the frames, or a folder with a run of other settings.
    """
    frontend = build_frontend(**config.frontend_table())
    if config.objectives:
        with torch.random.fork_rng(devices=[]):
            make_learner(config, frontend, {})
    frames = {corpus.name: frames_spec(corpus, frontend, **_cut(config)).fingerprint for corpus in corpora}
    return finished_results(out, run_identity(config, frames))


def _cut(config: PretrainConfig) -> dict[str, Any]:
    return {"max_duration_s": config.max_duration_s, "dtype": config.frames_dtype}
