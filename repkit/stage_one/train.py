"""The training of stage one, autoencoder or objectives: a loop under accelerate that resumes exactly.

Every random number of an update (dropout, noise) comes from a seed made of (seed, epoch, update, rank), the order of
batches from (seed, epoch); so a run that was killed and started again goes on bit by bit as if nothing had happened, on the
same kind of device. Elsewhere it keeps the precision that it was begun in, and the change is told.
The loss of a batch that several processes share is still one root over all its values (`repkit.stage_one.update.global_loss`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from repkit.api import Utterance
from repkit.errors import DataError, UsageError, did_you_mean
from repkit.plugins import blame
from repkit.runs.atomic import disk_full_message, is_disk_full, write_json_atomic, write_text_atomic
from repkit.runs.device import keep_float32
from repkit.runs.directory import append_jsonl, locked, make_folder, read_json
from repkit.runs.environment import environment
from repkit.runs.executors import keep_freed_memory
from repkit.runs.seeding import derive_seed, generator
from repkit.stage_one.data import Pieces
from repkit.stage_one.export import export_encoder
from repkit.stage_one.frontends import build_frontend
from repkit.stage_one.hours import choose_speech
from repkit.stage_one.identity import finished_results, run_identity, tell_of_move
from repkit.stage_one.learners import make_learner
from repkit.stage_one.metrics import cut_metrics, summary
from repkit.stage_one.provenance import provenance
from repkit.stage_one.reporter import Progress, Reporter, epoch_line, peak_memory, vector_use_line
from repkit.stage_one.settings import PretrainConfig
from repkit.stage_one.stopping import stop_requests
from repkit.stage_one.update import build_optimizer, pick_precision
from repkit.training.checkpoint import (
    load_newest_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)


def pretrain(
    stores: Sequence[Any],
    utterances: Sequence[Utterance],
    out: Path,
    config: PretrainConfig,
    progress: Progress = "auto",
    on_epoch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Train an autoencoder, or an encoder with objectives, on the frames of some stores and export it.

    Args:
        stores: open frames stores, one per corpus.
        utterances: of all corpora; those without frames are passed over. Their speakers make the held-out part.
        out: run folder. Started again with the same settings it resumes, or does nothing when it is done; an encoder that was
            lost or damaged since is exported again.
        config: settings.
        progress: see `repkit.stage_one.reporter.Progress`.
        on_epoch: called with the number of each epoch that has ended; what it raises ends the training, which can be resumed.

    Returns:
        what ``results.json`` holds.

    Raises:
        UsageError: the folder cannot be made or holds a run with other settings, or an objective does not fit encoder or frames.
        DataError: no speech, less of it than `hours`, or the loss is not a number.
        KeyboardInterrupt: after saving a checkpoint, when stopped by Ctrl-C.
    """
    torch.set_flush_denormal(True)  # before any parallel region: up to 3.3 times faster steps in mid-training
    keep_freed_memory()
    from accelerate import Accelerator

    identity = run_identity(config, {store.spec.corpus: store.spec.fingerprint for store in stores})
    if (done := finished_results(out, identity)) is not None:
        return done
    make_folder(out, "--out")
    accelerator = Accelerator(cpu=config.on_cpu(), mixed_precision="no")
    try:
        with locked(out) if accelerator.is_main_process else nullcontext():
            return _Run(accelerator, stores, utterances, out, config, identity).train(progress, on_epoch)
    except Exception as error:
        if not isinstance(error, DataError) and is_disk_full(error):
            raise DataError(disk_full_message(out, "it goes on from the last checkpoint")) from error
        raise
    finally:
        accelerator.end_training()


