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


def by_corpus(corpus, verdict, held_out=True):
    return {"condition": "dann", "against": "plain", "corpus": corpus, "held_out": held_out, "verdict": verdict}


def mean_of(over, difference, corpora):
    return {
        "condition": "dann", "over": over, "corpora": corpora, "difference": difference, "low": difference - 0.01,
        "high": difference + 0.01, "verdict": "cannot tell",
    }  # fmt: skip


def test_what_corpora_say_together():
    found = [by_corpus("emodb", "helps"), by_corpus("savee", "cannot tell"), by_corpus("tess", "hurts")]
    said = corpora_conclusion("dann", found, [mean_of("all", 0.02, ["a", "b", "c"]), mean_of("held_out", 0.02, ["a"])])
    assert said == (
        "**dann** against plain: mean over corpora (3) +2.0 points [+1.0, +3.0], cannot tell. "
        "Corpora alone: better on emodb; worse on tess; cannot be told on savee."
    )
    # a corpus that stands in both ways is named with what it is, and the two means are kept apart
    found = [by_corpus("emodb", "helps", False), by_corpus("emodb", "cannot tell", True)]
    means = [mean_of(over, 0.02, ["emodb"]) for over in ("all", "trained_on", "held_out")]
    said = corpora_conclusion("dann", found, means)
    assert "mean over corpora trained on (1)" in said
    assert "mean over corpora (1)" not in said
    assert "better on emodb (trained on); cannot be told on emodb (held out)" in said
    assert corpora_conclusion("other", found, means) is None
