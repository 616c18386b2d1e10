"""Names and places of corpora that `open_corpus` refuses, and by which option the message says they were given."""

import pytest

from repkit.audio.open import open_corpus
from repkit.errors import DataError, UsageError


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "../x", "-a", ".hidden", "_a", "a b", "größe"])
def test_a_name_that_is_no_name_of_a_folder_is_refused(name, tmp_path):
    for place in (str(tmp_path), "hub:ORG/DATA", "plugin:voices"):
        with pytest.raises(UsageError, match="is no name of a corpus; letters, digits"):
            open_corpus(name, place)


def test_what_to_write_instead_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"^--corpus my speech=x: .*; write --corpus my_speech=x$"):
        open_corpus("my speech", "x")
    with pytest.raises(UsageError, match=r"; write mine=x$"):
        open_corpus("..", "x", option="")
    with pytest.raises(UsageError, match="is no name of a corpus"):
        open_corpus("")


@pytest.mark.parametrize("name", ["mine", "a", "7", "synthetic-2", "v1.0_x"])
def test_ordinary_names_pass(name, write_sound, tmp_path):
    write_sound(tmp_path / "a.wav")
    (one,) = open_corpus(name, str(tmp_path), options={"pattern": "(?P<id>.)$"}).utterances()
    assert one.id == f"{name}/a"


@pytest.mark.parametrize("name", ["mine", "emodb", "librispeech"])
def test_a_place_that_is_not_said_is_not_the_folder_one_stands_in(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"^--corpus {name}=: no place after the '='"):
        open_corpus(name, "")


@pytest.mark.parametrize("option", ["--corpus", "--pretrain-corpus", "--hold-out", ""])
def test_every_message_names_the_option(option, tmp_path):
    said = f"{option} ".lstrip()
    (tmp_path / "empty").mkdir()
    for error, words, arguments in (
        (UsageError, f"{said}nope: is not known", ("nope",)),
        (UsageError, f"{said}emodb: needs the folder of your copy; write {said}emodb=PATH", ("emodb",)),
        (UsageError, f"{said}synthetic_a=x: synthetic_a is generated", ("synthetic_a", "x")),
        (DataError, f"{said}mine=gone: there is no such", ("mine", "gone")),
        (DataError, f"{said}tedlium={tmp_path / 'empty'}: holds neither", ("tedlium", str(tmp_path / "empty"))),
        (UsageError, f"{said}a/b=x: 'a/b' is no name", ("a/b", "x")),
        (UsageError, f"{said}mine=: no place", ("mine", "")),
    ):
        with pytest.raises(error) as caught:
            open_corpus(*arguments, option=option)
        assert caught.value.message.startswith(words)
    with pytest.raises(UsageError, match=f"^{said}synthetic_a: has no splits"):
        open_corpus("synthetic_a", split="train", option=option)
