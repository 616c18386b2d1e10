"""Several corpora in one run: held out, unlabelled, with parts of their own; and what must be refused."""

import json

import numpy as np
import pytest
import torch
from cli_helpers import RECIPE, cli, ok, read_table, speech, write_corpus, write_table
from safetensors.torch import load_file

from repkit.audio.open import open_corpus
from repkit.config import SerRecipe
from repkit.config.schema import Condition
from repkit.store import StoreSpec, StoreWriter

VOICES = ("one", "two", "three")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Three folders of 16 utterances each."""
    root = tmp_path_factory.mktemp("corpora")
    return {
        name: write_corpus(root / name, speech(name, seed=number, style="abc"[number]))
        for number, name in enumerate(VOICES)
    }


@pytest.fixture
def recipe(tmp_path):
    """Return what writes a recipe."""

    def write(tail="", protocol='name = "leave_one_corpus_out"', objectives='[[objectives]]\nname = "multi_view"\n'):
        text = RECIPE.replace('name = "leave_one_speaker_group_out"\nn_groups = 2\nmax_speakers = 2', protocol)
        text = text.replace("seeds = [0, 1]", "seeds = [0]").replace(
            '[[objectives]]\nname = "multi_view"\n', objectives
        )
        path = tmp_path / "several.toml"
        path.write_text(text + tail)
        return path

    return write


def train(recipe, runs, *options, corpora):
    given = [text for name, place in corpora.items() for text in ("--corpus", f"{name}={place}")]
    return ("train-ser", "--recipe", recipe, *given, "--runs", runs, "--workers", 1, *options)


def newest(runs):
    return max(runs.glob("*/*/"))


def job(runs, condition="BL", fold=None):
    folders = sorted((newest(runs) / "jobs" / condition / "seed_0").iterdir())
    return next(f for f in folders if fold in (None, f.name))


DANN = """
[[conditions]]
name = "plain"

[[conditions]]
name = "told"
set.target_audio = "test"
set.objectives = [{name = "multi_view"}, {name = "domain_adversarial", domains = ["corpus", "gender", "language"]}]
"""


def test_a_held_out_corpus_is_tested_whole_and_never_heard(places, recipe, tmp_path):
    corpora = {name: places[name] for name in ("one", "two")}
    ok(*train(recipe(), tmp_path / "runs", "--hold-out", f"three={places['three']}", corpora=corpora))
    run = newest(tmp_path / "runs")
    assert json.loads((run / "protocol.json").read_text())["parts"]["protocol"]["hold_out"] == ["three"]
    split = json.loads((job(tmp_path / "runs") / "split.json").read_text())
    of = {part: {i.split("/")[0] for i in ids} for part, ids in split.items()}
    assert of == {"train": {"one", "two"}, "dev": of["dev"], "test": {"three"}, "unlabelled": set()}
    assert len(split["test"]) == 16
    assert "three" not in of["dev"]


def test_labels_of_unlabelled_audio_change_nothing(places, recipe, tmp_path):
    """Train twice with the audio of the test corpus, once with its labels turned round: not one bit may differ."""
    turned = write_corpus(tmp_path / "three", speech("three", seed=2, style="c"))
    swap = {"anger": "sadness", "sadness": "anger"}
    write_table(turned, [[*row[:3], swap[row[3]]] for row in read_table(turned)])
    weights = []
    for number, place in enumerate((places["three"], turned)):
        runs = tmp_path / f"runs{number}"
        corpora = {name: places[name] for name in ("one", "two")}
        path = recipe(DANN)
        path.write_text("baseline = false\nreference = 'plain'\n" + path.read_text())
        ok(*train(path, runs, "--hold-out", f"three={place}", corpora=corpora))
        split = json.loads((job(runs, "told") / "split.json").read_text())
        assert {i.split("/")[0] for i in split["unlabelled"]} == {"three"}
        weights.append(load_file(job(runs, "told") / "last.safetensors"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    audit = json.loads((newest(runs) / "protocol.json").read_text())["audit"]
    assert any(flag.startswith("transductive: condition(s) told hear the audio of the test part") for flag in audit)
    assert any("condition told" in flag and "no domain head for language" in flag for flag in audit)
    history = [json.loads(line) for line in (job(runs, "told") / "metrics.jsonl").read_text().splitlines()]
    assert {"domain_adversarial.corpus", "domain_adversarial.gender"} < set(history[0]["losses"])
    assert "domain_adversarial.language" not in history[0]["losses"]


def test_adapters_are_trained_per_corpus_on_a_frozen_base(places, recipe, tmp_path):
    tail = """
