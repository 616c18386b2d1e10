"""What commands share: times in words, runs below a folder."""

from pathlib import Path

import pytest

from repkit.cli import main
from repkit.cli.shared import check_folder, check_out, parse_corpora, time_text
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


def test_a_folder_that_cannot_be_is_refused_and_nothing_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "new" / "deep"):
        check_folder(path, "--out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
    with pytest.raises(UsageError, match=r"^--out .*file: a file of that name is there; a folder was expected"):
        check_folder(tmp_path / "file", "--out")
    monkeypatch.chdir(tmp_path)
    for path in ("file/x", "file/x/y"):
        with pytest.raises(UsageError, match=rf"^{path}: .*/file is a file; a folder was expected"):
            check_folder(Path(path), "")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UsageError, match=r"--out .*new: .* cannot be written to"):
        check_folder(tmp_path / "new", "--out")
    check_folder(tmp_path, "--runs")  # finished runs may lie where nothing can be written


MINE = ("--corpus", "synthetic_a")


@pytest.mark.parametrize(
    "words",
    [
        ("train-ser", "--recipe", "attentive_cnn", *MINE, "--runs"),
        ("pretrain-ae", *MINE, "--out"),
        ("probe", "STORE", *MINE, "--runs"),
        ("compare", "STORE", *MINE, "--out"),
        ("compare", "STORE", *MINE, "--runs"),
        ("scale", "--pretrain-corpus", "synthetic_unlabelled", *MINE, "--out"),
        ("reproduce", "parry2019", *MINE, "--out"),
        ("reproduce", "parry2019", *MINE, "--runs"),
        ("reproduce", "parry2019", *MINE, "--embeddings"),
        ("corpora", "export", "synthetic_a"),
    ],
    ids=" ".join,
)
def test_every_command_looks_at_its_folders_first(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/x"):
        assert ended(monkeypatch, *words, str(tmp_path / place)) == 2
        assert "a folder was expected; choose another place" in said(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def ended(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["repkit", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_a_corpus_is_named_by_the_option_that_gave_it():
    with pytest.raises(UsageError, match=r"^--pretrain-corpus nope: is not known"):
        parse_corpora(["nope"], option="--pretrain-corpus")
    with pytest.raises(UsageError, match=r"^--hold-out synthetic_a: 'synthetic_a' was already given by --corpus; each"):
        parse_corpora(["synthetic_a"], more={"--hold-out": ["synthetic_a"]})
    with pytest.raises(UsageError, match=r"^--corpus synthetic_a: 'synthetic_a' was already given; each corpus once"):
        parse_corpora(["synthetic_a", "synthetic_a"])
    assert list(parse_corpora([], more={"--hold-out": ["synthetic_b"]})) == ["synthetic_b"]


def test_commands_name_their_own_options(monkeypatch, capsys):
    assert ended(monkeypatch, "scale", "--pretrain-corpus", "nope", *MINE, "--dry-run") == 2
    assert "error: --pretrain-corpus nope: is not known" in said(capsys)
    train = ("train-ser", "--recipe", "cross_corpus", *MINE, "--hold-out", "synthetic_a", "--dry-run")
    assert ended(monkeypatch, *train) == 2
    assert "error: --hold-out synthetic_a: 'synthetic_a' was already given by --corpus" in said(capsys)
    assert ended(monkeypatch, "corpora", "show", "nope") == 2
    assert "error: nope: is not known" in said(capsys)
