"""The gate: by hand, by what must be missing, and by how often it is right."""

import itertools

import numpy as np
import pandas as pd
import pytest

from repkit.errors import DataError
from repkit.evaluation.gate import BOTH_TRAINED, BOTH_UNTRAINED, COLUMNS, MODES, average, judge, member_counts
from repkit.evaluation.intervals import Interval, score, widened


def rows(system, text, *, mode="train", corpus="x", member="m0", seed=0, fold="f"):
    """Rows from speakers' words: 'aa ab|bb' is speaker 0 with two utterances and speaker 1 with one (label, prediction)."""
    found = []
    for speaker, words in enumerate(text.split("|")):
        for n, word in enumerate(words.split()):
            who, name = f"{corpus}/{speaker}", f"{corpus}/{speaker}-{n}"
            found.append((mode, corpus, system, member, seed, fold, name, who, word[0], word[1]))
    return found


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part], columns=list(COLUMNS))


GOOD = "|".join(["aa bb"] * 8)
"""Eight speakers, all right."""
HALF = "|".join(["aa ba"] * 8)
"""All b wrong: UAR 1/2."""


def both_modes(first, second, **kind):
    return [
        part
        for mode in MODES
        for part in (rows(BOTH_TRAINED, first, mode=mode, **kind), rows(BOTH_UNTRAINED, second, mode=mode, **kind))
    ]


def decisive(gate, mode="train"):
    (one,) = [
        d for d in gate.differences if (d.first, d.second, d.normalisation) == (BOTH_TRAINED, BOTH_UNTRAINED, mode)
    ]
    return one


def test_every_speaker_gains_the_same_so_that_the_interval_is_a_point():
    gate = judge(table(*both_modes(GOOD, HALF)))
    assert gate.verdict == "passed"
    one = decisive(gate)
    assert one.interval.value == one.interval.low == one.interval.high == 0.5
    assert one.p == 2 / 2**8
    assert one.n_utterances == 16
    assert one.n_members == (1, 1)
    assert one.lowest is None
    assert len(gate.reasons) == 2
    assert "per-speaker normalisation [functionals + trained] - [functionals + untrained] is +50.0" in gate.reasons[1]


def test_one_normalisation_is_not_enough():
    parts = [*both_modes(GOOD, HALF)[:2], *both_modes(HALF, HALF)[2:]]
    assert parts[2][0][0] == "per_speaker"
    gate = judge(table(*parts))
    assert gate.verdict == "not passed"
    assert "above zero" in gate.reasons[0]
    assert "not above zero" in gate.reasons[1]
    assert judge(table(*both_modes(HALF, GOOD))).verdict == "not passed"
    assert judge(table(*both_modes(GOOD, GOOD))).verdict == "not passed"


def test_the_difference_by_hand_is_the_mean_over_corpora_not_over_utterances():
    # x: recalls a 3/4 and b 1/2 against a 1/2 and b 1/2 -> .625 - .5 = .125, over two speakers
    # y: one class more and other sizes: (1 + 1 + 0) / 3 against (1 + 0 + 0) / 3 -> 1/3
    first_x, second_x = "aa aa bb|aa ab ba", "aa ab bb|aa ab ba"
    first_y, second_y = "aa bb ca|aa bb ca|aa bb cb", "aa ba ca|aa ba cb|aa bc ca"
    parts = []
    for mode in MODES:
        parts += [rows(BOTH_TRAINED, first_x, mode=mode), rows(BOTH_UNTRAINED, second_x, mode=mode)]
        parts += [
            rows(BOTH_TRAINED, first_y, mode=mode, corpus="y"),
            rows(BOTH_UNTRAINED, second_y, mode=mode, corpus="y"),
        ]
    gate = judge(table(*parts), n_resamples=200)
    one = decisive(gate)
    assert one.corpora["x"].value == pytest.approx(0.125)
    assert one.corpora["y"].value == pytest.approx(1 / 3)
    assert one.interval.value == pytest.approx((0.125 + 1 / 3) / 2)
    assert one.interval.low < one.interval.value < one.interval.high
    assert gate.verdict == "cannot be told", "two and three speakers are too few"
    assert "too few speakers (x 2, y 3)" in gate.reasons[0]


