"""The published numbers: counts, sums and spot values typed by hand from the papers' tables."""

import re
import shutil

import pytest

from repkit.errors import RecipeError, UsageError
from repkit.papers import all_cells, list_papers, load_paper, values
from repkit.papers.load import FOLDER


def published(paper, table, block=0, like=False):
    """Return (system, corpus) to value of one block."""
    found = [c for c in all_cells(load_paper(paper)) if (c.table.id, c.place) == (table, block)]
    return {(c.system.id, c.row): c.value for c in found if like or c.system.like is None}


def sums(cells, by):
    """Return the sum of the values of each system (0) or corpus (1)."""
    found = {}
    for key, value in cells.items():
        if value is not None:
            found[key[by]] = round(found.get(key[by], 0) + value, 2)
    return found


def test_the_five_papers_are_there():
    assert list_papers() == ["gao2022", "gerczuk2021", "keesing2020", "neumann2019", "parry2019"]


def test_keesing2020():
    cells = published("keesing2020", "results")
    assert len(cells) == 15 * 7 + 11
    assert sums(cells, 0) == {
        "A1": 804.9, "A2": 822.5, "A3": 802.1, "L": 549.5, "N": 601.2, "O": 705.7, "SVM-IS09": 856.7, "human": 763.3,
    }  # fmt: skip
    assert [cells["A1", c] for c in ("cafe", "emodb", "ravdess", "tess")] == [53.8, 73.2, 32.5, 48.7]
    assert [cells[s, "emodb"] for s in ("A2", "A3", "L", "N", "O", "SVM-IS09", "human")] == [
        74.6, 72.7, 45.2, 49.7, 53.7, 82.1, 84.3,
    ]  # fmt: skip
    assert ("human", "cafe") not in cells
    corpora = load_paper("keesing2020").corpora
    assert sum(c.clips for c in corpora) == 37752
    both = published("keesing2020", "results", like=True)
    assert both["SVM-IS09-nested", "ravdess"] == both["SVM-IS09", "ravdess"] == 60.6


def test_gerczuk2021_table_3():
    test, devel = published("gerczuk2021", "table_3"), published("gerczuk2021", "table_3", 1)
    assert len(test) == len(devel) == 26 * 4
    assert sums(test, 0) == {"ResNet-best": 1181.3, "ResNet-final": 1219.7, "eGeMAPS": 1225.3, "DeepSpectrum": 1169.9}
    assert list(sums(devel, 0).values()) == [1353.4, 1226.3, 1256.4, 1162.6]
    assert [test[s, "emodb"] for s in ("ResNet-best", "ResNet-final", "eGeMAPS", "DeepSpectrum")] == [
        59.2,
        61.6,
        48.4,
        61.3,
    ]
    assert devel["ResNet-best", "enterface"] == 71.5
    assert (devel["eGeMAPS", "emodb"], devel["DeepSpectrum", "emodb"]) == (71.9, 52.5)
    assert all(c.recipe for c in all_cells(load_paper("gerczuk2021")) if c.table.id == "table_3")
    chance = load_paper("gerczuk2021").tables[0].blocks[0].chance
    assert (len(chance), round(sum(chance.values()), 1), chance["eu_ev"]) == (26, 526.8, 5.6)


def test_gerczuk2021_table_4():
    cells = published("gerczuk2021", "table_4")
    assert len(cells) == 26 * 5
    assert sums(cells, 0) == {"baseline": 1181.3, "all": 1231.2, "A": 1198.7, "V": 1160.5, "A+V": 1130.1}
    assert (cells["baseline", "emodb"], cells["all", "emodb"], cells["A+V", "turkishemo"]) == (59.2, 72.6, 52.3)
    assert cells["A", "ea_wsj"] == 100.0
    # "increase on 21 of 26" counts the best of the four, a tie included
    corpora = {corpus for _, corpus in cells}
    best = {c: max(cells[s, c] for s in ("all", "A", "V", "A+V")) for c in corpora}
    assert sum(best[c] > cells["baseline", c] for c in corpora) == 20
    assert sum(best[c] >= cells["baseline", c] for c in corpora) == 21
    marks = [n for c in all_cells(load_paper("gerczuk2021")) if c.table.id == "table_4" for n in c.notes]
    assert (sum(n.startswith("better") for n in marks), sum(n.startswith("worse") for n in marks)) == (25, 24)
    first = published("gerczuk2021", "table_3")
    assert all(cells["baseline", c] == first["ResNet-best", c] for c in corpora)


