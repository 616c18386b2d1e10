"""Which cells can be run with what is given, in which runs, and that the papers' recipes are as their files say."""

import functools
from pathlib import Path

import pytest

from repkit.cli.reproduce import _paper_settings
from repkit.errors import RecipeError, UsageError
from repkit.papers import all_cells, list_papers, load_paper
from repkit.plugins import components
from repkit.workflows.reproduce.cells import Request, nothing_to_run, plan_cells, units_of
from repkit.workflows.reproduce.run import _compare
from repkit.workflows.reproduce.runs import check_units, command_of, only_conditions, unit_recipe
from repkit.workflows.train_ser.conditions import check_components


@pytest.fixture(autouse=True)
def _look_once(monkeypatch):
    """Read the metadata of all distributions once a test, not for every component."""
    once = functools.cache(components)
    for place in ("repkit.plugins.discover", "repkit.config.locate"):
        monkeypatch.setattr(f"{place}.components", once)


def request(paper, *corpora, **more):
    return Request(paper=load_paper(paper), corpora=dict.fromkeys(corpora, object()), **more)


def by_key(planned, table):
    return {(one.cell.system.id, one.cell.row): one for one in planned if one.cell.table.id == table}


def test_each_corpus_by_itself():
    planned = plan_cells(request("keesing2020", "emodb", "iemocap"))
    cells = by_key(planned, "results")
    states = [one.state for one in planned]
    assert (states.count("ready"), states.count("missing"), states.count("published")) == (2 * 8, 13 * 8, 11)
    units = units_of(planned)
    assert len(units) == 16
    assert all(len(some) == 1 for some in units.values())
    assert cells["A1", "savee"].missing == ("savee",)
    assert cells["A1", "savee"].why == "needs --corpus savee=PATH"
    assert cells["human", "emodb"].state == "published"
    unit = cells["A1", "emodb"].unit
    assert (unit.recipe, unit.set, unit.corpora, unit.hold_out) == ("keesing2020_a1", (), ("emodb",), ())
    sessions = ("protocol.name=leave_one_session_out", "protocol.dev=none")
    assert cells["SVM-IS09", "iemocap"].unit.set == ("training.select_by=test", *sessions)
    assert cells["SVM-IS09-nested", "iemocap"].unit.set == sessions
    assert not cells["SVM-IS09", "emodb"].differs
    assert cells["SVM-IS09-nested", "emodb"].differs == ("parameters not chosen on the test folds",)


@pytest.mark.parametrize(
    ("paper", "key", "n_used", "differs"),
    [
        ("parry2019", ("table_5", "LSTM"), 5531, []),  # how many of the four emotions there were is not printed
        ("parry2019", ("table_2", "LSTM"), 5531, ["5531 clips, the paper 7529"]),
        ("keesing2020", ("results", "A1"), 5531, []),
    ],
)
def test_clips_are_held_against_those_of_the_block(paper, key, n_used, differs):
    planned = plan_cells(request(paper, "iemocap"))
    one = next(p for p in planned if (p.cell.table.id, p.cell.system.id, p.cell.row) == (*key, "iemocap"))
    seeds = dict.fromkeys(range(one.cell.system.seeds or 1), 0.5)
    record = {"tested": ["iemocap"], "ours": {"n_used": n_used, "seeds": seeds, "note": ""}, "differs": [], "notes": []}
    _compare(record, one, load_paper(paper))
    assert record["differs"] == differs


def test_one_run_gives_the_cells_that_share_it():
    planned = plan_cells(request("gerczuk2021", "emodb"))
    units = units_of(planned)
    assert [(u.recipe, u.corpora, len(some)) for u, some in units.items()] == [
        ("gerczuk2021", ("emodb",), 5),  # best and final on test and devel, and table 4's baseline
        ("gerczuk2021_egemaps", ("emodb",), 2),  # test and devel
        ("gerczuk2021_deepspectrum", ("emodb",), 2),
    ]
    assert "published" not in {one.state for one in planned}
    assert len(by_key(planned, "table_4")["all", "emodb"].missing) == 25
    assert {one.differs for one in next(iter(units.values()))} == {("other split",)}


def test_a_union_wants_all_its_corpora_unless_told_otherwise():
    given = ("emodb", "iemocap", "smartkom")
    whole = by_key(plan_cells(request("gerczuk2021", *given)), "table_4")
    assert whole["A", "emodb"].state == "missing"
    part = by_key(plan_cells(request("gerczuk2021", *given, partial=True)), "table_4")
    assert part["A", "emodb"].state == "ready"
    assert part["A", "emodb"].unit.corpora == ("emodb", "iemocap", "smartkom")
    assert part["A", "emodb"].differs == ("other split", "trained on 3 of 26 corpora: emodb, iemocap, smartkom")
    assert part["A", "abc"].missing == ("abc",)
    assert part["baseline", "emodb"].unit.corpora == ("emodb",)
    lone = by_key(plan_cells(request("gerczuk2021", "emodb", partial=True)), "table_4")
    assert lone["A", "emodb"].state == "missing"  # one corpus is no union
    averages = by_key(plan_cells(request("parry2019", "emodb", "emovo", partial=True)), "table_3")
    assert averages["CNN", "average"].tested == ("emovo", "emodb")
    assert averages["CNN", "average"].differs[-1] == "mean of 2 of 6 corpora"


