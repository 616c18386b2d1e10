"""Which conditions are compared: a joined vector with the control that differs in the encoder alone, numbers by hand."""

import pandas as pd
import pytest

from repkit.evaluation.differences import differences, pairs_of
from repkit.evaluation.run_files import ConditionInfo

F, AE, UNTRAINED, STATISTICS = "out/functionals", "out/ae", "out/untrained-ae", "out/statistics-ae"
SPEAKERS, CLASSES = tuple("abcdefgh"), ("anger", "neutral")


def info(name, role, *folders):
    return ConditionInfo(name, role, has_vector=True, folders=folders)


def controls_of(name, *infos):
    return [other for one, other, role in pairs_of({i.name: i for i in infos}) if one == name and role == "control"]


def rows(n_right):
    """One utterance per class of each speaker; the anger of the first `n_right` speakers is found, neutral always."""
    found = [
        (0, "f", f"{s}/{label}", s, label, label if place < n_right else "neutral")
        for place, s in enumerate(SPEAKERS)
        for label in CLASSES
    ]
    return pd.DataFrame(found, columns=["seed", "fold", "id", "speaker", "label", "prediction"])


def test_what_the_functionals_bring_is_not_credited_to_training():
    # of how many of 8 speakers anger is found; neutral always is, so that UAR is (n / 8 + 1) / 2
    right = {"untrained": 1, "functionals": 7, "both": 8, "both_untrained": 8, "ae": 2}
    infos = (
        info("functionals", "baseline", F),
        info("untrained", "control", UNTRAINED),
        info("ae", "vector", AE),
        info("both_untrained", "control", F, UNTRAINED),
        info("both", "vector", F, AE),
    )
    parts = {name: rows(n) for name, n in right.items()}
    found = differences(parts, {one.name: one for one in infos}, CLASSES, 200)
    against = {(d["condition"], d["against"]): d for d in found if d["role"] == "control"}
    assert set(against) == {("both", "both_untrained"), ("ae", "untrained")}
    # both find all anger: nothing is gained by training, though [both] - [untrained] would be (8 - 1) / 8 / 2 = +43.75 points
    assert against["both", "both_untrained"]["difference"] == 0.0
    assert against["both", "both_untrained"]["verdict"] == "does not help"
    assert against["ae", "untrained"]["difference"] == pytest.approx(1 / 16)  # one more of eight, half of the mean


def test_one_embedding_of_those_joined_may_be_replaced():
    single = (info("u", "control", UNTRAINED), info("s", "control", STATISTICS))
    joined = (info("f_u", "control", F, UNTRAINED), info("f_s", "control", STATISTICS, F))
    wide = info("f_u_s", "control", F, UNTRAINED, STATISTICS)
    other = info("g_u", "control", "out/opensmile", UNTRAINED)
    everything = (*single, *joined, wide, other)
    assert controls_of("ae", info("ae", "vector", AE), *everything) == ["u", "s"]
    assert controls_of("f_ae", info("f_ae", "vector", F, AE), *everything) == ["f_u", "f_s"]


def test_all_may_be_replaced_each_by_its_own_control():
    vector = info("a_b", "vector", "out/a", "out/b")
    own = info("own", "control", "out/untrained-a", "out/untrained-seed3-b")
    alien = info("alien", "control", "out/untrained-a", "out/untrained-c")
    assert controls_of("a_b", vector, own, alien) == ["own"]
    # functionals have no control of their own: what replaces them brings less, trained or not
    assert controls_of("f_ae", info("f_ae", "vector", F, AE), info("u_s", "control", UNTRAINED, STATISTICS)) == []


def test_where_the_run_does_not_tell_what_was_read_all_controls_count():
    assert controls_of("v", info("v", "vector"), info("u", "control", UNTRAINED)) == ["u"]
    # one and the same store under two names is no control of itself
    assert controls_of("v", info("v", "vector", UNTRAINED), info("u", "control", UNTRAINED)) == []
