"""The cells of a scale plan: names, order, settings, what --only takes, what is missing; and the points of the curves."""

import numpy as np
import pandas as pd
import pytest

from repkit.config import load_recipe
from repkit.errors import RecipeError, UsageError
from repkit.evaluation.gate import BOTH_TRAINED, BOTH_UNTRAINED, judge
from repkit.stage_one.cost import seconds_per_update
from repkit.store import StoreSpec, StoreWriter, open_store
from repkit.workflows.compare.stores import family_of
from repkit.workflows.scale import work as scale_work
from repkit.workflows.scale.cells import Cell, Request, cells_of, choose, configs_of, is_encoded
from repkit.workflows.scale.points import member_differences
from repkit.workflows.scale.recipe import ScaleRecipe
from repkit.workflows.scale.run import lacking

TINY = """\
schema = 1
command = "scale"
name = "tiny"
hours = [2, 0.5]
seeds = [0, 3]
updates = 7
data_seed = 5
readout = "mean"

[training]
batch_size = 4
hidden_size = 8

[[curves]]
name = "apc"
recipe = "apc"
readout = "last"
layers = "last"
training = {batch_size = 6}

[[curves]]
name = "ae"
recipe = "autoencoder"
"""


def plan(tmp_path, text=TINY, *assignments):
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return load_recipe(ScaleRecipe, str(path), assignments)


def test_cells_come_with_rising_hours_and_names_that_make_seeds_one_encoder(tmp_path):
    cells = cells_of(plan(tmp_path))
    assert [cell.id for cell in cells] == [
        "apc/0.5/0", "apc/0.5/3", "ae/0.5/0", "ae/0.5/3", "apc/2/0", "apc/2/3", "ae/2/0", "ae/2/3",
    ]  # fmt: skip
    assert {family_of(cell.name) for cell in cells} == {"apc-0.5h", "apc-2h", "ae-0.5h", "ae-2h"}
    assert family_of("untrained-apc-s3") == "untrained-apc"


def test_settings_of_a_cell_are_laid_over_each_other(tmp_path):
    tiny = plan(tmp_path)
    configs = configs_of(tiny)
    apc, ae = configs[Cell("apc", 2.0, 3)], configs[Cell("ae", 0.5, 0)]
    assert (apc.hours, apc.hours_seed, apc.updates, apc.seed) == (2.0, 5, 7, 3)
    assert (apc.batch_size, apc.hidden_size, apc.frontend) == (6, 8, "affect")
    assert (ae.hours, ae.seed, ae.batch_size, ae.hidden_size, ae.frontend) == (0.5, 0, 4, 8, "spectrogram")
    curves = {curve.name: curve for curve in tiny.curves}
    assert tiny.readout_of(curves["apc"]) == {"readout": "last", "layers": "last"}
    assert tiny.readout_of(curves["ae"]) == {"readout": "mean", "layers": None}
    assert seconds_per_update(ae, 1) > 0
    assert seconds_per_update(apc, 1) > 0


def test_only_takes_parts_of_a_cell(tmp_path):
    cells = cells_of(plan(tmp_path))
    assert choose(cells, ()) == set(cells)
    assert {c.id for c in choose(cells, ("APC/2.0",))} == {"apc/2/0", "apc/2/3"}
    assert {c.id for c in choose(cells, ("*/0.5/3", "ae/2/0"))} == {"apc/0.5/3", "ae/0.5/3", "ae/2/0"}
    assert {c.id for c in choose(cells, ("a*e",))} == {"ae/0.5/0", "ae/0.5/3", "ae/2/0", "ae/2/3"}
    for wrong in ("apcc", "apc/3", "apc/2/1", "apc/2/0/1"):
        with pytest.raises(UsageError, match=r"fits no cell.*the curves are apc, ae, the hours 0.5, 2"):
            choose(cells, (wrong,))


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("hours=[]", "at least one"),
        ("hours=[0, 1]", "above zero"),
        ("seeds=[1, 1]", "each once"),
        ("updates=0", "got 0"),
        ("training.seed=4", "seed of a cell follow from"),
        ("curves.0.training.updates=4", "updates of a cell follow from"),
        ("curves.1.name=apc", "names of curves must differ"),
        ("curves.1.name=a-s1", "got 'a-s1'"),
        ("hors=[1]", "did you mean 'hours'"),
    ],
)
def test_wrong_plans_are_refused(tmp_path, assignment, said):
    with pytest.raises(RecipeError, match="not valid") as caught:
        plan(tmp_path, TINY, assignment)
    assert said in "\n".join(caught.value.problems)


