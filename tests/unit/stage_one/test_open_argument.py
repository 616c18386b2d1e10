"""NAME:ARGUMENT opens an installed encoder; what cannot be opened is told with what would be right."""

import sys
import textwrap

import pytest

from repkit.errors import PluginError, RecipeError, UsageError
from repkit.plugins import discover
from repkit.stage_one.open import open_encoder

CODE = """
from pydantic import Field
from repkit import api

class Encoder:
    level, dim = "utterance", 2

    def __init__(self, config):
        self.config, self.name = config, type(self).__name__

    def encode(self, waveforms):
        return []

    def provenance(self):
        return {"corpora": [], "speakers": []}

class Taking(Encoder):
    argument = "size"

    class Config(api.Config):
        size: str = Field(description="small or large")
        level: str = "utterance"

class Plain(Encoder):
    class Config(api.Config):
        block_s: float = 0.1
"""


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """A distribution with one encoder that takes an argument and one that takes none."""
    info = tmp_path / "site" / "acme-1.2.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "acme_encoders.py").write_text(textwrap.dedent(CODE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    points = "[repkit.encoders]\ntaking = acme_encoders:Taking\nplain = acme_encoders:Plain\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("acme_encoders", None)


def test_the_argument_sets_the_setting_and_options_the_others():
    encoder = open_encoder("taking:large", level="frame", layer=None)
    assert (encoder.name, encoder.config.size, encoder.config.level) == ("Taking", "large", "frame")


def test_only_the_first_colon_parts():
    assert open_encoder("taking:C:/own/file.conf").config.size == "C:/own/file.conf"


def test_plugin_and_options_alone_still_work():
    assert open_encoder("plugin:plain", block_s=0.2).config.block_s == 0.2
    assert open_encoder("plugin:taking", size="small").config.size == "small"
    with pytest.raises(RecipeError, match=r"encoder plugin:taking.size: missing"):
        open_encoder("plugin:taking")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "taking",
            r"got taking without an argument; expected taking:SIZE \(small or large\); its other settings: level",
        ),
        ("taking:", "got taking without an argument; expected taking:SIZE"),
        ("plain", "got plain without an argument; expected plugin:plain; its other settings: block_s"),
        ("plain:0.2", "got plain with an argument; expected plugin:plain"),
        ("statistics", "expected statistics:PATH"),
        ("transformers:x", "expected hf:PATH"),
        ("nonsense:x", "prefix 'nonsense' is not known.*installed encoders:.*plain.*taking"),
    ],
)
def test_what_is_missing_or_too_much_is_said(spec, said):
    with pytest.raises(UsageError, match=said):
        open_encoder(spec)


@pytest.mark.parametrize("spec", ["elsewhere:x", "elsewhere"])
def test_an_encoder_of_a_package_that_is_not_installed_names_the_package(spec, monkeypatch):
    monkeypatch.setitem(discover.KNOWN_ELSEWHERE, "elsewhere", "repkit-elsewhere")
    with pytest.raises(
        PluginError, match=r"it comes with repkit-elsewhere \(in a clone .*\./plugins/repkit-elsewhere\)"
    ):
        open_encoder(spec)


@pytest.mark.parametrize("spec", ["runs/ae-x", "c:/runs/ae-x"])
def test_a_path_that_is_not_there_is_a_run_that_is_not_there(spec):
    with pytest.raises(UsageError) as caught:
        open_encoder(spec)
    assert spec in str(caught.value)
    assert "prefix" not in str(caught.value)


def test_an_argument_that_has_a_default_may_be_left_out():
    whole, part = open_encoder("functionals"), open_encoder("functionals:mel")
    assert (whole.name, part.name) == ("functionals", "functionals-mel")
    assert part.dim < whole.dim
