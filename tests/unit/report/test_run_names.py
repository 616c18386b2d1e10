"""What tells runs apart in tables and at the head of the page."""

import csv
import io
import json

import pytest

from repkit.errors import UsageError
from repkit.evaluation.run_files import read_run_files
from repkit.report.compare import compare, compare_runs
from repkit.report.compare_files import COLUMNS, comparison_file
from repkit.report.context import Page
from repkit.report.page_protocol import end_part
from repkit.report.render import _settings_note, _title
from repkit.report.run_names import differing_settings, given_settings, run_labels, settings_text

PLAIN = {
    "conditions": ("Li",),
    "seeds": (0,),
    "n_speakers": 3,
    "n_each": 1,
    "views": {"emotion": ("anger", "happiness", "neutral", "sadness")},
}
PLAIN |= {"extra": False, "epochs": 2}  # fmt: skip


def change(run, command=None, **tables):
    """Lay tables over a run's resolved recipe, and give it another command."""
    path = run / "resolved.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **tables}))
    if command is not None:
        (run / "command.txt").write_text(command + "\n")
    return run


@pytest.fixture
def three(fabricate):
    """A run as its recipe says, one with another model and fewer epochs, and the first one again."""
    first = fabricate(name="20260101T000000Z_aaaaaaaa", **PLAIN)
    other = fabricate(name="20260102T000000Z_bbbbbbbb", **PLAIN)
    again = fabricate(name="20260103T000000Z_aaaaaaaa", **PLAIN)
    usual = {"name": "attentive_cnn", "n_filters": 200}
    for run in (first, again):
        change(run, model=usual)
    change(
        other,
        "repkit train-ser --recipe neumann2019 --corpus toy=PATH --set model.name=my_bigru --set=training.epochs=2 --set 'seeds=[0]'",
        model={"name": "my_bigru", "size": 8},
        training={"epochs": 2, "select_by": "last"},
    )
    return first, other, again


def test_rows_name_model_settings_and_signature(three):
    text = compare_runs(three)
    cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| neumann2019")]
    assert len(cells) == 6  # two conditions each
    assert (
        cells[0]
        == "neumann2019: toy; model attentive_cnn; model.n_filters = 200, training.select_by = dev.uar; `20260101T000000Z_aaaaaaaa`"
    )
    assert cells[2] == "neumann2019: toy; model my_bigru; model.size = 8, training.select_by = last; `bbbbbbbb`"
    assert cells[4].endswith("`20260103T000000Z_aaaaaaaa`")  # twice the same signature: the folder tells
    assert len(set(cells)) == 3


def test_a_run_alone_is_called_by_its_signature_and_has_no_differences(three):
    (cell, _) = [
        line.split("|")[1].strip() for line in compare_runs(three[:1]).splitlines() if line.startswith("| neu")
    ]
    assert cell == "neumann2019: toy; model attentive_cnn; `aaaaaaaa`"


def test_runs_without_predictions_are_named_below_the_table(three, fabricate):
    jobs = [f"{condition}/seed_0/speaker_0{s}" for condition in ("BL", "Li") for s in range(3)]
    none = fabricate(name="20260104T000000Z_cccccccc", **PLAIN, skip=jobs)
    text = compare_runs([three[1], none])
    assert text.endswith("Without a row, for want of predictions of emotion: `cccccccc`.\n")
    assert "Without a row" not in compare_runs(three)


def test_a_condition_may_have_a_model_of_its_own(three):
    conditions = [
        {"name": "Li", "set": {"model": {"name": "wide"}}},
        {"name": "more", "set": {"model": {"n_filters": 3}}},
    ]
    change(three[0], conditions=conditions)
    assert [(row["condition"], row["model"]) for row in compare(three[:1]).rows] == [
        ("BL", "attentive_cnn"),
        ("Li", "wide"),
    ]
    page = Page(read_run_files(three[0]), {"recipe": "neumann2019"}, {})
    assert _title(page) == "# neumann2019 on toy, models attentive_cnn, wide"
    assert _settings_note(page.files) == ["Models: BL `attentive_cnn`, Li `wide`, more `attentive_cnn`."]


def test_differences_are_those_from_runs_of_the_same_recipe(three):
    change(three[0], name="quite_another", seeds=[7, 8])
    files = [read_run_files(run) for run in three]
    assert [sorted(found) for found in differing_settings(files)] == [
        [], ["model.size", "training.select_by"], ["model.n_filters", "training.select_by"],
    ]  # fmt: skip


def test_many_settings_are_counted_and_long_ones_shortened():
    settings = {f"a.k{i}": i for i in range(8)}
    assert settings_text(settings, 3) == "a.k0 = 0, a.k1 = 1, a.k2 = 2, and 5 more settings"
    assert settings_text({"x": ["y" * 99]}, 3) == f'x = ["{"y" * 55}...'
    assert settings_text({"x": "word", "y": 0.5}, 2, mark="`") == "`x = word`, `y = 0.5`"


