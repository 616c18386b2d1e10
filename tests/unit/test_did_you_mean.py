"""Which names are suggested for a wrong one, and which are not."""

import pytest

from repkit.errors import did_you_mean

CORPORA = ("emodb", "emovo", "ravdess", "urdu", "iemocap")
EMOTIONS = ("anger", "happiness", "sadness", "wut", "fear")


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("emovoo", CORPORA, "emovo"),
        ("RAVDESS", CORPORA, "ravdess"),
        ("hapiness", EMOTIONS, "happiness"),
        ("gendr", ("gender", "session", "id"), "gender"),
        ("drop", ("dropout", "n_filters"), "dropout"),
        ("tset", ("train", "dev", "test"), "test"),
        ("prt", ("part", "line"), "part"),
        ("Anger", ("ANGER",), "ANGER"),
    ],
)
def test_a_slip_is_recognised(name, known, meant):
    assert did_you_mean(name, known) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("wavs", CORPORA),
        ("ekman", ("own", "neumann2019", "parry2019", "gao2022")),
        ("w", EMOTIONS),
        ("A", ("A1", "A2")),
        ("", CORPORA),
        ("anything", ()),
    ],
)
def test_what_is_not_close_is_not_guessed(name, known):
    assert did_you_mean(name, known) == ""


def test_a_single_letter_is_itself_whatever_its_capitals():
    assert did_you_mean("w", ("W", "wut")) == "; did you mean 'W'?"
