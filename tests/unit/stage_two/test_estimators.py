"""The estimators say what scikit-learn says, from weights that were saved and loaded."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression as SklearnLogistic
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from repkit.api import Batch, LabelledVectors, TaskSpec
from repkit.errors import DataError
from repkit.stage_two import svm
from repkit.stage_two.logistic_regression import LogisticRegression
from repkit.stage_two.mlp import Mlp
from repkit.stage_two.svm import Svm

CLASSES = tuple("abcdef")


def material(n_classes, missing=None, n=150, dim=12):
    generator = torch.Generator().manual_seed(n_classes)
    target = torch.arange(n) % n_classes
    if missing is not None:
        target[target == missing] = (missing + 1) % n_classes
    values = torch.randn(n, dim, generator=generator)
    values[torch.arange(n), target] += 1.5
    known = LabelledVectors(values[:100], target[:100], len(CLASSES), ("s",) * 100)
    return known, values[100:]


def made(kind, **settings):
    return kind(kind.Config(**settings), TaskSpec(views={"emotion": CLASSES}, n_bands=1, vector_dim=12))


def guesses(model, values):
    return model.scores("emotion", values).argmax(1).numpy()


@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_svm_decides_as_scikit_learn_does_on_the_vectors_themselves(n_classes, kernel, weight):
    known, values = material(n_classes, missing=1 if n_classes > 2 else None)
    model = made(Svm, kernel=kernel, c=(0.5,), gamma=(0.05,), class_weight=weight)
    model.fit("emotion", known, model.candidates()[0], 0)
    theirs = SVC(C=0.5, kernel=kernel, gamma=0.05, class_weight="balanced" if weight == "balanced" else None)
    theirs.fit(known.values.numpy(), known.target.numpy())
    assert (guesses(model, values) == theirs.predict(values.numpy())).all()
    if kernel == "rbf":
        assert len(model.kept("emotion", "support")) == theirs.n_support_.sum()
    else:  # scikit-learn's of two classes point to the second
        normals = theirs.coef_ * (-1 if len(theirs.classes_) == 2 else 1)
        np.testing.assert_allclose(model.kept("emotion", "normals"), normals, atol=1e-6)


def test_svm_refuses_what_memory_does_not_hold_and_keeps_one_set_of_products(monkeypatch):
    known, _ = material(3)
    linear, gaussian = made(Svm, kernel="linear", c=(1.0,)), made(Svm, c=(1.0,), gamma=(0.05,))
    # 100 utterances: 100 * 100 numbers of 8 bytes, for the Gaussian kernel beside the distances
    monkeypatch.setattr(svm, "free_memory", lambda: 80_000.0)
    linear.fit("emotion", known, linear.candidates()[0], 0)
    with pytest.raises(DataError, match=r"100 utterances take 0\.0 GB .* \(--set model\.name=logistic_regression"):
        gaussian.fit("emotion", known, gaussian.candidates()[0], 0)
    monkeypatch.setattr(svm, "free_memory", lambda: 160_000.0)
    gaussian.fit("emotion", known, gaussian.candidates()[0], 0)
    kept = gaussian._products[1]
    monkeypatch.setattr(svm, "free_memory", lambda: 0.0)
    gaussian.fit("emotion", known, gaussian.candidates()[0], 0)  # the same utterances: what is there is used
    assert gaussian._products[1] is kept
    np.testing.assert_allclose(kept, torch.cdist(known.values, known.values).square(), atol=1e-4)


def test_free_memory_is_that_of_this_machine():
    found = svm.free_memory()
    assert found is None or 1e6 < found < 1e15


@pytest.mark.parametrize("n_classes", [2, 5])
def test_logistic_regression_gives_scikit_learns_probabilities(n_classes):
    known, values = material(n_classes)
    model = made(LogisticRegression, c=(0.3,))
    model.fit("emotion", known, model.candidates()[0], 0)
    theirs = SklearnLogistic(C=0.3, class_weight="balanced", max_iter=1000)
    theirs.fit(known.values.numpy().astype(float), known.target.numpy())
    found = torch.softmax(model.scores("emotion", values), dim=1)
    np.testing.assert_allclose(found[:, :n_classes], theirs.predict_proba(values.numpy()), atol=1e-5)
    assert found[:, n_classes:].max() < 1e-6  # classes that never occurred


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_classes", [2, 4])
def test_mlp_gives_scikit_learns_probabilities(n_classes):
    known, values = material(n_classes)
    model = made(Mlp, hidden=(7, 5), alpha=(0.1,), max_iterations=30)
    model.fit("emotion", known, model.candidates()[0], 3)
    theirs = MLPClassifier((7, 5), alpha=0.1, max_iter=30, random_state=3)
    theirs.fit(known.values.numpy().astype(float), known.target.numpy())
    found = torch.softmax(model.scores("emotion", values), dim=1)
    np.testing.assert_allclose(found[:, :n_classes], theirs.predict_proba(values.numpy()), atol=1e-5)


def test_candidates_are_every_pair_with_the_penalty_slowest():
    model = made(Svm, c=(1.0, 2.0), gamma=(0.1, 0.2, 0.3))
    assert [(c["c"], c["gamma"]) for c in model.candidates()] == [
        (1.0, 0.1), (1.0, 0.2), (1.0, 0.3), (2.0, 0.1), (2.0, 0.2), (2.0, 0.3),
    ]  # fmt: skip
    assert made(Svm, kernel="linear", c=(1.0, 2.0)).candidates() == [{"c": 1.0}, {"c": 2.0}]
    grid = made(Svm).candidates()  # keesing2020 sheet, section 2: 7 values of C and 6 of gamma
    assert len(grid) == 42
    assert grid[0] == {"c": 2.0**-6, "gamma": 2.0**-12}
    assert grid[-1] == {"c": 64.0, "gamma": 0.25}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("kind", "settings"), [(Svm, {}), (Svm, {"kernel": "linear"}), (LogisticRegression, {}), (Mlp, {})]
)
def test_weights_of_any_number_of_support_vectors_load_into_a_fresh_model(kind, settings, tmp_path):
    known, values = material(4)
    model, fresh = made(kind, **settings), made(kind, **settings)
    model.fit("emotion", known, model.candidates()[0], 0)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    fresh.load_state_dict(load_file(tmp_path / "w.safetensors"))
    batch = Batch(["x"] * len(values), torch.zeros(len(values), 1, 1), torch.ones(len(values), dtype=int), {}, values)
    assert torch.equal(model(batch).logits["emotion"], fresh(batch).logits["emotion"])


def test_what_cannot_be_fitted_or_read_is_said():
    model = made(Svm)
    with pytest.raises(DataError, match="has not been fitted"):
        model.scores("emotion", torch.zeros(1, 12))
    one = LabelledVectors(torch.zeros(3, 12), torch.zeros(3, dtype=int), 6, ("s",) * 3)
    with pytest.raises(DataError, match="1 class in 3 utterances"):
        model.fit("emotion", one, model.candidates()[0], 0)
    with pytest.raises(ValueError, match="reads utterance vectors"):
        Svm(Svm.Config(), TaskSpec(views={"emotion": CLASSES}, n_bands=26))
    with pytest.raises(DataError, match="no utterance vectors"):
        model(Batch(["x"], torch.zeros(1, 4, 1), torch.tensor([4]), {}))