def test_the_page_names_model_and_what_the_command_has_set(three):
    page = Page(read_run_files(three[1]), {"recipe": "neumann2019"}, {})
    assert _title(page) == "# neumann2019 on toy, model my_bigru"
    assert _settings_note(page.files) == [
        "Model: `my_bigru`. Set by `--set` over the recipe: `model.name = my_bigru`, `training.epochs = 2`, `seeds = [0]`."
    ]
    same = Page(read_run_files(change(three[0], name="attentive_cnn")), {"recipe": "attentive_cnn"}, {})
    assert _title(same) == "# attentive_cnn on toy"
    assert _settings_note(same.files) == ["Model: `attentive_cnn`."]


@pytest.mark.parametrize(
    "command", ["repkit my_script.py --set training.epochs=3", "repkit", "repkit train-ser --set 'x"]
)
def test_a_command_that_is_none_of_ours_tells_no_settings(three, command):
    assert given_settings(read_run_files(change(three[0], command))) == {}


def test_labels_are_as_short_as_they_can_be(fabricate, tmp_path):
    files = [read_run_files(fabricate(name=name, **PLAIN)) for name in ("20260101T000000Z_aaaaaaaa", "mine")]
    assert run_labels(files) == ["aaaaaaaa", "mine"]
    assert run_labels([files[0], files[0]]) == [str(files[0].path)] * 2


def test_plugins_stand_on_the_page(three):
    page = Page(read_run_files(three[0]), {"recipe": "neumann2019"}, {})
    assert not any("Plugins" in part for part in end_part(page))  # a run of before they were recorded
    path = three[0] / "environment.json"
    path.write_text(json.dumps({"repkit": "0.1.0", "packages": {}, "plugins": ["mine 1.2", "repkit-dann 0.1.0"]}))
    assert "Plugins installed: mine 1.2, repkit-dann 0.1.0." in end_part(page)
    path.write_text(json.dumps({"repkit": "0.1.0", "plugins": []}))
    assert "Plugins installed: none." in end_part(page)


def test_jobs_that_were_not_trained_with_one_version_stand_on_the_page(three):
    page = Page(read_run_files(three[0]), {"recipe": "neumann2019"}, {})
    assert not any("one version" in part for part in end_part(page))
    folders = sorted(path.parent for path in three[0].glob("jobs/*/seed_*/*/done.json"))[:2]
    for version, folder in enumerate(folders, 1):
        (folder / "model.json").write_text(json.dumps({"trained_with": {"repkit.models: net": f"mine {version}"}}))
    first, second = ("/".join(folder.parts[-3:]) for folder in folders)
    (said,) = (part for part in end_part(page) if "one version" in part)
    assert said.endswith(f"one version: repkit.models: net: mine 1, 1 job ({first}); mine 2, 1 job ({second}).")


def test_the_comparison_as_csv_and_json(three, tmp_path):
    rows = list(csv.DictReader(io.StringIO(comparison_file(three, tmp_path / "x.csv"))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 6
    listed = json.loads(comparison_file(three, tmp_path / "x.JSON"))["rows"]
    assert [(row["run"], row["condition"]) for row in rows] == [(row["run"], row["condition"]) for row in listed]
    assert [row["signature"] for row in rows[::2]] == ["aaaaaaaa", "bbbbbbbb", "aaaaaaaa"]
    li = rows[1]
    assert (li["condition"], li["model"], li["against"], li["complete"]) == ("Li", "attentive_cnn", "BL", "True")
    assert json.loads(li["settings"]) == {"model.n_filters": 200, "training.select_by": "dev.uar"}
    assert float(li["uar_pooled"]) == pytest.approx(listed[1]["uar_pooled"])
    assert float(li["uar_mean"]) == pytest.approx(listed[1]["uar_mean"])
    assert 0.2 < float(li["uar_mean"]) <= 1  # a share
    (found,) = [d for d in listed[1]["differences"] if d["role"] == "baseline"]
    assert float(li["difference"]) == pytest.approx(found["difference"])
    assert float(li["difference"]) == pytest.approx(float(li["uar_pooled"]) - float(rows[0]["uar_pooled"]))
    assert li["verdict"] == found["verdict"]
    assert rows[0]["against"] == rows[0]["mean_over_corpora"] == ""


def test_the_comparison_as_latex(three, tmp_path):
    text = comparison_file(three, tmp_path / "x.tex")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 7
    assert {line.count(" & ") for line in body} == {10}
    assert r"\begin{tabular}{lrrrrrrrrrr}" in text
    assert (
        r"neumann2019: toy; model my\_bigru; model.size = 8, training.select\_by = last; \texttt{bbbbbbbb} & a & BL & \textbf{"
        in text
    )
    assert "95 \\% interval" in body[0]
    assert text.startswith("% All rows were measured under one protocol.")


@pytest.mark.parametrize("name", ["cmp.txt", "cmp", "cmp.cvs"])
def test_other_suffixes_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.md, \.csv, \.json, \.tex were expected") as caught:
        comparison_file([], tmp_path / name)
    assert ("did you mean '.csv'" in caught.value.message) == name.endswith("cvs")
