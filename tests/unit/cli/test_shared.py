"""What commands share: times in words, runs below a folder."""

import pytest

from repkit.cli import main
from repkit.cli.shared import check_out, time_text
from repkit.errors import UsageError
from repkit.runs.find import find_runs


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0, "1 s"), (12.4, "12 s"), (35.9, "36 s"), (36, "0.01 h"), (5400, "1.50 h"), (720000, "200.00 h")]
)  # fmt: skip
def test_short_times_are_told_in_seconds(seconds, said):
    assert time_text(seconds) == said


def test_runs_are_found_below_a_folder(tmp_path):
    runs = [tmp_path / "runs/a/1", tmp_path / "runs/b/2", tmp_path / "3"]
    for run in (*runs, tmp_path / "too/far/below/here/4", runs[0] / "jobs/inner"):
        run.mkdir(parents=True)
        (run / "protocol.json").write_text("{}")
    assert find_runs(runs[0]) == [runs[0]]
    assert find_runs(tmp_path / "runs/b") == [runs[1]]
    assert find_runs(tmp_path) == sorted(runs)
    with pytest.raises(UsageError, match="no run directory of `repkit train-ser` here or below"):
        find_runs(tmp_path / "nowhere")


def test_an_output_file_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    check_out(tmp_path / "new" / "table.csv")
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="its folder cannot be made"):
        check_out(tmp_path / "file" / "table.csv")
    with pytest.raises(UsageError, match="a folder of that name is there"):
        check_out(tmp_path / "new")


@pytest.mark.parametrize("words", [("predict", "RUN", "x.wav"), ("report", "RUN"), ("leaderboard", "RUN")])
def test_every_command_with_an_output_file_looks_first(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("sys.argv", ["repkit", *words, "--out", str(tmp_path / "file" / "t.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "folder cannot be made" in " ".join(capsys.readouterr().err.split())
