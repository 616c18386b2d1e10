"""Discovery by metadata, loading by name, blame."""

import tomllib
from importlib.metadata import EntryPoint

import pytest

from repkit.api import Config
from repkit.errors import PluginError, RecipeError
from repkit.plugins import GROUPS, blame, build_config, claimed_twice, components, discover, find, load
from repkit.plugins.discover import name_of_origin


class Dist:
    version = "9.9"

    def __init__(self, name):
        self.name = name


@pytest.fixture
def installed(monkeypatch):
    """Pretend that further distributions are installed; returns a function that adds an entry point."""
    points = []
    real = discover.entry_points

    def add(group, name, value, distribution="repkit-strange"):
        point = EntryPoint(name, value, group)
        vars(point).update(dist=Dist(distribution))
        points.append(point)
        now = tuple(points)  # another function each time: what is installed is read once for each
        monkeypatch.setattr(
            discover, "entry_points", lambda group: [*real(group=group), *(p for p in now if p.group == group)]
        )

    return add


def test_built_ins_are_registered_like_strangers_and_load():
    for group in GROUPS:
        for component in components(group):
            if component.distribution == "repkit":
                assert load(group, component.name) is not None
    assert {c.name for c in components("repkit.frontends")} >= {"log_mel", "spectrogram", "kaldi_fbank"}


def test_listing_imports_nothing(installed):
    installed("repkit.models", "broken", "no_such_module_at_all:Thing")
    assert "broken" in {c.name for c in components("repkit.models")}


def test_a_broken_plugin_is_blamed_by_distribution(installed):
    installed("repkit.models", "broken", "no_such_module_at_all:Thing")
    with pytest.raises(
        PluginError,
        match=r"plugin repkit-strange 9.9 \(repkit.models: broken = no_such_module_at_all:Thing\) failed to import: ModuleNotFoundError",
    ):
        load("repkit.models", "broken")
    assert load("repkit.models", "attentive_cnn").__name__ == "AttentiveCnn"


def test_a_name_claimed_twice_is_an_error_that_names_both_and_can_be_chosen(installed):
    installed("repkit.models", "attentive_cnn", "collections:OrderedDict")
    with pytest.raises(PluginError, match=r"claimed by repkit .* and repkit-strange 9.9") as caught:
        find("repkit.models", "attentive_cnn")
    assert "write 'repkit:attentive_cnn' or 'repkit-strange:attentive_cnn' to choose one" in caught.value.message
    assert "REPKIT_PLUGINS" in caught.value.message
    assert find("repkit.models", "repkit-strange:attentive_cnn").distribution == "repkit-strange"
    assert find("repkit.models", "repkit:attentive_cnn").distribution == "repkit"


def test_what_something_was_made_with_is_found_whoever_else_claims_its_name(installed, monkeypatch):
    def name(origin, asked="attentive_cnn"):
        return name_of_origin("repkit.models", asked, origin)

    installed("repkit.models", "attentive_cnn", "collections:OrderedDict")
    assert name("repkit 0.0.1") == "repkit:attentive_cnn"
    assert name("repkit-strange 1.0", "repkit-strange:attentive_cnn") == "repkit-strange:attentive_cnn"
    assert name("repkit-gone 1.0") == name(None) == "attentive_cnn"  # it may have moved; loading says more
    with pytest.raises(
        PluginError, match=r"'cnn_blstmm' in repkit.models: mine 2 brought it .*is not installed; .*install it"
    ):
        name("mine 2", "cnn_blstmm")
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    with pytest.raises(PluginError, match=r"REPKIT_PLUGINS may leave it out.*comes with repkit-dann"):
        name("repkit-dann 0.1.0", "cnn_blstm")


