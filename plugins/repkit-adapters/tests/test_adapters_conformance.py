"""The conformance kit over everything that this distribution brings."""

from pathlib import Path

import pytest
from repkit_adapters import recipes
from repkit_adapters.adapter_resnet import AdapterResNet
from repkit_adapters.objectives import Focal, SoftOrdinal
from repkit_adapters.partitions import GerczukPartitions

from repkit.testing import check_component, conformance_tests
from repkit.testing.protocols import make_utterances

SMALL = {"width": 2, "attention_units": 6}
UNEVEN = tuple(
    u
    for u in make_utterances(("kit_a", "kit_b"))
    if (u.corpus, u.emotion) != ("kit_a", "anger") or u.speaker in ("kit_a/00", "kit_a/03", "kit_a/05")
)
"""Anger from three of eight speakers of a corpus, so that the first order of its speakers leaves a part without it."""

test_adapters = conformance_tests("repkit.models", AdapterResNet, settings=SMALL)
test_plain = conformance_tests("repkit.models", AdapterResNet, settings={**SMALL, "mode": "plain"})
test_routes = conformance_tests("repkit.models", AdapterResNet, settings={**SMALL, "view_tasks": ("arousal",)})
test_unmasked = conformance_tests("repkit.models", AdapterResNet, settings={**SMALL, "mask": False})

test_focal = conformance_tests("repkit.objectives", Focal)
test_soft_ordinal = conformance_tests("repkit.objectives", SoftOrdinal)

test_partitions = conformance_tests("repkit.protocols", GerczukPartitions)
test_rotated_partitions = conformance_tests("repkit.protocols", GerczukPartitions, settings={"rotations": 4})
test_chosen_partitions = conformance_tests("repkit.protocols", GerczukPartitions, utterances=UNEVEN)
test_official_partitions = conformance_tests(
    "repkit.protocols", GerczukPartitions, settings={"columns": {"kit_a": "part"}}
)


@pytest.fixture(scope="module", params=["adapters", "adapters_attentive", "add_corpus", "gerczuk2021", "transfer"])
def narrow(request, tmp_path_factory):
    """Return a recipe with fewer filters: every condition is trained for two steps."""
    name = request.param
    first = (Path(recipes.__file__).parent / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0]
    width = "n_filters = 8" if name == "adapters_attentive" else "width = 2"
    path = tmp_path_factory.mktemp(name) / f"{name}.toml"
    path.write_text(f'{first}\nextends = "{name}"\n[model]\n{width}\n', encoding="utf-8")
    return path


def test_recipes_of_networks(narrow):
    report = check_component("repkit.recipes", narrow)
    assert report.ok, [result.message for result in report.failed]


test_recipe_gerczuk2021_deepspectrum = conformance_tests("repkit.recipes", recipes.GERCZUK2021_DEEPSPECTRUM)
test_recipe_gerczuk2021_egemaps = conformance_tests("repkit.recipes", recipes.GERCZUK2021_EGEMAPS)
