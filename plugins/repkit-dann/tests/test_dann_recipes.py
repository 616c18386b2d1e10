"""Every recipe loads, its conditions are the paper's, its components take its settings, its numbers are the paper's."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import repkit_dann.recipe_files as recipe_files
from repkit_dann.domain_adversarial import DomainAdversarial

from repkit.config import SerRecipe, load_recipe
from repkit.papers import values

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
POINTS = PROJECT["entry-points"]
NAMES = sorted(POINTS["repkit.recipes"])


def recipe(name, *assignments):
    return load_recipe(SerRecipe, str(getattr(recipe_files, name)()), assignments)


def own(group, name):
    return EntryPoint(name, POINTS[f"repkit.{group}"][name], f"repkit.{group}").load()


def test_every_file_has_an_entry_point_and_the_other_way_round():
    assert sorted(path.stem for path in recipe_files.FOLDER.glob("*.toml")) == NAMES
    for name in NAMES:
        assert own("recipes", name)().stem == name


@pytest.mark.parametrize("name", NAMES)
def test_first_line_is_the_command(name):
    first = getattr(recipe_files, name)().read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# repkit train-ser --recipe {name} --corpus ")


@pytest.mark.parametrize("name", NAMES)
def test_conditions(name):
    loaded = recipe(name)
    assert (loaded.name, loaded.baseline, loaded.reference) == (name, False, "baseline")
    assert loaded.labels.map == "gao2022"
    by_name = {condition.name: loaded.of_condition(condition) for condition in loaded.conditions}
    assert list(by_name)[:4] == ["baseline", "dann_1", "dann_2", "dann_2_centre"]
    weights = {n: [(o.name, o.weight) for o in one.objectives] for n, one in by_name.items()}
    adversarial = ("domain_adversarial", 1.0)
    assert weights["baseline"] == [("multi_view", 1.0)]
    assert weights["dann_1"] == weights["dann_2"] == [("multi_view", 1.0), adversarial]
    assert weights["dann_2_centre"] == [("multi_view", 0.5), ("centre", 0.5), adversarial]
    domains = {
        n: DomainAdversarial.domains(DomainAdversarial.Config(**one.objectives[-1].settings))
        for n, one in by_name.items()
        if n != "baseline"
    }
    assert domains.pop("dann_1") == ("speaker", "corpus")
    assert set(domains.values()) == {("gender", "language", "corpus")}
    scales = {one.objectives[-1].settings["scale"] for n, one in by_name.items() if n != "baseline"}
    assert scales == {0.3}
    heard = {n: one.target_audio for n, one in by_name.items()}
    expected = dict.fromkeys(by_name, "none" if name == "gao2022" else "test")
    assert heard == expected | {n: "none" for n in by_name if n == "baseline" or n.endswith("_source")}


@pytest.mark.parametrize("name", NAMES)
def test_components_take_their_settings(name):
    loaded = recipe(name)
    variants = [loaded, *(loaded.of_condition(condition) for condition in loaded.conditions)]
    tables = [(group, getattr(loaded, group.rstrip("s"))) for group in ("frontends", "models", "protocols")]
    tables += [("objectives", table) for variant in variants for table in variant.objectives]
    for group, table in tables:
        if table.name in POINTS[f"repkit.{group}"]:
            own(group, table.name).Config(**table.settings)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"dann_attentive"}))
def test_the_papers_settings(name):
    loaded = recipe(name)
    frontend = own("frontends", loaded.frontend.name)
    built = frontend(frontend.Config(**loaded.frontend.settings))
    assert (built.n_frames(round(16000 * loaded.segments.length_s)), built.n_bands) == (32, 129)
    training = loaded.training
    assert (training.optimiser, training.learning_rate, training.batch_size, training.epochs) == (
        "adadelta",
        1.0,
        128,
        50,
    )
    assert (training.unlabelled_share, training.select_by) == (0.5, "dev.uar")
    assert loaded.normalisation.mode == "global_train"
    assert loaded.model.settings == {"preset": "gao2022"}


@pytest.mark.parametrize("name", NAMES)
def test_conditions_have_the_same_labelled_items_per_update(name):
    loaded = recipe(name)
    labelled = {
        one.training.batch_size * (1 - one.training.unlabelled_share * (one.target_audio == "test"))
        for one in map(loaded.of_condition, loaded.conditions)
    }
    assert labelled == {32 if name == "dann_attentive" else 128}


def test_protocols():
    assert recipe("dann").protocol.name == "leave_one_corpus_out"
    assert recipe("gao2022").protocol.name == "gao2022_multi"
    assert recipe("gao2022_cross").protocol.name == "train_test_corpora"
    assert recipe("gao2022_cross").protocol.settings == {"train": ["iemocap"], "n_dev_speakers": 1}
    assert recipe("dann_attentive").segments is None


def test_views_and_source_only_variants_can_be_set():
    assert recipe("dann", 'labels.views=["valence"]').labels.views == ("valence",)
    given = ('conditions.1.set.target_audio="none"', "conditions.1.set.training.batch_size=128")
    source = recipe("dann", *given).of_condition(recipe("dann", *given).conditions[1])
    assert (source.target_audio, source.training.batch_size, len(source.objectives)) == ("none", 128, 2)


@pytest.mark.parametrize(
    ("name", "view", "averages"),
    [
        # as printed, which is now rounded, now cut to the hundredth
        ("gao2022", "arousal", {"baseline": 78.68, "dann_1": 78.91, "dann_2": 78.76, "dann_2_centre": 79.85}),
        ("gao2022", "valence", {"baseline": 61.54, "dann_1": 62.76, "dann_2": 63.69, "dann_2_centre": 66.97}),
        ("gao2022_cross", "arousal", {"baseline": 66.94, "dann_1": 67.05, "dann_2": 69.31, "dann_2_centre": 69.94}),
        ("gao2022_cross", "valence", {"baseline": 54.68, "dann_1": 54.29, "dann_2": 54.57, "dann_2_centre": 54.95}),
    ],
)
def test_published_numbers_have_the_published_averages(name, view, averages):
    corpora = ["iemocap", "msp_improv", "savee", "emodb"]
    for condition, average in averages.items():
        found = {
            v.corpus: v.uar for v in values(recipe(name).paper_table) if (v.condition, v.view) == (condition, view)
        }
        printed = found.pop("average (trained on)" if name == "gao2022" else "average (held out)")
        assert printed == average
        assert list(found) == (corpora if name == "gao2022" else corpora[1:])
        assert sum(found.values()) / len(found) == pytest.approx(average, abs=0.0101)
