import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from repkit.errors import DataError
from repkit.evaluation.run_files import read_run_files
from repkit.report import tables
from repkit.report.maps import _binned, draw_maps
from repkit.report.projection import choose_points, project
from repkit.report.render import render
from repkit.report.style import looks
from repkit.report.training import read_curves

IEMOCAP = {
    "corpus": "iemocap",
    "condition": "BL",
    "uar": 58.03,
    "minimum": 56.78,
    "maximum": 59.12,
    "note": "4 classes",
}
TOY = {"corpus": "toy", "condition": "Li", "uar": 61.0, "minimum": None, "maximum": None, "note": ""}
SMALL = {"emotion": ("anger", "happiness", "neutral", "sadness")}


def fails_with(words):
    return pytest.raises(DataError, match=words)


def test_the_page_of_a_run(fabricate):
    run = fabricate(conditions=("Li", "stats"), seeds=(0,), n_speakers=6, n_each=3, epochs=3, paper=[IEMOCAP, TOY])
    page = render(run)
    assert page == run / "report.md"
    text = page.read_text()
    results = json.loads((run / "results.json").read_text())
    assert text.startswith("# neumann2019 on toy\n")
    assert "Protocol `0123456789ab`: 72 test utterances, 6 speakers, 6 folds, 1 seeds, 3 conditions." in text
    assert "Incomplete" not in text
    li = next(s for s in results["scores"] if s["condition"] == "Li")
    assert f"| Li | **{100 * li['uar']['mean']:.1f}** | {100 * li['uar']['min']:.1f} |" in text
    assert "| 61.0 |" in text  # the paper's number of this corpus stands in the main table
    assert "58.0 (56.8 to 59.1)" in text
    assert "not for comparison" in text
    assert "the encoder has heard 8 of 8 test speakers" in text
    assert "beyond the control stats" in text
    assert "optimistic: 6 speakers" in text
    assert "repkit train-ser --recipe neumann2019" in text
    assert "toy: boredom (not in map own): 7" in text
    assert "derived 72" in text
    shown = set(re.findall(r"\(figures/([^)]+)\)", text))
    assert shown == {path.name for path in (run / "figures").iterdir()}
    assert {"scores.png", "differences.png", "curves.png", "embedding_Li.png", "hidden_BL.png"} <= shown
    for path in (run / "figures").iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert np.asarray(image.convert("L")).std() > 5
    assert "nan" not in text.lower().replace("nanmean", "")


def test_same_files_same_page_and_figures(fabricate):
    run = fabricate(conditions=(), seeds=(0,), n_speakers=3, n_each=3, views=SMALL)
    render(run)
    first = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    page = (run / "report.md").read_text()
    # the page is a function of the files alone: neither the folder's name nor what an older report left matters
    moved = run.parent / "elsewhere"
    shutil.copytree(run, moved)
    (moved / "results.json").unlink()
    (moved / "figures" / "stale.png").write_bytes(b"old")
    render(moved)
    assert (moved / "report.md").read_text() == page
    assert {path.name: path.read_bytes() for path in (moved / "figures").iterdir()} == first


def test_an_incomplete_and_an_empty_run(fabricate):
    run = fabricate(
        conditions=("Li",), seeds=(0,), n_speakers=3, views=SMALL, extra=False, skip=["Li/seed_0/speaker_01"]
    )
    text = render(run, maps=False).read_text()
    assert "**Incomplete: 5 of 6 jobs are finished.**" in text
    assert "`Li/seed_0/speaker_01`" in text
    assert "| Li (incomplete) |" in text
    shutil.rmtree(run / "jobs")
    text = render(run).read_text()
    assert "there is nothing to score" in text
    assert list((run / "figures").iterdir()) == []


def test_a_run_without_optional_files(fabricate):
    run = fabricate(conditions=(), seeds=(0,), n_speakers=3, views=SMALL, extra=False, epochs=1)
    for name in ("environment.json", "data.json", "command.txt", "status.json"):
        (run / name).unlink()
    text = render(run).read_text()
    assert "Does the vector help" not in text
    assert "## Training" in text


def test_damaged_vectors_are_named(fabricate):
    run = fabricate(conditions=("Li",), seeds=(0,), n_speakers=3, views=SMALL)
    ids = json.loads((run / "vectors/Li.json").read_text())
    (run / "vectors/Li.json").write_text(json.dumps(ids[:-1]))
    files = read_run_files(run)
    with fails_with("one row each"):
        draw_maps(files, run)
    (run / "vectors/Li.safetensors").write_bytes(b"xx")
    with fails_with("expected a safetensors file"):
        draw_maps(files, run)


def test_curves_of_jobs_of_unequal_length(fabricate):
    run = fabricate(conditions=(), seeds=(0,), n_speakers=3, views=SMALL, extra=False, epochs=4)
    short = run / "jobs/BL/seed_0/speaker_01/metrics.jsonl"
    short.write_text("\n".join(short.read_text().splitlines()[:2]) + "\n")
    curves = read_curves(read_run_files(run), "emotion")["train"]
    assert curves["BL"]["train_loss"].shape == (3, 4)
    assert np.isnan(curves["BL"]["train_loss"][1]).tolist() == [False, False, True, True]
    assert curves["BL"]["dev_uar"][0] == pytest.approx([0.3, 0.35, 0.4, 0.45])
    assert curves["BL"]["selected"].tolist() == [4, 4]


def test_numbers():
    assert tables.points(-0.0001) == "0.0"
    assert tables.points(-0.0123) == "-1.2"
    assert tables.percent(None) == "-"
    assert tables.table(["a", "b"], [["x|y", 1]]) == "| a | b |\n|:--|--:|\n| x\\|y | 1 |"


def test_long_speaker_tables_show_the_lowest():
    rows = [
        {"group": f"s{n:02d}", "condition": "BL", "uar": n / 100, "n_utterances": 9, "worst": n == 0} for n in range(40)
    ]
    text = tables.speakers_table(rows, ["BL"], {})
    assert "s29" in text
    assert "s30" not in text
    assert "| s00 | - | 9 | **0.0** |" in text
    assert "The 30 of 40 speakers" in text


def test_projection_keeps_clusters_and_is_repeatable():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 80))
    values[:30] += 3
    points = project(values)
    assert np.array_equal(points, project(values))
    centre = points[:30].mean(axis=0), points[30:].mean(axis=0)
    nearer = np.linalg.norm(points - centre[0], axis=1) < np.linalg.norm(points - centre[1], axis=1)
    assert nearer[:30].mean() == 1.0
    assert nearer[30:].mean() == 0.0
    assert np.array_equal(project(np.ones((12, 3))), np.zeros((12, 2)))


def test_points_are_chosen_by_name_not_by_order():
    ids = [f"c/{n}" for n in range(50)]
    chosen = {ids[place] for place in choose_points(ids, 20)}
    assert len(chosen) == 20
    assert {ids[::-1][place] for place in choose_points(ids[::-1], 20)} == chosen
    assert choose_points(ids).tolist() == list(range(50))


def test_looks_and_bins():
    many = looks([str(n) for n in range(24)])
    assert len({(look["color"], look["marker"]) for look in many.values()}) == 24
    assert [_binned(value) for value in (1.0, 2.0, 2.1, 3.9, 4.0)] == ["low", "low", "medium", "medium", "high"]