def test_parry2019():
    second, third = published("parry2019", "table_2"), published("parry2019", "table_3")
    assert sums(second, 0) == {"LSTM": 279.42, "CNN": 279.49, "CNN-LSTM": 294.84}
    assert sums(third, 0) == {"LSTM": 407.22, "CNN": 434.72, "CNN-LSTM": 458.77}
    assert (third["CNN", "ravdess"], third["CNN-LSTM", "tess"], second["CNN-LSTM", "epst"]) == (65.67, 49.48, 30.01)
    accuracy, recall = published("parry2019", "table_5"), published("parry2019", "table_5", 1)
    assert list(accuracy.values()) == [56.90, 55.00, 56.99, 55.24, 50.17]
    assert list(recall.values()) == [55.30, 49.50, 53.07, 49.16, 41.57]


def test_parrys_averages_are_those_of_their_rows():
    six = ("iemocap", "emovo", "emodb", "epst", "ravdess", "savee")
    cells = {(c.system.id, c.row): c for c in all_cells(load_paper("parry2019")) if c.table.id == "table_3"}
    printed = {}
    for system in ("LSTM", "CNN", "CNN-LSTM"):
        average = cells[system, "average"]
        assert average.tested == six
        assert average.value == pytest.approx(sum(cells[system, c].value for c in six) / 6, abs=0.006)
        printed[system] = average.printed
    assert printed == {"LSTM": 50.69, "CNN": None, "CNN-LSTM": 53.35}


@pytest.mark.parametrize(("table", "block"), [("table_2", 0), ("table_2", 1), ("table_3", 0), ("table_4", 0)])
def test_gaos_averages_are_those_of_their_rows_as_printed(table, block):
    cells = published("gao2022", table, block)
    for system in ("Baseline", "DANN_1", "DANN_2", "DANN_2+C"):
        row = [value for (s, c), value in cells.items() if s == system and c != "average"]
        # printed now rounded, now cut to the hundredth
        assert sum(row) / len(row) == pytest.approx(cells[system, "average"], abs=0.0101)


def test_gao2022():
    both = [sums(published("gao2022", "table_2", block), 0) for block in (0, 1)]
    assert {name: round(both[0][name] + both[1][name], 2) for name in both[0]} == {
        "Baseline": 701.09, "DANN_1": 708.34, "DANN_2": 712.26, "DANN_2+C": 734.09,
    }  # fmt: skip
    assert sums(published("gao2022", "table_3"), 0) == {
        "Baseline": 267.76, "DANN_1": 268.19, "DANN_2": 277.25, "DANN_2+C": 279.75,
    }  # fmt: skip
    valence = published("gao2022", "table_4")
    assert sums(valence, 0) == {"Baseline": 218.72, "DANN_1": 217.16, "DANN_2": 218.27, "DANN_2+C": 219.79}
    assert published("gao2022", "table_2")["DANN_2+C", "emodb"] == 92.12
    assert published("gao2022", "table_2", 1)["DANN_1", "savee"] == 63.83


def test_neumann2019():
    cells = [c for c in all_cells(load_paper("neumann2019")) if c.table.id == "table_1"]
    for row, expected in (("iemocap", (293.54, 286.40, 299.23)), ("msp_improv", (221.15, 215.13, 227.31))):
        some = [c for c in cells if c.row == row]
        assert len(some) == 5
        for name, total in zip(("value", "minimum", "maximum"), expected):
            assert sum(getattr(c, name) for c in some) == pytest.approx(total)
    assert all(c.minimum < c.value < c.maximum for c in cells)
    assert [c.needs for c in cells if c.system.id == "C"] == [("iemocap",), ("iemocap", "msp_improv")]
    assert next(c for c in cells if c.system.id == "Li").needs == ("iemocap", "librispeech")


