from types import SimpleNamespace

import pytest

from repkit.report.context import Page
from repkit.report.page_protocol import conditions_part
from repkit.report.page_results import worth_part
from repkit.report.sentences import conclusion, corpora_conclusion, sentence


def difference(condition, against, role, verdict, low=0.01, high=0.04, p=0.01):
    return {
        "condition": condition, "against": against, "role": role, "verdict": verdict, "difference": 0.025, "low": low,
        "high": high, "p_sign_flip": p, "n_speakers": 10, "note": "",
    }  # fmt: skip


def test_sentences():
    said = sentence(difference("C", "BL", "baseline", "helps"))
    assert said == "**C helps** over BL (no vector): +2.5 points of UAR [+1.0, +4.0]."
    said = sentence(difference("C", "stats", "control", "cannot tell", -0.01, 0.06))
    assert said == (
        "Whether **C** helps beyond the control stats **cannot be told at this size**: +2.5 points of UAR [-1.0, +6.0]."
    )
    assert "p = 0.08" in sentence(difference("C", "BL", "baseline", "cannot tell", p=0.08))
    assert "does not help** over" in sentence(difference("C", "BL", "baseline", "does not help", -0.02, 0.005))
    assert "makes it worse" in sentence(difference("C", "BL", "baseline", "hurts"))


def test_conclusions():
    base = difference("C", "BL", "baseline", "helps")
    won, open_ = difference("C", "stats", "control", "helps"), difference("C", "untrained", "control", "cannot tell")
    assert "helps more than its controls (stats)" in conclusion("C", [base, won])
    assert "not shown to be better than untrained" in conclusion("C", [base, won, open_])
    assert "says nothing about its training" in conclusion("C", [base])
    none = difference("C", "BL", "baseline", "cannot tell")
    assert "is not shown to help over no vector" in conclusion("C", [none, won])
    assert conclusion("C", [won]) is None


def condition(name, role, has_vector, settings=None):
    return {"name": name, "role": role, "has_vector": has_vector, "settings": settings or {}}


CONDITIONS = {
    "plain": condition("plain", "baseline", False),
    "dann": condition("dann", "system", False, {"objectives": []}),
    "dann.Li": condition("dann.Li", "vector", True, {"objectives": []}),
}


def test_a_system_is_no_vector():
    said = sentence(difference("dann", "plain", "baseline", "helps"), CONDITIONS)
    assert said == "**dann is better** than plain: +2.5 points of UAR [+1.0, +4.0]."
    assert "is worse** than plain" in sentence(difference("dann", "plain", "baseline", "hurts"), CONDITIONS)
    assert "is not better** than" in sentence(difference("dann", "plain", "baseline", "does not help"), CONDITIONS)
    said = sentence(difference("dann", "plain", "baseline", "cannot tell", -0.01), CONDITIONS)
    assert said.startswith("Whether **dann** is better than plain **cannot be told")
    nothing = {**difference("dann", "plain", "baseline", "cannot tell"), "difference": None, "note": "nothing"}
    assert sentence(nothing, CONDITIONS) == "**dann** and plain: not to be compared yet (nothing)."


def test_a_vector_with_settings_of_its_own_is_measured_against_these():
    reference = difference("dann.Li", "plain", "baseline", "helps")
    own = difference("dann.Li", "dann", "own_baseline", "does not help", -0.02, 0.005)
    assert "over plain (other settings, no vector)" in sentence(reference, CONDITIONS)
    assert "over dann (same settings, no vector)" in sentence(own, CONDITIONS)
    assert "can be credited to neither alone" in conclusion("dann.Li", [reference], CONDITIONS)
    # beating the reference is not enough: the same settings without the vector do as well
    assert "is not shown to help" in conclusion("dann.Li", [reference, own], CONDITIONS)
    control = difference("dann.Li", "dann.stats", "control", "cannot tell")
    won = {**own, "verdict": "helps"}
    said = conclusion("dann.Li", [reference, won, control], CONDITIONS)
    assert "helps over dann, but it is not shown to be better than dann.stats" in said


RBF = {"model": {"name": "svm", "kernel": "rbf"}}
ONE, OTHER = {"emodb": "aa"}, {"emodb": "bb"}
HEADS = {
    "linear.A": {**condition("linear.A", "baseline", True), "stores": ONE},
    "rbf.A": {**condition("rbf.A", "vector", True, RBF), "stores": ONE},
    "linear.B": {**condition("linear.B", "vector", True), "stores": OTHER},
    "rbf.B": {**condition("rbf.B", "vector", True, RBF), "stores": OTHER},
}