class _Run:
    """The state of one training."""

    def __init__(
        self,
        accelerator: Any,
        stores: Sequence[Any],
        utterances: Sequence[Utterance],
        out: Path,
        config: PretrainConfig,
        identity: dict[str, Any],
    ) -> None:
        self.accelerator, self.out, self.config = accelerator, out, config
        self.main = accelerator.is_main_process
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.device = accelerator.device
        self.begun_on = self.device.type
        keep_float32(self.device)
        self.precision = pick_precision(config.precision, self.device)
        self.stores = stores
        self.frame_shift_s = stores[0].spec.frame_shift_s or 0.0
        frontend = build_frontend(**config.frontend_table())
        present = {id for store in stores for id in store.ids}
        heard = [u for u in utterances if u.id in present]
        self.split = choose_speech(config, stores, heard)
        self.train_pieces = self._cut(self.split.train, frontend, self._weights())
        self.dev_pieces = self._cut(self.split.dev, frontend)
        if not len(self.train_pieces):
            raise DataError(f"{out}: no speech to train on; at least one utterance was expected; see what was left out")
        torch.manual_seed(derive_seed(config.seed, "weights"))
        self.learner = make_learner(config, frontend, provenance(config, stores, self.split, heard))
        self.bare = self.learner.module
        self.model = accelerator.prepare(self.bare.to(self.device))
        self.optimizer = build_optimizer(self.model.parameters(), config.learning_rate, self.device)
        self.epoch = self.position = self.step = 0
        self.sums: dict[str, float] = {}
        self.seconds = self.loading = self.hours = 0.0
        self.best: dict[str, float] = {}
        self.last: dict[str, Any] = {}  # record of the last epoch
        if self.main:  # not before all is known to fit: what is refused must not bind the folder to its settings
            for folder in ("checkpoints", "tensorboard"):
                (out / folder).mkdir(parents=True, exist_ok=True)
            write_json_atomic(out / "config.json", {**identity, "frontend": config.frontend_table()})

    def _weights(self) -> list[float]:
        """Return how often each store's pieces are heard in an epoch."""
        names = [store.spec.corpus for store in self.stores]
        for name in self.config.corpus_weights:
            if name not in names:
                raise UsageError(
                    f"training.corpus_weights: {name!r} is none of the corpora {', '.join(names)}"
                    f"{did_you_mean(name, names)}; names of --corpus were expected"
                )
        return [self.config.corpus_weights.get(name, 1.0) for name in names]

    def _cut(self, ids: frozenset[str], frontend: Any, weights: Sequence[float] | None = None) -> Pieces:
        c = self.config
        longest = frontend.n_frames(round(c.chunk_s * frontend.sample_rate))
        hop = max(1, round(c.chunk_hop_s / frontend.frame_shift_s)) if c.chunk_hop_s else None
        wanted = [set(ids) & set(store.ids) for store in self.stores]
        window = c.window_hours * 3600 / frontend.frame_shift_s
        return Pieces(self.stores, wanted, longest, c.chunks, hop, c.ram_budget_gb * 1e9, window, weights)

    # ------------------------------------------------------------------ checkpoints

    def _resume(self) -> None:
        found = load_newest_checkpoint(self.out / "checkpoints")
        if found is not None:
            for name, value in found.meta.items():
                setattr(self, name, value)
        if self.main:  # the precision is that of the begin
            write_json_atomic(self.out / "environment.json", {**environment(), "precision": self.precision})
        if found is None:
            if self.main:
                write_text_atomic(self.out / "metrics.jsonl", "")
            self.learner.calibrate(self.train_pieces, self.config.batch_size, self.device)
            return
        self.bare.load_state_dict({k.removeprefix("model."): v for k, v in found.tensors.items() if k[:6] == "model."})
        unpack_optimizer(self.optimizer, found.tensors)
        if self.main:
            cut_metrics(self.out / "metrics.jsonl", self.epoch)
            tell_of_move(self.out, self.begun_on, self.device.type, self.precision)

    def _save(self) -> None:
        if self.main:
            tensors = {f"model.{k}": v for k, v in self.bare.state_dict().items()} | pack_optimizer(self.optimizer)
            names = (
                "epoch", "position", "step", "sums", "seconds", "loading", "hours", "best", "last", "precision", "begun_on",
            )  # fmt: skip
            meta = {name: getattr(self, name) for name in names}
            save_checkpoint(self.out / "checkpoints", self.step, tensors, meta)
        self.saved_at = time.monotonic()

    # ------------------------------------------------------------------ the loop

    def train(self, progress: Progress, on_epoch: Callable[[int], None] | None = None) -> dict[str, Any]:
        self._resume()
        c = self.config
        per_epoch = len(self.train_pieces.batches(c.batch_size, c.seed, 0))  # some more or less where windows differ
        self.saved_at = time.monotonic()
        self.total_steps = c.updates or per_epoch * c.epochs
        self.epochs = math.ceil(c.updates / max(1, per_epoch)) if c.updates else c.epochs
        reporter = Reporter(self.out, progress, self.total_steps, self.step, self.main)
        with reporter, stop_requests(self.world == 1) as stop:
            self._set_status("running")
            self._announce(reporter)
            try:
                # an epoch that was stopped behind its last update still has its end before it
                while self.position or not self._is_last(self.epoch):
                    batches = self.train_pieces.batches(c.batch_size, c.seed, self.epoch)
                    self._train_epoch(batches, reporter, stop)
                    self._end_epoch(reporter)
                    if on_epoch is not None:
                        on_epoch(self.epoch)
                return self._finish(reporter)
            except KeyboardInterrupt:
                self._set_status("interrupted")
                raise
            except Exception as error:
                with suppress(OSError, DataError):  # a full disk has no room for that either
                    self._set_status("failed", error=str(error))
                raise

    def _is_last(self, epoch: int) -> bool:
        """Tell whether nothing is left to train behind so many epochs."""
        return self.step >= self.config.updates if self.config.updates else epoch >= self.config.epochs

    def _is_due(self) -> bool:
        c, waited = self.config, time.monotonic() - self.saved_at
        return waited > c.checkpoint_every_s or self.step % (c.checkpoint_every_steps or math.inf) == 0

    def _train_epoch(self, batches: Sequence[Any], reporter: Reporter, stop: threading.Event) -> None:
        c = self.config
        self.model.train()
        end = min(len(batches), self.position + c.updates - self.step) if c.updates else len(batches)
        while self.position < end:
            began = time.monotonic()
            loss, sums, frames = self._update(batches[self.position])
            self.position += 1
            self.step += 1
            for name, value in sums.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            took = time.monotonic() - began
            hours = frames * self.frame_shift_s / 3600
            self.seconds += took
            self.hours += hours
            reporter.step(self.step, loss, hours / took, self.epoch + 1)
            reporter.scalars({f"train/batch_{self.measure}": loss}, self.step)
            # losses of objectives have a dot in their names
            reporter.scalars({f"batch/{name}": value for name, value in sums.items() if "." in name}, self.step)
            if stop.is_set():
                self._save()
                raise KeyboardInterrupt
            if self.position < end and self._is_due():
                self._save()

    def _update(self, indices: Sequence[int]) -> tuple[float, dict[str, float], int]:
        """Make one update; returns the batch's loss, what it adds to the epoch's sums, and frames over all processes."""
        c = self.config
        place = (self.epoch, self.position, self.rank)
        torch.manual_seed(derive_seed(c.seed, "update", *place))
        # every process takes its share; one without a share works on the first piece and counts it nothing
        mine = list(indices[self.rank :: self.world])
        share = len(mine) / len(indices)
        began = time.monotonic()
        frames, lengths = self.train_pieces.batch(mine or [indices[0]], self.device)
        self.loading += time.monotonic() - began
        loss, sums = self.learner.update(
            self.accelerator, self.model, self.optimizer, frames, lengths,
            precision=self.precision, share=share, progress=min(1.0, self.step / max(1, self.total_steps)),
            draw=lambda purpose: generator(c.seed, purpose, *place),
        )  # fmt: skip
        if not math.isfinite(loss):
            self._refuse_nan(indices, sums)
        return loss, sums, int(self.train_pieces.lengths[list(indices)].sum())

    def _refuse_nan(self, indices: Sequence[int], sums: Mapping[str, float]) -> None:
        ids = sorted({self.train_pieces[int(i)].id for i in indices})
        terms = [name for name, value in sums.items() if "." in name and not math.isfinite(value)]
        which = f" ({', '.join(terms)})" if terms else ""
        if self.step or not self.config.objectives:
            remedy = "look at these utterances, use precision = 'fp32' or a smaller learning_rate in a new folder"
        else:  # no learning rate makes the first one
            used = ", ".join(blame("repkit.pretraining", str(one["name"])) for one in self.config.objectives)
            remedy = f"nothing was learnt before, so that an objective is at fault: mend it, or look at these utterances; {used}"
        raise DataError(
            f"{self.out}: the loss{which} is not a number in epoch {self.epoch + 1}, update {self.position + 1}; a finite "
            f"loss was expected; the last good checkpoint is kept; {remedy}",
            [*ids[:20], *([f"and {len(ids) - 20} more"] if len(ids) > 20 else [])],
        )

    def _end_epoch(self, reporter: Reporter) -> None:
        c = self.config
        number = self.epoch + 1
        score = self.learner.score
        record: dict[str, Any] = {"epoch": number, **self.learner.figures(self.sums)}
        if self.main and len(self.dev_pieces):
            record |= self._measure(self.learner.held_out)
            if c.diagnose_every and number % c.diagnose_every == 0 and not self._is_last(number):
                record |= self._measure(self.learner.diagnose)
            if not self.best or record[score] < self.best[score]:
                self.best = {"epoch": number, score: record[score]}
                state = {f"model.{k}": v for k, v in self.bare.state_dict().items()}
                save_checkpoint(self.out / "checkpoints" / "best", self.step, state, self.best, keep=1)
        record |= {
            "seconds": round(self.seconds, 2),
            "hours_per_second": self.hours / max(self.seconds, 1e-9),
            "loading_share": round(self.loading / max(self.seconds, 1e-9), 4),
            **peak_memory(self.device),
        }
        if self.main:
            append_jsonl(self.out / "metrics.jsonl", record)
        self.last = record
        measure = self.measure
        numbers = {f"train/epoch_{measure}": record[f"train_{measure}"]}
        numbers |= {
            f"{part}/{name}": v for part in ("train", "dev") for name, v in record.get(f"{part}_losses", {}).items()
        }
        numbers["speed/hours_per_second"] = record["hours_per_second"]
        numbers |= {f"speed/{k}": v for k, v in record.items() if "memory" in k or k == "loading_share"}
        numbers |= {f"dev/{measure}": record[score]} if score in record else {}
        numbers |= {f"vector_use/{k}": v for k, v in record.get("vector_use", {}).items()}
        reporter.scalars(numbers, self.step)
        reporter.line(epoch_line(record, max(number, self.epochs)))
        self.epoch, self.position = number, 0
        self.sums, self.seconds, self.loading, self.hours = {}, 0.0, 0.0, 0.0
        if not c.updates or self._is_last(number) or self._is_due():  # updates of little speech are many short epochs
            self._save()
        self._set_status("running")

    def _measure(self, how: Callable[..., Any]) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return how(self.dev_pieces, self.config.batch_size, self.device)

    def _finish(self, reporter: Reporter) -> dict[str, Any]:
        results: dict[str, Any] = {}
        if self.main:
            c = self.config
            best = load_newest_checkpoint(self.out / "checkpoints" / "best")
            results = {
                **self.learner.facts(),
                "epochs": self.epoch,
                "updates": self.step,
                "precision": self.precision,
                "split": self.split.note,
                "best": self.best or None,
                "exported": c.export,
                "parameters": sum(p.numel() for p in self.bare.parameters()),
                **summary(self.out / "metrics.jsonl", self.epoch, self.last, self.learner.reported),
                **peak_memory(self.device),
                "provenance": self.learner.exported.config.provenance,
            }
            if len(self.dev_pieces):
                results |= self._measure(self.learner.diagnose)
                if "vector_use" in results:
                    reporter.line(vector_use_line(c.decoder, results["vector_use"]))
            last = {k: v.clone() for k, v in self.bare.state_dict().items()}
            if best is not None:
                self.bare.load_state_dict({k.removeprefix("model."): v for k, v in best.tensors.items()})
                export_encoder(self.learner.exported, self.out / "encoder-best")
            if c.export == "last" or best is None:
                self.bare.load_state_dict(last)
            results["weights_sha256"] = export_encoder(self.learner.exported, self.out / "encoder")
            write_json_atomic(self.out / "results.json", results)
            self._set_status("done")
            reporter.line(f"encoder of the {c.export} epoch saved to {self.out / 'encoder'}")
        self.accelerator.wait_for_everyone()
        return results or read_json(self.out / "results.json")

    def _announce(self, reporter: Reporter) -> None:
        hours = float(self.train_pieces.lengths.sum()) * self.frame_shift_s / 3600
        reporter.line(
            f"{len(self.train_pieces)} pieces, {hours:.2f} h of speech; {self.split.note}; "
            f"{self.learner.said()}; {self.precision} on {self.device} x {self.world}"
            + (f"; resumed after {self.step} updates" if self.step else "")
        )

    @property
    def measure(self) -> str:
        """What the loss is called: ``rmse`` or ``loss``."""
        return self.learner.score.removeprefix("dev_")

    def _set_status(self, state: str, **facts: object) -> None:
        if self.main:
            write_json_atomic(
                self.out / "status.json",
                {"state": state, "epoch": self.epoch, "epochs": self.epochs, "updates": self.step, **facts},
            )