def test_members_and_seeds_are_averaged_and_their_spread_is_told():
    # trained: two encoders with UAR 1 and 1/2; untrained: two with 1/2 and 0 -> .75 - .25, single ones 0 to 1
    nothing = "|".join(["ab ba"] * 8)
    parts = []
    for mode in MODES:
        for member, text in (("m0", GOOD), ("m1", HALF)):
            parts += [rows(BOTH_TRAINED, text, mode=mode, member=member, seed=seed) for seed in (0, 1)]
        for member, text in (("u0", HALF), ("u1", nothing)):
            parts.append(rows(BOTH_UNTRAINED, text, mode=mode, member=member))
    gate = judge(table(*parts))
    one = decisive(gate)
    assert one.interval.value == pytest.approx(0.5)
    assert (one.lowest, one.highest) == (0.0, 1.0)
    assert one.n_members == (2, 2)
    assert gate.verdict == "passed"
    trained = table(*parts).query("normalisation == 'train' and system == @BOTH_TRAINED")
    counts = average(member_counts(trained, ["a", "b"]))
    assert counts.hits.shape == (1, 8, 2)
    assert score(counts) == pytest.approx(0.75)


def test_an_interval_over_few_speakers_is_widened_by_hand():
    # 8 speakers: sqrt(8 / 7) = 1.06904; t of 7 degrees at .975 is 2.36462, z 1.95996 -> factor 1.28975
    one = widened(Interval(0.1, 0.05, 0.2, 8, 100), [8])
    assert (one.low, one.high) == (pytest.approx(0.1 - 1.28975 * 0.05, abs=1e-5), pytest.approx(0.228975, abs=1e-5))
    # 6 and 24: sqrt(6 / 5) = 1.09545, t of 28 degrees 2.04841
    assert widened(Interval(0.0, -1.0, 1.0, 30, 100), [6, 24]).high == pytest.approx(
        1.09545 * 2.04841 / 1.95996, abs=1e-4
    )
    assert widened(Interval(0.1, 0.05, 0.2, 9, 100), [1, 8]).low is None


def test_the_other_differences_are_told_and_decide_nothing():
    parts = both_modes(GOOD, HALF)
    for mode in MODES:
        parts += [rows(name, HALF, mode=mode) for name in ("functionals", "untrained")]
        parts.append(rows("trained", "|".join(["ab ba"] * 8), mode=mode))
    gate = judge(table(*parts))
    told = {(d.first, d.second): d.interval.value for d in gate.differences if d.normalisation == "train"}
    assert told == {
        (BOTH_TRAINED, BOTH_UNTRAINED): 0.5,
        ("trained", "untrained"): -0.5,
        ("trained", "functionals"): -0.5,
        (BOTH_TRAINED, "functionals"): 0.5,
    }
    assert gate.verdict == "passed"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "nothing was measured under train normalisation"),
        (both_modes(GOOD, HALF)[:2], "nothing was measured under per-speaker normalisation"),
        (both_modes(GOOD, HALF)[:3], "[functionals + untrained] not measured under per-speaker"),
        (
            [rows("trained", GOOD), rows("functionals", GOOD)],
            "[functionals + trained] and [functionals + untrained] not",
        ),
        ([*both_modes(GOOD, HALF), rows(BOTH_TRAINED, GOOD, corpus="y")], "no utterance of y was predicted by both"),
        (
            [*both_modes(GOOD, HALF), rows(BOTH_TRAINED, GOOD, member="m1")[1:]],
            "1 utterances under train normalisation",
        ),
        (both_modes(*["|".join(["aa bb"] * 5)] * 2), "too few speakers (x 5)"),
        (both_modes(*["|".join(["aa bb"] * 7)] * 2), "too few speakers: 7 in all, 8 are needed"),
    ],
)
def test_what_is_missing_cannot_be_told(parts, said):
    gate = judge(table(*parts), n_resamples=50)
    assert gate.verdict == "cannot be told"
    assert said in " ".join(gate.reasons)


def test_a_corpus_that_was_asked_for_and_is_not_there_is_missed():
    assert judge(table(*both_modes(GOOD, HALF)), corpora=["x"]).verdict == "passed"
    gate = judge(table(*both_modes(GOOD, HALF)), corpora=["x", "z"])
    assert gate.verdict == "cannot be told"
    assert "no utterance of z" in gate.reasons[0]