def test_corpora_tested_whole_stand_in_the_same_run():
    cells = by_key(plan_cells(request("parry2019", "iemocap", "emodb", "tess")), "table_2")
    unit = cells["LSTM", "emodb"].unit
    assert (unit.corpora, unit.hold_out) == (("iemocap",), ("emodb", "tess"))
    assert cells["CNN", "iemocap"].unit == cells["CNN-LSTM", "tess"].unit == unit
    assert cells["LSTM", "average"].missing == ("emovo", "epst", "ravdess", "savee")
    gao = by_key(plan_cells(request("gao2022", "iemocap", "savee")), "table_4")
    assert gao["DANN_2", "savee"].unit.set == ('labels.views=["valence"]',)
    assert gao["DANN_2", "savee"].unit.hold_out == ("savee",)


def test_stage_one_is_needed_too():
    cells = by_key(plan_cells(request("neumann2019", "iemocap", "msp_improv")), "table_1")
    assert cells["C", "msp_improv"].state == cells["BL", "iemocap"].state == "ready"
    assert cells["Li", "iemocap"].missing == ("librispeech",)
    assert cells["sT", "iemocap"].missing == ("tedlium_400",)
    assert cells["C", "msp_improv"].unit == cells["BL", "msp_improv"].unit
    assert (cells["BL", "msp_improv"].unit.corpora, cells["BL", "msp_improv"].unit.hold_out) == (
        ("iemocap",),
        ("msp_improv",),
    )


@pytest.mark.parametrize(
    ("only", "tables", "n"),
    [
        (("A1",), (), 2),
        (("A1/emodb",), (), 1),
        (("a?/emodb", "svm*/ravdess"), (), 5),
        (("*/emodb",), ("results",), 8),
        ((), ("results",), 16),
    ],
)
def test_only_what_is_named_is_run(only, tables, n):
    planned = plan_cells(request("keesing2020", "emodb", "ravdess", only=only, tables=tables))
    assert sum(one.state == "ready" for one in planned) == n
    assert sum(one.state == "not chosen" for one in planned) == 16 - n


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"only": ("AA1",)}, "did you mean 'A1'?"),
        ({"only": ("A1/emobd",)}, "--only A1/emobd: fits no cell; did you mean 'emodb'?; expected"),
        ({"only": ("A*/emodbb",)}, "--only A*/emodbb: fits no cell; did you mean 'emodb'?; expected"),
        ({"only": ("AA1/emodb",)}, "fits no cell; did you mean 'A1'?; expected"),
        ({"tables": ("result",)}, "did you mean 'results'?"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(more, said):
    with pytest.raises(UsageError) as error:
        plan_cells(request("keesing2020", "emodb", **more))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"only": ("A1/cafe",)}, "nothing of what --only names can be run: needs --corpus cafe=PATH; at least"),
        ({"only": ("human", "O/jl")}, "can be run: listeners, not a system; needs --corpus jl=PATH; at least"),
        ({"only": ("N/[c-j]*",), "tables": ("results",)}, "nothing of what --only and --table names can be run"),
        ({"only": ("A1/*",)}, ""),
        ({"only": ("human", "A1/emodb")}, ""),
        ({}, ""),
    ],
)
def test_where_nothing_that_is_named_can_be_run_it_is_said(more, said):
    asked = request("keesing2020", *(() if "tables" in more else ("emodb",)), **more)
    found = nothing_to_run(plan_cells(asked), asked)
    assert (said in found) if said else (found == "")


def test_only_some_reasons_are_listed():
    asked = request("keesing2020", only=("A1",))  # 15 corpora
    found = nothing_to_run(plan_cells(asked), asked)
    assert found.count("needs --corpus") == 8
    assert "; and 7 more; at least" in found


def test_every_row_of_a_changed_run_says_so():
    planned = plan_cells(request("keesing2020", "emodb", assignments=("training.epochs=2",)))
    ready = [one for one in planned if one.state == "ready"]
    assert len(ready) == 8
    assert all("changed: training.epochs=2" in one.differs for one in ready)


