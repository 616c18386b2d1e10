"""A stage-one run that has lost something, was damaged or refused: mended by the same command, or refused by name."""

import json
import os
import shutil
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from repkit.errors import DataError, RepkitWarning, UsageError
from repkit.stage_one import train as train_module
from repkit.stage_one.gru_autoencoder import GruAutoencoder
from repkit.stage_one.open import open_encoder
from repkit.stage_one.train import pretrain
from repkit.workflows import pretrain_ae as workflow

NOT_THE_SAME = ("peak_memory_mb",)


def run(toy, out, config):
    return pretrain([toy[0]], toy[1], out, config, "none")


def told(results):
    return {key: value for key, value in results.items() if key not in NOT_THE_SAME}


def flip(path):
    """Flip a bit of the last weight."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)


def never(*_):
    raise AssertionError("nothing was to be trained")


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (lambda out: shutil.rmtree(out / "encoder"), "config.json is not there"),
        (lambda out: (out / "encoder" / "model.safetensors").unlink(), "model.safetensors is not there"),
        (lambda out: (out / "results.json").unlink(), "results.json is not there"),
        (lambda out: flip(out / "encoder" / "model.safetensors"), "are damaged or were replaced"),
    ],
)
def test_what_a_finished_run_has_lost_is_exported_again(toy, tmp_path, small, monkeypatch, lose, words):
    out = tmp_path / "run"
    first = run(toy, out, small())
    weights = (out / "encoder" / "model.safetensors").read_bytes()
    lose(out)
    monkeypatch.setattr(train_module._Run, "_update", never)
    with pytest.warns(RepkitWarning, match=rf"its training is done, but .*{words}"):
        again = run(toy, out, small())
    assert told(again) == told(first)
    assert (out / "encoder" / "model.safetensors").read_bytes() == weights
    assert json.loads((out / "results.json").read_text()) == again
    assert told(run(toy, out, small())) == told(first)
    open_encoder(str(out))


def test_an_encoder_that_is_lost_is_told_with_the_command_that_mends_it(toy, tmp_path, small):
    run(toy, tmp_path / "run", small())
    shutil.rmtree(tmp_path / "run" / "encoder")
    with pytest.raises(UsageError, match=r"training is done, but .*encoder is not there.*exports it from the last"):
        open_encoder(str(tmp_path / "run"))
    (tmp_path / "run" / "status.json").write_text("{")
    with pytest.raises(DataError, match=r"status\.json: damaged"):
        open_encoder(str(tmp_path / "run"))


def test_damaged_weights_are_refused_in_the_run_and_copied_elsewhere(toy, tmp_path, small):
    out = tmp_path / "run"
    results = run(toy, out, small())
    for part in ("encoder", "encoder-best"):
        config = json.loads((out / part / "config.json").read_text())
        assert len(config["weights_sha256"]) == 64
    assert json.loads((out / "encoder" / "config.json").read_text())["weights_sha256"] == results["weights_sha256"]
    shutil.copytree(out / "encoder", tmp_path / "copied")
    open_encoder(str(tmp_path / "copied"))
    for folder in (out / "encoder", out / "encoder-best", tmp_path / "copied"):
        flip(folder / "model.safetensors")
        for load in (open_encoder, GruAutoencoder.from_pretrained, AutoModel.from_pretrained):
            with pytest.raises(UsageError, match=r"weights of SHA-256 .* was expected, as they were exported"):
                load(str(folder))
    with pytest.raises(UsageError, match="as they were exported"):
        open_encoder(str(out))


def without_sum(folder):
    """As an earlier repkit has exported it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["weights_sha256"]
    path.write_text(json.dumps(config))


def test_a_run_of_an_earlier_repkit_opens_and_its_results_tell_of_damage(toy, tmp_path, small):
    out = tmp_path / "run"
    run(toy, out, small())
    without_sum(out / "encoder")
    shutil.copytree(out / "encoder", tmp_path / "copied")
    open_encoder(str(out))
    open_encoder(str(tmp_path / "copied"))
    flip(out / "encoder" / "model.safetensors")
    flip(tmp_path / "copied" / "model.safetensors")
    with pytest.raises(UsageError, match="as they were exported"):
        open_encoder(str(out))
    open_encoder(str(tmp_path / "copied"))  # nothing tells


def test_the_sum_does_not_go_with_weights_that_somebody_changes(toy, tmp_path, small):
    run(toy, tmp_path / "run", small())
    model = GruAutoencoder.from_pretrained(tmp_path / "run" / "encoder")
    with torch.no_grad():
        model.bridge.bias += 1
    model.save_pretrained(tmp_path / "mine")
    assert "weights_sha256" not in json.loads((tmp_path / "mine" / "config.json").read_text())
    torch.testing.assert_close(open_encoder(str(tmp_path / "mine")).model.bridge.bias, model.bridge.bias)


