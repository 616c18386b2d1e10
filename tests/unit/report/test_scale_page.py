"""The page of repkit scale, from a hand-made scale.json."""

import csv
import io

from repkit.report.scale_page import csv_text, draw, markdown, point_rows, reasons, summary, write_page


def cell(curve, hours, seed, state, why="", **more):
    name = f"{curve}-{hours:g}h-s{seed}"
    return {"id": f"{curve}/{hours:g}/{seed}", "curve": curve, "hours": hours, "seed": seed, "name": name,
            "state": state, "why": why, "heard_hours": hours, "speakers": 9, "updates": 50, "epochs": 4,
            "seconds": 1800.0} | more  # fmt: skip


def point(curve, hours, mode, value, seeds, **more):
    return {"curve": curve, "hours": hours, "normalisation": mode, "difference": value, "low": value - 0.02,
            "high": value + 0.03, "p": 0.2, "seeds": seeds, "corpora": {"emodb": value, "ravdess": value},
            "control": "untrained-cpc", "verdict": "not passed", "n_speakers": 34, "n_utterances": 900} | more  # fmt: skip


def state():
    return {
        "repkit": "0",
        "command": "repkit scale --out x",
        "plan": {"updates": 50, "data_seed": 2, "curves": [{"name": "cpc"}, {"name": "apc"}]},
        "heard": ["librispeech"],
        "corpora": ["emodb", "ravdess"],
        "complete": False,
        "cells": [
            cell("cpc", 3.0, 0, "done"),
            cell("cpc", 3.0, 1, "done", heard_hours=2.9987),
            cell("cpc", 10.0, 0, "done"),
            cell("apc", 3.0, 0, "failed", why="it\nbroke"),
            cell("apc", 100.0, 0, "missing", why="needs 100 h"),
            cell("cpc", 100.0, 0, "missing", why="needs 100 h"),
            cell("apc", 10.0, 0, "not chosen"),
        ],
        "points": [
            point("cpc", 3.0, "train", 0.011, {"0": 0.02, "1": 0.002}),
            point("cpc", 3.0, "per_speaker", -0.004, {"0": -0.01, "1": 0.002}),
            point("cpc", 10.0, "train", 0.031, {"0": 0.031}),
            point("cpc", 10.0, "per_speaker", 0.025, {"0": 0.025}, low=None, high=None, verdict="cannot be told"),
        ],
        "failed": [],
    }


def test_rows_and_reasons():
    rows = point_rows(state())
    assert rows[0] == ["cpc", "3", "train", "+1.1", "[-0.9, +4.1]", "0.200", "2", "+0.2 to +2.0", "34", "not passed"]
    assert rows[3][4] == "[no interval]"
    assert rows[3][7] == "-"
    assert reasons(state(), "missing") == ["apc/100/0, cpc/100/0: needs 100 h"]
    assert reasons(state(), "failed") == ["apc/3/0: it broke"]
    assert summary(state()) == [
        "7 trainings: 3 done, 2 lack speech, 1 failed, 1 not chosen.",
        "",
        "- cpc at 10 h: **cannot be told**",
    ]


def test_the_page_has_all_of_it(tmp_path):
    write_page(tmp_path, state(), figure=True)
    page = (tmp_path / "scale.md").read_text()
    assert "![gate difference against hours of speech](figure.png)" in page
    assert "| cpc | 10 | train | +3.1 | [+1.1, +6.1] |" in page
    assert "| cpc-3h-s1 | 2.999 | 9 | 50 | 4 | 0.50 |" in page
    assert "- apc/100/0, cpc/100/0: needs 100 h" in page
    assert "50 updates each, speech drawn with seed 2 from librispeech; the gate on emodb, ravdess" in page
    assert page.index("By corpus") < page.index("## Missing") < page.index("## Failed") < page.index("## Trainings")
    # without drawing, the figure that is there stays on the page
    write_page(tmp_path, state(), figure=False)
    assert (tmp_path / "scale.md").read_text() == page


def test_every_number_is_in_the_table():
    rows = list(csv.DictReader(io.StringIO(csv_text(state()))))
    assert [row["value"] for row in rows if row["kind"] == "mean"] == ["1.10", "-0.40", "3.10", "2.50"]
    seeds = [(row["hours"], row["normalisation"], row["seed"], row["value"]) for row in rows if row["kind"] == "seed"]
    assert seeds[:2] == [("3", "train", "0", "2.00"), ("3", "train", "1", "0.20")]
    assert len(seeds) == 6
    assert sum(row["kind"] == "corpus" for row in rows) == 8
    assert [row["low"] for row in rows if row["kind"] == "mean"][-1] == ""


def test_nothing_measured_is_a_page_without_figure(tmp_path):
    empty = {**state(), "points": [], "cells": state()["cells"][3:]}
    assert draw(empty, tmp_path / "figure.png") is None
    page = markdown(empty, None)
    assert "None is finished yet." in page
    assert "## Differences" not in page


def test_the_figure_is_drawn_on_a_logarithmic_axis_and_always_the_same(tmp_path):
    a, b = (draw(state(), tmp_path / name) for name in ("a.png", "b.png"))
    assert a.read_bytes() == b.read_bytes()
    other = state()
    other["points"][0]["seeds"]["1"] = 0.05  # a dot elsewhere
    assert draw(other, tmp_path / "c.png").read_bytes() != a.read_bytes()