def test_a_recipe_that_is_not_installed_is_missing_and_says_where_it_comes_from(monkeypatch):
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    planned = plan_cells(request("parry2019", "iemocap", "emodb"))
    assert {one.state for one in planned} == {"missing", "published"}
    assert any("pip install ./plugins/repkit-cross-corpus" in one.why for one in planned)
    assert all("; known:" not in one.why for one in planned)


@pytest.mark.parametrize("paper", list_papers())
def test_every_run_that_a_paper_names_can_be_set_up(paper):
    """Recipe, settings, condition and components of every run, as if all corpora were given."""
    described = load_paper(paper)
    given = {corpus.name for corpus in described.corpora}
    planned = plan_cells(Request(paper=described, corpora=dict.fromkeys(given, object()), seeds=2))
    assert {one.state for one in planned} <= {"ready", "published"}, [o.why for o in planned if o.state == "missing"]
    checked = set()
    for unit, cells in units_of(planned).items():
        key = (unit.recipe, unit.set, unit.hold_out, len(cells))
        if key in checked:
            continue
        checked.add(key)
        names = {one.cell.system.condition for one in cells}
        vectors = {c.cell.system.condition for c in cells if c.cell.system.embed or c.cell.system.stage_one}
        asked = Request(paper=described, corpora={}, seeds=2)
        recipe = unit_recipe(unit, cells, asked, dict.fromkeys(vectors, "folder"))
        check_components(recipe)
        assert {c.name for c in recipe.conditions} | ({"BL"} if recipe.baseline else set()) == names
        assert recipe.seeds == (0, 1)
        assert command_of(unit, recipe, asked).startswith(f"repkit train-ser --recipe {unit.recipe} --corpus ")
    assert checked


def test_a_condition_that_the_recipe_lacks_is_named(tmp_path):
    text = (Path(load_paper.__code__.co_filename).with_name("gao2022.toml")).read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('condition = "dann_2"', 'condition = "dan_2"'), encoding="utf-8")
    asked = Request(paper=load_paper(str(path)), corpora=dict.fromkeys(("iemocap", "emodb"), object()))
    unit, cells = next(iter(units_of(plan_cells(asked)).items()))
    with pytest.raises(RecipeError, match="has no condition 'dan_2'; did you mean 'dann_2'?"):
        unit_recipe(unit, cells, asked, {})


def test_settings_are_tried_before_anything_is_made():
    asked = request("keesing2020", "emodb", "savee", assignments=("model.kernel=linear",))
    units = units_of(plan_cells(asked))
    found = check_units(units, asked)
    assert list(found) == list(units)
    refused = {unit.recipe: wrong for unit, wrong in found.items() if wrong}
    # only the SVM has a kernel
    assert set(refused) == {f"keesing2020_{name}" for name in ("a1", "a2", "a3", "latif", "zhang", "zhao")}
    assert set(refused["keesing2020_a1"]) == {"BL"}
    assert "model.kernel: unknown key" in str(refused["keesing2020_a1"]["BL"])


def test_settings_of_stage_one_refuse_its_vectors_alone():
    asked = request("neumann2019", "iemocap", "msp_improv", pretrain_assignments=("training.epoch=1",))
    found = check_units(units_of(plan_cells(asked)), asked)
    assert {name for wrong in found.values() for name in wrong} == {"C"}
    assert all("training.epoch: unknown key" in str(wrong["C"]) for wrong in found.values())
    asked = request("neumann2019", "iemocap", "msp_improv")
    assert not any(check_units(units_of(plan_cells(asked)), asked).values())


def test_the_reference_is_one_of_the_conditions_that_are_run():
    asked = request("gao2022", "iemocap", "emodb")
    unit, cells = next(iter(units_of(plan_cells(asked)).items()))
    recipe = unit_recipe(unit, cells, asked, {})
    assert [c.name for c in recipe.conditions] == ["baseline", "dann_1", "dann_2", "dann_2_centre"]
    assert (recipe.reference, recipe.baseline) == ("baseline", False)
    alone = only_conditions(recipe, ["dann_2"])
    assert ([c.name for c in alone.conditions], alone.reference) == (["dann_2"], "dann_2")


def test_cells_are_told_apart():
    for name in list_papers():
        ids = [cell.id for cell in all_cells(load_paper(name))]
        assert len(set(ids)) == len(ids)


def test_the_papers_settings_of_a_corpus_give_way_key_by_key():
    paper = load_paper("parry2019")
    own = ['ravdess.variant="speech_and_song"']
    assert _paper_settings(paper, ["ravdess=X", "emodb=Y"], []) == own
    assert _paper_settings(paper, ["ravdess=X"], ["ravdess.emotions.x=anger"]) == own
    assert _paper_settings(paper, ["ravdess=X"], ["ravdess.variant=speech"]) == []
    assert _paper_settings(paper, ["ravdess=hub:a/b"], []) == []