@pytest.mark.parametrize("known", [True, False])
def test_weights_cut_short(toy, tmp_path, small, known):
    run(toy, tmp_path / "run", small())
    folder = shutil.copytree(tmp_path / "run" / "encoder", tmp_path / "copied")
    if not known:
        without_sum(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    words = "as they were exported" if known else "cannot be loaded.*copy the folder again"
    with pytest.raises(UsageError, match=words):
        open_encoder(str(folder))


def cut_short(toy, tmp_path, config, monkeypatch, power_cut_after):
    """Return the results of a whole run and the folder of one that has lost power after two thirds of it."""
    whole = run(toy, tmp_path / "whole", config)
    out = tmp_path / "run"
    power_cut_after(2 * whole["updates"] // 3)
    with pytest.raises(RuntimeError, match="power cut"):
        run(toy, out, config)
    monkeypatch.undo()
    return whole, out


def test_metrics_that_are_lost_do_not_stop_a_run(toy, tmp_path, small, monkeypatch, power_cut_after):
    config = small(epochs=3)
    whole, out = cut_short(toy, tmp_path, config, monkeypatch, power_cut_after)
    (out / "metrics.jsonl").unlink()
    with pytest.warns(RepkitWarning, match=r"metrics\.jsonl: has the figures of 0 of the 2 epochs"):
        results = run(toy, out, config)
    assert [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [3]
    assert results["weights_sha256"] == whole["weights_sha256"]
    assert (results["train_rmse"], results["best"]) == (whole["train_rmse"], whole["best"])
    assert results["training_seconds"] is None  # that of two epochs is not known
    assert results["hours_per_second"] > 0


def test_metrics_that_are_lost_behind_the_last_epoch(toy, tmp_path, small):
    out = tmp_path / "run"
    first = run(toy, out, small())
    (out / "metrics.jsonl").unlink()
    (out / "results.json").unlink()
    with pytest.warns(RepkitWarning) as caught:
        again = run(toy, out, small())
    assert ["results.json is not there" in str(caught[0].message), "of the 2 epochs" in str(caught[1].message)] == [
        True
    ] * 2
    unknown = ("training_seconds", "hours_per_second")
    assert all(again[name] is None for name in unknown)
    assert {k: v for k, v in told(again).items() if k not in unknown} == {
        k: v for k, v in told(first).items() if k not in unknown
    }


def test_lines_that_are_no_records_and_those_behind_the_checkpoint_go(
    toy, tmp_path, small, monkeypatch, power_cut_after
):
    config = small(epochs=3)
    _, out = cut_short(toy, tmp_path, config, monkeypatch, power_cut_after)
    first, second = (out / "metrics.jsonl").read_text().splitlines()
    behind = json.dumps({**json.loads(second), "epoch": 3})
    (out / "metrics.jsonl").write_text(f"{second}\n{behind}\n{first[:20]}")  # the first was lost, the last cut
    with pytest.warns(RepkitWarning, match="1 of the 2 epochs"):
        run(toy, out, config)
    found = (out / "metrics.jsonl").read_text().splitlines()
    assert found[0] == second
    assert [json.loads(line)["epoch"] for line in found] == [2, 3]


@pytest.mark.parametrize("wrong", [{"hours": 5.0}, {"corpus_weights": {"tay": 2.0}}])
def test_a_start_that_was_refused_does_not_bind_the_folder(toy, tmp_path, small, wrong):
    out = tmp_path / "run"
    with pytest.raises((UsageError, DataError)):
        run(toy, out, small(**wrong))
    assert run(toy, out, small())["epochs"] == 2


def test_a_folder_that_an_earlier_repkit_has_bound_without_training_is_free(toy, tmp_path, small):
    out = tmp_path / "run"
    run(toy, out, small())
    for part in out.iterdir():
        if part.name not in ("config.json", "environment.json", "lock"):
            part.unlink() if part.is_file() else shutil.rmtree(part)
    (out / "checkpoints").mkdir()
    assert run(toy, out, small(epochs=1))["epochs"] == 1
    # whatever is left of a training binds it
    for part in ("status.json", "results.json", "metrics.jsonl"):
        (out / part).unlink()
    with pytest.raises(UsageError, match="other settings"):
        run(toy, out, small())


@pytest.mark.parametrize("place", ["afile", "afile/below"])
def test_a_folder_that_cannot_be_made_is_told_before_any_sound_is_read(tmp_path, monkeypatch, small, place):
    from repkit.audio.synthetic import SyntheticCorpus

    (tmp_path / "afile").write_text("x")
    corpus = SyntheticCorpus(SyntheticCorpus.Config(name="toy", n_speakers=2, n_sentences=1, duration_s=0.6))
    monkeypatch.setattr(workflow, "cached_frames", never)
    with pytest.raises(UsageError, match=rf"--out .*{place}: .*a writable folder was expected"):
        workflow.pretrain_ae([corpus], tmp_path / place, small(), cache=tmp_path / "cache", progress="none")


def test_a_run_in_which_another_process_is_at_work_is_told_before_any_sound_is_read(tmp_path, monkeypatch, small):
    from repkit.audio.synthetic import SyntheticCorpus
    from repkit.runs.directory import locked

    (tmp_path / "run").mkdir()
    corpus = SyntheticCorpus(SyntheticCorpus.Config(name="toy", n_speakers=2, n_sentences=1, duration_s=0.6))
    monkeypatch.setattr(workflow, "cached_frames", never)
    with locked(tmp_path / "run"), pytest.raises(UsageError, match="another process is at work"):
        workflow.pretrain_ae([corpus], tmp_path / "run", small(), cache=tmp_path / "cache", progress="none")


@pytest.mark.skipif(os.name != "posix", reason="rights of files")
def test_all_files_of_a_run_may_be_read_by_whom_the_umask_lets(toy, tmp_path, small):
    before = os.umask(0o027)
    try:
        run(toy, tmp_path / "run", small())
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".jsonl"}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {p.name: "0o640" for p in files}


def test_a_published_model_cut_short(tmp_path):
    """As transformers has them, without a checksum."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = HubertConfig(**sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    HubertModel(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt"})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UsageError, match=r"cannot be loaded .*expected an id on the Hugging Face hub or a folder"):
        open_encoder(f"hf:{tmp_path}")