def test_other_settings_on_the_same_vector_are_no_vector_that_helps():
    found = difference("rbf.A", "linear.A", "baseline", "helps")
    assert sentence(found, HEADS) == "**rbf.A is better** than linear.A: +2.5 points of UAR [+1.0, +4.0]."
    assert conclusion("rbf.A", [found], HEADS) is None
    # another vector under the same settings is measured against the reference's, which is not no vector
    found = difference("linear.B", "linear.A", "baseline", "cannot tell")
    control = difference("linear.B", "stats", "control", "helps")
    assert conclusion("linear.B", [found, control], HEADS).endswith("is not shown to help over that of linear.A.")
    assert "differs" not in conclusion("linear.B", [found], HEADS)
    # where both differ, what tells them apart is in the run, or can be run
    found = difference("rbf.B", "linear.A", "baseline", "helps")
    said = conclusion("rbf.B", [found], HEADS)
    assert "differs from linear.A in settings and in the vector" in said
    assert said.endswith("compare it with rbf.A, which has its settings and the vector of linear.A.")
    without = {name: row for name, row in HEADS.items() if name != "rbf.A"}
    assert conclusion("rbf.B", [found], without).endswith("run its settings with the vector of linear.A too.")


@pytest.mark.parametrize(
    ("names", "stores", "title", "role"),
    [
        (["linear.A", "rbf.A"], {"linear.A": ONE, "rbf.A": ONE}, "Which head is better than linear.A?", "other settings"),
        (["linear.A", "rbf.A"], {"linear.A": ONE, "rbf.A": OTHER}, "Does the vector help?", "| vector |"),
        (["linear.A", "rbf.A"], {}, "Does the vector help?", "| vector |"),
        (
            ["linear.A", "rbf.A", "rbf.B"],
            {"linear.A": ONE, "rbf.A": ONE, "rbf.B": OTHER},
            "What is better than linear.A?",
            "| vector |",
        ),
    ],
)  # fmt: skip
def test_a_section_is_called_by_what_the_conditions_differ_in(names, stores, title, role, tmp_path):
    rows = [{**HEADS[name], "transductive": False} for name in names]
    more = {"view": "emotion", "checkpoint": "selected", "p_holm": 0.01, "p_wilcoxon_folds": 0.01}
    found = [{**difference(name, "linear.A", "baseline", "helps"), **more} for name in names[1:]]
    results = {
        "conditions": rows, "differences": found, "reference": "linear.A", "views": {"emotion": ["a", "b"]},
        "scores": [{"view": "emotion", "checkpoint": "selected", "condition": names[0], "complete": True}],
    }  # fmt: skip
    page = Page(
        SimpleNamespace(path=tmp_path, planned_jobs=list, seeds=(), folds=(), conditions=()), results, {}, stores
    )
    part = worth_part(page)
    assert part[0] == f"## {title}"
    assert ("differs from" in "".join(part)) == (role == "| vector |")
    assert role in conditions_part(page)[1].partition("rbf.A" if len(names) == 2 else "rbf.B")[2]


def by_corpus(corpus, verdict, held_out=True):
    return {"condition": "dann", "against": "plain", "corpus": corpus, "held_out": held_out, "verdict": verdict}


def mean_of(over, difference, corpora):
    return {
        "condition": "dann", "over": over, "corpora": corpora, "difference": difference, "low": difference - 0.01,
        "high": difference + 0.01, "verdict": "cannot tell", "note": "",
    }  # fmt: skip


def test_what_corpora_say_together():
    found = [by_corpus("emodb", "helps"), by_corpus("savee", "cannot tell"), by_corpus("tess", "hurts")]
    said = corpora_conclusion("dann", found, [mean_of("all", 0.02, ["a", "b", "c"]), mean_of("held_out", 0.02, ["a"])])
    assert said == (
        "**dann** against plain: mean over corpora (3) +2.0 points [+1.0, +3.0], cannot tell. "
        "Corpora alone: better on emodb; worse on tess; cannot be told on savee."
    )
    few = {**mean_of("all", 0.02, ["a", "b", "c"]), "note": "optimistic: 3 of 3 corpora have fewer than 8 speakers"}
    assert "cannot tell (optimistic: 3 of 3 corpora have" in corpora_conclusion("dann", found, [few])
    # a corpus that stands in both ways is named with what it is, and the two means are kept apart
    found = [by_corpus("emodb", "helps", False), by_corpus("emodb", "cannot tell", True)]
    means = [mean_of(over, 0.02, ["emodb"]) for over in ("all", "trained_on", "held_out")]
    said = corpora_conclusion("dann", found, means)
    assert "mean over corpora trained on (1)" in said
    assert "mean over corpora (1)" not in said
    assert "better on emodb (trained on); cannot be told on emodb (held out)" in said
    assert corpora_conclusion("other", found, means) is None
