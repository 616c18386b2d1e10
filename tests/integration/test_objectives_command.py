"""Objectives from the command line to stores: trained, untrained and scored like any other encoder."""

import json

import numpy as np
import pytest
from cli_helpers import cli, ok

from repkit.store import open_store

SMALL = ("training.hidden_size=6", "training.epochs=1", "training.batch_size=8", "training.chunk_s=0.5")
SMALL += ("training.frontend_settings.bands=10", "training.device=cpu")


@pytest.fixture(scope="module")
def mix(stage_one, tmp_path_factory):
    """A run of the mix in a folder of its own."""
    folder = tmp_path_factory.mktemp("mix")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPKIT_CACHE", str(folder / "cache"))
        settings = [word for value in SMALL for word in ("--set", value)]
        done = ok(
            "pretrain-ae", "--recipe", "cpc_prosody_functionals", "--corpus", f"toy={stage_one / 'toy'}",
            "--out", folder / "mix", *settings,
        )  # fmt: skip
    assert "dev_loss" in done.out
    return folder


def test_stores_say_readout_layers_and_objectives(stage_one, mix):
    corpus = f"toy={stage_one / 'toy'}"
    for encoder in ("", "untrained:"):
        for more in ((), ("--readout", "mean_sd", "--layers", "last")):
            ok("embed", "--encoder", f"{encoder}{mix / 'mix'}", "--corpus", corpus, "--out", mix / "emb", *more)
    ok("embed", "--encoder", f"untrained:{mix / 'mix'}", "--init", "paper", "--seed", 2, "--corpus", corpus,
       "--out", mix / "emb")  # fmt: skip
    names = ("mix", "mix-mean_sd-last", "untrained-mix", "untrained-mix-mean_sd-last", "untrained-seed2-paper-mix")
    assert {path.name for path in (mix / "emb").iterdir()} == set(names)
    stores = {name: open_store(mix / "emb" / name / "toy") for name in names}
    source = stores["mix"].spec.source
    assert (source["readout"], source["layers"]) == ("mean_sd_delta", "all")
    assert [one["name"] for one in source["objectives"]] == ["cpc", "prosody_contours", "crop_functionals"]
    assert len(source["speakers"]) == 3
    assert source["frontend"]["trim_db"] == 40.0
    assert stores["untrained-mix"].spec.source["objectives"] == []
    assert (stores["mix"].spec.dim, stores["mix-mean_sd-last"].spec.dim) == (36, 12)
    values = {name: store.load().values for name, store in stores.items()}
    assert all(np.isfinite(v).all() for v in values.values())
    # of all layers: means, deviations, movements; the top layer's lie in the second half of each
    np.testing.assert_allclose(values["mix"][:, 6:12], values["mix-mean_sd-last"][:, :6], atol=1e-5)
    np.testing.assert_allclose(values["mix"][:, 18:24], values["mix-mean_sd-last"][:, 6:], atol=1e-5)


def test_a_run_says_what_it_would_learn(stage_one, tmp_path):
    done = ok("pretrain-ae", "--recipe", "masked_spans", "--corpus", f"toy={stage_one / 'toy'}", "--out", tmp_path / "x",
              "--dry-run")  # fmt: skip
    assert "masked_spans" in done.out + done.err
    assert not (tmp_path / "x").exists()


def test_what_does_not_fit_is_refused_before_any_audio(stage_one, tmp_path):
    corpus, out = f"toy={stage_one / 'toy'}", tmp_path / "x"
    done = cli("pretrain-ae", "--recipe", "apc", "--corpus", corpus, "--out", out, "--set", "objectives.0.shft=2")
    assert (done.code, "objectives.0.shft: unknown key; did you mean 'shift'?" in done.err) == (2, True)
    done = cli("pretrain-ae", "--recipe", "apc", "--corpus", corpus, "--out", out, "--set", "training.decoder=blind")
    assert (done.code, "only for the autoencoder" in done.err) == (2, True)
    for setting, said in (
        ("training.pooling=attentive", "none of the objectives apc reads the vector"),
        ("training.bidirectional=true", "an encoder of one direction was expected"),
        ("objectives.0={name='prosody_contours'}", "use frontend = 'affect'"),
    ):
        done = cli("pretrain-ae", "--recipe", "apc", "--corpus", corpus, "--out", out, "--set", setting,
                   "--set", "training.frontend=spectrogram")  # fmt: skip
        assert done.code == 2, done.err
        assert said in done.err
        assert not (out / "metrics.jsonl").exists()


def test_checks_of_the_kit_from_the_command_line():
    done = ok("plugins", "check", "cpc", "--set", "others=3")
    assert "padding_changes_nothing" in done.out
    assert json.dumps("failed") not in done.out
    shown = ok("plugins", "show", "masked_spans").out
    assert "corrupt" in shown
