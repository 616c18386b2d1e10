"""Page, CSV and figure of cells with known numbers."""

import copy
import csv
import io

import pytest

from repkit.papers import PaperFile
from repkit.report import reproduction
from repkit.report.reproduction import (
    HEADER,
    csv_text,
    draw,
    markdown,
    measured_row,
    missing_lines,
    summary,
    where_to_get,
)
from repkit.workflows.reproduce.cells import Request, plan_cells
from repkit.workflows.reproduce.run import blank_record

PAPER = PaperFile.model_validate(
    {
        "name": "toy",
        "title": "Tones",
        "authors": "A & B",
        "venue": "Nowhere",
        "year": 2001,
        "doi": "10.1/x",
        "notes": ["The sums are wrong."],
        "corpora": [{"name": n, "title": n.upper()} for n in ("emodb", "savee", "abc")],
        "systems": [
            {"id": "CNN", "recipe": "demo", "seeds": 3},
            {"id": "SVM", "recipe": "demo", "set": ["training.epochs=3"]},
            {"id": "SVM-nested", "recipe": "demo", "like": "SVM", "differs": "other selection"},
            {"id": "people", "reason": "listeners"},
        ],
        "tables": [
            {
                "id": "table_1",
                "caption": "all",
                "protocol": "one speaker out",
                "blocks": [
                    {
                        "columns": ["CNN", "SVM", "people"],
                        "values": {"emodb": [50.25, 60.5, 90.0], "savee": [40.0, 41.0, "-"], "abc": [10.0, 20.0, "-"]},
                        "minimum": {"emodb": [49.0, 60.0, "-"]},
                        "maximum": {"emodb": [51.5, 61.0, "-"]},
                        "notes": [{"text": "corrected", "systems": ["CNN"], "corpora": ["savee"], "printed": 44.0}],
                    }
                ],
            }
        ],
    }
)


def ours(value, low, high, published, n_seeds=3):
    difference = None if published is None else value - published / 100
    verdict = (
        None if published is None else "inside" if low is not None and low <= published / 100 <= high else "outside"
    )
    if published is not None and low is None:
        verdict = "no interval"
    return {
        "value": value, "low": low, "high": high, "n_speakers": 10, "n_utterances": 535, "n_folds": 10, "n_used": 535,
        "chance": 1 / 7, "note": "", "seeds": {str(s): value for s in range(n_seeds)}, "difference": difference,
        "verdict": verdict, "folds": {},
    }  # fmt: skip


@pytest.fixture
def records():
    planned = plan_cells(Request(paper=PAPER, corpora={"emodb": object(), "savee": object()}))
    found = {(one.cell.system.id, one.cell.row): blank_record(one) for one in planned}
    run = {
        "path": "runs/demo/1", "recipe": "demo", "set": [], "corpora": ["emodb"], "hold_out": [], "protocol": "loso",
        "protocol_id": "abc123abc123", "selection": "last", "command": "repkit train-ser --recipe demo --corpus emodb=X",
    }  # fmt: skip
    for system, corpus, numbers, differs in (
        ("CNN", "emodb", ours(0.5223, 0.5, 0.55, 50.25), []),
        ("SVM", "emodb", ours(0.55, 0.5, 0.6, 60.5), []),
        ("SVM-nested", "emodb", ours(0.54, 0.5, 0.6, 60.5), ["other selection"]),
        ("CNN", "savee", ours(0.35, None, None, 40.0, 1), ["1 clip, the paper 2"]),
    ):
        record = found[system, corpus]
        record.update(state="measured", ours=numbers, run=run, differs=differs)
    found["CNN", "savee"]["notes"].append("few speakers")
    found["CNN", "savee"]["ours"]["folds"] = {"speaker_dc": 0.123, "speaker_je": 0.577}
    found["CNN", "emodb"]["ours"]["folds"] = {f"speaker_{n}": 0.5 for n in range(7)}  # too many to be listed
    found["SVM", "emodb"]["ours"]["folds"] = {"all": 0.55}
    del found["SVM-nested", "emodb"]["ours"]["folds"]  # as an older version wrote it
    found["SVM", "savee"].update(state="failed", why="corpus savee: 1 bad file\n  - a.wav: empty", exit_code=4)
    return list(found.values())


def test_a_row_holds_paper_ours_interval_difference_and_verdict(records):
    rows = {row[0] + "/" + row[1]: dict(zip(HEADER, row)) for row in (measured_row(r) for r in records if r["ours"])}
    assert list(rows["CNN/emodb"].values()) == [
        "CNN", "emodb", "50.25 (49.00 to 51.50)", "52.2", "[50.0, 55.0]", "+2.0", "inside", "3", "-",
    ]  # fmt: skip
    assert rows["SVM/emodb"]["ours - paper"] == "-5.5"
    assert rows["SVM/emodb"]["published is"] == "outside"
    assert rows["CNN/savee"]["95 % interval"] == "[no interval]"
    assert rows["CNN/savee"]["published is"] == "no interval"
    assert rows["SVM-nested/emodb"]["differs"] == "other selection"
    # the published number is not its own
    assert (rows["SVM-nested/emodb"]["paper"], rows["SVM/emodb"]["paper"]) == (
        "60.50 (60.00 to 61.00) of SVM",
        "60.50 (60.00 to 61.00)",
    )


