import json

import numpy as np
import pandas as pd
import pytest

from repkit.evaluation.corpus_scores import (
    adjust_all,
    carry_over,
    compare_corpora,
    corpus_parts,
    score_corpora,
    training_name,
)
from repkit.evaluation.job_files import FoldCorpora

CLASSES = ("a", "b", "c")


def frame(rows):
    table = pd.DataFrame(rows, columns=["seed", "fold", "corpus", "speaker", "label", "prediction"])
    table["id"] = table["corpus"] + "/" + table.groupby(["seed", "fold"]).cumcount().astype(str)
    return table


def answers(seed, fold, corpus, text, n_speakers=2):
    """Rows from words such as 'aa ab': reference and prediction; speakers take turns."""
    return [(seed, fold, corpus, f"{corpus}/{n % n_speakers}", pair[0], pair[1]) for n, pair in enumerate(text.split())]


FOLDS = {
    "f": FoldCorpora(train=("x",), dev=("x",), test=("x", "y")),
    "g": FoldCorpora(train=("y",), dev=(), test=("x",)),
}


def test_scores_by_hand():
    # x when trained on (fold f): seed 0 recalls a 1/2, b 1 -> .75; seed 1 all right -> 1
    # x held out (fold g): a only, half right -> .5 for both seeds
    # y held out: three classes, seed 0 recalls 1, 0, 0 -> 1/3; seed 1 all wrong -> 0
    rows = []
    rows += answers(0, "f", "x", "aa ab bb bb") + answers(1, "f", "x", "aa aa bb bb")
    rows += answers(0, "g", "x", "aa ab") + answers(1, "g", "x", "ab aa")
    rows += answers(0, "f", "y", "aa ba ca") + answers(1, "f", "y", "ab ba ca")
    parts = corpus_parts(frame(rows), FOLDS)
    assert list(parts) == [("x", False), ("x", True), ("y", True)]
    scores, means = score_corpora(parts, CLASSES, 50)
    uars = [score["uar"]["mean"] for score in scores]
    assert uars == pytest.approx([0.875, 0.5, 1 / 6])
    assert scores[0]["uar"]["sd"] == pytest.approx(np.std([0.75, 1.0], ddof=1))
    assert (scores[0]["uar"]["min"], scores[0]["uar"]["max"]) == (0.75, 1.0)
    assert scores[0]["seeds"] == {"0": 0.75, "1": 1.0}
    assert [score["n_classes"] for score in scores] == [2, 1, 3]
    assert [score["chance"] for score in scores] == pytest.approx([1 / 2, 1, 1 / 3])
    assert scores[0]["classes"] == ["a", "b"]
    assert scores[0]["wa"] == pytest.approx(7 / 8)
    of = {mean["over"]: mean for mean in means}
    assert list(of) == ["trained_on", "held_out"], (
        "x stands twice: over all its speakers would count as so many people more"
    )
    assert of["held_out"]["uar"]["mean"] == pytest.approx(1 / 3)
    assert of["trained_on"]["corpora"] == ["x"]
    assert of["held_out"]["seeds"] == {"0": pytest.approx((0.5 + 1 / 3) / 2), "1": 0.25}
    assert of["held_out"]["uar"]["sd"] == pytest.approx(np.std([(0.5 + 1 / 3) / 2, 0.25], ddof=1))
    json.dumps([scores, means], allow_nan=False)


def test_without_known_parts_nothing_is_claimed():
    parts = corpus_parts(frame(answers(0, "f", "x", "aa ab")), {})
    assert list(parts) == [("x", None)]
    _, means = score_corpora(parts, CLASSES, 20)
    assert [mean["over"] for mean in means] == ["all"]


def test_a_seed_that_lacks_a_corpus_is_not_in_the_spread_of_the_mean():
    rows = answers(0, "f", "x", "aa bb") + answers(1, "f", "x", "ab bb") + answers(0, "f", "y", "aa bb")
    _, means = score_corpora(corpus_parts(frame(rows), FOLDS), CLASSES, 20)
    every = next(mean for mean in means if mean["over"] == "all")
    assert every["seeds"] == {"0": 1.0}
    assert every["uar"]["sd"] is None
    assert every["uar"]["mean"] == pytest.approx((0.75 + 1) / 2)