def test_what_a_report_reads():
    third = values("parry2019/table_3")
    assert len(third) == 3 * 8
    assert {v.corpus for v in third if v.condition == "lstm"} >= {"iemocap", "tess", "average (trained on)"}
    assert "printed as 50.69" in next(v.note for v in third if v.corpus.startswith("average") and v.condition == "lstm")
    assert {v.view for v in values("gao2022/table_3, gao2022/table_4")} == {"arousal", "valence"}
    assert [v.corpus for v in values("gao2022/table_3")][-1] == "average (held out)"
    first = values("neumann2019/table_1/IEMOCAP")
    assert next((v.condition, v.uar, v.minimum, v.maximum) for v in first) == ("BL", 58.03, 56.78, 59.12)
    assert {v.corpus for v in first} == {"iemocap"}
    assert len(values("gerczuk2021/table_3")) == 26 * 3  # test, best epoch
    assert len(values("parry2019/table_5")) == 5  # recall, not accuracy
    assert values("") == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("parry2018/table_3", "did you mean 'parry2019'?"),
        ("parry2019/table_4", "has no table 'table_4'; did you mean"),
        ("neumann2019/table_1/IEMOCAB", "did you mean 'IEMOCAP'?"),
    ],
)
def test_a_table_that_is_not_there_is_named(name, said):
    with pytest.raises(UsageError, match="expected one of") as error:
        values(name)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"CNN", "listeners"]',
            '"CNN", "listener"]',
            "system 'listener' is not described under [[systems]]; did you mean",
        ),
        ('"CNN", "listeners"]', '"CMM", "listener"]', "system 'CMM' is not described under [[systems]]"),
        ("savee = [", "saveee = [", "corpus 'saveee' is not described under [[corpora]]; did you mean 'savee'?"),
        ("emodb = [55.1, 84.3]\nsavee = ", "emodbb = ", "corpus 'emodbb' is not described"),
    ],
)
def test_a_misspelt_name_is_named_for_what_it_is(tmp_path, repo_root, old, new, said):
    example = example_of(repo_root)
    assert old in example
    path = tmp_path / "mine.toml"
    path.write_text(example.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid") as error:
        load_paper(str(path))
    assert said in str(error.value)


def example_of(root):
    text = (root / "docs/reproduce.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return example


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("LSTM     = [47.45, ", "LSTM     = [", "7 numbers for 8 columns"),
        (
            'hold_out = ["tess"]',
            'hold_out = ["tes"]',
            "corpus 'tes' is not described under [[corpora]]; did you mean 'tess'?",
        ),
        ('condition = "cnn"', 'conditon = "cnn"', "unknown key"),
        ('id = "CNN"', 'id = "LSTM"', "LSTM: each once"),
        (
            "CNN-LSTM = [50.31",
            "CNNLSTM = [50.31",
            "system 'CNNLSTM' is not described under [[systems]]; did you mean 'CNN-LSTM'?",
        ),
        (
            'systems = ["LSTM"]',
            'systems = ["LSMT"]',
            "a note names 'LSMT', which is neither row nor column; did you mean",
        ),
        ('metric = "wa"', 'metric = "f1"', "metric"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path, old, new, said):
    path = tmp_path / "mine.toml"
    text = (FOLDER / "parry2019.toml").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid") as error:
        load_paper(str(path))
    assert said in str(error.value)


def test_a_file_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    shutil.copy(FOLDER / "gao2022.toml", path)
    assert load_paper(str(path)) == load_paper("gao2022")
    with pytest.raises(UsageError, match="no such file"):
        load_paper(str(tmp_path / "other.toml"))


def test_the_example_of_the_documentation_is_a_table(tmp_path, repo_root):
    text = (repo_root / "docs/reproduce.md").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(example_of(repo_root), encoding="utf-8")
    cells = all_cells(load_paper(str(path)))
    assert [(c.system.id, c.row, c.value) for c in cells] == [
        ("CNN", "emodb", 55.1), ("listeners", "emodb", 84.3), ("CNN", "savee", 41.0),
    ]  # fmt: skip
    assert {name for name in list_papers() if f"`{name}`" not in text} == set()