def test_settings_that_do_not_fit_the_curve_are_refused_before_anything_begins(tmp_path):
    with pytest.raises(RecipeError) as caught:
        configs_of(plan(tmp_path, TINY, "curves.1.training.pooling=mean"))
    assert "pooling" in str(caught.value)


def test_a_hundredth_may_be_missing():
    assert lacking(10, 9.95) == ""
    assert lacking(10, 12) == ""
    assert "needs 100 h of speech to train on and the corpora hold 95.13 h" in lacking(100, 95.131)


class Toy:
    """As much of a corpus as a store asks for."""

    name = "toy"

    def fingerprint(self):
        return "f"


def test_curves_of_one_architecture_share_their_controls_and_those_of_before_are_kept(tmp_path, monkeypatch):
    made = []

    def embed(spec, corpora, out, *, seed, readout, layers, **settings):
        made.append((spec.partition("/encoders/")[2], seed, readout, layers))
        return {"toy": store(f"untrained-{len(made)}")}

    def store(name, **architecture):
        source = {"encoder": "gru", "readout": "mean", "architecture": {"size": 4, "init": "torch"} | architecture}
        spec = StoreSpec(kind="vectors", dim=3, dtype="float32", corpus="toy", corpus_fingerprint="f", source=source)
        with StoreWriter(tmp_path / "embeddings" / name / "toy", spec) as writer:
            writer.add("toy/1", np.zeros(3, np.float32))
            writer.finish()
        return open_store(writer.path)

    monkeypatch.setattr(scale_work, "embed", embed)
    request = Request(plan=plan(tmp_path), heard={}, corpora={"toy": Toy()}, out=tmp_path)
    stores = {Cell("apc", 2.0, 3): "a", Cell("ae", 0.5, 0): "b", Cell("ae", 2.0, 0): "c"}
    for name, dropout in zip(stores.values(), (0.0, 0.0, 0.2)):  # random weights know no dropout
        store(name, dropout=dropout)
    first = scale_work.make_controls(request, stores, [])
    assert made == [("ae-0.5h-s0", 0, "mean", None), ("ae-0.5h-s0", 3, "mean", None)]  # the fewest hours first
    assert [one["name"] for one in first] == ["untrained-ae-s0", "untrained-ae-s3"]
    # another architecture, or initialisation, has controls of its own; fewer hours change nothing of those that are there
    store("d", init="paper")
    store("e")
    more = {**stores, Cell("apc", 0.5, 0): "d", Cell("apc", 0.5, 3): "e"}
    second = scale_work.make_controls(request, more, first)
    assert made[2:] == [("apc-0.5h-s0", 0, "last", "last"), ("apc-0.5h-s0", 3, "last", "last")]
    assert [one for one in second if one in first] == first
    assert len(second) == 4
    assert scale_work.make_controls(request, more, second) == second
    assert len(made) == 4
    # another readout of the curve that has given its name: the control of the other curve keeps it
    store("f", init="last")
    third = scale_work.make_controls(request, {Cell("ae", 0.5, 0): "f", Cell("apc", 2.0, 3): "a"}, second)
    names = [one["name"] for one in third]
    assert {family_of(name) for name in names} == {"untrained-ae", f"untrained-ae-{third[0]['key'][:8]}"}
    assert len(set(names)) == 4