[[conditions]]
name = "shared"
set.model = {adapters = true}
set.phases = [{name = "shared", training = {sampler = "round_robin"}}]

[[conditions]]
name = "adapted"
set.model = {adapters = true}
set.phases = [
  {name = "shared", training = {sampler = "round_robin"}},
  {name = "adapt", each = "corpus", train = ["adapter", "head"]},
]

[[conditions]]
name = "scratch"
set.phases = [{name = "scratch", each = "corpus", initial = "fresh"}]
"""
    path = recipe(tail, 'name = "leave_one_speaker_group_out"\nn_groups = 2\nmax_speakers = 2')
    ok(*train(path, tmp_path / "runs", corpora={n: places[n] for n in ("one", "two")}))
    shared, adapted = (load_file(job(tmp_path / "runs", c) / "selected.safetensors") for c in ("shared", "adapted"))
    moved = {name for name, value in adapted.items() if not torch.equal(value, shared[name])}
    assert moved
    assert all(name.startswith(("adapters.", "heads.")) for name in moved)
    assert {name.split(".")[2] for name in moved} == {"one", "two"}
    assert {p.name for p in job(tmp_path / "runs", "scratch").glob("*.safetensors")} == {
        "hidden.safetensors", "last.one.safetensors", "last.two.safetensors", "normalisation.safetensors",
        "selected.one.safetensors", "selected.two.safetensors",
    }  # fmt: skip


def test_segments_are_joined_to_utterances(places, recipe, tmp_path):
    ok(
        *train(
            recipe("\n[segments]\nlength_s = 0.2\n"), tmp_path / "runs", corpora={n: places[n] for n in ("one", "two")}
        )
    )
    import pandas as pd

    table = pd.read_parquet(job(tmp_path / "runs") / "predictions.parquet")
    test = table[(table["part"] == "test") & (table["checkpoint"] == "selected")]
    assert len(test) == 16 == test["id"].nunique()
    assert all(sum(p) == pytest.approx(1.0, abs=1e-5) for p in test["probabilities"])


def relabelled(place, emotions, tmp_path):
    """Return a copy of a corpus with other emotions."""
    copy = write_corpus(tmp_path / f"{place.name}_copy", speech(place.name))
    write_table(copy, [[*row[:3], emotions[place_ % len(emotions)]] for place_, row in enumerate(read_table(copy))])
    return copy


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("protocol that holds nothing out", 2, "--hold-out: protocol 'leave_one_speaker_out' holds no corpus out"),
        ("no common class", 4, "the test utterances of corpus 'one' have anger, sadness; at least one in common"),
        ("one class", 4, "train has the class(es) anger in 12 utterances; at least 2 classes were expected"),
        ("no labels", 4, "corpus 'two': none of its utterances has a class of emotion"),
        ("one corpus", 4, "protocol leave_one_corpus_out: one corpus (one)"),
        ("unknown corpus", 4, "protocol.hold_out: 'tow' is no corpus with usable labels; did you mean 'two'?"),
        ("parts of an unheard corpus", 2, "keeps parts per corpus, and one is tested without being trained on"),
        ("plugin that is not there", 2, "it comes with repkit-baselines"),
        ("condition that sets labels", 2, "a condition may set model, objectives"),
        ("wrong key in a condition", 2, "conditions.x.set.model.n_filter: unknown key; did you mean 'n_filters'?"),
        ("unknown reference", 2, "reference 'y' is no condition"),
        ("phase without such a view", 2, "views ['arousal']; the labels have ['emotion']"),
        ("one speaker to train on", 4, "1 speaker is left outside the test part"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(
    places, recipe, tmp_path, monkeypatch, change, code, said
):
    corpora, options, path = {n: places[n] for n in ("one", "two")}, [], recipe()
    if change == "protocol that holds nothing out":
        path = recipe(protocol='name = "leave_one_speaker_out"')
        options = ["--hold-out", f"three={places['three']}"]
    elif change == "no common class":
        corpora["two"] = relabelled(places["two"], ("fear", "disgust"), tmp_path)
    elif change == "one class":
        corpora["two"] = relabelled(places["two"], ("anger",), tmp_path)
    elif change == "no labels":
        corpora["two"] = relabelled(places["two"], ("",), tmp_path)
    elif change == "one corpus":
        del corpora["two"]
    elif change == "unknown corpus":
        options = ["--set", 'protocol.hold_out=["tow"]']
    elif change == "parts of an unheard corpus":
        options = ["--set", "model.adapters=true"]
    elif change == "plugin that is not there":
        monkeypatch.setenv("REPKIT_PLUGINS", "none")
        path = "keesing2020_a1"
    elif change == "condition that sets labels":
        path = recipe('\n[[conditions]]\nname = "x"\nset = {labels = {map = "own"}}\n')
    elif change == "wrong key in a condition":
        path = recipe('\n[[conditions]]\nname = "x"\nset = {model = {n_filter = 3}}\n')
    elif change == "unknown reference":
        options = ["--set", "reference=y"]
    elif change == "phase without such a view":
        path = recipe('\n[[phases]]\nname = "p"\nviews = ["arousal"]\n')
    elif change == "one speaker to train on":
        corpora = {n: write_corpus(tmp_path / n, speech(n, n_speakers=1)) for n in ("one", "two")}
    done = cli(*train(path, tmp_path / "runs", *options, corpora=corpora))
    assert (done.code, said in done.err) == (code, True), done.err
    assert not list(tmp_path.glob("runs/*/*/jobs/*"))


def test_a_corpus_of_five_utterances_is_said_to_say_little(places, recipe, tmp_path):
    small = write_corpus(tmp_path / "two", speech("two", n_speakers=5, n_sentences=1, emotions=("anger",)))
    done = ok(*train(recipe(), tmp_path / "runs", "--hold-out", f"two={small}", corpora={"one": places["one"]}))
    assert "corpus two has only 5 usable utterances: its scores say little" in done.err


def test_embeddings_need_a_model_that_reads_them(places, recipe, tmp_path):
    for name in ("one", "two"):
        corpus = open_corpus(name, str(places[name]))
        spec = StoreSpec(
            kind="vectors", dim=3, dtype="float32", corpus=name, corpus_fingerprint=corpus.fingerprint(),
            source={"encoder": "toy", "speakers": []}, frame_shift_s=None,
        )  # fmt: skip
        with StoreWriter(tmp_path / "toy" / name, spec) as writer:
            for utterance in corpus.utterances():
                writer.add(utterance.id, np.zeros(3, np.float32))
            writer.finish()
    options = ["--embeddings", f"x={tmp_path / 'toy'}", "--set", 'model={name="adapter_resnet"}']
    done = cli(*train(recipe(), tmp_path / "runs", *options, corpora={n: places[n] for n in ("one", "two")}))
    assert done.code == 2
    assert "condition 'x': model 'adapter_resnet' does not read embeddings (vectors)" in done.err


def test_every_system_of_a_recipe_is_trained_with_and_without_an_embedding():
    systems = tuple(Condition(name=name, set={"training": {"epochs": n}}) for n, name in enumerate(("a", "b"), 1))
    recipe = SerRecipe(name="x", baseline=False, conditions=systems, reference="a")
    both = recipe.with_embeddings([Condition(name="Li", embeddings="folder")])
    assert [(c.name, c.embeddings, both.of_condition(c).training.epochs) for c in both.conditions] == [
        ("a", None, 1), ("b", None, 2), ("a.Li", "folder", 1), ("b.Li", "folder", 2),
    ]  # fmt: skip
