"""How long stage two takes: the number of fits and what each takes, with replaced clocks; stores that are not made yet."""

import pytest
import torch

from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.config.schema import Condition
from repkit.errors import DataError, UsageError
from repkit.workflows.train_ser import cost as ser_cost
from repkit.workflows.train_ser.conditions import open_stores
from repkit.workflows.train_ser.cost import Cost, condition_cost, estimate_seconds, expecting, time_fits
from repkit.workflows.train_ser.plan import make_plan

SIZES = {"n_speakers": 4, "emotions": ["anger", "sadness"], "n_sentences": 2, "duration_s": 0.6}


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("synthetic_a", options=SIZES)


def plan(corpus, *settings, dims=None, recipe="probe", folder="emb/x"):
    read = load_recipe(SerRecipe, recipe, ["protocol.n_groups=2", "protocol.max_speakers=2", *settings])
    read = read.model_copy(update={"conditions": (Condition(name="x", embeddings=folder),), "reference": "x"})
    return make_plan(read, {corpus.name: corpus}, find=expecting(dims or {"emb/x": 5}, open_stores))


@pytest.mark.parametrize(
    ("settings", "jobs", "before"),
    [
        # two folds; two training speakers, left out one by one; three candidates: 1 + 2 x 0.25 s, and 1 s for the last fit
        (["model.c=[0.1, 1.0, 10.0]"], 2 * (2 * 1.5 + 1), 0.0),
        (["model.c=[0.1, 1.0, 10.0]", "seeds=[0, 1, 2]"], 6 * (2 * 1.5 + 1), 0.0),
        (["model.c=[1.0]"], 2 * 1.0, 0.0),
        (["model.c=[0.1, 1.0]", "training.select_by=dev.uar", "protocol.dev=speakers"], 2 * (1.25 + 1), 0.0),
        # chosen on the test folds once, before the jobs, for all seeds
        (["model.c=[0.1, 1.0]", "training.select_by=test", "seeds=[0, 1]"], 4 * 1.0, 2 * 1.25),
    ],
)
def test_fits_are_folds_by_candidates_by_inner_folds(corpus, monkeypatch, settings, jobs, before):
    asked = []
    monkeypatch.setattr(ser_cost, "time_fits", lambda model, *sizes: asked.append(sizes) or (1.0, 0.25))
    made = plan(corpus, *settings)
    found = condition_cost(made, made.conditions[0])
    assert (found.jobs_s, found.before_s) == (pytest.approx(jobs), pytest.approx(before))
    assert asked == [("emotion", 2, 8, 5)]  # view, classes, utterances of train and dev, width
    assert estimate_seconds(made, 4) == pytest.approx(before + jobs / 4)
    assert Cost(8.0, 1.0).wall_s(2) == 5.0


class Model:
    """An estimator of which a fit takes as long as it is told."""

    def __init__(self, clock, n_candidates):
        self.clock, self.n, self.seen = clock, n_candidates, []

    def candidates(self):
        return [{"c": float(i)} for i in range(self.n)]

    def fit(self, view, known, candidate, seed):
        new = not self.seen or self.seen[-1][0] is not known
        self.seen.append((known, candidate["c"]))
        self.clock[0] += 10.0 if len(self.seen) == 1 else 4.0 if new else 1.0

    def scores(self, view, values):
        self.clock[0] += 0.5


def test_what_comes_once_does_not_count_for_every_fit(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(ser_cost.time, "perf_counter", lambda: clock[0])
    model = Model(clock, 9)
    assert time_fits(model, "emotion", 3, 50, 7) == (4.5, 1.5)  # without the 10 s of the first fit of all
    known = model.seen[1][0]
    assert known.values.shape == (50, 7)
    assert [c for found, c in model.seen if found is known] == [4.0, 0.0, 3.0, 6.0]
    assert torch.bincount(known.target).tolist() == [17, 17, 16]
    assert time_fits(Model(clock, 1), "emotion", 3, 50, 7) == (4.5, 4.5)
    large = Model(clock, 2)
    assert time_fits(large, "emotion", 3, 3 * ser_cost.MOST_FITTED, 1) == (9 * 4.5, 9 * 1.5)
    assert len(large.seen[1][0].target) == ser_cost.MOST_FITTED


def test_a_real_fit_takes_time(corpus):
    made = plan(corpus)
    assert condition_cost(made, made.conditions[0]).jobs_s > 0


def test_a_network_reads_vectors_that_are_not_made_yet(corpus):
    settings = ("frontend.bands=8", "model.n_filters=4", "training.epochs=2")
    made = plan(corpus, *settings, recipe="demo", dims={"emb/x": 3})
    assert [(c.name, c.fusion, c.dim) for c in made.conditions] == [("BL", "none", 0), ("x", "late", 3)]
    assert condition_cost(made, made.conditions[1]).jobs_s > 0


def test_stores_that_are_there_are_opened_and_the_plan_is_checked_all_the_same(corpus, tmp_path):
    with pytest.raises(DataError, match="no embeddings of corpus"):
        plan(corpus, folder=str(tmp_path))
    both = {"folder": ["emb/x", "emb/y"], "dims": {"emb/x": 3, "emb/y": 5}}
    assert plan(corpus, **both).conditions[0].blocks == (3, 5)
    with pytest.raises(UsageError, match="true was expected, because only standardised ones weigh alike"):
        plan(corpus, "vector.standardise=false", **both)
