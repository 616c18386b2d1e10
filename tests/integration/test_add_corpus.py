"""Adding a corpus to a finished run: the base and the old corpus stay to the bit."""

import pytest
import torch
from cli_helpers import cli, ok, speech, write_corpus
from safetensors.torch import load_file

SMALL = ("model.width=2", "model.attention_units=4", "training.batch_size=8", "training.crop_s=0.5", "seeds=[0]")
SMALL = tuple(text for pair in (("--set", s) for s in (*SMALL, "training.learning_rate_steps=[1.0]")) for text in pair)
SMALL += ("--set", "training.epochs=1", "--set", "training.patience=1", "--workers", "1")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("add")
    made = {n: write_corpus(root / n, speech(n, n_speakers=5, seed=i)) for i, n in enumerate(("old", "new"))}
    given = ("--corpus", f"old={made['old']}", "--runs", root / "runs")
    ok(
        "train-ser",
        "--recipe",
        "adapters",
        *given,
        *SMALL,
        "--set",
        'conditions=[{name="scratch", set={model={mode="adapters"}}}]',
    )
    return made, root


def job(root, recipe, condition):
    return next((root / "runs" / recipe).glob(f"*/jobs/{condition}/seed_0/*"))


def test_a_corpus_is_added_on_the_base_of_an_earlier_run(places):
    made, root = places
    before = job(root, "adapters", "scratch")
    initial = before.parents[1] / "seed_{seed}" / "{fold}"
    given = [text for n, place in made.items() for text in ("--corpus", f"{n}={place}")]
    ok(
        "train-ser", "--recipe", "add_corpus", *given, "--runs", root / "runs", *SMALL,
        "--set", f"phases.0.initial={initial}", "--set", 'phases.0.corpora=["new"]',
    )  # fmt: skip
    old = load_file(before / "selected.safetensors")
    both = load_file(job(root, "add_corpus", "added") / "selected.safetensors")
    assert all(torch.equal(both[name], value) for name, value in old.items())
    added = set(both) - set(old)
    assert added
    assert all(name.startswith("corpora.new.") for name in added)
    assert any(both[name].is_floating_point() and both[name].any() for name in added)


def test_a_base_that_has_heard_the_test_speakers_is_refused(places, tmp_path):
    made, root = places
    initial = job(root, "adapters", "scratch")
    given = [text for n, place in made.items() for text in ("--corpus", f"{n}={place}")]
    done = cli(
        "train-ser", "--recipe", "add_corpus", *given, "--runs", tmp_path / "runs", *SMALL, "--set", "protocol.seed=1",
        "--set", f"phases.0.initial={initial}", "--set", 'phases.0.corpora=["new"]',
    )  # fmt: skip
    assert done.code == 4
    assert "its training has heard" in done.err