def test_the_summary_counts_cells_of_the_paper(records):
    assert summary(records) == [
        "3 of 7 cells are measured, and 1 beside them that the paper does not have.",
        "2 set up as published: 1 inside the interval, 1 outside (1 of them ours lower, 0 ours higher).",
        "1 set up otherwise (see *differs*): 0 inside the interval, 0 outside, 1 without interval.",
        "1 failed, 2 wait for corpora or packages, 1 cannot be run.",
    ]


def test_what_is_missing_and_where_it_is(records):
    assert missing_lines(records, "missing") == [("needs --corpus abc=PATH", "abc: CNN 10.00, SVM 20.00")]
    assert where_to_get(PAPER, records) == ["abc: ABC; not read by name: a folder with a metadata.csv"]
    assert missing_lines(records, "published") == [("listeners", "emodb: people 90.00")]


def test_the_page(records):
    page = markdown(PAPER, records, None)
    for text in (
        "# toy, reproduced",
        "A & B, *Tones*, Nowhere 2001, doi 10.1/x.",
        "- 3 of 7 cells are measured",
        "## table 1: all",
        "Protocol: one speaker out.",
        "| emodb | **50.25** / 52.2 | **60.50** / 55.0 | - / 54.0 | 90.00 |",
        "| savee | **40.00** / 35.0 | 41.00 | - | - |",
        "| CNN | emodb | 50.25 (49.00 to 51.50) | 52.2 | [50.0, 55.0] | +2.0 | inside | 3 | - |",
        "- printed as 44.00 (CNN/savee)\n- corrected (CNN/savee)\n- few speakers (CNN/savee)",
        "UAR of each fold, mean over seeds, in percent (cells of at most 6 folds):\n\n"
        "- CNN/savee: speaker_dc 12.3, speaker_je 57.7\n\n## Failed",
        "- **corpus savee: 1 bad file - a.wav: empty**: savee: SVM 41.00",
        "## Missing\n\n- needs --corpus abc=PATH. abc: CNN 10.00, SVM 20.00",
        "- The sums are wrong.",
        "| runs/demo/1 | loso | `abc123abc123` | last epoch, nothing chosen |",
        "```\nrepkit train-ser --recipe demo --corpus emodb=X\n```",
    ):
        assert text in page, text
    assert "figure.png" not in page


def test_the_csv_holds_every_cell(records):
    rows = {(r["system"], r["corpus"]): r for r in csv.DictReader(io.StringIO(csv_text(records)))}
    assert len(rows) == len(records) == 10
    row = rows["CNN", "emodb"]
    assert [row[key] for key in ("paper", "paper_min", "ours", "low", "high", "difference", "verdict", "n_seeds")] == [
        "50.25", "49.0", "52.23", "50.00", "55.00", "1.98", "inside", "3",
    ]  # fmt: skip
    assert (rows["CNN", "savee"]["paper_printed"], rows["CNN", "savee"]["low"]) == ("44.0", "")
    assert (rows["CNN", "abc"]["state"], rows["CNN", "abc"]["needs"]) == ("missing", "needs --corpus abc=PATH")
    assert rows["SVM", "savee"]["state"] == "failed"
    # whose number stands in a row that the paper does not have
    assert {key: row["like"] for key, row in rows.items() if row["like"]} == {
        ("SVM-nested", corpus): "SVM" for corpus in ("emodb", "savee", "abc")
    }
    assert rows["SVM-nested", "emodb"]["paper"] == "60.5"


def test_the_figure_draws_paper_and_ours(records, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduction, "save", lambda figure, path: figure)
    figure = draw(PAPER, records, tmp_path / "x.png")
    panels = {axes.get_title(loc="left").partition(",")[0]: axes for axes in figure.axes}
    assert list(panels) == ["CNN", "SVM", "SVM-nested"]
    marks = {
        kind: sorted(float(line.get_xdata()[0]) for line in panels["CNN"].lines if line.get_marker() == kind)
        for kind in ("x", "o")
    }
    assert marks == {"x": [10.0, 40.0, 50.25], "o": [pytest.approx(35.0), pytest.approx(52.23)]}
    spans = [list(line.get_xdata()) for line in panels["CNN"].lines if len(line.get_xdata()) == 2]
    assert spans == [[50.0, pytest.approx(55.0)]]
    assert {axes.get_xlim() for axes in panels.values()} == {(7.0, 64.0 - 0.5)}
    # the number of another system has another mark, which the legend names
    marks = {name: {line.get_marker() for line in axes.lines} - {"None"} for name, axes in panels.items()}
    assert marks == {"CNN": {"x", "o"}, "SVM": {"x", "o"}, "SVM-nested": {"D", "o"}}
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["paper", "paper, of another system"]
    own = [record for record in records if record["like"] is None]
    legend = draw(PAPER, own, tmp_path / "x.png").legends[0]
    assert "paper, of another system" not in [text.get_text() for text in legend.get_texts()]
    nothing = copy.deepcopy(records)
    for record in nothing:
        record["ours"] = None
    assert draw(PAPER, nothing, tmp_path / "x.png") is None


def test_the_figure_is_a_file(records, tmp_path):
    assert draw(PAPER, records, tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
