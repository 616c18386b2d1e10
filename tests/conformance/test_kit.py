"""The kit itself: selection by what is declared, messages, expected failures, pytest's way in."""

import random

import numpy as np
import pytest
import torch
from faulty_models import NeedsMore, Unmasked
from reference_models import PerCorpus, Pooled
from reference_protocols import SpeakerFolds
from reference_sound import Levels, Moments

from repkit import testing
from repkit.errors import PluginError, UsageError
from repkit.plugins import GROUPS
from repkit.testing import check_component, checks, conformance_tests
from repkit.testing.kit import Broken, Case, Check, run_check

test_a_model = conformance_tests("repkit.models", Pooled, n_bands=6)
test_a_protocol = conformance_tests("repkit.protocols", SpeakerFolds, corpora=("one", "two"))
test_a_frontend_with_settings_made_for_it = conformance_tests(
    "repkit.frontends", Levels, settings=lambda folder: {"floor": 1e-8 if folder.is_dir() else None}
)
test_an_unmasked_model = conformance_tests(
    "repkit.models", Unmasked, expected_failures={"padding_changes_nothing": "kept to compare with"}
)


def test_checks_are_chosen_by_what_is_declared():
    plain = check_component("repkit.models", Pooled)
    assert plain.of("declared_vectors_are_read").status == "passed"
    skipped = plain.of("other_corpora_stay_as_they_are")
    assert (skipped.status, skipped.message) == ("not applicable", "the component does not declare 'per_corpus'")
    parts = check_component("repkit.models", PerCorpus)
    assert parts.of("other_corpora_stay_as_they_are").status == "passed"
    assert parts.of("declared_vectors_are_read").status == "not applicable"


def test_a_declaration_counts_and_not_a_name():
    loose = type("Unmasked", (Unmasked,), {"capabilities": Unmasked.capabilities | {"padding_sensitive"}})
    result = check_component("repkit.models", loose).of("padding_changes_nothing")
    assert (result.status, result.message) == ("not applicable", "the component declares 'padding_sensitive'")


def test_a_failure_says_rule_finding_and_remedy():
    report = check_component("repkit.models", Unmasked)
    (result,) = report.failed
    assert result.message.startswith(
        "Unmasked: padding_changes_nothing: An utterance gives the same outputs alone and in any batch. Got: "
    )
    assert "in a batch of 6 with 131 frames, fusion none" in result.message
    assert "To do: leave padded frames out by batch.mask or batch.lengths" in result.message
    assert not report.ok
    assert str(report).startswith(f"Unmasked (repkit.models): 1 of {len(checks('repkit.models'))} checks failed\n")


def test_what_cannot_be_built_is_said_once():
    report = check_component("repkit.models", NeedsMore)
    assert [result.check.name for result in report.failed] == ["builds"]
    assert "TypeError" in report.failed[0].message
    rest = [result for result in report.results if result.check.name != "builds"]
    assert {result.message for result in rest} == {"not tried, because builds failed"}


def test_an_exception_of_a_component_is_a_failure_with_its_line():
    class Raising(Moments):
        def encode(self, waveforms):
            raise KeyError("weights")

    result = check_component("repkit.encoders", Raising).of("embeddings_have_their_shape")
    assert result.status == "failed"
    assert "KeyError in test_kit.py, line " in result.message


def test_expected_failures_are_strict_and_must_exist():
    kept = {"padding_changes_nothing": "as published"}
    report = check_component("repkit.models", Unmasked, expected_failures=kept)
    assert report.ok
    assert (report.of("padding_changes_nothing").status, report.of("padding_changes_nothing").message) == (
        "failed as expected",
        "as published",
    )
    report = check_component("repkit.models", Pooled, expected_failures=kept)
    assert "was expected to fail (as published) and does not" in report.failed[0].message
    with pytest.raises(
        UsageError, match=r"no check 'padding_changes_nothin' in repkit.models; did you mean 'padding_changes_nothing'"
    ):
        check_component("repkit.models", Pooled, expected_failures={"padding_changes_nothin": "x"})
    with pytest.raises(UsageError, match="no check 'padding'"):
        conformance_tests("repkit.models", Pooled, expected_failures={"padding": "x"})


def test_wrong_words_are_usage_errors():
    with pytest.raises(UsageError, match=r"no group 'models'.*expected one of repkit.corpora"):
        checks("models")
    with pytest.raises(UsageError, match=r"no circumstance 'bands'; did you mean 'n_bands'\?"):
        check_component("repkit.models", Pooled, bands=3)
    with pytest.raises(PluginError, match=r"did you mean 'attentive_cnn'\?"):
        check_component("repkit.models", "attentive_cn")
    with pytest.raises(UsageError, match="no check 'nonsense'"):
        check_component("repkit.models", Pooled).of("nonsense")


def test_settings_that_do_not_validate_are_told():
    report = check_component("repkit.models", Pooled, settings={"hiden": 3})
    assert "hiden: unknown key; did you mean 'hidden'?" in report.failed[0].message


def test_the_surroundings_keep_their_random_numbers():
    def dice(case):
        """A rule.

        Prevents: harm.
        """
        draws.append((random.random(), float(np.random.rand()), float(torch.rand(()))))

    draws = []
    check = Check("repkit.models", "dice", dice)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for _ in range(2):
        assert run_check(check, Case(object, {}, "x")).status == "passed"
    assert draws[0] == draws[1]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_a_failing_component_fails_its_pytest_test(tmp_path_factory):
    test = conformance_tests("repkit.models", Unmasked)
    by_name = {check.name: check for check in checks("repkit.models")}
    test(by_name["batch_order_changes_nothing"], tmp_path_factory)
    with pytest.raises(
        pytest.fail.Exception, match=r"(?s)padding_changes_nothing.*The rule prevents: scores that depend"
    ):
        test(by_name["padding_changes_nothing"], tmp_path_factory)
    (mark,) = test.pytestmark
    assert mark.args[1] == checks("repkit.models")


def test_a_group_knows_its_checks_without_trying_any():
    names = {group: [check.name for check in checks(group)] for group in GROUPS}
    assert all(len(set(found)) == len(found) >= 8 for found in names.values())
    assert names["repkit.models"][0] == "builds"


def test_broken_is_for_authors_of_further_checks():
    error = Broken("this", "that")
    assert (error.got, error.do, str(error)) == ("this", "that", "this; that")
    assert set(testing.__all__) >= {"conformance_tests", "check_component", "checks", "Report", "Result", "Broken"}
