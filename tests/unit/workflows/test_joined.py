"""Several embeddings of one condition: weights by hand, what stays as it was, what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.config.schema import Condition
from repkit.errors import StoreError, UsageError
from repkit.store import StoreSpec, StoreWriter, open_store
from repkit.training.data import RaggedTensor, TrainingData
from repkit.workflows.train_ser.context import SerContext, prepare_fold
from repkit.workflows.train_ser.data import load_embeddings
from repkit.workflows.train_ser.joined import JoinedStore, block_weights
from repkit.workflows.train_ser.plan import make_plan


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("synthetic_a", options={"n_speakers": 4, "n_sentences": 2, "n_repetitions": 1})


def store(folder, corpus, dim, *, speakers=(), ids=None, kind="vectors", seed=0, left_out=()):
    spec = StoreSpec(kind=kind, dim=dim, dtype="float32", corpus=corpus.name, corpus_fingerprint=corpus.fingerprint(),
                     source={"encoder": folder.name, "speakers": list(speakers), "corpora": [{"name": "heard", "fingerprint": "f"}]}, frame_shift_s=0.04 if kind == "frames" else None)  # fmt: skip
    draw = np.random.default_rng(seed)
    with StoreWriter(folder / corpus.name, spec) as writer:
        for i in ids or [u.id for u in corpus.utterances()]:
            writer.add(i, draw.normal(3, 2, (2, dim) if kind == "frames" else dim).astype(np.float32))
        writer.finish()
    return str(folder)


def plan(corpus, *settings, **condition):
    overrides = {"conditions": [{"name": "C", **condition}]}
    return make_plan(load_recipe(SerRecipe, "demo", settings, overrides), {corpus.name: corpus})


def test_weights_by_hand():
    # blocks of 1 and 4: mean 2.5, so sqrt(2.5 / 1) and sqrt(2.5 / 4)
    weights = block_weights([1, 4])
    assert weights.tolist() == pytest.approx([1.5811388, *[0.7905694] * 4])
    # standardised columns have mean square 1: each block brings 2.5, together the 5 of a plain vector of 5 numbers
    assert (weights[:1] ** 2).sum().item() == pytest.approx(2.5)
    assert (weights[1:] ** 2).sum().item() == pytest.approx(2.5)
    assert block_weights([7]).tolist() == [1.0] * 7
    assert block_weights([3, 3]).tolist() == [1.0] * 6


def fold_vectors(vectors, train, weights, by="train"):
    """What a model of condition C sees of vectors (n, D)."""
    n = len(vectors)
    frames = RaggedTensor(torch.zeros(n, 1), torch.arange(n + 1))
    data = TrainingData([str(i) for i in range(n)], frames, {})
    recipe = load_recipe(SerRecipe, "demo", [f"vector.by={by}", "normalisation.mode=none"])
    context = SerContext(run=None, recipes={"C": recipe}, data=data, vectors={"C": torch.tensor(vectors)}, states={},
                         fusion={}, folds={}, views={}, weights=weights)  # fmt: skip
    return prepare_fold(context, "C", torch.tensor(train)).vectors_of(torch.arange(n))


def test_a_fold_standardises_each_block_by_train_and_weighs_it():
    vectors = np.array([[0, 10, 1, 0], [2, 30, 1, 4], [9, 90, 3, 2]], np.float32)
    seen = fold_vectors(vectors, [0, 1], {"C": block_weights([1, 3])})
    # train is rows 0 and 1: means 1, 20, 1, 2, deviations 1, 10, (constant: 1), 2; factors sqrt(2), sqrt(2/3)
    one, three = 2**0.5, (2 / 3) ** 0.5
    expected = [
        [-one, -three, 0, -three],
        [one, three, 0, three],
        [8 * one, 7 * three, 2 * three, 0],
    ]
    np.testing.assert_allclose(seen.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_one_embedding_is_read_as_before(corpus, tmp_path):
    folder = store(tmp_path / "one", corpus, 3)
    plain, listed = plan(corpus, embeddings=folder), plan(corpus, embeddings=[folder])
    assert plain.signature == listed.signature
    assert plain.protocol == listed.protocol
    assert plain.recipe.model_dump(mode="json")["conditions"][0]["embeddings"] == folder
    assert plain.conditions[1].blocks == (3,)
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    mean, sd = vectors[:4].mean(0), vectors[:4].std(0)
    np.testing.assert_allclose(
        fold_vectors(vectors, [0, 1, 2, 3], {}).numpy(), (vectors - mean) / sd, rtol=1e-4, atol=1e-5
    )


def test_joined_stores_are_planned_loaded_and_audited_as_one(corpus, tmp_path):
    speakers = sorted({u.speaker for u in corpus.utterances()})
    one = store(tmp_path / "one", corpus, 3, speakers=speakers[:1])
    two = store(tmp_path / "two", corpus, 5, speakers=speakers[1:3], seed=1)
    made = plan(corpus, embeddings=[one, two])
    condition = made.conditions[1]
    assert (condition.dim, condition.blocks, condition.fusion) == (8, (3, 5), "late")
    flag = next(flag for flag in made.flags if "has heard" in flag)
    assert flag.startswith("condition C: the encoder has heard 3 of 4 test speakers")
    vectors, states, _ = load_embeddings(made, torch.ones(len(made.utterances), dtype=torch.int64))
    assert not states
    ids = [u.id for u in made.utterances]
    parts = [open_store(f"{folder}/{corpus.name}").load(ids).values for folder in (one, two)]
    np.testing.assert_array_equal(vectors["C"].numpy(), np.concatenate(parts, axis=1))
    # the protocol is that of any vector; the signature is not
    alone = plan(corpus, embeddings=one)
    assert made.protocol["id"] == alone.protocol["id"]
    assert len({made.signature, alone.signature, plan(corpus, embeddings=[two, one]).signature}) == 3
    sources = condition.describe()["stores"][corpus.name]["source"]
    assert [part["source"]["encoder"] for part in sources["parts"]] == ["one", "two"]
    assert sources["corpora"] == [{"name": "heard", "fingerprint": "f"}]


def test_joined_vectors_by_speaker_are_standardised_and_flagged(corpus, tmp_path):
    folders = [store(tmp_path / name, corpus, dim, seed=dim) for name, dim in (("one", 2), ("two", 4))]
    made = plan(corpus, "vector.by=per_speaker", "vector.min_clips=2", embeddings=folders)
    assert any(flag.startswith("transductive: condition(s) C hear") for flag in made.flags)
    assert made.protocol["parts"]["vectors_by"] == ["per_speaker"]
    values = load_embeddings(made, torch.ones(len(made.utterances), dtype=torch.int64))[0]["C"].numpy()
    for speaker in {u.speaker for u in made.utterances}:
        own = values[[u.speaker == speaker for u in made.utterances]]
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(own.std(0), 1, atol=1e-4)


def test_what_cannot_be_joined_is_refused(corpus, tmp_path):
    one, two = store(tmp_path / "one", corpus, 3), store(tmp_path / "two", corpus, 5)
    frames = store(tmp_path / "frames", corpus, 5, kind="frames")
    with pytest.raises(UsageError, match="frames holds frame-level states"):
        plan(corpus, embeddings=[one, frames])
    with pytest.raises(UsageError, match="vector.standardise = false with 2 embeddings"):
        plan(corpus, "vector.standardise=false", embeddings=[one, two])
    some = store(tmp_path / "some", corpus, 5, ids=[u.id for u in corpus.utterances()][1:])
    with pytest.raises(StoreError, match="some.*condition C"):
        plan(corpus, embeddings=[one, some])
    for wrong in ([], ["a", "a"]):
        with pytest.raises(ValidationError, match="at least one folder, each once"):
            Condition(name="x", embeddings=wrong)
    assert Condition(name="x", embeddings=["a"]).embeddings == "a"
    assert Condition(name="x").folders == ()


def test_a_joined_store_lists_what_any_part_left_out():
    parts = [
        SimpleNamespace(
            spec=StoreSpec(kind="vectors", dim=d, dtype="float32", corpus="x", corpus_fingerprint="f"), left_out=left
        )
        for d, left in ((2, {"x/1": "empty"}), (3, {"x/2": "NaN"}))
    ]
    joined = JoinedStore(parts)
    assert joined.left_out == {"x/1": "empty", "x/2": "NaN"}
    assert joined.spec.dim == 5
