import pytest

from repkit.errors import UsageError
from repkit.report.compare import _letter, compare_runs

SMALL = {"emotion": ("anger", "happiness", "neutral", "sadness")}


def test_runs_of_one_and_of_several_protocols(fabricate):
    plain = {"conditions": ("Li", "stats"), "seeds": (0,), "n_speakers": 6, "views": SMALL, "extra": False}
    one = fabricate(name="one", **plain)
    same = fabricate(name="same", **plain, skip=["Li/seed_0/speaker_02"])
    other = fabricate(name="other", **plain, protocol_id="ffff", corpus="zoo")
    text = compare_runs([one, same, other])
    lines = [line for line in text.splitlines() if line.startswith("| neumann2019")]
    assert len(lines) == 9
    assert [line.split("|")[2].strip() for line in lines] == ["a"] * 6 + ["b"] * 3
    assert "neumann2019: toy (incomplete, 17 of 18 jobs)" in lines[3]
    assert "neumann2019: zoo" in lines[8]
    assert "do not rank them" in text
    assert "- a: protocol `0123456789ab`\n" in text
    assert "- b: protocol `ffff`; differs from a in corpora" in text
    li = next(line for line in lines if "| Li |" in line)
    assert li.split("|")[8].strip().endswith(("helps", "cannot tell"))
    assert "stats " in li.split("|")[9]
    assert not (one / "results.json").exists()
    assert "nan" not in text
    none = compare_runs([one], view="valence")
    assert "No run has predictions of valence" in none
    assert "All rows were measured under one protocol" in none
    with pytest.raises(UsageError, match="no run directory"):
        compare_runs([])


def test_letters():
    assert [_letter(n) for n in (0, 25, 26, 53)] == ["a", "z", "aa", "bb"]
