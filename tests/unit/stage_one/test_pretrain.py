"""The training loop: one update by hand, resuming, refusing, reporting."""

import errno
import json
import math
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from repkit.config import PretrainRecipe, load_recipe
from repkit.errors import DataError, RepkitWarning, UsageError
from repkit.features.collate import length_batches
from repkit.runs.directory import locked
from repkit.runs.seeding import derive_seed
from repkit.stage_one import data as data_module
from repkit.stage_one import train as train_module
from repkit.stage_one.data import Pieces, split_speakers
from repkit.stage_one.gru_autoencoder import GruAutoencoder
from repkit.stage_one.settings import PretrainConfig
from repkit.stage_one.train import pretrain
from repkit.stage_one.update import pick_precision
from repkit.store import StoreSpec, StoreWriter, open_store
from repkit.training import checkpoint as checkpoint_module
from repkit.training.checkpoint import load_newest_checkpoint
from repkit.training.optim import resolve_precision


def weights(out):
    return load_file(out / "encoder" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def run(toy, out, config, progress="none"):
    return pretrain([toy[0]], toy[1], out, config, progress)


def test_a_run_against_a_plain_loop(toy, tmp_path, small):
    """Two epochs of Adam, value clipping and one root per batch, written down again with nothing but torch."""
    config = small(dropout=0.0, clip_value=0.01, learning_rate=0.01)
    run(toy, tmp_path / "run", config)
    store, utterances = toy
    split = split_speakers(utterances, 0.2, derive_seed(0, "split"))
    pieces = Pieces([store], [set(split.train)], 14, "split", None, 1e9)  # 0.6 s are 14 frames of 80 ms every 40 ms
    torch.manual_seed(derive_seed(0, "weights"))
    model = GruAutoencoder(GruAutoencoder.from_pretrained(tmp_path / "run" / "encoder").config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for epoch in range(2):
        squared = values = 0
        for batch in length_batches(pieces.lengths, 6, 0, epoch):
            out = model(*pieces.batch(batch, "cpu"))
            optimizer.zero_grad()
            out.loss.backward()
            for p in model.parameters():
                p.grad.clamp_(-0.01, 0.01)
            optimizer.step()
            squared, values = squared + out.squared_error.item(), values + out.n_values.item()
        losses.append(math.sqrt(squared / values))
    found = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [m["train_rmse"] for m in found] == pytest.approx(losses, rel=1e-5)
    for name, tensor in weights(tmp_path / "run").items():
        torch.testing.assert_close(tensor, model.state_dict()[name], atol=2e-4, rtol=0)


def test_it_learns_and_says_what_it_did(toy, tmp_path, small):
    results = run(toy, tmp_path / "run", small(epochs=12, learning_rate=0.01, diagnose_every=5))
    out = tmp_path / "run"
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [m["epoch"] for m in metrics] == list(range(1, 13))
    assert metrics[-1]["train_rmse"] < 0.8 * metrics[0]["train_rmse"]
    assert [m["epoch"] for m in metrics if "vector_use" in m] == [5, 10]
    assert results["dev_rmse"] == metrics[-1]["dev_rmse"]
    assert results["vector_use"]["own"] == pytest.approx(results["dev_rmse"], rel=1e-5)
    best = min(metrics, key=lambda m: m["dev_rmse"])
    assert results["best"] == {"epoch": best["epoch"], "dev_rmse": best["dev_rmse"]}
    assert results["split"] == "1 of 5 speakers held out"
    heard = results["provenance"]
    assert len(heard["speakers"]) == 4
    assert len(heard["held_out_speakers"]) == 1
    assert heard["corpora"][0]["name"] == "toy"
    assert heard["corpora"][0]["utterances"] == 16
    assert GruAutoencoder.from_pretrained(out / "encoder").config.provenance == heard
    assert json.loads((out / "status.json").read_text())["state"] == "done"
    assert json.loads((out / "environment.json").read_text())["precision"] == "fp32"
    for record in (results, metrics[-1]):
        assert 50 < record["peak_memory_mb"] < 100_000
        assert record["hours_per_second"] > 0
    assert 0 < metrics[-1]["loading_share"] < 1
    assert "MB of memory at most" in (out / "log.txt").read_text()
    assert "use of the vector (bidirectional decoder" in (out / "log.txt").read_text()
    assert list((out / "tensorboard").glob("events.*"))
    assert {p.name for p in out.iterdir()} == {
        "checkpoints", "config.json", "encoder", "encoder-best", "environment.json", "lock", "log.txt",
        "metrics.jsonl", "results.json", "status.json", "tensorboard",
    }  # fmt: skip


def test_utterances_of_unknown_speakers_are_counted_by_corpus(toy, make_store, make_utterances, tmp_path, small):
    stores = [toy[0], make_store(tmp_path / "more", n=8, corpus="mine")]
    utterances = [*toy[1], *make_utterances(8, "mine", speakers=0)]
    results = pretrain(stores, utterances, tmp_path / "run", small(epochs=1, dev_speakers=0.0), "none")
    known, mine = results["provenance"]["corpora"]
    assert "utterances_of_unknown_speakers" not in known
    assert (mine["utterances"], mine["utterances_of_unknown_speakers"]) == (8, 8)


def test_best_and_last_are_both_kept_and_the_choice_is_said(toy, tmp_path, small):
    for export in ("last", "best"):
        results = run(toy, tmp_path / export, small(epochs=6, learning_rate=0.3, export=export))
        assert results["exported"] == export
    assert results["best"]["epoch"] < 6  # at this rate the last epoch is not the best one
    best = load_file(tmp_path / "last" / "encoder-best" / "model.safetensors")
    assert same(weights(tmp_path / "best"), best)
    assert not same(weights(tmp_path / "last"), best)
    newest = load_newest_checkpoint(tmp_path / "last" / "checkpoints").tensors
    assert same(weights(tmp_path / "last"), {k[6:]: v for k, v in newest.items() if k.startswith("model.")})


def test_stopped_anywhere_it_ends_with_the_same_weights(toy, tmp_path, small, monkeypatch):
    config = small(epochs=3, feed_previous_probability=0.3, decoder="unidirectional", input_noise=0.1)
    run(toy, tmp_path / "whole", config)
    per_epoch = load_newest_checkpoint(tmp_path / "whole" / "checkpoints").step // 3
    assert per_epoch > 2
    real = train_module._Run._update
    for stops in ((1,), (per_epoch,), (per_epoch + 1, 1), (2, 2, per_epoch)):
        out = tmp_path / f"stopped-{'-'.join(map(str, stops))}"
        for n in stops:
            left = [n]

            def update(self, indices, left=left):
                if not left[0]:
                    raise RuntimeError("power cut")
                left[0] -= 1
                return real(self, indices)

            monkeypatch.setattr(train_module._Run, "_update", update)
            with pytest.raises(RuntimeError, match="power cut"):
                run(toy, out, config.model_copy(update={"checkpoint_every_steps": 2}))
            assert json.loads((out / "status.json").read_text())["state"] == "failed"
        monkeypatch.setattr(train_module._Run, "_update", real)
        torch.rand(7)  # what else drew random numbers must not matter
        run(toy, out, config)
        assert same(weights(out), weights(tmp_path / "whole"))
        lines = [
            [{k: v for k, v in json.loads(line).items() if k in ("epoch", "train_rmse", "dev_rmse")} for line in text]
            for text in ((o / "metrics.jsonl").read_text().splitlines() for o in (out, tmp_path / "whole"))
        ]
        assert lines[0] == lines[1]


def test_a_run_goes_on_in_the_precision_it_was_begun_in(toy, tmp_path, small, monkeypatch):
    """Begun on a CPU in fp32 and continued where auto would be bf16: told, and fp32 to the end."""
    run(toy, tmp_path / "whole", small())
    config = small(precision="auto")
    real = train_module._Run._save

    def killed(self):
        self.begun_on = "cuda"  # as if it had been
        real(self)
        raise RuntimeError("power cut")

    monkeypatch.setattr(train_module, "pick_precision", lambda precision, device: "fp32")
    monkeypatch.setattr(train_module._Run, "_save", killed)
    with pytest.raises(RuntimeError, match="power cut"):
        run(toy, tmp_path / "run", config)
    monkeypatch.setattr(train_module, "pick_precision", lambda precision, device: "bf16")
    monkeypatch.setattr(train_module._Run, "_save", real)
    with pytest.warns(RepkitWarning, match="begun on cuda, goes on on cpu, in fp32 as before"):
        results = run(toy, tmp_path / "run", config)
    assert results["precision"] == "fp32"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["precision"] == "fp32"
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_stop_request_saves_the_update_at_hand(toy, tmp_path, small, monkeypatch):
    config = small()
    run(toy, tmp_path / "whole", config)

    @contextmanager
    def asked(enabled):
        stop = threading.Event()
        stop.set()
        yield stop

    monkeypatch.setattr(train_module, "stop_requests", asked)
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path / "run", config)
    monkeypatch.undo()
    assert load_newest_checkpoint(tmp_path / "run" / "checkpoints").step == 1
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    run(toy, tmp_path / "run", config)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_done_is_done(toy, tmp_path, small):
    first = run(toy, tmp_path / "run", small())
    stamp = (tmp_path / "run" / "encoder" / "model.safetensors").stat().st_mtime_ns
    assert run(toy, tmp_path / "run", small(checkpoint_every_s=7.0)) == first  # changes no result
    assert (tmp_path / "run" / "encoder" / "model.safetensors").stat().st_mtime_ns == stamp


def test_other_settings_or_data_are_refused_by_name(toy, tmp_path, small, make_store):
    run(toy, tmp_path / "run", small())
    with pytest.raises(UsageError, match="other settings") as caught:
        run(toy, tmp_path / "run", small(decoder="blind", epochs=3))
    assert caught.value.problems == (
        "settings.decoder: 'bidirectional' in the folder, 'blind' asked for",
        "settings.epochs: 2 in the folder, 3 asked for",
    )
    other = make_store(tmp_path / "other", seed=5)
    with pytest.raises(UsageError, match="frames.toy"):
        pretrain([other], toy[1], tmp_path / "run", small(), "none")


def test_a_run_of_an_older_version_without_a_later_setting_is_continued(toy, tmp_path, small):
    run(toy, tmp_path / "run", small())
    path = tmp_path / "run" / "config.json"
    written = json.loads(path.read_text())
    del written["settings"]["input_noise"]
    path.write_text(json.dumps(written))
    run(toy, tmp_path / "run", small())
    with pytest.raises(UsageError, match=r"settings.input_noise: 0.0 in the folder, 0.1 asked for"):
        run(toy, tmp_path / "run", small(input_noise=0.1))


def test_seeds_give_other_weights_and_the_same_seed_the_same(toy, tmp_path, small):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(toy, tmp_path / name, small(seed=seed, epochs=1))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_frames_from_disk_give_the_same_weights(toy, tmp_path, small):
    run(toy, tmp_path / "memory", small())
    run(toy, tmp_path / "disk", small(ram_budget_gb=0))
    assert same(weights(tmp_path / "memory"), weights(tmp_path / "disk"))


def test_a_loss_that_is_no_number_names_the_utterances_and_keeps_the_checkpoint(toy, tmp_path, small, monkeypatch):
    real = Pieces.batch

    def batch(self, indices, device):
        frames, lengths = real(self, indices, device)
        if any(self[int(i)].id == "toy/007" for i in indices):
            frames[0, 0, 0] = float("nan")
        return frames, lengths

    monkeypatch.setattr(Pieces, "batch", batch)
    with pytest.raises(DataError, match="not a number in epoch 1, update") as caught:
        run(toy, tmp_path / "run", small(checkpoint_every_steps=1, dev_speakers=0))
    assert "toy/007" in caught.value.problems
    found = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is None or all(torch.isfinite(t).all() for t in found.tensors.values())
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_a_full_disk_is_told_and_the_run_goes_on_later(toy, tmp_path, small, monkeypatch):
    run(toy, tmp_path / "whole", small())
    real = checkpoint_module.save_file
    calls = []

    def full(tensors, path):
        calls.append(path)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(DataError, match=r"disk is full.*MB free.*same command again"):
        run(toy, tmp_path / "run", small())
    monkeypatch.setattr(checkpoint_module, "save_file", real)
    monkeypatch.setattr(GruAutoencoder, "save_pretrained", full)
    with pytest.raises(DataError, match="disk is full"):
        run(toy, tmp_path / "run", small())
    monkeypatch.undo()
    run(toy, tmp_path / "run", small())
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_two_processes_do_not_write_one_run(toy, tmp_path, small):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(UsageError, match="another process is at work"):
        run(toy, tmp_path / "run", small())


def test_without_held_out_speakers(toy, tmp_path, small):
    results = run(toy, tmp_path / "run", small(dev_speakers=0))
    assert results["dev_rmse"] is None
    assert results["best"] is None
    assert not (tmp_path / "run" / "encoder-best").exists()


def test_lines_tell_speed_and_time_left(toy, tmp_path, small, capfd):
    run(toy, tmp_path / "run", small(), progress="lines")
    shown = capfd.readouterr().err
    assert "epoch 1/2: train RMSE" in shown
    assert "h of speech/s" in shown
    assert (tmp_path / "run" / "log.txt").read_text().count("epoch ") >= 2


def test_bar_when_asked(toy, tmp_path, small, capfd):
    run(toy, tmp_path / "run", small(), progress="bar")
    shown = capfd.readouterr().err
    assert "h of speech/s" in shown


def test_bf16_trains_too(toy, tmp_path, small):
    results = run(toy, tmp_path / "run", small(precision="bf16"))
    assert results["precision"] == "bf16"
    assert 0 < results["train_rmse"] < 1.5
    assert weights(tmp_path / "run")["bridge.weight"].dtype == torch.float32


def test_a_corpus_of_many_windows_resumes_exactly_and_memory_changes_nothing(
    toy, tmp_path, small, monkeypatch, power_cut_after
):
    monkeypatch.setattr(data_module, "SHARD_SIZE", 2)
    config = small(window_hours=60 * 0.04 / 3600)  # 60 frames
    run(toy, tmp_path / "memory", config)
    streamed = config.model_copy(update={"ram_budget_gb": 0.0, "checkpoint_every_steps": 2})
    real = train_module._Run._update
    power_cut_after(5)
    with pytest.raises(RuntimeError, match="power cut"):
        run(toy, tmp_path / "disk", streamed)
    monkeypatch.setattr(train_module._Run, "_update", real)
    run(toy, tmp_path / "disk", streamed)
    assert same(weights(tmp_path / "memory"), weights(tmp_path / "disk"))
    run(toy, tmp_path / "one-window", small())
    assert not same(weights(tmp_path / "memory"), weights(tmp_path / "one-window"))


@pytest.mark.parametrize(
    ("amx", "avx", "stage_one", "stage_two"),
    [(False, False, "fp32", "fp32"), (False, True, "bf16", "fp32"), (True, True, "bf16", "bf16")],
)
def test_auto_precision_of_both_stages(monkeypatch, amx, avx, stage_one, stage_two):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    assert pick_precision("auto", cpu) == stage_one
    assert resolve_precision("auto", cpu) == stage_two
    assert pick_precision("fp32", cpu) == "fp32"
    assert pick_precision("bf16", cpu) == "bf16"


@pytest.mark.parametrize("decoder", ["blind", "no_leak"])
def test_a_decoder_that_must_use_the_vector_does(tmp_path, small, decoder, make_utterances):
    """Each utterance is one frame repeated, so that only the vector can tell the blind decoder which."""
    random = np.random.default_rng(0)
    spec = StoreSpec(
        kind="frames", dim=12, dtype="float16", corpus="toy", corpus_fingerprint="x", source={}, frame_shift_s=0.04
    )
    with StoreWriter(tmp_path / "frames", spec) as writer:
        for i in range(40):
            writer.add(f"toy/{i:03d}", np.tile(np.tanh(random.normal(0, 0.8, 12)), (8, 1)))
        writer.finish()
    config = small(decoder=decoder, epochs=20, learning_rate=0.02, dropout=0.0, hidden_size=16)
    store = open_store(tmp_path / "frames")
    use = pretrain([store], make_utterances(40), tmp_path / "run", config, "none")["vector_use"]
    assert use["another"] > (1.5 if decoder == "blind" else 1.1) * use["own"]


def test_settings_that_do_not_fit_together():
    with pytest.raises(ValueError, match="feed_previous_probability needs decoder = 'unidirectional'"):
        PretrainConfig(feed_previous_probability=0.1)
    with pytest.raises(ValueError, match="export = 'best' needs held-out speakers"):
        PretrainConfig(export="best", dev_speakers=0)
    with pytest.raises(ValueError, match="leaves gaps"):
        PretrainConfig(chunk_hop_s=8.0)
    with pytest.raises(ValueError, match="epoch"):
        PretrainConfig(epoch=3)


def test_presets():
    paper = PretrainConfig(**load_recipe(PretrainRecipe, "autoencoder_paper").training)
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.clip_value) == (64, 64, 1e-3, 2.0)
    assert (paper.dev_speakers, paper.export) == (0.0, "last")
    assert paper.frontend_table() == {"name": "spectrogram", "settings": {"fixed_length_s": 7.5}}
    assert PretrainConfig().frontend_table() == {"name": "spectrogram", "settings": {"fixed_length_s": None}}
    assert PretrainConfig(frontend="log_mel", frontend_settings={"bands": 40}).frontend_table() == {
        "name": "log_mel",
        "settings": {"bands": 40},
    }