def test_differences_by_hand():
    def parts(x, y):
        return corpus_parts(frame(answers(0, "f", "x", x, 8) + answers(0, "f", "y", y, 1)), FOLDS)

    good, bad = "aa bb " * 8, "ab bb " * 8
    rows, means = compare_corpora(parts(good, "aa bb"), parts(bad, "ab bb"), CLASSES, 100)
    by_corpus = {row["corpus"]: row for row in rows}
    assert by_corpus["x"]["difference"] == pytest.approx(0.5)
    # half of the speakers have class a alone and gain, the others have class b alone and lose nothing
    assert by_corpus["x"]["p_sign_flip"] == pytest.approx(2 / 2**4)
    assert (by_corpus["y"]["low"], by_corpus["y"]["verdict"]) == (None, "cannot tell")
    every = next(mean for mean in means if mean["over"] == "all")
    assert every["difference"] == pytest.approx(0.5)
    assert every["n_speakers"] == 9
    assert "1 of them one" in every["note"]
    # four speakers' shares of x and the one of y, all one way: of 2^5 patterns 2 are as far out
    assert every["p_sign_flip"] == pytest.approx(2 / 2**5)
    adjust_all(rows, means)
    assert by_corpus["x"]["p_holm"] == pytest.approx(2 * 2 / 2**4)
    assert every["p_holm"] == every["p_sign_flip"]
    # without any difference eight speakers show that there is no gain; a mean with a corpus of one speaker does not
    rows, (every, *_) = compare_corpora(parts(good, "aa bb"), parts(good, "aa bb"), CLASSES, 100)
    assert [row["verdict"] for row in rows] == ["does not help", "cannot tell"]
    assert (every["over"], every["n_speakers"], every["verdict"]) == ("all", 9, "cannot tell")
    nothing, none = compare_corpora(parts(good, "aa"), {}, CLASSES, 10)
    assert (nothing, none) == ([], [])


def test_what_carries_over_by_hand():
    folds = {
        "x1": FoldCorpora(("x",), (), ("x", "y")),
        "x2": FoldCorpora(("x",), ("x",), ("x",)),
        "y1": FoldCorpora(("y",), (), ("x",)),
    }
    rows = answers(0, "x1", "x", "aa ab bb bb") + answers(0, "x2", "x", "aa aa bb ba")
    rows += answers(0, "x1", "y", "ab ba") + answers(0, "y1", "x", "aa ba") + answers(1, "y1", "x", "aa bb")
    found = carry_over(frame(rows), folds, CLASSES, ("x", "y"))
    assert [row["name"] for row in found["rows"]] == ["x", "y"]
    assert found["rows"][0]["folds"] == ["x1", "x2"]
    assert found["corpora"] == ["x", "y"]
    # x on x pools both folds: a 3/4, b 3/4; x on y is all wrong; y on x is the mean over seeds of .5 and 1
    assert found["uar"] == [[0.75, 0.0], [0.75, None]]
    assert found["held_out"] == [[False, True], [True, None]]
    assert found["n"] == [[4, 2], [2, 0]]
    assert found["chance"] == [0.5, 0.5]
    assert carry_over(frame(rows), {}, CLASSES, ("x", "y")) is None


def test_rows_run_like_columns():
    corpora = ("a", "b", "c", "d")
    folds = {f"f{n}": FoldCorpora(tuple(c for c in corpora if c != name), (), (name,)) for n, name in enumerate("dbac")}
    rows = [row for fold, of in folds.items() for row in answers(0, fold, of.test[0], "aa bb")]
    found = carry_over(frame(rows), folds, CLASSES, corpora)
    assert [row["name"] for row in found["rows"]] == [f"all but {name}" for name in corpora]
    assert np.array_equal(np.array(found["uar"]) == 1.0, np.eye(4, dtype=bool))


def test_names_of_training_corpora():
    corpora = tuple("abcde")
    assert training_name(corpora, corpora) == "all corpora"
    assert training_name(("a",), ("a",)) == "a"
    assert training_name(tuple("abcd"), corpora) == "all but e"
    assert training_name(tuple("abc"), corpora) == "all but d and e"
    assert training_name(("a", "b"), corpora) == "a + b"
    assert training_name(tuple("abcd"), tuple("abcdefgh")) == "4 corpora: a, b, c, d"
