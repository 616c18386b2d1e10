"""What commands are asked for, as words of other commands; and the files in which they keep what they have found."""

import json

import pytest

from repkit.errors import DataError
from repkit.workflows.asked import Asked
from repkit.workflows.state_file import read_state, rebuild_page


def test_corpora_come_with_their_own_settings():
    asked = Asked(
        corpora={}, places={"a": "a=here"}, corpus_set=("a.x=1", "b.y=2", "c.z=3"), on_bad_audio="skip"
    )  # fmt: skip
    assert asked.corpus_words(["a"], ["b"]) == [
        "--corpus", "a=here", "--hold-out", "b=PATH", "--corpus-set", "a.x=1", "--corpus-set", "b.y=2",
    ]  # fmt: skip
    assert asked.settings_of(["c"]) == ("c.z=3",)
    assert asked.audio_words() == ["--on-bad-audio", "skip"]
    assert Asked(corpora={}).audio_words() == Asked(corpora={}).corpus_words([]) == []


def test_a_page_is_written_anew_from_its_state(tmp_path):
    path, seen = tmp_path / "x.json", []
    assert read_state(path, 2) == {}
    with pytest.raises(DataError, match="what `repkit x` writes; start it without --page-only"):
        rebuild_page(path, 2, "x", seen.append)
    path.write_text(json.dumps({"schema": 2, "n": 1}))
    assert rebuild_page(path, 2, "x", lambda *args, figure: seen.append((*args, figure))) == {"schema": 2, "n": 1}
    assert seen == [(tmp_path, {"schema": 2, "n": 1}, True)]
    with pytest.raises(DataError, match="schema 2; 3 was expected; give another --out"):
        read_state(path, 3)
