"""What a reproduction would cost: every part once, sums by run and by cell, with replaced clocks."""

import functools
import json

import numpy as np
import pytest
import soundfile

from repkit.audio.open import open_corpus
from repkit.errors import RecipeError, UsageError
from repkit.papers import load_paper
from repkit.plugins import components
from repkit.stage_one import cost
from repkit.store import StoreWriter
from repkit.workflows.embed import embeddings_spec
from repkit.workflows.reproduce import cost as reproduce_cost
from repkit.workflows.reproduce.cells import Request, plan_cells, units_of
from repkit.workflows.reproduce.cost import Costing
from repkit.workflows.train_ser import cost as ser_cost

PAPER = """
name = "toy"
title = "Tones"
authors = "A & B"
venue = "Nowhere"
year = 2001

[[corpora]]
name = "one"
title = "One"

[[corpora]]
name = "two"
title = "Two"

[[corpora]]
name = "heard"
title = "Heard"

[[systems]]
id = "CNN"
recipe = "network.toml"

[[systems]]
id = "AE"
recipe = "network.toml"
condition = "AE"
stage_one = { recipe = "autoencoder_paper", corpus = "heard", set = ["training.hidden_size=4", "training.n_layers=1"] }

[[systems]]
id = "SVM"
recipe = "probe"
condition = "F"
embed = "functionals:prosody"
set = ["protocol.n_groups=2", "protocol.max_speakers=2"]

[[systems]]
id = "Gone"
recipe = "probe"
condition = "G"
embed = "deepspectrum:nobody/nothing"

[[tables]]
id = "t"
caption = "each by itself"
protocol = "two folds"

[[tables.blocks]]
columns = ["CNN", "AE", "SVM", "Gone"]

[tables.blocks.values]
one = [50.0, 1.0, 2.0, 3.0]
two = [50.0, 1.0, 2.0, 3.0]
"""

NETWORK = """
schema = 1
command = "train-ser"
name = "network"
seeds = [0, 1]
max_duration_s = 0.5

[labels]
map = "own"
views = ["emotion"]

[frontend]
name = "log_mel"
bands = 8

[protocol]
name = "leave_one_speaker_group_out"
n_groups = 2
max_speakers = 2

[model]
name = "attentive_cnn"
n_filters = 4

[[objectives]]
name = "multi_view"

[training]
epochs = 2
batch_size = 8
"""

