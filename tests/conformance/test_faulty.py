"""Every check catches a component that was made to break its rule, and no other check is set off by it."""

import faulty_recipes
import pytest
import reference_models
import reference_objectives
from faulty import FAULTS
from reference_models import Centroids, PerCorpus, Pooled, Segmented
from reference_objectives import Centres, CrossEntropy, Diagnosed, Domains, Measured
from reference_pretraining import Gaps, Level, NextFrame
from reference_protocols import SpeakerFolds
from reference_sound import BlockMoments, Hums, Levels, Moments

from repkit.plugins import GROUPS
from repkit.testing import check_component, checks

REFERENCES = [
    ("repkit.corpora", Hums),
    ("repkit.frontends", Levels),
    ("repkit.encoders", Moments),
    ("repkit.encoders", BlockMoments),
    *(("repkit.models", model) for model in (Pooled, Segmented, PerCorpus, Centroids)),
    *(("repkit.objectives", objective) for objective in (CrossEntropy, Measured, Diagnosed, Domains, Centres)),
    ("repkit.models", reference_models.Siblings),
    ("repkit.objectives", reference_objectives.Siblings),
    *(("repkit.pretraining", objective) for objective in (NextFrame, Level, Gaps)),
    ("repkit.protocols", SpeakerFolds),
]


def component_of(fault, folder):
    """Return what the kit is given: recipes are written to a folder first."""
    if fault.group != "repkit.recipes":
        return fault.component
    path = folder / f"{faulty_recipes.NAME}.toml"
    path.write_text(fault.component.text(), encoding="utf-8")
    return path


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_caught_by_the_check_it_is_meant_for_and_by_no_other(fault, tmp_path):
    report = check_component(fault.group, component_of(fault, tmp_path), settings=fault.settings)
    failed = {result.check.name for result in report.failed}
    assert failed == {fault.check, *fault.also}, str(report)
    message = report.of(fault.check).message
    check = report.of(fault.check).check
    assert check.rule in message
    assert " Got: " in message
    assert " To do: " in message


@pytest.mark.parametrize(("group", "component"), REFERENCES)
def test_what_the_faulty_ones_are_derived_from_is_sound(group, component):
    report = check_component(group, component)
    assert report.ok, str(report)


def test_the_recipe_the_faulty_ones_are_derived_from_is_sound(tmp_path):
    path = tmp_path / f"{faulty_recipes.NAME}.toml"
    path.write_text(faulty_recipes.TEXT, encoding="utf-8")
    report = check_component("repkit.recipes", path)
    assert report.ok, str(report)


@pytest.mark.parametrize("group", GROUPS)
def test_no_check_is_without_a_component_that_fails_it(group):
    caught = {(fault.group, fault.check) for fault in FAULTS}
    shared = {fault.check for fault in FAULTS}
    for check in checks(group):
        # a check of several groups is one function: a fault of one of them will do
        one_of_many = sum(check.function is other.function for g in GROUPS for other in checks(g)) > 1
        assert (group, check.name) in caught or (one_of_many and check.name in shared), f"{group}: {check.name}"


@pytest.mark.parametrize("group", GROUPS)
def test_every_check_says_its_rule_and_the_harm(group):
    for check in checks(group):
        assert check.rule.endswith("."), check.name
        assert (check.function.__doc__ or "").count("Prevents: ") == 1, check.name
        assert check.harm.endswith("."), check.name


def test_no_fault_names_a_check_that_does_not_exist():
    for fault in FAULTS:
        known = {check.name for check in checks(fault.group)}
        assert {fault.check, *fault.also} <= known, fault
