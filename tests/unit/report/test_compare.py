import os

import pytest

from repkit.cli import main
from repkit.errors import UsageError
from repkit.report.compare import _letter, compare, compare_runs

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
    with pytest.raises(UsageError, match="--view valense: no run predicts it.*one of emotion was expected"):
        compare_runs([one], view="valense")
    with pytest.raises(UsageError, match="no run directory"):
        compare_runs([])


def test_letters():
    assert [_letter(n) for n in (0, 25, 26, 53)] == ["a", "z", "aa", "bb"]


def test_runs_that_predict_no_emotion_are_compared_by_what_they_predict(fabricate, monkeypatch, capsys):
    plain = {"conditions": (), "seeds": (0,), "n_speakers": 3, "extra": False}
    arousal = {"arousal": ("low", "medium", "high")}
    one, both = (
        fabricate(name="one", **plain, views=arousal),
        fabricate(name="both", **plain, views={**SMALL, **arousal}),
    )
    text = compare_runs([one])
    assert "All rows were measured under one protocol. UAR of arousal in percent" in text
    assert "| neumann2019: toy" in text
    rows = compare([both, one]).rows
    assert [row["view"] for row in rows] == ["arousal", "arousal"]  # what both have, though one begins with emotion
    assert [row["view"] for row in compare([both]).rows] == ["emotion"]
    monkeypatch.setattr("sys.argv", ["repkit", "report", str(both), str(one), "--view", "emotion"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "Without a row, for want of predictions of emotion: `one`" in capsys.readouterr().out
    # a run of somebody else, or on a disk that may only be read: nothing can be written, but a table printed
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for more, code, told in (((), 2, "cannot be written to"), (("--view", "arousal"), 0, "UAR of arousal in percent")):
        monkeypatch.setattr("sys.argv", ["repkit", "report", str(one), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert (ended.value.code, told in shown.out + shown.err) == (code, True), shown