def test_vectors_of_another_readout_do_not_count_as_there(tmp_path):
    tiny, cell = plan(tmp_path), Cell("ae", 0.5, 0)
    request = Request(plan=tiny, heard={}, corpora={"toy": Toy()}, out=tmp_path)
    spec = StoreSpec(
        kind="vectors", dim=1, dtype="float32", corpus="toy", corpus_fingerprint="f", source={"readout": "mean"}
    )
    with StoreWriter(request.embeddings / "a" / "toy", spec) as writer:
        writer.add("toy/1", np.zeros(1, np.float32))
        writer.finish()

    def there(request, corpus="f", **record):
        return is_encoded(request, cell, record, {"toy": corpus})

    other = Request(plan=plan(tmp_path, TINY, "readout=last"), heard={}, corpora={"toy": Toy()}, out=tmp_path)
    of_mean = {"store": "a", "readout": {"readout": "mean", "layers": None}}
    assert there(request, **of_mean)
    assert not there(other, **of_mean)
    assert (there(request, store="a"), there(other, store="a")) == (True, False)  # as written before it was noted
    assert not there(request, "g", **of_mean)
    assert not there(request)


def predictions(system, member, right, speakers=8, corpus="c"):
    """Return 4 utterances of 2 classes per speaker, so many of which, by class, the member predicts rightly."""
    rows = []
    for speaker in range(speakers):
        for place, label in enumerate(("a", "a", "b", "b")):
            n = 2 * speaker + place % 2
            hit = n < right[label]
            rows.append(
                {
                    "normalisation": "train", "corpus": corpus, "system": system, "member": member, "seed": 0,
                    "fold": f"f{speaker % 2}", "id": f"{corpus}/{speaker}-{place}", "speaker": f"{corpus}/{speaker}",
                    "label": label, "prediction": label if hit else "ba"["ba".index(label) - 1],
                }
            )  # fmt: skip
    return rows


def test_each_seed_against_the_mean_of_the_untrained_and_their_mean_is_the_gates():
    # of 16 utterances of each class; UAR is the mean of the two recalls
    rows = predictions(BOTH_TRAINED, "x-s0", {"a": 12, "b": 8}) + predictions(BOTH_TRAINED, "x-s1", {"a": 16, "b": 8})
    rows += predictions(BOTH_UNTRAINED, "u-s0", {"a": 8, "b": 8}) + predictions(
        BOTH_UNTRAINED, "u-s1", {"a": 8, "b": 4}
    )
    more = predictions(BOTH_TRAINED, "x-s0", {"a": 4, "b": 4}, corpus="d")
    more += predictions(BOTH_TRAINED, "x-s1", {"a": 16, "b": 16}, corpus="d")
    more += predictions(BOTH_UNTRAINED, "u-s0", {"a": 8, "b": 8}, corpus="d")
    more += predictions(BOTH_UNTRAINED, "u-s1", {"a": 8, "b": 8}, corpus="d")
    one = member_differences(pd.DataFrame(rows))
    assert one == pytest.approx({"x-s0": 0.625 - 0.4375, "x-s1": 0.75 - 0.4375})
    both = member_differences(pd.DataFrame(rows + more))
    expected = {"x-s0": (0.1875 + 0.25 - 0.5) / 2, "x-s1": (0.3125 + 0.5) / 2}
    assert both == pytest.approx(expected)
    gate = judge(pd.DataFrame(rows + more), n_resamples=50)
    assert np.mean(list(both.values())) == pytest.approx(gate.differences[0].interval.value)


def test_a_seed_that_a_corpus_lacks_has_no_point():
    rows = predictions(BOTH_TRAINED, "x-s0", {"a": 12, "b": 8}) + predictions(BOTH_TRAINED, "x-s1", {"a": 16, "b": 8})
    rows += predictions(BOTH_UNTRAINED, "u", {"a": 8, "b": 8})
    rows += predictions(BOTH_TRAINED, "x-s0", {"a": 4, "b": 4}, corpus="d")
    rows += predictions(BOTH_UNTRAINED, "u", {"a": 8, "b": 8}, corpus="d")
    assert list(member_differences(pd.DataFrame(rows))) == ["x-s0"]
    assert member_differences(pd.DataFrame(rows[:64])) == {}