@pytest.mark.parametrize("mode", MODES)
def test_an_encoder_that_one_corpus_lacks_is_named(mode):
    """A bad seed that is missing on y would make the mean over corpora one of different encoders: +50 became +75."""
    parts = [*both_modes(GOOD, HALF), *both_modes(GOOD, HALF, corpus="y")]
    parts += [
        rows(BOTH_TRAINED, HALF, mode=m, corpus=c, member="s1") for m in MODES for c in "xy" if (m, c) != (mode, "y")
    ]
    gate = judge(table(*parts), n_resamples=50)
    assert gate.verdict == "cannot be told"
    words = (
        f"encoder s1 has no predictions on y as [functionals + trained] under {mode.replace('_', '-')} normalisation"
    )
    assert gate.reasons == (words,)


def test_tables_that_cannot_be_are_refused():
    good = table(*both_modes(GOOD, HALF))
    with pytest.raises(DataError, match="columns speaker missing"):
        judge(good.drop(columns="speaker"))
    with pytest.raises(DataError, match="predicted twice"):
        judge(pd.concat([good, good.head(1)]))
    with pytest.raises(DataError, match="two labels"):
        judge(pd.concat([good, good.head(1).assign(label="b", seed=1)]))
    with pytest.raises(DataError, match="system 'mine'"):
        judge(good.assign(system="mine"))
    with pytest.raises(DataError, match="without speaker"):
        judge(good.assign(speaker=None))


SIZES = {"x": 8, "y": 10}
N_CLASSES, N_EACH = 2, 6


def simulated(draw, gain, spread):
    """Two systems on two corpora; speakers differ in how much the first gains.

    `gain` is the first system's mean advantage in the probability of a right answer, `spread` its standard deviation over
    speakers; half of the answers are common to both systems. Both normalisations get the same answers: the case in which
    the second is no further hurdle, so that a null effect passes most often.
    """
    parts = []
    for corpus, n_speakers in SIZES.items():
        ease = draw.uniform(0.4, 0.6, n_speakers)
        gains = draw.normal(gain, spread, n_speakers)
        label = np.tile(np.repeat([0, 1], N_EACH), n_speakers)
        speaker = np.repeat(np.arange(n_speakers), N_CLASSES * N_EACH)
        common = draw.random(len(label))
        for system, chance in ((BOTH_TRAINED, ease + gains), (BOTH_UNTRAINED, ease)):
            luck = np.where(draw.random(len(label)) < 0.5, common, draw.random(len(label)))
            prediction = np.where(luck < chance[speaker], label, 1 - label)
            one = pd.DataFrame(
                {
                    "corpus": corpus,
                    "system": system,
                    "member": "m",
                    "seed": 0,
                    "fold": "f",
                    "id": [f"{corpus}/{n}" for n in range(len(label))],
                    "speaker": [f"{corpus}/{s}" for s in speaker],
                    "label": np.array(["a", "b"])[label],
                    "prediction": np.array(["a", "b"])[prediction],
                }
            )
            parts += [one.assign(normalisation=mode) for mode in MODES]
    return pd.concat(parts, ignore_index=True)


def pass_rate(gain, spread, n, seed):
    draw = np.random.default_rng(seed)
    return np.mean([judge(simulated(draw, gain, spread), n_resamples=200).verdict == "passed" for _ in range(n)])


def test_a_null_effect_passes_at_most_in_about_five_percent():
    # at 5 % more than 5 of 36 come in one of 100 cases
    assert pass_rate(0.0, 0.08, 36, seed=1) <= 5 / 36


def test_a_planted_effect_is_found_about_as_often_as_it_should_be():
    assert pass_rate(0.25, 0.08, 5, seed=2) == 1.0
    # per speaker the difference has sd sqrt(.08^2 + 2 * .25 * .5 / 12) = .165, the mean of two corpora's means
    # sd .165 / 2 * sqrt(1/8 + 1/10) = .039, so that a gain of .08 lies 2.05 of it above zero and is found in about half
    assert 0.2 < pass_rate(0.08, 0.08, 20, seed=3) < 0.75


def test_simulated_tables_are_paired():
    some = simulated(np.random.default_rng(0), 0.1, 0.1)
    ids = [set(part["id"]) for _, part in some.groupby(["normalisation", "system"])]
    assert all(one == other for one, other in itertools.pairwise(ids))