def test_a_script_that_ends_itself_when_imported_ends_no_command(installed, tmp_path, monkeypatch):
    (tmp_path / "ends_itself.py").write_text("raise SystemExit('bye')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed("repkit.models", "ends", "ends_itself:Net")
    with pytest.raises(PluginError, match=r"repkit-strange 9.9 .*failed to import: SystemExit: bye"):
        load("repkit.models", "ends")


class Unset:
    pass


class Plain:
    class Config:
        width = 3


class Weighted:
    class Config(Config):
        weight: float = 0.5


class Named(Weighted):
    class Config(Config):
        name: str = "x"


@pytest.mark.parametrize("kind", [Unset, Plain])
def test_a_component_without_settings_is_refused_by_name(installed, kind):
    installed("repkit.models", "bare", f"{__name__}:{kind.__name__}")
    with pytest.raises(
        PluginError, match=r"repkit-strange 9.9 \(repkit.models: bare\): has no settings; write an inner"
    ):
        load("repkit.models", "bare")


def test_settings_that_nobody_could_set_are_refused(installed):
    for group in ("repkit.objectives", "repkit.pretraining", "repkit.models", "repkit.corpora"):
        installed(group, "weighted", f"{__name__}:Weighted")
        installed(group, "called", f"{__name__}:Named")
    said = "has a setting called {!r}, which in the component's table of a recipe is repkit's own key"
    for group in ("repkit.objectives", "repkit.pretraining"):
        for name, key in (("weighted", "weight"), ("called", "name")):
            with pytest.raises(PluginError, match=said.format(key)):
                load(group, name)
    with pytest.raises(PluginError, match=said.format("name")):
        load("repkit.models", "called")
    assert load("repkit.models", "weighted") is Weighted  # a model has no weight
    assert load("repkit.corpora", "called") is Named  # receives the NAME it is opened by


def test_an_unknown_name_is_explained():
    with pytest.raises(PluginError, match=r"did you mean 'log_mel'\?"):
        find("repkit.frontends", "log_mell")
    with pytest.raises(PluginError, match="it comes with repkit-dann"):
        find("repkit.objectives", "dann")


@pytest.mark.parametrize(
    ("package", "names"),
    [
        (
            "repkit-cross-corpus",
            "cross_corpus parry2019 parry_lstm parry_cnn parry_cnn_lstm parry2019_union corpus_pairs",
        ),
        ("repkit-dann", "dann gao2022 cnn_blstm domain_adversarial centre gao2022_multi"),
        ("repkit-adapters", "adapters gerczuk2021 adapter_resnet gerczuk2021_partitions"),
        ("repkit-baselines", "keesing2020_a1 keesing2020_svm aldeneh_cnn opensmile deepspectrum raw_waveform"),
    ],
)
def test_what_this_project_has_elsewhere_is_known_by_its_distribution(package, names, monkeypatch):
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    for name in names.split():
        with pytest.raises(PluginError, match=f"it comes with {package} "):
            find("repkit.frontends", name)


def test_the_plugins_of_this_project_are_known_whole(repo_root):
    files = sorted(repo_root.glob("plugins/repkit-*/pyproject.toml"))
    assert files
    for file in files:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        brought = {name for points in project["entry-points"].values() for name in points}
        known = {name for name, package in discover.KNOWN_ELSEWHERE.items() if package == project["name"]}
        assert brought == known, project["name"]


def test_blame_names_who_brings_a_component_and_never_raises(installed):
    installed("repkit.models", "strange", "collections:OrderedDict")
    assert blame("repkit.models", "strange") == "plugin repkit-strange 9.9 (repkit.models: strange)"
    assert blame("repkit.models", "nobody") == "component nobody (repkit.models)"
    installed("repkit.models", "attentive_cnn", "collections:OrderedDict")
    assert blame("repkit.models", "attentive_cnn") == "component attentive_cnn (repkit.models)"
    assert (
        blame("repkit.models", "repkit-strange:attentive_cnn")
        == "plugin repkit-strange 9.9 (repkit.models: attentive_cnn)"
    )


def test_names_claimed_twice_are_found_with_their_owners(installed):
    assert claimed_twice() == {}
    installed("repkit.models", "attentive_cnn", "collections:OrderedDict")
    installed("repkit.objectives", "strange", "collections:OrderedDict")
    ((key, owners),) = claimed_twice().items()
    assert key == ("repkit.models", "attentive_cnn")
    assert [owner.distribution for owner in owners] == ["repkit", "repkit-strange"]
    assert claimed_twice("repkit.objectives") == {}


def test_another_api_major_is_refused(installed):
    installed("repkit.models", "old", f"{__name__}:Old")
    with pytest.raises(
        PluginError,
        match=r"plugin repkit-strange 9.9 \(repkit.models: old\): built for API 2.0; this repkit offers 1\.",
    ):
        load("repkit.models", "old")


class Old:
    api_version = (2, 0)


def test_plugins_can_be_switched_off(installed, monkeypatch):
    installed("repkit.models", "other", "collections:OrderedDict")
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    assert {c.distribution for c in components("repkit.models")} == {"repkit"}
    monkeypatch.setenv("REPKIT_PLUGINS", "repkit-strange")
    assert {c.distribution for c in components("repkit.models")} == {"repkit", "repkit-strange"}


def test_settings_are_checked_all_at_once():
    log_mel = load("repkit.frontends", "log_mel")
    with pytest.raises(RecipeError) as caught:
        build_config(log_mel, {"band": 26, "shift_s": "fast"}, "frontend")
    text = "\n".join(caught.value.problems)
    assert "frontend.band: unknown key; did you mean 'bands'?" in text
    assert "frontend.shift_s: got 'fast'" in text