HOUR = 3600.0


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A paper, its recipe and three corpora of 8, 16 and 24 files of 0.5 s, in the folder at hand."""
    monkeypatch.chdir(tmp_path)
    once = functools.cache(components)
    for where in ("repkit.plugins.discover", "repkit.config.locate"):
        monkeypatch.setattr(f"{where}.components", once)
    (tmp_path / "toy.toml").write_text(PAPER)
    (tmp_path / "network.toml").write_text(NETWORK)
    draw = np.random.default_rng(0)
    for n, name in enumerate(("one", "two", "heard"), 1):
        (tmp_path / name).mkdir()
        rows = ["file_name,speaker_id,emotion"]
        for i in range(8 * n):
            soundfile.write(tmp_path / name / f"{i}.wav", 0.1 * draw.standard_normal(8000), 16000)
            rows.append(f"{i}.wav,s{i // 2 % 4},{('anger', 'sadness')[i % 2]}")
        (tmp_path / name / "metadata.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def tried(monkeypatch):
    """Clocks: 2 s an update, 3 s to encode and 0.1 s to make the frames of a second; a fit 5 s, an utterance 1 s."""
    seen = []

    def replace(module, name, found):
        monkeypatch.setattr(module, name, lambda *args, **more: seen.append(name) or found(*args))

    replace(cost, "seconds_per_update", lambda config, *_: 2.0)
    replace(cost, "encoding_rate", lambda encoder, speech: 3.0)
    replace(cost, "frames_rate", lambda frontend, speech: 0.1)
    replace(ser_cost, "time_fits", lambda *sizes: (5.0, 5.0))
    replace(ser_cost, "time_step", lambda plan, condition: (8.0, 1))  # a batch of 8
    return seen


def costs_of(place, *only, **more):
    corpora = {name: open_corpus(name, str(place / name)) for name in ("one", "two", "heard")}
    asked = Request(paper=load_paper("toy.toml"), corpora=corpora, only=only, workers=1, **more)
    units = units_of(plan_cells(asked))
    costing = Costing(asked, {}, place / "bare")
    found = {one.cell.id.split("/", 2)[2]: (unit, one, costing) for unit, some in units.items() for one in some}
    made = {unit: costing.unit(unit, some) for unit, some in units.items()}
    return costing, {key: (made[unit], one) for key, (unit, one, _) in found.items()}


def told(steps):
    return {(step.kind, step.what): step.hours for step in steps}


def test_estimators_with_vectors_of_an_encoder(place, tried):
    costing, found = costs_of(place, "svm")
    # 3 s a second of speech; frames are made for every run, whatever it reads
    assert told(costing.steps.values()) == {
        ("vectors", "one by functionals-prosody"): pytest.approx(3 * 8 * 0.5 / HOUR),
        ("vectors", "two by functionals-prosody"): pytest.approx(3 * 16 * 0.5 / HOUR),
        ("frames", "one by log_mel (26 columns)"): pytest.approx(0.1 * 8 * 0.5 / HOUR),
        ("frames", "two by log_mel (26 columns)"): pytest.approx(0.1 * 16 * 0.5 / HOUR),
    }
    cost_one, cell = found["SVM/one"]
    # two folds; five C by inner folds of two speakers, and the last fit
    fits = 2 * (2 * 5 + 1) * 5.0
    assert (cost_one.run.n_jobs, cost_one.run.hours) == (2, pytest.approx(fits / HOUR))
    assert cost_one.of_cell(cell) == pytest.approx((fits + 12 + 0.4) / HOUR)
    assert tried.count("time_fits") == 2  # of every corpus, for it has so many utterances
    assert tried.count("encoding_rate") == tried.count("frames_rate") == 1


def test_stage_one_counts_once_and_in_every_cell(place, tried):
    costing, found = costs_of(place, "ae", "cnn")
    # 24 utterances, a twentieth held out: one batch of 64 an epoch, 64 epochs, pieces of the paper's 7.5 s
    heard = told(costing.steps.values())
    assert heard["stage one", "autoencoder_paper on heard"] == pytest.approx(64 * 2.0 / HOUR)
    assert heard["frames", "heard by spectrogram (128 columns)"] == pytest.approx(0.1 * 12 / HOUR)
    assert heard["vectors", "two by autoencoder_paper-heard-" + mark(heard)] == pytest.approx(3 * 8 / HOUR)
    assert tried.count("seconds_per_update") == 1
    cost_two, cell = found["AE/two"]
    # half of 16 utterances in train: 1 batch, 2 folds, 2 seeds, 2 epochs, 8 s each; AE shares the run with the CNN
    training = 2 * 2 * 2 * 8.0
    assert cost_two.run.hours == pytest.approx(2 * training / HOUR)
    assert cost_two.run.n_jobs == 2 * 2 * 2
    rest = 64 * 2.0 + 0.1 * 12 + 3 * 8 + 0.1 * 8
    assert cost_two.of_cell(cell) == pytest.approx((training + rest) / HOUR)
    assert found["CNN/two"][0].of_cell(found["CNN/two"][1]) == pytest.approx((training + 0.1 * 8) / HOUR)
    assert tried.count("time_step") == 2  # with and without a vector, for both corpora
    fewer, _ = costs_of(place, "ae", pretrain_assignments=("training.epochs=32",))
    assert told(fewer.steps.values())["stage one", "autoencoder_paper on heard"] == pytest.approx(64 / HOUR)


def mark(heard):
    return next(what for kind, what in heard if kind == "vectors").rsplit("-", 1)[1]


def test_what_cannot_be_known_is_said_by_name(place, tried, monkeypatch):
    monkeypatch.setattr(reproduce_cost, "open_encoder", refuses)
    _, found = costs_of(place, "gone/one")
    cost_one, cell = found["Gone/one"]
    (vectors, frames) = cost_one.before["G"]
    assert (vectors.hours, vectors.why) == (None, "encoder deepspectrum:nobody/nothing: its weights are not here")
    assert cost_one.run.hours > 0  # its class says how wide the vectors are
    assert cost_one.of_cell(cell) is None
    monkeypatch.setattr(reproduce_cost, "_declared_dim", lambda spec: None)
    _, found = costs_of(place, "gone/one")
    run = found["Gone/one"][0].run
    assert (run.hours, run.n_jobs, run.why) == (
        None,
        None,
        "encoder deepspectrum:nobody/nothing: its weights are not here",
    )
    monkeypatch.setattr(reproduce_cost, "file_seconds", lambda corpus, most: None)
    costing, _ = costs_of(place, "cnn/one")
    (frames,) = costing.steps.values()
    assert (frames.hours, frames.why) == (
        None, "corpus one: the lengths of its utterances are not known before its audio is read",
    )  # fmt: skip


def refuses(spec):
    raise UsageError(f"its weights are not here\n{spec}")


def test_stores_that_are_there_cost_nothing(place, tried):
    encoder = reproduce_cost.open_encoder("functionals:prosody")
    corpus = open_corpus("one", str(place / "one"))
    with StoreWriter(
        place / "embeddings" / encoder.name / "one", embeddings_spec(corpus, encoder, "float32", None)
    ) as writer:
        for utterance in corpus.utterances():
            writer.add(utterance.id, np.zeros(encoder.dim, np.float32))
        writer.finish()
    costing, _ = costs_of(place, "svm")
    vectors = {step.what: (step.hours, step.done) for step in costing.steps.values() if step.kind == "vectors"}
    assert vectors["one by functionals-prosody"] == (0.0, True)
    assert vectors["two by functionals-prosody"][1] is False


def test_a_finished_stage_one_is_opened_and_not_counted(place, tried):
    costing, _ = costs_of(place, "ae/one")
    (run,) = (place / "bare").iterdir()
    (place / "runs").mkdir()
    run.rename(place / "runs" / run.name)
    (place / "runs" / run.name / "status.json").write_text(json.dumps({"state": "done"}))
    costing, found = costs_of(place, "ae/one")
    assert {step.kind for step in costing.steps.values()} == {"vectors", "frames"}
    assert found["AE/one"][0].of_cell(found["AE/one"][1]) > 0
    assert not (place / "embeddings").exists()


def test_a_run_that_cannot_be_planned_says_why(place, tried):
    _, found = costs_of(place, "cnn/one", assignments=("training.epochs=0",))
    run = found["CNN/one"][0].run
    assert run.hours is None
    assert run.why.startswith("cannot be planned: recipe network")
    assert "training.epochs: got 0; at least 1 was expected" in run.why  # all of it, not the first line alone
    assert isinstance(found["CNN/one"][0].error, RecipeError)


def test_wrong_settings_are_known_before_any_encoder_is_tried(place, tried):
    costing, found = costs_of(place, "svm", "ae", assignments=("foo=1",))
    assert (tried, costing.steps) == ([], {})
    assert {type(cost_one.error) for cost_one, _ in found.values()} == {RecipeError}
    # of stage one: its condition alone
    _, found = costs_of(place, "cnn/one", "ae/one", pretrain_assignments=("foo=1",))
    run, cell = found["AE/one"]
    assert "foo: unknown key" in run.run.why
    assert (run.of_cell(cell), isinstance(run.error, RecipeError)) == (None, True)
    assert found["CNN/one"][0].of_cell(found["CNN/one"][1]) > 0
